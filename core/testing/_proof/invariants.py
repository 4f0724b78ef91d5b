"""
The promises of the engine by name, each checked against an independent record.

Each function looks at one process of a scenario and raises AssertionError if it broke the promise; the message starts
with the name of the promise. None of them asks the engine: its reports are compared with what storage, store and source
were seen to do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import dropwhile, pairwise
from types import MappingProxyType
from typing import NoReturn

from partwise._engine.reconcile import TOKEN_NAME
from partwise.errors import (
    AccessDenied,
    CallbackError,
    CheckpointBusy,
    CheckpointError,
    ClaimLost,
    IntegrityError,
    SourceChanged,
    Throttled,
    UploadCancelled,
    UploadFailed,
    UploadPaused,
)
from partwise.model import UploadedPart
from partwise.results import Progress
from partwise.testing._error_chains import error_chain
from partwise.testing._proof.event_checks import contradictions
from partwise.testing._proof.events import INTERRUPTS, BackendCall, CallbackBroke, Event, ProcessTrace, ProgressRecord
from partwise.testing._proof.expectations import (
    allow_expected_orphans,
    cleanup_was_hindered,
    effects_of,
    had_event,
    injected,
    must_resume,
    must_succeed,
    parts_to_keep,
    raised_the_callback_error,
    store_lost_writes,
    text_for_caller,
)
from partwise.testing._proof.recording import checkpoint_ids
from partwise.testing._proof.scenario import Scenario
from partwise.testing.faults import FaultKind
from partwise.testing.oracles import slow_checksum

#: Events that end a process at once, in the middle of any call.
INTERRUPTIONS = (Event.INTERRUPT, Event.EXIT, Event.TIME_LIMIT)

#: Up to this many bytes the checksum is computed from its definition.
_SLOW_CHECKSUM_MAX = 4096

#: Bytes of an object that are shown where it differs.
_BYTES_SHOWN = 16


def check(scenario: Scenario, trace: ProcessTrace, *, except_for: Collection[str] = ()) -> None:
    """
    Check every promise for a process that has just ended.

    Args:
        scenario: the scenario of the process.
        trace: what the process did.
        except_for: the names of promises that are not checked.

    Raises:
        AssertionError: one was broken; the message starts with its name and contains the trace.
    """
    allow_expected_orphans(scenario, trace)
    for name, holds in INVARIANTS.items():
        if name not in except_for:
            holds(scenario, trace)


def _broken(name: str, how: str, trace: ProcessTrace) -> NoReturn:
    raise AssertionError(f"{name}: {how}\n{trace}")


def _checksum(scenario: Scenario, data: bytes) -> int:
    # By definition where that is fast enough, else by the library, which has no part in combining checksums.
    algorithm = scenario.capabilities.checksum
    return slow_checksum(algorithm, data) if len(data) <= _SLOW_CHECKSUM_MAX else algorithm.compute(data)


def _current_versions(scenario: Scenario, trace: ProcessTrace) -> set[bytes]:
    """Return the bytes of every version that the source had while the process ran."""
    return {scenario.source.versions[number].data for number in trace.versions}


# --- the object ------------------------------------------------------------------------------------------------------


def exact(scenario: Scenario, trace: ProcessTrace) -> None:
    """After a success the object is one version that the source had, as requested."""
    stored, result = trace.after.stored, trace.result
    known = {*(version.data for version in scenario.source.versions), *scenario.history.foreign}
    if stored is not None and stored not in known:
        _broken("EXACT", f"the object is not a version of the source: {_difference(stored, known)}", trace)
    if result is None:
        return
    if stored is None or stored not in _current_versions(scenario, trace):
        _broken("EXACT", "the run succeeded, and the object is not a version that the source had during it", trace)
    # An object that an earlier run made may be identified by a token instead of its checksum.
    by_token = result.checksum is None and result.parts_sent == 0 and not scenario.capabilities.object_checksums
    if result.size != len(stored) or (result.checksum != _checksum(scenario, stored) and not by_token):
        _broken("EXACT", f"the result reports {result.size} bytes with the checksum {result.checksum}", trace)
    if scenario.capabilities.object_checksums and not (result.verified or result.warnings):
        _broken("EXACT", "the storage reports object checksums; the result has neither verified nor a warning", trace)
    if result.bytes_sent + result.bytes_resumed != len(stored):
        _broken("EXACT", f"{result.bytes_sent} bytes sent and {result.bytes_resumed} resumed do not add up", trace)
    _check_options(scenario, trace)
    sent = _object_bytes_sent(scenario, trace)
    if sent is not None and result.bytes_sent != sent:
        _broken("EXACT", f"it sent {sent} bytes of the object, and reports {result.bytes_sent}", trace)


def _difference(stored: bytes, known: set[bytes]) -> str:
    """
    Return where an object differs from the known version that is the most like it.

    Not the bytes: there may be megabytes of them.
    """
    first, version = max((_common(stored, version), version) for version in known)
    found, expected = (data[first : first + _BYTES_SHOWN] for data in (stored, version))
    return (
        f"it has {len(stored)} bytes, and differs from the nearest version, of {len(version)} bytes, from byte {first}"
        f" on: {found!r}, not {expected!r}"
    )


def _common(one: bytes, other: bytes) -> int:
    """Return the number of bytes that both begin with."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def _check_options(scenario: Scenario, trace: ProcessTrace) -> None:
    """Check the options of an object that this process made, if they are shown."""
    if not any(call.operation in _STORING for call in effects_of(scenario, trace)):
        return  # an earlier process made it, and had its own options
    requested, shown = trace.script.options, dict(scenario.backend.options(scenario.key))
    if isinstance(metadata := shown.get("metadata"), Mapping):
        shown["metadata"] = {name: value for name, value in metadata.items() if name != TOKEN_NAME}
    for name in ("acl", "metadata"):
        if name in shown and shown[name] != getattr(requested, name):
            _broken("EXACT", f"the object has {name} {shown[name]!r}, not {getattr(requested, name)!r}", trace)


