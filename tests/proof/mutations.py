"""
Does the proof notice when the engine is broken?

    python tests/proof/mutations.py                 all of them
    python tests/proof/mutations.py claim record    those whose name holds one of these words
    python tests/proof/mutations.py --jobs 2        so many at a time

Each mutation is one line of thought gone wrong: a check that is left out, an order that is turned round, a failure that
is swallowed. It is made in a copy of the tree, never in the tree itself, and the tests of the proof are run against the
copy until the first one fails. One that no test notices is a promise that nobody holds; the script then ends with 1.

A mutation names the code that it replaces. If that code is gone or is there twice, it says so and fails: mend the
mutation, not the check.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import define

ROOT = Path(__file__).resolve().parents[2]

PROOF = (
    "tests/proof/test_counterexamples.py",
    "tests/proof/test_defects.py",
    "tests/proof/test_every_instant.py",
    "tests/proof/test_machine.py",
)
#: What is sure to notice comes first where that is not among the quickest.
STORE_FAILS = ("tests/proof/test_every_instant.py -k store_or_source", *PROOF)
STORAGE_FAILS = ("tests/proof/test_every_instant.py -k storage", *PROOF)
WISHES = ("tests/proof/test_every_instant.py -k wish", *PROOF)
STORES = ("tests/stores",)
MOVED = ("tests/core/test_moved_sources.py",)
DISK = ("tests/proof/test_every_system_call.py", "tests/soak/test_power_loss.py")
BELIEVED = ("tests/core/test_ledger.py", "tests/core/test_deciding.py", "tests/core/test_completing.py")
ENGINE_BOUNDS = (
    "tests/core/test_pacing.py",
    "tests/core/test_run.py",
    "tests/core/test_deciding.py",
    "tests/core/test_completing.py",
    "tests/core/test_progress.py",
    "tests/core/test_sending.py",
    "tests/core/test_engine.py",
)
OUTSIDE = (
    "tests/core/test_calling.py",
    "tests/core/test_sending.py",
    "tests/core/test_endings.py",
    "tests/core/test_threads.py",
    "tests/core/test_transport.py",
    "tests/core/test_uploader.py",
)
SENT_AHEAD = ("tests/core/test_transport.py", "tests/core/test_threads.py", "tests/oss/test_small_parts.py")
EXPECTED = ("tests/core/test_expected_source.py",)
SOURCE_FAILS = ("tests/core/test_transient_source_errors.py",)
PRINTED = ("tests/cli/test_output.py", "tests/cli/test_wording.py")
COMMANDS = (
    "tests/cli/test_pending.py",
    "tests/cli/test_usage.py",
    "tests/cli/test_status.py",
    "tests/cli/test_asking.py",
)
CLI_OUTPUT = "core/cli/output.py"
CLI_STREAMS = "core/cli/streams.py"
CLI_WORDING = "core/cli/wording.py"
CLI_PENDING = "core/cli/pending.py"
CLI_RETRIES = "core/cli/retries.py"
CLI_OPENING = "core/cli/opening.py"
SERVER = "core/testing/oss_server/"
WHO_ASKS, BOUNDS = ("tests/oss_server/test_hosts.py",), ("tests/oss_server/test_bounds.py",)
FOLDERS = ("tests/oss_server/test_folders.py",)
SERVE_AND_DEMO = ("tests/cli/test_serve_demo.py -k 'not show_ends_well_and and not show_takes'",)
HTTP1 = "backends/oss/http1.py"
OPTIONS = "backends/oss/options.py"
CREDENTIALS = "backends/oss/credentials.py"
SIGNING = "backends/oss/signing.py"
CONNECTIONS = "backends/oss/transport.py"
FAULTS = "core/testing/faults.py"
MEMORY = "backends/memory.py"
CHECKS = "backends/_checks.py"
MEMORY_STORE = "stores/memory.py"
APPENDING = "stores/_appending.py"
CLAIMS = "stores/_claims.py"
DOCUMENTS = "backends/oss/documents.py"
ADDRESSING = "backends/oss/addressing.py"
PACING_TESTS = ("tests/core/test_pacing.py",)
HTTP1_TESTS = ("tests/oss/test_bounds_of_answers.py",)
OPTIONS_TESTS = ("tests/oss/test_bounds_of_options.py",)
CREDENTIALS_TESTS = ("tests/oss/test_credentials.py",)
SIGNING_TESTS = ("tests/oss/test_signing.py",)
CONNECTIONS_TESTS = ("tests/oss/test_transport.py",)
FAULTS_TESTS = ("tests/testing/test_faults.py",)
MEMORY_TESTS = (
    "tests/backends/test_memory.py",
    "tests/backends/test_contract.py -k memory",
)
MEMORY_STORE_TESTS = ("tests/stores/test_memory.py",)
APPENDING_TESTS = ("tests/stores/test_appending.py",)
CLAIMS_TESTS = ("tests/stores/test_claims.py -k 'lock_file_is or took_the_table'",)
DOCUMENTS_TESTS = ("tests/oss/test_documents.py",)
ADDRESSING_TESTS = ("tests/oss/test_addressing.py",)
THREADS_TESTS = ("tests/core/test_threads.py",)
FAULTY = "core/testing/faulty.py"
URLS = "backends/oss/urls.py"
PLANNING = "core/planning.py"
URLS_TESTS = ("tests/oss/test_urls.py",)
PROGRESS_TESTS = ("tests/core/test_progress.py",)
RECALL_TESTS = ("tests/core/test_transport.py -k recall",)
PLANNING_TESTS = ("tests/core/test_planning.py",)
DIRECTORY = ("tests/backends/test_local_safety.py", "tests/backends/test_local.py")
SIGNALS = "core/_signals.py"
SECONDS_MAX = 600
_PROFILE = "--hypothesis-profile=mutation"


@define(frozen=True)
class Mutation:
    """
    One way to break the engine.

    Args:
        name: what is wrong then.
        file: where, from the root.
        before: the code that is replaced.
        after: what it is replaced by.
        tests: what has to notice, in the order in which to run it.
    """

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...] = PROOF

    def apply(self, tree: Path) -> None:
        """Make it in a copy of the tree."""
        path = tree / self.file
        code = path.read_text()
        if code.count(self.before) != 1:
            raise LookupError(f"{self.name}: {self.file} has its code {code.count(self.before)} times, not once")
        path.write_text(code.replace(self.before, self.after))


ENGINE, RUN, LEDGER = "core/engine.py", "core/run.py", "core/ledger.py"
SENDING, COMPLETING, ENDINGS = "core/sending.py", "core/completing.py", "core/endings.py"
MODEL, DECIDING, RETRYING, TRANSPORT = "core/model.py", "core/deciding.py", "core/retrying.py", "core/transport.py"
THREADS, CALLING, UPLOADER = "core/threads.py", "core/calling.py", "core/uploader.py"
PACING, PROGRESS = "core/pacing.py", "core/progress.py"
SOURCES = "core/sources.py"
FILES, JOURNAL = "core/_durable.py", "stores/_journal.py"

MUTATIONS = [
    # --- the order of things -----------------------------------------------------------------------------------------
    Mutation(
        "the claim is not taken",
        ENGINE,
        "        with Claim(run.store, run):\n            return self._live()",
        "        return self._live()",
    ),
    Mutation(
        "the claim is let go of early",
        ENGINE,
        "        with Claim(run.store, run):\n            return self._live()",
        "        with Claim(run.store, run):\n            pass\n        return self._live()",
    ),
    Mutation(
        "the first save is left out", ENGINE, "            call_plugin(run.store.save, intent)", "            pass"
    ),
    Mutation(
        "a first save that fails is swallowed",
        ENGINE,
        "            call_plugin(run.store.save, intent)",
        "            try:\n                run.store.save(intent)\n            except Exception:\n                pass",
        STORE_FAILS,
    ),
    Mutation(
        "the second save is left out",
        ENGINE,
        "                call_plugin(run.store.save, run.checkpoint)\n        except",
        "                pass\n        except",
    ),
    Mutation(
        "a second save that fails is swallowed",
        ENGINE,
        "                drop(run)\n                run.checkpoint = None\n            raise\n",
        "                pass\n",
        STORE_FAILS,
    ),
    Mutation(
        "a second save that fails leaves the upload",
        ENGINE,
        "                drop(run)\n                run.checkpoint = None\n            raise\n",
        "                pass\n            raise\n",
        STORE_FAILS,
    ),
    Mutation("receipts are not recorded", ENGINE, "        run.remember(receipt)\n", ""),
    Mutation(
        "the checkpoint is deleted before complete",
        ENGINE,
        "        return finished(run, complete(run, self._send_missing))",
        "        forget(run)\n        return finished(run, complete(run, self._send_missing))",
    ),
    Mutation(
        "the checkpoint is kept after a success",
        ENDINGS,
        "    forget(run)\n    run.checkpoint = None",
        "    run.checkpoint = None",
    ),
    # --- the source --------------------------------------------------------------------------------------------------
    Mutation(
        "the source is not looked at after a part",
        ENGINE,
        "        moved = run.source_moved\n        run.check_source()\n",
        "        moved = run.source_moved\n",
    ),
    Mutation("the source is not looked at before complete", COMPLETING, "        run.check_source()\n", ""),
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
        "            compare_moved(run)\n",
        "            pass\n",
        MOVED,
    ),
    Mutation(
        "a source that was replaced on the way is sent to its end",
        ENGINE,
        "            compare_moved(run)  #",
        "            pass  #",
        MOVED,
    ),
    Mutation(
        "a file that was opened under another inode is taken for the same",
        "core/sources.py",
        "                self.others.add(status.st_ino)\n",
        "                pass\n",
        MOVED,
    ),
    Mutation(
        "one piece is a mixture of two files",
        ENGINE,
        "        if run.source_moved:\n            run.source_moved = False  #",
        "        if False:\n            run.source_moved = False  #",
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
        "    seen = asked_before and run.backend",
        "    seen = run.backend",
        BELIEVED,
    ),
    Mutation(
        "parts of an upload that a storage can't list are not compared",
        COMPLETING,
        "    seen = asked_before and run.backend.capabilities.lists_parts",
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
        '        if run.order.config.part_size not in ("auto", checkpoint.part_size):',
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
        "    if run.fingerprint.content is not None and",
        "    if False and",
    ),
    # --- what is carried on ------------------------------------------------------------------------------------------
    Mutation(
        "the checkpoint is trusted without the list",
        DECIDING,
        "    if not run.backend.capabilities.lists_parts:",
        "    if True:",
    ),
    Mutation(
        "a list that fails counts as gone",
        DECIDING,
        "    except UploadNotFound:\n        return Answer.GONE",
        "    except Exception:\n        return Answer.GONE",
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
    Mutation(
        "options that act late are a reason to start again",
        MODEL,
        "        return evolve(self, **{name: getattr(_NO_OPTIONS, name) for name in _LATE_OPTIONS})",
        "        return self",
    ),
    Mutation("a part of a stream is skipped without a look", ENGINE, " or candidate.crc64 != checksum_of(body):", ":"),
    Mutation(
        "a stream that is resumed sends all its parts", ENGINE, "                self._candidates = candidates\n", ""
    ),
    Mutation("ids to be aborted are forgotten", ENGINE, "token=token, abandoned=abandoned)", "token=token)"),
    Mutation(
        "an upload that is given up is not aborted",
        ENGINE,
        "        abandoned = abort_all(run, start.abandon)",
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
        '            logger.warning("the storage lost the upload of %s: %s", run.target, error, extra=run.log_fields())',
        "            raise UploadNotFound(str(error)) from error",
    ),
    Mutation(
        "a lost stream leaves its record",
        ENGINE,
        "            call_plugin(run.source.close)\n            forget(run)",
        "            call_plugin(run.source.close)",
    ),
    Mutation(
        "a lost stream is not opened again",
        ENGINE,
        "            call_plugin(run.source.close)\n            forget(run)",
        "            forget(run)",
    ),
    # --- parts that are sent ahead -----------------------------------------------------------------------------------
    Mutation(
        "a receipt that is waited for is believed unseen",
        TRANSPORT,
        "        return lambda: self._agreed(self._attempted(answer))",
        "        return lambda: self._attempted(answer)",
        SENT_AHEAD,
    ),
    Mutation(
        "what is on its way is forgotten when the upload ends",
        THREADS,
        "        if (self._kept or self._begun) and self._finished.empty():",
        "        if self._kept and self._finished.empty():",
        SENT_AHEAD,
    ),
    Mutation(
        "whoever sends parts by itself is passed by",
        TRANSPORT,
        '        if "upload_part" in vars(ancestor):\n            break\n',
        "",
        SENT_AHEAD,
    ),
    Mutation(
        "more parts are sent ahead than were asked for",
        THREADS,
        "(_AHEAD if self._kept[0].in_two_steps else 0)",
        "100",
        SENT_AHEAD,
    ),
    # --- the way to OSS ----------------------------------------------------------------------------------------------
    Mutation(
        "part heads that were signed long ago are used again",
        "backends/oss/backend.py",
        "same = (key, upload_id, issued.generation, int(now))",
        "same = (key, upload_id, issued.generation, 0)",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "the clock's offset is taken when the answer comes",
        "backends/oss/backend.py",
        "self._clock.correct(theirs, sent.offset)",
        "self._clock.correct(theirs, self._clock.offset)",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "an answer by plain HTTP corrects the clock as far as one by TLS",
        "backends/oss/backend.py",
        'authenticated=scheme == "https" or (found is None and is_loopback(host))',
        "authenticated=True",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "the clock is corrected without bound",
        "backends/oss/clock.py",
        "        if not abs(server_time - now) <= self._limit:",
        "        if False:",
        ("tests/oss/test_clock.py",),
    ),
    Mutation(
        "the host is not signed",
        "backends/oss/backend.py",
        '_ADDITIONAL_HEADERS = ("host",)',
        "_ADDITIONAL_HEADERS = ()",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "the wait that a failing storage asks for is taken from throttling alone",
        "backends/oss/failures.py",
        "retry_after(answer) if retryable else None",
        "retry_after(answer) if kind is Throttled else None",
        ("tests/oss/test_failures.py",),
    ),
    Mutation(
        "the storage may ask for any wait",
        "backends/oss/failures.py",
        "min(max(seconds, 0.0), _RETRY_AFTER_SECONDS_MAX)",
        "max(seconds, 0.0)",
        ("tests/oss/test_failures.py",),
    ),
    Mutation(
        "a body is not closed when sending fails",
        "backends/oss/transport.py",
        "            if isinstance(body, GeneratorType):",
        "            if False:",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "an answer may drip for ever",
        "backends/oss/transport.py",
        "_SILENCES_PER_ANSWER * read_timeout",
        "1e9",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "a TLS record may drip for ever",
        "backends/oss/tls.py",
        "            return self._done(partial(self._tls.read, size), self.deadline)",
        "            return self._done(partial(self._tls.read, size))",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "a TLS handshake may drip for ever",
        "backends/oss/tls.py",
        "self._done(self._tls.do_handshake, deadline)",
        "self._done(self._tls.do_handshake)",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "a proxy may drip for ever",
        "backends/oss/transport.py",
        'read_answer(_receiving(sock, deadline), "CONNECT")',
        'read_answer(sock.recv, "CONNECT")',
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "a proxy that asks for a password is asked again",
        "backends/oss/transport.py",
        "transient = not lasting or answer.status in (408, 429)",
        "transient = True",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "what is not TLS is connected to again and again",
        "backends/oss/transport.py",
        "return not ended and error.reason not in _TRANSIENT_TLS",
        "return False",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "a handshake that breaks is final",
        "backends/oss/transport.py",
        "return not ended and error.reason not in _TRANSIENT_TLS",
        "return True",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "a list of parts has no end",
        "backends/oss/backend.py",
        "if count > most or empty > _EMPTY_PAGES_MAX:",
        "if empty > _EMPTY_PAGES_MAX:",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "a list of empty pages has no end",
        "backends/oss/backend.py",
        "if count > most or empty > _EMPTY_PAGES_MAX:",
        "if count > most:",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "a size of any length is read",
        "backends/oss/backend.py",
        " and len(length) <= _SIZE_DIGITS_MAX",
        "",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "a page of any number of elements is read",
        "backends/oss/documents.py",
        'text.count("<") > 2 * _ELEMENTS_MAX',
        "False",
        ("tests/oss/test_documents.py",),
    ),
    Mutation(
        "a document of any depth is read",
        "backends/oss/documents.py",
        "if depth > _DEPTH_MAX:",
        "if False:",
        ("tests/oss/test_documents.py",),
    ),
    Mutation(
        "elements of any number of attributes are read",
        "backends/oss/documents.py",
        "if len(_ATTRIBUTES.findall(text)) > _WITH_ATTRIBUTES_MAX:",
        "if False:",
        ("tests/oss/test_documents.py",),
    ),
    Mutation(
        "the frames of chunks do not count",
        "backends/oss/http1.py",
        "if len(body) + size + framing > BODY_BYTES_MAX:",
        "if len(body) + size > BODY_BYTES_MAX:",
        ("tests/oss/test_http1.py",),
    ),
    Mutation(
        "an answer has any number of headers",
        "backends/oss/http1.py",
        "if len(fields) > HEADERS_MAX:",
        "if False:",
        ("tests/oss/test_http1.py",),
    ),
    Mutation(
        "a weak ETag is another one",
        "backends/oss/documents.py",
        "        etag = etag[2:]",
        "        pass",
        ("tests/oss/test_documents.py",),
    ),
    Mutation(
        "a secret is shown as paths quote it",
        "backends/oss/redaction.py",
        'in_path = quote(secret, safe=""), quote(secret, safe="/")',
        'in_path = quote(secret, safe=""), secret',
        ("tests/oss/test_redaction.py",),
    ),
    Mutation(
        "a part of a secret is shown",
        "backends/oss/redaction.py",
        "_RUN = 12",
        "_RUN = 20",
        ("tests/oss/test_redaction.py",),
    ),
    Mutation(
        "the signature is shown",
        "backends/oss/backend.py",
        "        return (*sent.issued.credentials.secrets, *self._transport.secrets, *own)",
        "        return (*sent.issued.credentials.secrets, *self._transport.secrets)",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "the password of a proxy is shown",
        "backends/oss/backend.py",
        "        return (*sent.issued.credentials.secrets, *self._transport.secrets, *own)",
        "        return (*sent.issued.credentials.secrets, *own)",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "the id of a request is shown as it came",
        "backends/oss/failures.py",
        'word(document.get("RequestId"), request_id)',
        'document.get("RequestId") or request_id',
        ("tests/oss/test_failures.py",),
    ),
    Mutation(
        "where a redirect points is shown as it came",
        "backends/oss/failures.py",
        'location = word(answer.headers.get("location"))',
        'location = answer.headers.get("location")',
        ("tests/oss/test_failures.py",),
    ),
    Mutation(
        "a broken configuration is the context of its error",
        "backends/oss/ossutil.py",
        '    except configparser.Error:\n        return "is not a configuration file of ossutil"',
        '    except configparser.Error:\n        raise InvalidInput(f"{file} is not a configuration file of ossutil") from None',
        ("tests/oss/test_ossutil.py",),
    ),
    Mutation(
        "HTTP_PROXY is read",
        "backends/oss/proxies.py",
        '"http": ("http_proxy",)',
        '"http": ("http_proxy", "HTTP_PROXY")',
        ("tests/oss/test_proxies.py",),
    ),
    Mutation(
        "this machine is reached by the environment's proxy",
        "backends/oss/proxies.py",
        " or is_loopback(host)",
        "",
        ("tests/oss/test_proxies.py",),
    ),
    Mutation(
        "a callback is posted to anything",
        "backends/oss/options.py",
        "not all(map(_is_callback_url, urls))",
        "False",
        ("tests/oss/test_options.py",),
    ),
    # --- completing --------------------------------------------------------------------------------------------------
    Mutation("complete is sent with a gap", COMPLETING, "    if not run.ledger.is_whole():", "    if False:"),
    Mutation(
        "a part is left out",
        ENGINE,
        "        for number in run.ledger.missing():\n",
        "        for number in list(run.ledger.missing())[:1]:\n",
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
        "    return _object_of_a_lost_answer(run, gone=False, asked_before=True) if may_have_happened else None",
        "    return None",
        STORAGE_FAILS,
    ),
    Mutation(
        "an upload that is gone at complete is taken for lost",
        COMPLETING,
        "            stored = _object_of_a_lost_answer(run, gone=True, asked_before=failures > 0)",
        "            stored = None",
    ),
    Mutation(
        "an object of the same bytes alone is a success",
        COMPLETING,
        "    if not (gone or _is_gone(run)):",
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
        "        return head.metadata.get(TOKEN_NAME) == run.checkpoint.token",
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
        "        return Undecidable(facts.head, found)",
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
        " or receipt.size != len(self.body) or receipt.crc64 not in (None, sent):",
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
        "    run.check_expected(run.ledger.plan.size, run.ledger.crc64() if run.order.expected_crc64 is not None else None)\n",
        "",
        EXPECTED,
    ),
    Mutation(
        "an object in one piece may be another than expected",
        ENGINE,
        "        run.check_expected(len(body), checksum_of(body) if run.order.expected_crc64 is not None else None)\n",
        "",
        EXPECTED,
    ),
    Mutation(
        "an empty stream drops what was sent, though more was expected",
        ENGINE,
        "                run.check_expected(end, None, so_far=len(body) == part.size)\n",
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
        "a stale file is read again",
        SOURCES,
        "                files.discard(file)",
        "                files.give_back(file)",
        SOURCE_FAILS,
    ),
    Mutation(
        "other open files of a stale one stay open",
        SOURCES,
        """        self._close(file)
        self._close_idle()
