"""
One upload's life, over the protocols and the transport.

    claim -> load -> reconcile -> (initiate, save) -> send what is missing, append each -> complete -> delete -> release

Where the promises of the design are kept:

- ONE-OWNER, UNWRITABLE, INTENT: here, by the order of claim, save, initiate, save.
- NO-MIX: `_accept` looks at the source after a part was read and before its receipt counts; `completing` does once
  more;
  `_Guarded` does before the last bytes of an object that goes in one piece.
- WHOLE, LOST-REPLY: `completing`.
- EXACT: parts in `transport`, the whole in `endings`.
- BOUNDED: `_accept` records a receipt before anything else is sent; `ledger` keeps whatever still holds.
- RETRY, FAST-FAIL: `retrying` and `sending`.
- CLEAN, CALLBACK: `endings`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import TypeVar, TypeVarTuple

from attrs import evolve

from partwise._engine.complete import UploadLost, compare_moved, complete, unknown
from partwise._engine.context import Runtime, UploadContext, UploadRequest, logger
from partwise._engine.control import Control, ProgressRaised, StopRequested
from partwise._engine.finish import (
    abort_all,
    drop,
    failed,
    finished,
    finished_but_for_the_callback,
    forget,
    found_finished,
    interrupted,
    source_changed,
    stop_for,
)
from partwise._engine.ledger import (
    TOKEN_NAME,
    AlreadyStored,
    Ambiguous,
    Answer,
    CompareWhileReading,
    Decision,
    Ledger,
    Resume,
    Start,
)
from partwise._engine.plan import PartPlan, is_single_put
from partwise._engine.plugin_calls import PluginDefect, call_plugin
from partwise._engine.resume import allow, checksum_of, decide, find_checkpoint
from partwise._engine.scheduler import PartScheduler
from partwise._engine.throttle import TransferStopped
from partwise._engine.workers import PartJob
from partwise._signals import raised_by_signal
from partwise._validation import check_whole, instance_of, one_of
from partwise.checkpoint import Checkpoint
from partwise.content_types import guess_content_type
from partwise.errors import (
    BackendError,
    CallbackError,
    CheckpointBusy,
    CheckpointUnwritable,
    IntegrityError,
    InvalidInput,
    ObjectExists,
    PartwiseError,
    SourceChanged,
    SourceError,
    SourceUnreadable,
    UploadNotFound,
    UploadStopped,
)
from partwise.model import ObjectOptions, StoredObject, UploadedPart
from partwise.protocols import Body, CheckpointStore
from partwise.results import UploadResult

_Ts = TypeVarTuple("_Ts")
_T = TypeVar("_T")


class Upload:
    """
    One upload, from the claim to the release. Made for one call of `run` or of `explain`.

    Args:
        order: what is to be uploaded, and how.
        tools: what the engine has from outside.
        control: how others ask for an end.

    Raises:
        InvalidInput: the order can't be carried out, whatever happens. Nothing was sent.
        SourceUnreadable: there is nothing to read.
        SourceMismatch: the source is not the expected one.
    """

    def __init__(self, order: UploadRequest, tools: Runtime, control: Control) -> None:
        _refuse_what_cannot_be(order)
        self._context = UploadContext(order, tools, control)
        _called(self._context.fingerprint_source)
        self._context.check_expected(self._context.fingerprint.size, self._context.fingerprint.crc64)
        self._stream_begin: Body | None = None
        self._candidates: Mapping[int, UploadedPart] = {}
        self._recorded: frozenset[UploadedPart] = frozenset()

    def run(self) -> UploadResult:
        """
        Upload.

        Raises:
            PartwiseError: as `Uploader.upload` says.
            BaseException: what the caller's progress callback raised; KeyboardInterrupt, which is a pause.
        """
        context = self._context
        try:
            result = self._live_claimed()
        except BaseException as error:
            # Not as a warning: it is raised, too, and whoever handles it knows how bad it is.
            logger.info("%s: ended by %s: %s", context.target, type(error).__name__, error, extra=context.log_fields())
            raise
        finally:
            self._close_source()
        size, sent = result.size, result.bytes_sent
        logger.info("%s: stored, %d bytes, %d of them now", context.target, size, sent, extra=context.log_fields())
        return result

    def explain(self) -> tuple[Decision, PartPlan]:
        """
        What `run` would do now, without doing it: nothing is changed, and no claim is taken.

        Returns:
            the decision, and the plan that a start would follow.
        """
        try:
            return decide(self._context, find_checkpoint(self._context)), self._context.plan
        except PluginDefect as error:
            raise error.__cause__ or error  # noqa: B904  # as it was
        finally:
            self._close_source()

    def _close_source(self) -> None:
        try:
            self._context.source.close()
        except Exception as error:  # the upload has ended, and this changes nothing about how
            if raised_by_signal(error) is not None:
                raise
            logger.warning("%s could not be closed: %r", self._context.source.name or "the stream", error)

    # --- the life ----------------------------------------------------------------------------------------------------

    def _live_claimed(self) -> UploadResult:
        context = self._context
        if context.store is None:
            return self._live()
        with Claim(context.store, context):
            return self._live()

    def _live(self) -> UploadResult:
        """Live, and let out what ends it: the caller's own error as it was, any other with what else went wrong."""
        try:
            return self._live_to_an_end()
        except ProgressRaised as error:
            own = error.__cause__ or error
            stop_for(self._context, own)
            raise self._noted(own)  # noqa: B904  # the caller's own error, as it was
        except BaseException as error:  # noqa: BLE001  # raised again
            raise self._noted(error)  # noqa: B904  # the same error

    def _noted(self, error: BaseException) -> BaseException:
        if not isinstance(error, UploadStopped):
            for warning in self._context.warnings:
                error.add_note(warning)
        return error

    def _live_to_an_end(self) -> UploadResult:
        """Live, and turn every end that a life can have into what the caller is to see."""
        context = self._context
        try:
            return self._live_once_or_twice()
        except StopRequested as wish:
            interrupted(context, wish)
        except TransferStopped:
            interrupted(context, StopRequested("cancel" if context.control.cancelled else "pause"))
        except SourceChanged as error:
            source_changed(context, error)
        except CallbackError as error:
            finished_but_for_the_callback(context, error)
        except ProgressRaised:
            raise
        except PluginDefect as error:
            failed(context, error.__cause__ or error)
        except PartwiseError as error:
            failed(context, error)
        except BaseException as error:
            # An interrupt, an exit, a time limit: it is not ours, and propagates unchanged.
            stop_for(context, error)
            raise

    def _live_once_or_twice(self) -> UploadResult:
        context = self._context
        try:
            return self._take_up_what_is_found() or self._transfer()
        except UploadLost as error:
            # Aborted by somebody, or expired, in mid-context. One clean new start; a second loss is somebody's doing.
            logger.warning("the storage lost the upload of %s: %s", context.target, error, extra=context.log_fields())
        if context.fingerprint.size is None:
            # A stream that can be opened again begins anew. For any other this run is over, and the next one must not
            # find a record of what is lost: a stream's parts are only missed when it has gone by.
            call_plugin(context.source.close)
            forget(context)
        decision = decide(context, context.snapshot(), listed=Answer.GONE)
        try:
            return self._take_up(decision, None) or self._transfer()
        except UploadLost as error:
            drop(context)
            raise UploadNotFound(f"the storage lost the upload twice in a row: {error}") from error

    def _take_up_what_is_found(self) -> UploadResult | None:
        # In a call of its own, so that the receipts of thousands of parts, which it holds three times over, are let go
        # of before the first part is sent.
        found = find_checkpoint(self._context)
        return self._take_up(decide(self._context, found), found if isinstance(found, Checkpoint) else None)

    def _take_up(self, decision: Decision, recorded: Checkpoint | None) -> UploadResult | None:
        """
        Do what was decided, up to the point where parts are to be sent.

        Args:
            decision: what was decided.
            recorded: the checkpoint as the store has it.

        Returns:
            The result, where there are no parts to be sent.
        """
        context = self._context
        match decision:
            case Resume(checkpoint, plan, verdicts):
                context.adopt_checkpoint(checkpoint, plan)
                self._tell_part_size(checkpoint)
                if any(verdict.action == "adopt" for verdict in verdicts) or checkpoint != recorded:
                    self._record_anew(checkpoint, recorded)
                return None
            case CompareWhileReading(checkpoint, plan, candidates):
                context.adopt_checkpoint(evolve(checkpoint, parts=()), plan)
                self._tell_part_size(checkpoint)
                self._candidates = candidates
                self._recorded = frozenset(checkpoint.parts)
                return None
            case AlreadyStored(stored, checkpoint):
                context.check_expected(stored.size, stored.crc64)
                return found_finished(context, stored, checkpoint)
            case Ambiguous(stored, _):
                raise unknown(context, stored)
            case start:
                return self._start(start)

    def _tell_part_size(self, checkpoint: Checkpoint) -> None:
        context = self._context
        if context.order.config.part_size not in ("auto", checkpoint.part_size):
            context.warn(
                f"parts of {context.order.config.part_size} bytes were asked for, but the upload that is resumed has parts"
                f" of {checkpoint.part_size} bytes, and keeps them; for others, abort it and upload again"
            )

    # --- beginning ---------------------------------------------------------------------------------------------------

    def _start(self, start: Start) -> UploadResult | None:
        context = self._context
        if start.reason:
            context.warn(f"started again: {start.reason}")
        abandoned = abort_all(context, start.abandon)
        context.checkpoint = None
        if self._goes_in_one_piece():
            if context.store is not None and not abandoned:
                call_plugin(context.store.delete, context.name)
            return self._put()
        context.ledger = Ledger(context.plan)
        self._candidates = {}
        self._begin(abandoned)
        return None

    def _goes_in_one_piece(self) -> bool:
        context = self._context
        size = context.fingerprint.size
        if size is None:
            # Reading shows a stream's size. What was read is the first part, if the stream does not end in it.
            self._stream_begin = context.retry(partial(context.source.body, 0, context.plan.part_size))
            size = len(self._stream_begin)
            if size == context.plan.part_size:
                return False
        return is_single_put(size, context.backend.limits, context.order.config.multipart_threshold)

    def _begin(self, abandoned: tuple[str, ...]) -> None:
        context = self._context
        options, token = self._options_at_birth(), None
        capabilities = context.backend.capabilities
        if not capabilities.object_checksums and "metadata" in capabilities.options:
            token = context.tools.new_token()
            options = evolve(options, metadata={**options.metadata, TOKEN_NAME: token})
        intent = evolve(context.wanted, token=token, abandoned=abandoned)
        if context.store is not None:
            call_plugin(context.store.save, intent)
        context.checkpoint = intent
        upload_id: str | None = None
        try:
            upload_id = context.retry(lambda: context.backend.initiate_upload(context.key, options))
            context.checkpoint = evolve(intent, upload_id=upload_id)
            if context.store is not None:
                call_plugin(context.store.save, context.checkpoint)
        except BaseException:
            if upload_id is not None:
                # Whatever it is, a Ctrl-C too: an upload whose id no record holds must not be left behind.
                context.checkpoint = evolve(intent, upload_id=upload_id)
                drop(context)
                context.checkpoint = None
            raise
        logger.info("%s: begins, as upload %s", context.target, upload_id, extra=context.log_fields())

    def _options_at_birth(self) -> ObjectOptions:
        context, options = self._context, self._context.order.options
        capabilities = context.backend.capabilities
        if options.content_type is None and "content_type" in capabilities.options and not capabilities.types_by_name:
            return evolve(
                options, content_type=guess_content_type(context.key) or guess_content_type(context.source.name)
            )
        return options

    def _record_anew(self, checkpoint: Checkpoint, recorded: Checkpoint | None) -> None:
        assert self._context.store is not None, "what is resumed was found there"
        try:
            call_plugin(self._context.store.save, checkpoint)
        except CheckpointUnwritable as error:
            if recorded is None or recorded.fingerprint != checkpoint.fingerprint:
                raise  # receipts of this version of the source must never follow a header that speaks of another
            self._context.warn(f"progress could not be recorded: {error}", once="progress could not be recorded")

    # --- parts -------------------------------------------------------------------------------------------------------

    def _transfer(self) -> UploadResult:
        context = self._context
        done = context.ledger.parts_done
        logger.info("%s: %d parts are there", context.target, done, extra=context.log_fields())
        context.report()
        self._send_missing()
        if context.ledger.plan.size == 0:
            return self._start_empty()
        return finished(context, complete(context, self._send_missing))

    def _start_empty(self) -> UploadResult:
        """A stream that was resumed has no byte this time, and no object can be made of no part."""
        context = self._context
        assert context.checkpoint is not None
        start = Start("the stream is empty now", (*context.checkpoint.abandoned, context.upload_id))
        allow(context, start)
        return self._start(start) or self._transfer()

    def _send_missing(self) -> None:
        context = self._context
        loop = PartScheduler(
            transport=context.tools.transport(),
            flow=context.new_transfer_state(),
            policy=context.policy,
            clock=context.clock,
            control=context.control,
            concurrency=context.order.config.concurrency,
            interval=None if context.order.on_progress is None else context.order.config.progress_interval,
            make_job=lambda number, body: PartJob(context.backend, context.key, context.upload_id, number, body),
            accept=self._accept,
            on_tick=context.report,
            on_retry=lambda number, error, delay: context.log_retry(error, delay, number),
        )
        try:
            loop.run(self._stream_parts() if context.fingerprint.size is None else self._missing_parts())
        except UploadNotFound as error:
            raise UploadLost(str(error)) from error
        except SourceUnreadable:
            context.check_source()  # a worker may have been the first to see a change
            raise

    def _accept(self, receipt: UploadedPart) -> None:
        context = self._context
        moved = context.source_moved
        context.check_source()
        context.ledger.record(receipt)
        if context.source_moved and not moved:
            compare_moved(
                context
            )  # at once, so that no more is sent of another file; and all of it before it is completed
        context.remember(receipt)
        if logger.isEnabledFor(logging.DEBUG):
            number, size = receipt.part_number, receipt.size
            logger.debug(
                "part %d of %s: sent, %d bytes", number, context.target, size, extra=context.log_fields(number)
            )
        context.report()

    def _missing_parts(self) -> Iterator[tuple[int, Body]]:
        context = self._context
        for number in context.ledger.missing():
            part = context.ledger.plan.part(number)
            yield number, context.retry(partial(context.source.body, part.offset, part.size))

    def _stream_parts(self) -> Iterator[tuple[int, Body]]:
        context = self._context
        number = 0
        while context.ledger.plan.size is None:
            number += 1
            part = context.ledger.plan.part(number)
            body = self._stream_begin or context.retry(partial(context.source.body, part.offset, part.size))
            self._stream_begin = None
            end, expected = part.offset + len(body), context.order.expected_size
            if len(body) < part.size or (expected is not None and end > expected):
                context.check_expected(end, None, so_far=len(body) == part.size)
            if len(body) < part.size:
                context.ledger.plan = evolve(context.ledger.plan, size=end)
            if not len(body):
                return
            if number > context.backend.limits.max_parts:
                raise SourceError(
                    f"{context.target} is longer than the {part.offset} bytes that {number - 1} parts hold: begin with a"
                    " larger part size",
                    source=context.source.name,
                )
            if not self._is_there(number, body):
                yield number, body

    def _is_there(self, number: int, body: Body) -> bool:
        """Whether the storage holds these very bytes as this part, sent by an earlier context."""
        candidate = self._candidates.get(number)
        if candidate is None or candidate.size != len(body) or candidate.crc64 != checksum_of(body):
            return False
        self._context.ledger.record(candidate, resumed=True)
        if candidate not in self._recorded:
            self._context.remember(candidate)
        self._context.report()
        return True

    # --- in one piece ------------------------------------------------------------------------------------------------

    def _put(self) -> UploadResult:
        context = self._context
        body = self._stream_begin or context.retry(partial(context.source.body, 0, context.fingerprint.size or 0))
        # Nothing may be stored before the checksum is known, so the source is read twice.
        context.check_expected(len(body), checksum_of(body) if context.order.expected_crc64 is not None else None)
        context.ledger = Ledger(PartPlan(max(1, len(body)), len(body)))
        flow = context.new_transfer_state()
        context.control.on_request(flow.stop.set)
        logger.info("%s: begins, in one piece", context.target, extra=context.log_fields())
        throttled = flow.throttled(1, _Guarded(body, self._check_one_piece))
        try:
            stored = context.retry(_Put(context, throttled, self._options_at_birth()))
        except CallbackError as error:
            self._enter_whole(body, error.result.etag if isinstance(error.result, StoredObject) else "")
            raise
        self._enter_whole(body, stored.etag)
        return finished(context, stored)

    def _check_one_piece(self) -> None:
        context = self._context
        context.check_source()
        if context.source_moved:
            context.source_moved = False  # what is read from here on is of what was found now
            raise SourceUnreadable(
                f"{context.source.name} has another inode than when it was opened, so it is read again from its beginning",
                source=context.source.name,
                retryable=True,
            )

    def _enter_whole(self, body: Body, etag: str) -> None:
        if len(body):
            self._context.ledger.record(UploadedPart(1, len(body), etag, body.crc64))


