"""Trials on several devices: a group of processes under torchrun, one per device, kept for many trials.

This is the parent's side. It sends a trial to every rank, takes what comes of it, and kills the group as a whole:
where a rank died or left a trial that the others are still in, where another shape or cell is wanted, and at exit.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, wait
from typing import Any, Protocol

import msgspec
import torch

from normbench import plugins
from normbench.errors import UsageError
from normbench.train.ranks.launch import Launched
from normbench.trials import Outcome, Pack

#: The environment variable that tells a rank of its group.
ENVIRON = "NORMBENCH_GROUP"
#: Seconds that ranks are given to leave a trial as another did, before they count as stuck in it.
GRACE = 5.0


@dataclass(frozen=True)
class Shape:
    """What a group is made of: ranks, `devices` on each of `num_nodes` machines, on "cpu" or "cuda"."""

    devices: int
    num_nodes: int
    kind: str

    @property
    def ranks(self) -> int:
        """The number of ranks."""
        return self.devices * self.num_nodes


@dataclass(frozen=True)
class Invitation:
    """What a rank is told at its start: where the parent listens, the key to be let in, and the kind of device."""

    address: Any
    key: bytes
    kind: str

    def written(self) -> str:
        """Return it as text for the environment."""
        return json.dumps([self.address, self.key.hex(), self.kind])

    @classmethod
    def read(cls, text: str) -> Invitation:
        """Return what was written."""
        address, key, kind = json.loads(text)
        return cls(tuple(address) if isinstance(address, list) else address, bytes.fromhex(key), kind)


@dataclass(frozen=True)
class Hello:
    """What a rank sends first."""

    rank: int
    pid: int


@dataclass(frozen=True)
class Reply:
    """What a rank replies to a trial: its outcome, None where it was only tried; or the message of a user's mistake.

    `in_step` says that it came to the trial's end, as all ranks do together; else the others may be waiting for it.
    """

    outcome: Outcome | None = None
    in_step: bool = True
    mistake: str = ""

    @property
    def harmless(self) -> bool:
        """Whether the group can go on if all ranks left like this one: nothing that it sent can be left over."""
        return not self.mistake and (self.outcome is None or self.outcome.outcome == "unsupported")

    @property
    def reason(self) -> str:
        """Why the rank left."""
        return self.outcome.reason if self.outcome else self.mistake


class Ranks(Protocol):
    """Ranks that were started; `launch.Launched` are those on this machine."""

    def process_groups(self, ranks: list[int]) -> list[int]:
        """Return the process groups on this machine, where the ranks have these process ids."""

    def exits(self, patience: float) -> Mapping[int, int] | None:
        """Return how ranks ended of their own accord, within `patience` seconds; None where they did not end."""

    def kill(self, ranks: list[int]) -> None:
        """Kill all of them, where the ranks have these process ids."""


class Launcher(Protocol):
    """Starts ranks on several machines; `host` is this machine's address, as they see it."""

    host: str

    def __call__(self, shape: Shape, environ: Mapping[str, str]) -> Ranks:
        """Start `normbench.train.ranks.process` under torchrun on every machine, with these environment variables."""


@dataclass(frozen=True)
class Keeper:
    """What the ranks of a group have to know of the process that keeps it.

    `tell` is called with their process groups whenever these change, and with none at their end: whoever kills this
    process has to kill them as well. Groups make their folders in `scratch`, "" for where temporary files are: whoever
    kills this process removes it. `launcher` is there where several machines are.
    """

    tell: Callable[[list[int]], None] = lambda leaders: None  # noqa: ARG005 - nobody else kills it
    scratch: str = ""
    launcher: Launcher | None = None


class _Died(Exception):  # noqa: N818 - what happened, not what is wrong
    """The group has ended; the text says what ended it."""


def run(pack: Pack, keeper: Keeper) -> Iterator[Outcome]:
    """Train the trials of a pack on a group, and yield the outcome of each.

    A dry pack's first trial is tried for one step, and gives an outcome only where that killed the group. Raises
    UsageError for what the user got wrong, on whichever rank it was noticed.
    """
    shape = _shape(pack, keeper)
    # What was registered in this session is sent by whoever has other processes.
    sent = msgspec.structs.replace(pack, registered=pack.registered or plugins.registered())
    for trial in pack.trials[: 1 if pack.dry else None]:
        outcome = _outcome(msgspec.structs.replace(sent, trials=(trial,)), shape, keeper)
        assert outcome is not None or pack.dry, "ranks gave no outcome of a trial"
        if outcome is not None:
            yield outcome


