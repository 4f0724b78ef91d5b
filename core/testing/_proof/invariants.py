"""
What must hold, whatever fails: the promises of the engine, by name, each held against an independent witness.

Every function here looks at one life in one world, and raises AssertionError if the promise was broken; the message
begins with the promise's name. None of them asks the engine: what it says of itself is compared with what the storage,
the store and the source were seen to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import NoReturn

from fastcrc.crc64 import xz as fast_crc64

from partwise.errors import (
    AccessDenied,
    CallbackError,
    CheckpointBusy,
    CheckpointError,
    SourceChanged,
    Throttled,
    UploadCancelled,
)
from partwise.model import UploadedPart
from partwise.results import Progress
from partwise.testing._proof.events import Deed
from partwise.testing._proof.expectations import (
    cleaning_was_hindered,
    effects_of,
    excuse_uploads,
    happened,
    has_to_resume,
    has_to_succeed,
    ids_in,
    parts_to_keep,
    store_lied,
    struck,
    words_to_the_caller,
)
from partwise.testing._proof.oracles import slow_crc64
from partwise.testing._proof.scenario import INTERRUPTS, Happening, Lived, Told, World
from partwise.testing.faults import FaultKind

# What ends a process at once, in the middle of whatever it does.
INTERRUPTIONS = (Happening.INTERRUPT, Happening.EXIT, Happening.TIME_LIMIT)

# Bytes of which the checksum is worked out bit by bit.
_SLOWLY = 4096


def check(world: World, lived: Lived) -> None:
    """
    Hold every promise against a life that has just ended.

    Raises:
        AssertionError: one was broken; the message begins with its name, and tells the life.
    """
    excuse_uploads(world, lived)
    for holds in INVARIANTS.values():
        holds(world, lived)


def _broken(name: str, how: str, lived: Lived) -> NoReturn:
    raise AssertionError(f"{name}: {how}\n{lived}")


def _crc64(data: bytes) -> int:
    # The definition where that is quick, and elsewhere the library that has no part in combining checksums.
    return slow_crc64(data) if len(data) <= _SLOWLY else fast_crc64(data)


def _versions_of_its_time(world: World, lived: Lived) -> set[bytes]:
    return {world.source.versions[number].data for number in lived.versions}


# --- the object ------------------------------------------------------------------------------------------------------


def exact(world: World, lived: Lived) -> None:
    """Success means that the object's bytes are the source's, of one version that was there in the time of the run."""
    stored, result = lived.after.stored, lived.result
    known = {*(version.data for version in world.source.versions), *world.history.foreign}
    if stored is not None and stored not in known:
        _broken("EXACT", f"the object is of no version of the source: {stored!r}", lived)
    if result is None:
        return
    if stored is None or stored not in _versions_of_its_time(world, lived):
        _broken("EXACT", "it was a success, and the object is of no version that was there in its time", lived)
    # An object that an earlier run was found to have made may be known by a token, and not by its checksum.
    by_token = result.crc64 is None and result.parts_sent == 0 and not world.capabilities.object_checksums
    if result.size != len(stored) or (result.crc64 != _crc64(stored) and not by_token):
        _broken("EXACT", f"the result tells of {result.size} bytes with CRC-64 {result.crc64}", lived)
    if world.capabilities.object_checksums and not (result.verified or result.warnings):
        _broken("EXACT", "the storage knows checksums of objects, and the result says neither yes nor why not", lived)
    if result.bytes_sent + result.bytes_resumed != len(stored):
        _broken("EXACT", f"{result.bytes_sent} bytes sent and {result.bytes_resumed} resumed make no whole", lived)
    sent = _bytes_of_its_own(world, lived)
    if sent is not None and result.bytes_sent != sent:
        _broken("EXACT", f"it sent {sent} bytes of the object, and says {result.bytes_sent}", lived)


def _bytes_of_its_own(world: World, lived: Lived) -> int | None:
    """The bytes of the object that this life sent; None where nobody can say."""
    making = {"complete_upload", "put_object"}
    made = [deed for deed in effects_of(world, lived) if deed.operation in making]
    if not made:
        # What it sent is gone, and an object of the same bytes was there; or an earlier life had made the object.
        return None if any(deed.operation in making for deed in lived.asked) else 0
    if made[-1].upload_id is None:
        return len(lived.after.stored or b"")
    held = [world.history.uploads[made[-1].upload_id].parts[part.part_number] for part in made[-1].parts]
    return sum(len(part.data) for part in held if part.process == lived.process)


def no_mix(world: World, lived: Lived) -> None:
    """Parts of two versions of the source never meet in one object; a source that changed takes its upload with it."""
    known = {version.data for version in world.source.versions}
    for deed in effects_of(world, lived):
        if deed.operation == "complete_upload":
            held = world.history.uploads[deed.upload_id or ""].parts
            if b"".join(held[part.part_number].data for part in deed.parts) not in known:
                _broken("NO-MIX", "parts that were completed are not of one version", lived)
    for call_number, call in enumerate(lived.calls, start=1):
        # Call no. 1 is the first look at the source: what changes before it changes unseen. Nothing has no last byte.
        unseen = call.operation == "put_object" and lived.after.stored == b""
        made = call.operation in {"complete_upload", "put_object"} and call.outcome == "returned" and not unseen
        seen = any(1 < change < call_number for change in lived.changed_at)
        if made and seen and not _is_of_a_file_that_took_its_place(world, lived):
            _broken("NO-MIX", "the source had changed, and the object was made all the same", lived)
    if isinstance(lived.error, SourceChanged) and world.records(lived.life) and not cleaning_was_hindered(lived):
        if lived.after.record is not None:
            _broken("NO-MIX", "the source changed, and the checkpoint was kept", lived)
        if kept := lived.after.pending.keys() & ids_in(lived.before.record):
            _broken("NO-MIX", f"the source changed, and the uploads {kept} were kept", lived)


def _is_of_a_file_that_took_its_place(world: World, lived: Lived) -> bool:
    """
    Whether nothing befell the source but that other files took its place, with its time, and the object is of one of
    these: it was compared by its bytes.
    """
    befell = {incident.what for incident in lived.occurred if incident.what.changes_source}
    later = lived.versions - {min(lived.versions)}
    return befell == {Happening.REPLACE} and lived.after.stored in {world.source.versions[n].data for n in later}


def whole(world: World, lived: Lived) -> None:
    """Complete is sent only with parts 1 to n whose sizes add up to the source's size."""
    sizes = {len(data) for data in _versions_of_its_time(world, lived)}
    for deed in lived.asked:
        if deed.operation != "complete_upload":
            continue
        numbers = [part.part_number for part in deed.parts]
        if numbers != list(range(1, len(numbers) + 1)) or not numbers:
            _broken("WHOLE", f"complete was sent with the parts {numbers}", lived)
        if sum(part.size for part in deed.parts) not in sizes:
            _broken("WHOLE", f"complete was sent with parts of {sum(p.size for p in deed.parts)} bytes", lived)


