"""A training in the middle, saved to a file and read back, so that a long trial that was killed goes on where it was.

What comes back gives the same bits as a training that was not killed. A checkpoint never fails a trial: one that can't
be written is done without, and one that can't be read back is as if it were not there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import logging
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytorch_lightning as pl
import torch

from normbench.store.records import SCHEMA
from normbench.texts import in_a_line
from normbench.train.made import Code
from normbench.train.module import Training
from normbench.train.ranks.place import ALONE
from normbench.train.state import Marks, copied, freeze, marks, put_back, taken
from normbench.train.streams import generators, set_generators
from normbench.trials import Trial

#: The version of what a file holds.
FORMAT: Final = 5
#: After each of this many steps, several ranks ask rank 0 whether it is time: asking at every step would slow each.
ASKED_EVERY: Final = 16

#: The bytes of the hash that a file begins with.
_DIGEST = hashlib.sha256().digest_size
_NAME = re.compile(r"[0-9]+-[0-9]+\.pt")


class Checkpoints(pl.Callback):
    """The checkpoints of a trial, in a folder of its own: a file for each rank, `<steps taken>-<rank>.pt`.

    As a callback of a Trainer it saves the training every `every` seconds, at 0 after every optimizer step. A
    checkpoint counts where every rank has its file, and every file that `code` had read is as it was. `spent` are the
    seconds that the training had taken where it goes on.
    """

    def __init__(
        self, folder: Path, every: float, identity: Mapping[str, Any], device: torch.device, code: Code | None = None
    ) -> None:
        self.spent = 0.0
        self._folder, self._every, self._identity, self._device = folder, every, identity, device
        self._code = code
        self._ranks = ALONE
        self._started = self._saved = time.monotonic()
        self._resumed: Mapping[str, Any] = {}
        self._start: Marks = {}
        self._warned = False

    def resumed(self, module: Training, start: Callable[[], Training]) -> Training:
        """Return the training where the newest checkpoint left it; where none can be read back, at its start.

        It is `module`, which is at its start, or what `start` returns, where that was spoilt in the attempt.
        """
        self._ranks, self._start = module.ranks, marks(module.network)
        state = self._newest()
        if state is None:
            return module
        try:
            put_back(module.network, state["network"])
            module.go_on(state["progress"])
            self.spent = state["spent"]
            self._resumed = {name: state[name] for name in ("network", "gradients", "generators")}
            spoilt = False
        except Exception as error:
            self._warn("a checkpoint does not fit, and training starts anew", error)
            spoilt = True
        if not self._anywhere(spoilt):
            return module
        self.spent, self._resumed = 0.0, {}
        fresh = start()
        self._start = marks(fresh.network)
        return fresh

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Put back what Lightning cleared, and the generators: nothing draws between this and the next step."""
        assert isinstance(pl_module, Training)
        if self._resumed:
            freeze(pl_module.network, self._resumed["network"])
            for name, parameter in pl_module.network.named_parameters():
                gradient = self._resumed["gradients"].get(name)
                parameter.grad = None if gradient is None else gradient.to(parameter.device)
            set_generators(self._resumed["generators"], self._device)
            self._resumed = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any) -> None:  # noqa: ARG002
        """Save after an optimizer step, where it is time."""
        assert isinstance(pl_module, Training)
        if self._due(pl_module.taken):
            self.save(pl_module)

    def save(self, module: Training) -> None:
        """Save a training and delete the checkpoint before; where some rank can't, keep the one before."""
        path = self._folder / f"{module.taken}-{self._ranks.rank}.pt"
        try:
            _write(path, self._state(module), self._folder / f"unfinished-{self._ranks.rank}.tmp")
            failed = False
        except Exception as error:
            self._warn("no checkpoint can be saved; training goes on", error)
            failed = True
        failed = self._anywhere(failed)
        for file in self._files():
            if (file == path) == failed:
                with suppress(OSError):
                    file.unlink()
        self._saved = time.monotonic()

    def _due(self, taken: int) -> bool:
        if not self._every:
            return True
        due = time.monotonic() - self._saved >= self._every
        if self._ranks.size == 1 or self._every == math.inf:
            return due
        if taken % ASKED_EVERY:
            return False
        clock_of_rank_0 = torch.tensor(float(due), device=self._device)
        self._ranks.share([clock_of_rank_0])
        return bool(clock_of_rank_0)

    def _anywhere(self, true: bool) -> bool:
        """Whether something is true on any rank; every rank must ask."""
        return bool(self._ranks.union(["true"] if true else []))

    def _state(self, module: Training) -> dict[str, Any]:
        return {
            "identity": self._identity,
            "files": self._code.files() if self._code else [],
            "network": taken(module.network, self._start),
            # Until the next backward a layer or a probe may look at them.
            "gradients": {
                name: copied(parameter.grad)
                for name, parameter in module.network.named_parameters()
                if parameter.grad is not None
            },
            "progress": module.progress(),
            "generators": generators(self._device),
            "spent": self.spent + time.monotonic() - self._started,
        }

    def _newest(self) -> dict[str, Any] | None:
        """Return this rank's part of the newest checkpoint that every rank can read."""
        states = {path.stem.partition("-")[0]: self._read(path) for path in self._files()}
        anywhere = self._ranks.union(states)
        whole = anywhere - self._ranks.union([taken for taken in anywhere if states.get(taken) is None])
        return states[max(whole, key=int)] if whole else None

    def _read(self, path: Path) -> dict[str, Any] | None:
        """Return what a file holds; None where it can't be read, or is of another training."""
        try:
            state = _contents(path)
            other = {name: value for name, value in self._identity.items() if state["identity"].get(name) != value}
            if other:
                raise ValueError(f"it is of another {', '.join(other)}")
            edited = self._code.edited(state["files"]) if self._code else None
            if edited is not None:
                raise ValueError(f"{edited} is not what it was")
        except Exception as error:
            self._warn(f"{path.name} can't be read, and is left out", error)
            return None
        return state

    def _files(self) -> list[Path]:
        """Return this rank's files; a name that is none of a checkpoint is nobody's."""
        return [path for path in self._folder.glob(f"*-{self._ranks.rank}.pt") if _NAME.fullmatch(path.name)]

    def _warn(self, what: str, error: Exception) -> None:
        """Say once what went wrong: a disk that is full stays so for a while."""
        if not self._warned:
            self._warned = True
            logger = logging.getLogger(__name__)
            logger.warning("%s: %s (%s: %s)", self._folder, what, type(error).__name__, in_a_line(error))


