"""Claims across processes: exclusion, release, and the files that are left."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import filelock
import forked
import pytest

from partwise.errors import CheckpointBusy, CheckpointUnwritable
from partwise.stores import _locks
from partwise.stores.file import FileCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
#: From 3.12 on, Python warns about a fork while other threads run, as in a test runner.
may_fork = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows removes the lock file in its own way")

NAME = "0123456789abcdef" * 2


@posix_only
def test_a_lock_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "state.lock"
    before = os.umask(0)
    try:
        with _locks.claim(str(path), name=NAME, where="here", describe=lambda: "it"):
            mode = path.stat().st_mode & 0o777
    finally:
        os.umask(before)
    assert mode == 0o600


def test_a_forked_child_does_not_wait_for_the_lock_of_the_table_of_claims() -> None:
    """Simulated: the child finds the lock of the table as it was at the moment of the fork, held."""
    inherited = _locks._held_lock
    with inherited:
        _locks._clear_after_fork()
        assert not _locks._held_lock.locked()


@pytest.fixture(params=["directory", "explicit file", "sqlite"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The expression that opens the store, in this process and in others."""
    return {
        "directory": f"FileCheckpointStore({str(tmp_path / 'place')!r})",
        "explicit file": f"FileCheckpointStore.for_file({str(tmp_path / 'state.ucp')!r})",
        "sqlite": f"SQLiteCheckpointStore({str(tmp_path / 'uploads.db')!r})",
    }[request.param]


@pytest.fixture
def store(opens: str) -> Iterator[FileCheckpointStore | SQLiteCheckpointStore]:
    with eval(opens) as opened:  # the same expression as in the other processes
        yield opened


def locks(tmp_path: Path) -> list[str]:
    return [path.name for path in tmp_path.rglob("*.lock")]


