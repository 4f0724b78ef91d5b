"""
How an upload ends: what is dropped, what is kept, and what the caller is told.

Whatever can't be cleaned up is reported, and fails nothing. A checkpoint is deleted only after the upload it speaks
of is gone, so that no upload is ever forgotten.
"""

from __future__ import annotations

from typing import NoReturn

from attrs import evolve

from partwise._engine.context import Run
from partwise._engine.ledger import Ledger, is_same_etag
from partwise._engine.plan import PartPlan
from partwise._engine.plugin_calls import PluginDefect, call_plugin
from partwise._engine.scheduler import Control, Interrupted, ProgressRaised
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
from partwise.model import Checkpoint, StoredObject, UploadedPart, UploadResult

# --- cleaning up -----------------------------------------------------------------------------------------------------


def abort_all(run: Run, upload_ids: tuple[str, ...]) -> tuple[str, ...]:
    """Abort uploads of ours that are of no use any more; the ids of those that could not be aborted come back."""
    return tuple(upload_id for upload_id in upload_ids if not _abort(run, upload_id))


def _abort(run: Run, upload_id: str) -> bool:
    try:
        run.persist(lambda: run.backend.abort_upload(run.key, upload_id))
    except UploadNotFound:
        return True
    except (BackendError, PluginDefect) as error:
        run.warn(f"the upload {upload_id} could not be aborted: {error}")
        run.abort_error = error.__cause__ if isinstance(error, PluginDefect) else error
        return False
    return True


def drop(run: Run) -> bool:
    """Drop the upload under way and then its checkpoint; False if the upload could not be dropped, and both stay."""
    _finish_undisturbed(run)
    checkpoint = run.checkpoint
    if checkpoint is None:
        return True
    own = () if checkpoint.upload_id is None else (checkpoint.upload_id,)
    if abort_all(run, (*checkpoint.abandoned, *own)):
        return False
    forget(run)
    run.let_go()
    return True


def forget(run: Run) -> None:
    """Delete the checkpoint. That it could not be deleted is told, and fails nothing."""
    if run.store is None:
        return
    try:
        call_plugin(run.store.delete, run.name)
    except (CheckpointError, PluginDefect) as error:
        run.warn(f"the checkpoint could not be deleted: {error}")


def _finish_undisturbed(run: Run) -> None:
    """What is being cleaned up is not left half done because somebody asks (again) for a pause or a cancel."""
    run.control = Control()


def drop_if_unrecorded(run: Run) -> None:
    """Drop an upload that no later run could carry on."""
    if not run.keeps_progress:
        drop(run)


def stop_for(run: Run, error: BaseException) -> None:
    """
    Pause the upload, or cancel it if that was asked for, because an exception from outside partwise ends the run: an
    interrupt, an exit, a time limit, the error of a progress callback. The exception gets a note of what is kept.
    """
    if run.checkpoint is None:
        return
    if run.control.cancelled:
        drop(run)
        return
    if run.keeps_progress:
        error.add_note(f"The upload of {run.target} stopped with {_done(run)}, and the same call carries on.")
    drop_if_unrecorded(run)


def _clean_up(run: Run) -> None:
    if run.checkpoint is None:
        return
    left = abort_all(run, run.checkpoint.abandoned)
    if left:
        run.warn(f"left behind on the storage, for 'partwise gc' to drop: {', '.join(left)}")
    forget(run)
    run.checkpoint = None


# --- ending well -----------------------------------------------------------------------------------------------------


def finished(run: Run, stored: StoredObject) -> UploadResult:
    """
    The object is there: make sure that it is the right one, leave nothing behind, and say so.

    Raises:
        UploadFailed: what is stored is not what was sent.
        ProgressRaised: the caller's callback did, on being told of the end.
    """
    _finish_undisturbed(run)
    ledger = run.ledger
    combined = ledger.crc64()
    if stored.crc64 is None and combined is not None and run.backend.capabilities.object_checksums:
        stored = _with_checksum(run, stored)
    _clean_up(run)
    if stored.size != ledger.plan.size or (stored.crc64 is not None and combined not in (None, stored.crc64)):
        raise stop(
            run,
            UploadFailed,
            f"{run.key} was stored with {stored.size} bytes and CRC-64 {stored.crc64}, but what was sent has"
            f" {ledger.plan.size} bytes and CRC-64 {combined}. Delete or replace that object; the next run sends every"
            " part",
            resumable=False,
        ) from IntegrityError("the object is not what was sent", retryable=False)
    result = UploadResult(
        key=run.key,
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
        warnings=tuple(run.warnings),
    )
    try:
        run.report(completed=True)
    except ProgressRaised as error:
        (error.__cause__ or error).add_note(f"{run.key} is stored all the same, and need not be uploaded again.")
        raise
    return result


