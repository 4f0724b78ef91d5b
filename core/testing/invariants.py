"""
What must hold, whatever fails: the promises of the engine, by name, each held against an independent witness.

Every function here looks at one life in one world, and raises AssertionError if the promise was broken; the message
begins with the promise's name. None of them asks the engine: what it says of itself is compared with what the storage,
the store and the source were seen to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NoReturn

from partwise.errors import (
    AccessDenied,
    CallbackError,
    CheckpointBusy,
    CheckpointError,
    CheckpointUnwritable,
    SourceChanged,
    Throttled,
    UploadCancelled,
    UploadNotFound,
    UploadPaused,
    UploadStopped,
)
from partwise.model import Checkpoint
from partwise.testing.faults import Fault, FaultKind
from partwise.testing.history import Deed, HeldPart
from partwise.testing.witnesses import slow_crc64
from partwise.testing.worlds import Happening, Lived, Told, World

_HARMLESS = frozenset({FaultKind.DELAY})
_PASSING = frozenset({FaultKind.BEFORE, FaultKind.AFTER, FaultKind.HALFWAY, FaultKind.THROTTLED})

#: The faults that an upload has to survive, by what they strike. A fault of the storage passes; a record that can't be
#: written in mid-upload, or is lost, costs nothing but a warning; an abort that fails does, too.
_SURVIVED: Mapping[str, frozenset[FaultKind]] = MappingProxyType(
    {
        "initiate_upload": _HARMLESS | _PASSING,
        "upload_part": _HARMLESS | _PASSING | {FaultKind.WRONG_CHECKSUM, FaultKind.FORGOTTEN_UPLOAD},
        "list_parts": _HARMLESS | _PASSING | {FaultKind.SHORT_LIST, FaultKind.FORGOTTEN_UPLOAD},
        "complete_upload": _HARMLESS | _PASSING | {FaultKind.FORGOTTEN_UPLOAD},
        "head_object": _HARMLESS | _PASSING,
        "put_object": _HARMLESS | _PASSING | {FaultKind.WRONG_CHECKSUM},
        "abort_upload": _HARMLESS | _PASSING | {FaultKind.PERMANENT},
        "append_part": _HARMLESS | {FaultKind.BEFORE, FaultKind.AFTER, FaultKind.LOST_WRITE},
        "load": _HARMLESS | {FaultKind.DAMAGED, FaultKind.OLD_RECORD},
        "claim": _HARMLESS,
        "save": _HARMLESS,
        "fingerprint": _HARMLESS,
        "body": _HARMLESS,
        "read": _HARMLESS,
    }
)


def check(world: World, lived: Lived) -> None:
    """
    Hold every promise against a life that has just ended.

    Raises:
        AssertionError: one was broken; the message begins with its name, and tells the life.
    """
    _excuse(world, lived)
    for holds in INVARIANTS.values():
        holds(world, lived)


def _broken(name: str, how: str, lived: Lived) -> NoReturn:
    raise AssertionError(f"{name}: {how}\n{lived}")


def _struck(lived: Lived, operations: Iterable[str] | None, *kinds: FaultKind) -> list[Fault]:
    """The faults of these kinds (any, where none is named) that struck these operations (any, where None)."""
    wanted = None if operations is None else set(operations)
    return [
        fault
        for _, fault in lived.faults
        if (wanted is None or fault.operation in wanted) and (not kinds or fault.kind in kinds)
    ]


def _happened(lived: Lived, *what: Happening) -> bool:
    return any(incident.what in what for incident in lived.occurred)


def _store_lied(lived: Lived) -> bool:
    return bool(_struck(lived, ("save", "delete"), FaultKind.LOST_WRITE) or _struck(lived, ("load",), FaultKind.OLD_RECORD))


def _effects(world: World, lived: Lived) -> list[Deed]:
    """What this life did to the storage."""
    return world.history.effects[lived.effects : lived.effects_end]


def _told(lived: Lived) -> str:
    """Every word that the caller got."""
    words = [str(lived.error or ""), *getattr(lived.error, "__notes__", ())]
    for teller in (lived.result, lived.error):
        words += getattr(teller, "warnings", ())
    if isinstance(lived.error, CallbackError):
        words += getattr(lived.error.result, "warnings", ())
    return "\n".join(words)


def _ids(record: Checkpoint | None) -> set[str]:
    return set() if record is None else {*record.abandoned, *(() if record.upload_id is None else (record.upload_id,))}


def _excuse(world: World, lived: Lived) -> None:
    """Note which uploads no process can be expected to know of, and why."""
    history = world.history
    answered = {deed.answer for deed in lived.asked if deed.operation == "initiate_upload"}
    mine = [upload.upload_id for upload in history.uploads.values() if upload.process == lived.process]
    history.excuse((upload for upload in mine if upload not in answered), "the answer to initiate was lost")
    if lived.died:
        history.excuse((upload for upload in mine if upload not in history.recorded), "the process died with the id")
    if _store_lied(lived):
        history.excuse({*mine, *_ids(lived.before.record)}, "the store lost what it was given")
    if _struck(lived, ("load",), FaultKind.DAMAGED) and lived.before.record is not None:
        history.excuse(lived.before.record.abandoned, "they were in a record that was damaged")
    told = _told(lived)
    history.excuse((upload for upload in history.uploads if upload in told), "the caller was told of it")


# --- EXACT -----------------------------------------------------------------------------------------------------------


def exact(world: World, lived: Lived) -> None:
    """Success means that the object's bytes are the source's, of one version that was there in the time of the run."""
    stored = lived.after.stored
    versions = world.source.versions
    if stored is not None and stored not in {*(version.data for version in versions), *world.history.foreign}:
        _broken("EXACT", f"the object is of no version of the source: {stored!r}", lived)
    result = lived.result
    if result is None:
        return
    if stored is None:
        _broken("EXACT", "the upload was a success, and there is no object", lived)
    if stored not in {versions[number].data for number in lived.versions}:
        _broken("EXACT", "the object is of a version of the source that was not there in the time of the run", lived)
    # An object that an earlier run was found to have made may be known by a token, and not by its checksum.
    unknown = result.crc64 is None and result.parts_sent == 0 and not world.capabilities.object_checksums
    if result.size != len(stored) or (result.crc64 != slow_crc64(stored) and not unknown):
        _broken("EXACT", f"the result tells of {result.size} bytes with CRC-64 {result.crc64}", lived)
    if world.capabilities.object_checksums and not (result.verified or result.warnings):
        _broken("EXACT", "the storage knows checksums of objects, and the result says neither yes nor why not", lived)
    _exact_figures(world, lived)


def _exact_figures(world: World, lived: Lived) -> None:
    result, stored = lived.result, lived.after.stored
    assert result is not None
    assert stored is not None
    if result.bytes_sent + result.bytes_resumed != len(stored):
        _broken("EXACT", f"{result.bytes_sent} bytes sent and {result.bytes_resumed} resumed make no whole", lived)
    made = next((d for d in reversed(_effects(world, lived)) if d.operation in {"complete_upload", "put_object"}), None)
    if made is None and any(deed.operation in {"complete_upload", "put_object"} for deed in lived.asked):
        return  # what this run sent is gone, and an object of the same bytes was there: nobody can tell them apart
    sent = 0
    if made is not None and made.upload_id is None:
        sent = len(stored)
    elif made is not None and made.upload_id is not None:
        held = world.history.uploads[made.upload_id].parts
        sent = sum(len(held[p.part_number].data) for p in made.parts if held[p.part_number].process == lived.process)
    if result.bytes_sent != sent:
        _broken("EXACT", f"this run sent {sent} bytes of the object, and the result says {result.bytes_sent}", lived)


# --- NO-MIX, WHOLE ---------------------------------------------------------------------------------------------------


def no_mix(world: World, lived: Lived) -> None:
    """Parts of two versions of the source never meet in one object."""
    whole = {version.data for version in world.source.versions}
    for deed in _effects(world, lived):
        if deed.operation != "complete_upload":
            continue
        held = world.history.uploads[deed.upload_id or ""].parts
        if b"".join(held[part.part_number].data for part in deed.parts) not in whole:
            _broken("NO-MIX", "parts that were completed are not of one version", lived)
    hindered = _struck(lived, ("abort_upload", "delete")) or _struck(lived, None, FaultKind.READ_ONLY)
    if isinstance(lived.error, SourceChanged) and world.records(lived.life) and not hindered:
        if lived.after.record is not None:
            _broken("NO-MIX", "the source changed, and the checkpoint was kept", lived)
        if kept := set(lived.after.pending) & _ids(lived.before.record):
            _broken("NO-MIX", f"the source changed, and the uploads {kept} were kept", lived)


def whole(world: World, lived: Lived) -> None:
    """Complete is sent only with parts 1 to n whose sizes add up to the source's size."""
    sizes = {len(world.source.versions[number].data) for number in lived.versions}
    for deed in lived.asked:
        if deed.operation != "complete_upload":
            continue
        numbers = [part.part_number for part in deed.parts]
        if numbers != list(range(1, len(numbers) + 1)) or not numbers:
            _broken("WHOLE", f"complete was sent with the parts {numbers}", lived)
        if sum(part.size for part in deed.parts) not in sizes:
            _broken("WHOLE", f"complete was sent with parts of {sum(p.size for p in deed.parts)} bytes", lived)


