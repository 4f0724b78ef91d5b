"""Mutations of the event callback: what it is called with, and what its exceptions do."""

from __future__ import annotations

from mutated.mutation import Mutation

EVENT_TESTS = ("tests/core/engine/test_events.py",)
EVENT_REPORTER, CONTEXT = "core/_engine/event_reporter.py", "core/_engine/context.py"
CONTROL, UPLOAD, COMPLETE = "core/_engine/control.py", "core/_engine/upload.py", "core/_engine/complete.py"
STREAM, SINGLE_PUT, SCHEDULER = "core/_engine/stream.py", "core/_engine/single_put.py", "core/_engine/scheduler.py"
ASYNC_CALLBACKS = "core/_engine/async_callbacks.py"

MUTATIONS = [
    Mutation(
        "an event callback that raised is called again",
        EVENT_REPORTER,
        "            self._callback = None\n            self.error",
        "            self.error",
        EVENT_TESTS,
    ),
    Mutation(
        "an error of the event callback does not stop the upload",
        EVENT_REPORTER,
        "            self._on_error(self.error)",
        "            pass",
        EVENT_TESTS,
    ),
    Mutation(
        "an error of the event callback is raised as a pause",
        CONTROL,
        "            if self._callback_raised is not None:\n                raise self._callback_raised\n",
        "",
        EVENT_TESTS,
    ),
    Mutation(
        "an interrupt in the event callback waits for the next step",
        EVENT_REPORTER,
        "            if raised_by_signal(error, handled) is not None:\n                raise\n",
        "",
        EVENT_TESTS,
    ),
    Mutation(
        "an error of the event callback after a time limit counts as one, too",
        EVENT_REPORTER,
        "raised_by_signal(error, handled)",
        "raised_by_signal(error)",
        ("tests/proof/test_counterexamples.py -k time_limit",),
    ),
    Mutation(
        "an interrupt in the last event hides what the upload had ended with",
        UPLOAD,
        '                interrupt.add_note(f"The upload had ended before: {error}")',
        "                pass",
        ("tests/proof/test_counterexamples.py -k last_event",),
    ),
    Mutation(
        "a cancel before the load does not say that an earlier upload is kept",
        "core/_engine/finish.py",
        "        if not context.record.is_loaded:",
        "        if False:",
        ("tests/proof/test_counterexamples.py -k cancelled_before",),
    ),
    Mutation(
        "an error of the event callback after the object is stored is lost",
        UPLOAD,
        "            raise raised\n",
        "            pass\n",
        EVENT_TESTS,
    ),
    Mutation(
        "an error of the event callback beside another one is lost",
        UPLOAD,
        '            error.add_note(f"The event callback also raised {raised!r}.")',
        "            pass",
        EVENT_TESTS,
    ),
    Mutation(
        "the end of a run that fails is not reported",
        UPLOAD,
        "            self._report_end(error)\n            raise\n        finally:",
        "            raise\n        finally:",
        EVENT_TESTS,
    ),
    Mutation(
        "a source that is missing is a run without an end",
        UPLOAD,
        "                self._report_end(error)\n            finally:\n                context.close_source()",
        "                pass\n            finally:\n                context.close_source()",
        EVENT_TESTS,
    ),
    Mutation(
        "an interrupt counts as a failure",
        UPLOAD,
        " or self._context.is_from_caller(error) else",
        " else",
        EVENT_TESTS,
    ),
    Mutation(
        "a run that has stored the object is reported by its error only",
        UPLOAD,
        "        if self._result is not None:\n            return",
        "        if error is None:\n            return",
        EVENT_TESTS,
    ),
    Mutation(
        "the parts of earlier runs are not reported",
        EVENT_REPORTER,
        "        for part in ledger.resumed_parts():",
        "        for part in ():",
        EVENT_TESTS,
    ),
    Mutation(
        "the parts of a resumed stream are not reported",
        STREAM,
        "        if context.events is not None:",
        "        if False:",
        EVENT_TESTS,
    ),
    Mutation(
        "a lost part is not reported",
        COMPLETE,
        "            if context.events is not None:",
        "            if False:",
        EVENT_TESTS,
    ),
    Mutation(
        "a small object has no part",
        SINGLE_PUT,
        "        if context.events is not None:",
        "        if False:",
        EVENT_TESTS,
    ),
    Mutation(
        "the attempts at a part are not counted",
        SCHEDULER,
        "        attempts.retried += 1\n",
        "",
        EVENT_TESTS,
    ),
    Mutation(
        "a retry is not reported",
        CONTEXT,
        "            self.events.retry_scheduled(operation, attempt, error, delay, part_number)",
        "            pass",
        EVENT_TESTS,
    ),
    Mutation(
        "the end of an outage is not reported",
        CONTEXT,
        "            self.events.outage_ended(seconds)",
        "            pass",
        EVENT_TESTS,
    ),
    Mutation(
        "a coroutine function is an event callback",
        ASYNC_CALLBACKS,
        "    if is_coroutine_function(on_event):",
        "    if False:",
        EVENT_TESTS,
    ),
    Mutation(
        "the seconds of a part are those of its first attempt",
        SCHEDULER,
        "            self._on_part_uploaded(outcome.part, now - started, outcome.second)\n            return",
        "            self._on_part_uploaded(outcome.part, now, outcome.second)\n            return",
        EVENT_TESTS,
    ),
]