@contextmanager
def another_process(opens: str, code: str) -> Iterator[subprocess.Popen[str]]:
    """A process that opens the store as `store` and runs the code; killed when the context ends."""
    lines = (
        "import os, sys, time, threading, subprocess",
        "from partwise.errors import CheckpointBusy",
        "from partwise.stores.file import FileCheckpointStore",
        "from partwise.stores.sqlite import SQLiteCheckpointStore",
        f"store = {opens}",
        f"NAME = {NAME!r}",
        "say = lambda text: print(text, flush=True)",
        code,
    )
    modules = ("partwise.stores.file", "partwise.stores.sqlite")
    process = forked.start_code(
        "\n".join(lines), modules=modules, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line_from(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


HOLDS = "with store.claim(NAME): say('held'); sys.stdin.read()"


def test_the_claim_of_another_process_is_released_when_it_is_killed(opens, store, tmp_path: Path) -> None:
    with another_process(opens, HOLDS) as process:
        assert line_from(process) == "held"
        with pytest.raises(CheckpointBusy, match="another process"):
            store.claim(NAME).__enter__()
        process.kill()
        process.wait()
        with store.claim(NAME):
            assert locks(tmp_path)
    assert locks(tmp_path) == []


def test_the_claim_of_another_process_can_be_taken_after_its_release(opens, store, tmp_path: Path) -> None:
    with another_process(opens, HOLDS) as process:
        assert line_from(process) == "held"
        process.communicate("")
        assert process.returncode == 0
        assert locks(tmp_path) == []
        with store.claim(NAME):
            assert len(locks(tmp_path)) == 1


@forks
@may_fork
def test_a_forked_child_does_not_keep_the_claim_of_a_killed_parent(opens, store) -> None:
    code = """
with store.claim(NAME):
    child = os.fork()
    if not child:
        say(os.getpid())
        os.read(0, 1)
        os._exit(0)
    time.sleep(60)
"""
    with another_process(opens, code) as parent:
        child = int(line_from(parent))
        try:
            with pytest.raises(CheckpointBusy):
                store.claim(NAME).__enter__()
            parent.kill()
            parent.wait()
            os.kill(child, 0)
            with store.claim(NAME):
                os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_started_program_does_not_keep_the_claim_of_a_killed_parent(opens, store) -> None:
    code = """
with store.claim(NAME):
    child = subprocess.Popen([sys.executable, '-ISc', 'import sys; sys.stdin.read()'], close_fds=False)
    say(child.pid)
    time.sleep(60)
"""
    with another_process(opens, code) as parent:
        child = int(line_from(parent))
        try:
            parent.kill()
            parent.wait()
            with store.claim(NAME):
                os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGTERM)


@forks
@may_fork
def test_a_forked_child_that_leaves_the_context_releases_nothing(opens, store, tmp_path: Path) -> None:
    claim = store.claim(NAME)
    claim.__enter__()
    child = os.fork()
    if not child:
        # The child must not return into pytest, but must run the clean-up of the context.
        try:
            claim.__exit__(None, None, None)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(locks(tmp_path)) == 1
    with another_process(opens, "try:\n with store.claim(NAME): pass\nexcept CheckpointBusy: say('busy')") as process:
        assert line_from(process) == "busy"
    claim.__exit__(None, None, None)
    assert locks(tmp_path) == []


@forks
@may_fork
def test_a_forked_child_holds_none_of_its_parent_s_claims(store) -> None:
    with store.claim(NAME):
        child = os.fork()
        if not child:
            status = 1
            try:
                store.claim(NAME).__enter__()
            except CheckpointBusy as error:
                status = 0 if "another process" in error.message else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@posix_only
def test_a_claim_is_exclusive_and_leaves_no_files(opens, store, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    code = f"""
import random
draw = random.Random(int(sys.stdin.readline()))
overlaps, held = [], []
def run():
    for _ in range(150):
        try:
            with store.claim(NAME):
                held.append(1)
                try:
                    os.close(os.open({str(witness)!r}, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    overlaps.append(1)
                else:
                    if draw.random() < 0.5: time.sleep(0.0005)
                    os.unlink({str(witness)!r})
        except CheckpointBusy:
            pass
threads = [threading.Thread(target=run) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
say(f"{{len(overlaps)}} {{len(held)}}")
"""
    with (
        another_process(opens, code) as one,
        another_process(opens, code) as two,
        another_process(opens, code) as three,
    ):
        processes = (one, two, three)
        for seed, process in enumerate(processes):
            assert process.stdin is not None
            process.stdin.write(f"{seed}\n")
            process.stdin.flush()
        answers = [tuple(map(int, line_from(process).split())) for process in processes]
    assert [overlaps for overlaps, _ in answers] == [0, 0, 0]
    assert sum(held for _, held in answers) >= 3
    assert locks(tmp_path) == []


# --- locks of other systems ------------------------------------------------------------------------------------------


def refuse(error: int) -> Callable[..., object]:
    def call(*args: object, **kwargs: object) -> object:
        raise OSError(error, os.strerror(error))

    return call


def test_a_table_refuses_second_claims_where_a_process_can_t_lock_itself_out(
    store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Yielding:
        def __init__(self, *args: object, fallback_to_soft: bool = True, **kwargs: object) -> None: ...
        def acquire(self, **kwargs: object) -> None: ...
        def release(self) -> None: ...

    monkeypatch.setattr(_locks, "FileLock", Yielding)
    with store.claim(NAME), pytest.raises(CheckpointBusy, match="in this process"):
        store.claim(NAME).__enter__()
    with store.claim(NAME):
        pass


@posix_only
def test_two_paths_to_a_directory_share_one_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "place")
    monkeypatch.setattr(_locks, "_acquire", lambda path: filelock.FileLock(path + "2"))
    with FileCheckpointStore(tmp_path / "place").claim(NAME), pytest.raises(CheckpointBusy, match="in this process"):
        FileCheckpointStore(tmp_path / "link").claim(NAME).__enter__()


def test_a_lock_that_would_outlive_its_process_is_refused(store, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(_locks, "FileLock", filelock.SoftFileLock)
    with pytest.raises(CheckpointUnwritable, match="end with their process"):
        store.claim(NAME).__enter__()
    assert locks(tmp_path) == []


@posix_only
def test_a_file_system_without_locks_is_refused(store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", refuse(errno.ENOSYS))
    with pytest.raises(CheckpointUnwritable) as caught:
        store.claim(NAME).__enter__()
    assert isinstance(caught.value.__cause__, OSError)


def test_a_lock_file_that_can_t_be_removed_does_not_prevent_a_claim(store, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse(errno.EACCES))
        with store.claim(NAME):
            pass
    assert len(locks(tmp_path)) == (0 if os.name == "nt" else 1)
    with store.claim(NAME):
        pass
    assert locks(tmp_path) == []


@posix_only
def test_a_lock_file_is_removed_while_its_lock_is_still_held(store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise another process could lock it in between, and a third one would lock a new file of that name."""
    fcntl = pytest.importorskip("fcntl")
    removed = []
    real = os.unlink

    def looked_at(path: str) -> None:
        if str(path).endswith(".lock"):
            removed.append(path)
            with Path(path).open("rb+") as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        real(path)

    monkeypatch.setattr(os, "unlink", looked_at)
    with store.claim(NAME):
        pass
    assert removed


def test_a_file_with_content_in_place_of_the_lock_is_not_changed(tmp_path: Path) -> None:
    lock = tmp_path / "poetry.lock"
    lock.write_text("[metadata]\n")
    with pytest.raises(CheckpointUnwritable, match="is not a lock file"):
        FileCheckpointStore.for_file(tmp_path / "poetry").claim(NAME).__enter__()
    assert lock.read_text() == "[metadata]\n"


def test_an_interrupt_in_the_block_releases_the_claim(store, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), store.claim(NAME):
        raise KeyboardInterrupt
    assert locks(tmp_path) == []
    with store.claim(NAME):
        pass


def test_a_collected_context_releases_the_claim(store) -> None:
    def claims_and_forgets() -> None:
        store.claim(NAME).__enter__()

    claims_and_forgets()
    with store.claim(NAME):
        pass


def test_an_interrupt_during_the_release_of_a_claim_does_not_keep_it(store, monkeypatch) -> None:
    class Interrupted(WeakValueDictionary):
        def pop(self, *arguments):
            raise KeyboardInterrupt

    monkeypatch.setattr(_locks, "_held", Interrupted())
    entered = 0
    for _ in range(2):
        with contextlib.suppress(KeyboardInterrupt), store.claim(NAME):
            entered += 1
        gc.collect()
    assert entered == 2
