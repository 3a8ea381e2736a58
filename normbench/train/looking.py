"""What a probe by step may look at, the `training` that it is given, and how it is seen that it moved nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from normbench.contract import Site, Unsupported
from normbench.surroundings import torch_kept
from normbench.train.state import Kept, glance, glances, hooks, untouched
from normbench.train.streams import generators, generators_kept, set_generators


class Trained(Protocol):
    """What a view needs of a training, normbench's own or anyone's. Its optimizer, once made, is `optimizer`.

    A `part` of a step is what the training has a batch from.
    """

    steps: int

    @property
    def network(self) -> nn.Module:
        """What trains; its modules are all that a training keeps from one step to the next."""

    @property
    def device(self) -> torch.device:
        """Where it trains."""

    def rate_at(self, step: int) -> float:
        """Return the rate of a step, counted from 0."""

    def batch(self, part: Any) -> tuple[Tensor, Tensor]:
        """Return the inputs of a part as the network is given them, and the targets: copies."""

    def task_loss(self, part: Any) -> Tensor:
        """Return the loss of a part at the present weights, a scalar with its graph."""


@dataclass(frozen=True)
class _Begun:
    """The last part of a step, and what its forward began with."""

    part: Any
    buffers: Kept
    generators: dict[str, Any]


class Linear(NamedTuple):
    """A linear or convolution of a network, with the weight that is trained, by its name among the parameters.

    Where a norm wraps it, the weight is what the norm computes from. `scale_invariant` says that rescaling the weight
    changes nothing, as norms claim. `site` is that of the norm that follows or wraps it, None for any other.
    """

    name: str
    module: nn.Module
    weight: nn.Parameter
    scale_invariant: bool
    site: Site | None


class View:
    """A training as a probe by step sees it.

    `network` is the network, which computes eagerly while a probe looks; `sites` are its norms in order, each a `Site`
    with its module, and `activations` the modules of the activations at sites, but those that a layer includes.
    `linears` are its linears and convolutions. `step` counts optimizer steps from 0, up to `steps`. `scores` are what
    measures the score of a split, by its name.
    """

    def __init__(
        self,
        module: Trained,
        sites: Iterable[tuple[Site, nn.Module]],
        activations: Iterable[tuple[Site, nn.Module]],
        linears: Iterable[Linear],
        scores: Mapping[str, Callable[[], float]],
    ) -> None:
        self.network = module.network
        self.sites, self.activations, self.linears = tuple(sites), tuple(activations), tuple(linears)
        self.step = 0
        self.steps = module.steps
        self._module = module
        self._scores = scores
        self._begun: _Begun | None = None
        self._inside = 0
        self._modules = [(f"{name}." if name else "", own) for name, own in self.network.named_modules()]
        self._before: dict[tuple[str, str], Any] = {}
        self._moved: list[str] = []

    @property
    def rate(self) -> float:
        """The rate of this step, as the schedule has it."""
        return self._module.rate_at(self.step)

    @property
    def batch(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of this step, augmented, as the network is given them: a copy each time.

        With `accumulate` those of the step's last part, on several ranks this rank's own. Raises RuntimeError between
        steps.
        """
        begun, device = self._step(), self._module.device
        with generators_kept(device):
            set_generators(begun.generators, device)
            return self._module.batch(begun.part)

    def loss(self) -> Tensor:
        """Return the task's loss of the batch at the present weights, a scalar with its graph.

        It is in the recipe's precision, and without losses of the layers' own. Buffers and generators begin as they did
        in the step: at the step's weights it is the step's loss, to the bit. Raises RuntimeError between steps, and
        outside of `untouched` and `moved`.
        """
        if not self._inside:
            raise RuntimeError("loss() computes anew, which moves statistics: call it inside training.untouched()")
        self._replay()
        return self._module.task_loss(self._step().part)

    def score(self, split: str) -> float:
        """Return the mean score over a split, "validation" or "test", in evaluation mode; it moves nothing.

        Raises Unsupported where the training has no such split.
        """
        if split not in self._scores:
            raise Unsupported(f"the training has no {split} split")
        with self._kept():
            return self._scores[split]()

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Put everything back as it was at the end, to the bit.

        That is weights, buffers, plain attributes, gradients, requires_grad, modes of training and evaluation, hooks,
        and the random generators of torch, CUDA, NumPy and Python. Inside, buffers and generators begin as they did in
        the step, and gradients are copies.
        """
        with self._kept():
            if self._begun:
                self._replay()
            yield

    @contextmanager
    def moved(self, eta: float) -> Iterator[None]:
        """Stand at w - eta * g inside, g the gradient that the weights have; at the end all is as after `untouched`."""
        with self.untouched():
            with torch.no_grad():
                for weight in self.network.parameters():
                    if weight.grad is not None:
                        weight.sub_(weight.grad, alpha=eta)
            yield

    def begin(self, part: Any) -> None:
        """Note the last part of a step, before its forward; for the host alone, like all below."""
        self._begun = _Begun(part, Kept(self.network, ("_buffers",)), generators(self._module.device))

    def end(self) -> None:
        """Let go of the step."""
        self._begun = None

    @contextmanager
    def look(self) -> Iterator[list[str]]:
        """Let a probe look; yield a list that then says what it moved and did not put back, in words.

        It is cheap: what is written past torch's counters of versions (`weight.data`) shows in lengths alone, and of an
        attribute that is no plain value it shows only whether it is the same object. Settings of torch's are put back.
        """
        network, self._moved = self.network, []
        compiled = network._compiled_call_impl
        if compiled is not None:
            network._compiled_call_impl = None
        self._before, settings, lengths = self._marks(), self._settings(), self._lengths()
        try:
            with torch_kept() as changed:
                yield self._moved
        finally:
            self._note_moved()
            self._moved += [*_changed(settings, self._settings()), *changed]
            if not self._moved:
                self._moved += _changed(lengths, self._lengths())
            if self._inside:
                self._inside, self._moved[:] = 0, ["everything, since it never left untouched(),"]
            if compiled is not None:
                network._compiled_call_impl = compiled

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Put everything back as it was, as `untouched` says; what can't be counts as moved."""
        lost: list[str] = []
        if not self._inside:
            self._note_moved()
        self._inside += 1
        try:
            with generators_kept(self._module.device), untouched(self.network) as lost:
                yield
        finally:
            self._inside -= 1
            self._moved += lost
            if not self._inside:
                self._before = self._marks()

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
        self._moved += _changed(self._before, self._marks())

    def _tensors(self) -> Iterator[tuple[str, str, Tensor]]:
        """Yield what the network computes with: weights and buffers, each with what it is and its name."""
        for prefix, module in self._modules:
            for name, weight in module._parameters.items():
                if weight is not None:
                    yield "the weight {!r}", prefix + name, weight
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    yield "the buffer {!r}", prefix + name, buffer

    def _held(self) -> Iterator[tuple[str, str, Tensor]]:
        """Yield all tensors that the training goes on with: those of the network, gradients, and the optimizer's."""
        for what, name, own in self._tensors():
            yield what, name, own
            if own.grad is not None:
                yield "the gradient of {!r}", name, own.grad
        for i, state in enumerate(self._optimizer.state.values() if self._optimizer else ()):
            yield from (("the optimizer's {}", f"{key} {i}", of) for key, of in state.items() if isinstance(of, Tensor))

    @property
    def _optimizer(self) -> torch.optim.Optimizer | None:
        """The optimizer, which is made in the first step."""
        return vars(self._module).get("optimizer")

    def _marks(self) -> dict[tuple[str, str], Any]:
        """Return a mark of each tensor, which it is and torch's count of writes to it, and of each attribute.

        A key is what it is, and its name.
        """
        marks: dict[tuple[str, str], Any] = {
            (what, name): (id(of), of._version, of.data_ptr()) for what, name, of in self._held()
        }
        for prefix, module in self._modules:
            marks |= {("the attribute {}", prefix + key): mark for key, mark in glances(module)}
        return marks

    def _settings(self) -> dict[tuple[str, str], Any]:
        """Return marks of what else could be changed: what learns, its hooks, the optimizer, and random generators."""
        settings: dict[tuple[str, str], Any] = {}
        for _, name, tensor in self._tensors():
            settings["whether {!r} learns", name] = tensor.requires_grad
            settings["the hooks of {!r}", name] = hooks(tensor)
        for i, group in enumerate(self._optimizer.param_groups if self._optimizer else ()):
            own = {key: value for key, value in group.items() if key != "params"}
            settings |= {("the optimizer's {}", f"{key} of group {i}"): glance(value) for key, value in own.items()}
        for name, state in generators(self._module.device).items():
            settings["the generator of {}", name] = state.numpy().tobytes() if isinstance(state, Tensor) else state
        return settings

    def _lengths(self) -> dict[tuple[str, str], int]:
        """Return the bits of the length of each tensor of floating-point numbers on the device."""
        kind = self._module.device.type  # an optimizer may count its steps on the CPU
        held = [one for one in self._held() if one[2].is_floating_point() and one[2].device.type == kind]
        if not held:
            return {}
        lengths = torch.stack(torch._foreach_norm([tensor.detach() for *_, tensor in held])).double()
        return {
            (what, name): bits for (what, name, _), bits in zip(held, lengths.view(torch.int64).tolist(), strict=True)
        }


