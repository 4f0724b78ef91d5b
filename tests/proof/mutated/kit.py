"""Mutations of the test kit."""

from __future__ import annotations

from mutated.mutation import Mutation

FAULTS = "core/testing/faults.py"
FAULTS_TESTS = ("tests/testing/test_faults.py",)
FAULTY = "core/testing/faulty.py"

MUTATIONS = [
    Mutation(
        "the proxy accepts any number of clients",
        "core/testing/proxy.py",
        "links < _LINKS_MAX and ",
        "",
        ("tests/testing/test_proxy.py",),
    ),
    Mutation(
        "a proxy without file descriptors retries at once",
        "core/testing/proxy.py",
        "time.monotonic() + _PAUSE",
        "0.0",
        ("tests/testing/test_proxy.py",),
    ),
    Mutation(
        "faults are never injected into reading a source",
        FAULTS,
        'SOURCE_OPERATIONS = ("fingerprint", "body", "read")',
        'SOURCE_OPERATIONS = ("fingerprint", "body")',
        FAULTS_TESTS,
    ),
    Mutation("faults are never injected into a listing of uploads", FAULTS, ', "list_uploads")', ")", FAULTS_TESTS),
    Mutation("faults are never injected into a scan", FAULTS, '"delete", "scan")', '"delete")', FAULTS_TESTS),
    Mutation(
        "a lost response of a store can't be planned",
        FAULTS,
        "FaultKind.AFTER: frozenset(BACKEND_OPERATIONS) | _WRITES",
        "FaultKind.AFTER: frozenset(BACKEND_OPERATIONS)",
        FAULTS_TESTS,
    ),
    Mutation(
        "a wrong checksum in head can't be planned",
        FAULTS,
        ' | {"complete_upload", "head_object"}',
        ' | {"complete_upload"}',
        FAULTS_TESTS,
    ),
    Mutation(
        "an upload that is lost at complete can't be planned",
        FAULTS,
        '{"upload_part", "list_parts", "complete_upload"}',
        '{"upload_part", "list_parts"}',
        FAULTS_TESTS,
    ),
    Mutation("a claim on a read-only disk can't be planned", FAULTS, '_WRITES | {"claim"}', "_WRITES", FAULTS_TESTS),
    Mutation(
        "a source that fails half-way can't be planned",
        FAULTS,
        '_WITH_BODY | {"read"}',
        "_WITH_BODY",
        FAULTS_TESTS,
    ),
    Mutation(
        "a fault on one part is injected into others later",
        FAULTS,
        "            and fault.part_number in (None, call.part_number)\n",
        "",
        FAULTS_TESTS,
    ),
    Mutation(
        "a crash waits for a source that is being read",
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
        "a crashed process reads its body to the end",
        FAULTY,
        "        for chunk in chunks:\n            self._plan.check_alive()\n",
        "        for chunk in chunks:\n",
        FAULTS_TESTS,
    ),
    Mutation(
        "a missing checksum can't be wrong",
        FAULTY,
        "(value.checksum or 0) ^ 1",
        "value.checksum and value.checksum ^ 1",
        FAULTS_TESTS,
    ),
    Mutation(
        "a failing read raises the error of a failing write",
        FAULTY,
        'CheckpointError if operation in {"load", "scan"} else CheckpointUnwritable',
        "CheckpointUnwritable",
        FAULTS_TESTS,
    ),
    Mutation(
        "an old checkpoint is two steps older", FAULTY, "checkpoint.parts[:-1]", "checkpoint.parts[:-2]", FAULTS_TESTS
    ),
    Mutation(
        "a source without an mtime can't change",
        FAULTY,
        "mtime_ns=(fingerprint.mtime_ns or 0) + 1",
        "mtime_ns=fingerprint.mtime_ns and fingerprint.mtime_ns + 1",
        FAULTS_TESTS,
    ),
]
