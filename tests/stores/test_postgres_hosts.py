"""
Uploads of two hosts over one PostgreSQL database, with a partition between them.

The first host loses its session while it is alive. The second one takes over: it resumes or starts again, and finishes
or stops. Then the first one goes on.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import forked
import pytest
from shared.postgres_reads import ReadsInOneSession

from partwise import TransferConfig, Uploader
from partwise.backends.memory import MemoryBackend
from partwise.errors import AccessDenied, CheckpointBusy, PartwiseError
from partwise.model import KIB, PartLimits
from partwise.sources import BytesSource
from partwise.stores.postgres import PostgresCheckpointStore
from partwise.testing import OSSServer
from partwise.testing.fakes import pseudo_random_bytes

if TYPE_CHECKING:
    from conftest import PostgresServer

PART = 8
SAME = pseudo_random_bytes(4 * PART)
CHANGED = pseudo_random_bytes(3 * PART + 1)
CONFIG = TransferConfig(part_size=PART, multipart_threshold=PART, concurrency=1, retry_base=0.01, retry_max=0.02)

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
stops = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="the system has no SIGSTOP")


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.new_schema() as schema:
        yield postgres.url(schema=schema)


@pytest.fixture
def reader(url: str) -> Iterator[ReadsInOneSession]:
    """The store of an observer."""
    with ReadsInOneSession(url) as reader:
        yield reader


def soon(call: Callable[[], object]) -> None:
    """Call again while the server has not noticed yet that a process has ended."""
    end = time.monotonic() + 10
    while True:
        try:
            call()
        except CheckpointBusy:
            assert time.monotonic() < end
            time.sleep(0.005)
        else:
            return


# --- at every instant ------------------------------------------------------------------------------------------------

_WATCHED = (
    *("initiate_upload", "upload_part", "list_parts", "complete_upload", "abort_upload", "put_object", "head_object"),
    *("load", "save", "append_part", "delete", "check_claim"),
)


class Instants:
    """
    Calls `act` once, before the call of the given number.

    Args:
        at: the number, counting from 1.
        act: what happens then.
    """

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self.calls = 0
        self.has_acted = False
        self._at, self._act = at, act

    def pass_one(self) -> None:
        self.calls += 1
        if self.calls == self._at:
            self.has_acted = True
            self._act()


class Watched:
    """
    A backend or store of a host.

    Args:
        real: gets the calls.
        host: the name of the host in the log.
        log: gets a line for each call that has succeeded: host, operation, upload id.
        before: called before each call, with the operation.
    """

    def __init__(self, real: Any, host: str, log: list[tuple[str, ...]], before: Callable[[str], None]) -> None:
        self._real, self._host, self._log, self._before = real, host, log, before

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name not in _WATCHED:
            return found

        def call(*arguments: Any) -> Any:
            self._before(name)
            result = found(*arguments)
            self._log.append((self._host, name, str(arguments[1]) if len(arguments) > 1 else ""))
            return result

        return call


class Hosts:
    """Two hosts with one storage and one database."""

    def __init__(self, postgres: PostgresServer, url: str, reader: PostgresCheckpointStore) -> None:
        self.postgres = postgres
        self.url = url
        self.reader = reader
        self.storage = MemoryBackend(limits=PartLimits(min_part_size=PART, max_part_size=1000, max_parts=100))
        self.log: list[tuple[str, ...]] = []

    def upload(self, host: str, data: bytes, before: Callable[[str], None]) -> str:
        """Upload as a host does; return the outcome."""
        backend = Watched(self.storage.handle(), host, self.log, before)
        with PostgresCheckpointStore(self.url) as store:
            uploader = Uploader(backend, store=Watched(store, host, self.log, before), config=CONFIG)
            try:
                uploader.upload(BytesSource(data), "key")
            except PartwiseError as error:
                return type(error).__name__
        return "done"

    def upload_when_free(self, host: str, data: bytes) -> str:
        """
        Upload without a disturbance, and return the outcome.

        A host that has lost its claim closes its session and does not wait for the server, which may hold the claim for
        a moment longer.
        """
        end = time.monotonic() + 10
        while (outcome := self.upload(host, data, lambda _: None)) == "CheckpointBusy" and time.monotonic() < end:
            time.sleep(0.005)
        return outcome

    def checkpoints(self) -> list[Any]:
        return list(self.reader.scan())

    def completed(self, host: str = "") -> list[tuple[str, ...]]:
        return [line for line in self.log if line[1] == "complete_upload" and line[0].startswith(host)]


def fail_at_the_second_part() -> Callable[[str], None]:
    parts: list[str] = []

    def before(operation: str) -> None:
        if operation == "upload_part":
            parts.append(operation)
            if len(parts) == 2:
                raise AccessDenied("the second host stops")

    return before


@pytest.mark.parametrize("stops_there", [False, True], ids=["finishes", "stops"])
@pytest.mark.parametrize("theirs", [SAME, CHANGED], ids=["same source", "changed source"])
def test_a_host_that_has_lost_its_claim_does_no_harm_whenever_it_goes_on(
    postgres, url, reader, theirs, stops_there
) -> None:
    outcomes = set()
    at = 0
    while True:
        at += 1
        hosts = Hosts(postgres, url, reader)
        left: list[Any] = []

        def take_over(hosts: Hosts = hosts, left: list[Any] = left) -> None:
            assert hosts.postgres.end_sessions() >= 1
            before = fail_at_the_second_part() if stops_there else lambda _: None
            outcome = hosts.upload("second", theirs, before)
            assert outcome in (("done", "UploadFailed") if stops_there else ("done",))
            left += [len(hosts.log), hosts.checkpoints(), outcome]

        instants = Instants(at, take_over)
        outcome = hosts.upload("first", SAME, lambda _, instants=instants: instants.pass_one())
        if not instants.has_acted:
            break
        outcomes.add(outcome)
        detail = f"at call {at}: {outcome}, {hosts.log}"
        then, checkpoints, theirs_ended = left
        since = hosts.log[then:]
        # The first host, which is cut off, has ended by now, and it has aborted and deleted nothing.
        assert not {line[1] for line in since} & {"abort_upload", "put_object", "delete"}, detail
        assert hosts.checkpoints() == checkpoints, detail
        completed_in_flight = [line for line in since if line[1] == "complete_upload"]
        assert len(completed_in_flight) <= (since[:1] == completed_in_flight[:1]), detail
        # It may find that its upload was completed by the other host: then the object is what it was to store.
        assert outcome == "ClaimLost" or hosts.completed("first") or hosts.storage.read("key") == SAME, detail
        if theirs_ended != "done":
            assert hosts.upload_when_free("third", theirs) == "done", detail
        assert hosts.checkpoints() == [], detail
        assert hosts.storage.read("key") == theirs, detail
        uploads = [line[2] for line in hosts.completed()]
        assert len(uploads) == len(set(uploads)), detail
        if theirs == SAME:
            assert len(uploads) == 1, detail
        else:
            assert [line[0] for line in hosts.completed()][-1] != "first", detail
    assert at > 15
    assert "ClaimLost" in outcomes


@pytest.mark.parametrize("data", [SAME, SAME[: PART // 2]], ids=["parts", "one piece"])
def test_an_upload_goes_on_whenever_its_session_ends(postgres, url, reader, data) -> None:
    at = 0
    while True:
        at += 1
        hosts = Hosts(postgres, url, reader)
        recorded: list[int] = []

        def before(operation: str, recorded: list[int] = recorded, hosts: Hosts = hosts) -> None:
            if operation == "complete_upload":
                recorded.extend(len(found.parts) for found in hosts.checkpoints())

        instants = Instants(at, lambda hosts=hosts: hosts.postgres.end_sessions())
        outcome = hosts.upload(
            "first", data, lambda name, instants=instants, before=before: (instants.pass_one(), before(name))
        )
        assert outcome == "done", f"at call {at}: {hosts.log}"
        if not instants.has_acted:
            break
        assert hosts.storage.read("key") == data
        assert hosts.checkpoints() == []
        assert recorded == ([4] if data == SAME else []), "every part was recorded before the object was created"
        assert len(hosts.completed()) == (data == SAME)
    assert at > 5


def test_an_upload_goes_on_after_a_restart_of_the_server_that_takes_two_seconds(postgres, url, caplog) -> None:
    hosts = Hosts(postgres, url, PostgresCheckpointStore(url))
    data = pseudo_random_bytes(30 * PART)
    restarted = threading.Event()

    def restart() -> None:
        try:
            postgres.stop()
            time.sleep(2)
        finally:
            postgres.start()
        restarted.set()

    restarting = threading.Thread(target=restart)
    parts_sent: list[int] = []

    def before(operation: str) -> None:
        if operation == "upload_part":
            parts_sent.append(1)
            if len(parts_sent) == 5:
                restarting.start()
            time.sleep(0.05)

    try:
        assert hosts.upload("first", data, before) == "done"
    finally:
        restarting.join()
    assert restarted.is_set()
    assert hosts.storage.read("key") == data
    assert len(hosts.completed()) == 1
    assert hosts.checkpoints() == []
    assert len(parts_sent) == 30, "no part was sent twice"


# --- real processes --------------------------------------------------------------------------------------------------

HOST = """
import sys
from partwise import TransferConfig, Uploader
from partwise.backends.oss import Credentials, OSSBackend
from partwise.errors import PartwiseError
from partwise.stores import _postgres
from partwise.stores.postgres import PostgresCheckpointStore