# --- BOUNDED ---------------------------------------------------------------------------------------------------------


def bounded(world: World, lived: Lived) -> None:
    """
    What the storage holds of this version of the source is not sent again.

    After a death that leaves the parts that were in flight; within a life, the attempts that failed.
    """
    _bounded_within(lived)
    record = lived.before.record
    if record is None or not _has_to_resume(world, lived, record):
        return
    if begun := [deed for deed in lived.asked if deed.operation == "initiate_upload"]:
        _broken("BOUNDED", f"there was an upload to carry on, and {len(begun)} were begun", lived)
    kept = _parts_to_keep(world, lived, record)
    for deed in lived.asked:
        if deed.operation == "upload_part" and deed.part_number in kept:
            _broken("BOUNDED", f"part {deed.part_number} was on the storage, and was sent again", lived)


def _bounded_within(lived: Lived) -> None:
    """A part whose receipt arrived is not sent again in the same life."""
    arrived: set[tuple[str | None, int | None]] = set()
    if any(deed.operation == "complete_upload" and deed.error is not None for deed in lived.asked):
        return  # what the storage then says of its parts may be that they are gone
    for deed in lived.asked:
        if deed.operation != "upload_part":
            continue
        if (deed.upload_id, deed.part_number) in arrived:
            _broken("BOUNDED", f"part {deed.part_number} was sent again, though its receipt had arrived", lived)
        if deed.error is None and not _struck(lived, ("upload_part",), FaultKind.WRONG_CHECKSUM):
            arrived.add((deed.upload_id, deed.part_number))


