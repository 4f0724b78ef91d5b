"""
Commands in processes of their own that start fast: they are forked from one that has imported what they need.

To start Python and to import what a command needs takes several times as long as most commands. Here one process
imports that once. It has one thread and has run nothing, so that its fork is what ``python -m partwise`` is when its
imports are done, with its own arguments, environment, directory and streams, and ends as an interpreter does, but for
the modules. Commands with another terminal, other signals or another Python are for `subprocess`.

`start_code` does the same for ``python -c``. Its processes are forked from another parent, which imports what they
name, so that commands find no more modules imported than those below.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import os
import pickle
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

_MESSAGE_MAX = 200_000

_ENVIRONMENT = dict(os.environ)

#: What commands import when they run, if it is installed. The packages of the storages import most of their modules on
#: first use.
_MODULES = (
    "awscrt.checksums",
    "cattrs",
    "concurrent.futures",
    "encodings.idna",
    "mimetypes",
    "partwise.backends.local",
    "partwise.backends.oss.backend",
    "partwise.backends.oss.urls",
    "partwise.backends.s3.backend",
    "partwise.backends.s3.probe",
    "partwise.backends.s3.urls",
    "partwise.cli.abort",
    "partwise.cli.app",
    "partwise.cli.demo",
    "partwise.cli.gc",
    "partwise.cli.probe",
    "partwise.cli.progress_bar",
    "partwise.cli.progress_display",
    "partwise.cli.serve",
    "partwise.cli.status",
    "partwise.cli.upload",
    "partwise.cli.uploads",
    "partwise.cli.verify",
    "partwise.server",
    "partwise.stores.file",
    "platformdirs",
)


class _Parent:
    """The process that commands are forked from."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *modules],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Not that of the first test, which is removed: coverage starts in each fork, and needs one.
                cwd=Path(__file__).parent,
                env=_ENVIRONMENT,
            )
        self._ended: dict[int, int] = {}
        self._lock = threading.RLock()
        atexit.register(self.close)

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.wait()

    def start(self, command: dict[str, Any], streams: list[int]) -> int:
        """Start a command, and return its process id."""
        with self._lock:
            socket.send_fds(self._socket, [pickle.dumps(command)], streams)
            while (pid := self._receive()) is None:
                pass
        return pid

    def returncode(self, pid: int, seconds: float | None) -> int | None:
        """Return the exit code of a process that ends within some seconds, otherwise None."""
        limit = None if seconds is None else time.monotonic() + seconds
        while True:
            with self._lock:
                while select.select([self._socket], [], [], 0)[0]:
                    self._receive()
                if pid in self._ended:
                    return self._ended.pop(pid)
            left = None if limit is None else limit - time.monotonic()
            if left is not None and left <= 0:
                return None
            # Another thread may read the message that ends this process.
            select.select([self._socket], [], [], 0.1 if left is None else min(left, 0.1))

    def _receive(self) -> int | None:
        """Read one message: the process id of the command that was started, or the end of another."""
        data = self._socket.recv(_MESSAGE_MAX)
        assert data, "the process that commands are forked from has ended"
        kind, pid, status = pickle.loads(data)
        if kind == "started":
            self._ended.pop(pid, None)  # of an earlier process, for whose end nothing has waited
            return int(pid)
        self._ended[pid] = os.waitstatus_to_exitcode(status)
        return None


@cache
def _parent(_: int, modules: tuple[str, ...] = _MODULES) -> _Parent:
    """Return the parent of the commands of this process, whose id is the first argument."""
    return _Parent(modules)


