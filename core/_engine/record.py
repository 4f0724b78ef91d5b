"""
The record of one upload in the checkpoint store.

The record may belong to another run by the time it is written: a store for many hosts can lose a claim while the
process that held it is alive. So whatever the store says of the claim is kept here, and nothing is written after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

from partwise._engine.patience import Patience, is_retryable
from partwise._engine.plugin_calls import call_plugin
from partwise._supports import supports_claim_check
from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointDamaged, CheckpointError, ClaimLost
from partwise.model import UploadedPart
from partwise.protocols import CheckpointStore

_T = TypeVar("_T")


class Retry(Protocol):
    """Calls `attempt`, retrying transient errors; see `UploadContext.retry`."""

    def __call__(
        self, operation: str, attempt: Callable[[], _T], *, moves: bool = True, patience: Patience | None = None
    ) -> _T: ...


class CheckpointRecord:
    """
    Write one upload's checkpoint to the store, while its claim is held.

    It is loaded once, saved with each new upload id, extended by each acknowledged part, and deleted in the end.
    Between those, three things are remembered:

    - which upload ids the record may have: a save that failed may have taken effect, and only a record of this run's
      upload may be extended or deleted;
    - the parts that the store could not append for a moment: they are appended with the next part;
    - that the claim is lost, once the store has said so.

    Without a store, every call does nothing.

    Args:
        store: the store; None: progress is recorded nowhere.
        name: the checkpoint's name.
        retry: calls the store again after transient errors.
        warn: gets the warning that progress could not be recorded, once.
        log_delay: gets the error after which a part waits to be appended with the next one.
    """

    def __init__(
        self,
        store: CheckpointStore | None,
        name: str,
        *,
        retry: Retry,
        warn: Callable[[str], object],
        log_delay: Callable[[CheckpointError], object],
    ) -> None:
        self._store = store
        self._claims = store if supports_claim_check(store) else None
        self._name = name
        self._retry = retry
        self._warn = warn
        self._log_delay = log_delay
        self._has_warned = False
        #: The upload ids that the record may have: one; several after a save that failed.
        self.upload_ids: tuple[str | None, ...] = (None,)
        #: Whether it is known which upload the record is of, if there is one.
        self.is_loaded = store is None
        #: The error by which the store said that this run no longer holds the claim. Nothing is sent after it.
        self.claim_lost: ClaimLost | None = None
        #: Acknowledged parts, with their upload ids, that the store could not append yet.
        self._waiting: deque[tuple[str, UploadedPart]] = deque()

    # --- the whole record --------------------------------------------------------------------------------------------

    def load(self) -> Checkpoint | None:
        """
        Load the checkpoint, retrying transient errors; None if there is none.

        Raises:
            CheckpointError: it can't be loaded.
        """
        if self._store is None:
            return None
        self.upload_ids = (None,)
        try:
            found = self._call("load", partial(self._store.load, self._name))
        except CheckpointDamaged as error:
            self.upload_ids, self.is_loaded = (error.upload_id,), True
            raise
        self.is_loaded = True
        if found is not None:
            self.upload_ids = (found.upload_id,)
        return found

    def save(self, checkpoint: Checkpoint, patience: Patience | None = None) -> None:
        """
        Save a checkpoint in place of the record, retrying transient errors.

        Args:
            checkpoint: what is saved.
            patience: decides how long; None: that of the run.

        Raises:
            ClaimLost: this run no longer holds the claim.
            CheckpointError: it can't be saved.
        """
        if self._store is None:
            return
        # After an error it is not known which of the two the store has.
        self.upload_ids = (checkpoint.upload_id, *(i for i in self.upload_ids if i != checkpoint.upload_id))
        self._call("save", partial(self._store.save, checkpoint), patience)
        self.upload_ids = (checkpoint.upload_id,)
        self._waiting.clear()  # parts of an earlier upload

    def delete(self, patience: Patience | None = None) -> None:
        """
        Delete the record of this run, retrying transient errors.

        Args:
            patience: decides how long; None: that of the run.

        Raises:
            ClaimLost: this run no longer holds the claim, or the store has the checkpoint of another run.
            CheckpointError: it can't be deleted.
        """
        if self._store is None:
            return
        self.check_claim(patience)
        *others, last = self.upload_ids
        for upload_id in others:
            with suppress(ClaimLost):
                delete = partial(self._store.delete, self._name, upload_id)
                self._retry("delete", delete, moves=False, patience=patience)
                break
            self.check_claim(patience)  # it has another record, or the claim is lost
        else:
            self._call("delete", partial(self._store.delete, self._name, last), patience)
        self.upload_ids = (None,)

    # --- parts -------------------------------------------------------------------------------------------------------

    def append_part(self, upload_id: str, part: UploadedPart) -> None:
        """
        Append an acknowledged part to the record.

        A failure to write it is a warning: the storage's own list has the part, too. After a transient failure it is
        appended again with the next part.

        Raises:
            ClaimLost: this run no longer holds the claim.
        """
        if self._store is not None and self.claim_lost is None:
            self._waiting.append((upload_id, part))
            self._append_waiting_parts(self._store)

    def append_remaining_parts(self) -> None:
        """
        Append the parts whose recording failed for a moment, before the upload ends.

        One attempt is made.

        Raises:
            ClaimLost: this run no longer holds the claim.
        """
        if self._store is None or not self._waiting or self.claim_lost is not None:
            return
        error = self._append_waiting_parts(self._store)
        if error is not None:
            self.warn_unwritten(error)

    def _append_waiting_parts(self, store: CheckpointStore) -> CheckpointError | None:
        """
        Append the parts that are not recorded.

        Returns:
            the transient error after which some of them are left; None if none is.
        """
        while self._waiting:
            upload_id, part = self._waiting.popleft()
            try:
                call_plugin(store.append_part, self._name, upload_id, part)
            except ClaimLost as error:
                self.claim_lost = error
                raise
            except CheckpointError as error:
                if is_retryable(error):
                    self._waiting.appendleft((upload_id, part))
                    self._log_delay(error)
                    return error
                self.warn_unwritten(error)
        return None

    def warn_unwritten(self, error: CheckpointError) -> None:
        """Warn, once in a run, that progress could not be written to the record."""
        if not self._has_warned:
            self._has_warned = True
            self._warn(f"progress could not be recorded: {error}")

    # --- the claim ---------------------------------------------------------------------------------------------------

    def check_claim(self, patience: Patience | None = None) -> None:
        """
        Check that this run still holds the claim, if the store can tell.

        Called before what can't be undone.

        Args:
            patience: decides how long transient errors are retried; None: that of the run.

        Raises:
            ClaimLost: it does not.
            CheckpointError: it is not known.
        """
        self._require_claim()
        if self._claims is not None:
            self._call("check_claim", partial(self._claims.check_claim, self._name), patience)

    def check_claim_once(self) -> None:
        """
        Do the same by one attempt.

        For a caller that is itself called again after transient errors. Raises what `check_claim` raises.
        """
        self._require_claim()
        if self._claims is not None:
            try:
                call_plugin(self._claims.check_claim, self._name)
            except ClaimLost as error:
                self.claim_lost = error
                raise

    def _call(self, operation: str, call: Callable[[], _T], patience: Patience | None = None) -> _T:
        self._require_claim()
        try:
            return self._retry(operation, call, moves=False, patience=patience)
        except ClaimLost as error:
            self.claim_lost = error
            raise

    def _require_claim(self) -> None:
        """
        Raise ClaimLost if the store has said that the claim is lost.

        It may have said so while the last parts of an upload were appended, when another error was being handled.
        """
        if self.claim_lost is not None:
            raise self.claim_lost
