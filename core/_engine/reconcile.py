"""
Decide what to do with the parts of an earlier run.

The decision is a pure function of the checkpoint, the source and the storage's state. `reconcile` is called repeatedly.
From the facts known so far it returns either one more fact that it needs (`NeedPartList`, `NeedObject`,
`NeedChecksums`) or a decision. The caller finds the fact out and calls again. So the order of the questions is decided
here, the requests are made in `resume`, and a test needs nothing but values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from string import hexdigits
from typing import Any, Literal

from attrs import define, evolve, field

from partwise._engine.plan import PartPlan
from partwise._units import format_bytes, format_count
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.model import Capabilities, PartLimits, StoredObject, UploadedPart

#: The key of the object's metadata that holds our token, where the backend reports no checksum of objects.
TOKEN_NAME = "partwise-upload"  # noqa: S105  # a name, not a secret

#: Options that a reason names. An upload has fewer, unless its checkpoint was forged.
_NAMES_MAX = 20


# --- facts -----------------------------------------------------------------------------------------------------------


class Missing(Enum):
    """
    What the storage does not have, or can't do.

    In `Facts`, None means "not asked yet" instead.
    """

    NO_UPLOAD = "the storage does not know the upload id"
    NO_OBJECT = "no object is stored under the key"
    LISTING_UNSUPPORTED = "the storage can't list parts"


@define(frozen=True)
class DamagedCheckpoint:
    """A checkpoint was found and can't be trusted."""

    reason: str
    upload_id: str | None = None  # the upload id, where that much of it could still be verified


@define(frozen=True)
class Facts:
    """What is known so far. None means "not asked yet"."""

    wanted: Checkpoint  # the checkpoint that a new upload would start with
    found: Checkpoint | DamagedCheckpoint | None = None
    listed: tuple[UploadedPart, ...] | Literal[Missing.NO_UPLOAD, Missing.LISTING_UNSUPPORTED] | None = None
    head: StoredObject | Literal[Missing.NO_OBJECT] | None = None  # the object that is stored under the key
    local: Mapping[int, int] = field(factory=dict)  # checksums of parts of the source as it is now, by part number
    verify_content: bool = False  # compare kept parts with the source by checksum even if the source seems unchanged
    keep_matching: bool = False  # if the source changed, keep the parts whose checksum still matches
    limits: PartLimits = field(factory=PartLimits)
    capabilities: Capabilities = field(factory=Capabilities)


# --- questions -------------------------------------------------------------------------------------------------------


@define(frozen=True)
class NeedPartList:
    """Needed next: which parts the storage holds for the checkpoint's upload."""


@define(frozen=True)
class NeedObject:
    """Needed next: which object is stored under the key."""


@define(frozen=True)
class NeedChecksums:
    """Needed next: the checksums of these parts of the source as it is now."""

    plan: PartPlan
    part_numbers: tuple[int, ...]


# --- decisions -------------------------------------------------------------------------------------------------------


@define(frozen=True)
class Start:
    """Start a new upload."""

    reason: str = ""  # why an earlier one can't be resumed; "" if there was none
    abandon: tuple[str, ...] = ()  # ids of earlier uploads, which are of no use any more and must be aborted


@define(frozen=True)
class PartDecision:
    """What to do about one part, and why."""

    part_number: int
    action: Literal["keep", "adopt", "send"]  # "keep" (recorded), "adopt" (on the storage, not recorded) or "send"
    why: str  # the reason, for people


@define(frozen=True)
class Resume:
    """Resume the upload."""

    checkpoint: Checkpoint  # what was recorded, with those parts only that are kept or adopted
    plan: PartPlan  # the parts of the source as it is now, with the recorded part size
    parts: tuple[PartDecision, ...]  # what to do about each part, by ascending number


@define(frozen=True)
class CompareWhileReading:
    """
    Resume the upload of a stream.

    It is read from its start, and each part that equals its candidate is skipped.
    """

    checkpoint: Checkpoint
    plan: PartPlan  # the recorded part sizes; the size of the source is not known
    candidates: Mapping[int, UploadedPart]  # the parts on the storage whose checksum is known, by part number
    stored: frozenset[int]  # the numbers of all parts on the storage


@define(frozen=True)
class AlreadyStored:
    """An earlier run stored the object, `stored`, but did not see the response."""

    stored: StoredObject
    checkpoint: Checkpoint


