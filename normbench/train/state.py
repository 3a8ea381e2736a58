"""All that a network keeps from one step to the next, taken and put back: weights, buffers, flags, plain attributes."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

#: Something that is as it was where an attribute is, by module and attribute.
Marks: TypeAlias = "dict[tuple[str, str], Any]"

_SCALARS = (type(None), bool, int, float, str)
#: What a module has of torch, and what `compile` adds.
_OF_TORCH = frozenset(vars(nn.Module())) | {"_compiled_call_impl"}
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
#: What a module has of torch that is not looked at: its tensors, and what does nothing in training.
_UNSEEN = _OF_TORCH - {*_HOOKS, "_modules", "training"}
_HOOKS_OF_TENSOR = ("_backward_hooks", "_post_accumulate_grad_hooks")


def marks(network: nn.Module) -> Marks:
    """Return a mark of each attribute that is no weight, buffer or module, and of the hooks: what `taken` goes by."""
    known = frozenset(map(id, (*network.modules(), *network.parameters(), *network.buffers())))
    now: Marks = {}
    for name, module in network.named_modules():
        own = vars(module)
        now |= {(name, key): _mark(value, known) for key, value in own.items() if key not in _OF_TORCH}
        now |= {(name, hooks): tuple(own[hooks]) for hooks in _HOOKS}
    return now


def glances(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a module that are no tensors of its own, each with what `glance` says of it."""
    return ((key, glance(value)) for key, value in vars(module).items() if key not in _UNSEEN)


def glance(value: Any) -> Any:
    """Return a mark of a value at little cost: of plain values what they are, of any other which object it is.

    So it is with what a list, tuple or dict has in it, but no deeper. Of a tensor, torch's count of writes is in it.
    """
    if isinstance(value, dict):
        return [(key, _glance(own)) for key, own in value.items()]
    return [*map(_glance, value)] if isinstance(value, list | tuple) else _glance(value)


def _glance(value: Any) -> Any:
    if type(value) in _SCALARS:
        return type(value), repr(value)
    return (id(value), value._version) if isinstance(value, Tensor) and not value.is_inference() else id(value)


def hooks(tensor: Tensor) -> list[dict[Any, Any]]:
    """Return the hooks of a tensor, of each kind."""
    return [dict(getattr(tensor, kind) or {}) for kind in _HOOKS_OF_TENSOR]


def taken(network: nn.Module, start: Marks) -> dict[str, Any]:
    """Return all that a network keeps from one step to the next, as plain values and tensors on the CPU.

    `start` are its marks at the start: of its attributes, those are taken that have changed. Raises ValueError where
    such a one is no plain value, tensor, or list, tuple or dict of them, unless its module has an extra state.
    """
    modules, extra, now = dict(network.named_modules()), _extra_states(network), marks(network)
    attributes: dict[str, dict[str, Any]] = {}
    for name, key in [*(at for at, mark in now.items() if start.get(at) != mark), *(start.keys() - now.keys())]:
        own = modules[name].__dict__ if name in modules else {}
        if key in own and _is_plain(own[key]):
            attributes.setdefault(name, {})[key] = _detached(own[key])
        elif name not in extra or key in _HOOKS:
            raise ValueError(f"{name}.{key} changes in training, and is no number, text or tensor")
    return {
        "parameters": {name: copied(parameter) for name, parameter in network.named_parameters()},
        "frozen": [name for name, parameter in network.named_parameters() if not parameter.requires_grad],
        "buffers": {
            name: {key: None if buffer is None else copied(buffer) for key, buffer in module._buffers.items()}
            for name, module in modules.items()
        },
        "attributes": attributes,
        "evaluating": [name for name, module in modules.items() if not module.training],
        "extra": extra,
    }