# --- carrying on -----------------------------------------------------------------------------------------------------


def bounded(world: World, lived: Lived) -> None:
    """
    What the storage holds of this version of the source is not sent again.

    After a death that leaves the parts that were in flight; within a life, the attempts that failed.
    """
    _bounded_within(lived)
    record = lived.before.record
    if record is None or not has_to_resume(world, lived, record):
        return
    if any(deed.operation == "initiate_upload" for deed in lived.asked):
        _broken("BOUNDED", "there was an upload to carry on, and another one was begun", lived)
    kept = parts_to_keep(world, lived, record)
    for deed in lived.asked:
        if deed.operation == "upload_part" and deed.part_number in kept:
            _broken("BOUNDED", f"part {deed.part_number} was on the storage, and was sent again", lived)


def _bounded_within(lived: Lived) -> None:
    """A part whose receipt arrived is not sent again in the same life, unless the storage says that it is not there."""
    doubted = any(deed.operation == "complete_upload" and deed.error is not None for deed in lived.asked)
    if doubted or struck(lived, ("upload_part",), FaultKind.WRONG_CHECKSUM):
        return
    arrived: set[tuple[str | None, int | None]] = set()
    for deed in lived.asked:
        if deed.operation == "upload_part":
            if (deed.upload_id, deed.part_number) in arrived:
                _broken("BOUNDED", f"part {deed.part_number} was sent again, though its receipt had arrived", lived)
            if deed.error is None:
                arrived.add((deed.upload_id, deed.part_number))


