"""A connection to Ray: as the caller has it, to a cluster that is running, or to a Ray that is started here."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import normbench
from normbench import environment

#: Seconds in which an address has to answer; Ray on it gets three times as many.
PATIENCE = 5.0
#: What Ray's own commands read where no address is given; `ray job submit` sets it.
ADDRESS = "RAY_ADDRESS"
#: Bytes for Ray's store of objects, of which outcomes need little; Ray would take a third of the memory.
_STORE = 100 << 20


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Give the module `ray`, connected: where the caller has not done so, to `address`, or to a Ray started here.

    What the caller has connected stays so; else the connection ends with the block. Raises UsageError where Ray is not
    installed, or no cluster answers.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise normbench.UsageError("the executor ray needs Ray: pip install 'normbench[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get(ADDRESS, "") or "local"
    with _on_loopback() if address == "local" else nullcontext():
        _connect(ray, address)
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have a Ray that is started in this block listen on loopback alone; by itself it would on every interface."""
    constants: Any = importlib.import_module("ray._private.ray_constants")
    cluster, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = cluster


def _connect(ray: Any, address: str) -> None:
    """Connect to a cluster, or start one for "local"; Ray's answer to SIGTERM is undone."""
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    answer = signal.getsignal(signal.SIGTERM)
    try:
        if address == "local":
            own = {"include_dashboard": False, "num_cpus": environment.cores(), "object_store_memory": _STORE}
            try:
                ray.init(address, **own, **quiet)
            except Exception as error:  # what Ray raises where it does not come up has no class of its own
                raise normbench.UsageError(f"no Ray can be started here: {_last_line(str(error))}") from None
            return
        _knock(address)
        try:
            ray.init(address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _refused(address, _last_line(str(error))) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, answer)


def _knock(address: str) -> None:
    """Raise UsageError where no cluster answers at an address. Ray itself would try for minutes."""
    if address == "auto":  # Ray looks for one among the processes of this machine
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise normbench.UsageError(f"address {address}: an address is auto, or HOST:PORT of a cluster's head")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
        command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=3 * PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise _refused(address, "what listens there is not Ray") from None
    except (OSError, OverflowError) as error:
        raise _refused(address, getattr(error, "strerror", None) or str(error)) from None
    if asked.returncode:
        raise _refused(address, _last_line(asked.stderr))


def _refused(address: str, reason: str) -> normbench.UsageError:
    return normbench.UsageError(f"address {address}: no Ray cluster to be had there: {reason}")


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it gave no reason")
