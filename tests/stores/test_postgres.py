"""The PostgreSQL store against a real server: the suite of stores."""

from __future__ import annotations

import copy
import functools
import gc
import logging
import os
import pickle
import socket
import sys
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

import forked
import psycopg
import pytest
from attrs import evolve
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from shared.postgres_reads import ReadsInOneSession

from partwise import stores
from partwise.checkpoint import Checkpoint
from partwise.cli import main
from partwise.errors import (
    CheckpointBusy,
    CheckpointDamaged,
    CheckpointError,
    CheckpointUnwritable,
    ClaimLost,
    InvalidInput,
)
from partwise.model import MIB, UploadedPart
from partwise.protocols import CheckpointStore
from partwise.registry import open_checkpoint_store
from partwise.stores import _journal as journal
from partwise.stores import _postgres
from partwise.stores import postgres as module
from partwise.stores.postgres import PostgresCheckpointStore, open_url
from partwise.testing import CheckpointStoreConformance, ResumeMachine, StoreHarness
from partwise.testing.conformance import store_claims as checks_of_claims

if TYPE_CHECKING:
    from conftest import PostgresServer


@pytest.fixture
def schema(postgres) -> Iterator[str]:
    with postgres.new_schema() as schema:
        yield schema


@pytest.fixture
def url(postgres, schema: str) -> str:
    return postgres.url(schema=schema)


@pytest.fixture
def store(url: str) -> Iterator[PostgresCheckpointStore]:
    with PostgresCheckpointStore(url) as store:
        yield store


@pytest.fixture
def reader(url: str) -> Iterator[ReadsInOneSession]:
    with ReadsInOneSession(url) as reader:
        yield reader


class PostgresHarness(StoreHarness):
    """
    Each harness has a schema of the same database.

    Its first handle is the store as it is; all others, through which most reads are done, keep a session for them.
    """

    server: ClassVar[PostgresServer]
    secrets: ClassVar[list[str]]
    examples = 4
    hooks_left_out: ClassVar[dict[str, str]] = {"advance": "nothing in it depends on the time"}

    def __init__(self) -> None:
        self._open = ExitStack()
        self.schema = self._open.enter_context(self.server.new_schema())
        self._is_open = False

    def close(self) -> None:
        self._open.close()

    def open(self) -> CheckpointStore:
        kind, self._is_open = ReadsInOneSession if self._is_open else PostgresCheckpointStore, True
        return kind(self.server.url(schema=self.schema))

    def elsewhere(self) -> Callable[[], CheckpointStore]:
        return functools.partial(PostgresCheckpointStore, self.server.url(schema=self.schema))

    def open_unwritable(self) -> CheckpointStore:
        return PostgresCheckpointStore(self.server.url(schema="missing"))

    def lose_claim(self, store: CheckpointStore, name: str) -> bool:
        """End the session on the server, as it does when a host does not answer any more."""
        assert isinstance(store, PostgresCheckpointStore)
        process = store._claims[name].process
        assert self.server.end_sessions(f"pid = {process}") == 1
        return True

    def read_record(self, name: str) -> bytes:
        rows = self._ask("SELECT record, checksum FROM partwise_checkpoints WHERE name = %s ORDER BY part_number", name)
        return "\n".join(f"{record} {checksum}" for record, checksum in rows).encode()

    def write_record(self, name: str, data: bytes) -> None:
        """Change the rows that are there, as far as there are lines for them; the last one gets all other lines."""
        numbers = self._ask("SELECT part_number FROM partwise_checkpoints WHERE name = %s ORDER BY part_number", name)
        for (number,), line in zip(numbers, data.decode().split("\n", len(numbers) - 1), strict=False):
            record, _, checksum = line.rpartition(" ")
            self._ask(
                "UPDATE partwise_checkpoints SET record = %s, checksum = %s WHERE name = %s AND part_number = %s",
                *(record, checksum, name, number),
            )

    def _ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self.server.ask(statement, *values, schema=self.schema)


@pytest.fixture(scope="class")
def harness_server(running_postgres: PostgresServer) -> None:
    PostgresHarness.server = running_postgres
    PostgresHarness.secrets = [running_postgres.password, quote(running_postgres.password, safe="")]


