"""``partwise gc``: abort orphans."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from math import isnan
from shutil import get_terminal_size

from attrs import define, evolve

from partwise.checkpoint import Checkpoint
from partwise.cli.formatting import escape_control, format_age, format_duration, pluralize
from partwise.cli.output import Output
from partwise.cli.reporting import DONE, FAILED, ErrorReport, exit_code, failure, format_error, worst_exit_code
from partwise.cli.retries import Retries
from partwise.cli.status import is_running, scan
from partwise.cli.style import Color, Line, Styled
from partwise.cli.targets import BackendSpec, StoreSpec
from partwise.cli.uploads import age_of, as_data, require_listing
from partwise.config import TransferConfig
from partwise.errors import BackendError, UnsupportedOption
from partwise.model import PendingUpload
from partwise.protocols import CheckpointStore, MultipartBackend

# Younger uploads, in seconds, may well be running.
_PROBABLY_RUNNING = 3600.0


def _sorted(pending: Iterable[PendingUpload]) -> list[PendingUpload]:
    return sorted(pending, key=lambda one: (one.key, one.upload_id))  # storages list them in any order


def _require_aborting(backend: MultipartBackend) -> None:
    require_listing(backend, "Drop one with a checkpoint here by 'partwise abort'")
    if not backend.capabilities.aborts:
        raise UnsupportedOption(
            f"{backend.location} can't abort uploads: their parts expire by themselves; nothing was changed"
        )


@define(frozen=True)
class GcDecision:
    """What `gc` does with one pending upload."""

    pending: PendingUpload
    orphan: bool  # whether to abort it
    why: str


@define(frozen=True)
class GcCommand:
    """What one call of `gc` is asked to do."""

    target: BackendSpec  # where the uploads are
    store: StoreSpec  # where the checkpoints are
    older_than: float  # seconds; younger uploads are kept
    config: TransferConfig
    dry_run: bool = False  # abort nothing
    yes: bool = False  # do not ask for confirmation


def gc(command: GcCommand, output: Output) -> int:
    """
    Abort the pending uploads that are old and that no checkpoint here belongs to.

    On a terminal, the uploads are listed, and aborted only after confirmation.

    Raises:
        InvalidInput: the URL names a directory that does not exist, or the store does not exist.
        UnsupportedOption: the storage does not list or does not abort uploads. Nothing was changed.
        BackendError: the storage can't be listed. An upload that can't be aborted is reported, and gc continues.
        CheckpointError: the store can't be read, so that it is not known which uploads have a checkpoint. Nothing was
            aborted.
    """
    command.store.require_existing(including_file=True)
    if command.older_than < _PROBABLY_RUNNING:
        output.warning(
            f"an upload that is younger than {format_duration(_PROBABLY_RUNNING)} may still be running: those of other"
            " machines, users and stores look like orphans here"
        )
    with command.target.open_prefix() as (backend, prefix), command.store.open() as store:
        _require_aborting(backend)
        retries = Retries(command.config)
        decisions = decide(
            backend, _sorted(retries.pending_uploads(backend, prefix)), store, command.older_than, retries
        )
        if not decisions:
            command.target.require_matching_name(backend, prefix)
        orphans = sum(decision.orphan for decision in decisions)
        asks = orphans > 0 and not command.dry_run and not command.yes and output.can_ask()
        if decisions and (asks or not output.json):
            output.say(Styled(f"{'ACTION':<10}  {'AGE':<12}  {'WHY':<26}  KEY", "bold"))
        drop = not command.dry_run
        if asks:
            output.say(*_table(decisions))
            drop = output.ask(f"drop {pluralize(orphans, 'upload')} at {command.target.url} for good?")
            if drop:
                decisions = _decide_again(decisions, backend, store, retries)  # the response may have taken a while
        codes, dropped = [DONE], 0
        for decision in decisions:
            error = _drop(decision.pending, backend, retries) if decision.orphan and drop else None
            if error is not None:
                codes.append(exit_code(error))
                _report(decision.pending, error, command.target.scheme, output)
                continue
            dropped += decision.orphan
            action = "keep" if not decision.orphan else "dropped" if drop else "would drop"
            output.record({**as_data(decision.pending), "action": action, "why": decision.why})
            if not output.json and not asks:
                output.say(*_lines(decision, action))
    if asks and not drop:
        output.note("nothing was dropped")
        return FAILED
    output.note(f"{'dropped' if drop else 'would drop'} {pluralize(dropped, 'upload')} at {command.target.url}")
    codes.append(_fail_if_unreadable(decisions, command.store, output))
    return worst_exit_code(codes) or output.list_exit_code()


def _drop(pending: PendingUpload, backend: MultipartBackend, retries: Retries) -> BackendError | None:
    """Abort an upload. A failure is returned, since it does not stop the others."""
    try:
        retries.call(lambda: backend.abort_upload(pending.key, pending.upload_id), f"aborting {pending.upload_id}")
    except BackendError as error:
        return error
    return None


def _report(pending: PendingUpload, error: BackendError, scheme: str, output: Output) -> None:
    report = format_error(error, scheme=scheme)
    message = f"{escape_control(pending.key)} ({escape_control(pending.upload_id)}) was not dropped"
    output.error(ErrorReport(message, report.message, hint=report.hint), error)
    output.record({**as_data(pending), "action": "failed", **failure(error, scheme=scheme)})


def _fail_if_unreadable(decisions: Sequence[GcDecision], store: StoreSpec, output: Output) -> int:
    if not any(decision.why == _UNREADABLE for decision in decisions):
        return DONE
    output.error(
        ErrorReport(
            f"some checkpoints in {store} can't be read",
            "it is not known to which uploads they belong, so no upload was treated as an orphan",
            hint="Resume the uploads of the checkpoints that the warnings name, or delete these; then run gc again",
        )
    )
    return FAILED


_COLORS: dict[str, Color] = {"keep": "cyan", "would drop": "yellow", "dropped": "green"}


def _table(decisions: Iterable[GcDecision]) -> Iterator[Line]:
    for decision in decisions:
        yield from _lines(decision, "would drop" if decision.orphan else "keep")


def _lines(decision: GcDecision, action: str) -> Iterator[Line]:
    """
    Yield the lines of an upload.

    The key is not truncated. On a terminal on which it does not fit, it gets its own line.
    """
    padded = Styled(f"{action:<{max(map(len, _COLORS))}}", _COLORS[action])
    figures = f"  {format_age(age_of(decision.pending)):<12}  {decision.why:<26}"
    key = escape_control(decision.pending.key)
    if not sys.stdout.isatty() or len(padded) + len(figures) + 2 + len(key) <= get_terminal_size().columns:
        yield (padded, f"{figures}  {key}")
    else:
        yield (padded, figures.rstrip())
        yield f"  {key}"


# --- decisions -------------------------------------------------------------------------------------------------------

# The upload may belong to a damaged checkpoint, or to one of another user.
_UNREADABLE = "a checkpoint is unreadable"


def decide(
    backend: MultipartBackend,
    pending: Iterable[PendingUpload],
    store: CheckpointStore,
    older_than: float,
    retries: Retries,
) -> list[GcDecision]:
    """
    Decide which of the pending uploads are orphans.

    The checkpoints are read after the list is complete.
    """
    decisions = []
    for upload in pending:
        seconds = age_of(upload)
        if isnan(seconds) or seconds <= -1:
            # The age is unknown: a clock is wrong, or was, so that the upload may be young.
            decisions.append(GcDecision(upload, orphan=False, why="dated in the future"))
        elif seconds < older_than:
            decisions.append(GcDecision(upload, orphan=False, why=f"younger than {format_duration(older_than)}"))
        else:
            decisions.append(GcDecision(upload, orphan=True, why="no checkpoint here owns it"))
    # In this order, since an upload that is listed by now has had the time to be recorded.
    return _decide_again(decisions, backend, store, retries)


@define(frozen=True)
class Owners:
    """What belongs to the checkpoints of a store."""

    upload_ids: frozenset[str]  # their uploads
    running: frozenset[str]  # keys with an upload that is running now
    unreadable: int  # number of checkpoints that can't be read, so that their uploads are not known


def find_owners(
    backend: MultipartBackend,
    store: CheckpointStore,
    decisions: Sequence[GcDecision],
    retries: Retries,
) -> Owners:
    """
    Find the uploads that have a checkpoint now.

    A new upload may be on the storage before its id is in the checkpoint, which is claimed by then. Therefore claims
    are checked first and ids are read again after that, so that an id that is recorded in between is seen.
    """
    keys = {decision.pending.key for decision in decisions if decision.orphan}
    first, unreadable = _scan(store, backend.location, retries)
    running = frozenset(one.key for one in first if one.key in keys and is_running(store, one))
    second = _scan(store, backend.location, retries)[0] if any(one.key in keys for one in first) else []
    ids = (upload_id for one in (*first, *second) for upload_id in (one.upload_id, *one.abandoned))
    return Owners(frozenset(upload_id for upload_id in ids if upload_id is not None), running, unreadable)


def _scan(store: CheckpointStore, location: str, retries: Retries) -> tuple[list[Checkpoint], int]:
    """Return the checkpoints for one storage, and the number of unreadable ones."""
    checkpoints, unreadable = scan(store, retries)
    return [checkpoint for checkpoint in checkpoints if checkpoint.location == location], unreadable


def _decide_again(
    decisions: Sequence[GcDecision], backend: MultipartBackend, store: CheckpointStore, retries: Retries
) -> list[GcDecision]:
    owners = find_owners(backend, store, decisions, retries)
    return [_keep_if_owned(decision, owners) for decision in decisions]


def _keep_if_owned(decision: GcDecision, owners: Owners) -> GcDecision:
    if decision.pending.upload_id in owners.upload_ids:
        return evolve(decision, orphan=False, why="a checkpoint here owns it")
    if decision.orphan and decision.pending.key in owners.running:
        return evolve(decision, orphan=False, why="an upload is running here")
    if decision.orphan and owners.unreadable:
        return evolve(decision, orphan=False, why=_UNREADABLE)
    return decision
