"""Where executors that were written for the contract's first version import `Pack` and `Outcome` from."""

from normbench.trials import Outcome, Pack

__all__ = ["Outcome", "Pack"]
