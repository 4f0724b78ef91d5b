"""Abort an unfinished upload that a checkpoint knows, and delete the checkpoint."""

from __future__ import annotations

from attrs import evolve

from partwise._engine.claim import Claim
from partwise._engine.context import UploadContext
from partwise._engine.finish import abort_failed_error, claim_lost_error, discard_upload
from partwise._engine.plan import PartPlan
from partwise._engine.plugin_calls import call_plugin_unwrapped
from partwise._engine.reconcile import DamagedCheckpoint
from partwise._engine.resume import load_checkpoint, log_damage
from partwise.errors import ClaimLost, InvalidInput


def abort_upload(context: UploadContext, upload_id: str | None = None) -> bool:
    """
    Abort the upload on the storage, then delete its checkpoint.

    Args:
        context: the upload.
        upload_id: do so only if the checkpoint is of this upload; None: whichever it is of.

    Returns:
        whether there was a checkpoint of it.

    Raises:
        CheckpointBusy: the upload is running now.
        ClaimLost: another run took the upload over meanwhile. Nothing more was aborted or deleted.
        UploadFailed: the storage could not be asked to abort it; the checkpoint is kept.
        CheckpointDamaged: there is a checkpoint that can't be trusted and can't be removed.
        InvalidInput: the source has no name, so its uploads are never recorded.
    """
    if context.store is None:
        raise InvalidInput(f"{context.description} was never recorded, since its source has no name")
    context.short_patience = context.patience  # the caller wants this abort, and nothing else
    with Claim(context.store, context, "Nothing was aborted"):
        found = call_plugin_unwrapped(load_checkpoint, context)
        log_damage(context, found)
        if found is None or upload_id not in (None, found.upload_id):
            return False
        if isinstance(found, DamagedCheckpoint):
            context.checkpoint = evolve(context.new_checkpoint(), upload_id=found.upload_id)
        else:
            context.adopt_checkpoint(found, PartPlan(found.part_size, None, found.parts_per_doubling))
        try:
            discarded = discard_upload(context)
        except ClaimLost as error:
            raise claim_lost_error(context, error) from error
        if not discarded:
            raise abort_failed_error(context, context.abort_error) from context.abort_error
        if isinstance(found, DamagedCheckpoint):
            # Raises if the damaged checkpoint is still there: it may be another user's, which can't be removed.
            call_plugin_unwrapped(context.record.load)
        return True