@define(frozen=True)
class Ambiguous:
    """
    The upload is gone, and nothing shows whether it made the object there is.

    The object has the right size.
    """

    stored: StoredObject
    checkpoint: Checkpoint


Question = NeedPartList | NeedObject | NeedChecksums
Decision = Start | Resume | CompareWhileReading | AlreadyStored | Ambiguous


# --- the table -------------------------------------------------------------------------------------------------------


def reconcile(facts: Facts) -> Question | Decision:  # noqa: PLR0911  # a table of cases, in the order of the table
    """
    Return the next question or the decision, from what is known.

    | found                                                  | decision                                                |
    |--------------------------------------------------------|---------------------------------------------------------|
    | no checkpoint, or one without an upload id             | start                                                   |
    | a damaged checkpoint                                   | start again; abort its upload id if verified            |
    | other values of options that are fixed at initiate     | start again, abort the old upload                       |
    | the source changed                                     | start again, abort the old upload. With `keep_matching`:|
    |                                                        | keep the parts whose checksum still matches, unless the |
    |                                                        | source is empty or has too many parts for the storage   |
    | the storage does not accept the recorded part size, or | start again, abort the old upload                       |
    | requires one size, and the recorded ones grow          |                                                         |
    | another part size was requested                        | the recorded one stays                                  |
    | the storage does not know the upload id                | done, if an object of our size is stored, and the source|
    |                                                        | (which is read) has its checksum and that of each       |
    |                                                        | recorded part. Without a checksum of the object: our    |
    |                                                        | token and a recorded part for each number. If nothing   |
    |                                                        | shows whose object it is: ambiguous. Else start again   |
    | a part both recorded and on the storage, with the same | keep; with `verify_content` only after comparing it with|
    | size and ETag                                          | the source                                              |
    | the same, but another ETag and an equal checksum       | keep, with the ETag that the storage lists              |
    | a part on the storage only                             | adopt if its checksum is that of the source's bytes,    |
    |                                                        | else send                                               |
    | a part recorded only; or with another size or ETag on  | send                                                    |
    | the storage and no equal checksum                      |                                                         |
    | the source is a stream                                 | compare each part by checksum while it is read          |
    | a part has to be sent that the storage has with other  | start again, abort the old upload                       |
    | bytes, or with unknown ones while the source may have  |                                                         |
    | changed, and it does not replace parts                 |                                                         |
    | a part has to be sent before one that the storage has, | start again, abort the old upload                       |
    | or the source ends before that, and it is sequential   |                                                         |
    | the source may have changed (or `verify_content` is to | start again, abort the old upload                       |
    | show it), and a storage of these two kinds does not    |                                                         |
    | list its parts                                         |                                                         |
    """
    found = facts.found
    if found is None:
        return Start()
    if isinstance(found, DamagedCheckpoint):
        return Start(found.reason, () if found.upload_id is None else (found.upload_id,))
    if found.upload_id is None:
        return Start(abandon=found.abandoned)
    abandon = (*found.abandoned, found.upload_id)
    if difference := _different_options(found.options, facts.wanted.options, facts.capabilities.late_options):
        return Start(f"other options were requested ({difference})", abandon)
    if facts.wanted.fingerprint.size is None:
        return _reconcile_stream(facts, found, abandon)
    plan = PartPlan(found.part_size, facts.wanted.fingerprint.size, found.parts_per_doubling)
    changed = _describe_change(found.fingerprint, facts.wanted.fingerprint)
    if changed is not None and not facts.keep_matching:
        return Start(f"the source changed: {changed}", abandon)
    if (problem := _incompatible_plan(plan, facts)) is not None:
        return Start(problem, abandon)
    if facts.listed is None:
        return NeedPartList()
    if facts.listed is Missing.NO_UPLOAD:
        return _reconcile_without_upload(facts, found, plan, trusted=changed is None and not facts.verify_content)
    # A different inode may mean a different file, or the same file on a file system that was mounted again and
    # renumbers its files. So the bytes are compared.
    same = changed is None and found.fingerprint.identity == facts.wanted.fingerprint.identity
    return _reconcile_parts(facts, found, plan, trusted=same)


