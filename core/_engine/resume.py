"""
What is to be done with what is there: the questions that `ledger.reconcile` asks are answered here, until it decides.

Nothing is changed, neither on the storage nor in the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Literal

from attrs import evolve

from partwise._engine.context import UploadContext, logger
from partwise._engine.ledger import (
    Answer,
    DamagedCheckpoint,
    Decision,
    Facts,
    NeedChecksums,
    NeedObject,
    NeedPartList,
    Start,
    reconcile,
)
from partwise._engine.plan import PartPlan
from partwise._engine.plugin_calls import call_plugin
from partwise.checkpoint import Checkpoint
from partwise.checksums import crc64
from partwise.errors import CannotResume, CheckpointDamaged, CheckpointMismatch, UploadNotFound
from partwise.model import UploadedPart
from partwise.protocols import Body, Source


def find_checkpoint(context: UploadContext) -> Checkpoint | DamagedCheckpoint | None:
    """
    What the store has of this upload. From here on the run knows of it, so that a failure tells of it, too.

    Raises:
        CheckpointMismatch: it has another upload's.
    """
    if context.store is None:
        return None
    try:
        found = call_plugin(context.store.load, context.name)
    except CheckpointDamaged as error:
        logger.warning("%s: %s", context.key, error, extra=context.log_fields())
        return DamagedCheckpoint(f"the checkpoint is damaged: {error}", error.upload_id)
    if found is None:
        return None
    if found.name != context.name:
        raise CheckpointMismatch(
            f"the checkpoint is that of {found.source} to {found.key} in {found.location}, not of {context.target}."
            " Neither was touched",
            name=found.name,
        )
    context.adopt_checkpoint(found, PartPlan(found.part_size, context.fingerprint.size, found.parts_per_doubling))
    return found


def decide(
    context: UploadContext, found: Checkpoint | DamagedCheckpoint | None, *, listed: Literal[Answer.GONE] | None = None
) -> Decision:
    """
    What to do.

    Args:
        context: the upload.
        found: what is recorded of this upload.
        listed: what is known already of the storage's list.

    Raises:
        CannotResume: ``resume="require"``, and it would be a start.
        BackendError: the storage can't be asked. Never a fresh upload instead: what it holds is not lost because of
            that.
        SourceError: the source can't be read.
    """
    facts = Facts(
        wanted=context.wanted,
        found=found,
        listed=listed,
        verify_content=context.order.config.verify_source == "content",
        keep_matching=context.order.config.on_source_change == "keep-matching",
        limits=context.backend.limits,
    )
    while True:
        match reconcile(facts):
            case NeedPartList():
                facts = evolve(facts, listed=_listed_parts(context, facts))
            case NeedObject():
                head = context.retry(lambda: context.backend.head_object(context.key))
                facts = evolve(facts, head=Answer.ABSENT if head is None else head)
            case NeedChecksums(plan, numbers):
                facts = evolve(facts, local={**facts.local, **local_checksums(context, plan, numbers)})
            case decision:
                allow(context, decision)
                return decision


def _listed_parts(
    context: UploadContext, facts: Facts
) -> tuple[UploadedPart, ...] | Literal[Answer.GONE, Answer.CANNOT_LIST]:
    assert isinstance(facts.found, Checkpoint)
    upload_id = facts.found.upload_id
    assert upload_id is not None
    if not context.backend.capabilities.lists_parts:
        return Answer.CANNOT_LIST
    try:
        return context.retry(lambda: tuple(context.backend.list_parts(context.key, upload_id)))
    except UploadNotFound:
        return Answer.GONE


def local_checksums(context: UploadContext, plan: PartPlan, numbers: Iterable[int]) -> dict[int, int]:
    """The checksums of these parts of the source, by reading them."""
    checksums = {}
    for number in numbers:
        context.control.check()
        part = plan.part(number)
        checksums[number] = context.retry(partial(_checksum_of_range, context.source, part.offset, part.size))
    context.check_source()
    return checksums


def _checksum_of_range(source: Source, offset: int, size: int) -> int:
    return _checksum_of(source.body(offset, size))


def checksum_of(body: Body) -> int:
    """The CRC-64 of a body, by reading it."""
    return call_plugin(_checksum_of, body)


def _checksum_of(body: Body) -> int:
    checksum = 0
    for chunk in body.chunks():
        checksum = crc64(chunk, checksum)
    return checksum


def allow(context: UploadContext, decision: Decision) -> None:
    """
    Make sure that the caller wants this.

    Raises:
        CannotResume: ``resume="require"``, and it is a start.
    """
    if context.order.resume != "require" or not isinstance(decision, Start):
        return
    reason = decision.reason or "there is no checkpoint of it"
    raise CannotResume(
        f"{context.target} can't be resumed: {reason}. Nothing was changed; to start again from the first byte, ask for"
        " resume='auto'",
        reason=reason,
    )