def linears(network: nn.Module, before: Mapping[int, tuple[Site, bool]]) -> Iterator[Linear]:
    """Yield the linears and convolutions of a network in the order of its modules; one that is shared counts once.

    `before` has those before or within a site by their identity: with the site, and whether they are scale-invariant.
    """
    names = {id(weight): name for name, weight in network.named_parameters()}
    for module in network.modules():
        if not isinstance(module, nn.Linear | _ConvNd):
            continue
        # What a parametrization computes the weight from is a parameter of its own; a gain per unit is none of these.
        computed: Any = parametrize.is_parametrized(module, "weight") and vars(module)["_modules"]["parametrizations"]
        own: Any = computed["weight"].parameters(recurse=False) if computed else [module.weight]
        weight = next((one for one in own if id(one) in names and not (computed and one.squeeze().dim() < 2)), None)
        if weight is not None:
            site, invariant = before.get(id(module), (None, False))
            yield Linear(names.pop(id(weight)), module, weight, invariant, site)


def _changed(before: dict[tuple[str, str], Any], after: dict[tuple[str, str], Any]) -> list[str]:
    """Return what is not what it was, in words."""
    if before == after:
        return []
    return [what.format(name) for what, name in (at for at in {**before, **after} if before.get(at) != after.get(at))]