def intent(world: World, lived: Lived) -> None:
    """
    The checkpoint is durable before an upload is begun, and its id before a part is sent.

    The ids on the storage are those in the store, plus one for each lost answer to initiate, and those that the caller
    was told of.
    """
    if not store_lied(lived):
        _no_problem_of("INTENT", world, lived)
    for upload_id in lived.after.pending.keys() - ids_in(lived.after.record):
        if not world.history.uploads[upload_id].excused:
            _broken("INTENT", f"the upload {upload_id} is on the storage, and nobody knows of it any more", lived)


def _no_problem_of(name: str, world: World, lived: Lived) -> None:
    for problem in world.history.problems:
        if problem.startswith(name):
            raise AssertionError(f"{problem}\n{lived}")


# --- failures --------------------------------------------------------------------------------------------------------


def lost_reply(world: World, lived: Lived) -> None:
    """A lost answer to any request is survived."""
    if lived.result is None and struck(lived, None, FaultKind.AFTER) and has_to_succeed(world, lived):
        _broken("LOST-REPLY", "answers were lost, and the upload failed", lived)


def retry(world: World, lived: Lived) -> None:
    """Each part and each request has its own attempts; a storage that asks to be left alone is left alone."""
    if lived.result is None and has_to_succeed(world, lived):
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


def fast_fail(world: World, lived: Lived) -> None:
    """
    A permanent error is not retried and stops the other parts at once; the checkpoint stays.

    An upload returns only when no worker of its own is running; what the storage acknowledged meanwhile is recorded. An
    interrupt comes out as it was.
    """
    for index, deed in enumerate(lived.asked):
        # Whoever may not look at the object, or abort an old upload, can still upload.
        if isinstance(deed.error, AccessDenied) and deed.operation not in {"abort_upload", "head_object"}:
            if any(_same_request(later, deed) for later in lived.asked[index + 1 :]):
                _broken("FAST-FAIL", f"{deed.operation} was refused for good, and tried again", lived)
            if lived.result is not None:
                _broken("FAST-FAIL", f"{deed.operation} was refused for good, and that was a success", lived)
    for transport in lived.transports:
        refused = False
        for moment in transport.moments:
            if refused and moment.what != "delivered":
                _broken("FAST-FAIL", f"part {moment.part_number} was {moment.what} after a refusal", lived)
            refused = refused or isinstance(moment.error, AccessDenied)
        if transport.under_way and not lived.died:
            _broken("FAST-FAIL", f"{transport.under_way} parts were still under way at the end", lived)
    if (
        happened(lived, *INTERRUPTIONS)
        and lived.result is None
        and not lived.died
        and not isinstance(lived.error, INTERRUPTS)
    ):
        _broken("FAST-FAIL", f"an interrupt came out as {lived.error!r}", lived)
    _what_arrived_is_recorded(world, lived)


def _what_arrived_is_recorded(world: World, lived: Lived) -> None:
    record = lived.after.record
    if lived.died or record is None or record.upload_id is None or not world.records(lived.life):
        return
    hindered = struck(lived, ("append_part", "save", "fingerprint")) or store_lied(lived)
    if hindered or len(lived.versions) > 1 or happened(lived, Happening.RAISE, *INTERRUPTIONS):
        return
    recorded = {part.part_number: part.etag for part in record.parts}
    # What came of it last: an upload that was lost and begun anew sends the same numbers again.
    came = {
        moment.part_number: moment.error
        for transport in lived.transports
        for moment in transport.moments
        if moment.what == "delivered"
    }
    arrived = {number for number, error in came.items() if error is None}
    for number, held in world.history.uploads[record.upload_id].parts.items():
        if number in arrived and held.process == lived.process and recorded.get(number) != held.etag:
            _broken("FAST-FAIL", f"part {number} arrived, and was not recorded", lived)