def _has_to_resume(world: World, lived: Lived, record: Checkpoint) -> bool:
    life, source = lived.life, world.source
    if record.upload_id is None or record.upload_id not in lived.before.pending or not world.records(life):
        return False
    if record.options != life.options.fixed() or life.resume == "never":
        return False
    if len(lived.versions) > 1 or _struck(lived, ("load",)) or _happened(lived, Happening.EXPIRY):
        return False
    if _struck(lived, None, FaultKind.FORGOTTEN_UPLOAD, FaultKind.CHANGED):
        return False
    if source.sized and source.open().fingerprint() != record.fingerprint:
        return False
    if life.config.verify_source == "content":
        # A forgery is noticed then, and is a reason to start again.
        held, data = lived.before.pending[record.upload_id], source.version.data
        ranges = _ranges(record, len(data))
        return all(n in ranges and held[n].data == data[ranges[n]] for n in held)
    return True


def _ranges(record: Checkpoint, size: int) -> dict[int, slice]:
    """Where each part of a source of this size lies, by number."""
    ranges: dict[int, slice] = {}
    begin, length = 0, record.part_size
    while begin < size:
        ranges[len(ranges) + 1] = slice(begin, min(begin + length, size))
        begin += length
        if record.doubling_every is not None and len(ranges) % record.doubling_every == 0:
            length *= 2
    return ranges


