"""
What the promises demand of a process, given what was injected into it.

A process that lost the network for good may fail; a process that lost one response may not. These rules decide which.
They use the plan and what was recorded, never what the engine reports about itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from partwise.checkpoint import Checkpoint
from partwise.errors import CallbackError, UploadNotFound, UploadUnusable
from partwise.testing._error_chains import error_chain
from partwise.testing._proof.events import INTERRUPTS, BackendCall, CallbackBroke, Event, ProcessTrace
from partwise.testing._proof.recording import checkpoint_ids
from partwise.testing._proof.scenario import Scenario
from partwise.testing.faults import Fault, FaultKind

_LATE = frozenset({FaultKind.DELAY})
_TRANSIENT = frozenset({FaultKind.BEFORE, FaultKind.AFTER, FaultKind.HALFWAY, FaultKind.THROTTLED})

#: The faults that an upload has to survive, by operation. A failure of the storage is transient. An old upload that
#: can't be aborted, or a part that can't be recorded, costs a warning; a checkpoint that can't be read, a new start.
_SURVIVABLE: Mapping[str, frozenset[FaultKind]] = MappingProxyType(
    {
        "initiate_upload": _LATE | _TRANSIENT,
        "upload_part": _LATE | _TRANSIENT | {FaultKind.WRONG_CHECKSUM, FaultKind.FORGOTTEN_UPLOAD, FaultKind.UNUSABLE},
        "list_parts": _LATE | _TRANSIENT | {FaultKind.SHORT_LIST, FaultKind.FORGOTTEN_UPLOAD},
        "complete_upload": _LATE | _TRANSIENT | {FaultKind.FORGOTTEN_UPLOAD, FaultKind.UNUSABLE},
        "head_object": _LATE | _TRANSIENT,
        "put_object": _LATE | _TRANSIENT | {FaultKind.WRONG_CHECKSUM},
        "abort_upload": _LATE | _TRANSIENT | {FaultKind.PERMANENT},
        "append_part": _LATE | {FaultKind.BEFORE, FaultKind.AFTER, FaultKind.LOST_WRITE, FaultKind.UNREACHABLE},
        "load": _LATE | {FaultKind.DAMAGED, FaultKind.OLD_RECORD, FaultKind.UNREACHABLE},
        **dict.fromkeys(("claim", "save", "delete", "check_claim"), _LATE | {FaultKind.UNREACHABLE}),
        **dict.fromkeys(("fingerprint", "body", "read"), _LATE),
    }
)

# --- what happened to the process ------------------------------------------------------------------------------------


def injected(trace: ProcessTrace, operations: Iterable[str] | None, *kinds: FaultKind) -> list[Fault]:
    """Return the faults of these kinds and operations; none given, or None: any."""
    wanted = None if operations is None else set(operations)
    return [
        fault
        for _, fault in trace.faults
        if (wanted is None or fault.operation in wanted) and (not kinds or fault.kind in kinds)
    ]


def had_event(trace: ProcessTrace, *events: Event) -> bool:
    """Return whether one of these events happened."""
    return any(scheduled.event in events for scheduled in trace.occurred)


def raised_the_callback_error(trace: ProcessTrace) -> bool:
    """Return whether the callback's error was raised, or an interrupt from it."""
    error = trace.error
    if isinstance(error, INTERRUPTS):
        return any(isinstance(one, CallbackBroke) for one in error_chain(error))
    return isinstance(error, CallbackBroke)


def store_lost_writes(trace: ProcessTrace) -> bool:
    """Return whether the store lost something that it had reported as durable."""
    lost = injected(trace, ("save", "delete"), FaultKind.LOST_WRITE)
    return bool(lost or injected(trace, ("load",), FaultKind.OLD_RECORD))


def cleanup_was_hindered(trace: ProcessTrace) -> bool:
    """Return whether a fault kept it from aborting uploads or deleting checkpoints."""
    failed = injected(trace, ("delete", "abort_upload", "check_claim"))
    unwritable = injected(trace, None, FaultKind.READ_ONLY, FaultKind.DISK_FULL, FaultKind.CLAIM_LOST)
    return bool(failed or unwritable or store_lost_writes(trace))


def effects_of(scenario: Scenario, trace: ProcessTrace) -> list[BackendCall]:
    """Return the calls of the process that took effect on the storage."""
    return scenario.history.effects[trace.effects : trace.effects_end]


