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
DISK = ("tests/proof/test_every_system_call.py", "tests/soak/test_power_loss.py")
SENT_AHEAD = ("tests/core/test_transport.py", "tests/core/test_threads.py", "tests/oss/test_small_parts.py")
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
THREADS = "core/threads.py"
SERVER = "core/testing/oss_server/"
WHO_ASKS, BOUNDS = ("tests/oss_server/test_hosts.py",), ("tests/oss_server/test_bounds.py",)
FOLDERS = ("tests/oss_server/test_folders.py",)
SERVE_AND_DEMO = ("tests/cli/test_serve_demo.py -k 'not show_ends_well_and and not show_takes'",)
FILES, JOURNAL = "core/_durable.py", "stores/_journal.py"

MUTATIONS = [
    # --- the order of things -----------------------------------------------------------------------------------------
    Mutation(
        "the claim is not taken",
        ENGINE,
        "        with _Claim(run.store, run):\n            return self._live()",
        "        return self._live()",
    ),
    Mutation(
        "the claim is let go of early",
        ENGINE,
        "        with _Claim(run.store, run):\n            return self._live()",
        "        with _Claim(run.store, run):\n            pass\n        return self._live()",
    ),
    Mutation("the first save is left out", ENGINE, "            run.store.save(intent)", "            pass"),
    Mutation(
        "a first save that fails is swallowed",
        ENGINE,
        "            run.store.save(intent)",
        "            try:\n                run.store.save(intent)\n            except Exception:\n                pass",
        STORE_FAILS,
    ),
    Mutation(
        "the second save is left out",
        ENGINE,
        "                run.store.save(run.checkpoint)\n            except",
        "                pass\n            except",
    ),
    Mutation(
        "a second save that fails is swallowed",
        ENGINE,
        "                drop(run)\n                run.checkpoint = None\n                raise\n",
        "                pass\n",
        STORE_FAILS,
    ),
    Mutation(
        "a second save that fails leaves the upload",
        ENGINE,
        "                drop(run)\n                run.checkpoint = None\n                raise\n",
        "                raise\n",
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
        "        run.check_source()\n        run.ledger.record(receipt)",
        "        run.ledger.record(receipt)",
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
        "a replaced source is taken for the same", LEDGER, "    if old.identity != new.identity:", "    if False:"
    ),
    Mutation(
        "parts of a changed source are trusted",
        LEDGER,
        "        return _reconcile_gone(facts, found, plan, trusted=changed is None and not facts.verify_content)\n    return _reconcile_parts(facts, found, plan, trusted=changed is None)",
        "        return _reconcile_gone(facts, found, plan, trusted=changed is None and not facts.verify_content)\n    return _reconcile_parts(facts, found, plan, trusted=True)",
    ),
    Mutation(
        "what is gone is trusted though its content was to be looked at",
        LEDGER,
        "trusted=changed is None and not facts.verify_content",
        "trusted=changed is None",
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
        "    if record is not None and (record.etag != held.etag or record.size != held.size):",
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
        "        if run.ledger.plan.size == 0:\n            return self._start_empty()\n",
        "",
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
        "            run.source.close()\n            forget(run)",
        "            run.source.close()",
    ),
    Mutation(
        "a lost stream is not opened again",
        ENGINE,
        "            run.source.close()\n            forget(run)",
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
    # --- the test server: who may ask, what it may cost, and what is reached ----------------------------------------
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
        "        if settings.allow_anonymous and not is_loopback(host):",
        "        if False:",
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
        SERVER + "access.py",
        "os.O_RDONLY | _NO_FOLLOW | _NO_WAIT",
        "os.O_RDONLY | _NO_WAIT",
        FOLDERS,
    ),
    Mutation(
        "a link on the way is followed",
        SERVER + "access.py",
        'getattr(os, "O_DIRECTORY", 0) | _NO_FOLLOW',
        'getattr(os, "O_DIRECTORY", 0)',
        FOLDERS,
    ),
    Mutation(
        "what is no file is read",
        SERVER + "access.py",
        "        if not stat.S_ISREG(os.fstat(found).st_mode):",
        "        if False:",
        FOLDERS,
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
        "    return _object_of_a_lost_answer(run, gone=False) if may_have_happened else None",
        "    return None",
        STORAGE_FAILS,
    ),
    Mutation(
        "an upload that is gone at complete is taken for lost",
        COMPLETING,
        "            stored = _object_of_a_lost_answer(run, gone=True)",
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
        " if crc64_fold(runs) == facts.head.crc64 else gone",
        " if runs else gone",
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
        "        ours = facts.head.metadata.get(TOKEN_NAME) == found.token and trusted",
        "        ours = trusted",
    ),
    Mutation(
        "what nothing tells is guessed",
        LEDGER,
        "        return Undecidable(facts.head, found)",
        "        return AlreadyStored(facts.head, found)",
    ),
    Mutation("parts that are refused are not sent again", COMPLETING, "    return bool(differing)", "    return False"),
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
        "    return isinstance(error, BackendError) and error.retryable",
        "    return isinstance(error, BackendError)",
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
        RUN,
        "                delay = self.policy.delay(failures, error)",
        "                delay = None",
        STORAGE_FAILS,
    ),
    Mutation(
        "the time that the storage asks for is not granted",
        RETRYING,
        'getattr(error, "retry_after", None) or 0.0)',
        "0.0)",
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
        "            self._drain()\n\n    def",
        "            pass\n\n    def",
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
    Mutation("the end is not told", ENDINGS, "    run.report(completed=True)\n", ""),
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
    if (broken := noticed_by(None, (*PROOF, *STORES, *DISK, *SENT_AHEAD))) is not None:
        print(f"{broken} fails without any mutation: mend that first")
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