def _parts_to_keep(world: World, lived: Lived, record: Checkpoint) -> set[int]:
    if _struck(lived, ("list_parts",), FaultKind.SHORT_LIST):
        return set()
    assert record.upload_id is not None
    held = lived.before.pending[record.upload_id]
    data = world.source.version.data
    receipts = {part.part_number: part for part in record.parts}
    capabilities = world.capabilities
    kept = set()
    for number, place in _ranges(record, len(data)).items():
        there = held.get(number)
        if there is None or there.data != data[place]:
            continue
        recorded = number in receipts and receipts[number].etag == there.etag
        # A record that was lost costs a look at the source, where the storage can tell of its parts.
        if recorded or (capabilities.lists_parts and capabilities.part_checksums and number not in receipts):
            kept.add(number)
    return kept


# --- INTENT ----------------------------------------------------------------------------------------------------------


def intent(world: World, lived: Lived) -> None:
    """
    The checkpoint is durable before an upload is begun, and its id before a part is sent.

    The ids on the storage are those in the store, plus one for each lost answer to initiate, and those that the caller
    was told of.
    """
    if not _store_lied(lived):
        for problem in world.history.problems:
            if problem.startswith("INTENT"):
                raise AssertionError(f"{problem}\n{lived}")
    known = _ids(lived.after.record)
    for upload_id in lived.after.pending:
        upload = world.history.uploads[upload_id]
        if upload_id not in known and not upload.excused:
            _broken("INTENT", f"the upload {upload_id} is on the storage, and nobody knows of it any more", lived)


# --- LOST-REPLY, RETRY -----------------------------------------------------------------------------------------------


def lost_reply(world: World, lived: Lived) -> None:
    """A lost answer to any request is survived."""
    if _has_to_succeed(world, lived) and _struck(lived, None, FaultKind.AFTER) and lived.result is None:
        _broken("LOST-REPLY", "answers were lost, and the upload failed", lived)


def retry(world: World, lived: Lived) -> None:
    """Each part has its own attempts, and each request; what passes within them is survived, and waits are granted."""
    if _has_to_succeed(world, lived) and lived.result is None:
        _broken("RETRY", "nothing failed more often than is granted, and the upload failed", lived)
    for index, deed in enumerate(lived.asked):
        if isinstance(deed.error, Throttled) and deed.error.retry_after:
            _left_alone(lived, deed, lived.asked[index + 1 :], until=deed.ended + deed.error.retry_after)
    for transport in lived.transports:
        until = 0.0
        for moment in transport.moments:
            if moment.what == "submitted" and moment.time < until:
                _broken("RETRY", f"part {moment.part_number} was sent while the storage was to be left alone", lived)
            until = max(until, moment.time + (getattr(moment.error, "retry_after", None) or 0.0))


def _left_alone(lived: Lived, refused: Deed, later: list[Deed], *, until: float) -> None:
    """Nothing but what was under way already is asked before the time that the storage wants to be left alone."""
    if refused.operation == "abort_upload" or not any(_same_request(deed, refused) for deed in later):
        return  # it was given up; what comes then is cleaning up, or an upload of its own
    if early := [deed.operation for deed in later if deed.began < until and deed.operation != "upload_part"]:
        _broken("RETRY", f"{refused.operation} was to wait until {until}, and {early} came before", lived)


def _same_request(one: Deed, other: Deed) -> bool:
    return (one.operation, one.upload_id, one.part_number) == (other.operation, other.upload_id, other.part_number)