class _Put:
    """Attempts to store an object in one piece, which know of each other."""

    def __init__(self, context: UploadContext, body: Body, options: ObjectOptions) -> None:
        self._context = context
        self._body = body
        self._options = options
        self._uncertain = False

    def __call__(self) -> StoredObject:
        context, body = self._context, self._body
        context.control.check()
        try:
            stored = context.backend.put_object(context.key, body, self._options)
        except ObjectExists:
            # Forbidden to overwrite, after an answer was lost: what stands there may be what we have just stored.
            head = context.backend.head_object(context.key) if self._uncertain else None
            if head is None or head.crc64 is None or (head.size, head.crc64) != (len(body), body.crc64):
                raise
            return head
        except BackendError:
            self._uncertain = True
            raise
        if stored.crc64 not in (None, body.crc64):
            self._uncertain = True
            raise IntegrityError(f"{context.key} did not arrive as it was sent: the checksums differ")
        return stored


class _Guarded:
    """A body that has its source looked at before it gives its last bytes, so that no mixture is ever stored."""

    def __init__(self, body: Body, check: Callable[[], None]) -> None:
        self._body = body
        self._check = check

    @property
    def crc64(self) -> int | None:
        return self._body.crc64

    def __len__(self) -> int:
        return len(self._body)

    def chunks(self) -> Iterator[memoryview]:
        left = len(self._body)
        for chunk in self._body.chunks():
            left -= len(chunk)
            if left <= 0:
                self._check()
            yield chunk


