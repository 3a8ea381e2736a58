"""A pack of trials -> outcomes: network, data, Lightning module and the streams of randomness."""

from normbench.train.dry_run import dry_run
from normbench.train.fit import fit, fit_pack
from normbench.train.sites import layer

__all__ = ["dry_run", "fit", "fit_pack", "layer"]