def close() -> None:
    """Kill the group that this process keeps, if there is one; not that of a process of which this is a copy."""
    while _kept:
        kept = _kept.pop()
        if kept.owner == os.getpid():
            kept.kill()


#: The group that is kept, or none.
_kept: list[Group] = []
atexit.register(close)


def _outcome(pack: Pack, shape: Shape, keeper: Keeper) -> Outcome | None:
    """Return what came of a trial; where its group died, of another attempt."""
    started, reason = time.perf_counter(), ""
    for _ in range(2):
        try:
            return _group(shape, pack.cell, keeper).train(pack)
        except _Died as death:
            reason = str(death)
            close()
        except BaseException:
            # Whoever interrupts does not wait for the ranks, which go on with the trial.
            close()
            raise
    return pack.lost("error", f"its group died twice: {reason}", time.perf_counter() - started)[0]


def _group(shape: Shape, cell: str, keeper: Keeper) -> Group:
    """Return the group of a shape for the packs of a cell: that which is kept, or a new one in its stead."""
    wanted = (shape, cell, os.getpid(), True)
    if not _kept or (_kept[0].shape, _kept[0].cell, _kept[0].owner, _kept[0].alive) != wanted:
        close()
        _kept.append(Group(shape, cell, keeper))
        _kept[0].meet()
    return _kept[0]


def _shape(pack: Pack, keeper: Keeper) -> Shape:
    """Return the shape that a pack's trials want. Raises UsageError where it can't be had here."""
    recipe, (kind, _, index) = pack.trials[0].recipe, pack.device.partition(":")
    if recipe.num_nodes > 1 and keeper.launcher is None:
        raise UsageError(f"num_nodes is {recipe.num_nodes}: several machines need the executor ray")
    if kind == "cuda" and recipe.num_nodes == 1:
        gpus = torch.cuda.device_count()
        if recipe.devices > gpus:
            raise UsageError(f"devices is {recipe.devices}; torch sees {gpus} GPUs here")
        if int(index or 0):
            raise UsageError(f"devices is {recipe.devices}; with several, the device is cuda, not {pack.device}")
    return Shape(recipe.devices, recipe.num_nodes, kind)


