"""
How an upload ends: what is dropped, what is kept, and what the caller is told.

Whatever can't be cleaned up is reported, and fails nothing. A checkpoint is deleted only after the upload it speaks
of is gone, so that no upload is ever forgotten.
"""

from __future__ import annotations

from typing import NoReturn

from attrs import evolve

from partwise._engine.context import UploadContext
from partwise._engine.control import Control, ProgressRaised, StopRequested
from partwise._engine.ledger import Ledger, is_same_etag
from partwise._engine.plan import PartPlan
from partwise._engine.plugin_calls import PluginDefect, call_plugin
from partwise.checkpoint import Checkpoint
from partwise.errors import (
    BackendError,
    CallbackError,
    CannotResume,
    CheckpointError,
    IntegrityError,
    InvalidInput,
    PartwiseError,
    SourceChanged,
    UploadCancelled,
    UploadFailed,
    UploadNotFound,
    UploadPaused,
    UploadStopped,
)
from partwise.model import StoredObject, UploadedPart
from partwise.results import UploadResult

# --- cleaning up -----------------------------------------------------------------------------------------------------


def abort_all(context: UploadContext, upload_ids: tuple[str, ...]) -> tuple[str, ...]:
    """Abort uploads of ours that are of no use any more; the ids of those that could not be aborted come back."""
    return tuple(upload_id for upload_id in upload_ids if not _abort(context, upload_id))


def _abort(context: UploadContext, upload_id: str) -> bool:
    try:
        context.retry(lambda: context.backend.abort_upload(context.key, upload_id))
    except UploadNotFound:
        return True
    except (BackendError, PluginDefect) as error:
        context.warn(f"the upload {upload_id} could not be aborted: {error}")
        context.abort_error = error.__cause__ if isinstance(error, PluginDefect) else error
        return False
    return True


def drop(context: UploadContext) -> bool:
    """Drop the upload under way and then its checkpoint; False if the upload could not be dropped, and both stay."""
    _finish_undisturbed(context)
    checkpoint = context.checkpoint
    if checkpoint is None:
        return True
    own = () if checkpoint.upload_id is None else (checkpoint.upload_id,)
    if abort_all(context, (*checkpoint.abandoned, *own)):
        return False
    forget(context)
    context.let_go()
    return True


def forget(context: UploadContext) -> None:
    """Delete the checkpoint. That it could not be deleted is told, and fails nothing."""
    if context.store is None:
        return
    try:
        call_plugin(context.store.delete, context.name)
    except (CheckpointError, PluginDefect) as error:
        context.warn(f"the checkpoint could not be deleted: {error}")


def _finish_undisturbed(context: UploadContext) -> None:
    """What is being cleaned up is not left half done because somebody asks (again) for a pause or a cancel."""
    context.control = Control()


def drop_if_unrecorded(context: UploadContext) -> None:
    """Drop an upload that no later run could carry on."""
    if not context.is_resumable:
        drop(context)


def stop_for(context: UploadContext, error: BaseException) -> None:
    """
    Pause the upload, or cancel it if that was asked for, because an exception from outside partwise ends the run: an
    interrupt, an exit, a time limit, the error of a progress callback. The exception gets a note of what is kept.
    """
    if context.checkpoint is None:
        return
    if context.control.cancelled:
        drop(context)
        return
    if context.is_resumable:
        error.add_note(f"The upload of {context.target} stopped with {_done(context)}, and the same call carries on.")
    drop_if_unrecorded(context)


def _clean_up(context: UploadContext) -> None:
    if context.checkpoint is None:
        return
    left = abort_all(context, context.checkpoint.abandoned)
    if left:
        context.warn(f"left behind on the storage, for 'partwise gc' to drop: {', '.join(left)}")
    forget(context)
    context.checkpoint = None


# --- ending well -----------------------------------------------------------------------------------------------------


def finished(context: UploadContext, stored: StoredObject) -> UploadResult:
    """
    The object is there: make sure that it is the right one, leave nothing behind, and say so.

    Raises:
        UploadFailed: what is stored is not what was sent.
        ProgressRaised: the caller's callback did, on being told of the end.
    """
    _finish_undisturbed(context)
    ledger = context.ledger
    combined = ledger.crc64()
    if stored.crc64 is None and combined is not None and context.backend.capabilities.object_checksums:
        stored = _with_checksum(context, stored)
    _clean_up(context)
    if stored.size != ledger.plan.size or (stored.crc64 is not None and combined not in (None, stored.crc64)):
        raise stop(
            context,
            UploadFailed,
            f"{context.key} was stored with {stored.size} bytes and CRC-64 {stored.crc64}, but what was sent has"
            f" {ledger.plan.size} bytes and CRC-64 {combined}. Delete or replace that object; the next run sends every"
            " part",
            resumable=False,
        ) from IntegrityError("the object is not what was sent", retryable=False)
    result = UploadResult(
        key=context.key,
        size=stored.size,
        etag=stored.etag,
        crc64=stored.crc64 if combined is None else combined,
        version_id=stored.version_id,
        request_id=stored.request_id,
        callback_response=stored.callback_response,
        bytes_sent=ledger.bytes_done - ledger.bytes_resumed,
        bytes_resumed=ledger.bytes_resumed,
        parts_sent=ledger.parts_done - ledger.parts_resumed,
        parts_resumed=ledger.parts_resumed,
        verified=stored.crc64 is not None and stored.crc64 == combined,
        warnings=tuple(context.warnings),
    )
    try:
        context.report(completed=True)
    except ProgressRaised as error:
        (error.__cause__ or error).add_note(f"{context.key} is stored all the same, and need not be uploaded again.")
        raise
    return result


