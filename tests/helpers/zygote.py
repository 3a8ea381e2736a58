"""Python processes forked from one that has loaded torch and Lightning: a fresh one takes 6 s of CPU to train at all.

`Popen` and `run` are used as subprocess's are, `command` writes a program for shells; after `fork_servers` a process
has its workers forked too. What is forked begins as a fresh process would, but for the modules that are there; so do
the workers that it starts. Where a start itself is tested, or what is imported, subprocess starts a fresh one.

This file is also the program of the process that is forked, and of what a shell runs.
"""

import atexit
import fcntl
import functools
import gc
import importlib
import importlib.util
import io
import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from types import ModuleType

#: Bytes of a number, as it is sent.
SIZE = 8
STREAMS = (0, 1, 2)
#: The most descriptors that are sent at once.
MOST = 8
#: The environment variable that says where the process that is forked listens, once there is one.
SHARED = "NORMBENCH_TEST_ZYGOTE"
LOADED = (
    *("normbench.cli.main", "normbench.cli.commands.run", "normbench.cli.commands.compare", "normbench.train"),
    *("normbench_plugins", "normbench_suites", "sklearn.datasets"),
)


class Popen(subprocess.Popen):
    """A process forked instead of started: `args` are a Python and what follows it, `-c`, `-m` or a file first."""

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *more):
        ends = more[3:9]
        session = more[14]
        assert preexec_fn is None
        assert not pass_fds
        given = [end if end != -1 else stream for end, stream in zip((ends[0], *ends[3::2]), STREAMS, strict=True)]
        env = os.environ if env is None else env
        self._status = _ask(_path(), args[1:], env, cwd, session, dict(zip(STREAMS, given, strict=True)))
        self.pid = _receive(self._status)
        self._child_created = True
        self._close_pipe_fds(*ends)

    def _internal_poll(self, _deadstate=None):
        with suppress(subprocess.TimeoutExpired):
            self._wait(0)
        return self.returncode

    def _wait(self, timeout):
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = _receive(self._status)
            self._status.close()
        return self.returncode


def run(arguments, **options):
    """Run a process to its end, and return how it ended and what it printed."""
    with Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def command(file, *words):
    """Write a program that is `python` with these words and its own arguments, forked; it needs this process."""
    file.write_text(f'#!/bin/sh\nexec {shlex.join(_asking(STREAMS, words))} "$@"\n', encoding="utf-8")
    file.chmod(0o755)


def share():
    """Start the process that is forked now, so that all that this one starts use it as well."""
    _path()


def fork_servers():
    """Have the servers from which multiprocessing forks this process's workers be forked, where it would start them.

    Its child is a process that asks for the server, and ends as that does.
    """
    from multiprocessing import util

    fresh = util.spawnv_passfds

    def asked(program, args, passfds):
        if "multiprocessing.forkserver" not in args[-1]:
            return fresh(program, args, passfds)
        return fresh(program, _asking((*STREAMS, *passfds), args[-2:]), passfds)

    util.spawnv_passfds = asked


def _asking(names, words):
    """Return the command that asks for a process with these of its own descriptors, and these words for Python."""
    return [sys.executable, "-SE", __file__, "ask", _path(), ",".join(map(str, names)), *words]


@functools.cache
def _path():
    """Return where the process that is forked listens; where there is none yet, one is started, to end with this."""
    if SHARED in os.environ:
        return os.environ[SHARED]
    folder = tempfile.mkdtemp(prefix="zygote-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = f"{folder}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        program = [sys.executable, __file__, "serve", str(listener.fileno())]
        # It ends when the pipe that is its stdin does.
        process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[listener.fileno()]
        )
    atexit.register(process.stdin.close)
    os.environ[SHARED] = path
    return path


