"""A pack of trials -> outcomes: network, data, Lightning module and the streams of randomness."""

from normbench.train.fit import fit, fit_pack

__all__ = ["fit", "fit_pack"]