def can_start(options: dict[str, Any]) -> bool:
    """Return whether a command with these options of `subprocess.Popen` would run here as it does there."""
    known = {"stdin", "stdout", "stderr", "cwd", "env", "text", "encoding", "errors"}
    same = _read_at_start(options.get("env") or os.environ) == _read_at_start(_ENVIRONMENT)
    return hasattr(os, "fork") and not options.keys() - known and same


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that an interpreter reads when it starts."""
    return {name: value for name, value in environment.items() if name.startswith(("PYTHON", "LC_", "LANG", "TZ"))}


class ForkedCommand(subprocess.Popen[Any]):
    """
    A command of partwise that runs: `subprocess.Popen` without a new interpreter.

    Args:
        arguments: the command line without the program's name.
        program: what the name of the program is, as ``sys.argv[0]``; by default that of the module.
        script: a Python file to run in place of the command line.
        options: `stdin`, `stdout`, `stderr`, `cwd`, `env`, and those for text.
    """

    def __init__(
        self, arguments: list[str], *, program: str | None = None, script: str | None = None, **options: Any
    ) -> None:
        self._command, self._parent = {"program": program, "script": script}, _parent(os.getpid())
        super().__init__(arguments, **options)

    def _execute_child(self, args: Any, *more: Any) -> None:
        """Send the arguments and the streams to the parent, in place of the start of a program."""
        cwd, env, pipes = more[4], more[5], more[9:15]
        command = {
            "arguments": [os.fspath(argument) for argument in args],
            "cwd": os.fspath(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            **self._command,
        }
        streams = [number if fd == -1 else fd for number, fd in enumerate((pipes[0], pipes[3], pipes[5]))]
        try:
            self.pid = self._parent.start(command, streams)
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]  # not in the type stubs

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._child_created:
            self.returncode = self._parent.returncode(self.pid, 0)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            self.returncode = self._parent.returncode(self.pid, timeout)
        if self.returncode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode


class _ForkedCode(ForkedCommand):
    """
    Code that runs: ``python -c`` without a new interpreter.

    Args:
        code: the code.
        arguments: those of the code.
        modules: what the parent imports before the fork, once for all processes.
        options: as of a command.
    """

    def __init__(self, code: str, arguments: list[str], modules: tuple[str, ...], **options: Any) -> None:
        self._command, self._parent = {"code": code, "modules": modules}, _parent(os.getpid(), ())
        subprocess.Popen.__init__(self, arguments, **options)


def start_code(
    code: str, *arguments: str | os.PathLike[str], modules: tuple[str, ...] = (), **options: Any
) -> subprocess.Popen[Any]:
    """
    Start code in another process, by a fork if that does the same.

    Args:
        code: the code.
        arguments: its arguments, which are in ``sys.argv[1:]``.
        modules: what it imports that takes long.
        options: of `subprocess.Popen`.
    """
    if can_start(options):
        return _ForkedCode(code, [os.fspath(argument) for argument in arguments], modules, **options)
    return subprocess.Popen([sys.executable, "-c", code, *arguments], **options)


def start_script(script: str, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
    """Start a Python file, as ``python FILE`` does."""
    if can_start(options):
        return ForkedCommand([*arguments], script=script, **options)
    return subprocess.Popen([sys.executable, script, *arguments], **options)


def start_claimant(code: str, argument: str, modules: tuple[str, ...] = ("partwise.stores.sqlite",)) -> Any:
    """Start the process in which the kit claims a checkpoint: for `store_claims._start_python`."""
    return start_code(code, argument, modules=modules, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


# --- the parent ------------------------------------------------------------------------------------------------------


def _serve(tests: socket.socket) -> dict[str, Any]:
    """
    Fork a process for each command that is received, and report its end.

    Returns:
        the command, in the process that is to run it.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    watched: list[Any] = [tests, woken]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if woken in ready:
            os.read(woken, 1)
            with contextlib.suppress(ChildProcessError):
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    tests.send(pickle.dumps(("ended", *ended)))
        if tests not in ready:
            continue
        data, streams, _, _ = socket.recv_fds(tests, _MESSAGE_MAX, 3)
        if not data:
            os._exit(0)
        command: dict[str, Any] = pickle.loads(data)
        _import(command.get("modules", ()))
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            tests.close()
            os.close(woken)
            os.close(wake)
            for number, stream in enumerate(streams):
                os.dup2(stream, number, inheritable=True)
                os.close(stream)
            return command
        for stream in streams:
            os.close(stream)
        tests.send(pickle.dumps(("started", pid, 0)))


#: The modules that were imported before any command was forked, by name.
_kept: dict[str, Any] = {}


def _keep_modules() -> None:
    """
    Take the modules that were imported early out of what is cleared when a command ends.

    To clear them all takes several times as long as most commands, because each process does it in memory of its own.
    Everything else ends as it does in an interpreter: threads, streams, and what the command has made.
    """
    for name in _kept.keys() - {"__main__", "builtins", "sys"}:
        sys.modules.pop(name, None)


def _import(modules: Iterable[str]) -> None:
    """Import those that are missing, and keep the garbage collector of every child away from what is shared."""
    missing = [module for module in modules if module not in sys.modules]
    for module in missing:
        with contextlib.suppress(ImportError):  # the import in the child fails, too
            importlib.import_module(module)
    if missing:
        _kept.update(sys.modules)
        _kept[""] = _kept  # a cycle, which is not collected once it is frozen
        gc.collect()
        gc.freeze()


def _become(command: dict[str, Any]) -> None:
    """Take over the arguments, the environment, the directory and the streams of a command."""
    os.environ.clear()
    os.environ.update(command["env"])
    os.chdir(command["cwd"])
    stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0)), errors=sys.stdin.errors)
    setattr(sys, "stdin", stdin)  # noqa: B010  # as the others
    setattr(sys, "__stdin__", stdin)  # noqa: B010
    for number, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        raw = io.FileIO(number, "w")
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw), errors=before.errors, line_buffering=number == 2 or raw.isatty()
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    program = command.get("script") or command.get("program")
    sys.argv = ["-c" if "code" in command else program or "partwise", *command["arguments"]]
    sys.path.insert(0, str(Path(program).parent) if program else command["cwd"])


def _run(command: dict[str, Any]) -> None:
    """Run a command, or code in a new module ``__main__``."""
    if "code" in command:
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(command["code"], "<string>", "exec"), vars(main))
    elif command["script"] is not None:
        runpy.run_path(command["script"], run_name="__main__")
    elif command["program"] is None:
        runpy.run_module("partwise", run_name="__main__", alter_sys=True)
    else:
        sys.exit(importlib.import_module("partwise.cli").main())


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _tests:
        _modules = sys.argv[2:]
        del sys.path[0]  # the directory of this file, which has no modules of the commands
        atexit.register(_keep_modules)  # the first, and so called as the last
        _import(_modules)
        _to_run = _serve(_tests)
    _become(_to_run)
    _run(_to_run)
