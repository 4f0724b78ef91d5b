"""
What is done, what is left, and what a checkpoint, the source and the storage add up to. Nothing here reads or writes.

`reconcile` is asked again and again: from the facts that are known it names the next step, and a step is either a fact
to be found out (`NeedPartList`, `NeedObject`, `NeedChecksums`) or a decision. So the order of questions is decided here, the
asking is done elsewhere, and a test needs nothing but values.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from enum import Enum
from string import hexdigits
from typing import Literal

from attrs import define, evolve, field, fields

from partwise._engine.plan import PartPlan
from partwise._engine.receipts import ReceiptLog, Receipts
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.checksums import crc64_combine, crc64_fold
from partwise.model import ObjectOptions, PartLimits, StoredObject, UploadedPart

# --- the account of one upload ---------------------------------------------------------------------------------------


class Ledger:
    """
    The account of one upload: which parts the storage has acknowledged.

    Args:
        plan: the parts there are to be.
    """

    def __init__(self, plan: PartPlan) -> None:
        self.plan = plan
        #: The number of parts that were acknowledged, and their bytes.
        self.parts_done = 0
        self.bytes_done = 0
        self.bytes_resumed = 0
        self.parts_resumed = 0
        self._log = ReceiptLog()
        self._entry = array("I")  # by part number: one more than the entry in the log that counts; 0: none does
        self._resumed = bytearray()  # by part number

    def has(self, part_number: int) -> bool:
        """Whether this part was acknowledged."""
        return part_number < len(self._entry) and self._entry[part_number] > 0

    def record(self, part: UploadedPart, *, resumed: bool = False) -> None:
        """Enter a receipt; a second one for the same part takes the place of the first."""
        number = part.part_number
        if number >= len(self._entry):
            self._make_room(number)
        elif self._entry[number]:
            self._take_out(number)
        self._entry[number] = self._log.add(part) + 1
        self.parts_done += 1
        self.bytes_done += part.size
        if resumed:
            self._resumed[number] = True
            self.bytes_resumed += part.size
            self.parts_resumed += 1

    def _make_room(self, part_number: int) -> None:
        more = bytes(max(part_number + 1, 2 * len(self._entry)) - len(self._entry))
        self._entry.extend(more)
        self._resumed.extend(more)

    def strike(self, part_number: int) -> None:
        """The storage does not hold this part after all: it is to be sent again."""
        if self._take_out(part_number):
            self._log.strike(part_number)

    def _take_out(self, part_number: int) -> bool:
        if not self.has(part_number):
            return False
        size = self._log.size(self._entry[part_number] - 1)
        self._entry[part_number] = 0
        self.parts_done -= 1
        self.bytes_done -= size
        if self._resumed[part_number]:
            self._resumed[part_number] = False
            self.bytes_resumed -= size
            self.parts_resumed -= 1
        return True

    @property
    def entries(self) -> int:
        """How many entries there are; with `as_of`, an instant that can be looked back at."""
        return len(self._log)

    def as_of(self, entries: int) -> tuple[UploadedPart, ...]:
        """The receipts as they were when there were so many entries, the last one for each part."""
        return tuple(self._log.parts(self._log.last(entries).values()))

    def missing(self) -> Iterator[int]:
        """The numbers of the parts that are not acknowledged, ascending. The plan's size must be known."""
        total = self.plan.parts_total
        assert total is not None
        return (number for number in range(1, total + 1) if not self.has(number))

    def is_whole(self) -> bool:
        """Whether the receipts are those of parts 1 to n, each of its planned size, which add up to the source's."""
        total = self.plan.parts_total
        return (
            total is not None
            and self.parts_done == total
            and self.bytes_done == self.plan.size
            and all(
                self.has(number) and self._log.size(self._entry[number] - 1) == self.plan.part(number).size
                for number in range(1, total + 1)
            )
        )

    def receipts(self) -> Receipts:
        """What `complete_upload` wants: every receipt, ascending. Later entries don't change what was given."""
        return Receipts(self._log, self._counting())

    def resumed(self) -> Iterator[UploadedPart]:
        """The receipts of earlier runs, ascending."""
        marked = zip(self._entry, self._resumed, strict=True)
        return self._log.parts([entry - 1 for entry, resumed in marked if entry and resumed])

    def correct(self, part: UploadedPart) -> None:
        """Enter another receipt for a part that was acknowledged, in this run or in an earlier one as before."""
        self.record(part, resumed=bool(self._resumed[part.part_number]))

    def crc64(self) -> int | None:
        """The checksum of the whole, combined from those of its parts; None if one of them is not known."""
        total = 0
        for entry in self._counting():
            if (checksum := self._log.crc64(entry)) is None:
                return None
            total = crc64_combine(total, checksum, self._log.size(entry))
        return total

    def _counting(self) -> array[int]:
        """The entries in the log that count, by ascending part number."""
        return array("I", [entry - 1 for entry in self._entry if entry])