class Group:
    """One process a rank, and the parent's connections to them."""

    def __init__(self, shape: Shape, cell: str, keeper: Keeper) -> None:
        self.shape, self.cell, self.owner, self.alive, self._keeper = shape, cell, os.getpid(), True, keeper
        key = secrets.token_bytes(32)
        far = keeper.launcher if shape.num_nodes > 1 else None
        scratch = keeper.scratch or tempfile.gettempdir()
        self._folder = ""
        try:
            if not far:
                # Short: a socket's path has some hundred characters at most.
                self._folder = tempfile.mkdtemp(prefix="" if keeper.scratch else "normbench-", dir=scratch)
            self._listener = Listener((far.host, 0) if far else f"{self._folder}/parent", authkey=key)
        except OSError as error:  # a path that is too long for a socket, a disk that is full
            shutil.rmtree(self._folder, ignore_errors=True)
            where = f"on {far.host}" if far else f"with temporary files in {scratch} (TMPDIR)"
            raise UsageError(f"no ranks can be started {where}: {error}") from None
        self._arrivals: queue.SimpleQueue[tuple[Hello, Connection]] = queue.SimpleQueue()
        self._pids: dict[int, int] = {}
        self._connections: dict[int, Connection] = {}
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        environ = _environ(Invitation(self._listener.address, key, shape.kind), shape)
        self._ranks: Ranks = far(shape, environ) if far else Launched(shape.devices, environ, self._folder)
        self._tell()

    def meet(self) -> None:
        """Wait until every rank has said hello. Raises _Died where one ended instead."""
        while len(self._connections) < self.shape.ranks:
            try:
                hello, connection = self._arrivals.get(timeout=0.1)
            except queue.Empty:
                exits = self._ranks.exits(patience=0)
                if exits is not None:
                    raise _Died(_words(min(exits, default=None), exits) + " at the start") from None
                continue
            self._pids[hello.rank], self._connections[hello.rank] = hello.pid, connection
        self._tell()

    def train(self, pack: Pack) -> Outcome | None:
        """Train a pack of one trial, or try it, on all ranks; return its outcome. Raises _Died or UsageError.

        Where a rank left the trial, what made it leave is the outcome, and the group is not `alive` any more, unless
        all ranks left before they had sent one another anything.
        """
        for rank, connection in self._connections.items():
            try:
                connection.send(pack)
            except OSError:
                raise self._death(rank) from None
        replies = self._replies()
        left = [(rank, reply) for rank, reply in replies.items() if not reply.in_step]
        if not left:
            return replies[0].outcome
        rank, first = left[0]
        together = len(left) == self.shape.ranks
        if not together or not all(reply.harmless for _, reply in left):
            self.kill()
        if first.mistake:
            raise UsageError(first.mistake)
        if first.outcome is None or (together and all(reply.reason == first.reason for _, reply in left)):
            return first.outcome
        return msgspec.structs.replace(first.outcome, reason=f"rank {rank}: {first.outcome.reason}")

    def _replies(self) -> dict[int, Reply]:
        """Return the ranks' replies, in the order in which they came; without those that are stuck in the trial."""
        replies: dict[int, Reply] = {}
        deadline: float | None = None
        while len(replies) < self.shape.ranks:
            waited = {connection: rank for rank, connection in self._connections.items() if rank not in replies}
            ready = wait(list(waited), None if deadline is None else max(0.0, deadline - time.monotonic()))
            if not ready:
                break
            for connection in ready:
                rank = waited[connection]  # type: ignore[index]
                try:
                    replies[rank] = self._connections[rank].recv()
                except (EOFError, OSError):
                    # Also where another rank complained first: of a connection that was lost, most likely.
                    raise self._death(rank) from None
            if deadline is None and not all(reply.in_step for reply in replies.values()):
                deadline = time.monotonic() + GRACE
        return replies

    def kill(self) -> None:
        """Kill every rank, with all that it started."""
        if self.alive:
            self.alive = False
            self._ranks.kill(list(self._pids.values()))
            for connection in self._connections.values():
                connection.close()
            with suppress(OSError):
                # Closing a listener does not wake who waits at it.
                Client(self._listener.address).close()
            # Where its folder is gone nothing can wake it: it is a daemon.
            self._accepting.join(GRACE)
            self._listener.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._keeper.tell([])

    def _accept(self) -> None:
        """Let in who has the key, as long as the group lives."""
        while self.alive:
            with suppress(OSError, EOFError, AuthenticationError):
                connection = self._listener.accept()
                self._arrivals.put((connection.recv(), connection))

    def _tell(self) -> None:
        self._keeper.tell(self._ranks.process_groups(list(self._pids.values())))

    def _death(self, rank: int) -> _Died:
        """Return that a rank died, and how, as far as torchrun knows."""
        exits = self._ranks.exits(patience=2.0)
        return _Died(_words(rank, exits or {}))


def _words(rank: int | None, exits: Mapping[int, int]) -> str:
    """Say how a rank ended."""
    if rank is None or rank not in exits:
        return "the ranks ended" if rank is None else f"rank {rank} died"
    code = exits[rank]
    if code < 0:
        return f"rank {rank} was killed by {signal.Signals(-code).name}"
    return f"rank {rank} ended with exit status {code}"


def _environ(invitation: Invitation, shape: Shape) -> dict[str, str]:
    """Return the environment variables of ranks."""
    environ = {ENVIRON: invitation.written(), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    # torchrun sets it to 1 and says so; ranks set their threads for each trial.
    environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    if shape.num_nodes == 1:
        # Left to themselves, both listen on a network that others are on; and gloo goes by the machine's name, which
        # need not have an address.
        name = "NCCL_SOCKET_IFNAME" if shape.kind == "cuda" else "GLOO_SOCKET_IFNAME"
        environ[name] = os.environ.get(name, "lo0" if sys.platform == "darwin" else "lo")
    return environ
