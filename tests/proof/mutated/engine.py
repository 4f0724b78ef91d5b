"""Mutations of the engine."""

from __future__ import annotations

from mutated.mutation import PROOF, Mutation

#: What is sure to notice comes first where that is not among the quickest.
STORE_FAILS = ("tests/proof/test_every_instant.py -k store_or_source", *PROOF)
STORAGE_FAILS = ("tests/proof/test_every_instant.py -k storage", *PROOF)
WISHES = ("tests/proof/test_every_instant.py -k wish", *PROOF)
MOVED = ("tests/core/engine/test_moved_sources.py",)
BELIEVED = (
    "tests/core/engine/test_ledger.py",
    "tests/core/engine/test_resume.py",
    "tests/core/engine/test_complete.py",
)
ENGINE_BOUNDS = (
    "tests/core/engine/test_throttle.py",
    "tests/core/engine/test_context.py",
    "tests/core/engine/test_resume.py",
    "tests/core/engine/test_complete.py",
    "tests/core/test_progress.py",
    "tests/core/engine/test_scheduler.py",
    "tests/core/engine/test_upload.py",
)
OUTSIDE = (
    "tests/core/engine/test_plugin_calls.py",
    "tests/core/engine/test_scheduler.py",
    "tests/core/engine/test_finish.py",
    "tests/core/engine/test_thread_workers.py",
    "tests/core/engine/test_workers.py",
    "tests/core/test_uploader.py",
)
PIPELINED = (
    "tests/core/engine/test_pipelining.py",
    "tests/oss/test_small_parts.py",
)
EXPECTED = ("tests/core/engine/test_expected_source.py",)
SOURCE_FAILS = ("tests/core/engine/test_transient_source_errors.py",)
PACING_TESTS = ("tests/core/engine/test_throttle.py",)
THREADS_TESTS = ("tests/core/engine/test_thread_workers.py",)
PIPELINING_TESTS = ("tests/core/engine/test_pipelining.py",)
PLANNING = "core/_engine/plan.py"
CANCEL_TESTS = ("tests/core/engine/test_workers.py -k cancel",)
PLANNING_TESTS = ("tests/core/engine/test_plan.py",)
ENGINE, RUN, LEDGER = "core/_engine/upload.py", "core/_engine/context.py", "core/_engine/ledger.py"
SENDING, COMPLETING, ENDINGS = "core/_engine/scheduler.py", "core/_engine/complete.py", "core/_engine/finish.py"
MODEL, DECIDING, RETRYING, TRANSPORT = (
    "core/model.py",
    "core/_engine/resume.py",
    "core/_engine/retry.py",
    "core/_engine/workers.py",
)
THREADS, CALLING, UPLOADER = "core/_engine/thread_workers.py", "core/_engine/plugin_calls.py", "core/uploader.py"
PIPELINING = "core/_engine/pipelining.py"
PACING, PROGRESS = "core/_engine/throttle.py", "core/progress.py"