@pytest.mark.usefixtures("harness_server")
class TestPostgres(CheckpointStoreConformance):
    harness = PostgresHarness

    @pytest.fixture(autouse=True)
    def _time_is_saved(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No claim ends by itself: they are locks of sessions, and no leases."""
        monkeypatch.setattr(checks_of_claims, "_HELD_FOR", 0.2)
        modules = ("partwise.stores.postgres", "partwise.stores._postgres")
        monkeypatch.setattr(
            checks_of_claims, "_start_python", functools.partial(forked.start_claimant, modules=modules)
        )


@pytest.mark.usefixtures("harness_server")
def test_no_sequence_of_processes_breaks_a_promise_of_the_engine() -> None:
    class OnPostgres(ResumeMachine):
        store = PostgresHarness

    run_state_machine_as_test(OnPostgres, settings=settings(max_examples=5, stateful_step_count=8))


@pytest.mark.parametrize("method", ["claim", "load", "save", "append_part", "delete", "check_claim"])
def test_wrong_arguments_are_refused_without_a_connection(method: str, part) -> None:
    store = PostgresCheckpointStore("postgresql://127.0.0.1:1/none")
    more = {"append_part": ("UPLOAD", part(1)), "delete": ("UPLOAD",)}.get(method, ())

    def call(name: object) -> None:
        result = getattr(store, method)(name, *more)
        if method == "claim":
            result.__enter__()

    for wrong in (None, 5, b"name", "", ["name"]):
        with pytest.raises(InvalidInput):
            call(wrong)
    for wrong_more in {"append_part": [(5, part(1)), ("UPLOAD", 5)], "delete": [(5,)]}.get(method, []):
        with pytest.raises(InvalidInput):
            getattr(store, method)("name", *wrong_more)
    for wrong_url in (None, 5, b"postgresql:///x"):
        with pytest.raises(InvalidInput):
            PostgresCheckpointStore(wrong_url)


# --- the table -------------------------------------------------------------------------------------------------------


def table(postgres: PostgresServer, store: PostgresCheckpointStore, columns: str, where: str = "true") -> list[Any]:
    return ask(
        postgres, store, f"SELECT {columns} FROM partwise_checkpoints WHERE {where} ORDER BY damaged, part_number"
    )


def ask(postgres: PostgresServer, store: PostgresCheckpointStore, statement: str, *values: object) -> list[Any]:
    """Execute a statement in the schema of a store, not through the store."""
    return postgres.ask(statement, *values, schema=store._parameters["options"].removeprefix("-csearch_path="))


def tables(postgres: PostgresServer, store: PostgresCheckpointStore) -> list[str]:
    found = ask(postgres, store, "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    return [name for (name,) in found]


def test_the_table_is_created_by_the_first_claim(postgres, store, checkpoint) -> None:
    name = checkpoint().name
    assert store.load(name) is None
    assert list(store.scan()) == []
    assert tables(postgres, store) == []
    with store.claim(name):
        assert tables(postgres, store) == ["partwise_checkpoints"]
    assert table(postgres, store, "*") == []


def test_rows_are_readable_text(postgres, store, checkpoint, part) -> None:
    saved = checkpoint()
    with store.claim(saved.name):
        store.save(saved)
        store.append_part(saved.name, "UPLOAD", part(7))
    [(name, header), (_, record)] = table(postgres, store, "name, record")
    assert name == saved.name
    assert '"upload_id":"UPLOAD"' in header
    assert record == '[7,8388608,"ETAG-7-1","18446744073709551609"]'


def test_a_deleted_checkpoint_leaves_no_row(postgres, store, checkpoint, part) -> None:
    saved = checkpoint(parts=(part(1),))
    with store.claim(saved.name):
        store.save(saved)
        store.delete(saved.name, "UPLOAD")
        assert store.load(saved.name) is None
    assert table(postgres, store, "*") == []


def test_hosts_that_use_a_new_database_at_the_same_time_create_one_table(url, checkpoint) -> None:
    start = threading.Barrier(6)

    def first_use(number: int) -> None:
        with PostgresCheckpointStore(url) as store:
            start.wait()
            store.save(checkpoint(f"key {number}"))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(first_use, range(6)))
    with PostgresCheckpointStore(url) as store:
        assert {found.key for found in store.scan()} == {f"key {number}" for number in range(6)}


def test_a_table_of_a_later_version_is_refused_and_not_changed(postgres, store, checkpoint) -> None:
    saved = checkpoint()
    store.save(saved)
    comment = "Checkpoints of partwise, schema version"
    assert ask(postgres, store, "SELECT obj_description('partwise_checkpoints'::regclass)") == [(f"{comment} 1",)]
    ask(postgres, store, f"COMMENT ON TABLE partwise_checkpoints IS '{comment} 7'")
    before = table(postgres, store, "*")
    words = r"has schema version 7, and this version of partwise reads 1\. It was not changed"
    with pytest.raises(CheckpointUnwritable, match=words) as caught:
        store.save(saved)
    assert not caught.value.retryable
    for read in (lambda: store.load(saved.name), lambda: list(store.scan())):
        with pytest.raises(CheckpointError, match=words):
            read()
    assert table(postgres, store, "*") == before


@pytest.mark.parametrize("comment", ["NULL", "'of another program'", "'Checkpoints of partwise, schema version 0'"])
def test_a_table_of_another_program_is_refused_and_not_changed(postgres, store, checkpoint, comment: str) -> None:
    ask(postgres, store, "CREATE TABLE partwise_checkpoints (name text)")
    ask(postgres, store, f"COMMENT ON TABLE partwise_checkpoints IS {comment}")
    with pytest.raises(
        CheckpointUnwritable, match=r"was not created by partwise\. It was not changed. Use the version"
    ):
        store.save(checkpoint())
    with pytest.raises(CheckpointError, match="was not created by partwise"):
        store.load(checkpoint().name)
    assert table_columns(postgres, store) == ["name"]


def table_columns(postgres: PostgresServer, store: PostgresCheckpointStore) -> list[str]:
    columns = ask(
        postgres,
        store,
        "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema()"
        " AND table_name = 'partwise_checkpoints' ORDER BY ordinal_position",
    )
    return [name for (name,) in columns]


def test_a_table_of_an_earlier_version_is_migrated_once_and_keeps_its_checkpoints(  # noqa: PLR0917  # fixtures
    postgres, url, store, checkpoint, part, monkeypatch
) -> None:
    saved = checkpoint(parts=(part(1),))
    store.save(saved)
    later = ("ALTER TABLE partwise_checkpoints ADD COLUMN added integer",)
    monkeypatch.setattr(_postgres, "_MIGRATIONS", (*_postgres._MIGRATIONS, later))
    start = threading.Barrier(4)

    def use(number: int) -> Checkpoint | None:
        with PostgresCheckpointStore(url) as another:
            start.wait()
            return another.load(saved.name)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(use, range(4))) == [saved] * 4
    assert table_columns(postgres, store)[-1] == "added"


def test_a_user_who_may_only_read_can_load_and_scan(postgres, url, store, checkpoint, schema) -> None:
    saved = checkpoint()
    store.save(saved)
    postgres.ask("CREATE ROLE reader LOGIN")
    try:
        postgres.ask(f"GRANT USAGE ON SCHEMA {schema} TO reader")
        postgres.ask(f"GRANT SELECT ON {schema}.partwise_checkpoints TO reader")
        with PostgresCheckpointStore(url.replace("//partwise:", "//reader:")) as reader:
            assert reader.load(saved.name) == saved
            assert list(reader.scan()) == [saved]
            with pytest.raises(CheckpointUnwritable, match="permission denied") as caught:
                reader.save(saved)
            assert not caught.value.retryable
    finally:
        postgres.ask("DROP OWNED BY reader")
        postgres.ask("DROP ROLE reader")


def test_a_user_who_may_not_create_tables_can_upload_once_there_is_one(  # noqa: PLR0917  # fixtures
    postgres, url, store, checkpoint, part, schema
) -> None:
    saved = checkpoint()
    store.save(saved)
    postgres.ask("CREATE ROLE writer LOGIN")
    try:
        postgres.ask(f"GRANT USAGE ON SCHEMA {schema} TO writer")
        with PostgresCheckpointStore(url.replace("//partwise:", "//writer:")) as writer:
            postgres.ask(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.partwise_checkpoints TO writer")
            with writer.claim(saved.name):
                writer.append_part(saved.name, "UPLOAD", part(1))
                ask(postgres, store, "UPDATE partwise_checkpoints SET record = '[]' WHERE part_number = 1")
                with pytest.raises(CheckpointDamaged, match="set aside"):
                    writer.load(saved.name)
                with lost_connection(session_of(writer, saved.name)), pytest.raises(CheckpointError) as caught:
                    writer.check_claim(saved.name)
                assert caught.value.retryable
                soon(lambda: succeeds(writer.check_claim, saved.name))
                writer.save(saved)
                writer.delete(saved.name, "UPLOAD")
            with postgres.new_schema() as empty:
                postgres.ask(f"GRANT USAGE ON SCHEMA {empty} TO writer")
                refused = PostgresCheckpointStore(postgres.url(schema=empty).replace("//partwise:", "//writer:"))
                with pytest.raises(CheckpointUnwritable, match="permission denied for schema") as caught:
                    refused.save(saved)
                assert not caught.value.retryable
    finally:
        postgres.ask("DROP OWNED BY writer")
        postgres.ask("DROP ROLE writer")


# --- the connection --------------------------------------------------------------------------------------------------


def test_a_claim_has_one_session_and_nothing_else_keeps_one(postgres, store, checkpoint) -> None:
    def sessions() -> int:
        return postgres.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'partwise'")[0][0]

    store.save(checkpoint())
    soon(lambda: sessions() == 0)
    with store.claim(checkpoint().name), store.claim(checkpoint("another").name):
        store.save(checkpoint())
        list(store.scan())
        soon(lambda: sessions() == 2)
    soon(lambda: sessions() == 0)


def soon(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds: the server notices the end of a session a moment later."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def settings_of(session: Any, *names: str) -> dict[str, str]:
    return {name: session.execute(f"SHOW {name}", {})[0][0].decode() for name in names}


def session_of(store: PostgresCheckpointStore, name: str) -> Any:
    return store._claims[name].session


def test_a_dead_host_loses_its_session_within_half_a_minute(postgres, schema, checkpoint) -> None:
    """Both ends probe an idle connection. In seconds, with literal numbers."""
    name = checkpoint().name
    with PostgresCheckpointStore(postgres.url(schema=schema, tcp=True)) as store, store.claim(name):
        session = session_of(store, name)
        assert settings_of(
            session, "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout"
        ) == {
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": "20000",
        }
        if not hasattr(socket, "TCP_USER_TIMEOUT"):
            return
        with socket.socket(fileno=os.dup(session._connection.fileno())) as ours:
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            options = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            values = [ours.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) for option in options]
        assert values == [10, 5, 3, 20_000]


def test_every_wait_of_a_session_is_limited(store, checkpoint) -> None:
    name = checkpoint().name
    with store.claim(name):
        session = session_of(store, name)
        limits = settings_of(session, "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        assert limits == {
            "statement_timeout": "20s",
            "lock_timeout": "5s",
            "idle_in_transaction_session_timeout": "20s",
        }
        if session._connection.info.server_version >= 140_000:
            assert settings_of(session, "idle_session_timeout") == {"idle_session_timeout": "0"}


@pytest.mark.timeout(30)
def test_a_server_that_does_not_answer_is_given_up(postgres, store, checkpoint, monkeypatch) -> None:
    saved = checkpoint()
    store.save(saved)
    monkeypatch.setattr(_postgres, "_ANSWER_SECONDS", 0.5)
    with store.claim(saved.name):
        with postgres.suspended():
            start = time.monotonic()
            with pytest.raises(CheckpointUnwritable, match=r"the server has not answered for 0.5 seconds") as caught:
                store.save(saved)
            assert time.monotonic() - start < 5
        assert caught.value.retryable
        soon(lambda: succeeds(store.check_claim, saved.name))
        store.save(saved)


@pytest.mark.timeout(30)
def test_leaving_a_claim_does_not_wait_for_a_server_that_does_not_answer(
    postgres, store, checkpoint, caplog, monkeypatch
) -> None:
    assert _postgres._LAST_ANSWER_SECONDS == 2.0
    monkeypatch.setattr(_postgres, "_LAST_ANSWER_SECONDS", 0.5)
    caplog.set_level(logging.DEBUG, "partwise.stores.postgres")
    with store.claim(checkpoint().name):
        store.save(checkpoint())
        frozen = postgres.suspended()
        frozen.__enter__()
        start = time.monotonic()
    try:
        assert time.monotonic() - start < 10
    finally:
        frozen.__exit__(None, None, None)
    assert "the row of an ended claim is left: the server has not answered for 0.5 seconds" in caplog.text
    soon(lambda: not is_busy(store, checkpoint().name))
    assert store.load(checkpoint().name) == checkpoint()


def is_busy(store: PostgresCheckpointStore, name: str) -> bool:
    try:
        with store.claim(name):
            return False
    except CheckpointBusy:
        return True


def succeeds(call: Callable[..., object], *arguments: object) -> bool:
    """Return whether a call succeeds; only a retryable error may prevent that."""
    try:
        call(*arguments)
    except CheckpointError as error:
        if not error.retryable:
            raise
        return False
    return True


def test_a_save_waits_for_the_disk_and_an_append_does_not(  # noqa: PLR0917  # fixtures
    store, url, schema, checkpoint, part, monkeypatch
) -> None:
    executed: list[tuple[str, str]] = []
    execute = _postgres.Session.execute

    def recording(session: Any, statement: str, values: Any) -> Any:
        with session.transaction():
            rows = execute(session, statement, values)
            [(setting,)] = execute(session, "SHOW synchronous_commit", {})
            executed.append((statement.split(maxsplit=1)[0], setting.decode()))
        return rows

    with PostgresCheckpointStore(url.replace(f"%3D{schema}", f"%3D{schema}%20-csynchronous_commit%3Doff")) as unsafe:
        for one in (store, unsafe):
            with one.claim(checkpoint().name):
                monkeypatch.setattr(_postgres.Session, "execute", recording)
                one.save(checkpoint())
                one.append_part(checkpoint().name, "UPLOAD", part(1))
                one.delete(checkpoint().name, "UPLOAD")
                monkeypatch.setattr(_postgres.Session, "execute", execute)
    assert executed == [("WITH", "on"), ("INSERT", "off"), ("WITH", "on")] * 2


def test_an_append_costs_the_same_however_many_parts_there_are(store, checkpoint, part) -> None:
    """By the pages that the server reads, not by time."""
    name = checkpoint().name

    def pages_of_an_append(number: int) -> int:
        session = session_of(store, name)
        values = {"name": name, "owner": store._claims[name].owner, "upload": upload, "number": number}
        statement = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {module._APPEND}"
        [(plan,)] = session.execute(statement, {**values, "record": "[]", "checksum": ""})
        return plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]

    upload = module._upload_digest("UPLOAD")
    with store.claim(name):
        store.save(checkpoint())
        few = pages_of_an_append(1)
        store.save(checkpoint(parts=tuple(map(part, range(1, 20_001)))))
        assert pages_of_an_append(20_001) <= few + 20


def test_threads_share_a_store(store, checkpoint, part) -> None:
    def upload(number: int) -> None:
        saved = checkpoint(f"key {number}")
        with store.claim(saved.name):
            store.save(saved)
            for one in range(1, 21):
                store.append_part(saved.name, "UPLOAD", part(one))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, range(8)))
    assert {found.key: len(found.parts) for found in store.scan()} == {f"key {number}": 20 for number in range(8)}


# --- secrets, URLs ---------------------------------------------------------------------------------------------------


def test_the_password_is_never_shown(postgres, schema, checkpoint, caplog, monkeypatch) -> None:
    caplog.set_level(logging.DEBUG)
    name = checkpoint().name
    with PostgresCheckpointStore(postgres.url(schema=schema, tcp=True)) as store:
        shown = [repr(store)]
        with store.claim(name):
            with pytest.raises(CheckpointError) as busy, store.claim(name):
                pass
            postgres.end_sessions()
            store.save(checkpoint())
            with monkeypatch.context() as patch:
                patch.setattr(_postgres, "_ANSWER_SECONDS", 0.2)
                with postgres.suspended(), pytest.raises(CheckpointError) as broken:
                    store.save(checkpoint())
        shown += [str(busy.value), str(broken.value), caplog.text]
    wrong = postgres.url(schema=schema, tcp=True).replace("%40test", "%40other")
    with PostgresCheckpointStore(wrong) as store, pytest.raises(CheckpointUnwritable) as refused:
        store.save(checkpoint())
    shown += [str(refused.value), repr(store), "".join(traceback.format_exception(refused.value))]
    assert f"127.0.0.1:{postgres.port}" in str(refused.value)
    for text in shown:
        assert "pass word" not in text
        assert "pass%20word" not in text


def test_a_store_can_not_be_pickled(store) -> None:
    for copying in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="may contain a password"):
            copying(store)


def test_a_wrong_password_is_not_retried_and_an_outage_is(postgres, schema, checkpoint) -> None:
    wrong = postgres.url(schema=schema, tcp=True).replace("%40test", "%40other")
    with PostgresCheckpointStore(wrong) as store:
        with pytest.raises(CheckpointUnwritable, match="password authentication failed") as caught:
            store.save(checkpoint())
        assert not caught.value.retryable
        with pytest.raises(CheckpointError) as caught:
            store.load(checkpoint().name)
        assert not caught.value.retryable
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with PostgresCheckpointStore(postgres.url(tcp=True, port=free.getsockname()[1])) as store:
            with pytest.raises(CheckpointUnwritable, match="refused") as caught:
                store.save(checkpoint())
            assert caught.value.retryable


def test_a_control_character_in_the_message_of_a_server_is_escaped() -> None:
    assert _postgres.reason(psycopg.Error("no table\n \x1b[31mred")) == r"'no table \x1b[31mred'"
    assert _postgres.reason(psycopg.Error("la base «\xa0u\xa0»\nn'existe pas")) == "la base « u » n'existe pas"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "PostgreSQL"])
def test_both_schemes_open_the_store(scheme: str) -> None:
    store = open_checkpoint_store(f"{scheme}://me:secret@db.example.com:5433/uploads?sslmode=require")
    assert repr(store) == "<PostgresCheckpointStore postgresql://db.example.com:5433/uploads>"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql:///uploads", "postgresql:///uploads"),
        ("postgresql://", "postgresql:///"),
        ("postgresql://me@one,two:5433/u", "postgresql://one,two:5433/u"),
        ("host=one,two port=5433 dbname=u", "postgresql://one:5433,two:5433/u"),
        ("host=/run/postgresql dbname=u password=secret", "postgresql:///u?host=/run/postgresql"),
        ("postgresql://me:se%40c%2Fret@db/u", "postgresql://db/u"),
        ("postgresql://me@db/a%40b", "postgresql://db/a@b"),
        ("host=@socket dbname=a@b password=se@cret", "postgresql://@socket/a@b"),
        ("postgresql://me@%40socket/u", "postgresql://@socket/u"),
        ("host=/home/me@corp/run dbname=u", "postgresql:///u?host=/home/me@corp/run"),
        ("postgresql:///u?host=/home/me@corp/run", "postgresql:///u?host=/home/me@corp/run"),
    ],
)
def test_a_store_is_shown_by_its_place(url: str, shown: str) -> None:
    assert repr(PostgresCheckpointStore(url)).startswith(f"<PostgresCheckpointStore {shown}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:sec%ret@db/u",
        "postgresql://me:sec%ecret@db/u",
        "postgresql://db/u?secret=1",
        "postgresql://[secret",
        # What follows the first @ or slash of a password would be taken for the host, the port or the database.
        "postgresql://me:pass@secret@db/u",
        "postgresql://me@server:secret@db/u",
        "postgresql://me:secret/word@db/u",
        "postgresql://me:12/secret@db/u",
        "postgresql://me:secret@one,secret@two/u",
    ],
)
def test_an_invalid_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidInput, match="percent-encode special characters") as caught:
        open_url(url)
    assert "sec" not in str(caught.value)
    assert caught.value.__context__ is None


def test_without_psycopg_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "partwise.stores._postgres")
    monkeypatch.delattr(stores, "_postgres")
    with pytest.raises(InvalidInput, match=r'pip install "partwise\[postgres\]"'):
        open_url("postgresql:///uploads")


def test_an_old_psycopg_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg, "__version__", "3.2.13")
    monkeypatch.delitem(sys.modules, "partwise.stores._postgres")
    monkeypatch.delattr(stores, "_postgres")
    with pytest.raises(InvalidInput, match=r"psycopg 3\.3 or later is needed, and 3\.2\.13 is installed.*pip install"):
        open_url("postgresql:///uploads")


# --- damaged rows ----------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(store, checkpoint: Callable[..., Checkpoint], part: Callable[..., UploadedPart]) -> Checkpoint:
    """A checkpoint in the table, which also has another one."""
    saved = checkpoint(parts=(part(1), part(2), part(3)))
    store.save(saved)
    store.save(checkpoint("neighbour"))
    return saved


@pytest.mark.parametrize("number", [0, 2])
def test_a_changed_byte_anywhere_in_a_row_is_damage(  # noqa: PLR0917  # fixtures
    postgres, store, reader, saved, checkpoint, number: int
) -> None:
    where = f"name = '{saved.name}' AND part_number = {number}"
    columns = ("record", "checksum", "upload") if number == 0 else ("record", "checksum")
    for column in columns:
        [(good,)] = table(postgres, store, column, where)
        for position in range(0, len(good), 5):
            bad = good[:position] + chr(ord(good[position]) ^ 1) + good[position + 1 :]
            ask(postgres, store, f"UPDATE partwise_checkpoints SET {column} = %s WHERE {where}", bad)
            with pytest.raises(CheckpointDamaged) as caught:
                reader.load(saved.name)
            assert caught.value.upload_id == ("UPLOAD" if number else None)
        for other in ("", "\u00e4", None):
            if other is None and (column, number) == ("record", 0):
                continue  # then nothing is saved
            ask(postgres, store, f"UPDATE partwise_checkpoints SET {column} = %s WHERE {where}", other)
            with pytest.raises(CheckpointDamaged):
                reader.load(saved.name)
        ask(postgres, store, f"UPDATE partwise_checkpoints SET {column} = %s WHERE {where}", good)
    for wrong in (-1, 99):
        ask(postgres, store, f"UPDATE partwise_checkpoints SET part_number = %s WHERE {where}", wrong)
        if number:
            with pytest.raises(CheckpointDamaged):
                reader.load(saved.name)
        else:
            assert reader.load(saved.name) is None
        back = f"name = '{saved.name}' AND part_number = {wrong}"
        ask(postgres, store, f"UPDATE partwise_checkpoints SET part_number = {number} WHERE {back}")
    assert reader.load(saved.name) == saved
    assert reader.load(checkpoint("neighbour").name) == checkpoint("neighbour")


def test_rows_of_another_checkpoint_or_upload_are_damage(postgres, store, saved, checkpoint, part) -> None:
    neighbour = checkpoint("neighbour").name
    ask(postgres, store, "UPDATE partwise_checkpoints SET name = %s WHERE part_number > 0", neighbour)
    with pytest.raises(CheckpointDamaged):
        store.load(neighbour)
    ask(postgres, store, "DELETE FROM partwise_checkpoints WHERE name = %s", neighbour)
    ask(postgres, store, "UPDATE partwise_checkpoints SET name = %s", neighbour)
    with pytest.raises(CheckpointDamaged):
        store.load(neighbour)
    store.save(saved)
    [(record, checksum)] = table(postgres, store, "record, checksum", "part_number = 2")
    store.save(evolve(saved, upload_id="another", parts=(part(1),)))
    ask(
        postgres,
        store,
        "INSERT INTO partwise_checkpoints (name, part_number, record, checksum) VALUES (%s, 2, %s, %s)",
        *(saved.name, record, checksum),
    )
    with pytest.raises(CheckpointDamaged):
        store.load(saved.name)


@pytest.mark.parametrize("changes", [{"key": "another key"}, {"upload_id": "another"}])
def test_a_header_of_another_checkpoint_or_upload_with_a_valid_checksum_is_damage(
    postgres, store, saved, changes
) -> None:
    other = evolve(saved, parts=(), **changes)
    header = journal.header_text(other)
    upload = module._upload_digest("UPLOAD")
    checksum = module._checksum(header.encode(), saved.name, 0, upload)
    ask(
        postgres,
        store,
        "UPDATE partwise_checkpoints SET record = %s, checksum = %s WHERE name = %s AND part_number = 0",
        *(header, checksum, saved.name),
    )
    with pytest.raises(CheckpointDamaged, match=r"it is that of the upload|its row is that of another upload"):
        store.load(saved.name)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE {t} SET record = repeat('x', 1048577) WHERE part_number = 0", "its header is longer than 1,048,576"),
        ("UPDATE {t} SET record = repeat('x', 1048577) WHERE part_number = 1", "part 1 does not match"),
        (
            # Copies of a value are not compressed again.
            "UPDATE {t} SET record = repeat('x', 1048576) WHERE part_number = 1;"  # noqa: ISC004  # as the next one
            "INSERT INTO {t} (name, part_number, record)"
            " SELECT name, i, record FROM {t}, generate_series(2, 65) AS i WHERE part_number = 1",
            "its parts have more than 64 MiB",
        ),
        (
            "INSERT INTO {t} (name, part_number, record)"  # noqa: ISC004  # one statement
            " SELECT name, i, '' FROM {t}, generate_series(10, 100010) AS i WHERE part_number = 0",
            "it has more than 100,000 parts",
        ),
    ],
    ids=["header", "part", "parts", "number of parts"],
)
def test_what_is_too_large_is_damage_and_not_read(  # noqa: PLR0917  # fixtures
    postgres, store, checkpoint, part, statement: str, reason: str
) -> None:
    saved = checkpoint(parts=(part(1),))
    store.save(saved)
    ask(postgres, store, statement.format(t="partwise_checkpoints"))
    gc.collect()
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointDamaged, match=reason):
            store.load(saved.name)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_a_busy_claim_on_a_damaged_header_is_named_by_its_name(postgres, store, saved, other) -> None:
    ask(postgres, store, "UPDATE partwise_checkpoints SET record = '[]' WHERE part_number = 0")
    with store.claim(saved.name), pytest.raises(CheckpointBusy, match=f"the upload {saved.name} is in progress"):
        store_claims(other, saved.name)


def test_an_error_of_the_driver_that_is_not_of_the_connection_is_permanent() -> None:
    for error in (psycopg.ProgrammingError("a defect"), psycopg.DataError("a defect")):
        assert [_postgres.is_transient(error, worked=worked) for worked in (True, False)] == [False, False]


def test_under_the_claim_damaged_rows_are_set_aside(postgres, store, saved, checkpoint) -> None:
    def damaged() -> list[int]:
        return [number for (number,) in table(postgres, store, "part_number", "damaged")]

    for _ in range(2):
        ask(postgres, store, "UPDATE partwise_checkpoints SET record = '[]' WHERE part_number = 2 AND NOT damaged")
        with pytest.raises(CheckpointDamaged, match="It was not changed"):
            store.load(saved.name)
        with store.claim(saved.name):
            with pytest.raises(CheckpointDamaged, match="set aside") as caught:
                store.load(saved.name)
            assert (caught.value.name, caught.value.upload_id) == (saved.name, "UPLOAD")
            assert damaged() == [0, 1, 2, 3]
            assert store.load(saved.name) is None
            store.save(saved)
            assert store.load(saved.name) == saved
    with store.claim(saved.name):
        store.delete(saved.name, "UPLOAD")
    assert damaged() == []
    assert list(store.scan()) == [checkpoint("neighbour")]


@pytest.mark.parametrize("noticed", [True, False], ids=["the session ends", "no answer"])
def test_damage_is_reported_although_the_response_to_setting_it_aside_is_lost(
    postgres, store, saved, monkeypatch, noticed: bool
) -> None:
    """The rows are gone at the second attempt: that of the store, or that of its caller."""
    set_aside, calls = module._set_aside, []

    def lose_the_response(session: Any, claim: Any) -> None:
        set_aside(session, claim)
        calls.append(claim.name)
        if not noticed:
            raise _postgres.NoAnswer("the server has not answered")
        postgres.end_sessions(f"pid = {session.process}")
        session.execute("SELECT 1", {})

    ask(postgres, store, "UPDATE partwise_checkpoints SET record = '[]' WHERE part_number = 2")
    monkeypatch.setattr(module, "_set_aside", lose_the_response)
    with store.claim(saved.name):
        if not noticed:
            with pytest.raises(CheckpointError, match="has not answered"):
                store.load(saved.name)
        with pytest.raises(CheckpointDamaged, match="set aside") as caught:
            store.load(saved.name)
        assert (caught.value.name, caught.value.upload_id) == (saved.name, "UPLOAD")
        assert calls == [saved.name]
        assert store.load(saved.name) is None


@pytest.mark.parametrize("column", ["record", "upload", "checksum"])
def test_a_damaged_checkpoint_is_deleted_whatever_its_upload_was(postgres, store, saved, column: str) -> None:
    ask(postgres, store, f"UPDATE partwise_checkpoints SET {column} = 'damaged' WHERE name = %s", saved.name)
    with store.claim(saved.name):
        store.delete(saved.name, "another")
    assert table(postgres, store, "*", f"name = '{saved.name}'") == []


def test_nothing_is_appended_to_a_damaged_checkpoint(postgres, store, saved, part) -> None:
    ask(postgres, store, "UPDATE partwise_checkpoints SET upload = 'damaged' WHERE name = %s", saved.name)
    with store.claim(saved.name), pytest.raises(CheckpointDamaged, match="It was not changed"):
        store.append_part(saved.name, "UPLOAD", part(4))


def test_damaged_rows_are_logged_and_left_out_of_a_scan(postgres, store, saved, checkpoint, caplog) -> None:
    ask(postgres, store, "UPDATE partwise_checkpoints SET record = '[]' WHERE part_number = 2")
    ask(postgres, store, "INSERT INTO partwise_checkpoints (name, part_number, record) VALUES ('\u00e4', 0, '{}')")
    ask(postgres, store, "INSERT INTO partwise_checkpoints (name, part_number, record) VALUES ('\x1b[2J', 0, '{}')")
    with caplog.at_level(logging.WARNING, "partwise.stores.postgres"):
        assert list(store.scan()) == [checkpoint("neighbour")]
    assert all(record.getMessage().isprintable() for record in caplog.records)
    assert {(record.name, record.levelname) for record in caplog.records} == {("partwise.stores.postgres", "WARNING")}
    assert saved.name in caplog.text


def test_a_scan_ends_whatever_names_are_in_the_table(  # noqa: PLR0917  # fixtures
    postgres, store, saved, checkpoint, caplog, monkeypatch
) -> None:
    """Others may write to it, too. These names come after U+FFFD, which stands for what can't be decoded."""
    page, pages = store._page, []

    def counted(after: str, session: Any) -> Any:
        pages.append(after)
        assert len(pages) <= 4, "the scan does not end"
        return page(after, session)

    monkeypatch.setattr(module, "_PAGE", 2)
    monkeypatch.setattr(store, "_page", counted)
    for name in "\U0001f600\U0001f601\U0001f602\U0001f603":
        ask(postgres, store, "INSERT INTO partwise_checkpoints (name, part_number, record) VALUES (%s, 0, '{}')", name)
    with caplog.at_level(logging.WARNING, "partwise.stores.postgres"):
        assert {found.key for found in store.scan()} == {saved.key, checkpoint("neighbour").key}
    assert len(caplog.records) == 4


def test_a_scan_goes_on_past_checkpoints_that_are_deleted_meanwhile(store, checkpoint, monkeypatch) -> None:
    monkeypatch.setattr(module, "_PAGE", 1)
    for number in range(3):
        store.save(checkpoint(str(number)))
    assert {found.key for found in store.scan()} == {"0", "1", "2"}
    scan = iter(store.scan())
    next(scan)
    for number in range(3):
        store.delete(checkpoint(str(number)).name, "UPLOAD")
    assert list(scan) == []


# --- sessions that end -----------------------------------------------------------------------------------------------


@pytest.fixture
def other(url: str) -> Iterator[PostgresCheckpointStore]:
    """The store of another host."""
    with PostgresCheckpointStore(url) as store:
        yield store


def test_a_claim_survives_the_end_of_its_session(postgres, store, other, checkpoint, part) -> None:
    saved = checkpoint()
    calls: list[Callable[[], object]] = [
        lambda: store.save(saved),
        lambda: store.append_part(saved.name, "UPLOAD", part(1)),
        lambda: store.check_claim(saved.name),
        lambda: store.load(saved.name),
        lambda: store.delete(saved.name, "UPLOAD"),
    ]
    with store.claim(saved.name):
        for call in calls:
            assert postgres.end_sessions() >= 1
            call()
            with pytest.raises(CheckpointBusy), other.claim(saved.name):
                pass
    with other.claim(saved.name):
        pass


def test_a_session_that_the_server_still_has_is_ended_by_its_successor(postgres, store, other, checkpoint) -> None:
    """The network has lost the connection, and the server has not noticed yet."""
    saved = checkpoint()
    with store.claim(saved.name):
        store.save(saved)
        with lost_connection(session_of(store, saved.name)):
            with pytest.raises(CheckpointError, match="the previous session of this run has not ended yet") as caught:
                store.check_claim(saved.name)
            assert caught.value.retryable
            soon(lambda: succeeds(store.check_claim, saved.name))
            store.save(saved)
            with pytest.raises(CheckpointBusy), other.claim(saved.name):
                pass


def test_a_session_that_is_in_use_by_another_host_is_not_ended(postgres, store, checkpoint) -> None:
    """It has just acquired the lock, and has not written its owner yet."""
    saved = checkpoint()
    with store.claim(saved.name):
        store.save(saved)
        postgres.end_sessions(f"pid = {store._claims[saved.name].process}")
        session = _postgres.connect(store._parameters, create=False)
        assert session.try_lock(saved.name)
        with pytest.raises(CheckpointError, match="has not ended yet") as caught:
            store.check_claim(saved.name)
        assert caught.value.retryable
        assert session.execute("SELECT 1", {}) == [(1,)]
        session.close()
        soon(lambda: succeeds(store.check_claim, saved.name))


@contextmanager
def lost_connection(session: Any) -> Iterator[None]:
    """Take the connection from the client, and keep it open for the server."""
    number = session._connection.fileno()
    kept = os.dup(number)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, number)
    os.close(null)
    try:
        yield
    finally:
        os.close(kept)