_STORING = frozenset({"complete_upload", "put_object"})


def _object_bytes_sent(scenario: Scenario, trace: ProcessTrace) -> int | None:
    """Return how many bytes of the object this process sent; None if unknown."""
    stored_by = [call for call in effects_of(scenario, trace) if call.operation in _STORING]
    if not stored_by:
        # Its upload is lost and an object of the same bytes was there; or an earlier process stored the object.
        return None if any(call.operation in _STORING for call in trace.backend_calls) else 0
    last = stored_by[-1]
    if last.upload_id is None:
        return len(trace.after.stored or b"")
    held = [scenario.history.uploads[last.upload_id].parts[part.part_number] for part in last.parts]
    return sum(len(part.data) for part in held if part.process == trace.process)


def no_mix(scenario: Scenario, trace: ProcessTrace) -> None:
    """No object mixes two versions of the source; if that changes, the upload ends."""
    known = {version.data for version in scenario.source.versions}
    for effect in effects_of(scenario, trace):
        if effect.operation == "complete_upload":
            held = scenario.history.uploads[effect.upload_id or ""].parts
            if b"".join(held[part.part_number].data for part in effect.parts) not in known:
                _broken("NO-MIX", "parts of more than one version were completed", trace)
    for call_number, call in enumerate(trace.calls if trace.changed_at else (), start=1):
        # Call no. 1 is the first fingerprint: a change before it can't be seen. Nor can one of an empty put.
        unseen = call.operation == "put_object" and trace.after.stored == b""
        made = call.operation in {"complete_upload", "put_object"} and call.outcome == "returned" and not unseen
        seen = any(1 < change < call_number for change in trace.changed_at)
        if made and seen and not _is_of_a_replacing_file(scenario, trace):
            _broken("NO-MIX", "the source had changed, and the object was stored anyway", trace)
    keeps_checkpoint = scenario.keeps_checkpoint(trace.script)
    if isinstance(trace.error, SourceChanged) and keeps_checkpoint and not cleanup_was_hindered(trace):
        if trace.after.checkpoint is not None:
            _broken("NO-MIX", "the source changed, and the checkpoint was kept", trace)
        kept = trace.after.pending.keys() & checkpoint_ids(trace.before.checkpoint)
        if kept and scenario.capabilities.aborts:
            _broken("NO-MIX", f"the source changed, and the uploads {kept} were kept", trace)


