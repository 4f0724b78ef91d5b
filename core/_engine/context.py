"""
What the stages of one upload share.

All stages run in one thread, and each of them gets the `UploadContext`. Workers never see it: they get a `PartJob`, and
return an `Outcome`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

from attrs import define, evolve, field

from partwise._engine.concurrency import CONCURRENCY_MIN
from partwise._engine.control import Control
from partwise._engine.ledger import Ledger
from partwise._engine.patience import Patience
from partwise._engine.plan import PartPlan, plan_parts
from partwise._engine.plugin_calls import call_plugin
from partwise._engine.reconcile import TOKEN_NAME
from partwise._engine.record import CheckpointRecord
from partwise._engine.reporter import ProgressReporter
from partwise._engine.retry import after_failure, call_with_retries
from partwise._engine.status import RunStatus, outage_reason
from partwise._engine.throttle import BandwidthLimit, TransferState
from partwise._engine.workers import WorkerPool
from partwise._signals import raised_by_signal
from partwise.checkpoint import Checkpoint, Fingerprint, checkpoint_name, with_parts
from partwise.clock import Clock, Random
from partwise.config import TransferConfig
from partwise.content_types import guess_content_type
from partwise.errors import (
    CheckpointError,
    InvalidInput,
    PartwiseError,
    SourceChanged,
    SourceMismatch,
)
from partwise.model import ObjectOptions, UploadedPart
from partwise.protocols import (
    CheckpointStore,
    MultipartBackend,
    Source,
    SourceBody,
    SupportsRequestOptions,
    SupportsSourceFile,
)
from partwise.results import Progress, Waiting
from partwise.sources import FileSource

if TYPE_CHECKING:
    from partwise._engine.event_reporter import EventReporter
    from partwise.events import EventCallback

logger = logging.getLogger("partwise")

ResumeMode = Literal["auto", "require", "never"]

#: The minimum of seconds between two reports during a wait.
_MIN_TICK = 0.05

_T = TypeVar("_T")

#: Seconds for which a source is looked at before the upload, and for which an upload that has ended is aborted. The
#: caller waits meanwhile. What could not be aborted is aborted by a later run, or by `partwise gc`.
_SHORT_PATIENCE = 10.0


@define(frozen=True)
class UploadRequest:
    """What the caller requested."""

    backend: MultipartBackend
    store: CheckpointStore | None  # where progress is recorded; None: nowhere
    source: Source
    key: str
    options: ObjectOptions
    config: TransferConfig
    resume: ResumeMode = "auto"
    on_progress: Callable[[Progress], object] | None = None
    expected_size: int | None = None  # the size in bytes that the source must have; None: any
    expected_crc64: int | None = None  # the CRC-64/XZ that the source must have; None: any
    on_event: EventCallback | None = None


def _random_token() -> str:
    import secrets

    return secrets.token_hex(16)


@define(frozen=True)
class Runtime:
    """What the engine gets from outside, so that a simulation can replace it."""

    new_workers: Callable[[], WorkerPool]  # makes the workers that send parts; called each time that parts are sent
    clock: Clock
    random: Random  # randomness, for the jitter between attempts
    new_token: Callable[[], str] = field(default=_random_token)  # makes a unique name for an upload


class UploadContext:
    """Hold the state of one run of one upload."""

    def __init__(self, request: UploadRequest, runtime: Runtime, control: Control) -> None:
        self.request = request
        self.runtime = runtime
        self.clock = runtime.clock
        self.control = control
        self.patience = Patience.from_config(request.config, runtime.random)
        #: For what the caller waits for before the upload starts, and after it has ended.
        self.short_patience = self.patience.at_most(_SHORT_PATIENCE)
        self.status = RunStatus(self._report_outage, self._report_recovery)
        self.source = request.source
        self.key = request.key
        self.backend = _for_source_file(for_options(request.backend, request.options), request.source)
        recorded = request.resume != "never" and bool(request.source.name)
        self.store = request.store if recorded else None
        #: The source as it was when this run looked at it, and the parts that it is cut into.
        self.fingerprint = Fingerprint()
        self.plan = PartPlan(1, 0)
        #: Whether the source's identity has changed since its parts were read; see `check_source`.
        self.source_moved = False
        #: The multipart upload in progress, without its parts, which are in the ledger; None if there is none.
        self.checkpoint: Checkpoint | None = None
        self.ledger = Ledger(PartPlan(1, None))
        #: Whether the ledger has the parts that count, which is decided after they were compared with the storage's.
        self.is_decided = False
        limit = request.config.bandwidth_limit
        self._limit = None if limit is None else BandwidthLimit(limit, runtime.clock)
        self.transfer = TransferState()
        #: Whether a request that makes the object was sent, and its outcome is not known.
        self.may_be_stored = False
        #: The CRC-64/XZ of a stream so far, where the caller expects one and the storage has another checksum.
        self.stream_crc64 = 0
        self.warnings: list[str] = []
        #: Why the storage did not abort an upload, if that failed.
        self.abort_error: BaseException | None = None
        self._reporter = ProgressReporter(request.on_progress, runtime.clock, self.status)
        #: Calls the event callback; None if there is none, which then costs nothing.
        self.events: EventReporter | None = None
        if request.on_event is not None:
            from partwise._engine.event_reporter import EventReporter

            self.events = EventReporter(request.on_event, runtime.clock, self.key, control.stop_for)
        self._reports_waits = True
        self._last_upload_id: str | None = None
        #: Seconds that the last small request took, perhaps with the connection; 0 if that is not known.
        self.latency = 0.0
        #: The algorithm of the checksums of the backend's parts and objects.
        self.checksum = self.backend.capabilities.checksum
        self.name = checkpoint_name(self.backend.location, self.key, self.source.name)
        self.record = CheckpointRecord(
            self.store, self.name, retry=self.retry, warn=self.warn, log_delay=self._log_unrecorded_part
        )

    # --- the upload --------------------------------------------------------------------------------------------------

    @property
    def description(self) -> str:
        """The source and the destination, for messages."""
        return f"{self.source.name or 'the stream'} to {self.key} in {self.backend.location}"

    @property
    def upload_id(self) -> str:
        """The upload id. There is one while parts are sent and completed."""
        assert self.checkpoint is not None
        assert self.checkpoint.upload_id is not None
        return self.checkpoint.upload_id

    @property
    def is_resumable(self) -> bool:
        """Whether a later run could resume from here."""
        return self.store is not None and self.checkpoint is not None and self.checkpoint.upload_id is not None

    @property
    def concurrency(self) -> int | Literal["auto"]:
        """The number of parts in flight: as configured, except on a sequential storage."""
        return 1 if self.backend.capabilities.sequential else self.request.config.concurrency

    def new_checkpoint(self) -> Checkpoint:
        """Return the checkpoint that a new upload starts with."""
        return Checkpoint(
            location=self.backend.location,
            key=self.key,
            source=self.source.name,
            fingerprint=self.fingerprint,
            part_size=self.plan.part_size,
            parts_per_doubling=self.plan.parts_per_doubling,
            options=self.request.options.fixed_data(self.backend.capabilities.late_options),
            checksum=self.checksum.name,
            created=self.clock.now(),
        )

    def comparable(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return a checkpoint without checksums that can't be of the backend's algorithm."""
        if checkpoint.checksum == self.checksum.name:
            if not any(self._is_foreign(part) for part in checkpoint.parts):
                return checkpoint
            parts = (evolve(part, checksum=None) if self._is_foreign(part) else part for part in checkpoint.parts)
        else:
            parts = (evolve(part, checksum=None) for part in checkpoint.parts)
        return evolve(checkpoint, checksum=self.checksum.name, parts=tuple(parts))

    def _is_foreign(self, part: UploadedPart) -> bool:
        return part.checksum is not None and part.checksum >> self.checksum.width > 0

    def sent_checksum(self) -> int | None:
        """Return the checksum of all acknowledged parts; None if it is not known."""
        return self.ledger.checksum(self.checksum)

    def new_token(self) -> str | None:
        """
        Return a token for a new object.

        It is None if the storage shows the checksum of an object, or stores no metadata.
        """
        capabilities = self.backend.capabilities
        if capabilities.object_checksums or "metadata" not in capabilities.options:
            return None
        return self.runtime.new_token()

    def object_options(self, token: str | None) -> ObjectOptions:
        """
        Return the options of the object, for initiate, complete and put.

        They are those that the caller requested, with a guessed content type and the token in the metadata.
        """
        options, capabilities = self.request.options, self.backend.capabilities
        if options.content_type is None and "content_type" in capabilities.options and not capabilities.types_by_name:
            options = evolve(options, content_type=guess_content_type(self.key) or guess_content_type(self.source.name))
        return options if token is None else evolve(options, metadata={**options.metadata, TOKEN_NAME: token})

    def adopt_checkpoint(self, checkpoint: Checkpoint, plan: PartPlan) -> None:
        """Continue the upload of an earlier run. Its parts count as resumed."""
        self.ledger = Ledger(plan)
        limits = self.backend.limits
        for part in checkpoint.parts:
            # A store that does not verify its records may return impossible values. Such a part does not count.
            if part.part_number <= limits.max_parts and part.size <= limits.max_part_size:
                self.ledger.add(part, resumed=True)
        self.checkpoint = with_parts(checkpoint, ())

    def snapshot(self) -> Checkpoint | None:
        """Return the checkpoint with the current parts; None if there is no upload."""
        return None if self.checkpoint is None else with_parts(self.checkpoint, self.ledger.parts())

    def clear(self) -> None:
        """Forget the upload, which no longer exists on the storage."""
        self.checkpoint = None
        self.ledger = Ledger(self.ledger.plan)

    # --- the source --------------------------------------------------------------------------------------------------

    def fingerprint_source(self) -> None:
        """
        Look at the source and plan its parts.

        Raises:
            SourceUnreadable: the source can't be read.
            SourceMismatch: it is not the expected source.
            InvalidInput: it is too large for the backend, or the part size is impossible.
            StopRequested, CallbackRaised: as `wait` says. No wait is reported.
        """
        self.fingerprint = self._current_fingerprint(self.short_patience, self._wait_silently)
        self.plan = plan_parts(
            self.fingerprint.size,
            self.backend.limits,
            self.request.config.part_size,
            equal_part_sizes=self.backend.capabilities.equal_part_sizes,
        )
        self.ledger = Ledger(self.plan)
        self.check_expected(self.fingerprint.size, self.fingerprint.crc64)

    def check_source(self) -> None:
        """
        Check that the source is still the one that the upload started with.

        If only its identity differs (the inode of a file, which some file systems renumber), `source_moved` is set:
        the bytes must be compared before an object is made of them.

        Raises:
            SourceChanged: it is another source, or another version of it.
            SourceUnreadable: it can't be read any more.
        """
        found, known = self.current_fingerprint(), self.fingerprint
        if found is known or found == known:
            return
        self.source_moved = found == evolve(known, identity=found.identity)
        if not self.source_moved:
            raise SourceChanged(f"{self.description} changed during the upload", source=self.source.name)
        self.fingerprint = found

    def current_fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the source as it is now, retrying transient errors."""
        return self._current_fingerprint(self.patience, self.wait)

    def close_source(self) -> None:
        """Close the source. A failure is logged: what it was opened for has ended."""
        try:
            self.source.close()
        except Exception as error:
            if raised_by_signal(error) is not None:
                raise
            logger.warning("%s could not be closed: %r", self.source.name or "the stream", error)

    def _current_fingerprint(self, patience: Patience, wait: Callable[[float], object]) -> Fingerprint:
        try:
            return call_plugin(self.source.fingerprint)
        except PartwiseError as error:
            attempt = after_failure(error, partial(call_plugin, self.source.fingerprint))
        on_retry = partial(self.report_retry, "fingerprint")
        return call_with_retries(attempt, patience, self.clock.monotonic, wait, on_retry, moves=False)

    def adapt_part_size(self) -> None:
        """Plan the parts again, if their size is automatic and the line is long."""
        self.plan = self.plan_for(self.latency)
        self.ledger = Ledger(self.plan)

    def plan_for(self, latency: float) -> PartPlan:
        """Return the parts of a new upload where a small request takes `latency` seconds."""
        if self.request.config.part_size != "auto" or self.plan.size is None:
            return self.plan
        return plan_parts(
            self.plan.size,
            self.backend.limits,
            equal_part_sizes=self.backend.capabilities.equal_part_sizes,
            latency=latency,
        )

    def check_expected(self, size: int | None, crc64: int | None, *, so_far: bool = False) -> None:
        """
        Compare what is known of the source with what the caller expects.

        Args:
            size: its size in bytes; None: not known yet.
            crc64: its CRC-64/XZ; None: not known yet.
            so_far: there may be more bytes than `size`.

        Raises:
            SourceMismatch: the source is not the expected one.
        """
        at_least = "at least " * so_far
        for what, expected, found in (
            ("bytes", self.request.expected_size, size),
            ("as its CRC-64", self.request.expected_crc64, crc64),
        ):
            if None not in (expected, found) and found != expected:
                raise SourceMismatch(
                    f"{self.source.name or 'the stream'} has {at_least}{found} {what} where {expected} was expected,"
                    f" and was not stored as {self.key}",
                    source=self.source.name,
                )

    # --- requests, waiting, reporting --------------------------------------------------------------------------------

    def retry(
        self, operation: str, attempt: Callable[[], _T], *, moves: bool = True, patience: Patience | None = None
    ) -> _T:
        """
        Call `attempt`, retrying transient errors.

        Args:
            operation: the method of the plug-in that is called.
            attempt: makes one attempt.
            moves: whether a success brings the upload forward; see `call_with_retries`.
            patience: decides how long; None: that of the run.

        Raises:
            BackendError, CheckpointError, SourceError: of the last attempt.
            StopRequested: a pause or a cancel was requested while it waited.
            CallbackRaised: a callback raised.
        """
        patience = patience or self.patience
        attempt, on_retry = partial(call_plugin, attempt), partial(self.report_retry, operation)
        result = call_with_retries(attempt, patience, self.clock.monotonic, self.wait, on_retry, moves=moves)
        if self.status.failing_since is not None and self.patience.failing_since is None:
            self.status.recovered(self.clock.monotonic())
        return result

    def read_source(self, offset: int, size: int) -> SourceBody:
        """Return the body of a range of the source, retrying transient errors."""
        try:
            return call_plugin(self.source.body, offset, size)
        except PartwiseError as error:
            attempt = after_failure(error, partial(self.source.body, offset, size))
        return self.retry("body", attempt, moves=False)

    def moved(self) -> None:
        """Note that the upload moved."""
        now = self.clock.monotonic()
        self.patience.moved(now)
        self.status.recovered(now)

    def timed(self, request: Callable[[], _T]) -> _T:
        """Make a small request to the storage, and note how long it takes if it succeeds."""
        started = self.clock.monotonic()
        result = request()
        self.latency = self.clock.monotonic() - started
        return result

    def wait(self, seconds: float) -> None:
        """
        Wait, and report progress meanwhile.

        Raises:
            StopRequested: a pause or a cancel is requested.
            CallbackRaised: a callback raised.
        """
        deadline = self.clock.monotonic() + seconds
        interval = max(_MIN_TICK, self.request.config.progress_interval)
        while self._reports_waits and self._reporter.is_active and seconds > interval:
            self._emit_waiting()
            self._wait_silently(interval)
            # Both, since a callback takes time, and a clock of a test may not advance.
            seconds = min(seconds - interval, deadline - self.clock.monotonic())
        self._wait_silently(max(0.0, seconds))

    def _wait_silently(self, seconds: float) -> None:
        self.clock.wait(self.control.requested, seconds)
        self.control.check()

    def ignore_stop_requests(self) -> None:
        """
        Let the clean-up that follows run to its end.

        No stop is requested, and no wait is reported.
        """
        self.control = Control()
        self._reports_waits = False

    def new_transfer_state(self) -> TransferState:
        """Reset the count of bytes in flight, for workers that start now."""
        shares = CONCURRENCY_MIN if self.concurrency == "auto" else self.concurrency
        self.transfer = TransferState(self._limit, shares, self.clock.monotonic)
        return self.transfer

    def emit_progress(self, *, completed: bool = False) -> None:
        """Call the progress callback, if any; raise CallbackRaised if it raises."""
        if self._reporter.is_active:
            self._reporter.emit(
                self.ledger, self.transfer, self.checkpoint if self.is_resumable else None, completed=completed
            )

    def is_from_caller(self, error: BaseException | None) -> bool:
        """Return whether the progress callback raised it, or it is an interrupt."""
        if not isinstance(error, Exception):
            return error is not None
        return error is self._reporter.error or raised_by_signal(error) is not None

    def _emit_waiting(self) -> None:
        if self.is_decided:
            self.emit_progress()
        elif self.status.waiting(self.clock.monotonic()) is not None:
            self._reporter.emit(Ledger(self.plan), self.transfer, None, completed=False)

    def warn(self, message: str, cause: BaseException | None = None) -> None:
        """Log a warning and its cause, and keep both for the result or the error."""
        if cause is None:
            logger.warning("%s: %s", self.key, message, extra=self.log_fields())
            self.warnings.append(message)
            return
        # The cause is an argument of the log record, so that a handler can name the settings in its hint as flags.
        logger.warning("%s: %s: %s", self.key, message, cause, extra=self.log_fields())
        self.warnings.append(f"{message}: {cause}")

    def warn_not_aborted(self) -> None:
        """Warn, once in a run, that the storage can't abort uploads."""
        message = "the storage can't abort an upload: its parts expire by themselves"
        if message not in self.warnings:
            self.warn(message)

    def log_fields(self, part_number: int | None = None) -> dict[str, object]:
        """
        Return the extra fields of each log record.

        The upload id is the last one that existed.
        """
        if self.checkpoint is not None:
            self._last_upload_id = self.checkpoint.upload_id
        return {"key": self.key, "upload_id": self._last_upload_id, "part_number": part_number}

    def report_retry(
        self, operation: str, error: BaseException, delay: float, attempt: int, part_number: int | None = None
    ) -> None:
        """
        Count, log and report an attempt that failed, and the backoff that follows.

        Args:
            operation: the method of the plug-in that was called.
            error: what it raised, a transient error.
            delay: seconds until the next attempt.
            attempt: which attempt at the part or the request it was, from 1.
            part_number: that of the part, if one was sent.
        """
        self.status.retries += 1
        what = self.description if part_number is None else f"part {part_number} of {self.description}"
        logger.info("%s: retrying in %.1f s: %s", what, delay, error, extra=self.log_fields(part_number))
        if self.events is not None:
            self.events.retry_scheduled(operation, attempt, error, delay, part_number)
        since, now = self.patience.failing_since, self.clock.monotonic()
        # One part that fails is not an outage, as long as others are in flight.
        if since is not None and (self.patience.outage or self.status.parts_in_flight == 0):
            self.status.failing(since, outage_reason(error), self.patience.gives_up_at)
            self.status.announce(now)

    def _log_unrecorded_part(self, error: CheckpointError) -> None:
        logger.debug("%s: a part could not be recorded yet: %s", self.key, error, extra=self.log_fields())

    def _report_outage(self, waiting: Waiting) -> None:
        limit = "" if waiting.gives_up_in is None else f", giving up in {waiting.gives_up_in:.0f} s"
        logger.warning("%s: retrying: %s%s", self.description, waiting.reason, limit, extra=self.log_fields())
        if self.events is not None:
            self.events.outage_started(waiting)

    def _report_recovery(self, seconds: float) -> None:
        logger.info("%s: recovered after %.1f s", self.description, seconds, extra=self.log_fields())
        if self.events is not None:
            self.events.outage_ended(seconds)


def check_options(options: ObjectOptions, backend: MultipartBackend) -> None:
    """
    Check that the options can be requested together, and from this backend.

    Raises:
        InvalidInput: they can't. Nothing was sent.
    """
    if options.forbid_overwrite and options.if_match is not None:
        raise InvalidInput("forbid_overwrite and if_match exclude each other", hint="Pass only one of them")
    options.require_supported_by(backend.capabilities, backend.location)


def for_options(backend: MultipartBackend, options: ObjectOptions) -> MultipartBackend:
    """
    Return the backend, or the handle of it, for an upload with these options.

    Raises:
        InvalidInput: an option has a value that can't be sent.
    """
    # With any option: one that acts late is checked here, too, before the parts of a resumed upload are sent.
    if options.explicitly_set() and isinstance(backend, SupportsRequestOptions):
        return backend.with_request_options(options)
    return backend


def _for_source_file(backend: MultipartBackend, source: Source) -> MultipartBackend:
    if isinstance(source, FileSource) and isinstance(backend, SupportsSourceFile):
        # Only if its class has the method: a wrapper with `__getattr__` would be replaced by what it wraps.
        return backend.with_source_file(source.name) if hasattr(type(backend), "with_source_file") else backend
    return backend