def can_claim(store: PostgresCheckpointStore, name: str) -> bool:
    try:
        with store.claim(name):
            return True
    except CheckpointBusy:
        return False


def take_over_and_stop(other: PostgresCheckpointStore, theirs: Checkpoint) -> None:
    with other.claim(theirs.name):
        other.save(theirs)


def take_over_and_finish(other: PostgresCheckpointStore, theirs: Checkpoint) -> None:
    with other.claim(theirs.name):
        other.save(theirs)
        other.delete(theirs.name, theirs.upload_id)


def only_claim(other: PostgresCheckpointStore, theirs: Checkpoint) -> None:
    with other.claim(theirs.name):
        pass


@pytest.mark.parametrize("take_over", [take_over_and_stop, take_over_and_finish, only_claim])
@pytest.mark.parametrize("same_upload", [True, False], ids=["same upload", "another upload"])
@pytest.mark.parametrize("before_the_first_save", [True, False], ids=["before the first save", "after it"])
def test_a_claim_that_another_host_had_in_between_is_lost(  # noqa: PLR0917  # fixtures
    postgres, store, other, checkpoint, part, take_over, same_upload, before_the_first_save
) -> None:
    saved = checkpoint(parts=(part(1),))
    theirs = saved if same_upload else evolve(saved, upload_id="theirs", parts=(part(2),))
    with store.claim(saved.name):
        if not before_the_first_save:
            store.save(saved)
        postgres.end_sessions()
        take_over(other, theirs)
        before = table(postgres, store, "*")
        for call in (
            lambda: store.save(saved),
            lambda: store.append_part(saved.name, "UPLOAD", part(9)),
            lambda: store.check_claim(saved.name),
            lambda: store.delete(saved.name, "UPLOAD"),
            lambda: store.delete(saved.name, "theirs"),
        ) * 2:
            with pytest.raises(ClaimLost) as caught:
                call()
        assert "another run has claimed the checkpoint" in str(caught.value)
        soon(lambda: can_claim(other, saved.name))  # the lock is not kept by the run that has lost it
    assert [row[:3] for row in table(postgres, store, "*")] == [row[:3] for row in before]
    left = other.load(saved.name)
    assert left == (
        theirs
        if take_over is take_over_and_stop
        else None
        if before_the_first_save or take_over is take_over_and_finish
        else saved
    )