url, endpoint, region, key_id, secret, file = sys.argv[1:]
_postgres._ANSWER_SECONDS = 1.0
backend = OSSBackend("examplebucket", endpoint=endpoint, region=region, credentials=Credentials(key_id, secret))
retries = {"retry_base": 0.05, "retry_max": 0.2}
config = TransferConfig(
    part_size=100 * 1024, multipart_threshold=0, concurrency=1, bandwidth_limit=1_000_000, **retries
)

def report(progress):
    if progress.parts_done:
        print("parts", progress.parts_done, flush=True)

try:
    result = Uploader(backend, store=PostgresCheckpointStore(url), config=config).upload(file, "key", progress=report)
except PartwiseError as error:
    print(type(error).__name__, flush=True)
else:
    print("done", flush=True)
"""

HOST_MODULES = ("partwise.backends.oss", "partwise.stores.postgres", "partwise.stores._postgres")

PARTS = 12


class Process:
    """A process that uploads, on another host as far as the database and the storage can tell."""

    def __init__(self, server: OSSServer, url: str, file: Path) -> None:
        access = (server.endpoint, server.region, server.access_key_id, server.access_key_secret)
        self.process = forked.start_code(
            HOST, url, *access, file, modules=HOST_MODULES, stdout=subprocess.PIPE, text=True
        )

    def wait_for_parts(self, number: int) -> None:
        """Wait until this many parts are done; a process that hangs is killed."""
        assert self.process.stdout is not None
        hangs = threading.Timer(60, self.process.kill)
        hangs.start()
        try:
            for line in self.process.stdout:
                if line.startswith("parts ") and int(line.split()[1]) >= number:
                    return
        finally:
            hangs.cancel()
        raise AssertionError("the upload ended before, or was killed after a minute")

    def outcome(self) -> str:
        """Wait for the end; return "done", or the class of the error."""
        output, _ = self.process.communicate(timeout=60)
        return output.splitlines()[-1]


@pytest.fixture
def start(oss_server: OSSServer, url: str) -> Iterator[Callable[..., Process]]:
    """Start the upload of a file in another process."""
    started: list[Process] = []

    def start(file: Path, url: str = url) -> Process:
        started.append(Process(oss_server, url, file))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "backup.tar"
    file.write_bytes(pseudo_random_bytes(PARTS * 100 * KIB))
    return file


def change(file: Path) -> bytes:
    data = pseudo_random_bytes(PARTS * 100 * KIB + 1)
    file.write_bytes(data)
    return data


def objects_created(server: OSSServer) -> int:
    return sum(1 for request in server.requests_of("CompleteMultipartUpload") if request.status == 200)


@contextmanager
def suspended(process: subprocess.Popen[str]) -> Iterator[None]:
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def checkpoints(url: str) -> list[Any]:
    with PostgresCheckpointStore(url) as store:
        return list(store.scan())


def test_the_upload_of_a_killed_process_can_be_resumed_at_once(start, oss_server, memory_backend, file, url) -> None:
    first = start(file)
    first.wait_for_parts(4)
    first.process.kill()
    first.process.wait()
    [left] = checkpoints(url)
    began = time.monotonic()
    with PostgresCheckpointStore(url) as store:
        soon(lambda: store.claim(left.name).__enter__())
        assert time.monotonic() - began < 5
    assert len(left.parts) >= 4
    assert start(file).outcome() == "done"
    assert len(oss_server.requests_of("UploadPart")) <= PARTS + 1
    assert memory_backend.read("key") == file.read_bytes()
    assert objects_created(oss_server) == 1
    assert checkpoints(url) == []


CLAIMS = """
import os, subprocess, sys, time, warnings
warnings.simplefilter("error")
from partwise.errors import ClaimLost, CheckpointBusy, StoreClosed
from partwise.stores.postgres import PostgresCheckpointStore
store = PostgresCheckpointStore(sys.argv[1])
say = lambda text: print(text, flush=True)
"""


@contextmanager
def running(code: str, url: str) -> Iterator[subprocess.Popen[str]]:
    """Run code in another process, which is killed at the end of the block."""
    with forked.start_code(
        CLAIMS + code,
        url,
        modules=("partwise.stores.postgres", "partwise.stores._postgres"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@forks
def test_a_forked_child_neither_ends_nor_keeps_the_claim_of_its_parent(url) -> None:
    """It can use the store; it has no claims; and leaving the context in it changes nothing."""
    code = """
