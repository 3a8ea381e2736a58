"""The checks of tasks: their split, their functions, and what a network does to its samples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from normbench.contract import Norm, Task, Traits, Unsupported, function, named_by
from normbench.errors import UsageError
from normbench.registry import Registry
from normbench.testing.comparing import check_near, largest, tolerance
from normbench.testing.kit import check
from normbench.testing.results import Advice, Failed, NotApplicable
from normbench.testing.subject import CPU, registry_of
from normbench.train import assemble
from normbench.train.data import InMemory, Loaded, load
from normbench.train.dry_run import try_trial
from normbench.train.module import Training
from normbench.train.streams import generator, global_stream
from normbench.train.trainer import train
from normbench.trials import Measure, Trial

#: The order in which they run.
ORDER = ("shapes", "split", "seeded")
#: Samples that outputs are compared on; optimizer steps of the short training; networks whose guesses are averaged.
FEW, STEPS, GUESSES = 8, 200, 5


class _Batch(nn.Module):
    """Batch norm over all axes but that of the channels."""

    def __init__(self, channels: int, axis: int) -> None:
        super().__init__()
        self.norm, self.axis = nn.BatchNorm1d(channels), axis

    def forward(self, x: Tensor) -> Tensor:
        moved = x.movedim(self.axis, -1)
        normalized: Tensor = self.norm(moved.reshape(-1, moved.shape[-1])).view(moved.shape).movedim(-1, self.axis)
        return normalized


#: A norm for each placement, which a network must be able to take; and batch norm, with which it is trained.
NORMS = {
    norm.name: norm
    for norm in (
        Norm("before", lambda site: nn.Identity(), summary="nothing"),  # noqa: ARG005 - a layer takes its site
        Norm("after", lambda site: nn.Identity(), summary="nothing", placement="after"),  # noqa: ARG005
        Norm("fused", lambda site: nn.ReLU() if site.activation else nn.Identity(), summary="x", placement="fused"),
        Norm("weight", lambda site, module: module, summary="nothing", placement="weight"),  # noqa: ARG005
        Norm(
            "batch",
            lambda site: _Batch(site.channels, site.layout.index("C")),
            summary="batch norm",
            traits=Traits(batch_dependent=True, centres=True, eval_differs=True, batch_size_1="spatial"),
        ),
    )
}


@dataclass(frozen=True)
class TaskSubject:
    """A task with its parameters, and the folder of the user's data."""

    task: Task
    params: Mapping[str, Any]
    data_dir: Path
    seed: int = 0

    @cached_property
    def loaded(self) -> Loaded:
        """The task's splits. Raises NotApplicable where the folder lacks the data."""
        return self.load()

    def load(self) -> Loaded:
        """Load the splits anew. Raises NotApplicable where the folder lacks the data."""
        try:
            return load(self.task, dict(self.params), self.task.recipe, self.data_dir, CPU)
        except UsageError as error:
            raise NotApplicable(f"there is no data: {error}") from None

    @cached_property
    def example(self) -> Tensor | None:
        """The task's example input, None where it has none."""
        return None if self.task.example is None else self.call(self.task.example, self.task.recipe)

    def few(self) -> Tensor:
        """Return a few inputs: training samples or, where there is no data, the example."""
        try:
            return next(self.loaded.train.slices(FEW))[0]
        except NotApplicable:
            if self.example is None:
                raise
            return self.example

    def call(self, given: Any, *inputs: Any) -> Any:
        """Call one of the task's functions, with those of the task's parameters that it names."""
        fn = function(given)
        return fn(*inputs, **named_by(fn, {**self.task.params, **self.params}))

    def trial(self, norm: str, seed: int = 0, **changed: Any) -> Trial:
        """Return a trial with one of the norms above."""
        recipe = self.task.recipe.changed(**changed)
        params = dict(self.params)
        return Trial(
            task=self.task.name,
            task_version=self.task.version,
            task_params=params,
            norm=norm,
            recipe=recipe,
            seed=self.seed + seed,
        )

    @cached_property
    def registry(self) -> Registry:
        """The task with the norms above."""
        return registry_of(self.task, *NORMS.values())

    def network(self, norm: str, seed: int = 0) -> nn.Module:
        """Return a network with one of the norms above."""
        return assemble.network(self.trial(norm, seed), self.registry)

    def training(self, norm: str, seed: int = 0, **changed: Any) -> Training:
        """Return a training with one of the norms above, at its start."""
        return assemble.training(self.trial(norm, seed, **changed), self.registry, self.loaded)


@check("split", "task")
def split(subject: TaskSubject) -> None:
    """No sample is in two of the splits, and none of them is empty.

    What was trained on flatters the score, and what validated the choice of a rate does, too.
    """
    parts = {name: _samples(getattr(subject.loaded, name)) for name in ("train", "validation", "test")}
    for (name, one), (other, two) in combinations(parts.items(), 2):
        shared = one & two
        if shared:
            share = len(shared) / min(len(one), len(two))
            what = f"{len(shared)} samples of {name} are in {other} as well ({share:.2%} of the smaller)"
            # Public data sets have a few images twice, and their official splits are kept.
            raise (Advice if share < 0.001 else Failed)(what)


