"""
What a process met in its life, and what may be asked of it because of that.

A process that lost its network for good may fail; one that lost an answer may not. These are the rules by which
`partwise.testing._proof.invariants` tells the two apart. They are drawn from what was planned and what the
witness saw, never
from what the engine says of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from partwise.checkpoint import Checkpoint
from partwise.errors import CallbackError, UploadNotFound
from partwise.testing._proof.events import Deed
from partwise.testing._proof.scenario import Happening, Lived, World
from partwise.testing.faults import Fault, FaultKind

_LATE = frozenset({FaultKind.DELAY})
_PASSING = frozenset({FaultKind.BEFORE, FaultKind.AFTER, FaultKind.HALFWAY, FaultKind.THROTTLED})

#: The faults that an upload has to survive, by what they strike. A failure of the storage passes. An old upload that
#: can't be aborted, or a receipt that can't be recorded, costs a warning; a record that can't be read, a new start.
_SURVIVABLE: Mapping[str, frozenset[FaultKind]] = MappingProxyType(
    {
        "initiate_upload": _LATE | _PASSING,
        "upload_part": _LATE | _PASSING | {FaultKind.WRONG_CHECKSUM, FaultKind.FORGOTTEN_UPLOAD},
        "list_parts": _LATE | _PASSING | {FaultKind.SHORT_LIST, FaultKind.FORGOTTEN_UPLOAD},
        "complete_upload": _LATE | _PASSING | {FaultKind.FORGOTTEN_UPLOAD},
        "head_object": _LATE | _PASSING,
        "put_object": _LATE | _PASSING | {FaultKind.WRONG_CHECKSUM},
        "abort_upload": _LATE | _PASSING | {FaultKind.PERMANENT},
        "append_part": _LATE | {FaultKind.BEFORE, FaultKind.AFTER, FaultKind.LOST_WRITE},
        "load": _LATE | {FaultKind.DAMAGED, FaultKind.OLD_RECORD},
        "claim": _LATE,
        "save": _LATE,
        "fingerprint": _LATE,
        "body": _LATE,
        "read": _LATE,
    }
)

# --- what it met -----------------------------------------------------------------------------------------------------


def struck(lived: Lived, operations: Iterable[str] | None, *kinds: FaultKind) -> list[Fault]:
    """The faults of these kinds (any, where none is named) that struck these operations (any, where None)."""
    wanted = None if operations is None else set(operations)
    return [
        fault
        for _, fault in lived.faults
        if (wanted is None or fault.operation in wanted) and (not kinds or fault.kind in kinds)
    ]


def happened(lived: Lived, *what: Happening) -> bool:
    """Whether any of this happened around it."""
    return any(incident.what in what for incident in lived.occurred)


def store_lied(lived: Lived) -> bool:
    """Whether its store lost what it had promised to keep."""
    lost = struck(lived, ("save", "delete"), FaultKind.LOST_WRITE)
    return bool(lost or struck(lived, ("load",), FaultKind.OLD_RECORD))


def cleaning_was_hindered(lived: Lived) -> bool:
    """Whether something stood in the way of aborting uploads and deleting records."""
    failed = struck(lived, ("delete", "abort_upload"))
    return bool(failed or struck(lived, None, FaultKind.READ_ONLY, FaultKind.DISK_FULL) or store_lied(lived))


def effects_of(world: World, lived: Lived) -> list[Deed]:
    """What it did to the storage."""
    return world.history.effects[lived.effects : lived.effects_end]


def words_to_the_caller(lived: Lived) -> str:
    """Every word that its caller got."""
    words = [str(lived.error or ""), *getattr(lived.error, "__notes__", ())]
    for teller in (lived.result, lived.error, lived.error.result if isinstance(lived.error, CallbackError) else None):
        words += getattr(teller, "warnings", ())
    return "\n".join(words)


def ids_in(record: Checkpoint | None) -> set[str]:
    """The uploads that a record speaks of."""
    if record is None:
        return set()
    return {*record.abandoned, *([] if record.upload_id is None else [record.upload_id])}


def excuse_uploads(world: World, lived: Lived) -> None:
    """Note in the world's history which uploads no process can be expected to know of any more, and why."""
    history = world.history
    answered = {deed.answer for deed in lived.asked if deed.operation == "initiate_upload"}
    mine = [upload.upload_id for upload in history.uploads.values() if upload.process == lived.process]
    history.excuse((upload for upload in mine if upload not in answered), "the answer to initiate was lost")
    if lived.died:
        history.excuse((upload for upload in mine if upload not in history.recorded), "the process died with the id")
    if store_lied(lived):
        history.excuse({*mine, *ids_in(lived.before.record)}, "the store lost what it was given")
    if lived.before.record is not None and struck(lived, ("load",), FaultKind.DAMAGED):
        history.excuse(lived.before.record.abandoned, "they were in a record that was damaged")
    told = words_to_the_caller(lived)
    history.excuse((upload for upload in history.uploads if upload in told), "the caller was told of it")