#: Where the backend reports no checksum of objects, a value of ours stands under this name in the object's metadata.
TOKEN_NAME = "partwise-upload"  # noqa: S105  # a name, not a secret


# --- what is known ---------------------------------------------------------------------------------------------------


class Answer(Enum):
    """Answers that are no value."""

    GONE = "the storage does not know the upload"
    ABSENT = "there is no such object"
    CANNOT_LIST = "the storage can't list parts"


@define(frozen=True)
class DamagedCheckpoint:
    """A checkpoint was there and could not be trusted; `upload_id` is what could still be verified of it."""

    reason: str
    upload_id: str | None = None


@define(frozen=True)
class Facts:
    """
    What is known so far. None stands for "not asked yet".

    Args:
        wanted: the checkpoint that a fresh upload would begin with.
        found: what the store had.
        listed: the storage's list of parts.
        head: the object that stands under the key.
        local: the checksums of parts of the source as it is now, by part number.
        verify_content: compare kept parts with the source by checksum even if the source seems unchanged.
        keep_matching: if the source has changed, keep the parts whose checksum still holds.
        limits: what the storage takes.
    """

    wanted: Checkpoint
    found: Checkpoint | DamagedCheckpoint | None = None
    listed: tuple[UploadedPart, ...] | Literal[Answer.GONE, Answer.CANNOT_LIST] | None = None
    head: StoredObject | Literal[Answer.ABSENT] | None = None
    local: Mapping[int, int] = field(factory=dict)
    verify_content: bool = False
    keep_matching: bool = False
    limits: PartLimits = field(factory=PartLimits)


# --- what is next ----------------------------------------------------------------------------------------------------


@define(frozen=True)
class NeedPartList:
    """Find out which parts the storage holds for the checkpoint's upload."""


@define(frozen=True)
class NeedObject:
    """Find out which object stands under the key."""


@define(frozen=True)
class NeedChecksums:
    """Find out the checksums of these parts of the source as it is now."""

    plan: PartPlan
    part_numbers: tuple[int, ...]


@define(frozen=True)
class Start:
    """
    Begin a new upload.

    Args:
        reason: why one that had begun can't be carried on; "" where there was none.
        abandon: ids of uploads that are of no use any more, and are to be aborted.
    """

    reason: str = ""
    abandon: tuple[str, ...] = ()


@define(frozen=True)
class Verdict:
    """What is done about one part, and why."""

    part_number: int
    action: Literal["keep", "adopt", "send"]
    why: str


@define(frozen=True)
class Resume:
    """
    Carry the upload on.

    Args:
        checkpoint: what was recorded, with the receipts that still hold, and no other.
        plan: the parts of the source as it is now, by the recorded part size.
        verdicts: for each part what is done and why, by ascending number.
    """

    checkpoint: Checkpoint
    plan: PartPlan
    verdicts: tuple[Verdict, ...]


@define(frozen=True)
class CompareWhileReading:
    """
    Carry the upload on, reading the stream from its beginning: a part that equals its candidate need not be sent.

    Args:
        checkpoint: what was recorded.
        plan: by the recorded part size; of unknown size.
        candidates: what the storage holds, with a checksum to compare by, by part number.
    """

    checkpoint: Checkpoint
    plan: PartPlan
    candidates: Mapping[int, UploadedPart]


@define(frozen=True)
class AlreadyStored:
    """The upload was completed, and its answer was lost: `stored` is its object, and has the bytes of the source."""

    stored: StoredObject
    checkpoint: Checkpoint