def _has_to_succeed(world: World, lived: Lived) -> bool:
    """Whether nothing befell this life that it may fail for."""
    life = lived.life
    if lived.died or len(lived.versions) > 1 or any(not _harmless(world, i.what) for i in lived.occurred):
        return False
    if not all(fault.kind in _SURVIVED.get(fault.operation, frozenset()) for _, fault in lived.faults):
        return False
    if any(count >= life.config.max_attempts for count in _failures(lived).values()):
        return False
    if life.resume == "require" or (life.options.forbid_overwrite and lived.before.stored is not None):
        return False
    if len(_struck(lived, None, FaultKind.FORGOTTEN_UPLOAD)) + _happened(lived, Happening.EXPIRY) > 1:
        return False
    if not world.source.reopens and any(isinstance(deed.error, UploadNotFound) for deed in lived.asked):
        return False
    if life.options.callback is not None and not getattr(world.backend, "callback_works", True):
        return False
    capabilities = world.capabilities
    return capabilities.object_checksums or (
        "metadata" in capabilities.options and not life.options.forbid_overwrite
    )


def _harmless(world: World, what: Happening) -> bool:
    if what.changes_source:
        return not world.source.seen_changing
    return what in {Happening.SECOND_UPLOADER, Happening.EXPIRY}


def _failures(lived: Lived) -> Counter[tuple[str, int | None]]:
    """How often each request was struck by a fault that makes it fail."""
    failing = _PASSING | {FaultKind.WRONG_CHECKSUM}
    return Counter(
        (call.operation, call.part_number) for call, fault in lived.faults if fault.kind in failing
    )


# --- ONE-OWNER -------------------------------------------------------------------------------------------------------


def one_owner(world: World, lived: Lived) -> None:
    """A second uploader is refused at once and does nothing; the claim is free when its holder is gone."""
    for problem in world.history.problems:
        if problem.startswith("ONE-OWNER"):
            raise AssertionError(f"{problem}\n{lived}")
    if isinstance(lived.error, CheckpointBusy):
        _broken("ONE-OWNER", "the claim was not free, though nobody was there", lived)
    if world.history.claimed:
        _broken("ONE-OWNER", "the claim outlived its holder", lived)


# --- CLEAN -----------------------------------------------------------------------------------------------------------


def clean(world: World, lived: Lived) -> None:
    """
    Success leaves no checkpoint and no pending upload, and so does a cancel.

    What could not be cleaned up is reported.
    """
    if lived.result is None and not isinstance(lived.error, UploadCancelled | CallbackError):
        return
    told = _told(lived)
    if lived.after.record is not None and not _store_lied(lived) and world.records(lived.life) and not told.strip():
        _broken("CLEAN", "a checkpoint was left behind, and nobody was told", lived)
    hindered = _struck(lived, ("delete", "abort_upload")) or _struck(lived, ("save", "append_part"), FaultKind.DISK_FULL)
    hindered = hindered or _struck(lived, None, FaultKind.READ_ONLY) or _store_lied(lived)
    if lived.after.record is not None and world.records(lived.life) and not hindered:
        _broken("CLEAN", "a checkpoint was left behind, though nothing hindered its deletion", lived)
    mine = {u for u in lived.after.pending if world.history.uploads[u].process == lived.process}
    if left := {u for u in mine | (set(lived.after.pending) & _ids(lived.before.record)) if not _accounted(world, u)}:
        if world.records(lived.life) or left & mine:
            _broken("CLEAN", f"the uploads {left} were left behind", lived)


def _accounted(world: World, upload_id: str) -> bool:
    return bool(world.history.uploads[upload_id].excused)


# --- FAST-FAIL -------------------------------------------------------------------------------------------------------