def _with_checksum(context: UploadContext, stored: StoredObject) -> StoredObject:
    try:
        head = context.retry(lambda: context.backend.head_object(context.key))
    except PartwiseError as error:
        context.warn(f"the object's checksum could not be asked for: {error}")
        return stored
    if head is None or not is_same_etag(head.etag, stored.etag):
        context.warn("the object's checksum could not be compared: another object stands there by now")
        return stored
    return evolve(stored, crc64=head.crc64)


def found_finished(context: UploadContext, stored: StoredObject, checkpoint: Checkpoint) -> UploadResult:
    """An earlier run completed the upload and could not say so: all of it is resumed, nothing is sent."""
    # The upload is dead, and its object must not be touched; but what a storage had no time to remove of it may go.
    own = () if checkpoint.upload_id is None else (checkpoint.upload_id,)
    context.checkpoint = evolve(checkpoint, parts=(), abandoned=(*checkpoint.abandoned, *own))
    parts = PartPlan(checkpoint.part_size, stored.size, checkpoint.parts_per_doubling).parts_total or 0
    context.ledger = Ledger(PartPlan(stored.size, stored.size))
    context.ledger.record(UploadedPart(1, stored.size, stored.etag, stored.crc64), resumed=True)
    context.warn("an earlier run had completed the upload, and its answer was lost")
    return evolve(finished(context, stored), parts_resumed=parts)


def finished_but_for_the_callback(context: UploadContext, error: CallbackError) -> NoReturn:
    """
    The object is stored, so all is cleaned up; then the failure of the callback is told.

    Raises:
        CallbackError: always, with the result.
    """
    stored = error.result
    if not isinstance(stored, StoredObject):
        stored = StoredObject(context.key, context.ledger.plan.size or 0, "")
    result = finished(context, stored)
    raise CallbackError(
        f"{context.key} is stored, but its callback failed: {error}. Don't upload it again",
        result=result,
        code=error.code,
        status=error.status,
        request_id=error.request_id,
        host_id=error.host_id,
        ec=error.ec,
        details=error.details,
    ) from error


# --- ending otherwise ------------------------------------------------------------------------------------------------


def stop(context: UploadContext, kind: type[UploadStopped], message: str, *, resumable: bool) -> UploadStopped:
    """An error of this kind that tells how far the upload is."""
    return kind(
        message,
        key=context.key,
        upload_id=context.checkpoint.upload_id if context.checkpoint else None,
        resumable=resumable,
        bytes_done=context.ledger.bytes_done,
        bytes_total=context.ledger.plan.size,
        parts_done=context.ledger.parts_done,
        parts_total=context.ledger.plan.parts_total,
        warnings=tuple(context.warnings),
    )


def interrupted(context: UploadContext, wish: StopRequested) -> NoReturn:
    """
    Do what was asked for.

    Raises:
        UploadPaused, UploadCancelled: always.
    """
    if wish.mode == "cancel":
        dropped = drop(context)
        raise stop(
            context,
            UploadCancelled,
            f"the upload of {context.target} was cancelled"
            + ("" if dropped else "; it could not be aborted, so its checkpoint is kept: cancel again"),
            resumable=False,
        )
    keeps, done = context.is_resumable, _done(context)
    drop_if_unrecorded(context)
    raise stop(
        context,
        UploadPaused,
        f"the upload of {context.target} was paused with {done}"
        + (", and the same call carries on" if keeps else ", which can't be resumed and were dropped"),
        resumable=keeps,
    )


def source_changed(context: UploadContext, error: SourceChanged) -> NoReturn:
    """
    Parts of two versions must never meet: drop what there is.

    Raises:
        SourceChanged: always.
    """
    dropped = drop(context)
    aftermath = ""
    if not dropped:
        who = "the next run" if context.is_resumable else "'partwise gc'"
        aftermath = f" The upload could not be aborted now; {who} will do it."
    raise SourceChanged(
        f"{error}. Nothing was completed, and the next run sends every part.{aftermath}", source=error.source
    ) from error


def failed(context: UploadContext, error: BaseException) -> NoReturn:
    """
    Tell a failure: what is kept, and what to do next.

    Raises:
        UploadFailed: with `error` as its cause.
        PartwiseError: `error` itself, where it says all there is to say.
    """
    keeps = context.is_resumable
    drop_if_unrecorded(context)
    if isinstance(error, InvalidInput | UploadStopped | CheckpointError | CannotResume):
        raise error
    reason = str(error) if isinstance(error, PartwiseError) else f"{type(error).__name__}: {error}"
    advice = f"Kept: {_done(context)}; the same call carries on" if keeps else "Nothing is kept"
    raise stop(
        context,
        UploadFailed,
        f"{context.target} could not be uploaded: {reason.rstrip('.')}. {advice}",
        resumable=keeps,
    ) from error


def _done(context: UploadContext) -> str:
    total = context.ledger.plan.size
    return f"{context.ledger.bytes_done} bytes" if total is None else f"{context.ledger.bytes_done} of {total} bytes"
