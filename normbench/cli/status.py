"""The exit statuses of every command; docs/cli.md says more of each."""

from enum import IntEnum


class Status(IntEnum):
    """What a command ends with. Where several apply: INTERRUPTED, MISTAKE, REGRESSED, FAILED, INCOMPARABLE."""

    #: All is done, also if all was done before; a trial that diverged is a result.
    DONE = 0
    #: `compare`: a gate is surely exceeded, or a row under one vanished; `check`: a check failed.
    REGRESSED = 1
    #: A mistake of the user's: nothing that the command can do.
    MISTAKE = 2
    #: `compare`: nothing in common, or no baseline where one is required.
    INCOMPARABLE = 3
    #: Some trials, sessions or fingerprints failed, or could not be stored or printed; the rest is done.
    FAILED = 4
    #: A bug of normbench's own, whose trace is shown.
    BUG = 70
    #: Ctrl-C, and SIGTERM; what was finished is stored.
    INTERRUPTED = 130
    TERMINATED = 143
