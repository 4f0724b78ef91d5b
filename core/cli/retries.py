"""Requests of commands to the storage, retried as those of an upload are."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from attrs import evolve

from partwise._engine.retry import RetryPolicy, call_with_retries, is_retryable
from partwise.clock import SystemClock, default_random
from partwise.config import TransferConfig
from partwise.errors import BackendError, SourceError
from partwise.model import PendingUpload
from partwise.protocols import MultipartBackend

logger = logging.getLogger("partwise")

_T = TypeVar("_T")


class Retries:
    """
    Makes requests that concern one storage.

    Once a request has failed as often as allowed, the storage is taken to be down, and each further request is made
    only once, until one succeeds: a thousand of them would otherwise take hours to fail.

    Args:
        config: how often, and how long to wait in between.
    """

    def __init__(self, config: TransferConfig) -> None:
        self._policy = RetryPolicy.from_config(config, default_random())
        self._clock = SystemClock()
        self._never = threading.Event()
        self._down = False

    def call(self, attempt: Callable[[], _T], what: str) -> _T:
        """
        Make a request. A Ctrl-C while it waits comes out as KeyboardInterrupt.

        Args:
            attempt: the request.
            what: what it is, for the log.

        Raises:
            BackendError: that of the last attempt.
        """
        policy = evolve(self._policy, max_attempts=1) if self._down else self._policy

        def note(error: BackendError | SourceError, delay: float) -> None:
            logger.info("%s: tried again in %.1f s: %s", what, delay, error)

        try:
            result = call_with_retries(attempt, policy, self._wait, note)
        except BackendError as error:
            self._down = is_retryable(error)
            raise
        self._down = False
        return result

    def pending_uploads(self, backend: MultipartBackend, prefix: str) -> Iterator[PendingUpload]:
        """
        The pending uploads, as they come. Where the list breaks off, it is asked for again, and goes on.

        Raises:
            BackendError: that of the last attempt in a row that brought nothing new.
        """
        seen: set[tuple[str, str]] = set()
        left: Iterator[PendingUpload] | None = None

        def advance() -> PendingUpload | None:
            nonlocal left
            if left is None:
                left = iter(backend.list_uploads(prefix))
            try:
                return next((one for one in left if (one.key, one.upload_id) not in seen), None)
            except BackendError:
                left = None
                raise

        while (found := self.call(advance, f"listing the uploads in {backend.location}")) is not None:
            seen.add((found.key, found.upload_id))
            yield found

    def _wait(self, seconds: float) -> None:
        self._clock.wait(self._never, seconds)
