"""The checks of norms, a file for each group: a check is a function of a `normbench.testing.subject.Subject`."""

#: The order in which they run: what all else needs comes first.
ORDER = ("builds",)