def unwritable(world: World, lived: Lived) -> None:
    """
    A checkpoint that can't be written fails before anything is sent.

    One that stops being writable in mid-upload fails nothing, and the result says so.
    """
    claimed = saved = True
    for call in lived.calls:
        if call.operation == "claim":
            claimed = call.outcome in {"returned", *(interrupt.__name__ for interrupt in INTERRUPTS)}
        if call.operation == "save":
            saved = call.outcome == "returned"
        if call.operation == "initiate_upload" and world.records(lived.life) and not saved:
            _broken("UNWRITABLE", "an upload was begun, though the checkpoint could not be saved", lived)
    if not claimed and not lived.died and (lived.asked or not isinstance(lived.error, CheckpointError)):
        _broken("UNWRITABLE", "there was no claim, and the upload went on", lived)
    lost = [call for call in lived.calls if call.operation == "append_part" and call.outcome != "returned"]
    if lost and lived.result is not None and not lived.result.warnings:
        _broken("UNWRITABLE", "progress could not be recorded, and the result does not say so", lived)


# --- endings ---------------------------------------------------------------------------------------------------------


def one_owner(world: World, lived: Lived) -> None:
    """A second uploader is refused at once and does nothing; the claim is free when its holder is gone."""
    _no_problem_of("ONE-OWNER", world, lived)
    if isinstance(lived.error, CheckpointBusy):
        _broken("ONE-OWNER", "the claim was not free, though nobody was there", lived)
    if world.history.claimed:
        _broken("ONE-OWNER", "the claim outlived its holder", lived)


def clean(world: World, lived: Lived) -> None:
    """Success and cancelling leave no checkpoint and no pending upload; what could not be cleaned up is reported."""
    if lived.result is None and not isinstance(lived.error, UploadCancelled | CallbackError):
        return
    records = world.records(lived.life)
    if records and lived.after.record is not None and not cleaning_was_hindered(lived):
        _broken("CLEAN", "a checkpoint was left behind, though nothing stood in the way", lived)
    if records and lived.after.record is not None and not store_lied(lived) and not words_to_the_caller(lived):
        _broken("CLEAN", "a checkpoint was left behind, and nobody was told", lived)
    known = ids_in(lived.before.record) if records else set()
    for upload_id in lived.after.pending:
        upload = world.history.uploads[upload_id]
        if (upload_id in known or upload.process == lived.process) and not upload.excused:
            _broken("CLEAN", f"the upload {upload_id} was left behind, and nobody was told", lived)


def callback(world: World, lived: Lived) -> None:
    """A failed upload callback means that the object is stored, and the error has the result."""
    error = lived.error
    if not isinstance(error, CallbackError):
        return
    if lived.after.stored not in _versions_of_its_time(world, lived):
        _broken("CALLBACK", "the callback is said to have failed, and the object is not stored", lived)
    if error.result is None or error.result.size != len(lived.after.stored or b""):
        _broken("CALLBACK", f"the error has no result that fits: {error.result!r}", lived)


# --- what it takes, and what it tells --------------------------------------------------------------------------------


def bounded_memory(_: World, lived: Lived) -> None:
    """No more parts are under way, and no more of the source is held, than the concurrency allows."""
    concurrency = lived.life.config.concurrency
    most = max((transport.most_under_way for transport in lived.transports), default=0)
    if most > concurrency:
        _broken("BOUNDED-MEMORY", f"{most} parts were under way at once, of {concurrency}", lived)
    # One more is being asked for while the others are under way, and one is at hand that turned out not to be needed.
    # An upload that was lost and begun anew may have left some to the garbage collector.
    if lived.most_bodies > (concurrency + 2) * max(1, len(lived.transports)):
        _broken("BOUNDED-MEMORY", f"{lived.most_bodies} parts of the source were held, of {concurrency}", lived)