class Claim:
    """
    The store's claim; one that is refused says which upload it is about.

    Args:
        store: whose claim it is.
        context: the upload.
        outcome: what has not happened, where the claim is refused.
    """

    def __init__(self, store: CheckpointStore, context: UploadContext, outcome: str = "Nothing was sent") -> None:
        self._claim = _called(store.claim, context.name)
        self._context = context
        self._outcome = outcome

    def __enter__(self) -> None:
        try:
            _called(self._claim.__enter__)
        except CheckpointBusy as error:
            raise CheckpointBusy(
                f"{self._context.target} is being uploaded by another process or thread right now. {self._outcome}; wait"
                " until that has finished, or stop it first",
                name=self._context.name,
                where=error.where,
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _called(self._claim.__exit__, kind, error, trace)


def _called(call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """Call a plug-in outside of the upload's life, where its defect leaves as it was raised."""
    try:
        return call_plugin(call, *args)
    except PluginDefect as defect:
        raise defect.__cause__ or defect  # noqa: B904  # as it was


def _refuse_what_cannot_be(order: UploadRequest) -> None:
    one_of(order.resume, ("auto", "require", "never"), "resume must be 'auto', 'require' or 'never'")
    instance_of(order.key, str, "the key of an object is text")
    if not order.key:
        raise InvalidInput("the key of an object can't be empty")
    for name, expected in (("expected_size", order.expected_size), ("expected_crc64", order.expected_crc64)):
        if expected is not None:
            check_whole(expected, 0, f"{name} must be a whole number from 0 on, or None")
    instance_of(order.options, ObjectOptions, "options are ObjectOptions")
    order.options.require_supported_by(order.backend.capabilities, order.backend.location)