def put_back(network: nn.Module, saved: Mapping[str, Any]) -> None:
    """Make a network what it was, but for what `freeze` does.

    Raises ValueError or KeyError where it has other parameters or modules.
    """
    parameters, modules = dict(network.named_parameters()), dict(network.named_modules())
    if {name: (value.shape, value.dtype) for name, value in parameters.items()} != {
        name: (value.shape, value.dtype) for name, value in saved["parameters"].items()
    }:
        raise ValueError("the network has other parameters")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved["parameters"][name])
        for name, buffers in saved["buffers"].items():
            for key, buffer in buffers.items():
                _put_buffer(modules[name], key, buffer)
        for name, changed in saved["attributes"].items():
            own = modules[name].__dict__
            own.update({key: _filled(own.get(key), value) for key, value in changed.items()})
    for name, module in modules.items():
        module.training = name not in saved["evaluating"]
    for name, state in saved["extra"].items():
        modules[name].set_extra_state(state)


def freeze(network: nn.Module, saved: Mapping[str, Any]) -> None:
    """Freeze the weights that were frozen: after ranks have joined, which share no gradient of one that begins so."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in saved["frozen"])


class Kept:
    """What the modules of a network hold of torch as it was: the same objects, with the same content.

    `kinds` are the attributes of a module that are kept: left out, all that `torch.nn.Module` has.
    """

    def __init__(self, network: nn.Module, kinds: Collection[str] = _OF_TORCH) -> None:
        own = [(vars(module), kind) for module in network.modules() for kind in kinds if kind in vars(module)]
        self._held = [(of, kind, of[kind].copy() if isinstance(of[kind], dict | set) else of[kind]) for of, kind in own]
        tensors = {
            id(tensor): tensor
            for _, kind, held in self._held
            if kind in ("_parameters", "_buffers")
            for tensor in held.values()
            if tensor is not None
        }
        self._contents = [(tensor, tensor.detach().clone()) for tensor in tensors.values()]

    @torch.no_grad()
    def put_back(self) -> None:
        """Make it what it was; a dict or a set is filled, since others may refer to it."""
        for own, kind, held in self._held:
            if isinstance(held, dict | set):
                own[kind].clear()
                own[kind].update(held)
            else:
                own[kind] = held
        for tensor, content in self._contents:
            if _is_written(tensor):
                tensor.copy_(content)


@contextmanager
def untouched(network: nn.Module) -> Iterator[list[str]]:
    """Put a network back as it was, to the bit: all that `taken` names, gradients, frozen weights and their hooks.

    Inside, gradients are copies, which may be written to. What is yielded names at the end what could not be put back:
    attributes that are no plain value, tensor or generator, nor a list, tuple or dict of them, of a module without an
    extra state.
    """
    lost: list[str] = []
    kept, start, extra = Kept(network), marks(network), _extra_states(network)
    modules = dict(network.named_modules())
    values = {at: vars(modules[at[0]])[at[1]] for at in start if at[1] not in _HOOKS}
    contents = {at: _detached(value) for at, value in values.items() if _is_plain(value)}
    states = {at: value.get_state() for at, value in values.items() if isinstance(value, torch.Generator)}
    weights = [(weight, weight.requires_grad, weight.grad, hooks(weight)) for weight in network.parameters()]
    for weight, _, gradient, _ in weights:
        weight.grad = None if gradient is None else gradient.clone()
    try:
        yield lost
    finally:
        kept.put_back()
        for weight, learns, gradient, held in weights:
            weight.requires_grad_(learns)
            weight.grad = gradient
            _put_hooks(weight, held)
        now = marks(network)
        for at in [at for at in {**now, **start} if now.get(at) != start.get(at)]:
            name, key = at
            own = modules[name].__dict__
            try:
                if at in contents:
                    with torch.no_grad():
                        own[key] = _filled(values[at], contents[at])
                elif at in states:
                    own[key] = values[at]
                    own[key].set_state(states[at])
                elif at not in start:
                    del own[key]
                elif name in extra:
                    modules[name].set_extra_state(extra[name])
                else:
                    lost.append(f"the attribute {name}.{key}")
            except Exception:  # what comes of one attribute must not keep the others from being put back
                lost.append(f"the attribute {name}.{key}")


def copied(tensor: Tensor) -> Tensor:
    """Return a copy on the CPU, without what else is in its storage, where it is a view."""
    return tensor.detach().to("cpu", copy=True)


def _extra_states(network: nn.Module) -> dict[str, Any]:
    """Return the extra states of the modules that have one, by their names."""
    none = nn.Module.get_extra_state
    return {
        name: _detached(state) if _is_plain(state) else copy.deepcopy(state)
        for name, module in network.named_modules()
        if type(module).get_extra_state is not none
        for state in [module.get_extra_state()]
    }


def _is_written(tensor: Tensor) -> bool:
    """Whether a tensor can be written to: one that was expanded has several places for one number."""
    return all(stride or size < 2 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


class _Marker(pickle.Pickler):
    """Pickles a value, but not what is in the network's own modules and tensors."""

    def __init__(self, file: io.BytesIO, known: frozenset[int]) -> None:
        super().__init__(file)
        self._known = known

    def persistent_id(self, value: Any) -> Any:
        if id(value) in self._known:
            return id(value)
        if isinstance(value, torch.Generator):
            value = value.get_state()
        if isinstance(value, Tensor):
            raw = value.detach().cpu().contiguous().flatten().view(torch.uint8)
            return str(value.dtype), tuple(value.shape), raw.numpy().tobytes()
        return None


