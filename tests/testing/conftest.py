"""One check of a norm, of a module class, or of a task."""

import pytest
from norms import claiming

from normbench.contract import Norm
from normbench.registry import Offered, Plugin, Registry
from normbench.testing.kit import checks
from normbench.testing.run import Asked, run_check


@pytest.fixture
def checked():
    """Return a function that returns the result of one check of a norm, or of a module class that takes channels."""

    def check(norm, check_id, layouts=("NC",), contract=None):
        norm = norm if isinstance(norm, Norm) else claiming(norm)
        registry = Registry(norms={norm.name: Offered(norm, Plugin("mine", "mine", contract=contract))})
        return run_check(checks("norm")[check_id], Asked(kind="norm", name=norm.name, layouts=layouts), registry)

    return check


@pytest.fixture
def checked_task():
    """Return a function that returns the result of one check of a task."""

    def check(task, check_id):
        registry = Registry(tasks={task.name: Offered(task, Plugin("mine", "mine"))})
        return run_check(checks("task")[check_id], Asked(kind="task", name=task.name), registry)

    return check