def _is_of_a_replacing_file(scenario: Scenario, trace: ProcessTrace) -> bool:
    """
    Return whether the object is a file that replaced another, with its mtime.

    It is if the only changes were replacements by files with the same mtime, and the object is one of those.

    Such an object was compared by its bytes.
    """
    changes = {scheduled.event for scheduled in trace.occurred if scheduled.event.changes_source}
    later = trace.versions - {min(trace.versions)}
    return changes == {Event.REPLACE} and trace.after.stored in {scenario.source.versions[n].data for n in later}


def whole(scenario: Scenario, trace: ProcessTrace) -> None:
    """Complete gets only parts 1 to n whose sizes add up to that of the source."""
    sizes = {len(data) for data in _current_versions(scenario, trace)}
    for call in trace.backend_calls:
        if call.operation != "complete_upload":
            continue
        numbers = [part.part_number for part in call.parts]
        if numbers != list(range(1, len(numbers) + 1)) or not numbers:
            _broken("WHOLE", f"complete was called with the parts {numbers}", trace)
        if sum(part.size for part in call.parts) not in sizes:
            _broken("WHOLE", f"complete was called with parts of {sum(p.size for p in call.parts)} bytes", trace)


# --- resuming --------------------------------------------------------------------------------------------------------


def bounded(scenario: Scenario, trace: ProcessTrace) -> None:
    """
    A part of this version that the storage has is not sent again.

    After a crash only the parts that were in flight are sent again; within a run only those whose attempts failed.
    """
    _bounded_within_a_run(trace)
    checkpoint = trace.before.checkpoint
    if checkpoint is None or not must_resume(scenario, trace, checkpoint):
        return
    if any(call.operation == "initiate_upload" for call in trace.backend_calls):
        _broken("BOUNDED", "there was an upload to resume, and another one was initiated", trace)
    kept = parts_to_keep(scenario, trace, checkpoint)
    for call in trace.backend_calls:
        if call.operation == "upload_part" and call.part_number in kept:
            _broken("BOUNDED", f"part {call.part_number} was on the storage, and was sent again", trace)


def _bounded_within_a_run(trace: ProcessTrace) -> None:
    """Check that an acknowledged part is sent again only if it got lost or was late."""
    complete_failed = any(
        call.operation == "complete_upload" and call.error is not None for call in trace.backend_calls
    )
    if complete_failed or injected(trace, ("upload_part",), FaultKind.WRONG_CHECKSUM):
        return
    copied = {number for workers in trace.worker_pools for number in workers.sent_twice}
    acknowledged: set[tuple[str | None, int | None]] = set()
    for call in trace.backend_calls:
        if call.operation == "upload_part":
            if (call.upload_id, call.part_number) in acknowledged and call.part_number not in copied:
                _broken("BOUNDED", f"part {call.part_number} was acknowledged, and was sent again", trace)
            if call.error is None:
                acknowledged.add((call.upload_id, call.part_number))


def intent(scenario: Scenario, trace: ProcessTrace) -> None:
    """
    A checkpoint is durable before an initiate, its upload id before a part.

    The pending uploads are those that the store knows, one for each lost response to initiate, and those that were
    reported to the caller.
    """
    if not store_lost_writes(trace):
        _raise_problem_of("INTENT", scenario, trace)
    for upload_id in trace.after.pending.keys() - checkpoint_ids(trace.after.checkpoint):
        if not scenario.history.uploads[upload_id].orphan_reason:
            _broken("INTENT", f"the upload {upload_id} is on the storage, and no checkpoint knows it", trace)


def _raise_problem_of(name: str, scenario: Scenario, trace: ProcessTrace) -> None:
    for problem in scenario.history.problems:
        if problem.startswith(name):
            raise AssertionError(f"{problem}\n{trace}")


# --- failures --------------------------------------------------------------------------------------------------------


