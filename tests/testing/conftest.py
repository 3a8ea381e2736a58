"""One check of a norm, or of a module class."""

import pytest

from normbench.contract import Norm
from normbench.registry import Offered, Plugin, Registry
from normbench.testing.kit import checks
from normbench.testing.run import Asked, run_check


@pytest.fixture
def checked():
    """Return a function that returns the result of one check of a norm, or of a module class that takes channels."""

    def check(norm, check_id, layouts=("NC",)):
        if not isinstance(norm, Norm):
            module = norm
            norm = Norm("mine", lambda site: module(site.channels), summary="Mine")
        registry = Registry(norms={norm.name: Offered(norm, Plugin("mine", "mine"))})
        return run_check(checks("norm")[check_id], Asked(kind="norm", name=norm.name, layouts=layouts), registry)

    return check
