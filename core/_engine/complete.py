"""
Complete an upload, even if responses are lost.

The result is one object, and no part is sent again because of a lost response.

A request to complete can fail in three ways that look alike from here: it never arrived; it arrived and was refused; or
it took effect and the response was lost. Two facts settle it: whether the upload id is gone, and whether the object
under the key is the one that our parts make. Neither is enough alone: an upload id can be gone because it expired, and
an object with the same bytes may have been stored before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from attrs import evolve

from partwise._engine.context import UploadContext
from partwise._engine.finish import outcome_unknown_error, warn_completed_earlier
from partwise._engine.plugin_calls import call_plugin
from partwise._engine.reconcile import TOKEN_NAME, is_same_part, why_not_sent
from partwise._engine.resume import local_checksums, source_crc64
from partwise._engine.retry import add_hint
from partwise.checksums import CRC64_XZ
from partwise.errors import (
    BackendError,
    CallbackError,
    IntegrityError,
    ObjectExists,
    PartRejected,
    PartwiseError,
    PreconditionFailed,
    SourceChanged,
    UploadNotFound,
    UploadUnusable,
)
from partwise.model import StoredObject, UploadedPart

# Each repair sends the parts that differ again. A storage that keeps losing parts is not worth a third one.
_MAX_REPAIRS = 2


#: Permanent errors that are raised, too, if an earlier attempt has made the object.
_MEETS_OBJECT = (ObjectExists, PreconditionFailed, UploadUnusable)


class UploadLost(PartwiseError):
    """
    The storage no longer knows the upload id, in the middle of a run.

    Never seen by a caller.
    """


class Completion:
    """Make the object of the parts in the ledger."""

    def __init__(self, context: UploadContext) -> None:
        self._context = context
        self._repairs = 0
        self._failures = 0

    def run(self) -> StoredObject | None:
        """
        Complete the upload, retrying transient errors.

        Returns:
            the object; None if the storage does not hold all parts as recorded: the ledger then lacks some of them,
            which must be sent before `run` is called again.

        Raises:
            UploadLost: the upload id is gone, and no object of this upload is stored.
            CallbackError: the object is stored, but the callback failed.
            OutcomeUnknown: the upload id is gone, and nothing shows whether the stored object is ours.
            SourceChanged: the source is not what it was.
            ClaimLost: this run no longer holds the claim. Nothing was completed.
            CheckpointError: it is not known whether it does. Nothing was completed.
            UploadUnusable: the upload can never be completed, or the storage refused an object of other bytes.
            BackendError: the request was refused, or failed too often.
        """
        context = self._context
        context.record.append_remaining_parts()
        self._check_parts()
        while True:
            context.control.check()
            self._check_before_request()
            try:
                stored: StoredObject | None = call_plugin(
                    context.backend.complete_upload,
                    context.key,
                    context.upload_id,
                    context.ledger.parts(),
                    context.object_options(context.checkpoint.token if context.checkpoint else None),
                )
            except PartRejected as error:
                self._repair(error)
                return None
            except UploadNotFound as error:
                return self._find_completed(error)
            except CallbackError:
                raise
            except BackendError as error:
                if isinstance(error, IntegrityError) and not error.retryable:
                    self._replace_damaged_parts(error)
                    return None
                self._failures += 1
                context.may_be_stored |= error.retryable
                stored = self._resolve_failure(error)
                if stored is not None:
                    context.moved()
                    context.warn(f"the response to complete was lost ({error}), but the object is stored")
                    self._warn_if_completed_earlier()
                    return stored
            else:
                context.moved()
                return stored

    # --- before the request ------------------------------------------------------------------------------------------

    def _check_parts(self) -> None:
        """
        Check that the parts are all of the source, and the source is the expected one.

        It may be read for that, so this comes before the claim is checked, and once for all attempts.
        """
        context, ledger = self._context, self._context.ledger
        if not ledger.is_complete():
            raise SourceChanged(
                f"{context.description} has {ledger.plan.size} bytes, and its parts that were sent have"
                f" {ledger.bytes_done}",
                source=context.source.name,
            )
        known = context.fingerprint.crc64
        sent = self._sent_crc64() if (known, context.request.expected_crc64) != (None, None) else None
        context.check_expected(ledger.plan.size, sent)
        if None not in (known, sent) and sent != known:
            raise SourceChanged(
                f"{context.description} changed during the upload: its checksum is different",
                source=context.source.name,
            )

    def _check_before_request(self) -> None:
        self._context.record.check_claim()
        while self._compare_if_moved():
            self._context.record.check_claim()

    def _compare_if_moved(self) -> bool:
        """
        Check the source; return whether all of it was read.

        That takes time in which the claim may be lost.
        """
        context = self._context
        context.check_source()
        moved, context.source_moved = context.source_moved, False
        if moved:
            compare_moved_source(context)
        return moved

    def _sent_crc64(self) -> int | None:
        """Return the CRC-64/XZ of what was sent, whatever checksum the storage has."""
        context = self._context
        if context.checksum == CRC64_XZ and (sent := context.sent_checksum()) is not None:
            return sent
        if context.fingerprint.size is None:
            return context.stream_crc64
        # So what is read now is what was sent. A part of an earlier run whose checksum is not known was resumed because
        # the source has not changed since.
        _compare_source(context, (part for part in context.ledger.parts() if part.checksum is not None))
        return source_crc64(context, context.ledger.plan)

    # --- after a failure ---------------------------------------------------------------------------------------------

    def _resolve_failure(self, error: BackendError) -> StoredObject | None:
        """
        Return the object if the failed request took effect; else wait and return None.

        After None, it is time for the next attempt.

        Raises:
            BackendError: `error`, if there is no next attempt.
        """
        context = self._context
        delay = context.patience.next_delay(context.clock.monotonic(), self._failures, error)
        if delay is not None and error.retry_after is not None:
            context.wait(delay)  # during a pause that the storage requests, no HEAD is sent, either
            delay = 0.0
        # What exists, or what this request has met, may be the object of an earlier attempt.
        may_be_stored = error.retryable or (self._failures > 1 and isinstance(error, _MEETS_OBJECT))
        stored = self._find_object(gone=False, upload_was_seen=True) if may_be_stored else None
        if stored is None:
            if delay is None:
                add_hint(error, context.patience)
                raise error
            context.report_retry("complete_upload", error, delay, self._failures)
            context.wait(delay)
        return stored

    def _find_completed(self, error: UploadNotFound) -> StoredObject:
        """Return the object that an earlier request made; raise UploadLost if none did."""
        context = self._context
        stored = self._find_object(gone=True, upload_was_seen=self._failures > 0)
        if stored is None:
            raise UploadLost(str(error)) from error
        context.moved()
        self._warn_if_completed_earlier()
        return stored

    def _warn_if_completed_earlier(self) -> None:
        """Warn if an earlier run has made the object, or if nothing shows which run has."""
        context = self._context
        if context.ledger.parts_resumed < context.ledger.parts_done:
            return  # parts were sent to the upload in this run, so it was not completed before
        if self._failures == 0:
            warn_completed_earlier(context)
        elif not context.backend.capabilities.lists_parts:
            warn_completed_earlier(context, certain=False)

    def _find_object(self, *, gone: bool, upload_was_seen: bool) -> StoredObject | None:
        """
        Return the stored object, if this upload made it.

        Args:
            gone: the storage has said that it does not know the upload id.
            upload_was_seen: an earlier response has shown that the storage knew the upload.

        Raises:
            OutcomeUnknown: nothing shows whether it did.
        """
        context = self._context
        head = context.retry("head_object", lambda: context.backend.head_object(context.key), moves=False)
        if head is None or head.size != context.ledger.plan.size:
            return None
        ours = self._is_ours(head)
        if ours is False:
            return None
        lists_parts = context.backend.capabilities.lists_parts
        if ours is None and not (gone or lists_parts):
            raise outcome_unknown_error(context, head)
        if not (gone or self._upload_is_gone()):
            return None
        if ours is None:
            raise outcome_unknown_error(context, head)
        return head if (upload_was_seen and lists_parts) or self._resumed_parts_match_source() else None

    def _is_ours(self, head: StoredObject) -> bool | None:
        """Return whether our parts make this object; None if nothing shows it."""
        context = self._context
        if context.checkpoint is not None and context.checkpoint.token is not None:
            return head.metadata.get(TOKEN_NAME) == context.checkpoint.token
        combined = context.sent_checksum()
        return None if head.checksum is None or combined is None else head.checksum == combined

    def _upload_is_gone(self) -> bool:
        context = self._context
        if not context.backend.capabilities.lists_parts:
            if not context.backend.capabilities.aborts:
                return False  # not known: completing again shows it
            # Without a list, only an abort makes sure that the upload does not remain; it does not touch the object.
            abort = partial(context.backend.abort_upload, context.key, context.upload_id)
            context.record.check_claim()
            context.retry("abort_upload", abort, moves=False)
            return True
        try:
            self._list_parts()
        except UploadNotFound:
            return True
        return False

    def _resumed_parts_match_source(self) -> bool:
        """
        Return whether the parts that earlier runs recorded have the source's bytes.

        They are read for that.

        Needed if neither a list nor a request of this run has shown that the storage knew the upload: then only the
        checkpoint says that those parts were uploaded.
        """
        context = self._context
        if context.fingerprint.size is None:
            return True  # they were compared while the stream was read
        recorded = {part.part_number: part.checksum for part in context.ledger.resumed_parts()}
        return local_checksums(context, context.ledger.plan, recorded) == recorded

    def _list_parts(self) -> list[UploadedPart]:
        context = self._context
        return context.retry(
            "list_parts", lambda: list(context.backend.list_parts(context.key, context.upload_id)), moves=False
        )

    # --- after a rejected part ---------------------------------------------------------------------------------------

    def _replace_damaged_parts(self, error: IntegrityError) -> None:
        """
        Have the parts sent again that are not on the storage as they were sent.

        Raises:
            UploadUnusable: the list of parts does not tell which ones these are.
        """
        try:
            self._repair(error)
        except IntegrityError:
            raise UploadUnusable(f"the storage refused to make the object: {error.message}") from error

    def _repair(self, error: PartRejected | IntegrityError) -> None:
        """
        Remove from the ledger the parts that the storage does not hold as recorded.

        They are then sent again.

        A part whose ETag alone differs, because a proxy has altered it, gets the ETag that the storage lists.

        Raises:
            PartRejected, IntegrityError: `error`, if no part differs, or none can be sent again.
            UploadLost: the storage no longer knows the upload id.
            UploadUnusable: a part differs that the storage does not take again.
        """
        context, ledger = self._context, self._context.ledger
        self._repairs += 1
        if self._repairs > _MAX_REPAIRS or not context.backend.capabilities.lists_parts:
            raise error
        try:
            listed = {part.part_number: part for part in self._list_parts()}
        except UploadNotFound as gone:
            raise UploadLost(str(gone)) from gone
        different, altered = _compare_parts(ledger.parts(), listed)
        can_not_be_read_again = bool(different) and context.fingerprint.size is None
        if can_not_be_read_again or not (different or altered):
            raise error
        for part in different:
            if problem := why_not_sent(part.part_number, listed, context.backend.capabilities):
                raise UploadUnusable(f"{problem}: {error}") from error
        for part in altered:
            ledger.replace(part)
            context.record.append_part(context.upload_id, part)
        for part in different:
            ledger.remove(part.part_number)
            if context.events is not None:
                context.events.part_lost(part)
        done = "were not on the storage as recorded, and are sent again" if different else "had altered ETags"
        context.warn(f"parts {done}", error)


def _compare_parts(
    parts: Iterable[UploadedPart], listed: Mapping[int, UploadedPart]
) -> tuple[list[UploadedPart], list[UploadedPart]]:
    """Return the parts that differ from the list, and those with another ETag only."""
    different: list[UploadedPart] = []
    altered: list[UploadedPart] = []
    for part in parts:
        other = listed.get(part.part_number)
        if other is None or not is_same_part(part, other) or other.checksum not in (None, part.checksum):
            different.append(part)
        elif other.etag != part.etag:
            altered.append(evolve(part, etag=other.etag))
    return different, altered


def compare_moved_source(context: UploadContext) -> None:
    """Raise SourceChanged if a moved source has other bytes than those sent."""
    _compare_source(context, context.ledger.parts())


def _compare_source(context: UploadContext, parts: Iterable[UploadedPart]) -> None:
    sent = {part.part_number: part.checksum for part in parts}
    if local_checksums(context, context.ledger.plan, sent) != sent:
        raise SourceChanged(
            f"{context.description} was replaced by another file during the upload", source=context.source.name
        )