def _different_options(old: Mapping[str, Any], new: Mapping[str, Any], late: Collection[str]) -> str:
    """
    Return the names of the options that differ, not their values; "" for none.

    What was recorded of an option that acts late does not count: the storage may have fixed it in an earlier version.
    """
    different = sorted(name for name in {**old, **new} if name not in late and old.get(name) != new.get(name))
    # The names in a checkpoint are untrusted.
    return ", ".join(f"{name:.60}" for name in different[:_NAMES_MAX])


def _describe_change(old: Fingerprint, new: Fingerprint) -> str | None:
    if old.size is None:
        return "it was a stream, and has a known size now"
    if old.size != new.size:
        return f"it had {old.size} bytes, and now has {new.size}"
    if old.mtime_ns != new.mtime_ns:
        return "it was modified"
    if old.crc64 != new.crc64:
        return "its checksum is different"
    return None


def _incompatible_plan(plan: PartPlan, facts: Facts) -> str | None:
    """Return why the source can't be sent in parts of this size; None if it can."""
    total, limits, doubles_after = plan.parts_total, facts.limits, plan.parts_per_doubling
    if total == 0:
        return "the source is empty now"  # an object can't be made of zero parts
    if total is not None and total > limits.max_parts:
        return f"the source now has more than {limits.max_parts:,} parts of {format_bytes(plan.part_size)}"
    too_small = plan.part_size < limits.min_part_size and total != 1  # the only part may be smaller
    if too_small or _largest_part(plan, limits) > limits.max_part_size:
        return f"the storage does not accept parts of the recorded size, {format_bytes(plan.part_size)}"
    grows = doubles_after is not None and (total is None or total > doubles_after)
    if grows and facts.capabilities.equal_part_sizes:
        return "the storage requires parts of one size, and the recorded ones grow"
    return None


def _largest_part(plan: PartPlan, limits: PartLimits) -> int:
    """Return the size of the largest part, for a stream of as many as there can be."""
    if plan.size is not None:
        total = plan.parts_total or 1
        return max(plan.part(number).size for number in (total, max(1, total - 1)))  # the last one may be shorter
    doublings = 0 if plan.parts_per_doubling is None else (limits.max_parts - 1) // plan.parts_per_doubling
    return plan.part_size << min(doublings, limits.max_part_size.bit_length())


# --- the upload is gone ----------------------------------------------------------------------------------------------


def _reconcile_without_upload(facts: Facts, found: Checkpoint, plan: PartPlan, *, trusted: bool) -> Question | Decision:
    start = Start(_why_gone(facts), found.abandoned)
    if facts.head is None:
        return NeedObject()
    if facts.head is Missing.NO_OBJECT or facts.head.size != plan.size:
        return start
    if found.token is None and facts.head.checksum is None:
        return Ambiguous(facts.head, found)
    ours = found.token is None or (facts.head.metadata.get(TOKEN_NAME) == found.token and trusted)
    if not ours or not _parts_can_make(facts, facts.head, found, plan):
        return start
    # A checkpoint says what was sent, not what the source is: anyone who can write one can make its parts add up to any
    # object. So the source is read before the object is believed to be its upload.
    unread = tuple(number for number in range(1, (plan.parts_total or 0) + 1) if number not in facts.local)
    if unread:
        return NeedChecksums(plan, unread)
    return AlreadyStored(facts.head, found) if _has_bytes_of_source(facts.head, facts, found, plan) else start


def _why_gone(facts: Facts) -> str:
    or_ended = ", or another one of this key has ended it" if facts.capabilities.one_upload_per_key else ""
    return f"the storage no longer knows the upload: it was aborted, or it expired{or_ended}"


def _parts_can_make(facts: Facts, stored: StoredObject, found: Checkpoint, plan: PartPlan) -> bool:
    """
    Return whether the recorded parts can be those of the object.

    The source is not read: only what shows without it is ruled out.
    """
    recorded = {part.part_number: part for part in found.parts}
    parts = [recorded.get(number) for number in range(1, (plan.parts_total or 0) + 1)]
    known = [(part.checksum, part.size) for part in parts if part is not None and part.checksum is not None]
    if stored.checksum is None:
        return len(known) == len(parts)  # nothing else shows which bytes were sent
    return len(known) < len(parts) or facts.capabilities.checksum.fold(known) == stored.checksum