""",
        """        self._close(file)
""",
        SOURCE_FAILS,
    ),
    Mutation(
        "a stream that uses its buffer again is stored corrupt",
        SOURCES,
        "            piece = bytes(piece)",
        "            piece = memoryview(piece)",
        ("tests/core/test_sources.py",),
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
        "                try:\n                    self._accept(outcome.receipt)",
        "                try:\n                    pass",
    ),
    Mutation(
        "parts that nobody began are sent though the upload ends", SENDING, "        self._transport.recall()\n", ""
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
        "a time limit that a plug-in translated is tried again",
        SIGNALS,
        "        found += (one.__context__, one.__cause__)\n",
        "",
        OUTSIDE,
    ),
    Mutation(
        "what a failed call was given stays in memory",
        SIGNALS,
        "        values.clear()\n",
        "        pass\n",
        OUTSIDE,
    ),
    Mutation(
        "a time limit that is being handled counts as a new one",
        SIGNALS,
        "    seen = {id(handled), id(None)}",
        "    seen = {id(None)}",
        OUTSIDE,
    ),
    Mutation(
        "an exit leaves what can't be resumed",
        ENGINE,
        "            stop_for(run, error)\n            raise\n",
        "            raise\n",
        OUTSIDE,
    ),
    Mutation(
        "an exit after a cancel keeps the upload",
        ENDINGS,
        "    if run.control.cancelled:\n        drop(run)\n        return\n",
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
        "an exit of the thread that waits leaves the upload running",
        UPLOADER,
        "            self.pause()\n            self._wait_for_the_end()\n            raise\n",
        "            raise\n",
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
        "no more threads is the end of the upload",
        TRANSPORT,
        "    return isinstance(error, MemoryError) or",
        "    return False and",
        OUTSIDE,
    ),
    Mutation(
        "what an executor refused and kept is sent twice",
        TRANSPORT,
        "            _withdrawn.add(attempt)\n",
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
        "        self.flow = Flow(self._limit, ",
        "        self.flow = Flow(self._limit and BandwidthLimit(self._limit.rate, self.clock), ",
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
    Mutation(
        "a coroutine is begun after the stop",
        PROGRESS,
        "        if self._abandoned:\n            _discard_if_not_begun(answer)\n        elif",
        "        if",
        ENGINE_BOUNDS,
    ),
    # --- wrong types and numbers -------------------------------------------------------------------------------------
    Mutation(
        "any number of parts at a time can be asked for",
        "core/config.py",
        "whole(1, CONCURRENCY_MAX)",
        "whole(1)",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "parts at a time are bounded by another number",
        "core/config.py",
        "CONCURRENCY_MAX = 1000",
        "CONCURRENCY_MAX = 999",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "the first wait between attempts is another",
        "core/config.py",
        "default=0.5, validator=_seconds",
        "default=5.0, validator=_seconds",
        ("tests/core/test_config.py",),
    ),
    Mutation(
        "the longest wait between attempts is another",
        "core/config.py",
        "default=30.0, validator=_seconds",
        "default=3.0, validator=_seconds",
        ("tests/core/test_config.py",),
    ),
    Mutation(
        "progress is reported as often as there is time",
        "core/config.py",
        "default=0.2, validator=_seconds",
        "default=0.0, validator=_seconds",
        ("tests/core/test_config.py",),
    ),
    Mutation(
        "a mebibyte has another size",
        "core/model.py",
        "MIB = 1024 * KIB",
        "MIB = 1000 * KIB",
        ("tests/core/test_model.py",),
    ),
    Mutation(
        "a storage of unknown limits takes more parts",
        "core/model.py",
        "max_parts: int = field(default=10_000",
        "max_parts: int = field(default=20_000",
        ("tests/core/test_model.py",),
    ),
    Mutation(
        "a storage of unknown limits takes parts of more bytes",
        "core/model.py",
        "max_part_size: int = field(default=5 * GIB",
        "max_part_size: int = field(default=6 * GIB",
        ("tests/core/test_model.py",),
    ),
    Mutation(
        "the last bound of a number is not in it",
        "core/_checking.py",
        "if least <= value <= highest:",
        "if least <= value < highest:",
        ("tests/core/test_model.py",),
    ),
    Mutation(
        "a checkpoint holds anything in place of receipts",
        "core/model.py",
        ", validator=all_of(UploadedPart)",
        "",
        ("tests/core/test_model.py",),
    ),
    Mutation(
        "a text is taken for several texts",
        "core/_checking.py",
        "if isinstance(value, str | bytes) or not isinstance(value, Iterable):",
        "if not isinstance(value, Iterable):",
        ("tests/core/test_model.py",),
    ),
    Mutation(
        "what is not a number is waited for",
        "core/_checking.py",
        " or value != value:  # noqa: PLR0124  # NaN alone",
        ":",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "a wait for longer than clocks go raises OverflowError",
        "core/uploader.py",
        "            timeout = min(timeout, threading.TIMEOUT_MAX)\n",
        "",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "a lone surrogate is a text like others",
        "core/_checking.py",
        "        except UnicodeEncodeError:\n            raise error(",
        "        except UnicodeEncodeError:\n            return value\n            raise error(",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "a path with a NUL gets to the system",
        "core/_checking.py",
        'if not found or "\\0" in found:',
        "if not found:",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "a removed working directory is no wrong usage",
        "core/_checking.py",
        "    except OSError as error:  # of os.getcwd\n",
        "    except NotADirectoryError as error:  # of os.getcwd\n",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "a backend takes any body",
        "backends/_checks.py",
        'check_methods("a body", body, ("chunks", "__len__"), "something with a length and chunks()")',
        "None",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "a backend takes any receipts",
        "backends/_checks.py",
        "    if not (is_list and all(",
        "    if not (is_list or all(",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "what can not be called is registered",
        "core/plugins.py",
        '    check_callable("factory", factory)\n    _registered[BACKENDS',
        "    _registered[BACKENDS",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "a store saves what is not a checkpoint",
        "stores/_checks.py",
        '    check_type("what a store saves", checkpoint, Checkpoint, "a Checkpoint")',
        '    check_type("what a store saves", checkpoint, object, "a Checkpoint")',
        ("tests/core/test_wrong_calls.py",),
    ),
    # --- endings -----------------------------------------------------------------------------------------------------
    Mutation(
        "a pause drops the upload",
        ENDINGS,
        "    drop_if_unrecorded(run)\n    raise stop(\n        run,\n        UploadPaused,",
        "    drop(run)\n    raise stop(\n        run,\n        UploadPaused,",
        WISHES,
    ),
    Mutation(
        "a cancel keeps the upload",
        ENDINGS,
        "        dropped = drop(run)\n        raise stop(",
        "        dropped = True\n        raise stop(",
        WISHES,
    ),
    Mutation(
        "a cancel before complete is not heard",
        COMPLETING,
        "        run.control.check()\n        _check_whole(run)",
        "        _check_whole(run)",
    ),
    Mutation(
        "a record is deleted though the abort failed",
        ENDINGS,
        "    if abort_all(run, (*checkpoint.abandoned, *own)):\n        return False",
        "    abort_all(run, (*checkpoint.abandoned, *own))",
    ),
    Mutation(
        "the upload of a source that changed is kept",
        ENDINGS,
        "    dropped = drop(run)\n    aftermath",
        "    dropped = True\n    aftermath",
    ),
    Mutation(
        "an upload that nobody can carry on is left behind",
        ENDINGS,
        "    if not run.keeps_progress:\n        drop(run)",
        "    pass",
        WISHES,
    ),
    Mutation(
        "old uploads are not aborted at the end",
        ENDINGS,
        "    left = abort_all(run, run.checkpoint.abandoned)",
        "    left = ()",
    ),
    Mutation(
        "what is left behind is not told",
        ENDINGS,
        '        run.warn(f"the upload {upload_id} could not be aborted: {error}")\n',
        "",
    ),
    Mutation(
        "what else went wrong does not go with the error",
        ENGINE,
        "                error.add_note(warning)",
        "                pass",
    ),
    Mutation("a wish disturbs the cleaning up", ENDINGS, "    run.control = Control()", "    pass"),
    Mutation(
        "a failed callback is a failure",
        ENGINE,
        "            finished_but_for_the_callback(run, error)",
        "            failed(run, error)",
    ),
    Mutation(
        "a failed callback is a success",
        ENDINGS,
        '    raise CallbackError(\n        f"{run.key} is stored',
        '    return result\n    raise CallbackError(\n        f"{run.key} is stored',
    ),
    Mutation("resume='require' starts again", DECIDING, '    if run.order.resume != "require" or', "    if True or"),
    # --- progress ----------------------------------------------------------------------------------------------------
    Mutation(
        "the end is told before complete",
        ENGINE,
        "        return finished(run, complete(run, self._send_missing))",
        "        run.report(completed=True)\n        return finished(run, complete(run, self._send_missing))",
    ),
    Mutation("the end is not told", ENDINGS, "        run.report(completed=True)\n", "        pass\n"),
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
    # --- the file store ----------------------------------------------------------------------------------------------
    Mutation(
        "a save is not synced",
        FILES,
        "            write(file, data)\n            sync(file)",
        "            write(file, data)",
        (*DISK[1:], *STORES),
    ),
    Mutation(
        "the name of a save is not synced",
        FILES,
        "        raise\n    sync_directory(os.path.dirname(path))",
        "        raise",
        (*DISK[1:], *STORES),
    ),
    Mutation(
        "a save is written in place",
        FILES,
        "        os.replace(temporary, path)",
        '        with open(path, "wb") as target:\n            target.write(data)\n        os.unlink(temporary)',
        (*DISK, *STORES),
    ),
    # --- what others may have planted, and what is too large ----------------------------------------------------------
    Mutation(
        "a file of another user is trusted",
        FILES,
        "    if status.st_uid not in (os.geteuid(), 0):",
        "    if status.st_uid is None:",
        ("tests/core/test_durable.py", "tests/stores/test_shared_places.py"),
    ),
    Mutation(
        "a file that others may write is trusted",
        FILES,
        "    if status.st_mode & _WRITABLE_BY_OTHERS:",
        "    if status.st_mode & 0:",
        ("tests/core/test_durable.py",),
    ),
    Mutation(
        "what was swapped before it was opened is used",
        FILES,
        "        _refuse(path, judge(os.fstat(file), directory=directory))",
        "        pass",
        ("tests/core/test_durable.py",),
    ),
    Mutation(
        "a link that was swapped in is followed",
        FILES,
        '_flags("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")',
        '_flags("O_NONBLOCK", "O_BINARY")',
        ("tests/core/test_durable.py",),
    ),
    Mutation(
        "what others planted is removed",
        FILES,
        "    if is_trusted(path):\n        with suppress(FileNotFoundError):",
        "    if True:\n        with suppress(FileNotFoundError):",
        ("tests/stores/test_shared_places.py",),
    ),
    Mutation(
        "a new private file is taken for private",
        FILES,
        "        if (reason := untrusted(os.fstat(file))) is not None:",
        "        if (reason := untrusted(os.fstat(file))) is not None and False:",
        ("tests/stores/test_shared_places.py",),
    ),
    Mutation(
        "a write-only directory fails to be synced",
        FILES,
        "_UNSYNCABLE = {errno.EACCES, errno.EPERM, ",
        "_UNSYNCABLE = {",
        ("tests/core/test_durable.py",),
    ),
    Mutation(
        "a new directory is not synced into the one above",
        FILES,
        "    else:\n        sync_directory(parent)",
        "    else:\n        pass",
        ("tests/stores/test_syncs.py",),
    ),
    Mutation(
        "a planted checkpoint is replaced",
        "stores/file.py",
        "            _check_replaceable(path)\n",
        "",
        ("tests/stores/test_shared_places.py",),
    ),
    Mutation(
        "a planted file gives way to another that is set aside",
        "stores/_places.py",
        "    if not os.path.lexists(aside) or (files.is_trusted(aside) and files.is_trusted(path)):",
        "    if True:",
        ("tests/stores/test_shared_places.py",),
    ),
    Mutation(
        "a planted lock is taken",
        "stores/_claims.py",
        "        if files.check_trusted(path).st_size:",
        "        if os.stat(path, follow_symlinks=False).st_size:",
        ("tests/stores/test_shared_places.py",),
    ),
    Mutation(
        "a lock that was swapped while it was taken is held",
        "stores/_claims.py",
        "        _check_lock(lock, path)",
        "        pass",
        ("tests/stores/test_claims.py", "tests/stores/test_shared_places.py"),
    ),
    Mutation(
        "what SQLite reads beside a database is not looked at",
        "stores/_database.py",
        '_BESIDE = ("-journal", "-wal", "-shm")',
        '_BESIDE = ("-journal", "-shm")',
        ("tests/stores/test_shared_places.py",),
    ),
    Mutation(
        "a database that was swapped while it was opened is used",
        "stores/_database.py",
        "            ready = _is_ready(connection)\n            self._check_opened()",
        "            ready = _is_ready(connection)",
        ("tests/stores/test_shared_places.py",),
    ),
    Mutation(
        "a database is opened where others may put a journal beside it",
        "stores/_database.py",
        "        _check_directory(os.path.dirname(self.path))\n",
        "",
        ("tests/stores/test_shared_places.py",),
    ),
    Mutation(
        "any schema is taken for ours",
        "stores/_database.py",
        "        _check_schema(connection)\n",
        "",
        ("tests/stores/test_bounds.py -k letter",),
    ),
    Mutation(
        "SQLite may work without end",
        "stores/_database.py",
        "        return self._operations > _OPERATIONS_MAX",
        "        return self._operations > 1000 * _OPERATIONS_MAX",
        ("tests/stores/test_bounds.py -k work",),
    ),
    Mutation(
        "a new database is not synced into its directory",
        "stores/_database.py",
        "            return\n        files.sync_directory(os.path.dirname(self.path))",
        "            return",
        ("tests/stores/test_syncs.py",),
    ),
    Mutation(
        "a checkpoint file of any size is read",
        "stores/file.py",
        "    return files.read(path, journal.BYTES_MAX + 1)",
        "    return files.read(path, 2**62)",
        ("tests/stores/test_bounds.py -k gibibytes",),
    ),
    Mutation(
        "a line of any length is read",
        JOURNAL,
        "            if end - self.length > LINE_MAX:",
        "            if False:",
        ("tests/stores/test_bounds.py",),
    ),
    Mutation(
        "any number of seconds is a date",
        MODEL,
        " or not 0 <= value <= _SECONDS_MAX:",
        " or value < 0 or value > _SECONDS_MAX:",
        ("tests/core/test_structuring.py",),
    ),
    Mutation(
        "a part may have any number",
        "core/structuring.py",
        "            if number > PART_NUMBER_MAX or",
        "            if number > 2**40 or",
        ("tests/core/test_structuring.py",),
    ),
    Mutation(
        "lines are not chained",
        JOURNAL,
        "    return blake2b(before + body, digest_size=_DIGEST_BYTES).digest()",
        "    return blake2b(body, digest_size=_DIGEST_BYTES).digest()",
        (*PROOF[1:2], *STORES),
    ),
    Mutation(
        "a torn line counts as damage",
        JOURNAL,
        '        while (end := data.find(b"\\n", self.length)) >= 0:',
        '        while self.length < len(data) and (end := data.find(b"\\n", self.length) % (len(data) + 1)):',
        (*DISK, *STORES),
    ),
    Mutation(
        "what is printed is not escaped",
        CLI_OUTPUT,
        "if isinstance(piece, Painted) else shown(piece) for piece",
        "if isinstance(piece, Painted) else piece for piece",
        PRINTED,
    ),
    Mutation(
        "what is painted is not escaped",
        CLI_OUTPUT,
        "painted(shown(piece), piece.colour, stream)",
        "painted(piece, piece.colour, stream)",
        PRINTED,
    ),
    Mutation(
        "bytes that are not text are printed as they are",
        CLI_WORDING,
        "    return sign if sign.isprintable() else sign",
        '    return sign if sign.isprintable() or "\\ud800" <= sign <= "\\udfff" else sign',
        PRINTED,
    ),
    Mutation("JSON is not ASCII", CLI_OUTPUT, "(data, ensure_ascii=True,", "(data, ensure_ascii=False,", PRINTED),
    Mutation(
        "the lines of a traceback look like ours",
        CLI_OUTPUT,
        'f"  {line}" for line in written',
        "line for line in written",
        PRINTED,
    ),
    Mutation(
        "a stream that fails ends the command",
        CLI_STREAMS,
        "        except (OSError, ValueError) as error:  # ValueError: it was closed",
        "        except ValueError as error:",
        PRINTED,
    ),
    Mutation(
        "a stream that was closed ends the command",
        CLI_STREAMS,
        "        except (OSError, ValueError) as error:  # ValueError: it was closed",
        "        except OSError as error:",
        PRINTED,
    ),
    Mutation(
        "a file gets the number of a closed stream",
        CLI_STREAMS,
        "    _occupy_closed_descriptors()\n    before",
        "    before",
        PRINTED,
    ),
    Mutation(
        "a list that is cut short is a success",
        CLI_STREAMS,
        "        return self.failure is not None and",
        "        return False and",
        PRINTED,
    ),
    Mutation(
        "gc does not ask",
        CLI_PENDING,
        "        asks = orphans > 0 and not",
        "        asks = orphans > 0 and False and not",
        COMMANDS,
    ),
    Mutation(
        "gc drops after a no",
        CLI_PENDING,
        "            drop = output.ask(",
        "            output.ask(",
        COMMANDS,
    ),
    Mutation(
        "gc does not look again after the answer",
        CLI_PENDING,
        "                judged = _judged_again(judged, backend, store)  # the",
        "                pass  # the",
        COMMANDS,
    ),
    Mutation(
        "gc drops what runs here",
        CLI_PENDING,
        '        return evolve(judged, orphan=False, why="an upload is running here")',
        "        return judged",
        COMMANDS,
    ),
    Mutation(
        "gc reads the ids before the claims only",
        CLI_PENDING,
        "for one in (*first, *second) for",
        "for one in first for",
        COMMANDS,
    ),
    Mutation(
        "gc drops what an unreadable checkpoint may own",
        CLI_PENDING,
        "    if judged.orphan and found.unreadable:",
        "    if False:",
        COMMANDS,
    ),
    Mutation(
        "gc takes a place that is not there for an empty one",
        CLI_PENDING,
        "    wanted.store.check_that_it_is_there(the_file_too=True)\n",
        "",
        COMMANDS,
    ),
    Mutation(
        "gc warns below a minute only",
        CLI_PENDING,
        "_LIKELY_RUNNING = 3600.0",
        "_LIKELY_RUNNING = 60.0",
        COMMANDS,
    ),
    Mutation(
        "an age needs no unit",
        "core/cli/asking.py",
        "    if re.fullmatch(_NUMBER, number):\n",
        "    if False:\n",
        COMMANDS,
    ),
    Mutation(
        "what is kept in memory is taken for kept", CLI_OPENING, '.lower() == "memory":', '.lower() == "":', COMMANDS
    ),
    Mutation(
        "a directory without its slash is a prefix",
        CLI_OPENING,
        "    if os.path.isdir(directory / key):",
        "    if False:",
        COMMANDS,
    ),
    Mutation(
        "commands retry nothing",
        CLI_RETRIES,
        "            result = call_with_retries(attempt, policy, self._wait, note)",
        "            result = attempt()",
        COMMANDS,
    ),
    Mutation(
        "a list that breaks off tells what it has told",
        CLI_RETRIES,
        " if (one.key, one.upload_id) not in seen)",
        ")",
        COMMANDS,
    ),
    Mutation(
        "a storage that is down is waited for at each request",
        CLI_RETRIES,
        "evolve(self._policy, max_attempts=1) if self._down else self._policy",
        "self._policy",
        COMMANDS,
    ),
    Mutation(
        "one odd entry hides all of status",
        "core/cli/status.py",
        "    except Exception:  # noqa: BLE001  # see above",
        "    except ZeroDivisionError:",
        COMMANDS,
    ),
    Mutation(
        "all servers have one key",
        SERVER + "settings.py",
        "    return (AccessKey.new(),)",
        '    return (AccessKey("id", "secret"),)',
        WHO_ASKS,
    ),
    Mutation(
        "any host may be named",
        SERVER + "service.py",
        "        check_hosts(exchange.request, exchange.settings, self._listens_on)\n",
        "",
        WHO_ASKS,
    ),
    Mutation(
        "a web page of another site may ask",
        SERVER + "hosts.py",
        "    if origin is not None:\n        try:",
        "    if False:\n        try:",
        WHO_ASKS,
    ),
    Mutation(
        "a name is allowed where only addresses are",
        SERVER + "hosts.py",
        "    if _listens_everywhere(listens_on) and _is_address(host):",
        "    if _listens_everywhere(listens_on):",
        WHO_ASKS,
    ),
    Mutation(
        "a host below the bucket of one that was given may be named",
        SERVER + "hosts.py",
        '    return host in names or host.partition(".")[2] in names',
        "    return any(host.endswith(name) for name in names)",
        WHO_ASKS,
    ),
    Mutation(
        "a request without a signature is answered",
        SERVER + "signatures.py",
        "        if settings.allow_anonymous:\n            return None\n        raise",
        "        return None\n        raise",
        WHO_ASKS,
    ),
    Mutation(
        "a presigned URL holds before its time",
        SERVER + "signatures.py",
        "    if now < begin:",
        "    if False:",
        ("tests/oss_server/test_signatures.py",),
    ),
    Mutation(
        "a server that needs no signature listens for others",
        SERVER + "server.py",
        "    if settings.allow_anonymous and not is_loopback(host):",
        "    if False:",
        ("tests/oss_server/test_server.py",),
    ),
    Mutation(
        "requests are kept for ever",
        SERVER + "service.py",
        "            self._received.shrink(exchange.settings.kept_requests)\n",
        "            pass\n",
        BOUNDS,
    ),
    Mutation(
        "large requests are kept for ever",
        SERVER + "recent.py",
        "(len(self._entries) > entries_max or self._bytes > self._bytes_max)",
        "len(self._entries) > entries_max",
        BOUNDS,
    ),
    Mutation(
        "what is dropped still counts", SERVER + "recent.py", "        self._bytes -= size\n", "        pass\n", BOUNDS
    ),
    Mutation(
        "any number of clients is served",
        SERVER + "server.py",
        "            if len(self._open) >= self._connections_max():",
        "            if False:",
        BOUNDS,
    ),
    Mutation(
        "a client that went keeps its place",
        SERVER + "server.py",
        "            with self._lock:\n                del self._open[threading.current_thread()]",
        "            pass",
        BOUNDS,
    ),
    Mutation(
        "a head may drip for ever",
        SERVER + "connection.py",
        "            patience = end - time.monotonic()\n",
        "            patience = self._silence\n",
        BOUNDS,
    ),
    Mutation(
        "a body may drip for ever",
        SERVER + "connection.py",
        "            waited += self._receive(",
        "            self._receive(",
        BOUNDS,
    ),
    Mutation(
        "a body that stops is waited for the longer the more came",
        SERVER + "connection.py",
        "min(self._silence, left))",
        "left)",
        BOUNDS,
    ),
    Mutation(
        "an answer is waited for as long as is left of the request",
        SERVER + "connection.py",
        "        self._socket.settimeout(self._silence)\n",
        "        pass\n",
        BOUNDS,
    ),
    Mutation(
        "a large head that comes at once is taken",
        SERVER + "connection.py",
        "    if size > _HEAD_BYTES_MAX:",
        "    if False:",
        BOUNDS,
    ),
    Mutation(
        "any number of headers is taken", SERVER + "connection.py", "len(event.headers) > _FIELDS_MAX or ", "", BOUNDS
    ),
    Mutation(
        "a client that was refused may send for ever", SERVER + "body.py", " or time.monotonic() > end:", ":", BOUNDS
    ),
    Mutation(
        "a chunked body may fill the disk",
        SERVER + "body.py",
        "            if self.received > BODY_BYTES_MAX:",
        "            if False:",
        BOUNDS,
    ),
    Mutation(
        "a document type is read",
        SERVER + "documents.py",
        "        parser.StartDoctypeDeclHandler = self._refuse\n",
        "",
        BOUNDS,
    ),
    Mutation(
        "a document may be nested without end",
        SERVER + "documents.py",
        " or len(self._path) > _DEPTH_MAX:",
        ":",
        BOUNDS,
    ),
    Mutation(
        "a document may have elements without end",
        SERVER + "documents.py",
        "self._elements > _ELEMENTS_MAX or ",
        "",
        BOUNDS,
    ),
    Mutation(
        "a callback is posted to any machine",
        SERVER + "callbacks.py",
        "        if not is_loopback(host):",
        "        if False:",
        ("tests/oss_server/test_callbacks.py",),
    ),
    Mutation(
        "an application server may drip for ever",
        SERVER + "callbacks.py",
        "    timer.start()\n    try:\n        yield\n    finally:\n        timer.cancel()\n        timer.join()",
        "    yield",
        ("tests/oss_server/test_callbacks.py",),
    ),
    Mutation(
        "a link is a bucket",
        SERVER + "buckets.py",
        " and folder.is_dir() and not folder.is_symlink()",
        " and folder.is_dir()",
        FOLDERS,
    ),
    Mutation(
        "a folder that becomes a link is a bucket",
        SERVER + "buckets.py",
        "                if backend.directory != folder:",
        "                if False:",
        FOLDERS,
    ),
    Mutation(
        "a link at the end is followed",
        "backends/_local_directories.py",
        '        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr',
        "        flags |= getattr",
        (*FOLDERS, *DIRECTORY),
    ),
    Mutation(
        "what is no file is read",
        "backends/_local_directories.py",
        "        if not stat.S_ISREG(os.fstat(descriptor).st_mode):",
        "        if False:",
        (*FOLDERS, *DIRECTORY),
    ),
    Mutation("folders are made for everybody", SERVER + "buckets.py", "_PRIVATE = 0o700", "_PRIVATE = 0o755", FOLDERS),
    Mutation("serve keeps requests", "core/cli/serve.py", "kept_requests=0", "kept_requests=1", SERVE_AND_DEMO),
    Mutation("a weak secret is taken", "core/cli/serve.py", "len(secret) < _SECRET_LENGTH_MIN or ", "", SERVE_AND_DEMO),
    Mutation(
        "the secret that was given is shown",
        "core/cli/serve.py",
        'f"${_SECRET}" if given else server.access_key_secret',
        "server.access_key_secret",
        SERVE_AND_DEMO,
    ),
    Mutation(
        "a signal is let in while the demo starts an upload",
        "core/cli/demo.py",
        "        if not self._is_held:\n",
        "        if True:\n",
        SERVE_AND_DEMO,
    ),
    Mutation(
        "a signal that came too early is forgotten",
        "core/cli/demo.py",
        "        if self._number is not None:\n",
        "        if False:\n",
        SERVE_AND_DEMO,
    ),
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
        "sum(list(self._moved.values()))",
        "sum(self._moved.values())",
        PACING_TESTS,
    ),
    Mutation(
        "a head may be twice as long", HTTP1, "HEAD_BYTES_MAX = 64 * 1024", "HEAD_BYTES_MAX = 128 * 1024", HTTP1_TESTS
    ),
    Mutation(
        "a head is refused a little early",
        HTTP1,
        "if held > longest:\n                raise TooLong",
        "if held >= longest:\n                raise TooLong",
        HTTP1_TESTS,
    ),
    Mutation(
        "a body may be twice as long",
        HTTP1,
        "BODY_BYTES_MAX = 8 * 1024 * 1024",
        "BODY_BYTES_MAX = 16 * 1024 * 1024",
        HTTP1_TESTS,
    ),
    Mutation(
        "a body may have half of its length",
        HTTP1,
        "BODY_BYTES_MAX = 8 * 1024 * 1024",
        "BODY_BYTES_MAX = 4 * 1024 * 1024",
        HTTP1_TESTS,
    ),
    Mutation(
        "the largest body by its length is refused",
        HTTP1,
        "int(length) > BODY_BYTES_MAX",
        "int(length) >= BODY_BYTES_MAX",
        HTTP1_TESTS,
    ),
    Mutation(
        "a trailer is refused a little early",
        HTTP1,
        "if trailer > HEAD_BYTES_MAX",
        "if trailer >= HEAD_BYTES_MAX",
        HTTP1_TESTS,
    ),
    Mutation("more is received at a time", HTTP1, "_RECEIVE = 64 * 1024", "_RECEIVE = 256 * 1024", HTTP1_TESTS),
    Mutation("one interim answer more is borne", HTTP1, "_INTERIM_MAX = 8", "_INTERIM_MAX = 9", HTTP1_TESTS),
    Mutation("one interim answer fewer is borne", HTTP1, "_INTERIM_MAX = 8", "_INTERIM_MAX = 7", HTTP1_TESTS),
    Mutation(
        "the last of the interim answers is taken for the final one",
        HTTP1,
        "if status >= 200:",
        "if status >= 199:",
        HTTP1_TESTS,
    ),
    Mutation("the length of a chunk may be longer", HTTP1, "len(size_text) <= 16", "len(size_text) <= 17", HTTP1_TESTS),
    Mutation(
        "the length of a chunk must be shorter", HTTP1, "len(size_text) <= 16", "len(size_text) < 16", HTTP1_TESTS
    ),
    Mutation(
        "a storage class of the service is refused",
        OPTIONS,
        ', "ColdArchive", "DeepColdArchive")',
        ', "ColdArchive")',
        OPTIONS_TESTS,
    ),
    Mutation(
        "an access rule of the service is refused",
        OPTIONS,
        ', "public-read", "public-read-write")',
        ', "public-read")',
        OPTIONS_TESTS,
    ),
    Mutation(
        "an encryption of the service is refused",
        OPTIONS,
        '("AES256", "KMS", "SM4")',
        '("AES256", "KMS")',
        OPTIONS_TESTS,
    ),
    Mutation(
        "a form is refused as the body of a callback",
        OPTIONS,
        '("application/x-www-form-urlencoded", "application/json")',
        '("application/json",)',
        OPTIONS_TESTS,
    ),
    Mutation(
        "a callback may have more bytes than the service takes",
        OPTIONS,
        "CALLBACK_BYTES_MAX = 5 * KIB",
        "CALLBACK_BYTES_MAX = 6 * KIB",
        OPTIONS_TESTS,
    ),
    Mutation(
        "a callback is refused a little early",
        OPTIONS,
        "len(text) > CALLBACK_BYTES_MAX",
        "len(text) >= CALLBACK_BYTES_MAX",
        OPTIONS_TESTS,
    ),
    Mutation(
        "a provider that failed is asked at once",
        CREDENTIALS,
        "_PAUSE_AFTER_FAILURE = 10.0",
        "_PAUSE_AFTER_FAILURE = 5.0",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a provider that failed is left alone for longer",
        CREDENTIALS,
        "_PAUSE_AFTER_FAILURE = 10.0",
        "_PAUSE_AFTER_FAILURE = 20.0",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a pause keeps credentials that have expired",
        CREDENTIALS,
        "paused if issued.good_until is None else min(paused, issued.good_until)",
        "paused",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a client is asked again later", CREDENTIALS, "_HOLD_SECONDS = 30.0", "_HOLD_SECONDS = 60.0", CREDENTIALS_TESTS
    ),
    Mutation(
        "a client is asked again sooner", CREDENTIALS, "_HOLD_SECONDS = 30.0", "_HOLD_SECONDS = 15.0", CREDENTIALS_TESTS
    ),
    Mutation(
        "credentials are used at the second at which they expire",
        CREDENTIALS,
        "now < issued.good_until",
        "now <= issued.good_until",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a URL for a week is refused", SIGNING, "1 <= expires_in <= PRESIGN", "1 <= expires_in < PRESIGN", SIGNING_TESTS
    ),
    Mutation(
        "a URL for a second is refused", SIGNING, "if not 1 <= expires_in", "if not 1 < expires_in", SIGNING_TESTS
    ),
    Mutation(
        "a connection is idle for longer",
        CONNECTIONS,
        "_IDLE_SECONDS_MAX = 50.0",
        "_IDLE_SECONDS_MAX = 50.5",
        CONNECTIONS_TESTS,
    ),
    Mutation("a connection is idle for less", CONNECTIONS, "since >= oldest", "since > oldest", CONNECTIONS_TESTS),
    Mutation(
        "a connection is trusted for longer",
        CONNECTIONS,
        "_RECENT_SECONDS = 1.0",
        "_RECENT_SECONDS = 2.0",
        CONNECTIONS_TESTS,
    ),
    Mutation(
        "a connection is trusted for less",
        CONNECTIONS,
        "_RECENT_SECONDS = 1.0",
        "_RECENT_SECONDS = 0.5",
        CONNECTIONS_TESTS,
    ),
    Mutation(
        "a connection of a second ago is trusted",
        CONNECTIONS,
        "if since > recent",
        "if since >= recent",
        CONNECTIONS_TESTS,
    ),
    Mutation("a tab at the end of a value is kept", HTTP1, ' or "\\t\\r" in lines', "", HTTP1_TESTS),
    Mutation(
        "a length of thousands of digits is read", HTTP1, "len(length) > 12 or int(length)", "int(length)", HTTP1_TESTS
    ),
    Mutation(
        "letters beyond ASCII are not encoded",
        SIGNING,
        "text if text.isalnum() and text.isascii()",
        "text if text.isalnum()",
        SIGNING_TESTS,
    ),
    Mutation(
        "additional headers are found in their own case alone",
        SIGNING,
        "asked & {name.lower() for name in headers}",
        "asked & set(headers)",
        SIGNING_TESTS,
    ),
    Mutation(
        "a V1 URL expires at a fraction of a second",
        SIGNING,
        "str(int(time) + expires_in)",
        "str(time + expires_in)",
        SIGNING_TESTS,
    ),
    Mutation("quick parts are never tried by the loop", THREADS, "_QUICK = 0.001", "_QUICK = 0.0005", THREADS_TESTS),
    Mutation("slow parts are tried by the loop", THREADS, "_QUICK = 0.001", "_QUICK = 0.002", THREADS_TESTS),
    Mutation("the loop may be slower by half", THREADS, "_TOLERANCE = 1.25", "_TOLERANCE = 1.5", THREADS_TESTS),
    Mutation("the loop may not be slower at all", THREADS, "_TOLERANCE = 1.25", "_TOLERANCE = 1.0", THREADS_TESTS),
    Mutation("a try is timed too early", THREADS, "_SETTLING = 8", "_SETTLING = 7", THREADS_TESTS),
    Mutation("a try is timed too late", THREADS, "_SETTLING = 8", "_SETTLING = 9", THREADS_TESTS),
    Mutation(
        "processors are busy too early",
        THREADS,
        "_BUSY, _AT_LEISURE = 0.4, 0.25",
        "_BUSY, _AT_LEISURE = 0.35, 0.25",
        THREADS_TESTS,
    ),
    Mutation(
        "processors are busy too late",
        THREADS,
        "_BUSY, _AT_LEISURE = 0.4, 0.25",
        "_BUSY, _AT_LEISURE = 0.45, 0.25",
        THREADS_TESTS,
    ),
    Mutation(
        "processors are at leisure too early",
        THREADS,
        "_BUSY, _AT_LEISURE = 0.4, 0.25",
        "_BUSY, _AT_LEISURE = 0.4, 0.3",
        THREADS_TESTS,
    ),
    Mutation(
        "processors are at leisure too late",
        THREADS,
        "_BUSY, _AT_LEISURE = 0.4, 0.25",
        "_BUSY, _AT_LEISURE = 0.4, 0.2",
        THREADS_TESTS,
    ),
    Mutation("the processors are looked at twice as often", THREADS, "_LOOKS = 4", "_LOOKS = 2", THREADS_TESTS),
    Mutation("the processors are looked at half as often", THREADS, "_LOOKS = 4", "_LOOKS = 8", THREADS_TESTS),
    Mutation(
        "two parts at one tick of the clock are divided by nothing",
        THREADS,
        "max(now - self._since, 1e-9)",
        "(now - self._since)",
        THREADS_TESTS,
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
        "a long list of parts comes in larger pieces",
        DOCUMENTS,
        "_PIECE_BYTES = 64 * 1024",
        "_PIECE_BYTES = 128 * 1024",
        DOCUMENTS_TESTS,
    ),
    Mutation(
        "each part of a long list is a piece", DOCUMENTS, "if len(piece) > _PIECE_BYTES:", "if piece:", DOCUMENTS_TESTS
    ),
    Mutation(
        "a checksum may have any number of digits", DOCUMENTS, "len(text) <= 20 and (value", "(value", DOCUMENTS_TESTS
    ),
    Mutation(
        "a checksum may have a digit more",
        DOCUMENTS,
        "len(text) <= 20 and (value",
        "len(text) <= 21 and (value",
        DOCUMENTS_TESTS,
    ),
    Mutation(
        "a document type without an entity is read", DOCUMENTS, ' or "<!DOCTYPE" in text or', " or", DOCUMENTS_TESTS
    ),
    Mutation(
        "the last page is known in lower case alone",
        DOCUMENTS,
        '_text(page, "IsTruncated").lower()',
        '_text(page, "IsTruncated")',
        DOCUMENTS_TESTS,
    ),
    Mutation("part 0 is a part", CHECKS, "not 1 <= part_number", "not 0 <= part_number", MEMORY_TESTS),
    Mutation(
        "the largest part is refused",
        CHECKS,
        "size > limits.max_part_size",
        "size >= limits.max_part_size",
        MEMORY_TESTS,
    ),
    Mutation(
        "the largest object at once is refused",
        CHECKS,
        "size > limits.max_put_size",
        "size >= limits.max_put_size",
        MEMORY_TESTS,
    ),
    Mutation(
        "the largest object in parts is refused",
        CHECKS,
        "total > limits.max_object_size",
        "total >= limits.max_object_size",
        MEMORY_TESTS,
    ),
    Mutation("a part may be named twice", CHECKS, "before >= after", "before > after", MEMORY_TESTS),
    Mutation(
        "a body that never ends is read on",
        CHECKS,
        "        if received > expected:\n            break\n",
        "        if received > 9 * expected:\n            break\n",
        MEMORY_TESTS,
    ),
    Mutation(
        "a body of another length is stored",
        CHECKS,
        "    if received != expected:",
        "    if received < expected:",
        MEMORY_TESTS,
    ),
    Mutation(
        "uploads are listed by any piece of their key",
        MEMORY,
        "if upload.key.startswith(prefix)",
        "if prefix in upload.key",
        MEMORY_TESTS,
    ),
    Mutation(
        "a part that arrives after an abort is acknowledged",
        MEMORY,
        "self._storage.upload(key, upload_id).parts[part_number] = _Part",
        "self._storage.uploads.get(upload_id, _Upload(key, upload_id, utc(0), ObjectOptions())).parts[part_number] = _Part",
        MEMORY_TESTS,
    ),
    Mutation(
        "a chunk in memory is kept beyond its time",
        MEMORY,
        'b"".join(bytes(chunk) for chunk in chunks)',
        'b"".join(chunks)',
        MEMORY_TESTS,
    ),
    Mutation(
        "complete overwrites what it must not",
        MEMORY,
        "            self._check_overwrite(key, options)\n            check_parts(",
        "            check_parts(",
        MEMORY_TESTS,
    ),
    Mutation(
        "an upload of another key is aborted",
        MEMORY,
        "if upload is not None and upload.key == key:",
        "if upload is not None:",
        MEMORY_TESTS,
    ),
    Mutation(
        "a snapshot shares the parts", MEMORY, "upload_id: upload.copy() for", "upload_id: upload for", MEMORY_TESTS
    ),
    Mutation(
        "a saved checkpoint in memory changes from outside",
        MEMORY_STORE,
        "cls(deepcopy(evolve(checkpoint, parts=())),",
        "cls(evolve(checkpoint, parts=()),",
        MEMORY_STORE_TESTS,
    ),
    Mutation(
        "a loaded checkpoint in memory changes the store",
        MEMORY_STORE,
        "evolve(deepcopy(self.header),",
        "evolve(self.header,",
        MEMORY_STORE_TESTS,
    ),
    Mutation(
        "a claim in memory outlives an error",
        MEMORY_STORE,
        "        try:\n            yield\n        finally:\n            with memory.lock:\n                memory.claimed",
        "        yield\n        if True:\n            with memory.lock:\n                memory.claimed",
        MEMORY_STORE_TESTS,
    ),
    Mutation(
        "a second deletion in memory is an error",
        MEMORY_STORE,
        "entries.pop(name, None)",
        "entries.pop(name)",
        MEMORY_STORE_TESTS,
    ),
    Mutation(
        "a closed store in memory saves", MEMORY_STORE, "        self._begin(checkpoint.name)\n", "", MEMORY_STORE_TESTS
    ),
    Mutation(
        "a handle in memory has claims of its own",
        MEMORY_STORE,
        "        handle._memory = self._memory ",
        "        handle._memory.entries = self._memory.entries ",
        MEMORY_STORE_TESTS,
    ),
    Mutation("lines are added to a file that was removed", APPENDING, " and state.st_nlink:", ":", APPENDING_TESTS),
    Mutation(
        "what another process added is not seen", APPENDING, " and state.st_size == tail.length", "", APPENDING_TESTS
    ),
    Mutation(
        "a file that is not admitted stays open",
        APPENDING,
        "        except BaseException:\n            os.close(file)\n            raise",
        "        except BaseException:\n            raise",
        APPENDING_TESTS,
    ),
    Mutation(
        "a file that is not kept stays open",
        APPENDING,
        "                if not keep:\n                    self._close(path)",
        "                pass",
        APPENDING_TESTS,
    ),
    Mutation(
        "the lines of two threads meet",
        APPENDING,
        "        with self._lock:\n            tail = self._tail",
        "        if True:\n            tail = self._tail",
        APPENDING_TESTS,
    ),
    Mutation(
        "a forked child waits for a thread it does not have",
        APPENDING,
        "        self._lock = threading.Lock()\n        self.close()",
        "        self.close()",
        APPENDING_TESTS,
    ),
    Mutation(
        "a torn line is not cut off before the next",
        APPENDING,
        "            if len(data) > found.length:\n",
        "            if False:\n",
        APPENDING_TESTS,
    ),
    Mutation("a lock file is readable by everybody", CLAIMS, "mode=0o600", "mode=0o644", CLAIMS_TESTS),
    Mutation(
        "a forked child waits for the table of claims",
        CLAIMS,
        "    _held_lock = threading.Lock()\n\n\nif",
        "\n\nif",
        CLAIMS_TESTS,
    ),
    Mutation(
        "the bucket's name is refused at the front of any host",
        ADDRESSING,
        'if addressing_style == "virtual" and host.startswith',
        "if host.startswith",
        ADDRESSING_TESTS,
    ),
    Mutation(
        "white space around a region is refused",
        ADDRESSING,
        "region.strip().removeprefix",
        "region.removeprefix",
        ADDRESSING_TESTS,
    ),
    Mutation(
        "an endpoint of many regions is one of no region",
        ADDRESSING,
        "if region is not None and any(name",
        "if any(name",
        ADDRESSING_TESTS,
    ),
    Mutation(
        "a header that is no text breaks",
        OPTIONS,
        "if not isinstance(value, str) or not value:",
        "if not value:",
        OPTIONS_TESTS,
    ),
    Mutation(
        "the service is not asked for its parts",
        OPTIONS,
        "    lists_parts=True,",
        "    lists_parts=False,",
        OPTIONS_TESTS,
    ),
    Mutation(
        "the service is not asked for checksums of parts",
        OPTIONS,
        "    part_checksums=True,",
        "    part_checksums=False,",
        OPTIONS_TESTS,
    ),
    Mutation(
        "the service is not asked for checksums of objects",
        OPTIONS,
        "    object_checksums=True,",
        "    object_checksums=False,",
        OPTIONS_TESTS,
    ),
    Mutation(
        "credentials that never change are asked for again",
        CREDENTIALS,
        "    renewable = False",
        "    renewable = True",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "credentials that can't be renewed are asked for again",
        CREDENTIALS,
        "        if not self.provider.renewable:\n            return None\n",
        "",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a refusal is answered by each thread for itself",
        CREDENTIALS,
        "        with self._lock():\n            current = self._issued",
        "        if True:\n            current = self._issued",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "the same credentials again are asked for by every thread",
        CREDENTIALS,
        "before.generation + (refused or credentials != before.credentials)",
        "before.generation + (credentials != before.credentials)",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "credentials that were renewed early do not count",
        CREDENTIALS,
        "before.generation + (refused or credentials != before.credentials)",
        "before.generation + refused",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a child's threads ask for credentials at once",
        CREDENTIALS,
        "            self._pid = os.getpid()\n        return self._fetching",
        "        return self._fetching",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a secret that is no text breaks",
        CREDENTIALS,
        "if not isinstance(value, str) or not value:",
        "if not value:",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a token is not among the secrets",
        CREDENTIALS,
        "for secret in (self.access_key_secret, self.security_token) if secret",
        "for secret in (self.access_key_secret,) if secret",
        CREDENTIALS_TESTS,
    ),
    Mutation(
        "a lock file is removed after its lock was released",
        "stores/_claims.py",
        "    with ignored(OSError):\n        files.remove(path)\n    lock.release()",
        "    lock.release()\n    with ignored(OSError):\n        files.remove(path)",
        ("tests/stores/test_claims.py -k still_held",),
    ),
    Mutation(
        "half of a mark is nearly the mark",
        "stores/_checks.py",
        "return 4 * sum",
        "return 8 * sum",
        ("tests/stores/test_journal.py -k nearly",),
    ),
    Mutation(
        "a busy database is waited for half a second",
        "stores/_database.py",
        "_BUSY_SECONDS = 5.0",
        "_BUSY_SECONDS = 0.5",
        ("tests/stores/test_sqlite.py -k waited",),
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
    Mutation("a page size can't be given by a URL's settings", URLS, '    "page_size",\n', "", URLS_TESTS),
    Mutation("a name for the client can't be given by a URL's settings", URLS, '    "user_agent",\n', "", URLS_TESTS),
    Mutation(
        "an empty endpoint in the environment is one",
        URLS,
        'os.environ.get("OSS_ENDPOINT") or None',
        'os.environ.get("OSS_ENDPOINT")',
        URLS_TESTS,
    ),
    Mutation(
        "a recalled transport waits for nothing",
        TRANSPORT,
        "if outcome is not None or (self._recalled and self.idle):",
        "if outcome is not None:",
        RECALL_TESTS,
    ),
    Mutation(
        "a recall lasts beyond the next part",
        TRANSPORT,
        "        self._recalled = False\n        attempt",
        "        attempt",
        RECALL_TESTS,
    ),
    Mutation(
        "a call is awaited by nothing that holds it",
        PROGRESS,
        "            _under_way.add(task)\n",
        "            pass\n",
        PROGRESS_TESTS,
    ),
    Mutation("a call is held after its end", PROGRESS, "        _under_way.discard(task)\n", "", PROGRESS_TESTS),
    Mutation(
        "a pause by a loop tells what is in flight",
        PROGRESS,
        "bytes_done=progress.bytes_acknowledged",
        "bytes_done=progress.bytes_done",
        PROGRESS_TESTS,
    ),
    Mutation(
        "a pause without a checkpoint promises to carry on",
        PROGRESS,
        "resumable=checkpoint is not None",
        "resumable=True",
        PROGRESS_TESTS,
    ),
    Mutation(
        "a bar of tqdm loses its total",
        PROGRESS,
        "        if progress.bytes_total is not None:\n            bar.total",
        "        if True:\n            bar.total",
        PROGRESS_TESTS,
    ),
    Mutation("a bar of tqdm is not shown", PROGRESS, "        bar.refresh()\n", "", PROGRESS_TESTS),
    Mutation(
        "an upload spins while a call is awaited",
        PROGRESS,
        "                self._news.wait(_LOOK_AFTER)\n",
        "",
        PROGRESS_TESTS,
    ),
    Mutation(
        "a callback that needs a loop is told of another mistake",
        PROGRESS,
        "        if self.loop is None:\n            raise no_event_loop()\n",
        "",
        PROGRESS_TESTS,
    ),
    Mutation(
        "what can be awaited and is no coroutine breaks",
        PROGRESS,
        "if inspect.iscoroutine(answer) and inspect",
        "if inspect",
        PROGRESS_TESTS,
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
        "the processors are not watched",
        THREADS,
        "                self._load.part_done(now, self._used_in_all)\n",
        "                pass\n",
        THREADS_TESTS,
    ),
    Mutation(
        "the processors are watched where there are enough",
        THREADS,
        "if self._processors < self._workers and not",
        "if self._processors <= self._workers and not",
        THREADS_TESTS,
    ),
    Mutation(
        "the processors are watched while the loop sends",
        THREADS,
        "if self._processors < self._workers and not self._tempo.alone:",
        "if self._processors < self._workers:",
        THREADS_TESTS,
    ),
    Mutation(
        "parts under way are counted down twice",
        THREADS,
        "            self._under_way -= 1\n",
        "            self._under_way -= 2\n",
        THREADS_TESTS,
    ),
    Mutation(
        "a loop without parts does not wait",
        THREADS,
        "block=not (self._ending and self.idle)",
        "block=not self.idle",
        THREADS_TESTS,
    ),
    Mutation(
        "times are added up while others are noted",
        THREADS,
        "sum(list(self._used.values()))",
        "sum(self._used.values())",
        THREADS_TESTS,
    ),
    Mutation(
        "a transport is idle though an answer is due",
        THREADS,
        " and self._finished.empty() and not self._begun",
        " and self._finished.empty()",
        THREADS_TESTS,
    ),
    Mutation(
        "a directory is entered through a link",
        "backends/_local_directories.py",
        "os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._descriptor)",
        "os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._descriptor)",
        DIRECTORY,
    ),
    Mutation(
        "the bookkeeping is used whoever owns it",
        "backends/_local_directories.py",
        "            return Directory(path, open_trusted(name, directory=True, dir_fd=self._descriptor))",
        "            return self.enter(name)",
        DIRECTORY,
    ),
    Mutation(
        "an unused directory of the bookkeeping is not looked at",
        "backends/_local_bookkeeping.py",
        "                folder.refuse_foreign(name, status)",
        "                pass",
        DIRECTORY,
    ),
    Mutation(
        "left-overs of any name are removed",
        "backends/_local_uploads.py",
        "                if _STAGED.fullmatch(entry) or _COMMIT.fullmatch(entry):",
        "                if True:",
        DIRECTORY,
    ),
    Mutation(
        "parts of any name are removed",
        "backends/_local_uploads.py",
        "                        if _PART.fullmatch(entry) or _NEW_PART.fullmatch(entry):",
        "                        if True:",
        DIRECTORY,
    ),
    Mutation(
        "what is abandoned is so after minutes",
        "backends/local.py",
        "ABANDONED_AFTER = 24 * 60 * 60",
        "ABANDONED_AFTER = 24 * 60",
        DIRECTORY,
    ),
    Mutation(
        "what is abandoned is so after weeks",
        "backends/local.py",
        "ABANDONED_AFTER = 24 * 60 * 60",
        "ABANDONED_AFTER = 14 * 24 * 60 * 60",
        DIRECTORY,
    ),
    Mutation(
        "an object's bytes are not synced",
        "backends/local.py",
        "        sync(self.file)\n",
        "",
        DIRECTORY,
    ),
    Mutation(
        "an object's name is not synced",
        "backends/local.py",
        "                parent.sync()",
        "                pass",
        DIRECTORY,
    ),
    Mutation(
        "an upload's name is not synced",
        "backends/_local_bookkeeping.py",
        "        uploads.sync()",
        "        pass",
        DIRECTORY,
    ),
    Mutation(
        "an object has the permissions that the umask leaves",
        "backends/local.py",
        "        permissions = _PERMISSIONS if self._source is None else self._source.permissions",
        "        permissions = _PERMISSIONS",
        DIRECTORY,
    ),
    Mutation(
        "an object that is replaced loses its permissions",
        "backends/local.py",
        "staged.granted if replaced is None else replaced.st_mode & _PERMISSIONS_MASK",
        "staged.granted",
        DIRECTORY,
    ),
    Mutation(
        "a named pipe is replaced",
        "backends/local.py",
        "        if not stat.S_ISREG(found.st_mode):\n            raise BackendError(",
        "        if False:\n            raise BackendError(",
        DIRECTORY,
    ),
    Mutation(
        "a file is uploaded onto itself",
        "backends/local.py",
        "        if self._source is not None and self._source.is_file(found):",
        "        if False:",
        DIRECTORY,
    ),
    Mutation(
        "bookkeeping that was removed meanwhile is not made again",
        "backends/_local_directories.py",
        "            if tries == _TRIES_MAX:",
        "            if tries == 1:",
        DIRECTORY,
    ),
    Mutation(
        "a part is placed in an upload that was dropped",
        "backends/_local_uploads.py",
        "        if not self.stands():\n            raise",
        "        if False:\n            raise",
        DIRECTORY,
    ),
    Mutation(
        "a record of any size is read",
        "backends/_local_records.py",
        "            encoded = file.read(RECORD_BYTES_MAX + 1)",
        "            encoded = file.read()",
        DIRECTORY,
    ),
    Mutation(
        "a directory that is there already is not asked whether it may be written to",
        "backends/local.py",
        "            parent.check_writable(name)",
        "            pass",
        DIRECTORY,
    ),
    Mutation(
        "the lowest directory on the way is not asked whether it may be written to",
        "backends/local.py",
        "                parent.check_writable()",
        "                pass",
        DIRECTORY,
    ),
    Mutation(
        "the sticky bit is not looked at",
        "backends/_local_directories.py",
        "            if found is not None and found.st_uid != os.geteuid():\n                reason",
        "            if False:\n                reason",
        DIRECTORY,
    ),
    Mutation(
        "an abort says that it dropped what it could not remove",
        "core/uploader.py",
        "                call_plugin(run.store.load, run.name)  #",
        "                pass  #",
        ("tests/stores/test_shared_places.py -k abort",),
    ),
    Mutation(
        "files are made before it is known that a database can be kept there",
        "stores/sqlite.py",
        "                self._database.check_place()\n",
        "                pass\n",
        ("tests/stores/test_shared_places.py -k group",),
    ),
    Mutation(
        "a checkpoint of another version gives away the upload of another name",
        "stores/file.py",
        "                damage.upload_id = None  #",
        "                pass  #",
        ("tests/stores/test_file.py -k another_version",),
    ),
    Mutation(
        "the parts in a database have no size in all",
        "stores/sqlite.py",
        "        if size > journal.BYTES_MAX:\n            break\n",
        "",
        ("tests/stores/test_bounds.py -k in_all",),
    ),
    Mutation(
        "the schema of a database is read to its end",
        "stores/_database.py",
        " > _OPERATIONS_OF_SCHEMA_MAX",
        " > 1000 * _OPERATIONS_OF_SCHEMA_MAX",
        ("tests/stores/test_bounds.py -k schema",),
    ),
    Mutation(
        "parts that are larger than the storage takes are carried on",
        "core/ledger.py",
        " or largest > limits.max_part_size:",
        ":",
        ("tests/core/test_deciding.py -k no_storage_takes",),
    ),
    Mutation(
        "parts that are smaller than the storage takes are carried on",
        "core/ledger.py",
        "(plan.part_size < limits.min_part_size and total != 1) or ",
        "",
        ("tests/core/test_deciding.py -k no_storage_takes",),
    ),
    Mutation(
        "a list of pages of one entry is asked for a hundred thousand times",
        "backends/oss/backend.py",
        "if short > _SHORT_PAGES_MAX:",
        "if short > most:",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "an ETag of any length is kept for each part",
        "backends/oss/backend.py",
        "if len(etag) > NAME_MAX:",
        "if False:",
        ("tests/oss/test_backend.py",),
    ),
    Mutation(
        "a part is sent for ever at a byte a second",
        "backends/oss/silence.py",
        "if sent < (time.monotonic() - begun - _kernel_limit(sock)) * _RATE_MIN:",
        "if sent < 0:",
        ("tests/oss/test_silence.py",),
    ),
    Mutation(
        "a single pause is taken for slowness",
        "backends/oss/silence.py",
        "(time.monotonic() - begun - _kernel_limit(sock))",
        "(time.monotonic() - begun)",
        ("tests/oss/test_silence.py",),
    ),
    Mutation(
        "what is not HTTP is tried again where the part was not taken",
        "backends/oss/transport.py",
        "if broken is not None and not certain:",
        "if broken is not None:",
        ("tests/oss/test_transport.py",),
    ),
    Mutation(
        "what a server does not know is asked again and again",
        "backends/oss/failures.py",
        "if status >= 500 and status not in LASTING_FAILURES:",
        "if status >= 500:",
        ("tests/oss/test_failures.py",),
    ),
    Mutation(
        "an upload of a directory whose id is not learnt stays",
        "backends/local.py",
        "            if begun:\n",
        "            if not begun:\n",
        ("tests/backends/test_local_safety.py",),
    ),
    Mutation(
        "a part of a stream for which no file can be made is given up",
        SOURCES,
        "raise self._unspooled(error, retryable=is_transient(error))",
        "raise self._unspooled(error)",
        ("tests/core/test_transient_source_errors.py",),
    ),
    Mutation(
        "a signal handler that deletes its arguments is not known",
        SIGNALS,
        "trace.tb_frame.f_code in installed or ",
        "",
        OUTSIDE,
    ),
    Mutation(
        "a time limit is lost where errors of the system don't matter",
        SIGNALS,
        "isinstance(error, self._kinds) and raised_by_signal(error) is None",
        "isinstance(error, self._kinds)",
        OUTSIDE,
    ),
    Mutation(
        "threads take the last of the memory",
        THREADS,
        "            if self._threads:\n                _check_memory()\n",
        "",
        ("tests/core/test_threads.py",),
    ),
    Mutation(
        "a part for which there is no memory is given up",
        "core/transport.py",
        "if isinstance(defect.__cause__, MemoryError):",
        "if False:",
        ("tests/core/test_transport.py",),
    ),
]


def copied(target: Path) -> None:
    """The tree as it ships, with its tests."""
    shutil.copytree(ROOT / "core", target / "core")
    for room in ("backends", "stores", "tests"):
        shutil.copytree(ROOT / room, target / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", target)


def mapped(target: Path) -> None:
    """The import package, made of the folders, where `PYTHONPATH` finds it before any installed one."""
    shutil.copytree(target / "core", target / "path" / "partwise", ignore=shutil.ignore_patterns("__pycache__"))
    for room in ("backends", "stores"):
        shutil.copytree(target / room, target / "path" / "partwise" / room)


def noticed_by(mutation: Mutation | None, tests_to_run: tuple[str, ...]) -> str | None:
    """The first test that fails because of the mutation (without one, at all), None where none does."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        copied(tree)
        if mutation is not None:
            mutation.apply(tree)
        mapped(tree)
        for tests in tests_to_run:
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                "--tb=line",
                _PROFILE,
                *shlex.split(tests),
            ]
            environment = {**os.environ, "PYTHONPATH": str(tree / "path"), "PYTHONDONTWRITEBYTECODE": "1"}
            try:
                run = subprocess.run(  # ourselves
                    command,
                    cwd=tree,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=SECONDS_MAX,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return f"{tests} (it hung)"
            if run.returncode:
                failed = re.search(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE)
                return failed[1] if failed else f"{tests}: {run.stdout[-300:]}{run.stderr[-300:]}"
    return None


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Break the engine in one way after the other; see who notices.")
    parser.add_argument("words", nargs="*", help="take those whose name holds one of these words")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    wanted = parser.parse_args(arguments)
    chosen = [m for m in MUTATIONS if not wanted.words or any(word in m.name for word in wanted.words)]
    needed = dict.fromkeys(tests for mutation in chosen for tests in mutation.tests)
    if (broken := noticed_by(None, tuple(needed))) is not None:
        print(f"{broken} fails without any mutation: fix that first")
        return 2

    def judge(mutation: Mutation) -> tuple[Mutation, str | None, float]:
        began = time.monotonic()
        return mutation, noticed_by(mutation, mutation.tests), time.monotonic() - began

    survived = []
    with ThreadPoolExecutor(wanted.jobs) as pool:
        for number, (mutation, test, seconds) in enumerate(pool.map(judge, chosen), start=1):
            if test is None:
                survived.append(mutation.name)
            print(f"{number:>3}/{len(chosen)} {mutation.name:<72} {test or 'SURVIVED'} ({seconds:.0f} s)", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} mutations were noticed")
    for name in survived:
        print(f"nobody noticed: {name}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
