"""
Completing, whatever answers are lost on the way: one object in the end, and no part is sent again for a lost answer.

A request to complete can fail in three ways that look alike from here: it never arrived, it arrived and was refused,
or it took effect and the answer was lost. The two facts that tell are asked for: is the upload gone, and is the
object that stands there the one that our parts make? Either alone proves nothing: an upload can be gone because it
expired, and an object of the same bytes can have stood there before.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from partwise._engine.context import UploadContext
from partwise._engine.finish import stop
from partwise._engine.ledger import TOKEN_NAME, is_same_part
from partwise._engine.plugin_calls import call_plugin
from partwise._engine.resume import local_checksums
from partwise.errors import (
    BackendError,
    CallbackError,
    ObjectExists,
    OutcomeUnknown,
    PartRejected,
    PartwiseError,
    SourceChanged,
    UploadNotFound,
    UploadStopped,
)
from partwise.model import StoredObject, UploadedPart

# Each round of repair sends the parts that differ; a storage that goes on losing parts is not worth a third.
_REPAIRS_MAX = 2


class UploadLost(PartwiseError):
    """The storage no longer knows the upload, in the middle of a context. Never seen by a caller."""


def complete(context: UploadContext, send_missing: Callable[[], None]) -> StoredObject:
    """
    Make the object of the parts that the ledger holds.

    Args:
        context: the upload.
        send_missing: sends what the ledger lacks, for parts that turn out not to be on the storage.

    Raises:
        UploadLost: the upload is gone, and no object is there.
        CallbackError: the object is stored, but the callback failed.
        OutcomeUnknown: the upload is gone, and nothing tells whether the object is ours.
        SourceChanged: the source is not what it was.
        BackendError: refused, or failed once too often.
    """
    repairs = failures = 0
    while True:
        context.control.check()
        _check_whole(context)
        context.check_source()
        if context.source_moved:
            compare_moved(context)
            context.source_moved = False
        try:
            return call_plugin(
                context.backend.complete_upload,
                context.key,
                context.upload_id,
                context.ledger.receipts(),
                context.order.options,
            )
        except PartRejected as error:
            repairs += 1
            if repairs > _REPAIRS_MAX or not (repaired := _repair(context)):
                raise
            context.warn(f"{repaired}: {error}")
            send_missing()
        except UploadNotFound as error:
            stored = _object_of_a_lost_answer(context, gone=True, asked_before=failures > 0)
            if stored is None:
                raise UploadLost(str(error)) from error
            return stored
        except CallbackError:
            raise
        except BackendError as error:
            failures += 1
            stored = _settle(context, error, failures)
            if stored is not None:
                context.warn(f"the answer to complete was lost ({error}), and the object was found to be there")
                return stored


def _settle(context: UploadContext, error: BackendError, failures: int) -> StoredObject | None:
    """
    The object, if this failure to complete hides a success; None, once it is time for another attempt.

    Raises:
        BackendError: `error`, if it is time for none.
    """
    delay = context.policy.delay(failures, error)
    if delay is not None and error.retry_after is not None:
        context.wait(delay)  # whoever asks to be left alone is not asked what became of it, either
        delay = 0.0
    stored = _object_after(context, error, uncertain=failures > 1)
    if stored is None:
        if delay is None:
            raise error
        context.log_retry(error, delay)
        context.wait(delay)
    return stored


def _object_after(context: UploadContext, error: BackendError, *, uncertain: bool) -> StoredObject | None:
    # An object that must not be overwritten may be the one that an earlier, unanswered request of ours made.
    may_have_happened = error.retryable or (uncertain and isinstance(error, ObjectExists))
    return _object_of_a_lost_answer(context, gone=False, asked_before=True) if may_have_happened else None


def _check_whole(context: UploadContext) -> None:
    if not context.ledger.is_whole():
        raise SourceChanged(
            f"{context.ledger.parts_done} parts of {context.ledger.bytes_done} bytes do not make up {context.target}, which has"
            f" {context.ledger.plan.size}",
            source=context.source.name,
        )
    context.check_expected(
        context.ledger.plan.size, context.ledger.crc64() if context.order.expected_crc64 is not None else None
    )
    if context.fingerprint.crc64 is not None and context.ledger.crc64() not in (None, context.fingerprint.crc64):
        raise SourceChanged(f"{context.target} changed on the way: its checksum is another", source=context.source.name)


def compare_moved(context: UploadContext) -> None:
    """
    Read again what was sent of a source whose identity is another one than it was; see `UploadContext.check_source`.

    Raises:
        SourceChanged: the bytes are not those that were sent.
    """
    sent = {part.part_number: part.crc64 for part in context.ledger.receipts()}
    if local_checksums(context, context.ledger.plan, sent) != sent:
        raise SourceChanged(f"{context.target} was replaced by another file on the way", source=context.source.name)


def _object_of_a_lost_answer(context: UploadContext, *, gone: bool, asked_before: bool) -> StoredObject | None:
    head = context.retry(lambda: context.backend.head_object(context.key))
    if head is None or head.size != context.ledger.plan.size:
        return None
    ours = _is_ours(context, head)
    if ours is False:
        return None
    if ours is None and not (gone or context.backend.capabilities.lists_parts):
        raise unknown(context, head)
    if not (gone or _is_gone(context)):
        return None
    if ours is None:
        raise unknown(context, head)
    seen = asked_before and context.backend.capabilities.lists_parts
    return head if seen or _resumed_parts_hold(context) else None


def _resumed_parts_hold(context: UploadContext) -> bool:
    """
    Whether what earlier runs recorded is of the source, by reading it.

    If neither a list nor a request of this run has shown that the storage knew the upload, nothing but the checkpoint
    speaks of those parts.
    """
    if context.fingerprint.size is None:
        return True  # they were compared as the stream was read
    recorded = {part.part_number: part.crc64 for part in context.ledger.resumed()}
    return local_checksums(context, context.ledger.plan, recorded) == recorded


def _is_ours(context: UploadContext, head: StoredObject) -> bool | None:
    """Whether the object is the one that our parts make; None where nothing tells."""
    if context.checkpoint is not None and context.checkpoint.token is not None:
        return head.metadata.get(TOKEN_NAME) == context.checkpoint.token
    combined = context.ledger.crc64()
    return None if head.crc64 is None or combined is None else head.crc64 == combined


def _is_gone(context: UploadContext) -> bool:
    if not context.backend.capabilities.lists_parts:
        # Without a list only this makes sure that the upload does not linger, and it touches no object.
        context.retry(lambda: context.backend.abort_upload(context.key, context.upload_id))
        return True
    try:
        context.retry(lambda: list(context.backend.list_parts(context.key, context.upload_id)))
    except UploadNotFound:
        return True
    return False


def _repair(context: UploadContext) -> str:
    """
    Strike the parts from the ledger that the storage does not hold as recorded, so that they are sent again.

    A part whose ETag alone differs, since something on the way has altered it, gets the one that the storage lists.

    Returns:
        what was done, in words; "" where nothing could be.
    """
    if not context.backend.capabilities.lists_parts:
        return ""
    try:
        listed = context.retry(lambda: list(context.backend.list_parts(context.key, context.upload_id)))
    except UploadNotFound as error:
        raise UploadLost(str(error)) from error
    held = {part.part_number: part for part in listed}
    differing: list[UploadedPart] = []
    altered: list[UploadedPart] = []
    for part in context.ledger.receipts():
        other = held.get(part.part_number)
        if other is None or not is_same_part(part, other) or other.crc64 not in (None, part.crc64):
            differing.append(part)
        elif other.etag != part.etag:
            altered.append(evolve(part, etag=other.etag))
    if differing and context.fingerprint.size is None:
        return ""  # a stream has gone by, and can't be read again
    for part in altered:
        context.ledger.correct(part)
        context.remember(part)
    for part in differing:
        context.ledger.strike(part.part_number)
    if differing:
        return "parts were not on the storage as recorded, and were sent again"
    return "ETags of parts were altered on their way, and were taken from the storage's list" if altered else ""


def unknown(context: UploadContext, head: StoredObject) -> UploadStopped:
    """The OutcomeUnknown to be raised; nothing is guessed."""
    return stop(
        context,
        OutcomeUnknown,
        f"the upload of {context.target} is gone, and an object of its size stands there, but nothing tells whether it is"
        f" ours (its ETag is {head.etag}). Look at the object; to send it again, abort this upload, or call with"
        " resume='never'",
        resumable=False,
    )
