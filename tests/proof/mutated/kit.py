"""Mutations of the test kit."""

from __future__ import annotations

from mutated.mutation import Mutation

FAULTS = "core/testing/faults.py"
FAULTS_TESTS = ("tests/testing/test_faults.py",)
FAULTY = "core/testing/faulty.py"

MUTATIONS = [
    Mutation(
        "any number of clients goes through the proxy",
        "core/testing/proxy.py",
        "links < _LINKS_MAX and ",
        "",
        ("tests/testing/test_proxy.py",),
    ),
    Mutation(
        "a proxy without descriptors tries again at once",
        "core/testing/proxy.py",
        "time.monotonic() + _PAUSE",
        "0.0",
        ("tests/testing/test_proxy.py",),
    ),
    Mutation(
        "reading a source is never struck",
        FAULTS,
        'SOURCE_OPERATIONS = ("fingerprint", "body", "read")',
        'SOURCE_OPERATIONS = ("fingerprint", "body")',
        FAULTS_TESTS,
    ),
    Mutation("a listing of uploads is never struck", FAULTS, '    "list_uploads",\n', "", FAULTS_TESTS),
    Mutation("a scan is never struck", FAULTS, '"delete", "scan")', '"delete")', FAULTS_TESTS),
    Mutation(
        "a lost answer of a store can't be planned",
        FAULTS,
        "FaultKind.AFTER: frozenset(BACKEND_OPERATIONS) | _WRITES",
        "FaultKind.AFTER: frozenset(BACKEND_OPERATIONS)",
        FAULTS_TESTS,
    ),
    Mutation(
        "a wrong checksum of an object that is looked at can't be planned",
        FAULTS,
        ' | {"complete_upload", "head_object"}',
        ' | {"complete_upload"}',
        FAULTS_TESTS,
    ),
    Mutation(
        "an upload that is forgotten at complete can't be planned",
        FAULTS,
        '{"upload_part", "list_parts", "complete_upload"}',
        '{"upload_part", "list_parts"}',
        FAULTS_TESTS,
    ),
    Mutation(
        "a claim in a place that is read-only can't be planned", FAULTS, '_WRITES | {"claim"}', "_WRITES", FAULTS_TESTS
    ),
    Mutation(
        "a body that breaks off half-way can't be planned for a source",
        FAULTS,
        '_WITH_BODY | {"read"}',
        "_WITH_BODY",
        FAULTS_TESTS,
    ),
    Mutation(
        "a fault on one part strikes others later",
        FAULTS,
        "            and fault.part_number in (None, call.part_number)\n",
        "",
        FAULTS_TESTS,
    ),
    Mutation(
        "a death waits for a source that is being read",
        FAULTS,
        "None if operation in SOURCE_OPERATIONS else threading.get_ident()",
        "threading.get_ident()",
        FAULTS_TESTS,
    ),
    Mutation(
        "a listing is read after its call",
        FAULTY,
        "lambda: list(self.inner.list_uploads(prefix))",
        "lambda: self.inner.list_uploads(prefix)",
        FAULTS_TESTS,
    ),
    Mutation(
        "a dead process reads its body to the end",
        FAULTY,
        "        for chunk in chunks:\n            self._plan.check_alive()\n",
        "        for chunk in chunks:\n",
        FAULTS_TESTS,
    ),
    Mutation(
        "where there is no checksum none can be wrong",
        FAULTY,
        "(value.crc64 or 0) ^ 1",
        "value.crc64 and value.crc64 ^ 1",
        FAULTS_TESTS,
    ),
    Mutation(
        "reading that fails is called writing that fails",
        FAULTY,
        'CheckpointError if operation in {"load", "scan"} else CheckpointUnwritable',
        "CheckpointUnwritable",
        FAULTS_TESTS,
    ),
    Mutation(
        "an old record is two steps older", FAULTY, "checkpoint.parts[:-1]", "checkpoint.parts[:-2]", FAULTS_TESTS
    ),
    Mutation(
        "a source without a time can't change",
        FAULTY,
        "mtime_ns=(fingerprint.mtime_ns or 0) + 1",
        "mtime_ns=fingerprint.mtime_ns and fingerprint.mtime_ns + 1",
        FAULTS_TESTS,
    ),
]
