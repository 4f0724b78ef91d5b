"""Mutations of the test kit."""

from __future__ import annotations

from mutated.mutation import Mutation

FAULTS = "core/testing/faults.py"
FAULTS_TESTS = ("tests/testing/test_faults.py",)
FAULTY = "core/testing/faulty.py"
CONFORMANCE = "core/testing/conformance/"
TRANSFERS = f"{CONFORMANCE}backend_transfers.py"
OVER_HTTP = ("tests/testing/test_the_kit_catches_http_backends.py",)
BACKENDS = ("tests/testing/test_the_kit_catches_backends.py",)
TOOLS = ("tests/testing/test_conformance_tools.py",)

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
    Mutation(
        "faults are never injected into a scan",
        FAULTS,
        '"delete", "scan", "check_claim")',
        '"delete", "check_claim")',
        FAULTS_TESTS,
    ),
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
        "return of_this_part and ",
        "return ",
        FAULTS_TESTS,
    ),
    Mutation(
        "a crash waits for a source that is being read",
        FAULTS,
        "None if calling[0] in SOURCE_OPERATIONS else threading.get_ident()",
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
        'CheckpointError if operation in {"load", "scan", "check_claim"} else CheckpointUnwritable',
        "CheckpointUnwritable",
        FAULTS_TESTS,
    ),
    Mutation(
        "a store that can't be reached for a moment can't be called again",
        FAULTY,
        'raise refused(f"{INJECTED}: {fault}", name=name, retryable=True)',
        'raise refused(f"{INJECTED}: {fault}", name=name)',
        FAULTS_TESTS,
    ),
    Mutation(
        "a claim that was lost is held again at the next write",
        FAULTY,
        "if FaultKind.CLAIM_LOST.applies_to(operation) and self.plan.has_injected(FaultKind.CLAIM_LOST):",
        "if _of_kind(faults, FaultKind.CLAIM_LOST):",
        FAULTS_TESTS,
    ),
    Mutation(
        "the time that an append takes is not compared",
        "core/testing/conformance/store_records.py",
        "        if many <= 3 * few + 0.001:",
        "        if many:",
        ("tests/testing/test_the_kit_catches_shared_stores.py -k CopyingOnTheServer",),
    ),
    Mutation(
        "a claim that waits is not noticed",
        "core/testing/conformance/store_claims.py",
        "            assert quickest < _REFUSED_WITHIN,",
        "            assert quickest < 60,",
        ("tests/testing/test_the_kit_catches_shared_stores.py -k ClaimsWait",),
    ),
    Mutation(
        "a lease that is not renewed is not noticed",
        "core/testing/conformance/store_claims.py",
        "    time.sleep(max(_HELD_FOR, 1.5 * harness.claim_outlives_its_process))",
        "    time.sleep(0.01)",
        ("tests/testing/test_the_kit_catches_shared_stores.py -k NeverRenews",),
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
    Mutation(
        "a backend may hold a whole body in memory",
        TRANSFERS,
        "assert body.held < allowed",
        "assert body.held < size * 4",
        OVER_HTTP,
    ),
    Mutation("a backend may retry a request", TRANSFERS, "assert made <= 1", "assert made <= 9", OVER_HTTP),
    Mutation(
        "bytes may count as progress twice",
        TRANSFERS,
        "        backend.upload_part(upload.key, upload.upload_id, 1, body)\n        assert body.bytes_read == len(data)",
        "        backend.upload_part(upload.key, upload.upload_id, 1, body)\n        assert body.bytes_read >= len(data)",
        OVER_HTTP,
    ),
    Mutation(
        "pieces of bodies are not read in turns",
        TRANSFERS,
        "            self._barrier.wait(3.0)",
        "            pass",
        OVER_HTTP,
    ),
    Mutation(
        "a part that arrives damaged may end the upload",
        TRANSFERS,
        "assert error is None or error.retryable,",
        "assert error is None or error,",
        OVER_HTTP,
    ),
    Mutation(
        "an error in the body of a response may be permanent, or be none",
        TRANSFERS,
        "        error = must_raise(\n            BackendError, duty, failing.complete_upload,",
        "        error = ServerFailed()\n        (\n            BackendError, duty, failing.complete_upload,",
        OVER_HTTP,
    ),
    Mutation(
        "a location may differ in another process",
        TRANSFERS,
        "assert locations == [backend.location], (",
        "assert locations, (",
        OVER_HTTP,
    ),
    Mutation(
        "no more entries than on a page are listed",
        TRANSFERS,
        "return harness.page_size + 1",
        "return harness.page_size",
        OVER_HTTP,
    ),
    Mutation(
        "the uploads of one key are never on two pages",
        TRANSFERS,
        "of_one_key = 1 if backend.capabilities.one_upload_per_key else 4",
        "of_one_key = 1",
        OVER_HTTP,
    ),
    Mutation(
        "retry_after may be lost",
        f"{CONFORMANCE}backend_contract.py",
        "assert waits is not None and 5 <= waits <= 8,",
        "assert waits is None or 5 <= waits <= 8,",
        OVER_HTTP,
    ),
    Mutation(
        "an upload of several of one key may be missing from a list",
        f"{CONFORMANCE}backend_uploads.py",
        'again = () if backend.capabilities.one_upload_per_key else ("list/b",) * 3',
        "again = ()",
        BACKENDS,
    ),
    Mutation(
        "a declared deviation of a behaviour may be obsolete",
        f"{CONFORMANCE}suite.py",
        "        except Exception:  # noqa: BLE001  # whatever a deviation raises\n            return\n        raise",
        "        except Exception:  # noqa: BLE001  # whatever a deviation raises\n            return\n        return\n        raise",
        TOOLS,
    ),
    Mutation(
        "a hook that is not given is not reported",
        f"{CONFORMANCE}suite.py",
        "            and getattr(type(self), name) is getattr(base, name)",
        "            and getattr(type(self), name) is not getattr(base, name)",
        TOOLS,
    ),
    Mutation(
        "a failing machine is shortened for minutes",
        f"{CONFORMANCE}machines.py",
        'limits["MAX_SHRINKING_SECONDS"] = seconds',
        "pass",
        TOOLS,
    ),
    Mutation(
        "the ResumeMachine sends parts that are too large for the storage",
        "core/testing/_proof/state_machine.py",
        "part_size=min(self.part_size + parameters.more, self.limits.max_part_size)",
        "part_size=self.part_size + parameters.more",
        TOOLS,
    ),
    Mutation(
        "the machine sends a part again that is declared to be sent once",
        f"{CONFORMANCE}backend_machine.py",
        "            if number in pending.parts:\n                return\n",
        "",
        TOOLS,
    ),
    Mutation(
        "the machine loses the response to a part that is declared to be sent once",
        f"{CONFORMANCE}backend_machine.py",
        "            loss = None  # after which the part is sent again\n",
        "",
        TOOLS,
    ),
]