def _with_checksum(run: Run, stored: StoredObject) -> StoredObject:
    try:
        head = run.persist(lambda: run.backend.head_object(run.key))
    except PartwiseError as error:
        run.warn(f"the object's checksum could not be asked for: {error}")
        return stored
    if head is None or not is_same_etag(head.etag, stored.etag):
        run.warn("the object's checksum could not be compared: another object stands there by now")
        return stored
    return evolve(stored, crc64=head.crc64)


def found_finished(run: Run, stored: StoredObject, checkpoint: Checkpoint) -> UploadResult:
    """An earlier run completed the upload and could not say so: all of it is resumed, nothing is sent."""
    # The upload is dead, and its object must not be touched; but what a storage had no time to remove of it may go.
    own = () if checkpoint.upload_id is None else (checkpoint.upload_id,)
    run.checkpoint = evolve(checkpoint, parts=(), abandoned=(*checkpoint.abandoned, *own))
    parts = PartPlan(checkpoint.part_size, stored.size, checkpoint.doubling_every).parts_total or 0
    run.ledger = Ledger(PartPlan(stored.size, stored.size))
    run.ledger.record(UploadedPart(1, stored.size, stored.etag, stored.crc64), resumed=True)
    run.warn("an earlier run had completed the upload, and its answer was lost")
    return evolve(finished(run, stored), parts_resumed=parts)


def finished_but_for_the_callback(run: Run, error: CallbackError) -> NoReturn:
    """
    The object is stored, so all is cleaned up; then the failure of the callback is told.

    Raises:
        CallbackError: always, with the result.
    """
    stored = error.result
    if not isinstance(stored, StoredObject):
        stored = StoredObject(run.key, run.ledger.plan.size or 0, "")
    result = finished(run, stored)
    raise CallbackError(
        f"{run.key} is stored, but its callback failed: {error}. Don't upload it again",
        result=result,
        code=error.code,
        status=error.status,
        request_id=error.request_id,
        host_id=error.host_id,
        ec=error.ec,
        details=error.details,
    ) from error


# --- ending otherwise ------------------------------------------------------------------------------------------------


def stop(run: Run, kind: type[UploadStopped], message: str, *, resumable: bool) -> UploadStopped:
    """An error of this kind that tells how far the upload is."""
    return kind(
        message,
        key=run.key,
        upload_id=run.checkpoint.upload_id if run.checkpoint else None,
        resumable=resumable,
        bytes_done=run.ledger.bytes_done,
        bytes_total=run.ledger.plan.size,
        parts_done=run.ledger.parts_done,
        parts_total=run.ledger.plan.parts_total,
        warnings=tuple(run.warnings),
    )


def interrupted(run: Run, wish: Interrupted) -> NoReturn:
    """
    Do what was asked for.

    Raises:
        UploadPaused, UploadCancelled: always.
    """
    if wish.wish == "cancel":
        dropped = drop(run)
        raise stop(
            run,
            UploadCancelled,
            f"the upload of {run.target} was cancelled"
            + ("" if dropped else "; it could not be aborted, so its checkpoint is kept: cancel again"),
            resumable=False,
        )
    keeps, done = run.keeps_progress, _done(run)
    drop_if_unrecorded(run)
    raise stop(
        run,
        UploadPaused,
        f"the upload of {run.target} was paused with {done}"
        + (", and the same call carries on" if keeps else ", which can't be resumed and were dropped"),
        resumable=keeps,
    )


def source_changed(run: Run, error: SourceChanged) -> NoReturn:
    """
    Parts of two versions must never meet: drop what there is.

    Raises:
        SourceChanged: always.
    """
    dropped = drop(run)
    aftermath = ""
    if not dropped:
        who = "the next run" if run.keeps_progress else "'partwise gc'"
        aftermath = f" The upload could not be aborted now; {who} will do it."
    raise SourceChanged(
        f"{error}. Nothing was completed, and the next run sends every part.{aftermath}", source=error.source
    ) from error


def failed(run: Run, error: BaseException) -> NoReturn:
    """
    Tell a failure: what is kept, and what to do next.

    Raises:
        UploadFailed: with `error` as its cause.
        PartwiseError: `error` itself, where it says all there is to say.
    """
    keeps = run.keeps_progress
    drop_if_unrecorded(run)
    if isinstance(error, InvalidInput | UploadStopped | CheckpointError | CannotResume):
        raise error
    reason = str(error) if isinstance(error, PartwiseError) else f"{type(error).__name__}: {error}"
    advice = f"Kept: {_done(run)}; the same call carries on" if keeps else "Nothing is kept"
    raise stop(
        run, UploadFailed, f"{run.target} could not be uploaded: {reason.rstrip('.')}. {advice}", resumable=keeps
    ) from error


def _done(run: Run) -> str:
    total = run.ledger.plan.size
    return f"{run.ledger.bytes_done} bytes" if total is None else f"{run.ledger.bytes_done} of {total} bytes"