# --- whether it has to carry on what there was -----------------------------------------------------------------------


def has_to_resume(world: World, lived: Lived, record: Checkpoint) -> bool:
    """Whether nothing allows it to give up the upload that this record speaks of."""
    life, source = lived.life, world.source
    usable = record.upload_id in lived.before.pending and world.records(life)
    usable = usable and record.options == life.options.fixed_at_initiate()
    lost = struck(lived, None, FaultKind.FORGOTTEN_UPLOAD) or happened(lived, Happening.EXPIRY)
    changed = len(lived.versions) > 1 or struck(lived, None, FaultKind.CHANGED)
    if not usable or lost or changed or struck(lived, ("load",)):
        return False
    if source.sized and source.open().fingerprint() != record.fingerprint:
        return False
    return life.config.verify_source == "metadata" or _holds_nothing_else(world, lived, record)


def _holds_nothing_else(world: World, lived: Lived, record: Checkpoint) -> bool:
    """Whether all parts are of the source as it is: whoever looks at the bytes may start anew because of others."""
    held, data = lived.before.pending[record.upload_id or ""], world.source.version.data
    places = _places(record, len(data))
    return all(number in places and part.data == data[places[number]] for number, part in held.items())


def parts_to_keep(world: World, lived: Lived, record: Checkpoint) -> set[int]:
    """The parts that the storage holds of the source as it is, and that can be known again."""
    if struck(lived, ("list_parts",), FaultKind.SHORT_LIST):
        return set()
    held, data = lived.before.pending[record.upload_id or ""], world.source.version.data
    receipts = {part.part_number: part for part in record.parts}
    # A part without a record costs a look at the source, where the storage can tell what it has.
    adopts = world.capabilities.lists_parts and world.capabilities.part_checksums
    kept = set()
    for number, place in _places(record, len(data)).items():
        there = held.get(number)
        if there is not None and there.data == data[place]:
            recorded = number in receipts and receipts[number].etag == there.etag
            if recorded or (adopts and number not in receipts):
                kept.add(number)
    return kept


def _places(record: Checkpoint, size: int) -> dict[int, slice]:
    """Where each part of a source of this size lies, by number."""
    places: dict[int, slice] = {}
    begin, length = 0, record.part_size
    while begin < size:
        places[len(places) + 1] = slice(begin, min(begin + length, size))
        begin += length
        if record.parts_per_doubling is not None and len(places) % record.parts_per_doubling == 0:
            length *= 2
    return places


# --- whether it has to succeed ---------------------------------------------------------------------------------------


def has_to_succeed(world: World, lived: Lived) -> bool:
    """Whether nothing befell it that it may fail for."""
    return not lived.died and _met_only_what_passes(world, lived) and _asked_for_what_can_be(world, lived)


def _met_only_what_passes(world: World, lived: Lived) -> bool:
    if len(lived.versions) > 1 or any(not _passes(world, incident.what) for incident in lived.occurred):
        return False
    if not all(fault.kind in _SURVIVABLE.get(fault.operation, frozenset()) for _, fault in lived.faults):
        return False
    if any(count >= lived.life.config.max_attempts for count in _failures(lived).values()):
        return False
    # One new start is granted, and a source that has gone by can't have it.
    expiries = sum(incident.what is Happening.EXPIRY for incident in lived.occurred)
    losses = len(struck(lived, None, FaultKind.FORGOTTEN_UPLOAD)) + expiries
    noticed = any(isinstance(deed.error, UploadNotFound) for deed in lived.asked)
    return losses <= 1 and (world.source.reopens or not noticed)


def _passes(world: World, what: Happening) -> bool:
    if what.changes_source:
        return not world.source.seen_changing
    return what in {Happening.SECOND_UPLOADER, Happening.EXPIRY}


def _failures(lived: Lived) -> Counter[tuple[str, int | None]]:
    """How often each request was made to fail."""
    failing = _PASSING | {FaultKind.WRONG_CHECKSUM}
    return Counter((call.operation, call.part_number) for call, fault in lived.faults if fault.kind in failing)


def _asked_for_what_can_be(world: World, lived: Lived) -> bool:
    life, capabilities = lived.life, world.capabilities
    if life.resume == "require" or (life.options.forbid_overwrite and lived.before.stored is not None):
        return False
    if life.options.callback is not None and not getattr(world.backend, "callback_works", True):
        return False
    # Without either, a lost answer to complete can't be settled, and nothing is guessed.
    by_token = "metadata" in capabilities.options and not life.options.forbid_overwrite
    return capabilities.object_checksums or by_token