def test_a_claim_that_is_held_by_another_host_is_lost(postgres, store, other, checkpoint, part) -> None:
    saved = checkpoint()
    with store.claim(saved.name):
        store.save(saved)
        postgres.end_sessions()
        with other.claim(saved.name):
            with pytest.raises(ClaimLost):
                store.check_claim(saved.name)
            other.append_part(saved.name, "UPLOAD", part(1))
            other.check_claim(saved.name)
    assert other.load(saved.name).parts == (part(1),)


@pytest.mark.parametrize("method", ["append_part", "save", "delete", "check_claim"])
def test_the_rows_are_the_fence_even_if_two_sessions_had_the_lock(postgres, store, checkpoint, part, method) -> None:
    """As after a fail-over to a server that does not know the lock: the owner in the row decides."""
    saved = checkpoint()
    calls: dict[str, Callable[[], object]] = {
        "append_part": lambda: store.append_part(saved.name, "UPLOAD", part(1)),
        "save": lambda: store.save(evolve(saved, created=1.0)),
        "delete": lambda: store.delete(saved.name, "UPLOAD"),
        "check_claim": lambda: store.check_claim(saved.name),
    }
    with store.claim(saved.name):
        store.save(saved)
        ask(postgres, store, "UPDATE partwise_checkpoints SET owner = 'another'")
        before = table(postgres, store, "*")
        with pytest.raises(ClaimLost):
            calls[method]()
        assert table(postgres, store, "*") == before
    assert table(postgres, store, "*") == before