MUTATIONS = [
    # --- the order of things -----------------------------------------------------------------------------------------
    Mutation(
        "the claim is not taken",
        ENGINE,
        "        with Claim(context.store, run):\n            return self._live()",
        "        return self._live()",
    ),
    Mutation(
        "the claim is let go of early",
        ENGINE,
        "        with Claim(context.store, run):\n            return self._live()",
        "        with Claim(context.store, run):\n            pass\n        return self._live()",
    ),
    Mutation(
        "the first save is left out", ENGINE, "            call_plugin(context.store.save, intent)", "            pass"
    ),
    Mutation(
        "a first save that fails is swallowed",
        ENGINE,
        "            call_plugin(context.store.save, intent)",
        "            try:\n                context.store.save(intent)\n            except Exception:\n                pass",
        STORE_FAILS,
    ),
    Mutation(
        "the second save is left out",
        ENGINE,
        "                call_plugin(context.store.save, context.checkpoint)\n        except",
        "                pass\n        except",
    ),
    Mutation(
        "a second save that fails is swallowed",
        ENGINE,
        "                drop(context)\n                context.checkpoint = None\n            raise\n",
        "                pass\n",
        STORE_FAILS,
    ),
    Mutation(
        "a second save that fails leaves the upload",
        ENGINE,
        "                drop(context)\n                context.checkpoint = None\n            raise\n",
        "                pass\n            raise\n",
        STORE_FAILS,
    ),
    Mutation("receipts are not recorded", ENGINE, "        context.record_part(receipt)\n", ""),
    Mutation(
        "the checkpoint is deleted before complete",
        ENGINE,
        "        return finished(context, complete(context, self._send_missing))",
        "        forget(context)\n        return finished(context, complete(context, self._send_missing))",
    ),
    Mutation(
        "the checkpoint is kept after a success",
        ENDINGS,
        "    forget(context)\n    context.checkpoint = None",
        "    context.checkpoint = None",
    ),
    # --- the source --------------------------------------------------------------------------------------------------
    Mutation(
        "the source is not looked at after a part",
        ENGINE,
        "        moved = context.source_moved\n        context.check_source()\n",
        "        moved = context.source_moved\n",
    ),
    Mutation("the source is not looked at before complete", COMPLETING, "        context.check_source()\n", ""),
    Mutation(
        "the source is not looked at before the last bytes of a whole",
        ENGINE,
        "                self._check()\n",
        "                pass\n",
    ),
    Mutation(
        "a modified source is taken for the same", LEDGER, "    if old.mtime_ns != new.mtime_ns:", "    if False:"
    ),
    Mutation(
        "a replaced source is taken for the same",
        LEDGER,
        "    same = changed is None and found.fingerprint.identity == facts.wanted.fingerprint.identity",
        "    same = changed is None",
    ),
    Mutation(
        "a source that was replaced on the way is not compared before complete",
        COMPLETING,
        "            compare_moved(context)\n",
        "            pass\n",
        MOVED,
    ),
    Mutation(
        "a source that was replaced on the way is sent to its end",
        ENGINE,
        "            compare_moved(context)  #",
        "            pass  #",
        MOVED,
    ),
    Mutation(
        "one piece is a mixture of two files",
        ENGINE,
        "        if context.source_moved:\n            context.source_moved = False  #",
        "        if False:\n            context.source_moved = False  #",
        MOVED,
    ),
    Mutation(
        "parts of a changed source are trusted",
        LEDGER,
        "    return _reconcile_parts(facts, found, plan, trusted=same)",
        "    return _reconcile_parts(facts, found, plan, trusted=True)",
    ),
    Mutation(
        "an object is taken for the source's though the receipts are of other bytes",
        LEDGER,
        " or part.crc64 not in (None, facts.local[part.part_number])\n",
        "\n",
        BELIEVED,
    ),
    Mutation(
        "a token is believed without the receipts",
        LEDGER,
        "        return len(known) == len(parts)  # nothing else",
        "        return True  # nothing else",
        BELIEVED,
    ),
    Mutation(
        "a source is read though the object can't be ours",
        LEDGER,
        "    return len(known) < len(parts) or crc64_fold(known) == stored.crc64",
        "    return True",
        BELIEVED,
    ),
    Mutation(
        "parts of an upload that was completed before are not compared",
        COMPLETING,
        "    seen = asked_before and context.backend",
        "    seen = context.backend",
        BELIEVED,
    ),
    Mutation(
        "parts of an upload that a storage can't list are not compared",
        COMPLETING,
        "    seen = asked_before and context.backend.capabilities.lists_parts",
        "    seen = asked_before",
        BELIEVED,
    ),
    Mutation(
        "an ETag that was altered on its way is a reason to send the part again",
        LEDGER,
        "    if record.crc64 is not None and record.crc64 == held.crc64:",
        "    if False:",
        BELIEVED,
    ),
    Mutation(
        "the recorded ETag is completed with, though the storage lists another",
        LEDGER,
        " else evolve(record, etag=held.etag)\n    if record is not None and trusted",
        " else record\n    if record is not None and trusted",
        BELIEVED,
    ),
    Mutation(
        "a part size that is not granted is not spoken of",
        ENGINE,
        '        if context.request.config.part_size not in ("auto", checkpoint.part_size):',
        "        if False:",
        BELIEVED,
    ),
    Mutation("the content is not looked at", LEDGER, "trusted and not facts.verify_content:", "trusted:"),
    Mutation(
        "a new version follows an old header",
        ENGINE,
        "                raise  # receipts of this version",
        "                pass  # receipts of this version",
    ),
    Mutation(
        "bytes in memory may change under way",
        COMPLETING,
        "    if context.fingerprint.crc64 is not None and",
        "    if False and",
    ),
    # --- what is carried on ------------------------------------------------------------------------------------------
    Mutation(
        "the checkpoint is trusted without the list",
        DECIDING,
        "    if not context.backend.capabilities.lists_parts:",
        "    if True:",
    ),
    Mutation(
        "a list that fails counts as gone",
        DECIDING,
        "    except UploadNotFound:\n        return Missing.NO_UPLOAD",
        "    except Exception:\n        return Missing.NO_UPLOAD",
    ),
    Mutation(
        "a stale part is kept",
        LEDGER,
        "    if record is not None and not is_same_part(record, held):",
        "    if False:",
    ),
    Mutation("a part of another size is kept", LEDGER, "    if held.size != size:", "    if False:"),
    Mutation(
        "an unrecorded part is taken without a look", LEDGER, "    if facts.local[number] != checksum:", "    if False:"
    ),
    Mutation(
        "an unrecorded part is never taken",
        LEDGER,
        "    if checksum is None:\n",
        "    if checksum is None or record is None:\n",
    ),
    Mutation(
        "options that differ are carried on",
        LEDGER,
        "    if (difference := _options_that_differ(found.options, facts.wanted.options)) is not None:",
        "    if (difference := _options_that_differ(facts.wanted.options, facts.wanted.options)) is not None:",
    ),
    Mutation("a part of a stream is skipped without a look", ENGINE, " or candidate.crc64 != checksum_of(body):", ":"),
    Mutation(
        "a stream that is resumed sends all its parts", ENGINE, "                self._candidates = candidates\n", ""
    ),
    Mutation("ids to be aborted are forgotten", ENGINE, "token=token, abandoned=abandoned)", "token=token)"),
    Mutation(
        "an upload that is given up is not aborted",
        ENGINE,
        "        abandoned = abort_all(context, start.abandon)",
        "        abandoned = ()",
    ),
    Mutation(
        "an empty stream is completed with no part",
        ENGINE,
        "            return self._start_empty()\n",
        "            pass\n",
    ),
    Mutation(
        "an upload that is lost is not begun anew",
        ENGINE,
        '            logger.warning("the storage lost the upload of %s: %s", context.description, error, extra=context.log_fields())',
        "            raise UploadNotFound(str(error)) from error",
    ),
    Mutation(
        "a lost stream leaves its record",
        ENGINE,
        "            call_plugin(context.source.close)\n            forget(context)",
        "            call_plugin(context.source.close)",
    ),
    Mutation(
        "a lost stream is not opened again",
        ENGINE,
        "            call_plugin(context.source.close)\n            forget(context)",
        "            forget(context)",
    ),
    # --- pipelining --------------------------------------------------------------------------------------------------
    Mutation(
        "a pipelined part is not verified",
        PIPELINING,
        "    return lambda: job.verify(job.call_backend(read_response))",
        "    return lambda: job.call_backend(read_response)",
        PIPELINED,
    ),
    Mutation(
        "pending responses are lost when the upload ends",
        THREADS,
        "        if (inline.jobs or inline.pending) and self._finished.empty():",
        "        if inline.jobs and self._finished.empty():",
        PIPELINED,
    ),
    Mutation(
        "an overriding upload_part is bypassed by an inherited begin_part",
        PIPELINING,
        '        if "upload_part" in vars(ancestor):\n            break  #',
        '        if "upload_part" in vars(ancestor):\n            pass  #',
        PIPELINED,
    ),
    Mutation(
        "more parts are pipelined than the depth",
        PIPELINING,
        "(_PIPELINE_DEPTH if supports_pipelining(self.jobs[0].backend) else 0)",
        "100",
        PIPELINED,
    ),
    # --- completing --------------------------------------------------------------------------------------------------
    Mutation("complete is sent with a gap", COMPLETING, "    if not context.ledger.is_complete():", "    if False:"),
    Mutation(
        "a part is left out",
        ENGINE,
        "        for number in context.ledger.missing():\n",
        "        for number in list(context.ledger.missing())[:1]:\n",
    ),
    Mutation(
        "a gap counts as whole, and a part is left out",
        LEDGER,
        "        return (number for number in range(1, total + 1) if not self.has(number))",
        "        return (number for number in range(2, total + 1) if not self.has(number))",
    ),
    Mutation(
        "a lost answer to complete is not settled",
        COMPLETING,
        "    return _object_of_a_lost_answer(context, gone=False, asked_before=True) if may_have_happened else None",
        "    return None",
        STORAGE_FAILS,
    ),
    Mutation(
        "an upload that is gone at complete is taken for lost",
        COMPLETING,
        "            stored = _object_of_a_lost_answer(context, gone=True, asked_before=failures > 0)",
        "            stored = None",
    ),
    Mutation(
        "an object of the same bytes alone is a success",
        COMPLETING,
        "    if not (gone or _is_gone(context)):",
        "    if False:",
    ),
    Mutation(
        "an upload that is gone alone is a success",
        COMPLETING,
        "    return None if head.crc64 is None or combined is None else head.crc64 == combined",
        "    return True",
    ),
    Mutation(
        "an object of the same size alone is a success",
        LEDGER,
        "    return stored.crc64 in (None, crc64_fold(read))",
        "    return True",
    ),
    Mutation(
        "another upload's token is taken for ours",
        COMPLETING,
        "        return head.metadata.get(TOKEN_NAME) == context.checkpoint.token",
        "        return True",
    ),
    Mutation(
        "an older upload's token is taken for ours",
        LEDGER,
        "(facts.head.metadata.get(TOKEN_NAME) == found.token and trusted)",
        "trusted",
    ),
    Mutation(
        "what nothing tells is guessed",
        LEDGER,
        "        return Ambiguous(facts.head, found)",
        "        return AlreadyStored(facts.head, found)",
    ),
    Mutation(
        "parts that are refused are not sent again",
        COMPLETING,
        '    if differing:\n        return "',
        '    if False:\n        return "',
    ),
    Mutation(
        "the checksum of a part is not compared",
        TRANSPORT,
        " or part.size != len(self.body) or part.crc64 not in (None, sent):",
        ":",
    ),
    Mutation(
        "the checksum of the object is not compared",
        ENDINGS,
        "    if stored.size != ledger.plan.size or (stored.crc64 is not None and combined not in (None, stored.crc64)):",
        "    if stored.size != ledger.plan.size:",
    ),
    Mutation(
        "the checksum of an object in one piece is not compared",
        ENGINE,
        "        if stored.crc64 not in (None, body.crc64):",
        "        if False:",
    ),
    # --- failures ----------------------------------------------------------------------------------------------------
    Mutation(
        "permanent errors are tried again",
        RETRYING,
        "    return isinstance(error, BackendError | SourceError) and error.retryable",
        "    return isinstance(error, BackendError | SourceError)",
    ),
    Mutation(
        "nothing is tried again",
        RETRYING,
        "        if not is_retryable(error) or failures >= self.max_attempts:",
        "        if True:",
        STORAGE_FAILS,
    ),
    Mutation(
        "requests beside the parts are not tried again",
        RETRYING,
        "            delay = policy.delay(failures, error)",
        "            delay = None",
        STORAGE_FAILS,
    ),
    # --- what the caller expects of the source ------------------------------------------------------------------------
    Mutation(
        "a source of another checksum than expected is completed",
        COMPLETING,
        "    context.check_expected(context.ledger.plan.size, context.ledger.crc64() if context.request.expected_crc64 is not None else None)\n",
        "",
        EXPECTED,
    ),
    Mutation(
        "an object in one piece may be another than expected",
        ENGINE,
        "        context.check_expected(len(body), checksum_of(body) if context.request.expected_crc64 is not None else None)\n",
        "",
        EXPECTED,
    ),
    Mutation(
        "an empty stream drops what was sent, though more was expected",
        ENGINE,
        "                context.check_expected(end, None, so_far=len(body) == part.size)\n",
        "                pass\n",
        EXPECTED,
    ),
    # --- transient errors of the source -------------------------------------------------------------------------------
    Mutation(
        "errors of the source are not retried",
        RETRYING,
        "isinstance(error, BackendError | SourceError) and error.retryable",
        "isinstance(error, BackendError) and error.retryable",
        SOURCE_FAILS,
    ),
    Mutation(
        "the time that the storage asks for is not granted",
        RETRYING,
        'getattr(error, "retry_after", None) or 0.0',
        "0.0",
    ),
    Mutation(
        "other parts don't leave the storage alone",
        SENDING,
        "            self._hold_until = max(self._hold_until, ready)",
        "            pass",
    ),
    Mutation(
        "complete does not leave the storage alone",
        COMPLETING,
        "    if delay is not None and error.retry_after is not None:",
        "    if False:",
    ),
    Mutation(
        "attempts are shared among the parts",
        SENDING,
        "        attempts.count_failure(moved)\n",
        '        attempts.count_failure(moved)\n        self._all = getattr(self, "_all", 0) + 1\n        attempts.failures = self._all\n',
    ),
    Mutation(
        "an upload returns while its parts are under way",
        SENDING,
        "        self._drain()\n        if",
        "        pass\n        if",
    ),
    Mutation(
        "what arrives while an upload ends is forgotten",
        SENDING,
        "                try:\n                    self._accept(outcome.part)",
        "                try:\n                    pass",
    ),
    Mutation(
        "parts that nobody began are sent though the upload ends",
        SENDING,
        "        self._transport.cancel_pending()\n",
        "",
    ),
    Mutation(
        "a receipt that can't be recorded fails the upload",
        RUN,
        '        except CheckpointError as error:\n            self.warn(f"progress could not be recorded',
        '        except ZeroDivisionError as error:\n            self.warn(f"progress could not be recorded',
        STORE_FAILS,
    ),
    Mutation(
        "a receipt that can't be recorded is not told",
        RUN,
        '            self.warn(f"progress could not be recorded: {error}", once="progress could not be recorded")',
        "            pass",
        STORE_FAILS,
    ),
    Mutation(
        "a part that waits gives up its place",
        SENDING,
        " and len(self._in_flight) + len(self._retries) < self._concurrency:",
        ":",
    ),
    Mutation("the frames of an error keep its part", SENDING, "        _let_go_of_frames(error)\n", ""),
    Mutation(
        "nobody is told which part it was",
        SENDING,
        '            error.add_note(f"Met while part {outcome.part_number} was being sent.")\n',
        "",
    ),
    # --- exceptions from outside, and threads that are scarce --------------------------------------------------------
    Mutation(
        "a time limit counts as a defect of a plug-in",
        CALLING,
        "        foreign = raised_by_signal(error, handled)\n",
        "        foreign = None\n",
        OUTSIDE,
    ),
    Mutation(
        "an exit leaves what can't be resumed",
        ENGINE,
        "            stop_for(context, error)\n            raise\n",
        "            raise\n",
        OUTSIDE,
    ),
    Mutation(
        "an exit after a cancel keeps the upload",
        ENDINGS,
        "    if context.control.cancelled:\n        drop(context)\n        return\n",
        "",
        OUTSIDE,
    ),
    Mutation(
        "an exit while the last parts are awaited leaves them running",
        SENDING,
        "        self._wait_for_the_last()\n        raise self._with_what_followed(interrupt)",
        "        raise self._with_what_followed(interrupt)",
        OUTSIDE,
    ),
    Mutation(
        "what progress raises while the last parts are awaited is swallowed",
        SENDING,
        "                except ProgressRaised as error:\n                    self._raised = error\n",
        "",
        OUTSIDE,
    ),
    Mutation(
        "what progress raises outranks an interrupt",
        SENDING,
        "        if self._raised is not None and isinstance(ended_by, PartwiseError):",
        "        if self._raised is not None:",
        OUTSIDE,
    ),
    Mutation(
        "an interrupt makes us forget the part that was being handed over",
        SENDING,
        "            if raised_by_signal(error) is not None:\n                raise\n            del self",
        "            del self",
        OUTSIDE,
    ),
    Mutation(
        "an upload fails where no more threads can be started",
        TRANSPORT,
        "    return isinstance(error, MemoryError) or",
        "    return False and",
        OUTSIDE,
    ),
    Mutation(
        "a part that an executor refused but queued is sent twice",
        TRANSPORT,
        "            _superseded.add(attempt_id)\n",
        "",
        OUTSIDE,
    ),
    # --- bounds, and what two places read ----------------------------------------------------------------------------
    Mutation(
        "an idle time is made up for by more bytes",
        PACING,
        "            begin = max(now, self._booked_until)\n            self._booked_until = begin + count / self.rate",
        "            begin = max(now, self._booked_until)\n            self._booked_until += count / self.rate",
        ENGINE_BOUNDS,
    ),
    Mutation(
        "two workers book the same time",
        PACING,
        "        with self._lock:\n            now = self._clock.monotonic()",
        "        if True:\n            now = self._clock.monotonic()",
        ENGINE_BOUNDS,
    ),
    Mutation(
        "each sending has a bandwidth limit of its own",
        RUN,
        "        self.transfer = TransferState(self._limit, ",
        "        self.transfer = TransferState(self._limit and BandwidthLimit(self._limit.rate, self.clock), ",
        ENGINE_BOUNDS,
    ),
    Mutation(
        "the last part that a storage takes is not carried on",
        RUN,
        "part.part_number <= limits.max_parts",
        "part.part_number < limits.max_parts",
        ENGINE_BOUNDS,
    ),
    Mutation(
        "the largest part that a storage takes is not carried on",
        RUN,
        "part.size <= limits.max_part_size",
        "part.size < limits.max_part_size",
        ENGINE_BOUNDS,
    ),
    Mutation(
        "the time that the storage asks for is waited for twice",
        COMPLETING,
        "        delay = 0.0\n",
        "",
        ENGINE_BOUNDS,
    ),
    # --- endings -----------------------------------------------------------------------------------------------------
    Mutation(
        "a pause drops the upload",
        ENDINGS,
        "    drop_if_unrecorded(context)\n    raise stop(\n        run,\n        UploadPaused,",
        "    drop(context)\n    raise stop(\n        run,\n        UploadPaused,",
        WISHES,
    ),
    Mutation(
        "a cancel keeps the upload",
        ENDINGS,
        "        dropped = drop(context)\n        raise stop(",
        "        dropped = True\n        raise stop(",
        WISHES,
    ),
    Mutation(
        "a cancel before complete is not heard",
        COMPLETING,
        "        context.control.check()\n        _check_whole(context)",
        "        _check_whole(context)",
    ),
    Mutation(
        "a record is deleted though the abort failed",
        ENDINGS,
        "    if abort_all(context, (*checkpoint.abandoned, *own)):\n        return False",
        "    abort_all(context, (*checkpoint.abandoned, *own))",
    ),
    Mutation(
        "the upload of a source that changed is kept",
        ENDINGS,
        "    dropped = drop(context)\n    aftermath",
        "    dropped = True\n    aftermath",
    ),
    Mutation(
        "an upload that nobody can carry on is left behind",
        ENDINGS,
        "    if not context.is_resumable:\n        drop(context)",
        "    pass",
        WISHES,
    ),
    Mutation(
        "old uploads are not aborted at the end",
        ENDINGS,
        "    left = abort_all(context, context.checkpoint.abandoned)",
        "    left = ()",
    ),
    Mutation(
        "what is left behind is not told",
        ENDINGS,
        '        context.warn(f"the upload {upload_id} could not be aborted: {error}")\n',
        "",
    ),
    Mutation(
        "what else went wrong does not go with the error",
        ENGINE,
        "                error.add_note(warning)",
        "                pass",
    ),
    Mutation("a wish disturbs the cleaning up", ENDINGS, "    context.control = Control()", "    pass"),
    Mutation(
        "a failed callback is a failure",
        ENGINE,
        "            finished_but_for_the_callback(context, error)",
        "            failed(context, error)",
    ),
    Mutation(
        "a failed callback is a success",
        ENDINGS,
        '    raise CallbackError(\n        f"{context.key} is stored',
        '    return result\n    raise CallbackError(\n        f"{context.key} is stored',
    ),
    Mutation(
        "resume='require' starts again", DECIDING, '    if context.request.resume != "require" or', "    if True or"
    ),
    # --- progress ----------------------------------------------------------------------------------------------------
    Mutation(
        "the end is told before complete",
        ENGINE,
        "        return finished(context, complete(context, self._send_missing))",
        "        context.emit_progress(completed=True)\n        return finished(context, complete(context, self._send_missing))",
    ),
    Mutation("the end is not told", ENDINGS, "        context.emit_progress(completed=True)\n", "        pass\n"),
    Mutation(
        "progress goes backwards", RUN, "        self._shown = max(self._shown, moved)", "        self._shown = moved"
    ),
    Mutation(
        "all of a stream is told while it is in flight",
        RUN,
        "                if moved >= total or self._shown >= total:",
        "                if moved >= total:",
    ),
    Mutation(
        "what a callback raises is swallowed",
        RUN,
        '            raise ProgressRaised("the progress callback raised") from error',
        "            pass",
    ),
    Mutation(
        "a share of the limit is lost on the way to another process",
        PACING,
        "shares: int = 1",
        "shares: int = 2",
        PACING_TESTS,
    ),
    Mutation(
        "a piece of the limit is a fraction of a byte",
        PACING,
        "int(self.rate / _PIECES_A_SECOND)",
        "self.rate / _PIECES_A_SECOND",
        PACING_TESTS,
    ),
    Mutation(
        "parts are counted while others begin",
        PACING,
        "sum(list(self._sent.values()))",
        "sum(self._sent.values())",
        PACING_TESTS,
    ),
    Mutation(
        "inline mode is never tried for fast parts",
        PIPELINING,
        "_FAST_PART_SECONDS = 0.001",
        "_FAST_PART_SECONDS = 0.0005",
        PIPELINING_TESTS,
    ),
    Mutation(
        "inline mode is tried for slow parts",
        PIPELINING,
        "_FAST_PART_SECONDS = 0.001",
        "_FAST_PART_SECONDS = 0.002",
        PIPELINING_TESTS,
    ),
    Mutation(
        "inline mode may be slower by half", PIPELINING, "_TOLERANCE = 1.25", "_TOLERANCE = 1.5", PIPELINING_TESTS
    ),
    Mutation(
        "inline mode may not be slower at all", PIPELINING, "_TOLERANCE = 1.25", "_TOLERANCE = 1.0", PIPELINING_TESTS
    ),
    Mutation("a trial is timed too early", PIPELINING, "_WARMUP_PARTS = 8", "_WARMUP_PARTS = 7", PIPELINING_TESTS),
    Mutation("a trial is timed too late", PIPELINING, "_WARMUP_PARTS = 8", "_WARMUP_PARTS = 9", PIPELINING_TESTS),
    Mutation(
        "processors count as saturated too early",
        THREADS,
        "_BUSY_ABOVE, _IDLE_BELOW = 0.4, 0.25",
        "_BUSY_ABOVE, _IDLE_BELOW = 0.35, 0.25",
        THREADS_TESTS,
    ),
    Mutation(
        "processors count as saturated too late",
        THREADS,
        "_BUSY_ABOVE, _IDLE_BELOW = 0.4, 0.25",
        "_BUSY_ABOVE, _IDLE_BELOW = 0.45, 0.25",
        THREADS_TESTS,
    ),
    Mutation(
        "saturation ends too early",
        THREADS,
        "_BUSY_ABOVE, _IDLE_BELOW = 0.4, 0.25",
        "_BUSY_ABOVE, _IDLE_BELOW = 0.4, 0.3",
        THREADS_TESTS,
    ),
    Mutation(
        "saturation ends too late",
        THREADS,
        "_BUSY_ABOVE, _IDLE_BELOW = 0.4, 0.25",
        "_BUSY_ABOVE, _IDLE_BELOW = 0.4, 0.2",
        THREADS_TESTS,
    ),
    Mutation("saturation is sampled twice as often", THREADS, "_SAMPLE_EVERY = 4", "_SAMPLE_EVERY = 2", THREADS_TESTS),
    Mutation("saturation is sampled half as often", THREADS, "_SAMPLE_EVERY = 4", "_SAMPLE_EVERY = 8", THREADS_TESTS),
    Mutation(
        "two parts at one clock tick divide by zero",
        THREADS,
        "max(now - self._sampled_at, 1e-9)",
        "(now - self._sampled_at)",
        THREADS_TESTS,
    ),
    Mutation(
        "cancelled workers that are idle wait for ever",
        TRANSPORT,
        "if outcome is not None or (self._cancelled and self.idle):",
        "if outcome is not None:",
        CANCEL_TESTS,
    ),
    Mutation(
        "a cancellation lasts beyond the next submit",
        TRANSPORT,
        "        self._cancelled = False\n        attempt_id",
        "        attempt_id",
        CANCEL_TESTS,
    ),
    Mutation(
        "a stream begins with larger parts",
        PLANNING,
        "PREFERRED_PART_SIZE = 8 * MIB",
        "PREFERRED_PART_SIZE = 16 * MIB",
        PLANNING_TESTS,
    ),
    Mutation(
        "a stream's parts double once more",
        PLANNING,
        "_STREAM_GENERATIONS = 10",
        "_STREAM_GENERATIONS = 11",
        PLANNING_TESTS,
    ),
    Mutation(
        "saturation is not measured",
        THREADS,
        "            self._saturation.part_done(now, self._total_cpu)\n",
        "            pass\n",
        THREADS_TESTS,
    ),
    Mutation(
        "saturation is measured where there are enough processors",
        THREADS,
        "if self._processors < self._workers and not",
        "if self._processors <= self._workers and not",
        THREADS_TESTS,
    ),
    Mutation(
        "saturation is measured in inline mode",
        THREADS,
        "if self._processors < self._workers and not switch.inline:",
        "if self._processors < self._workers:",
        THREADS_TESTS,
    ),
    Mutation(
        "parts in flight are counted down twice",
        THREADS,
        "            self._in_flight -= 1\n",
        "            self._in_flight -= 2\n",
        THREADS_TESTS,
    ),
    Mutation(
        "workers without parts do not wait",
        THREADS,
        "block=not (self._stopping and self.idle)",
        "block=not self.idle",
        THREADS_TESTS,
    ),
    Mutation(
        "CPU times are summed while threads add theirs",
        THREADS,
        "sum(list(self._cpu_seconds.values()))",
        "sum(self._cpu_seconds.values())",
        THREADS_TESTS,
    ),
    Mutation(
        "workers are idle while a response is pending",
        THREADS,
        " and self._finished.empty() and not self._inline.pending",
        " and self._finished.empty()",
        THREADS_TESTS,
    ),
    Mutation(
        "parts that are larger than the storage takes are carried on",
        "core/_engine/ledger.py",
        " or largest > limits.max_part_size:",
        ":",
        ("tests/core/engine/test_resume.py -k no_storage_takes",),
    ),
    Mutation(
        "parts that are smaller than the storage takes are carried on",
        "core/_engine/ledger.py",
        "(plan.part_size < limits.min_part_size and total != 1) or ",
        "",
        ("tests/core/engine/test_resume.py -k no_storage_takes",),
    ),
    Mutation(
        "threads take the last of the memory",
        THREADS,
        "            if self._threads:\n                _check_memory()\n",
        "",
        ("tests/core/engine/test_thread_workers.py",),
    ),
    Mutation(
        "a part that runs out of memory is not retried",
        "core/_engine/workers.py",
        "if isinstance(defect.__cause__, MemoryError):",
        "if False:",
        ("tests/core/engine/test_workers.py",),
    ),
]