def lost_reply(scenario: Scenario, trace: ProcessTrace) -> None:
    """A run survives a lost response to any request."""
    if trace.result is None and injected(trace, None, FaultKind.AFTER) and must_succeed(scenario, trace):
        _broken("LOST-REPLY", "responses were lost, and the upload failed", trace)


def retry(scenario: Scenario, trace: ProcessTrace) -> None:
    """Each part and request has its own attempts; a throttling storage gets a pause."""
    if trace.result is None and must_succeed(scenario, trace):
        _broken("RETRY", "nothing failed more often than is allowed, and the upload failed", trace)
    calls = trace.backend_calls
    for index, call in enumerate(calls):
        if isinstance(call.error, Throttled) and call.error.retry_after:
            _check_backoff(trace, call, calls[index + 1 :], until=call.ended + call.error.retry_after)
    for workers in trace.worker_pools:
        until = 0.0
        for event in workers.events:
            if event.what == "submitted" and event.time < until:
                _broken("RETRY", f"part {event.part_number} was submitted before retry_after had elapsed", trace)
            until = max(until, event.time + (getattr(event.error, "retry_after", None) or 0.0))


def _check_backoff(trace: ProcessTrace, refused: BackendCall, later: list[BackendCall], *, until: float) -> None:
    """Check that only parts in flight are requested until retry_after has elapsed."""
    if refused.operation == "abort_upload" or not any(_same_request(call, refused) for call in later):
        return  # the request was given up: what follows is cleanup, or another upload
    if early := [call.operation for call in later if call.started < until and call.operation != "upload_part"]:
        _broken("RETRY", f"{refused.operation} was to wait until {until}, and {early} came before", trace)


def _same_request(one: BackendCall, other: BackendCall) -> bool:
    return (one.operation, one.upload_id, one.part_number) == (other.operation, other.upload_id, other.part_number)


def fast_fail(scenario: Scenario, trace: ProcessTrace) -> None:
    """
    A permanent error stops all parts, without a retry; the checkpoint is kept.

    An upload returns only when none of its workers is running, and parts acknowledged until then are recorded. An
    interrupt is re-raised unchanged.
    """
    for index, call in enumerate(trace.backend_calls):
        # Without the right to head the object or to abort an old upload, an upload can still succeed.
        if isinstance(call.error, AccessDenied) and call.operation not in {"abort_upload", "head_object"}:
            if any(_same_request(later, call) for later in trace.backend_calls[index + 1 :]):
                _broken("FAST-FAIL", f"{call.operation} failed permanently, and was tried again", trace)
            if trace.result is not None:
                _broken("FAST-FAIL", f"{call.operation} failed permanently, and the upload succeeded", trace)
    for workers in trace.worker_pools:
        refused = False
        for event in workers.events:
            if refused and event.what != "delivered":
                _broken("FAST-FAIL", f"part {event.part_number} was {event.what} after a permanent error", trace)
            refused = refused or isinstance(event.error, AccessDenied)
        if workers.in_flight and not trace.crashed:
            _broken("FAST-FAIL", f"{workers.in_flight} parts were still in flight at the end", trace)
    ended_otherwise = trace.result is None and not trace.crashed and not isinstance(trace.error, INTERRUPTS)
    if had_event(trace, *INTERRUPTIONS) and ended_otherwise:
        _broken("FAST-FAIL", f"an interrupt was raised as {trace.error!r}", trace)
    _check_acknowledged_parts_are_recorded(scenario, trace)


