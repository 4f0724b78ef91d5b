"""
Find out what an earlier run left behind, and decide what to do with it.

The questions of `reconcile` are answered here, by the store, the storage and the source, until it decides. Nothing is
changed, neither on the storage nor in the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Literal

from attrs import evolve

from partwise._engine.context import UploadContext, logger
from partwise._engine.plan import PartPlan
from partwise._engine.plugin_calls import call_plugin
from partwise._engine.reconcile import (
    DamagedCheckpoint,
    Decision,
    Facts,
    Missing,
    NeedChecksums,
    NeedObject,
    NeedPartList,
    Start,
    reconcile,
)
from partwise.checkpoint import Checkpoint
from partwise.checksums import CRC64_XZ, Checksum, crc64_fold
from partwise.errors import NOTHING_CHANGED, CannotResume, CheckpointDamaged, CheckpointMismatch, UploadNotFound
from partwise.model import UploadedPart
from partwise.protocols import Source, SourceBody


def load_checkpoint(context: UploadContext) -> Checkpoint | DamagedCheckpoint | None:
    """Load this upload's checkpoint; raise CheckpointMismatch if it is another one's."""
    if context.store is None:
        return None
    try:
        found = context.record.load()
    except CheckpointDamaged as error:
        return DamagedCheckpoint(f"the checkpoint is damaged: {error}", error.upload_id)
    if found is not None and found.name != context.name:
        raise CheckpointMismatch(
            f"the checkpoint is that of {found.source} to {found.key} in {found.location}, not of"
            f" {context.description}. Neither was changed",
            name=found.name,
        )
    return found


def log_damage(context: UploadContext, found: Checkpoint | DamagedCheckpoint | None) -> None:
    """
    Log that the checkpoint is damaged, if it is.

    For what has no other way to say so. A person may want to look at what the store has set aside.
    """
    if isinstance(found, DamagedCheckpoint):
        logger.warning("%s: %s", context.key, found.reason, extra=context.log_fields())


def load_and_decide(context: UploadContext) -> tuple[Decision, Checkpoint | DamagedCheckpoint | None]:
    """
    Load the checkpoint and decide what to do.

    The context adopts the checkpoint, so that a failure reports what is kept.

    Returns:
        the decision, and the checkpoint as the store has it; None if there is none.

    Raises:
        CheckpointMismatch: see `load_checkpoint`.
        CannotResume, BackendError, SourceError: see `decide`.
    """
    found = load_checkpoint(context)
    if isinstance(found, Checkpoint):
        plan = PartPlan(found.part_size, context.fingerprint.size, found.parts_per_doubling)
        context.adopt_checkpoint(context.comparable(found), plan)
    return decide(context, found), found


def decide(
    context: UploadContext,
    found: Checkpoint | DamagedCheckpoint | None,
    *,
    listed: Literal[Missing.NO_UPLOAD] | None = None,
) -> Decision:
    """
    Decide what to do.

    Raises:
        CannotResume: ``resume="require"``, and the decision is to start.
        BackendError: the storage could not be asked. That is never a reason to start a new upload: the storage may
            hold parts of this one.
        SourceError: the source can't be read.
    """
    config = context.request.config
    if isinstance(found, Checkpoint):
        found = context.comparable(found)
    facts = Facts(
        wanted=context.new_checkpoint(),
        found=found,
        listed=listed,
        verify_content=config.verify_source == "content",
        keep_matching=config.on_source_change == "keep-matching",
        limits=context.backend.limits,
        capabilities=context.backend.capabilities,
    )
    while True:
        match reconcile(facts):
            case NeedPartList():
                facts = evolve(facts, listed=_listed_parts(context, facts))
            case NeedObject():
                head = context.retry("head_object", lambda: context.backend.head_object(context.key))
                facts = evolve(facts, head=Missing.NO_OBJECT if head is None else head)
            case NeedChecksums(plan, numbers):
                facts = evolve(facts, local={**facts.local, **local_checksums(context, plan, numbers)})
            case decision:
                check_resume_mode(context, decision)
                return decision


def check_resume_mode(context: UploadContext, decision: Decision) -> None:
    """Raise CannotResume if a start was decided, and ``resume="require"``."""
    if context.request.resume != "require" or not isinstance(decision, Start):
        return
    reason = decision.reason or "there is no checkpoint of it"
    kept = "No other upload was started" if context.is_decided else NOTHING_CHANGED  # parts may have been sent
    raise CannotResume(
        f"{context.description} can't be resumed: {reason}. {kept}",
        reason=reason,
        hint="To start again from the first byte: {resume=auto}",
    )


def _listed_parts(
    context: UploadContext, facts: Facts
) -> tuple[UploadedPart, ...] | Literal[Missing.NO_UPLOAD, Missing.LISTING_UNSUPPORTED]:
    assert isinstance(facts.found, Checkpoint)
    upload_id = facts.found.upload_id
    assert upload_id is not None
    if not context.backend.capabilities.lists_parts:
        return Missing.LISTING_UNSUPPORTED
    try:
        return context.retry(
            "list_parts", partial(context.timed, lambda: tuple(context.backend.list_parts(context.key, upload_id)))
        )
    except UploadNotFound:
        return Missing.NO_UPLOAD


def local_checksums(
    context: UploadContext, plan: PartPlan, numbers: Iterable[int], algorithm: Checksum | None = None
) -> dict[int, int]:
    """
    Read these parts of the source and return their checksums, by part number.

    The algorithm is the backend's, if it is None.

    Raises:
        SourceChanged: the source changed since the upload looked at it.
        SourceUnreadable: a part can't be read.
    """
    checksums = {}
    for number in numbers:
        context.control.check()
        part = plan.part(number)
        checksums[number] = context.retry(
            "body",
            partial(_checksum_of_range, context.source, part.offset, part.size, algorithm or context.checksum),
            moves=False,
        )
    context.check_source()
    return checksums


def source_crc64(context: UploadContext, plan: PartPlan) -> int:
    """
    Read the source, whose size is known, and return its CRC-64/XZ.

    Raises what `local_checksums` raises.
    """
    sums = local_checksums(context, plan, range(1, (plan.parts_total or 0) + 1), CRC64_XZ)
    return crc64_fold((sums[number], plan.part(number).size) for number in sums)


def _checksum_of_range(source: Source, offset: int, size: int, algorithm: Checksum) -> int:
    return _checksum_of(source.body(offset, size), algorithm)


def checksum_of(body: SourceBody, algorithm: Checksum) -> int:
    """Read a body and return its checksum."""
    return call_plugin(_checksum_of, body, algorithm)


def _checksum_of(body: SourceBody, algorithm: Checksum) -> int:
    running = algorithm.start()
    for chunk in body.chunks():
        running.update(chunk)
    return running.value
