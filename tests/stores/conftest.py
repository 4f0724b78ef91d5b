"""Fixtures of the tests of the stores: a checkpoint, its parts, and a store of each kind."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from attrs import define
from filelock import FileLock

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.model import MIB, UploadedPart
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore

SOURCE = "backup.tar"


def part_of(number: int, version: int = 1) -> UploadedPart:
    return UploadedPart(number, 8 * MIB, f"ETAG-{number}-{version}", 2**64 - number if number % 2 else None)


def checkpoint_of(key: str = "exampledir/backup.tar", source: str = "/data/backup.tar", **more: object) -> Checkpoint:
    values: dict[str, object] = {"upload_id": "UPLOAD", "created": 1700000000.25, **more}
    return Checkpoint("oss://examplebucket", key, source, Fingerprint(100 * MIB, 1), 8 * MIB, **values)  # type: ignore[arg-type]  # a helper for tests


@define
class Form:
    """
    A kind of store.

    Args:
        name: shown in the test's name.
        open: returns another handle on the same checkpoints.
    """

    name: str
    open: Callable[[], Any]


FORMS = ("memory", "default directory", "directory", "explicit file", "beside source", "sqlite")


def make_form(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Form:
    match name:
        case "memory":
            return Form(name, MemoryCheckpointStore().handle)
        case "default directory":
            monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: tmp_path / "state" / "partwise")
            return Form(name, FileCheckpointStore)
        case "directory":
            return Form(name, lambda: FileCheckpointStore(tmp_path / "made" / "when needed"))
        case "explicit file":
            return Form(name, lambda: FileCheckpointStore.for_file(tmp_path / "state.ucp"))
        case "beside source":
            source = str(tmp_path / SOURCE)
            return Form(name, lambda: FileCheckpointStore.beside_source()(source))
        case "sqlite":
            return Form(name, lambda: SQLiteCheckpointStore(tmp_path / "uploads.db"))
    raise AssertionError(name)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Form:
    return make_form(request.param, tmp_path, monkeypatch)


ROOMY = [name for name in FORMS if name not in ("explicit file", "beside source")]


@pytest.fixture(params=ROOMY)
def roomy(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Form:
    """A kind of store that can hold many checkpoints."""
    return make_form(request.param, tmp_path, monkeypatch)


@pytest.fixture
def all_roomy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Form]:
    """All of these, for values that take longer to draw than to store."""
    return [make_form(name, tmp_path, monkeypatch) for name in ROOMY]


@pytest.fixture
def part() -> Callable[..., UploadedPart]:
    return part_of


@pytest.fixture
def checkpoint() -> Callable[..., Checkpoint]:
    return checkpoint_of


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[FileCheckpointStore]:
    with FileCheckpointStore(tmp_path) as store:
        yield store


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SQLiteCheckpointStore]:
    with SQLiteCheckpointStore(tmp_path / "uploads.db") as store:
        yield store


# --- PostgreSQL ------------------------------------------------------------------------------------------------------

PASSWORD = "pass word/of:this@test%"

# If the tests are killed, its input ends: then it ends the server, whose process id is the first argument, and removes
# its directory.
WATCH = """
import os, shutil, signal, sys, time
sys.stdin.read()
os.kill(int(sys.argv[1]), signal.SIGQUIT)
time.sleep(3)
shutil.rmtree(sys.argv[2], ignore_errors=True)
"""


class PostgresServer:
    """
    A PostgreSQL server of these tests, in a directory that is removed at the end.

    It listens on a Unix socket, where it trusts everyone who can reach it, and on a port of 127.0.0.1, where it wants
    the password. It refuses to run as root, and runs as another user then.

    Args:
        binaries: the directory of its programs.
        template: where the first server of a run leaves a copy of its new data for the others, which takes less time
            than to make it. Without it, each makes its own.
    """

    password = PASSWORD

    def __init__(self, binaries: Path, template: Path | None = None) -> None:
        self._binaries = binaries
        self._user = ("postgres" if _user_exists("postgres") else "nobody") if os.geteuid() == 0 else None
        self.directory = Path(tempfile.mkdtemp(prefix="partwise-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._session: Any = None
        self._schema = ""  # of that session
        self.port = 0
        if self._user is not None:
            shutil.chown(self.directory, self._user)
        self._make_data(template)

    def start(self) -> None:
        """Start it, and wait until it accepts connections; the port is the same as before."""
        for _ in range(5):
            if not self.port:
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    self.port = free.getsockname()[1]
            settings = {
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": str(self.directory),
                "fsync": "off",
                "max_connections": "40",
                "shared_buffers": "16MB",
                "log_min_messages": "fatal",
                "autovacuum": "off",
                "wal_level": "minimal",
                "max_wal_senders": "0",
                "full_page_writes": "off",
            }
            command = [self._binaries / "postgres", "-D", self.directory / "data", "-p", str(self.port)]
            command += [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
            with (self.directory / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    command, cwd=self.directory, stdout=log, stderr=log, **self._identity()
                )
            self._watch = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", WATCH, str(self._process.pid), self.directory],
                stdin=subprocess.PIPE,
                start_new_session=True,  # not killed with the group of the tests
            )
            if self._accepts_connections():
                return
            self._watch.kill()
            self._watch.communicate()
            self.port = 0  # perhaps another program has taken it
        raise AssertionError(f"PostgreSQL does not start: {(self.directory / 'log').read_text()}")

    def stop(self) -> None:
        """End all sessions, and the server."""
        if self._session is not None:
            self._session.close()
        if self._process is not None:
            self._watch.kill()
            self._watch.communicate()
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Stop all its processes where they are: connections stay open, and nothing is answered."""
        assert self._process is not None
        processes = [self._process.pid, *(pid for (pid,) in self.ask("SELECT pid FROM pg_stat_activity"))]
        self._signal(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(processes, signal.SIGCONT)

    def url(
        self, database: str = "postgres", *, schema: str = "", tcp: bool = False, port: int = 0, more: str = ""
    ) -> str:
        """Return the URL of a database, on its socket or on its port."""
        parameters = [f"options={quote(f'-csearch_path={schema}', safe='')}"] if schema else []
        parameters += [more] if more else []
        place = f"127.0.0.1:{port or self.port}" if tcp else ""
        parameters += [] if tcp else [f"host={self.directory}", f"port={self.port}"]
        query = f"?{'&'.join(parameters)}" if parameters else ""
        return f"postgresql://partwise:{quote(self.password, safe='')}@{place}/{database}{query}"

    def ask(self, statement: str, *values: object, schema: str = "") -> list[tuple[Any, ...]]:
        """Execute a statement, not through the store. All of them share a session: to begin one takes long."""
        import psycopg

        if self._session is None or self._session.closed:
            self._session, self._schema = psycopg.connect(self.url(), autocommit=True), ""
        if self._schema != schema:
            self._session.execute("SELECT set_config('search_path', %s, false)", [schema or '"$user", public'])
            self._schema = schema
        cursor = self._session.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []

    def end_sessions(self, where: str = "application_name = 'partwise'") -> int:
        """End the sessions of stores, as an administrator or a fail-over does."""
        ended = self.ask(f"SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE {where}")
        end = time.monotonic() + 5
        for process, _ in ended:  # the server itself looks every tenth of a second
            while _lives(process) and time.monotonic() < end:
                time.sleep(0.001)
        return len(ended)

    @contextmanager
    def new_schema(self) -> Iterator[str]:
        schema = f"test_{secrets.token_hex(6)}"
        self.ask(f"CREATE SCHEMA {schema}")
        try:
            yield schema
        finally:
            self.ask(f"DROP SCHEMA {schema} CASCADE")

    @staticmethod
    def _signal(processes: list[int], number: int) -> None:
        for process in processes:
            with suppress(ProcessLookupError):  # a session that has ended meanwhile
                os.kill(process, number)

    def _accepts_connections(self) -> bool:
        import psycopg

        assert self._process is not None
        end = time.monotonic() + 60
        while time.monotonic() < end and self._process.poll() is None:
            try:
                self.ask("SELECT 1")
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return True
        return False

    def _make_data(self, template: Path | None) -> None:
        data = self.directory / "data"
        if template is None:
            self._initialise(data)
            return
        with FileLock(f"{template}.lock"):
            if template.exists():
                subprocess.run(["cp", "-pR", template, data], check=True)
            else:
                self._initialise(data)
                subprocess.run(["cp", "-pR", data, template], check=True)

    def _initialise(self, data: Path) -> None:
        password = self.directory / "password"
        password.write_text(PASSWORD)
        if self._user is not None:
            shutil.chown(password, self._user)
        self._run(
            *("initdb", "--no-sync", "--no-locale", "--encoding=UTF8", "--username=partwise", "--wal-segsize=1"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}"),
            str(data),
        )

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._binaries / program, *arguments]
        done = subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, check=False, **self._identity()
        )
        assert done.returncode == 0, done.stderr

    def _identity(self) -> dict[str, Any]:
        return {} if self._user is None else {"user": self._user, "group": self._user, "extra_groups": []}


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _user_exists(name: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _postgres_binaries() -> Path | None:
    """Return the directory of the programs of the server. Debian has it outside of the PATH."""
    places = [Path(found).parent] if (found := shutil.which("initdb")) else []
    if (pg_config := shutil.which("pg_config")) is not None:
        places.append(Path(subprocess.check_output([pg_config, "--bindir"], text=True).strip()))
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: -int(place.parent.name))
    return next((place for place in places if (place / "postgres").exists() and (place / "initdb").exists()), None)


@pytest.fixture(scope="session")
def running_postgres(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresServer]:
    binaries = _postgres_binaries()
    if binaries is None:
        missing = "PostgreSQL is not installed; on Debian: apt-get install postgresql"
        if os.environ.get("PARTWISE_TESTS_NEED_POSTGRES"):
            pytest.fail(f"{missing}. Here its tests have to run")
        pytest.skip(missing)
    # The processes that run the tests have directories in one that is removed at the end of the run.
    shared = hasattr(request.config, "workerinput")
    server = PostgresServer(binaries, tmp_path_factory.getbasetemp().parent / "postgres" if shared else None)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres(running_postgres: PostgresServer) -> PostgresServer:
    """A running server, with no session but those of the test."""
    return running_postgres