def _is_told_of_the_callback(lived: Lived) -> bool:
    """The callback's own error came out; or an interrupt, from which it can still be found."""
    error = lived.error
    if isinstance(error, INTERRUPTS):
        while error is not None and type(error).__name__ != "CallbackBroke":
            error = error.__cause__ or error.__context__
    return type(error).__name__ == "CallbackBroke"


def progress(world: World, lived: Lived) -> None:
    """Bytes never go backwards, never exceed the total, and reach it only when the object is there."""
    for before, after in pairwise(told.progress for told in lived.reports):
        if after.bytes_done < before.bytes_done:
            _broken("PROGRESS", f"it went back from {before.bytes_done} to {after.bytes_done} bytes", lived)
        if before.completed:
            _broken("PROGRESS", "something was told after the end", lived)
    for told in lived.reports:
        if why := _untrue(told.progress):
            _broken("PROGRESS", why, lived)
        if told.progress.completed and world.backend.read(world.key) is None:
            _broken("PROGRESS", "the end was told, and no object is there", lived)
        _what_is_told_would_be_resumed(world, lived, told)
    if lived.result is not None and not (lived.reports and lived.reports[-1].progress.completed):
        _broken("PROGRESS", "the upload was a success, and its end was not told", lived)
    if happened(lived, Happening.RAISE) and not lived.died and not _is_told_of_the_callback(lived):
        _broken("PROGRESS", f"what the progress callback raised came out as {lived.error!r}", lived)


def _untrue(report: Progress) -> str:
    """Why a report can't be true; "" where it can."""
    if report.bytes_done < max(report.bytes_resumed, report.bytes_acknowledged):
        return f"{report.bytes_acknowledged} bytes were acknowledged, and {report.bytes_done} done"
    if report.bytes_total is None or report.bytes_done < report.bytes_total:
        return ""
    if report.bytes_done > report.bytes_total:
        return f"{report.bytes_done} of {report.bytes_total} bytes were done"
    return "" if report.completed else "all bytes were done, and the object was not said to be there"


def _what_is_told_would_be_resumed(world: World, lived: Lived, told: Told) -> None:
    """The checkpoint in a report speaks of parts that the storage held at that instant, and of all that were told."""
    kept = told.progress.checkpoint
    if kept is None or kept.upload_id is None:
        return
    if len(kept.parts) != told.progress.parts_done:
        _broken("PROGRESS", f"{told.progress.parts_done} parts were told, {len(kept.parts)} would be resumed", lived)
    if not world.capabilities.lists_parts or struck(lived, None, FaultKind.FORGOTTEN_UPLOAD):
        return  # what the record says is all that the engine can know
    held = {number: part.etag for number, part in lived.before.pending.get(kept.upload_id, {}).items()}
    for deed in world.history.effects[lived.effects : told.effects]:
        if deed.upload_id == kept.upload_id and isinstance(deed.answer, UploadedPart):
            held[deed.answer.part_number] = deed.answer.etag
    for part in kept.parts:
        if held.get(part.part_number) != part.etag:
            _broken("PROGRESS", f"part {part.part_number} was told to be on the storage, and was not", lived)


def secret(world: World, lived: Lived) -> None:
    """No credential is in a checkpoint, a log record, a repr or an error."""
    if not world.backend.secrets:
        return
    words = [*lived.log, repr(lived.result), *map(repr, lived.reports), repr(lived.after.record)]
    error = lived.error
    while error is not None:
        words += [str(error), repr(error), repr(getattr(error, "details", ""))]
        error = error.__cause__
    if any(hidden in word for hidden in world.backend.secrets for word in words):
        _broken("SECRET", "a credential came out", lived)


#: Every promise, by name. Two who own one upload break the other promises, too: that is told first.
INVARIANTS: Mapping[str, Callable[[World, Lived], None]] = MappingProxyType(
    {
        "ONE-OWNER": one_owner,
        "EXACT": exact,
        "NO-MIX": no_mix,
        "WHOLE": whole,
        "BOUNDED": bounded,
        "INTENT": intent,
        "LOST-REPLY": lost_reply,
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