@define(frozen=True)
class Ambiguous:
    """The upload is gone, an object of the right size is there, and nothing tells whether it is ours."""

    stored: StoredObject
    checkpoint: Checkpoint


Question = NeedPartList | NeedObject | NeedChecksums
Decision = Start | Resume | CompareWhileReading | AlreadyStored | Ambiguous


def reconcile(facts: Facts) -> Question | Decision:  # noqa: PLR0911  # a table of cases, in the order of the table
    """
    The next step, from what is known.

    | what is found                                         | what is done                                             |
    |-------------------------------------------------------|----------------------------------------------------------|
    | no checkpoint, or one without an upload id            | start                                                    |
    | a damaged checkpoint                                  | start again; abort what could be verified of it          |
    | other options of those that are fixed at initiate     | start again, abort the old upload                        |
    | the source changed                                    | start again, abort the old upload; or, by choice, keep   |
    |                                                       | the parts whose checksum still holds, if there are bytes |
    |                                                       | at all and no more parts than the storage takes          |
    | the storage takes no parts of the recorded size       | start again, abort the old upload                        |
    | another part size was asked for                       | the recorded one stands                                  |
    | the storage does not know the upload                  | an object of our size is there, and the source, which is |
    |                                                       | read, has its checksum and those of all receipts: done.  |
    |                                                       | Without a checksum: our token, and a receipt for each    |
    |                                                       | part. If nothing can tell: undecidable. Otherwise start  |
    |                                                       | again                                                    |
    | part in the checkpoint and on the storage, same etag  | keep; by choice only after a look at the source          |
    | and size                                              |                                                          |
    | likewise, with another etag and the same checksum     | keep, with the etag that the storage lists               |
    | part on the storage only                              | adopt if its checksum is that of the source's bytes,     |
    |                                                       | else send                                                |
    | part in the checkpoint only, or with another etag or  | send                                                     |
    | size on the storage, and no checksum that agrees      |                                                          |
    | the source is a stream                                | compare each part by checksum as it is read              |
    """
    found = facts.found
    if found is None:
        return Start()
    if isinstance(found, DamagedCheckpoint):
        return Start(found.reason, () if found.upload_id is None else (found.upload_id,))
    if found.upload_id is None:
        return Start(abandon=found.abandoned)
    abandon = (*found.abandoned, found.upload_id)
    if (difference := _options_that_differ(found.options, facts.wanted.options)) is not None:
        return Start(f"other options were asked for ({difference})", abandon)
    if facts.wanted.fingerprint.size is None:
        return _reconcile_stream(facts, found, abandon)
    plan = PartPlan(found.part_size, facts.wanted.fingerprint.size, found.parts_per_doubling)
    changed = _change(found.fingerprint, facts.wanted.fingerprint)
    if changed is not None and not facts.keep_matching:
        return Start(f"the source changed: {changed}", abandon)
    if (misfit := _misfit(plan, facts.limits)) is not None:
        return Start(misfit, abandon)
    if facts.listed is None:
        return NeedPartList()
    if facts.listed is Answer.GONE:
        return _reconcile_gone(facts, found, plan, trusted=changed is None and not facts.verify_content)
    # An inode that is another one may be that of another file, or of the same one on a file system that was mounted
    # anew and numbers its files as they come. The bytes decide.
    same = changed is None and found.fingerprint.identity == facts.wanted.fingerprint.identity
    return _reconcile_parts(facts, found, plan, trusted=same)


def _options_that_differ(old: ObjectOptions, new: ObjectOptions) -> str | None:
    old, new = old.fixed_at_initiate(), new.fixed_at_initiate()
    names = [a.name for a in fields(ObjectOptions) if getattr(old, a.name) != getattr(new, a.name)]
    return ", ".join(names) or None


def _change(old: Fingerprint, new: Fingerprint) -> str | None:
    """What differs, in words; None where nothing does."""
    if old.size != new.size:
        return f"it had {old.size} bytes, and has {new.size}"
    if old.mtime_ns != new.mtime_ns:
        return "it was modified"
    if old.crc64 != new.crc64:
        return "its bytes are others"
    return None