def _check_acknowledged_parts_are_recorded(scenario: Scenario, trace: ProcessTrace) -> None:
    checkpoint = trace.after.checkpoint
    if trace.crashed or checkpoint is None or checkpoint.upload_id is None:
        return
    if not scenario.keeps_checkpoint(trace.script):
        return
    hindered = [
        fault
        for fault in injected(trace, ("append_part", "save", "fingerprint"))
        if (fault.operation, fault.kind) != ("append_part", FaultKind.UNREACHABLE)
    ]
    # A part that can't be recorded for a moment is recorded with the next one, or by one attempt at the end.
    unreachable = injected(trace, ("append_part",), FaultKind.UNREACHABLE)
    if hindered or len(unreachable) > 1 or store_lost_writes(trace) or injected(trace, None, FaultKind.CLAIM_LOST):
        return
    if len(trace.versions) > 1 or had_event(trace, Event.RAISE, *INTERRUPTIONS):
        return
    recorded = {part.part_number: part.etag for part in checkpoint.parts}
    # The last outcome of each part: an upload that was lost and restarted sends the same numbers again.
    outcomes = {
        event.part_number: event.error
        for workers in trace.worker_pools
        for event in workers.events
        if event.what == "delivered"
    }
    acknowledged = {number for number, error in outcomes.items() if error is None}
    for number, held in scenario.history.uploads[checkpoint.upload_id].parts.items():
        if number in acknowledged and held.process == trace.process and recorded.get(number) != held.etag:
            _broken("FAST-FAIL", f"part {number} was acknowledged, and not recorded", trace)


def unwritable(scenario: Scenario, trace: ProcessTrace) -> None:
    """
    A checkpoint that can't be written is an error before anything is sent.

    If it becomes unwritable during the upload, the upload goes on and the result has a warning.
    """
    claimed = saved = True
    for call in trace.calls:
        if call.operation == "claim":
            claimed = call.outcome in {"returned", *(interrupt.__name__ for interrupt in INTERRUPTS)}
        if call.operation == "save":
            saved = call.outcome == "returned"
        if call.operation == "initiate_upload" and scenario.keeps_checkpoint(trace.script) and not saved:
            _broken("UNWRITABLE", "an upload was initiated, though the checkpoint could not be saved", trace)
    # A claim that is retried can be stopped.
    stopped = had_event(trace, Event.PAUSE, Event.CANCEL, Event.RAISE, *INTERRUPTIONS)
    stops = (UploadPaused, UploadCancelled, CallbackBroke, *INTERRUPTS)
    refused = (CheckpointError, *stops) if stopped else CheckpointError
    if not claimed and not trace.crashed and (trace.backend_calls or not isinstance(trace.error, refused)):
        _broken("UNWRITABLE", "the claim failed, and the upload went on", trace)
    lost: set[tuple[int | None, bool]] = set()
    for call in trace.calls:
        if call.operation != "append_part":
            continue
        if call.outcome == "returned":
            lost.discard((call.part_number, True))
        else:
            lost.add((call.part_number, any(fault.kind is FaultKind.UNREACHABLE for fault in call.faults)))
    if lost and trace.result is not None and not trace.result.warnings:
        _broken("UNWRITABLE", "progress could not be recorded, and the result has no warning", trace)


# --- ending ----------------------------------------------------------------------------------------------------------


def one_owner(scenario: Scenario, trace: ProcessTrace) -> None:
    """A second uploader is refused, without effect; a claim ends with its holder."""
    _raise_problem_of("ONE-OWNER", scenario, trace)
    if isinstance(trace.error, ClaimLost):
        recorded = None if trace.after.checkpoint is None else trace.after.checkpoint.upload_id
        own = {call.upload_id for call in trace.backend_calls} - {None}
        own |= {call.returned for call in trace.backend_calls if isinstance(call.returned, str)}
        if recorded in own and not injected(trace, None, FaultKind.CLAIM_LOST) and not store_lost_writes(trace):
            _broken("ONE-OWNER", "the claim counted as lost, though no other process was running", trace)
    elif isinstance(trace.error, CheckpointBusy):
        _broken("ONE-OWNER", "the claim was held, though no other process was running", trace)
    if scenario.history.claimed:
        _broken("ONE-OWNER", "the claim was not released when its holder ended", trace)