def _ask(path, words, env, cwd, session, descriptors):
    """Ask for a process with these descriptors, each under the number that it has there.

    The connection then gives its number, and at its end its status.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    told = [[os.fspath(word) for word in words], dict(env), os.fspath(cwd or os.getcwd()), session, nice]
    text = json.dumps([*told, list(descriptors)]).encode()
    socket.send_fds(connection, [len(text).to_bytes(SIZE, "big")], list(descriptors.values()))
    connection.sendall(text)
    return connection


def _send(connection, number):
    with suppress(OSError):  # whoever asked is gone
        connection.sendall(number.to_bytes(SIZE, "big", signed=True))


def _receive(connection):
    received = connection.recv(SIZE, socket.MSG_WAITALL)
    assert len(received) == SIZE, "the process that is forked is gone"
    return int.from_bytes(received, "big", signed=True)


def _ask_for_another(path, names, *words):
    """Be the process that a shell sees, or whoever has workers: end as what was forked does."""
    descriptors = {number: number for number in map(int, names.split(","))}
    connection = _ask(path, words, os.environ, None, False, descriptors)
    process = _receive(connection)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os.kill(process, number))
    status = _receive(connection)
    os._exit(status if status >= 0 else 128 - status)


def _serve(listener):
    """Fork a process whenever one is asked for; return in that, with what it is to be."""
    for name in LOADED:
        importlib.import_module(name)
    importlib.import_module("forked_ranks").offer()
    gc.freeze()  # else a collection copies all of it into each process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if 0 in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if not os.fork():
            break
        connection.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    # One process waits for the other, and says how it ended.
    length, descriptors, _, _ = socket.recv_fds(connection, SIZE, MOST)
    asked = json.loads(connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
    process = os.fork()
    if not process:
        return asked, descriptors
    for descriptor in descriptors:
        os.close(descriptor)
    _send(connection, process)
    _, status = os.waitpid(process, 0)
    _send(connection, os.waitstatus_to_exitcode(status))
    os._exit(0)


def _begin(asked, descriptors):
    """Become a fresh process: its descriptors and no other, its own environment, path, folder, signals and priority."""
    words, environ, folder, session, nice, names = asked
    if session:
        os.setsid()
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    _have(descriptors, names)
    old = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    new = [part for part in environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.path[:] = [*new, *(part for part in sys.path[1:] if part not in old)]
    sys.dont_write_bytecode = bool(environ.get("PYTHONDONTWRITEBYTECODE"))
    tempfile.tempdir = None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _open_streams()
    fork_servers()
    if len(names) == len(STREAMS):  # a server itself needs none
        _keep_a_server()
    return words


def _have(descriptors, names, kept=()):
    """Have descriptors under these numbers, those that are kept, and no other."""
    spare = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, max(names) + 1) for descriptor in descriptors]
    for name, descriptor in zip(names, spare, strict=True):
        os.dup2(descriptor, name)
    for descriptor in map(int, os.listdir("/dev/fd")):
        if descriptor not in (*names, *kept):
            with suppress(OSError):  # that of the listing
                os.close(descriptor)


def _open_streams():
    ends = (
        io.BufferedReader(io.FileIO(0, closefd=False)),
        *(io.BufferedWriter(io.FileIO(i, "w", closefd=False)) for i in (1, 2)),
    )
    sys.stdin, sys.stdout = (io.TextIOWrapper(end, "utf-8") for end in ends[:2])
    sys.stderr = io.TextIOWrapper(ends[2], "utf-8", "backslashreplace", line_buffering=True)


def _keep_a_server():
    """Fork, and keep for it, the server from which multiprocessing forks workers: a child as one that it starts is."""
    from multiprocessing import util

    ours, its = socket.socketpair()
    server = os.fork()
    if not server:
        ours.close()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        told, descriptors, _, _ = socket.recv_fds(its, 1 << 16, MOST)
        if not told:
            os._exit(0)
        code, names, environ = json.loads(told)
        os.environ.clear()
        os.environ.update(environ)
        # The code names descriptors by the numbers that they have where it was written.
        _have(descriptors, names, STREAMS)
        try:
            _execute(code, "-c")
        finally:
            os._exit(0)
    its.close()
    another = util.spawnv_passfds

    def forked(path, args, passfds):
        if ours.fileno() == -1 or "multiprocessing.forkserver" not in args[-1]:
            return another(path, args, passfds)
        told = json.dumps([args[-1], list(passfds), dict(os.environ)]).encode()
        socket.send_fds(ours, [told], list(passfds))
        ours.close()
        return server

    util.spawnv_passfds = forked


def _execute(code, file, **names):
    """Run code as the main module."""
    main = ModuleType("__main__")
    main.__dict__.update(names)
    sys.modules["__main__"] = main
    exec(compile(code, file, "exec") if isinstance(code, str) else code, main.__dict__)


def _main(words):
    """Run a string, a module or a file, whichever these arguments of Python name."""
    first, *rest = words
    if first == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *rest[1:]]
        _execute(rest[0], "<string>")
    elif first == "-m":
        sys.path.insert(0, os.getcwd())
        spec = importlib.util.find_spec(rest[0])
        sys.argv = [spec.origin, *rest[1:]]
        _execute(spec.loader.get_code(rest[0]), spec.origin, __file__=spec.origin, __package__=spec.parent)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(first)))
        sys.argv = words
        _execute(Path(first).read_text(encoding="utf-8"), first, __file__=first)


def _run(words):
    """Do as Python does with these arguments, and end; without taking what is loaded apart, which takes seconds."""
    status = 0
    try:
        _main(words)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    for end in (threading._shutdown, atexit._run_exitfuncs):
        try:
            end()
        except BaseException:  # Python says so too, and keeps the status
            traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        _ask_for_another(*sys.argv[2:])
    _run(_begin(*_serve(socket.socket(fileno=int(sys.argv[2])))))
