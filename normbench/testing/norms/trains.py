"""The check that a network with a norm learns, trained as every trial is."""

from __future__ import annotations

from functools import cache

from normbench.contract import Layout, Task
from normbench.registry import GROUP, Offered, Plugin, Registry
from normbench.testing.digits import task
from normbench.testing.kit import check
from normbench.testing.results import Failed, NotApplicable
from normbench.testing.subject import Subject
from normbench.train.fit import fit
from normbench.trials import Trial


@check("trains", slow=True)
def trains(subject: Subject) -> None:
    """A small network with the norm at each site, one at the end of a residual branch, learns digits in two epochs.

    What holds of a layer by itself may still fail among linears, in an optimizer, or in the training that we have.
    """
    plugin = Plugin("check", "normbench check", GROUP)
    one = _task(subject.layout)
    trial = Trial(
        task=one.name,
        task_version=one.version,
        norm=subject.norm.name,
        params=dict(subject.params),
        recipe=one.recipe,
        seed=subject.seed,
    )
    registry = Registry(
        norms={subject.norm.name: Offered(subject.norm, plugin)}, tasks={one.name: Offered(one, plugin)}
    )
    [outcome] = fit([trial], registry=registry)
    losses = outcome.series.get("loss", [])
    if outcome.outcome == "unsupported":
        raise NotApplicable(f"unsupported in that network: {outcome.reason}")
    if outcome.outcome not in ("trained", "not-trained"):
        raise Failed(f"its trial ends as {outcome.outcome}: {outcome.reason}", input=one.name)
    if losses[-1] >= losses[0]:
        said = ", then ".join(f"{loss:.3g}" for loss in losses)
        raise Failed(f"the loss did not fall: {said}", input=f"{one.name}, batches of {one.recipe.batch_size}")


@cache
def _task(layout: Layout) -> Task:
    """Return the one task of a layout, whose data is kept from one training to the next."""
    return task(layout)