with store.claim("a name"):
    child = os.fork()
    if not child:
        for try_it in (lambda: store.check_claim("a name"), lambda: store.claim("a name").__enter__()):
            try:
                try_it()
            except (ClaimLost, CheckpointBusy) as error:
                say(type(error).__name__)
        store.load("a name")
        with store.claim("another name"):
            store.check_claim("another name")
    else:
        os.waitpid(child, 0)
        store.check_claim("a name")
        if not os.fork():
            say(f"child {os.getpid()}")
            time.sleep(60)
        time.sleep(60)
say("left")
"""
    with PostgresCheckpointStore(url) as store, running(code, url) as parent:
        assert [line_of(parent) for _ in range(3)] == ["ClaimLost", "CheckpointBusy", "left"]
        word, child = line_of(parent).split()
        assert word == "child"
        try:
            with pytest.raises(CheckpointBusy):
                store.claim("a name").__enter__()
            parent.kill()
            parent.wait()
            soon(store.claim("a name").__enter__)
            os.kill(int(child), 0)
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_a_started_program_does_not_keep_the_claim_of_a_killed_parent(url) -> None:
    code = """
with store.claim("a name"):
    child = subprocess.Popen([sys.executable, "-ISc", "import time; time.sleep(60)"], close_fds=False)
    say(child.pid)
    time.sleep(60)