def _mark(value: Any, known: frozenset[int]) -> Any:
    """Return a mark that is equal as long as the value is or, where it can't be pickled, the object is the same."""
    if type(value) in _SCALARS or (type(value) in (list, tuple) and all(type(one) in _SCALARS for one in value)):
        return type(value), repr(value)
    content = io.BytesIO()
    try:
        _Marker(content, known).dump(value)
    except Exception:  # whatever an object raises that is not made to be pickled
        return id(value)
    return content.getvalue()


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(key) in _SCALARS and _is_plain(own) for key, own in value.items())
    return isinstance(value, Tensor) or type(value) in _SCALARS


def _detached(value: Any) -> Any:
    """Return a plain value with copies of its tensors, and of the containers that they are in."""
    if isinstance(value, Tensor):
        return copied(value)
    if type(value) in (list, tuple):
        return type(value)(map(_detached, value))
    if type(value) is dict:
        return {key: _detached(own) for key, own in value.items()}
    return value


def _filled(own: Any, saved: Any) -> Any:
    """Return what was saved: in the tensor, list or dict that is there, which others may refer to, where that fits."""
    if isinstance(own, Tensor) and isinstance(saved, Tensor) and (own.shape, own.dtype) == (saved.shape, saved.dtype):
        return own.copy_(saved) if _is_written(own) else saved.to(own.device)
    if type(own) is type(saved) is list:
        own[:] = [_filled(*pair) for pair in zip(own, saved, strict=False)] + saved[len(own) :]
        return own
    if type(own) is type(saved) is tuple and len(own) == len(saved):
        return tuple(_filled(*pair) for pair in zip(own, saved, strict=True))
    if type(own) is type(saved) is dict:
        filled = {key: _filled(own.get(key), value) for key, value in saved.items()}
        own.clear()
        own.update(filled)
        return own
    return saved


def _put_buffer(module: nn.Module, name: str, saved: Tensor | None) -> None:
    """Fill a buffer, which others may refer to; where it was none or of another shape, put another in its place."""
    own = module._buffers.get(name)
    if own is not None and saved is not None and (own.shape, own.dtype) == (saved.shape, saved.dtype):
        own.copy_(saved)
    else:
        module.register_buffer(name, saved, persistent=name not in module._non_persistent_buffers_set)


def _put_hooks(tensor: Tensor, held: list[dict[Any, Any]]) -> None:
    for kind, saved in zip(_HOOKS_OF_TENSOR, held, strict=True):
        own = getattr(tensor, kind)
        if own is not None:
            own.clear()
            own.update(saved)