def _samples(part: Any) -> set[bytes]:
    """Return the hashes of samples with their targets."""
    hashes = set()
    for inputs, targets in part.slices(1024):
        for sample, target in zip(inputs.contiguous().numpy(), targets.contiguous().numpy(), strict=True):
            hashes.add(hashlib.blake2b(sample.tobytes() + target.tobytes(), digest_size=16).digest())
    return hashes


@check("shapes", "task")
def shapes(subject: TaskSubject) -> None:
    """The network takes batches of any size, the loss is a finite scalar, and the score has shape (N,).

    Training, evaluation and throughput sessions use batches of different sizes.
    """
    loaded = subject.loaded
    inputs, targets = next(loaded.train.slices(FEW))
    network = subject.network("before").eval()
    loss_of = subject.task.loss or nn.functional.cross_entropy
    score_of = subject.task.score or assemble.accuracy
    for size in (FEW, 3, 1):
        outputs = network(inputs[:size])
        loss = subject.call(loss_of, outputs, targets[:size])
        if loss.shape != () or not torch.isfinite(loss):
            raise Failed(f"the loss of {size} samples is {loss}", input=str(tuple(inputs[:size].shape)))
        score = subject.call(score_of, outputs, targets[:size])
        if score.shape != (size,):
            raise Failed(f"score returned the shape {tuple(score.shape)}; it is ({size},)", input=f"{size} samples")


@check("placements", "task")
def placements(subject: TaskSubject) -> None:
    """The network can take a norm of every placement, at the layouts and channels that it says.

    One step of every norm is tried before a run; a network that names the wrong layout is found there, or never.
    """
    subject.loaded  # noqa: B018 - not applicable without data
    for norm in NORMS:
        try:
            try_trial(subject.trial(norm), subject.registry, CPU, subject.data_dir)
        except UsageError as error:
            raise Failed(str(error), input=f"a norm of placement {NORMS[norm].placement}") from None


@check("seeded", "task")
def seeded(subject: TaskSubject) -> None:
    """The splits and the network are the same each time, whatever the random generators are at.

    A trial is identified by its seed; comparisons are paired by samples, their order, and initial weights.
    """
    digests, weights = set(), []
    for draw in (1, 2):
        with global_stream(CPU, draw, "check", "task"):
            weights.append(subject.network("before").state_dict())
            digests.add(subject.load().digest)
    if len(digests) > 1:
        raise Failed("data() gives other splits when it is called again: it draws from the global generators")
    for name, value in weights[0].items():
        if not torch.equal(value, weights[1][name]):
            raise Failed(f"built twice from one seed, {name} differs")
    other = subject.network("before", seed=1).state_dict()
    if all(torch.equal(value, other[name]) for name, value in weights[0].items()):
        raise Failed("its network has the same weights at every seed: seeds would repeat one run")


@check("paired", "task")
def paired(subject: TaskSubject) -> None:
    """At one seed the network begins with the same weights for every norm.

    Norms are compared seed by seed. A network that draws for itself between two norms would undo that.
    """
    wanted = _linears(subject.network("before"))
    for norm in NORMS:
        try:
            built = subject.network(norm)
        except Unsupported:  # a network with no linear at its places has none to wrap
            continue
        for (name, weight), (_, own) in zip(wanted, _linears(built), strict=True):
            if not torch.equal(weight, own):
                raise Failed(f"with a norm of placement {NORMS[norm].placement}, {name} begins with other weights")


def _linears(network: nn.Module) -> list[tuple[str, Tensor]]:
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return [(name, module.weight) for name, module in network.named_modules() if isinstance(module, kinds)]


@check("batch mates", "task")
def batch_mates(subject: TaskSubject) -> None:
    """In evaluation, a sample's output does not depend on the other samples of its batch, unless the task says so.

    A score would depend on the size of evaluation batches, which is nobody's choice.
    """
    if subject.task.eval_batch_dependent:
        raise NotApplicable("the task says eval_batch_dependent")
    network, inputs = subject.network("before").eval(), subject.few()
    with torch.no_grad():
        together, alone = network(inputs), torch.cat([network(sample[None]) for sample in inputs])
    said, where = "the output of a sample alone is another than in its batch", f"{len(inputs)} samples"
    allowed = tolerance(together.dtype, largest(together), 100)
    check_near(alone, together, allowed, said, where, declare="Task(eval_batch_dependent=True)")


