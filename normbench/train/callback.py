"""A probe in anyone's own Lightning training: what it gives at each look goes to the Trainer's loggers."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from normbench import plugins
from normbench.contract import Unsupported
from normbench.errors import UsageError
from normbench.plan import asked_probe
from normbench.spelling import Choice
from normbench.surroundings import listed
from normbench.train import blame
from normbench.train.finding import found
from normbench.train.looking import View
from normbench.train.probing import Probing

_WHERE = "ProbeCallback"
#: The strategies under which each process has all weights, by name, as two packages have them.
_STRATEGIES = frozenset({"SingleDeviceStrategy", "DDPStrategy"})


class ProbeCallback(pl.Callback):
    """Lets a probe look at a Lightning training, and logs what it gives through the Trainer's loggers.

    `probe` is its name, and `params` are its parameters, like `every`. `loss(module, batch)` returns the loss of a
    batch, a scalar with its graph, as the LightningModule's training step has it. It is called each time that a probe
    computes; what it logs is dropped, and what it changes is put back, but for plain attributes of the LightningModule
    itself. `norms` are types of norms beside torch's own.

    A number is logged as "PROBE.SERIES", each of a vector as "PROBE.SERIES/0", "PROBE.SERIES/1" and so on (but where it
    is NaN), at the step that was looked at, counted from 0. From the first batch on, `training` is what the probe looks
    at: see docs/plugins.md.

    Raises UsageError for a probe or parameter that can't be, and for a training that can't be looked at; RuntimeError
    where something moved that the training goes on with. A probe that raises costs a warning, and looks no more.
    """

    def __init__(
        self,
        probe: str,
        *,
        loss: Callable[[Any, Any], Tensor],
        norms: Sequence[type[nn.Module]] = (),
        **params: Any,
    ) -> None:
        if not isinstance(probe, str):
            raise UsageError(f"{_WHERE}: probe is {probe!r}; it is the name of a probe")
        self._registry = plugins.current()
        self._probe, asked = asked_probe(Choice(probe, params, where=_WHERE), self._registry)
        if not self._probe.by_step:
            raise UsageError(f"{_WHERE}: probe {probe!r} is for normbench's own trainings: it looks after epochs alone")
        if not callable(loss):
            raise UsageError(f"{_WHERE}: loss is {loss!r}; it is a function of a LightningModule and a batch")
        types: Any = norms if isinstance(norms, list | tuple) else [None]
        if not all(isinstance(norm, type) and issubclass(norm, nn.Module) for norm in types):
            raise UsageError(f"{_WHERE}: norms is {norms!r}; it is a tuple of types of modules")
        self._params, self._loss, self._norms = asked.params, loss, tuple(norms)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.training: View | None = None
        self._trained: _Trained | None = None
        self._probing = Probing()
        self._saved: dict[str, Any] = {}
        self._step = 0
        self._seen = -1
        self._warned = False

    @property
    def state_key(self) -> str:
        """What tells the callbacks of a checkpoint apart."""
        return self._generate_state_key(probe=self._probe.name, **self._params)

    def state_dict(self) -> dict[str, Any]:
        """Return what the probe goes on from."""
        return self._probing.state_dict() if self.training else self._saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, once the training begins."""
        self._saved = state_dict

    def setup(self, trainer: Any, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a training that can't be looked at."""
        if stage != "fit":
            return
        self._begin_anew()
        if not pl_module.automatic_optimization:
            name = type(pl_module).__name__
            raise UsageError(f"{_WHERE}: {name} optimizes manually; it is for automatic optimization")
        if _STRATEGIES.isdisjoint(kind.__name__ for kind in type(trainer.strategy).__mro__):
            strategy = type(trainer.strategy).__name__
            raise UsageError(f"{_WHERE}: the strategy is {strategy}; it is for a single device or DDP")
        names = [one._probe.name for one in trainer.callbacks if isinstance(one, ProbeCallback)]
        if names.count(self._probe.name) > 1:
            raise UsageError(f"{_WHERE}: probe {self._probe.name!r} is asked for twice; a training has one of a name")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *_: Any, **__: Any
    ) -> None:
        """Note the batch of a step that is looked at; with several, the last counts."""
        if self._trained is None:
            self._trained = _Trained(trainer, pl_module, self._loss)
            self._find(self._trained, batch, alone=trainer.world_size == 1)
        self._step = trainer.global_step
        if self._probing.looks_at(self._step):
            self._probing.begin(self._step, _copied(batch))

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:  # noqa: ARG002
        """Let the probe look at gradients; a learning rate may have been set just now.

        Of an optimizer that computes gradients several times in a step, like LBFGS, it sees the first: those of the
        weights that the step begins with.
        """
        assert self._trained is not None
        if self._seen == self._step:
            return
        self._seen = self._step
        self._trained.rate = float(optimizer.param_groups[0]["lr"])
        self._probing.on_step(self._step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any) -> None:  # noqa: ARG002
        """Let the probe look after a step, where the batch was its last."""
        if trainer.global_step > self._step:
            self._probing.after_step(self._step)
            self._tell(trainer, self._step)
            self._step = trainer.global_step  # a batch that is None has an end and no start

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Let the probe look after an epoch."""
        self._probing.on_epoch(trainer.current_epoch + 1, trainer.global_step, {})
        self._tell(trainer, trainer.global_step)

    def _find(self, trained: _Trained, batch: Any, *, alone: bool) -> None:
        """Find what there is to look at, by computing the loss of a batch once."""
        unknown = View(trained, (), (), (), {})
        unknown.begin(batch)

        def compute() -> None:
            if not unknown.loss().requires_grad:  # later a probe may take it without
                raise UsageError(f"{_WHERE}: loss returned a scalar without a graph; gradients are computed of it")

        with unknown.look() as moved, unknown.untouched():
            parts = found(trained.network, compute, self._norms)
        if moved:
            raise RuntimeError(f"{_WHERE}: loss moved {listed(moved)}, which can't be put back")
        self.training = View(trained, *parts, {})
        why = functools.partial(blame.raised, offered=[self._registry.probes[self._probe.name]])
        self._probing = Probing(self.training, {self._probe.name: (self._probe, self._params)}, why, alone=alone)
        if self._saved:
            self._probing.load_state_dict(self._saved)

    def _tell(self, trainer: pl.Trainer, step: int) -> None:
        """Log what the probe gave at a step, and say once where it looks no more; that is for one process to do."""
        for trace in self._probing.traces():
            metrics: dict[str, float] = {}
            for series, points in trace.series.items():
                name, (value,) = f"{trace.probe}.{series}", points.value
                if isinstance(value, list):
                    metrics |= {f"{name}/{i}": one for i, one in enumerate(value) if not math.isnan(one)}
                else:
                    metrics[name] = value
            trace.series.clear()
            if not trainer.is_global_zero:
                continue
            if metrics:
                for logger in trainer.loggers:
                    logger.log_metrics(metrics, step=step)
            if trace.ended != "watched" and not self._warned:
                self._warned = True
                how = "does not apply" if trace.ended == "unsupported" else "failed"
                warnings.warn(f"{_WHERE}: probe {trace.probe!r} {how}, and looks no more: {trace.reason}", stacklevel=2)


class _Trained:
    """A LightningModule that trains, as a view needs it. A part of a step is a batch; `rate` is that of this step."""

    def __init__(self, trainer: pl.Trainer, module: pl.LightningModule, loss: Callable[[Any, Any], Tensor]) -> None:
        self.network, self.device = _network(module), module.device
        self.steps: Any = trainer.estimated_stepping_batches
        self.optimizer = trainer.optimizers[0]
        self.rate = float(self.optimizer.param_groups[0]["lr"])
        self._module, self._loss, self._precision = module, loss, trainer.precision_plugin

    def rate_at(self, step: int) -> float:  # noqa: ARG002 - the present one is known
        """Return the rate of the optimizer's first group."""
        return self.rate

    def batch(self, part: Any) -> tuple[Tensor, Tensor]:
        """Return inputs and targets. Raises Unsupported where the batch is no pair of tensors."""
        pair = _copied(part)
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(one, Tensor) for one in pair)):
            raise Unsupported("the batch is no pair of tensors, inputs and targets")
        inputs, targets = pair
        return inputs, targets

    def task_loss(self, part: Any) -> Tensor:
        """Return the loss of a batch. Raises UsageError where it is no scalar."""
        with _as(self._module, self.network), self._precision.train_step_context():
            loss = self._loss(self._module, _copied(part))
        if not isinstance(loss, Tensor) or loss.dim():
            what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
            raise UsageError(f"{_WHERE}: loss returned {what}; it returns a scalar tensor")
        return loss


def _network(module: pl.LightningModule) -> nn.Module:
    """Return a LightningModule as a network: what torch has of it, by the same names, and nothing that is Lightning's.

    Its trainer, say, is an attribute that no probe can move, and nobody can put back.
    """

    class Network(nn.Module):
        def forward(self, *inputs: Any, **named: Any) -> Any:
            with _as(module, self):
                return module.forward(*inputs, **named)

    network = Network()
    own = vars(network)
    own.update({name: vars(module)[name] for name in own})
    return network


@contextmanager
def _as(module: pl.LightningModule, network: nn.Module) -> Iterator[None]:
    """Let a LightningModule compute eagerly, in the mode of its network, and log nothing."""
    own, mode = vars(module), module.training
    own |= {"training": network.training, "log": lambda *_, **__: None}
    try:
        with torch.compiler.set_stance("force_eager"):  # compiled code need not see hooks
            yield
    finally:
        own["training"] = mode
        own.pop("log", None)


def _copied(batch: Any) -> Any:
    """Return a batch with copies of its tensors and containers, since a step may write to them."""
    return apply_to_collection(batch, Tensor, lambda tensor: tensor.detach().clone())
