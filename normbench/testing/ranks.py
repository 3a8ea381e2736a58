"""A norm on two ranks: two processes that are forked, joined by gloo, and never waited for without an end."""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist

from normbench.testing.comparing import Seen, largest, off, shown
from normbench.testing.results import Failed, NotApplicable
from normbench.testing.steps import WARM, Step, made, stepped
from normbench.testing.subject import Subject
from normbench.texts import in_a_line

RANKS = 2
#: Seconds that two ranks are given for what takes a part of one, and that one waits for the other.
PATIENCE, WAITS = 20.0, 10.0
#: The samples of a batch, over all ranks, and the share by which sums in another order may be off.
SAMPLES, ALLOWED = 8, 1e-4


class Trained(NamedTuple):
    """What steps of training gave: outputs and input gradients over the samples of all, and parameters' gradients."""

    outputs: Tensor
    gradients: Tensor
    weights: list[Tensor]


class Shared(NamedTuple):
    """Whether ranks compute what one process does with all their samples, and what each does with its part alone."""

    not_whole: Seen | None
    not_alone: Seen | None


def on_two_ranks(subject: Subject) -> Shared:
    """Train a norm on two ranks, and compare. Raises Failed where they do not end, or one of them raises."""
    if not hasattr(os, "fork") or not dist.is_available() or dist.is_initialized():
        raise NotApplicable("this process can't fork ranks that gloo joins")
    channels = subject.channels
    parts = [slice(rank * SAMPLES // RANKS, (rank + 1) * SAMPLES // RANKS) for rank in range(RANKS)]
    whole = _trained(subject, channels, slice(None))
    alone = _joined([_trained(subject, channels, part) for part in parts])

    def on_a_rank(rank: int) -> Trained:
        return _trained(replace(subject, group=dist.group.WORLD), channels, parts[rank])

    together = _joined(_forked(on_a_rank))
    where = f"{shown(subject.input(SAMPLES))} on {RANKS} ranks"
    return Shared(
        _first(together, whole, "two ranks give another {} than one process with all their samples", where),
        _first(together, alone, "two ranks give another {} than each alone with its own samples", where),
    )


def _trained(subject: Subject, channels: int, part: slice) -> Trained:
    layer = made(subject, channels=channels)
    steps = []
    for step in range(WARM):
        x = subject.input(SAMPLES, channels, draw=step)
        steps.append(stepped(subject, layer, x[part], subject.gradient(x)[part]))
    weights = [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]
    last = Step(*map(torch.stack, zip(*steps, strict=True)))
    return Trained(last.output, last.gradient, weights)


def _joined(parts: list[Trained]) -> Trained:
    outputs = torch.cat([part.outputs for part in parts], 1)
    gradients = torch.cat([part.gradients for part in parts], 1)
    weights = [torch.stack(own).sum(0) for own in zip(*(part.weights for part in parts), strict=True)]
    return Trained(outputs, gradients, weights)


def _first(found: Trained, wanted: Trained, words: str, where: str) -> Seen | None:
    kinds = ("output", "gradient", *("gradient of a parameter" for _ in wanted.weights))
    pairs = zip((*found[:2], *found.weights), (*wanted[:2], *wanted.weights), strict=True)
    for kind, (one, other) in zip(kinds, pairs, strict=True):
        distance, allowed = off(one, other), ALLOWED * max(1.0, largest(other))
        if distance > allowed:
            return Seen(words.format(kind), where, distance, allowed)
    return None


def _forked(work: Callable[[int], Trained]) -> list[Trained]:
    """Return what each rank gives; where they give nothing a second time, too, that is the norm's."""
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            told = _fork(work, folder)
        for how, why in told.values():
            if how == "raised":  # the first to do so: it left the others waiting
                raise Failed(f"on {RANKS} ranks it raised {why}")
        if len(told) == RANKS:
            return [told[rank][1] for rank in range(RANKS)]
    raise Failed(f"{RANKS} ranks did not end in {PATIENCE:g} s: one of them waits for the other")


def _fork(work: Callable[[int], Trained], folder: str) -> dict[int, tuple[str, Any]]:
    """Fork the ranks, and return what they sent, in the order in which they ended; none of them is left."""
    pids: dict[int, int] = {}
    received = dict.fromkeys(range(RANKS), b"")
    told: dict[int, tuple[str, Any]] = {}
    end = time.monotonic() + PATIENCE
    try:
        with selectors.DefaultSelector() as selector, ExitStack() as pipes:
            for rank in range(RANKS):
                reader, writer = os.pipe()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which a rank does without
                    pids[rank] = os.fork() or _be(rank, work, folder, writer)
                os.close(writer)
                selector.register(pipes.enter_context(os.fdopen(reader, "rb", 0)), selectors.EVENT_READ, rank)
            while selector.get_map() and (left := end - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    pipe: Any = key.fileobj
                    chunk = pipe.read(1 << 16)
                    received[key.data] += chunk
                    if not chunk:
                        selector.unregister(pipe)
                        if received[key.data]:
                            told[key.data] = pickle.loads(received[key.data])
    finally:
        for pid in pids.values():
            with suppress(ProcessLookupError, ChildProcessError):  # another thread waits for all children
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    return told


def _be(rank: int, work: Callable[[int], Trained], folder: str, writer: int) -> int:
    """Be a rank: join the group, work, send the result, and end, whatever comes."""
    try:
        torch.set_num_threads(1)  # what is forked has none of the threads that OpenMP began before
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(2 * PATIENCE) + 1)  # where the process that forked it is gone
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        untyped: Any = dist
        store = untyped.FileStore(f"{folder}/ranks", RANKS)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS, timeout=timedelta(seconds=WAITS))
        told = ("ok", work(rank))
    except BaseException as error:
        told = ("raised", f"{type(error).__name__}: {in_a_line(error)}")  # type: ignore[assignment]
    with suppress(BaseException), os.fdopen(writer, "wb") as pipe:
        pickle.dump(told, pipe)
    os._exit(0)
