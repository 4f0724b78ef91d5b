"""Mutations of the algorithms of checksums, and of what the engine does with another one than that of OSS."""

from __future__ import annotations

from mutated.mutation import Mutation

ALGORITHMS, ALGORITHM_TESTS = "core/checksums.py", ("tests/core/test_checksums.py",)
CONTEXT, BODIES, SUMS_TESTS = "core/_engine/context.py", "core/bodies.py", ("tests/core/engine/test_checksums.py",)
BODY_TESTS = ("tests/core/test_bodies.py",)

MUTATIONS = [
    Mutation(
        "checksums of another algorithm are compared",
        CONTEXT,
        "            parts = (evolve(part, checksum=None) for part in checkpoint.parts)\n",
        "            parts = checkpoint.parts\n",
        SUMS_TESTS,
    ),
    Mutation(
        "a checksum with too many bits is used",
        CONTEXT,
        "return part.checksum is not None and part.checksum >> self.checksum.width > 0",
        "return False",
        SUMS_TESTS,
    ),
    Mutation(
        "a checkpoint does not name the algorithm",
        CONTEXT,
        "            checksum=self.checksum.name,\n            created",
        "            created",
        SUMS_TESTS,
    ),
    Mutation(
        "the checkpoint of a stream keeps the name of another algorithm",
        "core/_engine/upload.py",
        "                if recorded is not None and recorded.checksum != checkpoint.checksum:\n",
        "                if False:\n",
        SUMS_TESTS,
    ),
    Mutation(
        "checksums of two algorithms get into one checkpoint",
        "core/_engine/upload.py",
        "            if recorded is None or evolve(checkpoint, parts=()) != evolve(recorded, parts=()):\n",
        "            if recorded is None or recorded.fingerprint != checkpoint.fingerprint:\n",
        SUMS_TESTS,
    ),
    Mutation(
        "the storage's checksum counts as the expected CRC-64/XZ",
        "core/_engine/complete.py",
        "        if context.checksum == CRC64_XZ and (sent",
        "        if (sent",
        SUMS_TESTS,
    ),
    Mutation(
        "an object that was completed earlier may have another CRC-64/XZ than expected",
        "core/_engine/upload.py",
        "stored.checksum if context.checksum == CRC64_XZ else source_crc64(context, plan)",
        "None",
        SUMS_TESTS,
    ),
    Mutation(
        "the CRC-64/XZ of a stream is that of its last part",
        "core/_engine/stream.py",
        "crc64_combine(context.stream_crc64, checksum_of(body, CRC64_XZ), len(body))",
        "checksum_of(body, CRC64_XZ)",
        SUMS_TESTS,
    ),
    Mutation(
        "the CRC-64/XZ of a stream is forgotten when completing is tried again",
        "core/_engine/stream.py",
        "        if ledger.plan.size is not None:\n            return",
        "        if False:\n            return",
        SUMS_TESTS,
    ),
    Mutation(
        "bytes that change during the upload are not noticed where the storage has another checksum",
        "core/_engine/complete.py",
        "        _compare_source(context, (part for part in context.ledger.parts() if part.checksum is not None))\n",
        "",
        SUMS_TESTS,
    ),
    Mutation(
        "a body has its checksum before its last chunk is read",
        BODIES,
        "            if left <= 0:\n                self.checksum",
        "            if True:\n                self.checksum",
        BODY_TESTS,
    ),
    Mutation(
        "a body keeps its checksum while it is read again",
        BODIES,
        "        self.checksum = None\n        running",
        "        running",
        BODY_TESTS,
    ),
    Mutation(
        "digests are combined",
        ALGORITHMS,
        "            elif self.polynomial is None:\n                return None\n",
        "",
        ALGORITHM_TESTS,
    ),
    Mutation(
        "a checksum of the wrong length is read",
        ALGORITHMS,
        "        if len(data) != self.width // 8:\n",
        "        if False:\n",
        ALGORITHM_TESTS,
    ),
    Mutation(
        "a part of a stream is read from a temporary file that was changed",
        "core/sources.py",
        "        if left or checksum != self._checksum:\n",
        "        if left:\n",
        ("tests/core/test_sources.py",),
    ),
    Mutation(
        "an expected CRC-64 is not compared if the checksum of a resumed part is not known",
        "core/_engine/complete.py",
        "context.checksum == CRC64_XZ and (sent := context.sent_checksum()) is not None:\n            return sent",
        "context.checksum == CRC64_XZ:\n            return context.sent_checksum()",
        ("tests/core/engine/test_checksums.py -k though_no_checksum",),
    ),
    Mutation(
        "a resumed part whose checksum is not known counts as changed where a CRC-64 is expected",
        "core/_engine/complete.py",
        "_compare_source(context, (part for part in context.ledger.parts() if part.checksum is not None))",
        "compare_moved_source(context)",
        ("tests/core/engine/test_checksums.py -k though_no_checksum",),
    ),
]