def _has_bytes_of_source(stored: StoredObject, facts: Facts, found: Checkpoint, plan: PartPlan) -> bool:
    """Return whether object and recorded parts have the checksums of the source."""
    total = plan.parts_total or 0
    if any(
        part.size != plan.part(part.part_number).size or part.checksum not in (None, facts.local[part.part_number])
        for part in found.parts
        if part.part_number <= total
    ):
        return False
    read = ((facts.local[number], plan.part(number).size) for number in range(1, total + 1))
    return stored.checksum in (None, facts.capabilities.checksum.fold(read))


# --- the upload is there ---------------------------------------------------------------------------------------------


def _reconcile_parts(facts: Facts, found: Checkpoint, plan: PartPlan, *, trusted: bool) -> Question | Decision:
    recorded = {part.part_number: part for part in found.parts}
    listed = _parts_on_storage(facts, found)
    abandon = (*found.abandoned, str(found.upload_id))
    total = plan.parts_total or 0
    # Where the bytes are compared since nothing else shows a change, those of a part that is not recorded can't be.
    trusts_unrecorded = trusted and not (facts.verify_content and len(recorded) < total)
    if not trusts_unrecorded and (problem := _unknown_parts(facts)) is not None:
        return Start(problem, abandon)
    kept: list[UploadedPart] = []
    decisions: list[PartDecision] = []
    unread: list[int] = []
    if facts.capabilities.sequential and max(listed, default=0) > total:
        return Start(f"the storage has parts beyond the source's last one, {total}, and takes parts in order", abandon)
    for number in range(1, total + 1):
        decision, part = _decide_part(
            number, plan.part(number).size, recorded.get(number), listed.get(number), facts, trusted=trusted
        )
        if decision is None:
            unread.append(number)
            continue
        if decision.why == _BYTES_DIFFER and not facts.keep_matching:
            return Start(f"the source changed: the bytes of part {number} are different", abandon)
        same_bytes = trusted and decision.why == _CHECKSUM_UNKNOWN
        if decision.action == "send" and (
            problem := why_not_sent(number, listed, facts.capabilities, same_bytes=same_bytes)
        ):
            return Start(f"{problem} ({decision.why})", abandon)
        decisions.append(decision)
        if part is not None:
            kept.append(part)
    if unread:
        return NeedChecksums(plan, tuple(unread))
    resumed = evolve(found, fingerprint=facts.wanted.fingerprint, parts=tuple(kept))
    return Resume(resumed, plan, tuple(decisions))


_BYTES_DIFFER = "the source's bytes differ from those that were sent"
_CHECKSUM_UNKNOWN = "the storage holds it, but no checksum of it is known"


def why_not_sent(
    number: int, stored: Collection[int], capabilities: Capabilities, *, same_bytes: bool = False
) -> str | None:
    """
    Return why a part can't be sent to an upload that has others; None if it can.

    Args:
        number: its number.
        stored: the numbers of the parts that the storage has.
        capabilities: those of the backend.
        same_bytes: if the storage has the part, then with these bytes.
    """
    if capabilities.sequential and number < max(stored, default=0):
        return f"the storage takes parts in order, and has parts after part {number}, which has to be sent"
    if not capabilities.replaces_parts and number in stored and not same_bytes:
        return f"the storage has part {number}, which has to be sent, and replaces no parts"
    return None


def _unknown_parts(facts: Facts) -> str | None:
    """Return why an upload can't be resumed if its source may have changed."""
    fixed = facts.capabilities.sequential or not facts.capabilities.replaces_parts
    if not fixed or facts.listed is not Missing.LISTING_UNSUPPORTED:
        return None
    # A run that died may have sent a part that was not recorded.
    return "the source may have changed, and the storage neither lists parts nor takes others in their place"


