"""What a probe by step may look at, the `training` that it is given, and how it is seen that it moved nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from normbench.contract import Site
from normbench.train.data import Part
from normbench.train.state import Kept, untouched
from normbench.train.streams import generators, generators_kept, set_generators

if TYPE_CHECKING:
    from normbench.train.module import Training


@dataclass(frozen=True)
class _Begun:
    """The last part of a step, and what its forward began with."""

    part: Part
    buffers: Kept
    generators: dict[str, Any]


class View:
    """A training as a probe by step sees it.

    `network` is the network, which computes eagerly while a probe looks; `sites` are its norms in order, each a `Site`
    with its module. `step` counts optimizer steps from 0, up to `steps`.
    """

    def __init__(self, module: Training, sites: Sequence[tuple[Site, nn.Module]]) -> None:
        self.network: nn.Module = module.network
        self.sites = tuple(sites)
        self.step = 0
        self.steps: int = module.steps
        self._module = module
        self._begun: _Begun | None = None
        self._batch: tuple[Tensor, Tensor] | None = None
        self._inside = 0
        self._before: dict[str, Any] = {}
        self._moved: list[str] = []

    @property
    def rate(self) -> float:
        """The rate of this step, as the schedule has it."""
        return self._module.rate_at(self.step)

    @property
    def batch(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of this step, augmented, as the network is given them.

        With `accumulate` those of the step's last part, on several ranks this rank's own. Raises RuntimeError between
        steps.
        """
        if self._batch is None:
            begun, device = self._step(), self._module.device
            with generators_kept(device):
                set_generators(begun.generators, device)
                self._batch = self._module.batch(begun.part)
        return self._batch

    def loss(self) -> Tensor:
        """Return the task's loss of the batch at the present weights, a scalar with its graph.

        It is in the recipe's precision, and without losses of the layers' own. Buffers and generators begin as they did
        in the step: at the step's weights it is the step's loss, to the bit. Raises RuntimeError between steps, and
        outside of `untouched` and `moved`.
        """
        if not self._inside:
            raise RuntimeError("loss() computes anew, which moves statistics: call it inside training.untouched()")
        self._replay()
        return self._module.forward(self._step().part)

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Put everything back as it was at the end, to the bit.

        That is weights, buffers, plain attributes, gradients, requires_grad, modes of training and evaluation, hooks,
        and the random generators of torch, CUDA, NumPy and Python. Inside, buffers and generators begin as they did in
        the step, and gradients are copies.
        """
        if not self._inside:
            self._note_moved()
        self._inside += 1
        try:
            with generators_kept(self._module.device), untouched(self.network) as lost:
                if self._begun:
                    self._replay()
                yield
        finally:
            self._inside -= 1
            self._moved += lost
            if not self._inside:
                self._before |= _versions(self._module)

    @contextmanager
    def moved(self, eta: float) -> Iterator[None]:
        """Stand at w - eta * g inside, g the gradient that the weights have; at the end all is as after `untouched`."""
        with self.untouched():
            with torch.no_grad():
                for weight in self.network.parameters():
                    if weight.grad is not None:
                        weight.sub_(weight.grad, alpha=eta)
            yield

    def begin(self, part: Part) -> None:
        """Note the last part of a step, before its forward; for the host alone, like all below."""
        self.step, self._batch = self._module.taken, None
        self._begun = _Begun(part, Kept(self.network, ("_buffers",)), generators(self._module.device))

    def end(self) -> None:
        """Let go of the step."""
        self._begun = self._batch = None

    @contextmanager
    def look(self) -> Iterator[list[str]]:
        """Let a probe look; yield a list that then says what it moved and did not put back, in words.

        It is cheap: what is written past torch's counters of versions (`weight.data`) shows in the lengths of weights
        and buffers alone.
        """
        self._before, self._moved = _versions(self._module) | _settings(self._module), []
        lengths = _lengths(self.network)
        compiled = self.network._compiled_call_impl
        if compiled is not None:
            self.network._compiled_call_impl = None
        try:
            yield self._moved
        finally:
            if compiled is not None:
                self.network._compiled_call_impl = compiled
            self._note_moved()
            if not self._moved and not torch.equal(lengths, _lengths(self.network)):
                self._moved.append("weights or buffers")

    def _step(self) -> _Begun:
        if self._begun is None:
            raise RuntimeError("there is no batch between steps: it is that of on_step and after_step")
        return self._begun

    def _replay(self) -> None:
        """Let buffers and generators be what the step's forward began with."""
        begun = self._step()
        begun.buffers.put_back()
        set_generators(begun.generators, self._module.device)

    def _note_moved(self) -> None:
        """Note what is not as it was when the look began, or when the host last put it back."""
        now = _versions(self._module) | _settings(self._module)
        self._moved += [name for name in {**self._before, **now} if self._before.get(name) != now.get(name)]
        self._before = now


def _versions(module: Training) -> dict[str, Any]:
    """Return a mark of each tensor that a training goes on with: which it is, and torch's count of what wrote to it."""
    network = module.network
    weights = dict(network.named_parameters())
    tensors: list[tuple[str, Tensor]] = [(f"the weight {name!r}", weight) for name, weight in weights.items()]
    tensors += [
        (f"the gradient of {name!r}", weight.grad) for name, weight in weights.items() if weight.grad is not None
    ]
    tensors += [(f"the buffer {name!r}", buffer) for name, buffer in network.named_buffers()]
    optimizer = vars(module).get("optimizer")  # made in the first step
    for i, state in enumerate(optimizer.state.values() if optimizer else ()):
        tensors += [(f"the optimizer's {key} {i}", value) for key, value in state.items() if isinstance(value, Tensor)]
    return {name: (id(value), value._version, value.data_ptr()) for name, value in tensors}


def _settings(module: Training) -> dict[str, Any]:
    """Return the other things that a probe could change by mistake: what learns, modes, and random generators."""
    network = module.network
    settings: dict[str, Any] = {f"whether {name!r} learns": w.requires_grad for name, w in network.named_parameters()}
    settings |= {f"the mode of {name!r}": own.training for name, own in network.named_modules()}
    states = generators(module.device)
    return settings | {
        f"the generator of {name}": state.numpy().tobytes() if isinstance(state, Tensor) else state
        for name, state in states.items()
    }


def _lengths(network: nn.Module) -> Tensor:
    """Return the bits of the lengths of weights and buffers, where they are floating-point numbers."""
    tensors = [tensor.detach() for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()]
    if not tensors:
        return torch.empty(0)
    norms: list[Tensor] = list(torch._foreach_norm(tensors))
    return torch.stack([norm.double() for norm in norms]).view(torch.int64)