def _misfit(plan: PartPlan, limits: PartLimits) -> str | None:
    """Why the source as it is now can't be sent in parts of the recorded size; None where it can."""
    total = plan.parts_total
    if total == 0:
        return "the source is empty now"  # and no object can be made of no part
    if total is not None and total > limits.max_parts:
        return f"the source now has more than {limits.max_parts} parts of {plan.part_size} bytes"
    # The last part may be smaller than the others; how many a stream has is not known.
    largest = plan.part(1 if total is None else max(1, total - 1)).size
    if (plan.part_size < limits.min_part_size and total != 1) or largest > limits.max_part_size:
        return f"the storage takes no parts of the recorded size, {plan.part_size} bytes"
    return None


def _reconcile_gone(facts: Facts, found: Checkpoint, plan: PartPlan, *, trusted: bool) -> Question | Decision:
    gone = Start("the storage no longer knows the upload: it was aborted, or it expired", found.abandoned)
    if facts.head is None:
        return NeedObject()
    if facts.head is Answer.ABSENT or facts.head.size != plan.size:
        return gone
    if found.token is None and facts.head.crc64 is None:
        return Ambiguous(facts.head, found)
    ours = found.token is None or (facts.head.metadata.get(TOKEN_NAME) == found.token and trusted)
    if not ours or not _receipts_allow(facts.head, found, plan):
        return gone
    # A checkpoint says what was sent, not what the source is: anyone who can write one can make its receipts add up to
    # the object that stands there. So the source is read before the object is taken for it.
    total = plan.parts_total or 0
    unread = tuple(number for number in range(1, total + 1) if number not in facts.local)
    if unread:
        return NeedChecksums(plan, unread)
    return AlreadyStored(facts.head, found) if _is_of_the_source(facts.head, facts, found, plan) else gone


def _receipts_allow(stored: StoredObject, found: Checkpoint, plan: PartPlan) -> bool:
    """Whether the receipts may be those of the object, before the source is read: without it, where they can't be."""
    recorded = {part.part_number: part for part in found.parts}
    parts = [recorded.get(number) for number in range(1, (plan.parts_total or 0) + 1)]
    known = [(part.crc64, part.size) for part in parts if part is not None and part.crc64 is not None]
    if stored.crc64 is None:
        return len(known) == len(parts)  # nothing else tells which bytes were sent
    return len(known) < len(parts) or crc64_fold(known) == stored.crc64


def _is_of_the_source(stored: StoredObject, facts: Facts, found: Checkpoint, plan: PartPlan) -> bool:
    """Whether the checksums of the object and of the recorded parts are those of the source, which was read."""
    total = plan.parts_total or 0
    if any(
        part.size != plan.part(part.part_number).size or part.crc64 not in (None, facts.local[part.part_number])
        for part in found.parts
        if part.part_number <= total
    ):
        return False
    read = ((facts.local[number], plan.part(number).size) for number in range(1, total + 1))
    return stored.crc64 in (None, crc64_fold(read))


def _reconcile_parts(facts: Facts, found: Checkpoint, plan: PartPlan, *, trusted: bool) -> Question | Decision:
    recorded = {part.part_number: part for part in found.parts}
    listed = _held(facts, found)
    receipts: list[UploadedPart] = []
    verdicts: list[Verdict] = []
    unread: list[int] = []
    for number in range(1, (plan.parts_total or 0) + 1):
        verdict, receipt = _judge(
            number, plan.part(number).size, recorded.get(number), listed.get(number), facts, trusted=trusted
        )
        if verdict is None:
            unread.append(number)
            continue
        if verdict.why == _CONTENT_DIFFERS and not facts.keep_matching and verdict.action == "send":
            return Start(
                f"the source changed: the bytes of part {number} are others", (*found.abandoned, str(found.upload_id))
            )
        verdicts.append(verdict)
        if receipt is not None:
            receipts.append(receipt)
    if unread:
        return NeedChecksums(plan, tuple(unread))
    resumed = evolve(found, fingerprint=facts.wanted.fingerprint, parts=tuple(receipts))
    return Resume(resumed, plan, tuple(verdicts))


_CONTENT_DIFFERS = "the source's bytes are others than those that were sent"