def _decide_part(  # noqa: PLR0911  # a table of cases
    number: int,
    size: int,
    recorded: UploadedPart | None,
    listed: UploadedPart | None,
    facts: Facts,
    *,
    trusted: bool,
) -> tuple[PartDecision | None, UploadedPart | None]:
    """
    Return the decision on one part, with the part if it is kept.

    There is no decision if the source must be read first.
    """
    if listed is None:
        why = "it was not sent yet" if recorded is None else "the storage does not hold it any more"
        return PartDecision(number, "send", why), None
    if listed.size != size:
        held = format_count(listed.size, "byte")
        return PartDecision(number, "send", f"the storage holds {held} of it, not {size}"), None
    if recorded is not None and not is_same_part(recorded, listed):
        return PartDecision(number, "send", "the storage holds another version of it than the recorded one"), None
    checksum = listed.checksum if recorded is None or recorded.checksum is None else recorded.checksum
    if listed.checksum not in (None, checksum):
        return PartDecision(number, "send", "the storage reports another checksum than the recorded one"), None
    # With the ETag that the storage lists: a proxy may have altered the recorded one.
    part = listed if recorded is None or recorded.checksum is None else evolve(recorded, etag=listed.etag)
    if recorded is not None and trusted and not facts.verify_content:
        return PartDecision(number, "keep", "recorded, and on the storage"), part
    if checksum is None:
        return PartDecision(number, "send", _CHECKSUM_UNKNOWN), None
    if number not in facts.local:
        return None, None
    if facts.local[number] != checksum:
        # A part that is not recorded says nothing about a change: it may never have been of this source.
        why = "the storage holds other bytes of it" if recorded is None else _BYTES_DIFFER
        return PartDecision(number, "send", why), None
    if recorded is None:
        return PartDecision(number, "adopt", "on the storage, not recorded, and its checksum is the source's"), part
    return PartDecision(number, "keep", "recorded, on the storage, and its checksum is the source's"), part


def is_same_part(recorded: UploadedPart, listed: UploadedPart) -> bool:
    """
    Return whether the storage holds the part that was recorded.

    It must have the same size, and the same checksum or ETag. A proxy may have made an ETag weak or quoted it
    differently, so an equal checksum is enough.
    """
    if recorded.size != listed.size:
        return False
    if recorded.checksum is not None and recorded.checksum == listed.checksum:
        return True
    return is_same_etag(recorded.etag, listed.etag)


def is_same_etag(one: str, other: str) -> bool:
    """
    Return whether two ETags are equal.

    Quotes, the mark of a weak ETag, and the case of a digest do not matter.
    """
    return one == other or _normalized(one) == _normalized(other)


def _normalized(etag: str) -> str:
    bare = etag.strip()
    bare = bare[2 if bare[:2] in ("W/", "w/") else 0 :].strip().strip('"')
    # Storages write a digest in either case. Any other ETag may differ by nothing but case.
    return bare.lower() if all(character in hexdigits for character in bare.partition("-")[0]) else bare


def _parts_on_storage(facts: Facts, found: Checkpoint) -> dict[int, UploadedPart]:
    """Return the listed parts; those of the checkpoint if listing is unsupported."""
    parts = found.parts if facts.listed is Missing.LISTING_UNSUPPORTED else facts.listed
    assert isinstance(parts, tuple)
    return {part.part_number: part for part in parts}


def _reconcile_stream(  # noqa: PLR0911  # a table of cases
    facts: Facts, found: Checkpoint, abandon: tuple[str, ...]
) -> Question | Decision:
    if found.fingerprint.size is not None:
        return Start("the source changed: it had a known size, and is a stream now", abandon)
    plan = PartPlan(found.part_size, None, found.parts_per_doubling)
    if (problem := _incompatible_plan(plan, facts)) is not None:
        return Start(problem, abandon)
    if facts.listed is None:
        return NeedPartList()
    if facts.listed is Missing.NO_UPLOAD:
        # Whether a stored object is ours shows only after the stream was read, and by then it has been sent again.
        return Start(_why_gone(facts), found.abandoned)
    if (problem := _unknown_parts(facts)) is not None:
        return Start(problem, abandon)
    recorded = {part.part_number: part for part in found.parts}
    stored = _parts_on_storage(facts, found)
    candidates = {}
    for number, listed in stored.items():
        part, candidate = recorded.get(number), listed
        if part is not None and listed.checksum is None and is_same_part(part, listed):
            candidate = evolve(part, etag=listed.etag)  # it has the checksum that the storage does not report
        if candidate.checksum is not None:
            candidates[number] = candidate
        elif problem := why_not_sent(number, stored, facts.capabilities):
            return Start(f"{problem} ({_CHECKSUM_UNKNOWN})", abandon)
    return CompareWhileReading(found, plan, candidates, frozenset(stored))