"""
    with PostgresCheckpointStore(url) as store, running(code, url) as parent:
        child = int(line_of(parent))
        try:
            parent.kill()
            parent.wait()
            soon(store.claim("a name").__enter__)
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGTERM)


@stops
def test_a_suspended_host_keeps_its_claim_as_long_as_its_session_lives(start, oss_server, file) -> None:
    first = start(file)
    first.wait_for_parts(2)
    with suspended(first.process):
        assert start(file).outcome() == "CheckpointBusy"
    assert first.outcome() == "done"
    assert objects_created(oss_server) == 1


@stops
def test_a_host_that_wakes_up_after_another_one_has_finished_completes_nothing(  # noqa: PLR0917  # fixtures
    postgres, start, oss_server, memory_backend, file, url
) -> None:
    first = start(file)
    first.wait_for_parts(2)
    with suspended(first.process):
        assert postgres.end_sessions() >= 1  # as the server does when a host does not answer any more
        assert start(file).outcome() == "done"
    # Its upload is gone, and the object is the one that it was to store: then it is done, too.
    assert first.outcome() in {"ClaimLost", "done"}
    assert objects_created(oss_server) == 1
    assert memory_backend.read("key") == file.read_bytes()
    assert checkpoints(url) == []
    assert memory_backend.uploads == {}


@stops
@pytest.mark.parametrize("changed", [False, True], ids=["same source", "changed source"])
def test_a_host_that_wakes_up_during_the_upload_of_another_one_stops(  # noqa: PLR0917  # fixtures
    postgres, start, oss_server, memory_backend, file, url, changed
) -> None:
    first = start(file)
    first.wait_for_parts(2)
    with suspended(first.process):
        postgres.end_sessions()
        data = change(file) if changed else file.read_bytes()
        second = start(file)
        second.wait_for_parts(5)
        os.kill(second.process.pid, signal.SIGSTOP)
        [theirs] = checkpoints(url)
    outcome = first.outcome()
    assert outcome == "ClaimLost" or (changed and outcome in ("SourceChanged", "UploadFailed")), outcome
    [still] = checkpoints(url)
    assert (still.upload_id, still.fingerprint) == (theirs.upload_id, theirs.fingerprint)
    assert set(still.parts) >= set(theirs.parts)
    os.kill(second.process.pid, signal.SIGCONT)
    assert second.outcome() == "done"
    assert objects_created(oss_server) == 1
    assert memory_backend.read("key") == data
    assert checkpoints(url) == []


class Line:
    """
    A line between a host and the database, which can be cut off.

    While it is, connections stay open and no byte passes, as with a partition of the network.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._passing = threading.Event()
        self._passing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        self._passing.clear()

    def restore(self) -> None:
        """Let bytes pass on new connections; those that were open are lost."""
        for one in self._sockets[1:]:
            _shut(one)
        self._passing.set()

    def close(self) -> None:
        for one in self._sockets:
            _shut(one)
        self._passing.set()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                self._sockets.append(near)
                self._passing.wait()
                far = socket.create_connection(self._target)
                self._sockets.append(far)
            except OSError:
                return
            for pair in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._pass, args=pair))
                self._threads[-1].start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._passing.wait()
                target.sendall(data)
        except OSError:
            pass
        _shut(source)
        _shut(target)


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(postgres: PostgresServer) -> Iterator[Line]:
    line = Line(("127.0.0.1", postgres.port))
    yield line
    line.close()


