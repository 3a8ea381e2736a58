"""In a session, norms take turns in one process: what one changes is put back before the next, and named."""

import torch

import normbench
from normbench.throughput.entry import Entry
from normbench.throughput.session import _charged
from normbench.trials import Trial


def test_what_a_turn_changes_is_put_back_and_said_of_its_norm(registry):
    """It is measured all the same."""
    recipe = normbench.Recipe(rate=0.1, batch_size=4, epochs=1)
    entry = Entry(Trial(task="tiny", task_version=1, norm="mine", recipe=recipe, seed=0))

    with _charged(entry, registry(mine=lambda site: torch.nn.Identity())):
        torch.set_default_dtype(torch.float64)

    assert torch.float32 is torch.get_default_dtype()
    assert ("measured", "it changed torch's default dtype, which was put back") == (entry.outcome, entry.reason)
