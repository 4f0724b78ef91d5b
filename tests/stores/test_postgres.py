"""The PostgreSQL store against a real server: the suite of stores."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar

import pytest

from partwise.protocols import CheckpointStore
from partwise.stores.postgres import PostgresCheckpointStore
from partwise.testing import CheckpointStoreConformance, StoreHarness

if TYPE_CHECKING:
    from conftest import PostgresServer


@pytest.fixture
def url(postgres) -> Iterator[str]:
    with postgres.new_schema() as schema:
        yield postgres.url(schema=schema)


@pytest.fixture
def store(url: str) -> Iterator[PostgresCheckpointStore]:
    with PostgresCheckpointStore(url) as store:
        yield store


class PostgresHarness(StoreHarness):
    """Each harness has a schema of the same database."""

    server: ClassVar[PostgresServer]
    examples = 15

    def __init__(self) -> None:
        self._open = ExitStack()
        self.schema = self._open.enter_context(self.server.new_schema())

    def close(self) -> None:
        self._open.close()

    def open(self) -> CheckpointStore:
        return PostgresCheckpointStore(self.server.url(schema=self.schema))

    def elsewhere(self) -> Callable[[], CheckpointStore]:
        return functools.partial(PostgresCheckpointStore, self.server.url(schema=self.schema))

    def open_unwritable(self) -> CheckpointStore:
        return PostgresCheckpointStore(self.server.url(schema="missing"))

    def read_record(self, name: str) -> bytes:
        rows = self.server.ask(
            "SELECT record, checksum FROM partwise_checkpoints WHERE name = %s ORDER BY part_number",
            name,
            schema=self.schema,
        )
        return "\n".join(f"{record} {checksum}" for record, checksum in rows).encode()

    def write_record(self, name: str, data: bytes) -> None:
        """Change the rows that are there, as far as there are lines for them; the last one gets all other lines."""
        numbers = self.server.ask(
            "SELECT part_number FROM partwise_checkpoints WHERE name = %s ORDER BY part_number",
            name,
            schema=self.schema,
        )
        lines = data.decode().split("\n", len(numbers) - 1)
        for (number,), line in zip(numbers, lines, strict=False):
            record, _, checksum = line.rpartition(" ")
            self.server.ask(
                "UPDATE partwise_checkpoints SET record = %s, checksum = %s WHERE name = %s AND part_number = %s",
                *(record, checksum, name, number),
                schema=self.schema,
            )


@pytest.fixture(scope="class")
def harness_server(running_postgres: PostgresServer) -> None:
    PostgresHarness.server = running_postgres


@pytest.mark.usefixtures("harness_server")
class TestPostgres(CheckpointStoreConformance):
    harness = PostgresHarness


def test_first(store, checkpoint, part) -> None:
    saved = checkpoint()
    with store.claim(saved.name):
        store.save(saved)
        store.append_part(saved.name, "UPLOAD", part(1))
        store.check_claim(saved.name)
        assert store.load(saved.name).parts == (part(1),)
        store.delete(saved.name, "UPLOAD")
        assert store.load(saved.name) is None
    assert list(store.scan()) == []
