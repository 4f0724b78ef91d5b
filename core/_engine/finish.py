"""
The end of an upload: what is discarded, what is kept, what the caller gets.

A failed clean-up is reported, and fails nothing. A checkpoint is deleted only after its upload is gone from the
storage, so that no upload is left without a record of it. A run that has lost its claim cleans nothing up: the upload
is another run's. The functions that are called ``..._error`` return the error; their callers raise it.
"""

from __future__ import annotations

from functools import partial

from attrs import evolve

from partwise._engine.context import UploadContext
from partwise._engine.control import CallbackRaised, StopMode
from partwise._engine.ledger import Ledger
from partwise._engine.patience import is_retryable
from partwise._engine.plan import PartPlan
from partwise._engine.plugin_calls import PluginDefect
from partwise._engine.reconcile import is_same_etag
from partwise._units import format_count
from partwise.checkpoint import Checkpoint
from partwise.errors import (
    KEPT_BY_EARLIER_RUN,
    BackendError,
    CallbackError,
    CheckpointError,
    ClaimLost,
    HostNotFound,
    IntegrityError,
    OutcomeUnknown,
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


def abort_uploads(context: UploadContext, upload_ids: tuple[str, ...]) -> tuple[str, ...]:
    """
    Abort uploads on the storage; return the ids of those for which that failed.

    Each of these failures is a warning. A storage that can't abort uploads is not asked to.

    Raises:
        ClaimLost: this run no longer holds the claim. Nothing more was aborted.
    """
    if upload_ids and not context.backend.capabilities.aborts:
        context.warn_not_aborted()
        return ()
    return tuple(upload_id for upload_id in upload_ids if not _abort(context, upload_id))


def _abort(context: UploadContext, upload_id: str) -> bool:
    try:
        context.record.check_claim(context.short_patience)
        abort = partial(context.backend.abort_upload, context.key, upload_id)
        context.retry("abort_upload", abort, patience=context.short_patience)
    except UploadNotFound:
        return True
    except ClaimLost:
        raise
    except (BackendError, CheckpointError, PluginDefect) as error:
        context.warn(f"the upload {upload_id} could not be aborted", error)
        context.abort_error = error.__cause__ if isinstance(error, PluginDefect) else error
        return False
    except BaseException as interrupt:
        if context.store is None:  # no checkpoint knows it, and no later run aborts it
            interrupt.add_note(f"The upload {upload_id} of {context.description} may still be on the storage.")
        raise
    return True


def discard_upload(context: UploadContext) -> bool:
    """
    Abort the upload, then delete its checkpoint.

    Returns:
        False if the abort failed; then both are kept, so that a later run can abort it.

    Raises:
        ClaimLost: this run no longer holds the claim. Nothing more was aborted or deleted.
    """
    context.ignore_stop_requests()
    checkpoint = context.checkpoint
    if checkpoint is None:
        return True
    own = () if checkpoint.upload_id is None else (checkpoint.upload_id,)
    if abort_uploads(context, (*checkpoint.abandoned, *own)):
        return False
    delete_checkpoint(context)
    context.clear()
    return True


def discard_unless_resumable(context: UploadContext) -> None:
    """
    Discard an upload that no later run could resume.

    Of any other, record the parts that are not recorded yet.

    Raises:
        ClaimLost: this run no longer holds the claim. Nothing was aborted or deleted.
    """
    if context.is_resumable:
        context.record.append_remaining_parts()
    else:
        discard_upload(context)


def delete_checkpoint(context: UploadContext) -> None:
    """
    Delete the checkpoint. A failure is a warning.

    Raises:
        ClaimLost: this run no longer holds the claim. Nothing was deleted.
    """
    try:
        context.record.delete(context.short_patience)
    except ClaimLost:
        raise
    except (CheckpointError, PluginDefect) as error:
        context.warn("the checkpoint could not be deleted", error)


# --- the object is stored --------------------------------------------------------------------------------------------


def finish(context: UploadContext, stored: StoredObject) -> UploadResult:
    """
    Verify the object, delete the checkpoint, return the result.

    Raises:
        UploadFailed: the object is not what was sent.
    """
    context.ignore_stop_requests()
    ledger = context.ledger
    sent = context.sent_checksum()
    if stored.checksum is None and sent is not None and context.backend.capabilities.object_checksums:
        stored = _with_checksum(context, stored)
    _delete_finished_checkpoint(context)
    if stored.size != ledger.plan.size or (stored.checksum is not None and sent not in (None, stored.checksum)):
        raise _wrong_object_error(context, stored, sent) from IntegrityError(
            "the object is not what was sent", retryable=False
        )
    return UploadResult(
        key=context.key,
        size=stored.size,
        etag=stored.etag,
        checksum=stored.checksum if sent is None else sent,
        checksum_algorithm=context.checksum.name,
        version_id=stored.version_id,
        request_id=stored.request_id,
        callback_response=stored.callback_response,
        bytes_sent=ledger.bytes_done - ledger.bytes_resumed,
        bytes_resumed=ledger.bytes_resumed,
        parts_sent=ledger.parts_done - ledger.parts_resumed,
        parts_resumed=ledger.parts_resumed,
        verified=stored.checksum is not None and stored.checksum == sent,
        warnings=tuple(context.warnings),
        retries=context.status.retries,
        concurrency_reached=context.status.concurrency_reached,
    )


def report_completed(context: UploadContext) -> None:
    """
    Call the progress callback with the end.

    Raises:
        CallbackRaised: it raised.
    """
    try:
        context.emit_progress(completed=True)
    except CallbackRaised as error:
        add_stored_note(context, error.__cause__ or error)
        raise


def add_stored_note(context: UploadContext, error: BaseException) -> None:
    """Note on the error of a callback that the object was stored before."""
    error.add_note(f"{context.key} is stored, and need not be uploaded again.")


_CONDITIONS = frozenset({"forbid_overwrite", "if_match"})


def finish_completed_earlier(context: UploadContext, stored: StoredObject, checkpoint: Checkpoint) -> UploadResult:
    """
    Return the result for an object that an earlier run completed.

    That run did not see the response. Nothing is sent.
    """
    # The upload id is gone and its object must not be touched. An abort removes what the storage may have left of it.
    aborts = context.backend.capabilities.aborts
    own = () if checkpoint.upload_id is None or not aborts else (checkpoint.upload_id,)
    context.checkpoint = evolve(checkpoint, parts=(), abandoned=(*checkpoint.abandoned, *own))
    if context.backend.capabilities.one_upload_per_key:
        context.checkpoint = evolve(context.checkpoint, abandoned=())  # nothing is left where one of them was completed
    parts = PartPlan(checkpoint.part_size, stored.size, checkpoint.parts_per_doubling).parts_total or 0
    context.ledger = Ledger(PartPlan(stored.size, stored.size))
    context.ledger.add(UploadedPart(1, stored.size, stored.etag, stored.checksum), resumed=True)
    warn_completed_earlier(context)
    return evolve(finish(context, stored), parts_resumed=parts)


def warn_completed_earlier(context: UploadContext, *, certain: bool = True) -> None:
    """
    Warn that an earlier run made the object, with the options of that run.

    Args:
        context: the upload.
        certain: this run did not make it; False: either did, and only options that may have had no effect matter.
    """
    if certain:
        context.warn("an earlier run completed the upload, but the response was lost")
    options, capabilities = context.request.options, context.backend.capabilities
    if late := sorted(options.explicitly_set() & capabilities.late_options - _CONDITIONS):
        # With which of these the object was made is not recorded, and not every storage tells.
        whose = "has the options of that run" if certain else "may have the options of an earlier run"
        had = "had" if certain else "may have had"
        context.warn(f"the object {whose}: {', '.join(late)} of this one {had} no effect")


def _with_checksum(context: UploadContext, stored: StoredObject) -> StoredObject:
    try:
        head = context.retry("head_object", lambda: context.backend.head_object(context.key))
    except PartwiseError as error:
        context.warn("the object's checksum could not be read", error)
        return stored
    if head is None:
        problem = "no object is stored under the key any more"
    elif stored.etag and not is_same_etag(head.etag, stored.etag):
        problem = "another object is stored under the key by now"
    elif not stored.etag and (head.size, head.checksum) != (stored.size, context.sent_checksum()):
        # As after a failed callback whose response does not describe the object.
        problem = "another object is stored under the key, or this one did not arrive as it was sent"
    else:
        return evolve(stored, etag=stored.etag or head.etag, checksum=head.checksum)
    context.warn(f"the object's checksum could not be compared: {problem}")
    return stored


def _delete_finished_checkpoint(context: UploadContext) -> None:
    if context.checkpoint is None:
        return
    try:
        left = abort_uploads(context, context.checkpoint.abandoned)
        if left:
            finds = ", which 'partwise gc' can abort" if context.backend.capabilities.lists_uploads else ""
            context.warn(f"orphans on the storage{finds}: {', '.join(left)}")
        delete_checkpoint(context)
    except ClaimLost as error:
        context.record.claim_lost = None  # only the clean-up is the other run's: the object is stored
        context.warn("the checkpoint was kept", error)
    context.checkpoint = None


# --- errors ----------------------------------------------------------------------------------------------------------


def stopped_error(
    context: UploadContext,
    kind: type[UploadStopped],
    message: str,
    *,
    resumable: bool,
    reason: str = "",
    kept: str = "",
    hint: str = "",
) -> UploadStopped:
    """Return an error of this kind, with how far the upload is."""
    return kind(
        message,
        reason=reason,
        kept=kept,
        hint=hint,
        key=context.key,
        upload_id=context.checkpoint.upload_id if context.checkpoint else None,
        resumable=resumable,
        bytes_done=context.ledger.bytes_done,
        bytes_total=context.ledger.plan.size,
        parts_done=context.ledger.parts_done,
        parts_total=context.ledger.plan.parts_total,
        warnings=tuple(context.warnings),
    )


def upload_failed_error(context: UploadContext, cause: BaseException) -> UploadStopped:
    """
    Return the UploadFailed for a permanent error, or when the patience has ended.

    An upload is kept if resumable.
    """
    resumable, idle = context.is_resumable, context.patience.gave_up_after
    discard_unless_resumable(context)
    kept = f"Kept: {_progress(context)}; the same call resumes" if resumable else "Nothing is kept"
    reason, hint = _reason_and_hint(cause)
    if idle is not None and idle >= 1.0 and is_retryable(cause):
        reason = f"{reason}; nothing has moved for {idle:.0f} s"
    if isinstance(cause, HostNotFound) and context.patience.host_never_found and not resumable:
        cause.retryable = False
    return stopped_error(
        context,
        UploadFailed,
        f"{context.description} could not be uploaded",
        reason=reason,
        kept=kept if context.record.is_loaded else KEPT_BY_EARLIER_RUN,
        hint=hint,
        resumable=resumable,
    )


def claim_lost_error(context: UploadContext, cause: ClaimLost) -> ClaimLost:
    """
    Return the ClaimLost with what is kept.

    Nothing is sent any more: the upload, its parts and its checkpoint are those of the run that holds the claim.
    """
    upload_id = None if context.checkpoint is None else context.checkpoint.upload_id
    if context.may_be_stored:
        kept = "The object may be stored: the response to its last request was lost"
    elif upload_id is None:
        kept = "Nothing was sent"
    elif context.record.upload_ids == (upload_id,):
        kept = f"Kept: {_progress(context)}, for the run that holds the claim"
    else:
        kept = f"The upload {upload_id} was not aborted, and may be in no checkpoint"
    return ClaimLost(
        f"this run has lost its claim on {context.description}, and stopped: {cause.message}. {kept}",
        name=context.name,
        where=cause.where,
        hint=cause.hint_template or "Repeat the call: it resumes, or says that another run is in progress",
    )


def abort_failed_error(context: UploadContext, cause: BaseException | None) -> UploadStopped:
    """Return the UploadFailed for an abort that failed."""
    reason, hint = ("", "") if cause is None else _reason_and_hint(cause)
    return stopped_error(
        context,
        UploadFailed,
        f"the upload of {context.description} could not be aborted",
        reason=reason,
        kept="Its checkpoint is kept",
        hint=hint,
        resumable=True,
    )


def _reason_and_hint(cause: BaseException) -> tuple[str, str]:
    if isinstance(cause, PartwiseError):
        return cause.message, cause.hint_template
    return f"{type(cause).__name__}: {cause}", ""


def stop_requested_error(context: UploadContext, mode: StopMode) -> UploadStopped:
    """
    Pause or cancel the upload, and return the UploadPaused or UploadCancelled.

    A cancel discards the upload, and so does a pause if it can't be resumed.
    """
    if mode == "cancel":
        if not context.record.is_loaded:
            # While the claim or the load was tried again.
            return stopped_error(
                context,
                UploadCancelled,
                f"the upload of {context.description} was cancelled before its checkpoint was read",
                kept=KEPT_BY_EARLIER_RUN,
                hint="Cancel it again to discard that",
                resumable=False,
            )
        kept = hint = ""
        if not discard_upload(context):
            if context.store is not None:
                kept, hint = "It could not be aborted, so its checkpoint is kept", "Cancel it again"
            elif context.backend.capabilities.lists_uploads:
                kept = "It could not be aborted; 'partwise gc' aborts it"
            else:
                kept = "It could not be aborted"
        return stopped_error(
            context,
            UploadCancelled,
            f"the upload of {context.description} was cancelled",
            kept=kept,
            hint=hint,
            resumable=False,
        )
    resumable, progress = context.is_resumable, _progress(context)
    discard_unless_resumable(context)
    kept = "The same call resumes" if resumable else "It can't be resumed, so nothing is kept"
    return stopped_error(
        context,
        UploadPaused,
        f"the upload of {context.description} was paused with {progress}",
        kept=kept if context.record.is_loaded else KEPT_BY_EARLIER_RUN,
        resumable=resumable,
    )


def source_changed_error(context: UploadContext, cause: SourceChanged) -> SourceChanged:
    """
    Discard the upload, and return the SourceChanged.

    Parts of two versions of a source must never be mixed.
    """
    discarded = discard_upload(context)
    later = ""
    if not discarded:
        later = ". The upload could not be aborted now"
        if context.is_resumable:
            later += "; the next run aborts it"
        elif context.backend.capabilities.lists_uploads:
            later += "; 'partwise gc' aborts it"
    stored = "Nothing was completed"
    if context.may_be_stored:  # by a request whose response was lost, or whose bytes did not arrive as they were sent
        stored = "An earlier request of this run may have stored an object"
    return SourceChanged(
        f"{cause.message}. {stored}, and the next run sends every part{later}",
        source=cause.source,
        hint=cause.hint_template,
    )


def callback_failed_error(error: CallbackError, result: UploadResult) -> CallbackError:
    """
    Return the CallbackError with the result.

    The object is stored, and everything is cleaned up.
    """
    return CallbackError(
        f"{result.key} is stored, but its callback failed: {error.message}",
        result=result,
        code=error.code,
        status=error.status,
        request_id=error.request_id,
        details=error.details,
        hint=error.hint_template or "Don't upload it again",
    )


def outcome_unknown_error(context: UploadContext, head: StoredObject) -> UploadStopped:
    """
    Return the OutcomeUnknown.

    Nothing shows whether the stored object is this upload's, and nothing is guessed.
    """
    return stopped_error(
        context,
        OutcomeUnknown,
        f"the upload of {context.description} is gone, and an object of its size is stored, but nothing shows whether"
        f" this upload made it (its ETag is {head.etag})",
        hint="Look at the object. To send it again, abort this upload or pass {resume=never}",
        resumable=False,
    )


def _wrong_object_error(context: UploadContext, stored: StoredObject, sent: int | None) -> UploadStopped:
    checksum, size = context.checksum.name, context.ledger.plan.size
    return stopped_error(
        context,
        UploadFailed,
        f"{context.key} was stored with {format_count(stored.size, 'byte')} and the {checksum} {stored.checksum}, but"
        f" what was sent has {size} and the {checksum} {sent}",
        hint="Delete or replace that object; the next run sends every part",
        resumable=False,
    )


def pause_for(context: UploadContext, error: BaseException) -> bool:
    """
    Pause the upload, or cancel it if a cancel was requested.

    An exception from outside partwise ends the run: an interrupt, an exit, a time limit, the error of a progress
    callback. It gets a note that says how much is kept.

    Returns:
        whether a cancel was requested before.
    """
    cancelled = context.control.cancelled
    if context.checkpoint is None:
        return cancelled
    try:
        if context.record.claim_lost is not None:
            raise context.record.claim_lost
        if cancelled:
            discard_upload(context)
        else:
            keep_or_discard(context, error)
    except ClaimLost as lost:
        error.add_note(str(claim_lost_error(context, lost)))
    return cancelled


def keep_or_discard(context: UploadContext, error: BaseException, *, with_note: bool = True) -> None:
    """
    Discard an upload that no later run could resume, because of this error.

    Args:
        context: the upload.
        error: ends the run.
        with_note: if the upload is kept, the error gets a note that says how much of it.

    Raises:
        ClaimLost: this run no longer holds the claim. Nothing was aborted or deleted.
    """
    resumable = context.is_resumable
    discard_unless_resumable(context)
    if resumable and with_note and context.record.claim_lost is None:
        error.add_note(f"The upload of {context.description} stopped with {_progress(context)}; the same call resumes.")


def _progress(context: UploadContext) -> str:
    total = context.ledger.plan.size
    done = context.ledger.bytes_done
    return format_count(done, "byte") if total is None else f"{done} of {format_count(total, 'byte')}"