def fast_fail(world: World, lived: Lived) -> None:
    """
    A permanent error is not retried and stops the other parts at once; the checkpoint stays.

    An upload returns only when no worker of its own is running; what the storage acknowledged meanwhile is recorded.
    """
    for index, deed in enumerate(lived.asked):
        if not isinstance(deed.error, AccessDenied) or deed.operation == "abort_upload":
            continue
        if any(_same_request(later, deed) for later in lived.asked[index + 1 :]) and deed.operation != "head_object":
            _broken("FAST-FAIL", f"{deed.operation} was refused for good, and tried again", lived)
        if lived.result is not None and deed.operation != "head_object":
            _broken("FAST-FAIL", f"{deed.operation} was refused for good, and that was a success", lived)
    for transport in lived.transports:
        refused = False
        for moment in transport.moments:
            if refused and moment.what in {"submitted", "begun"}:
                _broken("FAST-FAIL", f"part {moment.part_number} was {moment.what} after a refusal", lived)
            refused = refused or isinstance(moment.error, AccessDenied)
        if transport.under_way and not lived.died:
            _broken("FAST-FAIL", f"{transport.under_way} parts were still under way at the end", lived)
    _what_arrived_is_recorded(world, lived)


def _what_arrived_is_recorded(world: World, lived: Lived) -> None:
    record = lived.after.record
    if lived.died or record is None or record.upload_id is None or not world.records(lived.life):
        return
    if len(lived.versions) > 1 or _struck(lived, ("append_part", "save")) or _store_lied(lived):
        return
    if _struck(lived, ("fingerprint",)) or _happened(lived, Happening.RAISE):
        return
    recorded = {part.part_number: part.etag for part in record.parts}
    for transport in lived.transports:
        for moment in transport.moments:
            held = world.history.uploads[record.upload_id].parts.get(moment.part_number)
            if moment.what != "delivered" or moment.error is not None or held is None:
                continue
            if held.process == lived.process and recorded.get(moment.part_number) != held.etag:
                _broken("FAST-FAIL", f"part {moment.part_number} arrived, and was not recorded", lived)


# --- CALLBACK --------------------------------------------------------------------------------------------------------


def callback(world: World, lived: Lived) -> None:
    """A failed upload callback means that the object is stored: the error has the result, and the checkpoint is gone."""
    error = lived.error
    if not isinstance(error, CallbackError):
        return
    if lived.after.stored not in {world.source.versions[number].data for number in lived.versions}:
        _broken("CALLBACK", "the callback is said to have failed, and the object is not stored", lived)
    if error.result is None or error.result.size != len(lived.after.stored or b""):
        _broken("CALLBACK", f"the error has no result that fits: {error.result!r}", lived)


# --- BOUNDED-MEMORY --------------------------------------------------------------------------------------------------


def bounded_memory(world: World, lived: Lived) -> None:
    """No more parts are under way, and no more of the source is held, than the concurrency allows."""
    concurrency = lived.life.config.concurrency
    most = max((transport.most_under_way for transport in lived.transports), default=0)
    if most > concurrency:
        _broken("BOUNDED-MEMORY", f"{most} parts were under way at once, of {concurrency}", lived)
    # One more is being asked for while the others are under way, and one is at hand that turned out not to be needed.
    # An upload that was lost and begun anew may have left some to the garbage collector.
    if lived.most_bodies > (concurrency + 2) * max(1, len(lived.transports)):
        _broken("BOUNDED-MEMORY", f"{lived.most_bodies} parts of the source were held, of {concurrency}", lived)


# --- PROGRESS --------------------------------------------------------------------------------------------------------


def progress(world: World, lived: Lived) -> None:
    """Bytes never go backwards, never exceed the total, and reach it only when the object is there."""
    reports = [told.progress for told in lived.reports]
    for before, after in zip(reports, reports[1:], strict=False):
        if after.bytes_done < before.bytes_done:
            _broken("PROGRESS", f"it went back from {before.bytes_done} to {after.bytes_done} bytes", lived)
        if before.completed:
            _broken("PROGRESS", "something was told after the end", lived)
    for told in lived.reports:
        report = told.progress
        if report.bytes_done < report.bytes_resumed:
            _broken("PROGRESS", f"{report.bytes_resumed} bytes were resumed, and {report.bytes_done} done", lived)
        if report.bytes_total is not None and report.bytes_done > report.bytes_total:
            _broken("PROGRESS", f"{report.bytes_done} of {report.bytes_total} bytes were done", lived)
        if report.bytes_total is not None and report.bytes_done == report.bytes_total and not report.completed:
            _broken("PROGRESS", "all bytes were done, and the object was not said to be there", lived)
        if report.completed and world.backend.read(world.key) is None:
            _broken("PROGRESS", "completion was told, and no object is there", lived)
        _progress_is_true(world, told, lived)
    if lived.result is not None and (not reports or not reports[-1].completed):
        _broken("PROGRESS", "the upload was a success, and its end was not told", lived)
    if _happened(lived, Happening.RAISE) and not lived.died and type(lived.error).__name__ != "CallbackBroke":
        _broken("PROGRESS", f"what the progress callback raised came out as {lived.error!r}", lived)


