"""The process of one rank: it trains the packs that the group's parent sends, until it is killed.

torchrun starts it, for `normbench.train.ranks.parent`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from multiprocessing.connection import Client, Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import torch
from torch import distributed as dist

from normbench import plugins
from normbench.errors import UsageError
from normbench.train.dry_run import dry_run
from normbench.train.fit import fit_here
from normbench.train.ranks.parent import ENVIRON, Hello, Invitation, Reply
from normbench.trials import Pack

#: prctl's request for a signal at the parent's death, from Linux's <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
#: Outcomes that end a training on all ranks at once.
_IN_STEP = frozenset({"trained", "not-trained", "diverged"})


def main() -> None:
    """Join the group, and train what comes."""
    _lead_and_follow()
    invitation = Invitation.read(os.environ.pop(ENVIRON))
    try:
        parent = Client(invitation.address, authkey=invitation.key)
        parent.send(Hello(int(os.environ["RANK"]), os.getpid()))
    except (OSError, EOFError):
        # The parent is gone, or does not want the group any more.
        sys.exit(1)
    packs: SimpleQueue[Pack] = SimpleQueue()
    threading.Thread(target=_listen, args=(parent, packs), daemon=True).start()
    device = _join(invitation)
    while True:
        parent.send(_answer(msgspec.structs.replace(packs.get(), device=device)))


def _lead_and_follow() -> None:
    """Lead a process group, so that all that this rank starts can be killed with it; and die when torchrun does."""
    if os.getpgrp() != os.getpid():
        os.setsid()
    # A terminal's Ctrl-C is the parent's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _listen(parent: Connection, packs: SimpleQueue[Pack]) -> None:
    """Pass on what the parent sends; where it is gone, end, whatever the training waits for."""
    try:
        while True:
            packs.put(parent.recv())
    except (EOFError, OSError):
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _join(invitation: Invitation) -> str:
    """Enter the ranks' process group, and return the device of this one."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    place: dict[str, Any] = {}
    if isinstance(invitation.address, str):
        # All are on this machine: they meet in a file of their parent's folder. torch's TCP store, which those of
        # several machines have, lets in whoever reaches its port, on any interface.
        untyped: Any = dist
        store = untyped.FileStore(str(Path(invitation.address).with_name("ranks")), size)
        place = {"store": store, "rank": rank, "world_size": size}
    if invitation.kind == "cpu":
        dist.init_process_group("gloo", **place)
        return invitation.kind
    device = f"cuda:{os.environ['LOCAL_RANK']}"
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", device_id=torch.device(device), **place)
    return device


def _answer(pack: Pack) -> Reply:
    """Train a pack of one trial, or try it."""
    try:
        plugins.receive(pack.registered)
        if pack.dry:
            return Reply(in_step=dry_run(pack))
        [outcome] = fit_here(pack)
    except UsageError as error:
        return Reply(in_step=False, mistake=str(error))
    return Reply(outcome, in_step=outcome.outcome in _IN_STEP)


if __name__ == "__main__":
    main()
