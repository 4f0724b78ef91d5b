"""Small objects, stored with one request, without a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from partwise._engine.context import UploadContext, logger
from partwise._engine.ledger import Ledger
from partwise._engine.plan import PartPlan
from partwise._engine.reconcile import TOKEN_NAME, is_same_etag
from partwise._engine.resume import checksum_of
from partwise._engine.throttle import ThrottledBody
from partwise.bodies import SourceBodyWrapper
from partwise.checksums import CRC64_XZ
from partwise.errors import (
    BackendError,
    CallbackError,
    IntegrityError,
    ObjectExists,
    PreconditionFailed,
    SourceUnreadable,
)
from partwise.model import StoredObject, UploadedPart
from partwise.protocols import Body, SourceBody


def put_object(context: UploadContext, source_body: SourceBody, reason: str = "") -> StoredObject:
    """
    Store `source_body`, retrying transient errors.

    The ledger then holds it as one part.

    Args:
        context: the upload.
        source_body: all bytes of the source.
        reason: why they are sent again, for the event; "" if they are not.

    Raises:
        SourceChanged: the source changed before its last bytes were sent. Nothing was stored.
        SourceMismatch: it is not the source that the caller expects. Nothing was sent.
        CallbackError: the object is stored, but its callback failed.
        ClaimLost: this run no longer holds the claim. Nothing was sent after that.
        CheckpointError: it is not known whether it does. Nothing was sent after that.
        BackendError: of the last attempt.
    """
    # Nothing may be stored before the expected checksum is compared, so the source is read twice.
    size, expects = len(source_body), context.request.expected_crc64 is not None
    context.check_expected(size, checksum_of(source_body, CRC64_XZ) if expects else None)
    context.ledger = Ledger(PartPlan(max(1, size), size))
    context.is_decided = True
    transfer = context.new_transfer_state()
    context.control.on_request(transfer.stop.set)
    logger.info("%s: starting, with one request", context.description, extra=context.log_fields())
    if context.events is not None:
        context.events.upload_started(context.ledger, None, size, reason=reason)
    checked = SourceCheckedBody(source_body, lambda: _check_source(context))
    body = ThrottledBody(checked, 1, transfer, context.checksum, is_last=True)
    attempts = _PutAttempts(context, body)
    try:
        stored = context.retry("put_object", attempts)
    except CallbackError as error:
        _record_object(context, size, error.result.etag if isinstance(error.result, StoredObject) else "", attempts)
        raise
    _record_object(context, size, stored.etag, attempts)
    return stored


def _record_object(context: UploadContext, size: int, etag: str, attempts: _PutAttempts) -> None:
    if size:
        part = UploadedPart(1, size, etag, attempts.checksum)
        context.ledger.add(part)
        if context.events is not None:
            context.events.part_done(part, context.clock.monotonic() - attempts.started)


def _check_source(context: UploadContext) -> None:
    context.check_source()
    if context.source_moved:
        context.source_moved = False  # the next attempt reads the file that was found now
        raise SourceUnreadable(
            f"{context.source.name} has another inode than when it was opened, so it is read again from its start",
            source=context.source.name,
            retryable=True,
        )


class SourceCheckedBody(SourceBodyWrapper):
    """Checks the source before its last bytes: two versions never mix in one object."""

    def __init__(self, body: SourceBody, check: Callable[[], None]) -> None:
        super().__init__(body)
        self._check = check

    def chunks(self) -> Iterator[memoryview]:
        left = len(self)
        for chunk in self._body.chunks():
            left -= len(chunk)
            if left <= 0:
                self._check()
            yield chunk


class _PutAttempts:
    """
    Attempts to store an object.

    Each one knows whether an earlier one may have succeeded.
    """

    def __init__(self, context: UploadContext, body: Body) -> None:
        self._context = context
        self._body = body
        requested = context.request.options
        # Otherwise an attempt after a lost response replaces the object, and need not know it.
        is_conditional = requested.forbid_overwrite or requested.if_match is not None
        self._token = context.new_token() if is_conditional else None
        self._options = context.object_options(self._token)
        #: That of what was sent. The last attempt may have been refused before its body was read.
        self.checksum: int | None = None
        #: That of an object that did not arrive as it was sent; None if all did.
        self._damaged_etag: str | None = None
        #: When the last attempt started, on the monotonic clock.
        self.started = 0.0

    def __call__(self) -> StoredObject:
        context, body = self._context, self._body
        context.control.check()
        context.record.check_claim_once()
        context.status.set_in_flight(1)
        self.started = context.clock.monotonic()
        try:
            stored = context.backend.put_object(context.key, body, self._options)
        except (ObjectExists, PreconditionFailed):
            # After a lost response, the object that exists may be the one that we have just stored.
            head = context.backend.head_object(context.key) if context.may_be_stored else None
            if head is None or not (self._is_ours(head) or self._is_damaged(head)):
                raise
            if self._token is None and self._is_ours(head):
                context.warn(
                    "the response to an earlier request was lost, and the object has the bytes that were sent: if it"
                    " is older than this run, the options of this run had no effect"
                )
            return head
        except BackendError:
            context.may_be_stored = True
            raise
        finally:
            context.status.set_in_flight(0)
            if body.checksum is not None:
                self.checksum = body.checksum
        if stored.checksum not in (None, body.checksum):
            context.may_be_stored = True
            self._damaged_etag = stored.etag
            raise IntegrityError(f"{context.key} did not arrive as it was sent: the checksums differ")
        return stored

    def _is_ours(self, head: StoredObject) -> bool:
        if head.size != len(self._body):
            return False
        if head.checksum is not None:
            return head.checksum == self.checksum
        return self._token is not None and head.metadata.get(TOKEN_NAME) == self._token

    def _is_damaged(self, head: StoredObject) -> bool:
        """
        Return whether this run has stored the object, with other bytes than it sent.

        Where a condition keeps it from being replaced, it is the result, and its checksum fails the upload.
        """
        damaged = self._damaged_etag
        return damaged is not None and head.checksum is not None and is_same_etag(head.etag, damaged)