def text_for_caller(trace: ProcessTrace) -> str:
    """Return all that the caller receives: the error, its notes, all warnings."""
    texts = [str(trace.error or ""), *getattr(trace.error, "__notes__", ())]
    for value in (trace.result, trace.error, trace.error.result if isinstance(trace.error, CallbackError) else None):
        texts += getattr(value, "warnings", ())
    return "\n".join(texts)


def allow_expected_orphans(scenario: Scenario, trace: ProcessTrace) -> None:
    """Note in the history which uploads no checkpoint can know any more, and why."""
    history = scenario.history
    known = {call.returned for call in trace.backend_calls if call.operation == "initiate_upload"}
    own = [upload.upload_id for upload in history.uploads.values() if upload.process == trace.process]
    history.allow_orphans((upload for upload in own if upload not in known), "the response to initiate was lost")
    if trace.crashed:
        unrecorded = (upload for upload in own if upload not in history.checkpointed)
        history.allow_orphans(unrecorded, "the process crashed before it recorded the id")
    if store_lost_writes(trace):
        history.allow_orphans({*own, *checkpoint_ids(trace.before.checkpoint)}, "the store lost what it was given")
    if trace.before.checkpoint is not None and injected(trace, ("load",), FaultKind.DAMAGED):
        history.allow_orphans(trace.before.checkpoint.abandoned, "they were in a checkpoint that was damaged")
    text = text_for_caller(trace)
    history.allow_orphans((upload for upload in history.uploads if upload in text), "it was reported to the caller")
    if not scenario.capabilities.aborts and any("expire" in line for line in (*text.splitlines(), *trace.log)):
        history.allow_orphans(history.pending(), "it can't be aborted, and that was reported")


# --- whether it has to resume ----------------------------------------------------------------------------------------


def must_resume(scenario: Scenario, trace: ProcessTrace, checkpoint: Checkpoint) -> bool:
    """Return whether nothing allows the process to give up this upload."""
    script, source = trace.script, scenario.source
    usable = (
        checkpoint.upload_id in trace.before.pending
        and scenario.keeps_checkpoint(script)
        and checkpoint.options == script.options.fixed_data(scenario.capabilities.late_options)
    )
    lost = [
        *injected(trace, None, FaultKind.FORGOTTEN_UPLOAD, FaultKind.UNUSABLE),
        *_parts_damaged_for_good(scenario, trace),
    ]
    changed = len(trace.versions) > 1 or injected(trace, None, FaultKind.CHANGED)
    if (
        not usable
        or lost
        or had_event(trace, Event.EXPIRY)
        or changed
        or injected(trace, ("load",))
        or not _can_take_the_rest(scenario, trace, checkpoint)
    ):
        return False
    if source.sized and source.open().fingerprint() != checkpoint.fingerprint:
        return False
    return script.config.verify_source == "metadata" or _all_parts_match(scenario, trace, checkpoint)


def _can_take_the_rest(scenario: Scenario, trace: ProcessTrace, checkpoint: Checkpoint) -> bool:
    """Return whether the storage takes the parts that are missing, and is known to."""
    capabilities = scenario.capabilities
    fixed = capabilities.sequential or not capabilities.replaces_parts
    compares = not scenario.source.sized or trace.script.config.verify_source == "content"
    if fixed and not capabilities.lists_parts and compares:
        return False  # parts that were not recorded can't be compared
    if fixed and not _all_parts_match(scenario, trace, checkpoint):
        return False  # those of another stream can't be replaced
    held = trace.before.pending[checkpoint.upload_id or ""]
    recorded = {part.part_number for part in checkpoint.parts}
    if not capabilities.replaces_parts and not capabilities.part_checksums and not scenario.source.sized:
        return held.keys() <= recorded  # nothing shows of which stream the others are
    known = held.keys() if capabilities.lists_parts else recorded
    return not capabilities.sequential or known == set(range(1, len(known) + 1))


def _all_parts_match(scenario: Scenario, trace: ProcessTrace, checkpoint: Checkpoint) -> bool:
    """Return whether all parts are of the current source; else a restart is allowed."""
    held, data = trace.before.pending[checkpoint.upload_id or ""], scenario.source.version.data
    ranges = _part_ranges(checkpoint, len(data))
    return all(number in ranges and part.data == data[ranges[number]] for number, part in held.items())