def identity(trial: Trial, device: torch.device, probes: Sequence[str]) -> dict[str, Any]:
    """Return what has to be the same where a training goes on, as plain values."""
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "trial": trial.key,
        "probes": list(probes),
        "device": device.type,
        "torch": str(torch.__version__),
        "normbench": importlib.metadata.version("normbench"),
    }


def _write(path: Path, state: Mapping[str, Any], unfinished: Path) -> None:
    """Write a file, a hash and what `torch.save` makes, so that it is whole or not there: under another name first."""
    # Not to the file itself: torch turns a full disk into an error of its own, or into an abort.
    content = io.BytesIO()
    torch.save(state, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(unfinished, "wb") as file:
            file.write(hashlib.sha256(content.getbuffer()).digest())
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync(path.parent)


def _contents(path: Path) -> dict[str, Any]:
    """Return what `_write` was given. Raises ValueError where the file is not what was written."""
    content = path.read_bytes()
    # torch.load does not look at the checksums that its format has.
    if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
        raise ValueError("it is not what was written")
    state: dict[str, Any] = torch.load(io.BytesIO(content[_DIGEST:]), map_location="cpu", weights_only=True)
    return state


def _sync(folder: Path) -> None:
    """Let a folder's names reach the disk, where the system has a way to ask for it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