@check("later tokens", "task")
def later_tokens(subject: TaskSubject) -> None:
    """Where a task says `causal`, an output at one position does not depend on later tokens.

    A network that sees the token that it is to predict scores well and has learned nothing.
    """
    if not subject.task.causal:
        raise NotApplicable("the task doesn't say causal")
    network, inputs = subject.network("before").eval(), subject.few()
    with torch.no_grad():
        outputs = network(inputs)
        if outputs.dim() < 3 or outputs.shape[1:2] != inputs.shape[1:2]:
            raise NotApplicable("its outputs have no axis of positions")
        length, others = inputs.shape[1], inputs.roll(1, dims=0)
        said, allowed = "later tokens changed, and an earlier output moved", tolerance(outputs.dtype, largest(outputs))
        # A network may look one token ahead at the start, or at the end alone.
        for first in sorted({1, length // 2, length - 1} - {0}):
            later = network(torch.cat([inputs[:, :first], others[:, first:]], dim=1))
            check_near(later[:, :first], outputs[:, :first], allowed, said, f"{first} positions, and later ones")


@check("example", "task")
def example(subject: TaskSubject) -> None:
    """The example input has the type and shape of the data's inputs, but for the number of samples.

    It stands for the data where there is none.
    """
    if subject.example is None:
        raise NotApplicable("the task has no example")
    inputs = next(subject.loaded.train.slices(1))[0]
    given, wanted = ((one.dtype, tuple(one.shape[1:])) for one in (subject.example, inputs))
    if given != wanted:
        raise Failed(f"example is {given[1]} of {given[0]}; data has {wanted[1]} of {wanted[0]}")


@check("augmentation", "task")
def augmentation(subject: TaskSubject) -> None:
    """Augmentation depends on its draws and the sample alone, and leaves the task's data as it is.

    A sample is then augmented alike on any number of devices, and for every norm.
    """
    given = subject.task.augment or subject.task.transform
    if given is None:
        raise NotApplicable("the task augments nothing")
    inputs = next(subject.loaded.train.slices(FEW))[0]
    before = inputs.clone()
    draws = torch.rand(len(inputs), subject.task.augment_draws, generator=generator(subject.seed, "check", "draws"))

    def augmented(count: int) -> Tensor:
        if subject.task.augment is not None:
            changed: Tensor = subject.call(given, inputs[:count].clone(), draws[:count])
            return changed
        return torch.stack([subject.call(given, *pair) for pair in zip(inputs[:count], draws, strict=False)])

    first, again, fewer = augmented(FEW), augmented(FEW), augmented(2)
    if not torch.equal(inputs, before):
        raise Failed("it changes the task's own data in place")
    if not torch.equal(first, again):
        raise Failed("with the same draws it gives other inputs: it draws for itself")
    if not torch.equal(first[:2], fewer):
        raise Failed("a sample is augmented otherwise with other samples beside it")


@check("chance", "task")
def chance(subject: TaskSubject) -> None:
    """Networks that are not trained score about `chance`, on average.

    A diverged trial is given that score, and progress counts from it.
    """
    measure = Measure.of(subject.task, subject.params)
    test = subject.loaded.test
    scores = [_score(subject.training("before", seed), test) for seed in range(GUESSES)]
    mean = sum(scores) / len(scores)
    progress = (mean - measure.chance) / (measure.reference - measure.chance)
    if abs(progress) > 0.15:
        raise Failed(
            f"chance is {measure.chance:g}; {GUESSES} networks that are not trained score {mean:.4g} on average",
            off=abs(mean - measure.chance),
            allowed=0.15 * abs(measure.reference - measure.chance),
        )


@check("reference", "task", slow=True)
def reference(subject: TaskSubject) -> None:
    """A training at the task's own recipe gets well on its way from `chance` to `reference`, and not far beyond.

    A trial counts as trained from half of that way on.
    """
    measure, recipe = Measure.of(subject.task, subject.params), subject.task.recipe
    total = recipe.total_steps(len(subject.loaded.train) // recipe.batch_size)
    steps = min(total, STEPS)
    module = subject.training("batch", steps=steps, epochs=0)
    with global_stream(CPU, subject.seed, "check", "layer"):
        train(module)
    progress = measure.progress(module.evaluate(subject.loaded.test))
    said = f"after {steps} of its {total} steps, with batch norm, it is {progress:.0%} of the way"
    if progress > 1.25:
        raise Advice(f"{said}: reference is set low")
    if progress < 0.5:
        raise (Failed if steps == total else Advice)(said)


@check("trains alike", "task")
def trains_alike(subject: TaskSubject) -> None:
    """Two trainings from one seed give the same losses, to the bit.

    A stored trial stands for every repetition of it.
    """
    losses = []
    for _ in range(2):
        module = subject.training("batch")
        with global_stream(CPU, subject.seed, "check", "layer"):
            for parts, _ in zip(module.batches, range(3), strict=False):
                module.step(parts)
        losses.append(torch.stack(module._losses))
    if not torch.equal(*losses):
        raise Failed(f"the losses of three steps are {losses[0].tolist()}, and then {losses[1].tolist()}")


def _score(module: Training, test: Any) -> float:
    inputs, targets = next(test.slices(1024))
    return module.evaluate(InMemory(inputs, targets))