def parts_to_keep(scenario: Scenario, trace: ProcessTrace, checkpoint: Checkpoint) -> set[int]:
    """Return the parts of the current source that the engine can identify."""
    if injected(trace, ("list_parts",), FaultKind.SHORT_LIST):
        return set()
    held, data = trace.before.pending[checkpoint.upload_id or ""], scenario.source.version.data
    recorded = {part.part_number: part for part in checkpoint.parts}
    # A part that the checkpoint lacks is adopted by its checksum, if the storage lists parts with checksums.
    adopts = scenario.capabilities.lists_parts and scenario.capabilities.part_checksums
    kept = set()
    for number, part_range in _part_ranges(checkpoint, len(data)).items():
        part = held.get(number)
        if part is not None and part.data == data[part_range]:
            is_recorded = number in recorded and recorded[number].etag == part.etag
            if is_recorded or (adopts and number not in recorded):
                kept.add(number)
    return kept


def _part_ranges(checkpoint: Checkpoint, size: int) -> dict[int, slice]:
    """Return the byte range of each part of a source of this size, by part number."""
    ranges: dict[int, slice] = {}
    begin, length = 0, checkpoint.part_size
    while begin < size:
        ranges[len(ranges) + 1] = slice(begin, min(begin + length, size))
        begin += length
        if checkpoint.parts_per_doubling is not None and len(ranges) % checkpoint.parts_per_doubling == 0:
            length *= 2
    return ranges


# --- whether it has to succeed ---------------------------------------------------------------------------------------


def must_succeed(scenario: Scenario, trace: ProcessTrace) -> bool:
    """Return whether nothing happened that allows the process to fail."""
    return not trace.crashed and _met_only_transient_failures(scenario, trace) and _can_be_done(scenario, trace)


def _met_only_transient_failures(scenario: Scenario, trace: ProcessTrace) -> bool:
    if len(trace.versions) > 1 or any(not _is_harmless(scenario, scheduled.event) for scheduled in trace.occurred):
        return False
    if not all(fault.kind in _SURVIVABLE.get(fault.operation, frozenset()) for _, fault in trace.faults):
        return False
    config = trace.script.config
    if config.max_attempts is not None and max(_failures(trace).values(), default=0) >= config.max_attempts:
        return False
    if sum(fault.seconds for _, fault in trace.faults) >= config.give_up_after / 2:  # the other half is for backoff
        return False
    # One restart is allowed; a source that can't be read again can't have it.
    expiries = sum(scheduled.event is Event.EXPIRY for scheduled in trace.occurred)
    losses = len(injected(trace, None, FaultKind.FORGOTTEN_UPLOAD, FaultKind.UNUSABLE)) + expiries
    noticed = any(isinstance(call.error, UploadNotFound | UploadUnusable) for call in trace.backend_calls)
    damaged = _parts_damaged_for_good(scenario, trace)
    losses, noticed = losses + len(damaged), noticed or bool(damaged)
    return losses <= 1 and (scenario.source.reopens or not noticed)


def _parts_damaged_for_good(scenario: Scenario, trace: ProcessTrace) -> list[Fault]:
    """Return the faults by which parts were damaged and can't be replaced."""
    damaged = injected(trace, ("upload_part",), FaultKind.WRONG_CHECKSUM)
    return [] if scenario.capabilities.replaces_parts else damaged


def _is_harmless(scenario: Scenario, event: Event) -> bool:
    if event.changes_source:
        return not scenario.source.seen_changing
    return event in {Event.SECOND_UPLOADER, Event.EXPIRY}


def _failures(trace: ProcessTrace) -> Counter[tuple[str, int | None]]:
    """Count how often each request was made to fail."""
    failing = _TRANSIENT | {FaultKind.WRONG_CHECKSUM, FaultKind.UNREACHABLE}
    return Counter((call.operation, call.part_number) for call, fault in trace.faults if fault.kind in failing)


def _can_be_done(scenario: Scenario, trace: ProcessTrace) -> bool:
    script, capabilities = trace.script, scenario.capabilities
    if script.resume == "require" or (script.options.forbid_overwrite and trace.before.stored is not None):
        return False
    if not trace.replaceable:
        return False
    if "callback" in script.options.explicitly_set() and not getattr(scenario.backend, "callback_works", True):
        return False
    # Without checksum and token, a lost response to complete can't be resolved, and the engine does not guess.
    return capabilities.object_checksums or "metadata" in capabilities.options
