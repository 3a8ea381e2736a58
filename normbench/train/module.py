"""The Lightning module that trains one trial."""

from __future__ import annotations

import functools
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from normbench.recipe import Recipe
from normbench.train import optimize
from normbench.train.curve import Curve
from normbench.train.data import Batches, Part, Split
from normbench.train.methods import Methods
from normbench.train.probing import Probing
from normbench.train.ranks.place import ALONE, Ranks
from normbench.train.recalibrate import recalibrated

#: How many samples are evaluated together, and how few, to see whether the evaluation of one depends on the others.
TOGETHER, FEW = 32, 2
#: How far the same output may be off by rounding, relative to the largest.
ROUNDING = {32: 1e-3, "bf16": 1e-1}


class Training(pl.LightningModule):
    """One trial's training, on the device of its data: the step, and what is measured between steps.

    `step` is the one training step there is. A trial takes it under Lightning, and a session without; a dry run and a
    fingerprint look at its gradients between its two halves. `norms` are those of the network's layers that are norms.

    Losses are kept on the device and looked at once per epoch, so that no step waits for one. A loss that is not finite
    ends the training at the end of its epoch; `diverged_at` is then its step, counted from 1.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        norms: Iterable[nn.Module],
        loss: Callable[[Tensor, Tensor], Tensor],
        score: Callable[[Tensor, Tensor], Tensor],
        augment: Callable[[Tensor, Tensor], Tensor] | None,
        data: Split,
        validation: Split | None,
        batches: Batches,
        calibrates: Batches,
        eval_by_batch: bool,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.batches = batches
        self.recipe = recipe
        self.ranks = ranks
        self.steps = recipe.total_steps(len(batches))
        self.series: dict[str, list[float]] = {"loss": []}
        self.validated: list[int] = []
        self.curve = Curve(self.steps)
        self.taken = 0
        self.diverged_at: int | None = None
        self.validates = validation is not None
        self.eval_by_batch = eval_by_batch
        self._calibrates = calibrates
        self._process = os.getpid()
        self._norms = list(norms)
        self._methods = Methods(network)
        self._loss, self._score, self._augment = loss, score, augment
        self._data, self._validation = data, validation
        self.probing = Probing()
        self._losses: list[Tensor] = []
        self._replica: list[DistributedDataParallel] = []  # in a list: it is no part of what it is a replica of
        if recipe.channels_last:
            network.to(memory_format=torch.channels_last)
            for module in network.modules():
                if isinstance(module, nn.GroupNorm):
                    module.register_forward_pre_hook(_contiguous)
        if recipe.compile:
            _allow_many_networks()
            network.compile()
        self.to(data.device)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; Lightning notes the hook it is in dozens of times a step, which must cost nothing."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """The recipe's optimizer, made once all weights are there."""
        return optimize.optimizer(self.network, self._norms, self.recipe)

    @property
    def spared(self) -> dict[str, dict[str, int]]:
        """The parameters that weight decay spares, where it acts: see `normbench.train.optimize.spared`."""
        return optimize.spared(self.network, self._norms, self.optimizer) if self.recipe.weight_decay else {}

    def step(self, parts: Sequence[Part]) -> None:
        """Take an optimizer step on its parts, whose gradients add up."""
        self.gradients(parts)
        self.probing.on_step(self.taken)
        self.update()
        self.probing.after_step(self.taken - 1)

    def gradients(self, parts: Sequence[Part]) -> None:
        """Give the weights the gradient of a step's loss, the mean over its parts and over all ranks."""
        self._methods.on_step(self.taken, self.steps)
        self.optimizer.zero_grad()
        for part in parts:
            loss_of: Any = self._replica[0] if self._replica else self
            # Ranks add up their gradients once a step.
            waits = loss_of.no_sync() if self._replica and part is not parts[-1] else nullcontext()
            if part is parts[-1]:
                self.probing.begin(self.taken, part)
            with waits:
                torch.autograd.backward(loss_of(part) / len(parts))

    def update(self) -> None:
        """Let the optimizer follow the gradient, at the rate that the schedule has for this step."""
        rate = self.rate_at(self.taken)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)
        self.optimizer.step()
        self._methods.after_step(self.taken, self.steps)
        self.taken += 1

    def rate_at(self, step: int) -> float:
        """Return the rate that the schedule has for a step, counted from 0."""
        return self.recipe.rate * optimize.multiplier(self.recipe, step, self.steps)

    def batch(self, part: Part) -> tuple[Tensor, Tensor]:
        """Return the inputs of a part of a step, as the network is given them, and the targets."""
        indices, draws = part
        inputs, targets = self._data.batch(indices)
        return self._given(inputs if self._augment is None else self._augment(inputs, draws)), targets

    def task_loss(self, part: Part) -> Tensor:
        """Return the task's loss of a part of a step, a scalar."""
        inputs, targets = self.batch(part)
        with self._precision():
            return self._loss(self._outputs(inputs), targets)

    def forward(self, part: Part) -> Tensor:
        """Return the loss of a part of a step, a scalar: the task's, which is kept, and what layers add to it."""
        loss = self.task_loss(part)
        with self._precision():
            total = self._methods.with_own_losses(loss)
        # A sum that is not finite is kept as well: it ends the training.
        self._losses.append((loss if total is loss else torch.where(total.isfinite(), loss, total)).detach())
        return total

    def train_together(self) -> None:
        """Begin like rank 0, and from now on let gradients be the mean over the ranks.

        Each rank keeps its own buffers: they would else be those of rank 0, before every forward.
        """
        self.ranks.share(self.network.parameters())
        find_unused = self.recipe.strategy == "ddp_find_unused_parameters_true"
        options: Any = {"broadcast_buffers": False, "init_sync": False, "find_unused_parameters": find_unused}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`broadcast_buffers`")  # deprecated, but not for buffers that differ
            self._replica = [DistributedDataParallel(self, **options)]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer, as Lightning asks for it; the schedule is the step's own."""
        return self.optimizer

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Return the batch: it is on the device already."""
        return batch

    def training_step(self, parts: Sequence[Part], batch_idx: int = 0) -> None:  # noqa: ARG002
        """Take a step under Lightning, and measure where the recipe says so; the last may be within an epoch."""
        every = self.recipe.validate_every
        try:
            self.step(parts)
            if every and (self.taken % every == 0 or self.taken == self.steps):
                self._validate()
        except StopIteration as stop:
            raise RuntimeError("StopIteration was raised in a step") from stop  # Lightning would take it for its own
        if self.taken == self.steps:
            self.trainer.should_stop = True

    def on_train_epoch_end(self) -> None:
        """Look at the epoch's losses, and measure."""
        losses = torch.stack(self._losses).double().view(-1, self.recipe.accumulate).mean(dim=1)
        losses = self.ranks.mean(losses).cpu()
        self._losses.clear()
        self.series["loss"].append(losses.mean().item())
        self.curve.add(losses.tolist())
        wrong = (~torch.isfinite(losses)).nonzero()
        if len(wrong):
            self.diverged_at = self.taken - len(losses) + int(wrong[0]) + 1
            kept = sum(taken < self.diverged_at for taken in self.validated)
            if self.validated:  # some of it perhaps within this epoch, of a network that was lost
                del self.validated[kept:], self.series["validation"][kept:]
            self.trainer.should_stop = True
            return
        if not self.recipe.validate_every:
            self._validate()
        for name, value in self.probing.on_epoch(len(self.series["loss"]), self.taken, self.series).items():
            self.series.setdefault(name, []).append(value)

    def _validate(self) -> None:
        """Measure on validation, where there is one; where that may be within an epoch, note after how many steps."""
        if self._validation is not None:
            self.series.setdefault("validation", []).append(self.evaluate(self._validation))
            if self.recipe.validate_every:
                self.validated.append(self.taken)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Have the network in evaluation mode, for which its layers may prepare; then in training mode again."""
        self._methods.before_evaluation()
        self.network.eval()
        with recalibrated(self.network, self._calibration()) if self.recipe.recalibrate else nullcontext():
            yield
        self.network.train()

    def _calibration(self) -> Iterator[Callable[[], object]]:
        """Yield the forwards over training batches from which running averages are taken anew; the same each time."""
        self._calibrates.go_on(0, 0)
        steps = itertools.chain.from_iterable(itertools.repeat(self._calibrates))
        for parts in itertools.islice(steps, self.recipe.recalibrate):
            for part in parts:
                yield functools.partial(self._plainly, self.batch(part)[0])

    def _plainly(self, inputs: Tensor) -> object:
        """Compute outputs, and compile nothing for it."""
        with self._precision():
            return self.network.forward(inputs)

    @torch.no_grad()
    def evaluate(self, split: Split) -> float:
        """Return the mean score over a split, the network in evaluation mode; each rank evaluates its share of it."""
        total = torch.zeros((), dtype=torch.float64, device=split.device)
        with self.evaluating():
            left = len(range(self.ranks.rank, len(split), self.ranks.size))
            for inputs, targets in split.slices(self.recipe.eval_batch, self.ranks, whole=self.eval_by_batch):
                # A last slice that is whole begins with samples that are scored already.
                total += self.scores(inputs, targets)[-left:].sum()
                left -= len(targets)
        return self.ranks.sum(total).item() / len(split)

    def scores(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the scores of a batch, (N,), in double precision. Raises ValueError where they are not (N,)."""
        with self._precision():
            scores = self._score(self._outputs(inputs), targets)
        if scores.shape != targets.shape[:1]:
            raise ValueError(f"score returned the shape {tuple(scores.shape)}; it is {tuple(targets.shape[:1])}")
        return scores.double()

    @torch.no_grad()
    def depends_on_batch(self, split: Split) -> bool:
        """Whether the outputs of a sample in evaluation depend on the others of its batch, beyond rounding.

        Outputs are a tensor, samples first; of any other nothing is known. Nothing is compiled for this.
        """
        inputs, _ = next(split.slices(TOGETHER))
        with self.evaluating(), self._precision():
            together, few = (self.network.forward(self._given(inputs[:size])) for size in (TOGETHER, FEW))
        if not isinstance(few, Tensor) or len(few) != len(inputs[:FEW]):
            return False
        off, largest = (together[:FEW] - few).abs().max(), together.abs().max()
        return bool(off > ROUNDING[self.recipe.precision] * largest)

    def progress(self) -> dict[str, Any]:
        """Return what `go_on` needs, after an optimizer step: all but weights, buffers and generators."""
        return {
            "taken": self.taken,
            "series": self.series,
            "validated": self.validated,
            "curve": self.curve.state_dict(),
            "losses": torch.stack(self._losses),
            "optimizer": self.optimizer.state_dict(),
            "probing": self.probing.state_dict(),
        }

    def go_on(self, progress: Mapping[str, Any]) -> None:
        """Go on from a `progress`. Raises an exception of any kind where it is not of such a training."""
        self.optimizer.load_state_dict(progress["optimizer"])
        self.taken, self.series, self.validated = (progress[name] for name in ("taken", "series", "validated"))
        self.curve.load_state_dict(progress["curve"])
        self._losses = list(progress["losses"].to(self.device))
        self.probing.load_state_dict(progress["probing"])
        # The steps of an epoch are taken before it is measured: at its last one, no batch of it remains.
        epoch = (self.taken - 1) // len(self.batches)
        done = self.taken == self.steps
        self.batches.go_on(epoch, len(self.batches) if done else self.taken - epoch * len(self.batches))

    def epochs_left(self) -> int:
        """Return the epochs left to train, counting one that has begun; after its last step it is to be measured."""
        return math.ceil(self.steps / len(self.batches)) - self.batches.epoch

    def forget(self) -> None:
        """Drop the losses kept since the epoch began, and count steps from 0 again."""
        self._losses.clear()
        self.taken = 0

    def _outputs(self, inputs: Tensor) -> Any:
        outputs = self.network(self._given(inputs))
        if os.getpid() != self._process:
            os._exit(0)  # a layer forked, and this is the copy: it would speak to the other ranks, and save checkpoints
        return outputs

    def _given(self, inputs: Tensor) -> Tensor:
        """Return inputs in the recipe's memory format."""
        return inputs.contiguous(memory_format=torch.channels_last) if self.recipe.channels_last else inputs

    def _precision(self) -> AbstractContextManager[Any]:
        """Return the recipe's precision, to compute in; Lightning's own would leave evaluation out."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.recipe.precision == "bf16" else nullcontext()


def _contiguous(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # noqa: ARG001 - a hook's
    """Give torch's group norm its input with channels first: its CPU kernel for the other takes E[x^2] - E[x]^2."""
    return tuple(given if given.is_cuda else given.contiguous() for given in inputs)


def _allow_many_networks() -> None:
    """Let torch compile one network after another in a process: at its limit it would go on without, with a warning."""
    config: Any = torch._dynamo.config
    config.cache_size_limit, config.accumulated_cache_size_limit = 1024, 4096


def not_finite(network: nn.Module, except_for: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return the names of weights and buffers that hold a number that is not finite, apart from those in `except_for`.

    A buffer may hold an infinity from the start (a mask, say): that is no divergence.
    """
    named: Mapping[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    floating = {name: value for name, value in named.items() if value.is_floating_point() and name not in except_for}
    if not floating:
        return frozenset()
    good = torch.stack([torch.isfinite(value.detach()).all() for value in floating.values()]).tolist()
    return frozenset(name for name, ok in zip(floating, good, strict=True) if not ok)
