"""
One run of one upload: what its stages share.

The stages (deciding, sending, completing, ending) are rooms of their own; each of them is handed the run, changes it,
and says what comes next. All of it happens in one thread. Workers never see a run: they get a job, and give an
outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

from attrs import define, evolve, field

from partwise._engine.control import Control, ProgressRaised
from partwise._engine.ledger import Ledger
from partwise._engine.plan import PartPlan, plan_parts
from partwise._engine.plugin_calls import call_plugin
from partwise._engine.retry import RetryPolicy, call_with_retries
from partwise._engine.throttle import BandwidthLimit, TransferState
from partwise._engine.workers import WorkerPool
from partwise.checkpoint import Checkpoint, Fingerprint, checkpoint_name
from partwise.clock import Clock, Random
from partwise.config import TransferConfig
from partwise.errors import CheckpointError, SourceChanged, SourceMismatch
from partwise.model import ObjectOptions, UploadedPart
from partwise.protocols import (
    CheckpointStore,
    MultipartBackend,
    Source,
    SupportsPerSource,
    SupportsRequestOptions,
    SupportsSourceFile,
)
from partwise.results import Progress
from partwise.sources import FileSource

logger = logging.getLogger("partwise")

ResumeMode = Literal["auto", "require", "never"]

_T = TypeVar("_T")


@define(frozen=True)
class UploadRequest:
    """
    What is to be uploaded, and how.

    Args:
        backend: where to.
        store: what remembers progress; None: nothing does.
        source: where the bytes come from.
        key: the object's key.
        options: what the object shall be like.
        config: how to transfer.
        resume: "auto", "require" or "never".
        on_progress: is told how far the upload is.
        expected_size: the size in bytes that the source must have; None: any.
        expected_crc64: the CRC-64/XZ that it must have; None: any.
    """

    backend: MultipartBackend
    store: CheckpointStore | None
    source: Source
    key: str
    options: ObjectOptions
    config: TransferConfig
    resume: ResumeMode = "auto"
    on_progress: Callable[[Progress], object] | None = None
    expected_size: int | None = None
    expected_crc64: int | None = None


def _token() -> str:
    import secrets

    return secrets.token_hex(16)


@define(frozen=True)
class Runtime:
    """
    What the engine has from outside, so that a simulation can own it.

    Args:
        transport: makes what parts are sent by, one for each time that parts are sent.
        clock: time.
        chance: randomness, for the waits between attempts.
        new_token: makes a name for an upload that nobody else has.
    """

    transport: Callable[[], WorkerPool]
    clock: Clock
    chance: Random
    new_token: Callable[[], str] = field(default=_token)


class UploadContext:
    """
    One run of one upload.

    Args:
        order: what is to be uploaded, and how.
        tools: what the engine has from outside.
        control: how others ask for an end.
    """

    def __init__(self, order: UploadRequest, tools: Runtime, control: Control) -> None:
        self.order = order
        self.tools = tools
        self.clock = tools.clock
        self.control = control
        self.policy = RetryPolicy.from_config(order.config, tools.chance)
        self.source = order.source
        self.key = order.key
        self.backend = _bound_to_source_file(_bound_to_options(order.backend, order.options), order.source)
        remembers = order.store is not None and order.resume != "never" and bool(order.source.name)
        self.store = _bound_to_source(order.store, order.source) if remembers and order.store is not None else None
        self.fingerprint = Fingerprint()
        #: The source's identity is another one than when its parts were read; see `check_source`.
        self.source_moved = False
        self.plan = PartPlan(1, 0)
        #: The upload under way, without its parts, which are in the ledger; None while there is none.
        self.checkpoint: Checkpoint | None = None
        self.ledger = Ledger(PartPlan(1, 0))
        limit = order.config.bandwidth_limit
        self._limit = None if limit is None else BandwidthLimit(limit, tools.clock)
        self.flow = TransferState()
        self.warnings: list[str] = []
        #: Why an upload could not be aborted, if there is one that could not.
        self.abort_error: BaseException | None = None
        self._on_progress = order.on_progress
        self._logged_id: str | None = None
        self._name = checkpoint_name(self.backend.location, self.key, self.source.name)
        self._shown = 0
        self._began = self.clock.monotonic()

    def fingerprint_source(self) -> None:
        """
        Find out which version of the source there is to upload, and plan its parts.

        Raises:
            SourceUnreadable: there is nothing to read.
            InvalidInput: it is too large for the backend, or the part size is impossible.
        """
        # A pause or a cancel that is requested meanwhile takes effect when the upload runs, a moment later.
        self.fingerprint = self._fingerprint_of_source(lambda seconds: self.clock.wait(self.control.requested, seconds))
        self.plan = plan_parts(
            self.fingerprint.size,
            self.backend.limits,
            self.order.config.part_size,
            equal_part_sizes=self.backend.capabilities.equal_part_sizes,
        )

    @property
    def wanted(self) -> Checkpoint:
        """The checkpoint that a fresh upload begins with."""
        return Checkpoint(
            location=self.backend.location,
            key=self.key,
            source=self.source.name,
            fingerprint=self.fingerprint,
            part_size=self.plan.part_size,
            parts_per_doubling=self.plan.parts_per_doubling,
            options=self.order.options.fixed_at_initiate(),
            created=self.clock.now(),
        )

    @property
    def name(self) -> str:
        """The name of this upload's checkpoint."""
        return self._name

    @property
    def upload_id(self) -> str:
        """The id of the upload under way; there is one while parts are sent and completed."""
        assert self.checkpoint is not None
        assert self.checkpoint.upload_id is not None
        return self.checkpoint.upload_id

    @property
    def is_resumable(self) -> bool:
        """Whether a later run could carry on from here."""
        return self.store is not None and self.checkpoint is not None and self.checkpoint.upload_id is not None

    @property
    def target(self) -> str:
        """Source and destination, in words."""
        return f"{self.source.name or 'the stream'} to {self.key} in {self.backend.location}"

    def adopt_checkpoint(self, checkpoint: Checkpoint, plan: PartPlan) -> None:
        """The upload under way is the one that this checkpoint tells of, with its parts as resumed ones."""
        self.ledger = Ledger(plan)
        limits = self.backend.limits
        for part in checkpoint.parts:
            # What no storage takes is what became of a record that does not verify itself. It is not there, either.
            if part.part_number <= limits.max_parts and part.size <= limits.max_part_size:
                self.ledger.record(part, resumed=True)
        self.checkpoint = evolve(checkpoint, parts=())

    def let_go(self) -> None:
        """There is no upload under way any more, and the storage holds nothing of it."""
        self.checkpoint = None
        self.ledger = Ledger(self.ledger.plan)

    def snapshot(self) -> Checkpoint | None:
        """The upload under way, as it is now."""
        return None if self.checkpoint is None else evolve(self.checkpoint, parts=self.ledger.receipts())

    def new_transfer_state(self) -> TransferState:
        """What this run and the workers of one sending share."""
        self.flow = TransferState(self._limit, self.order.config.concurrency)
        return self.flow

    # --- small things that every stage does --------------------------------------------------------------------------

    def retry(self, attempt: Callable[[], _T]) -> _T:
        """
        Make one request, retrying it according to the retry policy.

        Raises:
            BackendError: the last attempt's.
            StopRequested: a pause or a cancel was asked for while it waited.
        """
        return call_with_retries(partial(call_plugin, attempt), self.policy, self.wait, self.log_retry)

    def wait(self, seconds: float) -> None:
        """Wait, unless somebody asks for an end."""
        self.clock.wait(self.control.requested, seconds)
        self.control.check()

    def check_source(self) -> None:
        """
        Make sure that the source is still the one that the upload began with.

        Where nothing but its identity is another one (a file's inode, which on some file systems does not last), that
        is noted in `source_moved`: its bytes have to be compared before an object is made of them.

        Raises:
            SourceChanged: it is not.
            SourceUnreadable: it is not there any more.
        """
        found, known = self._fingerprint_of_source(self.wait), self.fingerprint
        if found is known or found == known:
            return
        self.source_moved = found == evolve(known, identity=found.identity)
        if not self.source_moved:
            raise SourceChanged(f"{self.target} changed on the way", source=self.source.name)
        self.fingerprint = found

    def _fingerprint_of_source(self, wait: Callable[[float], object]) -> Fingerprint:
        return call_with_retries(partial(call_plugin, self.source.fingerprint), self.policy, wait, self.log_retry)

    def check_expected(self, size: int | None, crc64: int | None, *, so_far: bool = False) -> None:
        """
        Compare what is known of the source with what the caller expects.

        Args:
            size: its size in bytes; None: not known yet.
            crc64: its CRC-64/XZ; None: not known yet.
            so_far: there may be more bytes than `size`.

        Raises:
            SourceMismatch: it is not what is expected.
        """
        at_least = "at least " * so_far
        for what, expected, found in (
            ("bytes", self.order.expected_size, size),
            ("as its CRC-64", self.order.expected_crc64, crc64),
        ):
            if None not in (expected, found) and found != expected:
                raise SourceMismatch(
                    f"{self.source.name or 'the stream'} has {at_least}{found} {what} where {expected} was expected,"
                    f" and was not stored as {self.key}",
                    source=self.source.name,
                )

    def remember(self, receipt: UploadedPart) -> None:
        """Record a receipt. A record that can't be written fails nothing: the storage's own list has the part, too."""
        if self.store is None:
            return
        try:
            call_plugin(self.store.append_part, self.name, receipt)
        except CheckpointError as error:
            self.warn(f"progress could not be recorded: {error}", once="progress could not be recorded")

    def warn(self, message: str, *, once: str | None = None) -> None:
        """Note what did not go as it should; with `once`, only if nothing that begins like that was noted before."""
        if once is not None and any(warning.startswith(once) for warning in self.warnings):
            return
        logger.warning("%s: %s", self.key, message, extra=self.log_fields())
        self.warnings.append(message)

    def log_fields(self, part_number: int | None = None) -> dict[str, object]:
        """What every log record carries beside its text. The upload id is the last one there was."""
        if self.checkpoint is not None:
            self._logged_id = self.checkpoint.upload_id
        return {"key": self.key, "upload_id": self._logged_id, "part_number": part_number}

    def log_retry(self, error: BaseException, delay: float, part_number: int | None = None) -> None:
        """Log that an attempt failed, and when the next one is. It is no warning: this is what retrying is for."""
        what = self.target if part_number is None else f"part {part_number} of {self.target}"
        logger.info("%s: tried again in %.1f s: %s", what, delay, error, extra=self.log_fields(part_number))

    def report(self, *, completed: bool = False) -> None:
        """
        Say how far the upload is, if anybody listens.

        While all bytes are on the storage but the object is not made, nothing is said: the whole is told once it is
        there.

        Raises:
            ProgressRaised: the caller's callback did.
        """
        if self._on_progress is None:
            return
        ledger, checkpoint = self.ledger, self.checkpoint
        total, moved = ledger.plan.size, ledger.bytes_done
        if not completed:
            moved += self.flow.in_flight_bytes()
            if total is not None:
                if moved >= total:
                    moved = ledger.bytes_done  # the last bytes have left, but have not arrived
                if moved >= total or self._shown >= total:
                    return  # what was told of a stream may turn out to have been all of it
        self._shown = max(self._shown, moved)
        entries = ledger.entries
        resumable = self.is_resumable and not completed
        progress = Progress(
            bytes_done=self._shown,
            bytes_total=total,
            bytes_resumed=ledger.bytes_resumed,
            bytes_acknowledged=ledger.bytes_done,
            parts_done=ledger.parts_done,
            parts_total=ledger.plan.parts_total,
            elapsed=self.clock.monotonic() - self._began,
            completed=completed,
            checkpoint=(
                (lambda: checkpoint and evolve(checkpoint, parts=ledger.as_of(entries))) if resumable else _nothing
            ),
        )
        try:
            self._on_progress(progress)
        except Exception as error:
            self._on_progress = None  # whoever has had enough is not told of what still arrives
            raise ProgressRaised("the progress callback raised") from error


def _nothing() -> None:
    return None


def _bound_to_options(backend: MultipartBackend, options: ObjectOptions) -> MultipartBackend:
    # Whatever the options are: those that act late are refused here, before the parts of an upload that is carried on.
    if options.explicitly_set() and isinstance(backend, SupportsRequestOptions):
        return backend.with_request_options(options)
    return backend


def _bound_to_source_file(backend: MultipartBackend, source: Source) -> MultipartBackend:
    if isinstance(source, FileSource) and isinstance(backend, SupportsSourceFile):
        # Of its class, not by a `__getattr__`: a wrapper would be left behind for what it wraps.
        return backend.with_source_file(source.name) if hasattr(type(backend), "with_source_file") else backend
    return backend


def _bound_to_source(store: CheckpointStore, source: Source) -> CheckpointStore:
    return store.for_source(source.name) if isinstance(store, SupportsPerSource) else store