@pytest.fixture
def cut_off_url(postgres: PostgresServer, url: str, line: Line) -> str:
    """The URL of a host that reaches the database over the line."""
    schema = url.rpartition("%3D")[2].partition("&")[0]
    return postgres.url(schema=schema, tcp=True, port=line.port, more="connect_timeout=2")


@pytest.mark.parametrize("takes_over", [True, False], ids=["another host takes over", "no other host comes"])
def test_a_host_that_is_cut_off_from_the_database_alone(  # noqa: PLR0917  # fixtures
    postgres, start, oss_server, memory_backend, file, url, line, cut_off_url, takes_over
) -> None:
    """It still reaches the storage, and sends parts; but it creates no object until it reaches the database."""
    first = start(file, cut_off_url)
    first.wait_for_parts(2)
    line.cut()
    if takes_over:
        first.wait_for_parts(4)
        postgres.end_sessions()  # as the server does when a host does not answer any more
        second = start(file)
        assert second.outcome() == "done"
    else:
        first.wait_for_parts(PARTS - 1)
        time.sleep(1)
        assert objects_created(oss_server) == 0
        assert first.process.poll() is None
    line.restore()
    assert first.outcome() in ({"ClaimLost", "done"} if takes_over else {"done"})
    assert objects_created(oss_server) == 1
    assert memory_backend.read("key") == file.read_bytes()
    assert checkpoints(url) == []