def fenced(_: Scenario, trace: ProcessTrace) -> None:
    """A process that has lost its claim changes nothing more, and says so."""
    if not injected(trace, None, FaultKind.CLAIM_LOST):
        return
    # Before it was lost, a store may have refused to delete a record by one of the ids that it might have had.
    calls = dropwhile(lambda call: all(fault.kind is not FaultKind.CLAIM_LOST for fault in call.faults), trace.calls)
    # A process does not learn from a call that was interrupted that its claim is lost.
    if not any(call.outcome == ClaimLost.__name__ for call in calls):
        return
    # What is left of the iterator are the calls after that one. Parts in flight may still arrive.
    if later := [call.operation for call in calls if call.operation in _CHANGES]:
        _broken("FENCED", f"the claim was lost, and then came {later}", trace)
    ended_otherwise = isinstance(trace.error, (*INTERRUPTS, CallbackBroke))
    if trace.result is None and not trace.crashed and not isinstance(trace.error, ClaimLost):
        stored = isinstance(trace.error, CallbackError) or "is stored" in text_for_caller(trace)
        if isinstance(trace.error, UploadFailed) and isinstance(trace.error.__cause__, IntegrityError):
            stored = "the checkpoint was kept: " in text_for_caller(trace)  # another object than what was sent
        if not stored and not (ended_otherwise and "has lost its claim" in text_for_caller(trace)):
            _broken("FENCED", f"the claim was lost, and the process ended with {trace.error!r}", trace)
    if trace.result is not None and not trace.result.warnings:
        _broken("FENCED", "the claim was lost before the checkpoint was deleted, and the result has no warning", trace)


#: The calls that change something and are not those of parts.
_CHANGES = frozenset(
    {"initiate_upload", "complete_upload", "abort_upload", "put_object", "save", "append_part", "delete"}
)


def clean(scenario: Scenario, trace: ProcessTrace) -> None:
    """Success and cancel leave no checkpoint or upload; what remains is reported."""
    if trace.result is None and not isinstance(trace.error, UploadCancelled | CallbackError):
        return
    keeps_checkpoint = scenario.keeps_checkpoint(trace.script)
    loads = [call.outcome for call in trace.calls if call.operation == "load"]
    if keeps_checkpoint and trace.result is None and loads[-1:] not in (["returned"], ["CheckpointDamaged"]):
        # It was cancelled before it had the claim, or before it knew what an earlier run had left.
        if trace.before.checkpoint is not None and "is kept" not in text_for_caller(trace):
            _broken("CLEAN", "the checkpoint was not read yet, and that was not reported", trace)
        return
    if keeps_checkpoint and trace.after.checkpoint is not None:
        if not cleanup_was_hindered(trace):
            _broken("CLEAN", "a checkpoint was left behind, though nothing kept it from being deleted", trace)
        if not store_lost_writes(trace) and not text_for_caller(trace):
            _broken("CLEAN", "a checkpoint was left behind, and that was not reported", trace)
    known = checkpoint_ids(trace.before.checkpoint) if keeps_checkpoint else set()
    for upload_id in trace.after.pending:
        upload = scenario.history.uploads[upload_id]
        if (upload_id in known or upload.process == trace.process) and not upload.orphan_reason:
            _broken("CLEAN", f"the upload {upload_id} was left behind, and that was not reported", trace)


def callback(scenario: Scenario, trace: ProcessTrace) -> None:
    """If the upload callback fails, the object is stored; the error has the result."""
    error = trace.error
    if not isinstance(error, CallbackError):
        return
    if trace.after.stored not in _current_versions(scenario, trace):
        _broken("CALLBACK", "the error is a CallbackError, and the object is not stored", trace)
    if error.result is None or error.result.size != len(trace.after.stored or b""):
        _broken("CALLBACK", f"the error does not have the result of the upload: {error.result!r}", trace)


# --- memory, progress ------------------------------------------------------------------------------------------------


def bounded_memory(_: Scenario, trace: ProcessTrace) -> None:
    """No more parts are in flight, nor bodies held, than the concurrency allows."""
    concurrency, allowed = trace.script.concurrency, trace.script.bodies_allowed
    most = max((workers.most_in_flight for workers in trace.worker_pools), default=0)
    if most > concurrency:
        _broken("BOUNDED-MEMORY", f"{most} parts were in flight, with concurrency {concurrency}", trace)
    if trace.most_bodies > allowed:
        _broken("BOUNDED-MEMORY", f"{trace.most_bodies} bodies were held, with concurrency {concurrency}", trace)