def _progress_is_true(world: World, told: Told, lived: Lived) -> None:
    report = told.progress
    kept = report.checkpoint
    if kept is None or kept.upload_id is None:
        return
    held: dict[int, str] = {
        number: part.etag
        for number, part in lived.before.pending.get(kept.upload_id, {}).items()
    }
    for deed in world.history.effects[lived.effects : told.effects]:
        if deed.operation == "upload_part" and deed.upload_id == kept.upload_id and deed.part_number is not None:
            held[deed.part_number] = deed.answer.etag  # type: ignore[attr-defined]  # of a part that was stored
    if not world.capabilities.lists_parts:
        return
    for part in kept.parts:
        if held.get(part.part_number) != part.etag and not _struck(lived, None, FaultKind.FORGOTTEN_UPLOAD):
            _broken("PROGRESS", f"part {part.part_number} was told to be on the storage, and was not", lived)
    if len(kept.parts) != report.parts_done:
        _broken("PROGRESS", f"{report.parts_done} parts were told, and {len(kept.parts)} are in the checkpoint", lived)


# --- UNWRITABLE ------------------------------------------------------------------------------------------------------


def unwritable(world: World, lived: Lived) -> None:
    """
    A checkpoint that can't be written fails before anything is sent.

    One that stops being writable in mid-upload fails nothing, and the result says so.
    """
    saved = True
    for call in lived.calls:
        if call.operation == "save":
            saved = call.outcome == "returned"
        if call.operation == "claim" and call.outcome not in {"returned", "SimulatedDeath"}:
            if lived.asked or not isinstance(lived.error, CheckpointError):
                _broken("UNWRITABLE", "there was no claim, and the upload went on", lived)
        if call.operation == "initiate_upload" and world.records(lived.life) and not saved:
            _broken("UNWRITABLE", "an upload was begun, though the checkpoint could not be saved", lived)
    lost = [call for call in lived.calls if call.operation == "append_part" and call.outcome != "returned"]
    if lost and lived.result is not None and not lived.result.warnings:
        _broken("UNWRITABLE", "progress could not be recorded, and the result does not say so", lived)


# --- SECRET ----------------------------------------------------------------------------------------------------------


def secret(world: World, lived: Lived) -> None:
    """No credential is in a checkpoint, a log record, a repr or an error."""
    words = [*lived.log, repr(lived.result), *map(repr, lived.reports), repr(lived.after.record)]
    error = lived.error
    while error is not None:
        words += [str(error), repr(error), repr(getattr(error, "details", ""))]
        error = error.__cause__
    for hidden in world.backend.secrets:
        if any(hidden in word for word in words):
            _broken("SECRET", "a credential came out", lived)


#: Every promise, by name.
INVARIANTS: Mapping[str, Callable[[World, Lived], None]] = MappingProxyType(
    {
        "EXACT": exact,
        "NO-MIX": no_mix,
        "WHOLE": whole,
        "BOUNDED": bounded,
        "INTENT": intent,
        "LOST-REPLY": lost_reply,
        "ONE-OWNER": one_owner,
        "CLEAN": clean,
        "FAST-FAIL": fast_fail,
        "RETRY": retry,
        "CALLBACK": callback,
        "BOUNDED-MEMORY": bounded_memory,
        "PROGRESS": progress,
        "UNWRITABLE": unwritable,
        "SECRET": secret,
    }
)