def _judge(  # noqa: PLR0911  # a table of cases
    number: int,
    size: int,
    record: UploadedPart | None,
    held: UploadedPart | None,
    facts: Facts,
    *,
    trusted: bool,
) -> tuple[Verdict | None, UploadedPart | None]:
    """The verdict on one part and the receipt that it rests on; no verdict where the source must be read first."""
    if held is None:
        why = "it was not sent yet" if record is None else "the storage does not hold it any more"
        return Verdict(number, "send", why), None
    if held.size != size:
        return Verdict(number, "send", f"the storage holds {held.size} bytes of it, not {size}"), None
    if record is not None and not is_same_part(record, held):
        return Verdict(number, "send", "the storage holds another version of it than the one recorded"), None
    checksum = held.crc64 if record is None or record.crc64 is None else record.crc64
    if held.crc64 not in (None, checksum):
        return Verdict(number, "send", "the storage reports another checksum than the one recorded"), None
    # With the ETag that the storage lists: the recorded one may have been altered on its way.
    receipt = held if record is None or record.crc64 is None else evolve(record, etag=held.etag)
    if record is not None and trusted and not facts.verify_content:
        return Verdict(number, "keep", "recorded, and on the storage"), receipt
    if checksum is None:
        return Verdict(number, "send", "the storage holds it, but reports no checksum to know it by"), None
    if number not in facts.local:
        return None, None
    if facts.local[number] != checksum:
        # Without a record it was never known to be of this source, so it says nothing about a change.
        why = _CONTENT_DIFFERS if record is not None else "what the storage holds of it are other bytes"
        return Verdict(number, "send", why), None
    if record is None:
        return Verdict(number, "adopt", "on the storage, not recorded, and its checksum is the source's"), receipt
    return Verdict(number, "keep", "recorded, on the storage, and its checksum is the source's"), receipt


def is_same_part(record: UploadedPart, held: UploadedPart) -> bool:
    """
    Whether the storage holds the part that was recorded.

    By its size, and by its checksum or its ETag. A proxy on the way may have made an ETag weak, or quoted it in another
    way, so that the checksum counts for more.
    """
    if record.size != held.size:
        return False
    if record.crc64 is not None and record.crc64 == held.crc64:
        return True
    return is_same_etag(record.etag, held.etag)


def is_same_etag(one: str, other: str) -> bool:
    """Whether two ETags are the same, however they were quoted on their way."""
    return one == other or _bare(one) == _bare(other)


def _bare(etag: str) -> str:
    bare = etag.strip()
    bare = bare[2 if bare[:2] in ("W/", "w/") else 0 :].strip().strip('"')
    # Storages write a digest in either case; anything else may differ by nothing but case.
    return bare.lower() if all(character in hexdigits for character in bare.partition("-")[0]) else bare


def _held(facts: Facts, found: Checkpoint) -> dict[int, UploadedPart]:
    """What the storage holds, by its own word or, where it has none, by the checkpoint's."""
    parts = found.parts if facts.listed is Answer.CANNOT_LIST else facts.listed
    assert isinstance(parts, tuple)
    return {part.part_number: part for part in parts}


def _reconcile_stream(facts: Facts, found: Checkpoint, abandon: tuple[str, ...]) -> Question | Decision:
    if found.fingerprint.size is not None:
        return Start("the source changed: it had a known size, and is a stream now", abandon)
    plan = PartPlan(found.part_size, None, found.parts_per_doubling)
    if (misfit := _misfit(plan, facts.limits)) is not None:
        return Start(misfit, abandon)
    if facts.listed is None:
        return NeedPartList()
    if facts.listed is Answer.GONE:
        # Whether an object that stands there is ours can't be told before the stream was read; then it is sent anyway.
        return Start("the storage no longer knows the upload: it was aborted, or it expired", found.abandoned)
    recorded = {part.part_number: part for part in found.parts}
    candidates = {}
    for number, held in _held(facts, found).items():
        record = recorded.get(number)
        if record is not None and held.crc64 is None and is_same_part(record, held):
            # The record knows the checksum that the storage does not report.
            held = evolve(record, etag=held.etag)  # noqa: PLW2901
        if held.crc64 is not None:
            candidates[number] = held
    return CompareWhileReading(found, plan, candidates)
