"""Requests of `abort`, `uploads` and `gc`, retried like those of an upload."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from partwise._engine.patience import Patience, is_retryable
from partwise._engine.retry import call_with_retries
from partwise.clock import SystemClock, default_random
from partwise.config import TransferConfig
from partwise.errors import BackendError, CheckpointError, HostNotFound, SourceError
from partwise.model import PendingUpload
from partwise.protocols import MultipartBackend

logger = logging.getLogger("partwise")

_T = TypeVar("_T")


class Retries:
    """
    Calls one storage with retries.

    After a request has failed for good, the storage counts as down, and further requests are tried only once until one
    succeeds: a thousand requests would otherwise take hours to fail.
    """

    def __init__(self, config: TransferConfig) -> None:
        self._patience = Patience.from_config(config, default_random())
        self._clock = SystemClock()
        self._never = threading.Event()
        self._down = False

    def call(self, attempt: Callable[[], _T], description: str) -> _T:
        """
        Make a request, or call a store, with retries.

        Ctrl-C during a wait raises KeyboardInterrupt.

        Raises:
            BackendError, CheckpointError: the last attempt failed.
        """
        patience = self._patience.at_most(0.0) if self._down else self._patience

        def log_retry(error: BackendError | CheckpointError | SourceError, delay: float, _: int) -> None:
            logger.info("%s: retrying in %.1f s: %s", description, delay, error)

        try:
            result = call_with_retries(attempt, patience, self._clock.monotonic, self._wait, log_retry, moves=True)
        except BackendError as error:
            self._down = is_retryable(error)
            if isinstance(error, HostNotFound) and patience.host_never_found:
                error.retryable = False
            raise
        if self._down:
            self._down = False
            self._patience.moved(self._clock.monotonic())
        return result

    def pending_uploads(self, backend: MultipartBackend, prefix: str) -> Iterator[PendingUpload]:
        """
        Iterate over the pending uploads.

        If the list fails in the middle, it is requested again, and continues.

        Raises:
            BackendError: the last of several consecutive attempts without a new upload failed.
        """
        # Hashes, since there may be very many, and the list has the others only one after the other.
        seen: set[int] = set()
        rest: Iterator[PendingUpload] | None = None

        def advance() -> PendingUpload | None:
            nonlocal rest
            if rest is None:
                rest = iter(backend.list_uploads(prefix))
            try:
                return next((one for one in rest if hash((one.key, one.upload_id)) not in seen), None)
            except BackendError:
                rest = None
                raise

        while (found := self.call(advance, f"listing the uploads in {backend.location}")) is not None:
            seen.add(hash((found.key, found.upload_id)))
            yield found

    def _wait(self, seconds: float) -> None:
        self._clock.wait(self._never, seconds)
