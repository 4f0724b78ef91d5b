"""Mutations of what the engine, the commands and the bucket in memory do for storages that can do less."""

from __future__ import annotations

from mutated.mutation import Mutation

SHAPES_TESTS = ("tests/core/engine/test_storage_shapes.py", "tests/core/engine/test_reconcile.py")
ENGINE_RECONCILE, ENGINE_UPLOAD, ENGINE_FINISH = (
    "core/_engine/reconcile.py",
    "core/_engine/upload.py",
    "core/_engine/finish.py",
)
ENGINE_STREAM, ENGINE_COMPLETE = "core/_engine/stream.py", "core/_engine/complete.py"
PROCESSES_ON_SHAPES = ("tests/proof/test_shapes.py",)
BUCKET_IN_MEMORY, BUCKET_TESTS = "backends/memory.py", ("tests/backends/test_memory.py",)
LISTING_COMMANDS, LISTING_TESTS = "core/cli/gc.py", ("tests/cli/test_gc.py",)
ABORT_COMMAND, ABORT_TESTS = "core/cli/abort.py", ("tests/cli/test_status.py",)

MUTATIONS = [
    Mutation(
        "an upload whose object the storage refused as damaged is resumed for ever",
        ENGINE_COMPLETE,
        "if isinstance(error, IntegrityError) and not error.retryable:",
        "if False:",
        SHAPES_TESTS,
    ),
    Mutation(
        "one damaged part makes all parts be sent again",
        ENGINE_COMPLETE,
        "            self._repair(error)\n        except IntegrityError:",
        "            raise error\n        except IntegrityError:",
        SHAPES_TESTS,
    ),
    Mutation(
        "an object that is refused twice as damaged is not an integrity error",
        ENGINE_UPLOAD,
        "if isinstance(error.__cause__, IntegrityError):",
        "if False:",
        SHAPES_TESTS,
    ),
    Mutation(
        "a refused request without an upload starts again",
        "core/_engine/upload.py",
        "                if stage not in (Stage.SEND, Stage.COMPLETE):\n",
        "                if False:\n",
        SHAPES_TESTS,
    ),
    # --- parts in order ---
    Mutation(
        "a sequential storage gets parts in parallel",
        "core/_engine/context.py",
        "return 1 if self.backend.capabilities.sequential else self.request.config.concurrency",
        "return self.request.config.concurrency",
        SHAPES_TESTS,
    ),
    Mutation(
        "an earlier part is sent to a sequential storage",
        ENGINE_RECONCILE,
        "    if capabilities.sequential and number < max(stored, default=0):",
        "    if False:",
        SHAPES_TESTS,
    ),
    Mutation(
        "the last part is never sent to a sequential storage again",
        ENGINE_RECONCILE,
        "    if capabilities.sequential and number < max(stored, default=0):",
        "    if capabilities.sequential and number <= max(stored, default=0):",
        SHAPES_TESTS,
    ),
    Mutation(
        "parts beyond the end of a source stay on a sequential storage",
        ENGINE_RECONCILE,
        "    if facts.capabilities.sequential and max(listed, default=0) > total:",
        "    if False:",
        SHAPES_TESTS,
    ),
    Mutation(
        "parts beyond the end of a stream stay on a sequential storage",
        ENGINE_STREAM,
        "        if context.backend.capabilities.sequential and 0 < total < max(self._stored, default=0):",
        "        if False:",
        SHAPES_TESTS,
    ),
    # --- no part is replaced ---
    Mutation(
        "other bytes are sent for a part that the storage does not replace",
        ENGINE_RECONCILE,
        "    if not capabilities.replaces_parts and number in stored and not same_bytes:",
        "    if False:",
        SHAPES_TESTS,
    ),
    Mutation(
        "unknown bytes count as those of a source that may have changed",
        ENGINE_RECONCILE,
        "        same_bytes = trusted and decision.why == _CHECKSUM_UNKNOWN",
        "        same_bytes = decision.why == _CHECKSUM_UNKNOWN",
        SHAPES_TESTS,
    ),
    Mutation(
        "a part with unknown bytes is never sent again",
        ENGINE_RECONCILE,
        "        same_bytes = trusted and decision.why == _CHECKSUM_UNKNOWN",
        "        same_bytes = False",
        SHAPES_TESTS,
    ),
    Mutation(
        "parts that are not listed count as known though the source changed",
        ENGINE_RECONCILE,
        "    if not trusts_unrecorded and (problem := _unknown_parts(facts)) is not None:",
        "    if False:",
        SHAPES_TESTS,
    ),
    Mutation(
        "parts that are not listed count as known though their bytes were to be compared",
        ENGINE_RECONCILE,
        "    trusts_unrecorded = trusted and not (facts.verify_content and len(recorded) < total)",
        "    trusts_unrecorded = trusted",
        PROCESSES_ON_SHAPES,
    ),
    Mutation(
        "a stream is resumed though its parts are not listed and can't be replaced",
        ENGINE_RECONCILE,
        "    if (problem := _unknown_parts(facts)) is not None:\n        return Start(problem, abandon)\n    recorded",
        "    recorded",
        SHAPES_TESTS,
    ),
    Mutation(
        "a stream with a part of unknown bytes is read before it starts again",
        ENGINE_RECONCILE,
        "        elif problem := why_not_sent(number, stored, facts.capabilities):",
        "        elif problem := None:",
        SHAPES_TESTS,
    ),
    Mutation(
        "other bytes of a stream are sent for a part that the storage does not replace",
        ENGINE_STREAM,
        "                if problem := why_not_sent(number, self._stored, context.backend.capabilities):",
        "                if problem := None:",
        SHAPES_TESTS,
    ),
    Mutation(
        "second copies are sent to a storage that replaces no parts",
        ENGINE_UPLOAD,
        "size is not None and capabilities.replaces_parts and not capabilities.sequential",
        "size is not None and not capabilities.sequential",
        SHAPES_TESTS,
    ),
    Mutation(
        "a part that arrived with other bytes is sent again to a storage that replaces none",
        "core/_engine/workers.py",
        "IntegrityError if self.backend.capabilities.replaces_parts else UploadUnusable",
        "IntegrityError",
        SHAPES_TESTS,
    ),
    Mutation(
        "a part is repaired that the storage does not take again",
        ENGINE_COMPLETE,
        "            if problem := why_not_sent(part.part_number, listed, context.backend.capabilities):",
        "            if problem := None:",
        SHAPES_TESTS,
    ),
    # --- an upload that can never be completed ---
    Mutation(
        "an upload that can never be completed is not aborted",
        ENGINE_UPLOAD,
        "Start(error.message, (*context.checkpoint.abandoned, context.upload_id))",
        "Start(error.message, context.checkpoint.abandoned)",
        SHAPES_TESTS,
    ),
    Mutation(
        "uploads start again for ever where none can be completed",
        ENGINE_UPLOAD,
        "                following, recovered = self._start_again(error), True",
        "                following = self._start_again(error)",
        SHAPES_TESTS,
    ),
    Mutation(
        "an upload starts again where a resume is required",
        ENGINE_UPLOAD,
        "        check_resume_mode(context, self._decided_start)\n        if context.fingerprint.size is None:",
        "        if context.fingerprint.size is None:",
        SHAPES_TESTS,
    ),
    Mutation(
        "a conflict with an own earlier request starts again",
        ENGINE_COMPLETE,
        "_MEETS_OBJECT = (ObjectExists, PreconditionFailed, UploadUnusable)",
        "_MEETS_OBJECT = (ObjectExists, PreconditionFailed)",
        SHAPES_TESTS,
    ),
    # --- one upload per key, no aborts ---
    Mutation(
        "uploads that the storage has ended are aborted later",
        ENGINE_UPLOAD,
        "            if context.backend.capabilities.one_upload_per_key:\n                intent",
        "            if False:\n                intent",
        SHAPES_TESTS,
    ),
    Mutation(
        "the checkpoint of an upload that a single put has ended stays",
        ENGINE_UPLOAD,
        "        if self._not_aborted and context.backend.capabilities.one_upload_per_key:",
        "        if False:",
        SHAPES_TESTS,
    ),
    Mutation(
        "an upload that was completed earlier is aborted where a key has one",
        ENGINE_FINISH,
        "    if context.backend.capabilities.one_upload_per_key:\n        context.checkpoint",
        "    if False:\n        context.checkpoint",
        SHAPES_TESTS,
    ),
    Mutation(
        "a storage that aborts nothing is asked to",
        ENGINE_FINISH,
        "    if upload_ids and not context.backend.capabilities.aborts:",
        "    if False:",
        SHAPES_TESTS,
    ),
    Mutation(
        "an upload counts as gone because of an abort without effect",
        ENGINE_COMPLETE,
        "                return False  # not known: completing again shows it",
        "                return True",
        SHAPES_TESTS,
    ),
    Mutation(
        "an aborted upload is reported as dropped by a storage that aborts nothing",
        ABORT_COMMAND,
        "    aborted = dropped and capabilities.aborts",
        "    aborted = dropped",
        ABORT_TESTS,
    ),
    Mutation(
        "gc aborts nothing and says so of no upload",
        LISTING_COMMANDS,
        "    if not backend.capabilities.aborts:",
        "    if False:",
        LISTING_TESTS,
    ),
    Mutation(
        "a storage that lists nothing counts as one without uploads",
        "core/cli/uploads.py",
        "    if not backend.capabilities.lists_uploads:",
        "    if False:",
        LISTING_TESTS,
    ),
    Mutation(
        "gc lists uploads in the order of the storage",
        LISTING_COMMANDS,
        "    return sorted(pending, key=lambda one: (one.key, one.upload_id))",
        "    return list(pending)",
        LISTING_TESTS,
    ),
    # --- slow connections ---
    Mutation(
        "whether a slow part can be cut is asked before there is a thread",
        "core/_engine/scheduler.py",
        "        try:\n            self._workers.submit(job)\n",
        "        if self._can_cut is None:\n            self._can_cut = self._workers.can_cut(job)\n"
        "        try:\n            self._workers.submit(job)\n",
        ("tests/core/engine/test_low_speed.py",),
    ),
    # --- the bucket in memory ---
    Mutation(
        "a sequential bucket in memory takes any part",
        BUCKET_IN_MEMORY,
        "    if part_number > last + 1:",
        "    if False:",
        BUCKET_TESTS,
    ),
    Mutation(
        "a sequential bucket in memory takes two parts at a time",
        BUCKET_IN_MEMORY,
        "    if upload.receiving:",
        "    if False:",
        BUCKET_TESTS,
    ),
    Mutation(
        "a bucket in memory replaces a part where it must not",
        BUCKET_IN_MEMORY,
        "is_fixed = not self._capabilities.replaces_parts or (",
        "is_fixed = False or (",
        BUCKET_TESTS,
    ),
    Mutation(
        "a sequential bucket in memory replaces a part before the last one",
        BUCKET_IN_MEMORY,
        "self._capabilities.sequential and part_number < max(parts, default=0)",
        "False",
        BUCKET_TESTS,
    ),
    Mutation(
        "a bucket in memory keeps other uploads where a key has one",
        BUCKET_IN_MEMORY,
        "        if self._capabilities.one_upload_per_key:\n",
        "        if False:\n",
        BUCKET_TESTS,
    ),
    Mutation(
        "a bucket in memory aborts where it can't",
        BUCKET_IN_MEMORY,
        "        if self._capabilities.aborts:\n",
        "        if True:\n",
        BUCKET_TESTS,
    ),
    # --- processes on toys of storages ---
    Mutation(
        "a session is resumed by a run that can't know which bytes it has",
        ENGINE_RECONCILE,
        "    if not fixed or facts.listed is not Missing.LISTING_UNSUPPORTED:",
        "    if True:",
        PROCESSES_ON_SHAPES,
    ),
    Mutation(
        "options of this run that had no effect are not mentioned",
        ENGINE_FINISH,
        "    if late := sorted(options.explicitly_set() & capabilities.late_options - _CONDITIONS):",
        "    if late := []:",
        PROCESSES_ON_SHAPES,
    ),
    Mutation(
        "the token takes the place of the metadata",
        "core/_engine/context.py",
        "        return options if token is None else evolve(options, metadata={**options.metadata, TOKEN_NAME: token})",
        "        return options if token is None else evolve(options, metadata={TOKEN_NAME: token})",
        PROCESSES_ON_SHAPES,
    ),
    Mutation(
        "a lost claim is taken for the record of another upload",
        "core/_engine/record.py",
        "            self.check_claim(patience)  # it has another record, or the claim is lost\n",
        "",
        ("tests/proof/test_counterexamples.py",),
    ),
    # --- the invariants ---
    Mutation(
        "an object may have other options than were requested",
        "core/testing/_proof/invariants.py",
        "    _check_options(scenario, trace)\n",
        "",
        ("tests/proof/test_invariants.py",),
    ),
    Mutation(
        "an unusable upload takes parts again",
        "core/testing/faulty.py",
        "            self._unusable.add(upload_id)",
        "            pass",
        ("tests/testing/test_faults.py",),
    ),
]