def test_a_claim_is_lost_with_its_table(postgres, store, checkpoint) -> None:
    saved = checkpoint()
    with store.claim(saved.name):
        store.save(saved)
        ask(postgres, store, "DROP TABLE partwise_checkpoints")
        with pytest.raises(CheckpointUnwritable, match="does not exist") as caught:
            store.save(saved)
        assert not caught.value.retryable
        postgres.end_sessions()
        with pytest.raises(ClaimLost):
            store.check_claim(saved.name)


def test_a_busy_claim_is_busy_even_if_the_server_is_away(store, checkpoint, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("connection refused")

    name = checkpoint().name
    with store.claim(name):
        monkeypatch.setattr(_postgres, "connect", fail)
        with pytest.raises(CheckpointBusy, match=f"the upload {name} is in progress: another run in this process"):
            store_claims(store, name)
        monkeypatch.undo()


def test_an_old_server_is_refused(store, checkpoint, monkeypatch) -> None:
    monkeypatch.setattr(_postgres, "_OLDEST_SERVER", 99)
    with pytest.raises(CheckpointUnwritable, match=r"it is on PostgreSQL \d+, and partwise needs version 99 or later"):
        store_claims(store, checkpoint().name)


def test_under_the_claim_only_the_same_upload_is_changed(postgres, store, checkpoint, part) -> None:
    """As when a run acts on what it knew before it saved another upload id."""
    saved = checkpoint(parts=(part(1),))
    with store.claim(saved.name):
        store.save(saved)
        before = table(postgres, store, "*")
        for call in (
            lambda: store.append_part(saved.name, "another", part(2)),
            lambda: store.delete(saved.name, "another"),
            lambda: store.delete(saved.name, None),
        ):
            with pytest.raises(ClaimLost, match="belongs to upload 'UPLOAD' now"):
                call()
            assert table(postgres, store, "*") == before
        store.append_part(saved.name, "UPLOAD", part(2))  # the claim itself is not lost


def test_only_the_store_that_holds_a_claim_can_check_it(store, other, checkpoint) -> None:
    name = checkpoint().name
    with store.claim(name):
        store.check_claim(name)
        with pytest.raises(ClaimLost, match="does not hold the claim"):
            other.check_claim(name)
    with pytest.raises(ClaimLost):
        store.check_claim(name)


def test_without_a_claim_a_write_holds_one_for_its_duration(store, other, checkpoint, part) -> None:
    saved = checkpoint()
    store.save(saved)
    store.append_part(saved.name, "UPLOAD", part(1))
    with other.claim(saved.name):
        for call in (
            lambda: store.save(saved),
            lambda: store.append_part(saved.name, "UPLOAD", part(2)),
            lambda: store.delete(saved.name, "UPLOAD"),
        ):
            with pytest.raises(CheckpointBusy):
                call()
    store.delete(saved.name, "UPLOAD")
    assert store.load(saved.name) is None


def test_a_claim_that_is_busy_says_what_is_uploaded(store, other, checkpoint) -> None:
    saved = checkpoint()
    with store.claim(saved.name):
        with pytest.raises(CheckpointBusy, match=f"the upload {saved.name} is in progress: another process"):
            store_claims(other, saved.name)
        store.save(saved)
        with pytest.raises(CheckpointBusy, match=r"'/data/backup.tar' to 'exampledir/backup.tar'.*: another process"):
            store_claims(other, saved.name)
        with pytest.raises(
            CheckpointBusy, match=r"'/data/backup.tar' to 'exampledir/backup.tar'.*: another run in this"
        ):
            store_claims(store, saved.name)


def store_claims(store: PostgresCheckpointStore, name: str) -> None:
    with store.claim(name):
        pass


# --- the command line ------------------------------------------------------------------------------------------------


def test_status_shows_what_is_running_and_neither_disturbs_it_nor_shows_the_password(
    postgres, schema, store, checkpoint, capfd
) -> None:
    url = postgres.url(schema=schema, tcp=True)
    saved = checkpoint()

    def status() -> str:
        assert main(["status", "--store", url]) == 0
        output = "".join(capfd.readouterr())
        assert postgres.password not in output
        assert quote(postgres.password, safe="") not in output
        return output

    assert f"no unfinished uploads are recorded in postgresql://127.0.0.1:{postgres.port}/postgres\n" in status()
    with store.claim(saved.name):
        store.save(saved)
        assert "running" in (shown := status())
        assert f"process {os.getpid()} on " in shown
        postgres.end_sessions()
        assert "running" not in status()
        store.check_claim(saved.name)  # the run goes on
        assert "running" in status()
    soon(lambda: not store.is_claimed(saved.name))


def test_while_the_server_is_away_appends_fail_at_once(postgres, store, checkpoint, part, monkeypatch) -> None:
    """An attempt to connect is not repeated before three times as long as the last one took."""
    saved = checkpoint()
    attempts: list[float] = []

    def slow_failure(*_: object, **__: object) -> None:
        attempts.append(time.monotonic())
        time.sleep(0.1)
        raise psycopg.OperationalError("connection refused")

    with store.claim(saved.name):
        store.save(saved)
        postgres.end_sessions()
        with monkeypatch.context() as patch:
            patch.setattr(_postgres, "connect", slow_failure)
            start = time.monotonic()
            while time.monotonic() < start + 0.75:
                with pytest.raises(CheckpointUnwritable) as caught:
                    store.append_part(saved.name, "UPLOAD", part(1))
                assert caught.value.retryable
                time.sleep(0.01)
            assert 1 <= len(attempts) <= 3
            with pytest.raises(CheckpointError):
                store.check_claim(saved.name)  # anything else connects
            assert len(attempts) >= 2
        store.check_claim(saved.name)
        store.append_part(saved.name, "UPLOAD", part(1))
    assert store.load(saved.name).parts == (part(1),)