def progress(scenario: Scenario, trace: ProcessTrace) -> None:
    """Bytes never decrease nor exceed the total, which only a stored object reaches."""
    for before, after in pairwise(report.progress for report in trace.reports):
        if after.bytes_done < before.bytes_done:
            _broken("PROGRESS", f"it decreased from {before.bytes_done} to {after.bytes_done} bytes", trace)
        if before.completed:
            _broken("PROGRESS", "there was a report after the end", trace)
    for report in trace.reports:
        if why := _contradiction(report.progress):
            _broken("PROGRESS", why, trace)
        if report.progress.completed and scenario.backend.read(scenario.key) is None:
            _broken("PROGRESS", "the end was reported, and there is no object", trace)
        _check_reported_parts(scenario, trace, report)
    if trace.result is not None and not (trace.reports and trace.reports[-1].progress.completed):
        _broken("PROGRESS", "the upload succeeded, and its end was not reported", trace)
    raised = any((one.operation, one.event) == ("progress", Event.RAISE) for one in trace.occurred)
    if raised and not trace.crashed and not raised_the_callback_error(trace):
        _broken("PROGRESS", f"the error of the progress callback was raised as {trace.error!r}", trace)


def _contradiction(report: Progress) -> str:
    """Return why a report can't be true; "" if it can."""
    if report.bytes_done < max(report.bytes_resumed, report.bytes_acknowledged):
        return f"{report.bytes_acknowledged} bytes were acknowledged, and {report.bytes_done} done"
    if report.bytes_total is None or report.bytes_done < report.bytes_total:
        return ""
    if report.bytes_done > report.bytes_total:
        return f"{report.bytes_done} of {report.bytes_total} bytes were done"
    return "" if report.completed else "all bytes were done, and completed was False"


def _check_reported_parts(scenario: Scenario, trace: ProcessTrace, report: ProgressRecord) -> None:
    """Check that reported parts are in the checkpoint, and those on the storage."""
    kept = report.progress.checkpoint
    if kept is None or kept.upload_id is None:
        return
    if len(kept.parts) != report.progress.parts_done:
        _broken(
            "PROGRESS", f"{report.progress.parts_done} parts were reported, {len(kept.parts)} would be resumed", trace
        )
    if not scenario.capabilities.lists_parts or injected(trace, None, FaultKind.FORGOTTEN_UPLOAD):
        return  # the engine can know nothing but what the checkpoint says
    held = {number: part.etag for number, part in trace.before.pending.get(kept.upload_id, {}).items()}
    for effect in scenario.history.effects[trace.effects : report.effects]:
        if effect.upload_id == kept.upload_id and isinstance(effect.returned, UploadedPart):
            held[effect.returned.part_number] = effect.returned.etag
    for part in kept.parts:
        if held.get(part.part_number) != part.etag:
            _broken("PROGRESS", f"part {part.part_number} was reported as stored, and was not", trace)


def events(_: Scenario, trace: ProcessTrace) -> None:
    """The events of a run have one start and one end, and each of them is true."""
    for why in contradictions(trace):
        _broken("EVENTS", why, trace)


# --- secrets ---------------------------------------------------------------------------------------------------------


def secret(scenario: Scenario, trace: ProcessTrace) -> None:
    """No credential is in a checkpoint, a log record, a repr or an error."""
    if not scenario.backend.secrets:
        return
    texts = [*trace.log, repr(trace.result), *map(repr, trace.reports), *map(repr, trace.reported_events)]
    texts.append(repr(trace.after.checkpoint))
    for error in error_chain(trace.error):
        texts += [str(error), repr(error), repr(getattr(error, "details", ""))]
    if any(credential in text for credential in scenario.backend.secrets for text in texts):
        _broken("SECRET", "a credential was exposed", trace)


_CHECKS = (
    *(one_owner, fenced, exact, no_mix, whole, bounded, intent, lost_reply, clean, fast_fail, retry, callback),
    *(bounded_memory, progress, events, unwritable, secret),
)

#: All invariants by name. ONE-OWNER is checked first, because violating it usually violates the others.
INVARIANTS: Mapping[str, Callable[[Scenario, ProcessTrace], None]] = MappingProxyType(
    {holds.__name__.upper().replace("_", "-"): holds for holds in _CHECKS}
)
