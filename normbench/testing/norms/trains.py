"""The check that a network with a norm learns, trained as every trial is."""

from __future__ import annotations

from normbench.testing.digits import task
from normbench.testing.kit import check
from normbench.testing.results import Failed, NotApplicable
from normbench.testing.subject import Subject, registry_of
from normbench.train.fit import fit
from normbench.trials import Trial


@check("trains", slow=True)
def trains(subject: Subject) -> None:
    """A small network with the norm at each site, one at the end of a residual branch, learns digits in two epochs.

    What holds of a layer by itself may still fail among linears, in an optimizer, or in the training that we have.
    """
    one = task(subject.layout)
    trial = Trial(
        task=one.name,
        task_version=one.version,
        norm=subject.norm.name,
        params=dict(subject.params),
        recipe=one.recipe,
        seed=subject.seed,
    )
    [outcome] = fit([trial], registry=registry_of(one, subject.norm))
    losses = outcome.series.get("loss", [])
    if outcome.outcome == "unsupported":
        raise NotApplicable(f"unsupported in that network: {outcome.reason}")
    if outcome.outcome not in ("trained", "not-trained"):
        raise Failed(f"its trial ends as {outcome.outcome}: {outcome.reason}", input=one.name)
    if losses[-1] >= losses[0]:
        said = ", then ".join(f"{loss:.3g}" for loss in losses)
        raise Failed(f"the loss did not fall: {said}", input=f"{one.name}, batches of {one.recipe.batch_size}")
