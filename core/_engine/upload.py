"""
One upload, from the claim on its checkpoint to the release.

`stages` has the table of what it does. Where the promises are kept:

- ONE-OWNER, UNWRITABLE, INTENT: here, by the order of claim, save, initiate, save.
- FENCED: `CheckpointRecord.check_claim`, right before what can't be undone; `finish` cleans up only under it.
- NO-MIX: `_on_part_uploaded` checks the source after a part was read and before it counts; `complete` checks it again;
  `single_put` does so before the last bytes of an object that is stored with one request.
- WHOLE, LOST-REPLY: `complete`.
- EXACT: of each part in `workers`, of the object in `finish`.
- BOUNDED: `_on_part_uploaded` records a part before another one is sent; `reconcile` keeps every part that still holds.
- RETRY, FAST-FAIL: `retry` and `scheduler`.
- CLEAN, CALLBACK: `finish`.
- EVENTS: `_report_end` here, and wherever something happens; `event_reporter` keeps their order.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Literal

from attrs import evolve

from partwise._engine.claim import Claim
from partwise._engine.complete import Completion, UploadLost, compare_moved_source
from partwise._engine.concurrency import AutoConcurrency, Concurrency, FixedConcurrency
from partwise._engine.context import Runtime, UploadContext, UploadRequest, check_options, logger
from partwise._engine.control import CallbackRaised, Control, StopRequested
from partwise._engine.finish import (
    abort_uploads,
    add_stored_note,
    callback_failed_error,
    claim_lost_error,
    delete_checkpoint,
    discard_upload,
    finish,
    finish_completed_earlier,
    keep_or_discard,
    outcome_unknown_error,
    pause_for,
    report_completed,
    source_changed_error,
    stop_requested_error,
    upload_failed_error,
)
from partwise._engine.ledger import Ledger
from partwise._engine.plan import LONG_LINE_SECONDS, PartPlan, is_single_put
from partwise._engine.plugin_calls import PluginDefect, call_plugin, call_plugin_unwrapped
from partwise._engine.reconcile import (
    AlreadyStored,
    Ambiguous,
    CompareWhileReading,
    Decision,
    Missing,
    Resume,
    Start,
)
from partwise._engine.resume import check_resume_mode, decide, load_and_decide, log_damage, source_crc64
from partwise._engine.scheduler import PartScheduler
from partwise._engine.single_put import put_object
from partwise._engine.stages import TRANSITIONS, Stage
from partwise._engine.stream import StreamParts
from partwise._engine.tail import LateParts
from partwise._engine.throttle import ThrottledBody, TransferStopped
from partwise._engine.workers import PartJob
from partwise._supports import supports_connecting_ahead
from partwise._units import format_bytes
from partwise._validation import STORED_INTEGER_MAX, check_choice, check_integer
from partwise.checkpoint import Checkpoint
from partwise.checksums import CRC64_XZ
from partwise.errors import (
    CallbackError,
    CannotResume,
    CheckpointError,
    CheckpointUnwritable,
    ClaimLost,
    IntegrityError,
    InvalidInput,
    PartwiseError,
    SourceChanged,
    SourceError,
    SourceUnreadable,
    UploadCancelled,
    UploadNotFound,
    UploadPaused,
    UploadStopped,
    UploadUnusable,
)
from partwise.model import MIB, StoredObject, UploadedPart
from partwise.protocols import SourceBody
from partwise.results import UploadResult

#: Bytes that the parts in flight of a stream may take, if their number is automatic and there are more than two.
_STREAM_MEMORY = 48 * MIB


class UploadRun:
    """
    Run one upload. Made for one call of `run` or of `explain`.

    Args:
        request: what the caller requested.
        runtime: what the engine gets from outside.
        control: how other threads request a pause or a cancel.

    Raises:
        InvalidInput: the request can't be carried out, whatever the storage says. Nothing was sent.
        SourceUnreadable: the source can't be read.
        SourceMismatch: the source is not the expected one.
        UploadPaused, UploadCancelled: it was requested while the source was looked at again.
    """

    def __init__(self, request: UploadRequest, runtime: Runtime, control: Control) -> None:
        _validate(request)
        self._context = context = UploadContext(request, runtime, control)
        self._cancelled = False  # by a request that came before an interrupt, or before the error of a callback
        self._result: UploadResult | None = None
        try:
            if context.events is not None:
                context.events.run_started(context.source.name, context.backend.location)
            self._fingerprint_source()
        except BaseException as error:
            try:
                self._report_end(error)
            finally:
                context.close_source()
            raise
        self._stream = StreamParts(self._context)
        self._completion = Completion(self._context)
        # What a stage leaves for the next one.
        self._decided_start = Start()
        self._not_aborted: tuple[str, ...] = ()
        self._stored: StoredObject | None = None
        self._completed_earlier: Checkpoint | None = None
        self._callback_error: CallbackError | None = None

    def _fingerprint_source(self) -> None:
        context = self._context
        try:
            call_plugin_unwrapped(context.fingerprint_source)
        except StopRequested as request:  # while the source was looked at again
            raise stop_requested_error(context, request.mode) from None
        except CallbackRaised as error:
            raise error.__cause__ or error  # noqa: B904  # the caller's own error, as it was raised

    def run(self) -> UploadResult:
        """
        Upload, and return the result.

        Raises:
            PartwiseError: as `Uploader.upload` says.
            BaseException: what the caller's progress callback raised, or an interrupt, which pauses the upload.
        """
        context = self._context
        try:
            with self._claim():
                result = self._run_stages()
        except BaseException as error:
            if not isinstance(error, UploadStopped):
                for warning in context.warnings:
                    error.add_note(warning)
            # Not a warning: the error is raised, too, and its handler knows how serious it is.
            fields = context.log_fields()
            logger.info("%s: ended by %s: %s", context.description, type(error).__name__, error, extra=fields)
            self._report_end(error)
            raise
        finally:
            self._context.close_source()
        size, sent, fields = result.size, result.bytes_sent, context.log_fields()
        logger.info("%s: stored, %d bytes, %d of them sent now", context.description, size, sent, extra=fields)
        self._report_end(None)
        return result

    def _report_end(self, error: BaseException | None) -> None:
        """
        Report the end of the run to the event callback, if there is one.

        Args:
            error: what ends it; None: it has completed the upload.

        Raises:
            Exception: what the event callback raised when the object was stored, or in the clean-up after that.
        """
        events = self._context.events
        if events is None:
            return
        try:
            events.run_ended(self._outcome(error), self._result, error)
        except BaseException as interrupt:  # in the callback; it replaces what the run has ended with
            if error is None:
                add_stored_note(self._context, interrupt)
            else:
                interrupt.add_note(f"The upload had ended before: {error}")
            raise
        if events.error is None or (raised := events.error.__cause__) is None or raised is error:
            return
        if error is not None:
            error.add_note(f"The event callback also raised {raised!r}.")
        else:
            add_stored_note(self._context, raised)
            raise raised

    def _outcome(self, error: BaseException | None) -> Literal["completed", "paused", "cancelled", "failed"]:
        if self._result is not None:
            return "completed"
        if isinstance(error, UploadCancelled) or self._cancelled:
            return "cancelled"
        return "paused" if isinstance(error, UploadPaused) or self._context.is_from_caller(error) else "failed"

    def explain(self) -> tuple[Decision, PartPlan]:
        """
        Return what `run` would decide now. Nothing is changed, and no claim is taken.

        Returns:
            the decision, and the plan of parts that a new upload would have.
        """
        try:
            decision, found = call_plugin_unwrapped(load_and_decide, self._context)
            log_damage(self._context, found)
            return decision, self._context.plan
        finally:
            self._context.close_source()

    def _claim(self) -> AbstractContextManager[None]:
        store = self._context.store
        return nullcontext() if store is None else Claim(store, self._context)

    # --- stages ------------------------------------------------------------------------------------------------------

    def _run_stages(self) -> UploadResult:
        """
        Run the stages to their end; translate what ends the upload early.

        The caller gets the translated exception. Whatever it is, it is a ClaimLost if the claim was lost.
        """
        context = self._context
        try:
            return self._run_translating_errors()
        except PartwiseError as error:
            lost = context.record.claim_lost
            if lost is None:
                raise
            raise claim_lost_error(context, lost) from (lost if isinstance(error, ClaimLost) else error)

    def _run_translating_errors(self) -> UploadResult:
        context = self._context
        try:
            result = self._follow_table()
        except StopRequested as request:
            raise stop_requested_error(context, request.mode) from None
        except TransferStopped:
            raise stop_requested_error(context, "cancel" if context.control.cancelled else "pause") from None
        except CallbackRaised as error:
            own = error.__cause__ or error
            self._cancelled = pause_for(context, own)
            raise own  # noqa: B904  # the caller's own error, as it was raised
        except SourceChanged as error:
            raise source_changed_error(context, error) from error
        except (InvalidInput, UploadStopped, CheckpointError, CannotResume) as error:
            keep_or_discard(context, error, with_note=isinstance(error, CheckpointError))
            raise
        except PluginDefect as error:
            cause = error.__cause__ or error
            raise upload_failed_error(context, cause) from cause
        except PartwiseError as error:
            raise upload_failed_error(context, error) from error
        except BaseException as error:
            # An interrupt, an exit, a time limit. It is not partwise's, and propagates unchanged.
            self._cancelled = pause_for(context, error)
            raise
        if self._callback_error is not None:
            raise callback_failed_error(self._callback_error, result) from self._callback_error
        return result

    def _follow_table(self) -> UploadResult:
        actions = {
            Stage.RECONCILE: self._reconcile,
            Stage.START: self._start,
            Stage.PUT: self._put,
            Stage.SEND: self._send,
            Stage.COMPLETE: self._complete,
            Stage.RECOVER: self._recover,
            Stage.FINISH: self._finish,
        }
        stage, recovered = Stage.RECONCILE, False
        while stage is not Stage.DONE:
            try:
                following = actions[stage]()
            except UploadUnusable as error:
                if stage not in (Stage.SEND, Stage.COMPLETE):
                    raise  # of a request without an upload: the storage refused it
                if recovered:
                    discard_upload(self._context)
                    if isinstance(error.__cause__, IntegrityError):
                        raise error.__cause__ from None
                    raise
                following, recovered = self._start_again(error), True
            except UploadLost as error:
                # Aborted by another client, or expired. A second loss in one run is not a coincidence.
                if recovered:
                    discard_upload(self._context)
                    raise UploadNotFound(f"the storage lost the upload twice in a row: {error}") from error
                fields = self._context.log_fields()
                logger.warning("the storage lost the upload of %s: %s", self._context.description, error, extra=fields)
                following, recovered = Stage.RECOVER, True
            assert following in TRANSITIONS[stage], (stage, following)
            stage = following
        assert self._result is not None
        return self._result

    def _reconcile(self) -> Stage:
        decision, found = load_and_decide(self._context)
        return self._apply_decision(decision, found if isinstance(found, Checkpoint) else None)

    def _recover(self) -> Stage:
        context = self._context
        self._completion = Completion(context)  # the failures of the lost upload do not count against the next one
        if context.fingerprint.size is None:
            # A stream that can be opened again starts again. Any other one has been consumed, so this run fails, and
            # the next one must not find a checkpoint of the lost upload.
            call_plugin(context.source.close)
            delete_checkpoint(context)
        return self._apply_decision(decide(context, context.snapshot(), listed=Missing.NO_UPLOAD), None)

    def _start_again(self, error: UploadUnusable) -> Stage:
        """Leave an upload that can never be completed, and start another one."""
        context = self._context
        assert context.checkpoint is not None
        self._completion = Completion(context)
        self._decided_start = Start(error.message, (*context.checkpoint.abandoned, context.upload_id))
        check_resume_mode(context, self._decided_start)
        if context.fingerprint.size is None:
            try:
                self._stream.restart()
            except SourceError as unreadable:
                discard_upload(context)  # or the next run would find it, and end like this one
                raise UploadUnusable(
                    f"{error.message}. The stream can't be read again now; the next run sends every part"
                ) from unreadable
        return Stage.START

    def _apply_decision(self, decision: Decision, recorded: Checkpoint | None) -> Stage:
        """
        Prepare the stage that follows.

        `recorded` is the store's checkpoint, if usable.
        """
        context = self._context
        match decision:
            case Resume(checkpoint, plan, parts):
                context.adopt_checkpoint(checkpoint, plan)
                context.is_decided = True
                self._warn_of_recorded_part_size(checkpoint)
                if any(part.action == "adopt" for part in parts) or checkpoint != recorded:
                    self._save_changed_checkpoint(checkpoint, recorded)
                self._report_upload(resumed=True)
                return Stage.SEND
            case CompareWhileReading(checkpoint, plan, candidates, stored):
                context.adopt_checkpoint(evolve(checkpoint, parts=()), plan)
                context.is_decided = True
                self._warn_of_recorded_part_size(checkpoint)
                self._stream.expect(candidates, frozenset(checkpoint.parts), stored)
                if recorded is not None and recorded.checksum != checkpoint.checksum:
                    self._save_changed_checkpoint(checkpoint, recorded)
                self._report_upload(resumed=True)
                return Stage.SEND
            case AlreadyStored(stored, checkpoint):
                self._check_expected(stored, checkpoint)
                self._stored, self._completed_earlier = stored, checkpoint
                return Stage.FINISH
            case Ambiguous(stored, _):
                raise outcome_unknown_error(context, stored)
            case Start():
                self._decided_start = decision
                return Stage.START

    def _report_upload(self, *, resumed: bool = False, reason: str = "") -> None:
        """Report that the missing parts of an upload are sent now."""
        context = self._context
        if context.events is not None:
            size = context.fingerprint.size
            context.events.upload_started(context.ledger, context.upload_id, size, resumed=resumed, reason=reason)

    def _check_expected(self, stored: StoredObject, checkpoint: Checkpoint) -> None:
        """Compare an object that an earlier run made with what the caller expects."""
        context, crc64 = self._context, None
        if context.request.expected_crc64 is not None:
            plan = PartPlan(checkpoint.part_size, stored.size, checkpoint.parts_per_doubling)
            crc64 = stored.checksum if context.checksum == CRC64_XZ else source_crc64(context, plan)
        context.check_expected(stored.size, crc64)

    def _warn_of_recorded_part_size(self, checkpoint: Checkpoint) -> None:
        context, wanted = self._context, self._context.request.config.part_size
        if isinstance(wanted, int) and wanted != checkpoint.part_size:
            context.warn(
                f"parts of {format_bytes(wanted)} were requested, but the resumed upload has parts of"
                f" {format_bytes(checkpoint.part_size)} and keeps them; to change that, abort it and upload again"
            )

    def _save_changed_checkpoint(self, checkpoint: Checkpoint, recorded: Checkpoint | None) -> None:
        assert self._context.store is not None, "what is resumed was found there"
        try:
            self._context.record.save(checkpoint)
        except CheckpointUnwritable as error:
            if recorded is None or evolve(checkpoint, parts=()) != evolve(recorded, parts=()):
                raise  # parts must never follow the header of another version of the source, or another algorithm
            self._context.record.warn_unwritten(error)

    # --- START -------------------------------------------------------------------------------------------------------

    def _start(self) -> Stage:
        context, start = self._context, self._decided_start
        if start.reason:
            context.warn(f"started again: {start.reason}")
        self._not_aborted = not_aborted = abort_uploads(context, start.abandon)
        context.checkpoint = None
        if self._is_single_put():
            if not not_aborted:
                context.record.delete()
            return Stage.PUT
        context.ledger = Ledger(context.plan)
        context.is_decided = True
        self._stream.expect({}, frozenset(), frozenset())
        self._initiate(not_aborted)
        return Stage.SEND

    def _is_single_put(self) -> bool:
        context = self._context
        size = context.fingerprint.size
        if size is None:
            size = len(self._stream.read_first())
            if size == context.plan.part_size:
                return False  # it may not end here
        return is_single_put(size, context.backend.limits, context.request.config.multipart_threshold)

    def _initiate(self, not_aborted: tuple[str, ...]) -> None:
        """
        Start a multipart upload.

        The checkpoint is durable before the upload exists, and the upload id before a part is sent.
        """
        context = self._context
        token = context.new_token()
        options = context.object_options(token)
        intent = evolve(context.new_checkpoint(), token=token, abandoned=not_aborted)
        context.record.save(intent)
        context.checkpoint = intent
        if supports_connecting_ahead(context.backend):
            call_plugin(context.backend.connect_ahead, self._connections_needed)
        upload_id: str | None = None
        try:
            upload_id = context.retry(
                "initiate_upload", partial(context.timed, lambda: context.backend.initiate_upload(context.key, options))
            )
            if context.backend.capabilities.one_upload_per_key:
                intent = evolve(intent, abandoned=())  # the storage has ended them
            context.adapt_part_size()  # while there are no parts
            context.checkpoint = evolve(intent, upload_id=upload_id, part_size=context.plan.part_size)
            context.record.save(context.checkpoint)
        except BaseException:
            if upload_id is not None:
                # Even for a Ctrl-C: an upload whose id is not recorded must not become an orphan.
                context.checkpoint = evolve(intent, upload_id=upload_id)
                with suppress(ClaimLost):  # it is in the context, and ends the run with what is kept
                    if not discard_upload(context):
                        self._record_abandoned(intent, upload_id)
                    context.checkpoint = None
            raise
        logger.info("%s: started, as upload %s", context.description, upload_id, extra=context.log_fields())
        self._report_upload(reason=self._decided_start.reason)

    def _record_abandoned(self, intent: Checkpoint, upload_id: str) -> None:
        """
        Record an upload that could not be aborted, so that the next run aborts it.

        A failure is a warning that names the upload.

        Raises:
            ClaimLost: this run no longer holds the claim.
        """
        context = self._context
        try:
            abandoned = (*intent.abandoned, upload_id)
            context.record.save(evolve(intent, abandoned=abandoned), context.short_patience)
        except ClaimLost:
            raise
        except (CheckpointError, PluginDefect) as error:
            context.warn(f"the upload {upload_id} could not be recorded, either", error)

    # --- PUT ---------------------------------------------------------------------------------------------------------

    def _put(self) -> Stage:
        context, size = self._context, self._context.fingerprint.size
        body = self._stream.take_first() if size is None else context.read_source(0, size)
        try:
            self._stored = put_object(context, body, self._decided_start.reason)
        except CallbackError as error:
            self._keep_callback_error(error)
        if self._not_aborted and context.backend.capabilities.one_upload_per_key:
            context.checkpoint = context.new_checkpoint()  # the storage has ended its uploads, so it is deleted
        return Stage.FINISH

    # --- SEND --------------------------------------------------------------------------------------------------------

    def _send(self) -> Stage:
        context = self._context
        done = context.ledger.parts_done
        logger.info("%s: %d parts are on the storage", context.description, done, extra=context.log_fields())
        context.emit_progress()
        scheduler = PartScheduler(
            workers=context.runtime.new_workers(),
            state=context.new_transfer_state(),
            patience=context.patience,
            clock=context.clock,
            control=context.control,
            concurrency=self._concurrency(context.latency, self._bytes_missing()),
            late_parts=LateParts(latency=context.latency),
            tick_interval=None if context.request.on_progress is None else context.request.config.progress_interval,
            make_job=self._job,
            on_part_uploaded=self._on_part_uploaded,
            on_tick=context.emit_progress,
            on_retry=self._on_part_retry,
            reads_may_block=context.fingerprint.size is None,
            read_again=self._read_again if self._allows_second_copies() else None,
            status=context.status,
        )
        try:
            scheduler.run(self._stream.parts() if context.fingerprint.size is None else self._missing_parts())
        except UploadNotFound as error:
            raise UploadLost(str(error)) from error
        except SourceUnreadable:
            context.check_source()  # a worker may have been the first to notice a change
            raise
        if context.ledger.plan.size != 0:
            return Stage.COMPLETE
        # A resumed stream turned out to be empty, and an object can't be made of zero parts.
        assert context.checkpoint is not None
        abandon = (*context.checkpoint.abandoned, context.upload_id)
        self._decided_start = Start("the stream is empty now", abandon)
        check_resume_mode(context, self._decided_start)
        return Stage.START

    def _allows_second_copies(self) -> bool:
        capabilities = self._context.backend.capabilities
        return (
            self._context.fingerprint.size is not None and capabilities.replaces_parts and not capabilities.sequential
        )

    def _connections_needed(self, connect_seconds: float) -> int:
        """
        Return how many parts will be in flight at first.

        It is 0 on a short line, where a connection takes no time.
        """
        context = self._context
        latency = 2 * connect_seconds  # the request takes a round trip, too
        if latency < LONG_LINE_SECONDS or context.fingerprint.size is None:
            return 0
        return min(self._concurrency(latency).target, context.plan_for(latency).parts_total or 0)

    def _bytes_missing(self) -> int | None:
        """Return how many bytes are to be sent; None for a stream."""
        ledger = self._context.ledger
        return None if ledger.plan.size is None else ledger.plan.size - ledger.bytes_done

    def _concurrency(self, latency: float, size: int | None = None) -> Concurrency:
        context, config = self._context, self._context.request.config
        if context.concurrency != "auto":
            return FixedConcurrency(context.concurrency)
        maximum = config.concurrency_max
        if context.fingerprint.size is None:  # the parts in flight of a stream are in memory
            maximum = min(maximum, max(2, _STREAM_MEMORY // context.ledger.plan.part_size))
        return AutoConcurrency(maximum, latency, size)

    def _missing_parts(self) -> Iterator[tuple[int, SourceBody]]:
        context = self._context
        for number in context.ledger.missing():
            yield number, context.read_source(*context.ledger.plan.bounds(number))

    def _job(self, number: int, source_body: SourceBody, second: bool) -> PartJob:
        """Return an attempt at a part, or at its second copy."""
        context, plan = self._context, self._context.ledger.plan
        offset, _ = plan.bounds(number)
        body = ThrottledBody(
            source_body,
            -number if second else number,
            context.transfer,
            context.checksum,
            offset=offset,
            is_last=offset + len(source_body) == plan.size,
        )
        return PartJob(context.backend, context.key, context.upload_id, number, body, second)

    def _read_again(self, number: int) -> SourceBody:
        return call_plugin(self._context.source.body, *self._context.ledger.plan.bounds(number))

    def _on_part_retry(self, number: int, error: BaseException, delay: float, attempt: int) -> None:
        self._context.report_retry("upload_part", error, delay, attempt, number)

    def _on_part_uploaded(self, part: UploadedPart, seconds: float, second_copy: bool) -> None:
        context = self._context
        had_moved = context.source_moved
        context.check_source()
        context.ledger.add(part)
        if context.source_moved and not had_moved:
            compare_moved_source(context)  # now, before more is sent of another file; and again before complete
        context.record.append_part(context.upload_id, part)
        if logger.isEnabledFor(logging.DEBUG):
            number, size, fields = part.part_number, part.size, context.log_fields(part.part_number)
            logger.debug("part %d of %s: uploaded, %d bytes", number, context.description, size, extra=fields)
        if context.events is not None:
            context.events.part_done(part, seconds, second_copy=second_copy)
        context.emit_progress()

    # --- COMPLETE, FINISH --------------------------------------------------------------------------------------------

    def _complete(self) -> Stage:
        context = self._context
        if context.events is not None:
            context.events.completion_started(context.ledger)
        try:
            self._stored = self._completion.run()
        except CallbackError as error:
            self._keep_callback_error(error)
        return Stage.SEND if self._stored is None else Stage.FINISH

    def _keep_callback_error(self, error: CallbackError) -> None:
        """
        Keep the error until the upload is finished: the object is stored.

        It is raised afterwards.
        """
        context = self._context
        context.moved()  # the storage has responded
        stored = error.result
        if not isinstance(stored, StoredObject):
            stored = StoredObject(context.key, context.ledger.plan.size or 0, "")
        self._stored = stored
        self._callback_error = error

    def _finish(self) -> Stage:
        context = self._context
        assert self._stored is not None
        if self._completed_earlier is not None:
            self._result = finish_completed_earlier(context, self._stored, self._completed_earlier)
        else:
            self._result = finish(context, self._stored)
        report_completed(context)
        return Stage.DONE


def _validate(request: UploadRequest) -> None:
    check_choice("resume", request.resume, ("auto", "require", "never"))
    if not request.key:
        raise InvalidInput("the key of an object can't be empty")
    for name, expected in (("expected_size", request.expected_size), ("expected_crc64", request.expected_crc64)):
        if expected is not None:
            check_integer(name, expected, 0, STORED_INTEGER_MAX)
    check_options(request.options, request.backend)
