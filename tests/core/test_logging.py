"""Log records of an upload: logger, level and fields, and no secrets."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest

from partwise import CheckpointBusy, TransferConfig, UploadCancelled, Uploader, UploadFailed, UploadPaused
from partwise.backends.oss import Credentials, OSSBackend
from partwise.model import KIB
from partwise.server.faults import Fail, ServerFault
from partwise.server.settings import AccessKey, ServerSettings
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing import OSSServer
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind


@pytest.fixture
def log(caplog):
    """The records of this package as (level, key, upload id, part number, text), the latest first forgotten."""

    def read():
        found = [
            (r.levelname, r.key, r.upload_id, r.part_number, r.getMessage())
            for r in caplog.records
            if r.name == "partwise" or r.name.startswith("partwise.")
        ]
        caplog.clear()
        return found

    with caplog.at_level(logging.DEBUG, "partwise"):
        yield read


def test_an_upload_that_fails_and_is_resumed_is_logged_from_start_to_end(uploader, faulty, backend, source, log):
    broken = faulty(
        Fault("upload_part", FaultKind.BEFORE, part_number=2),
        Fault("upload_part", FaultKind.PERMANENT, part_number=4),
    )
    with pytest.raises(UploadFailed):
        broken.upload(source, "key")
    [upload] = backend.uploads
    first = log()

    assert [entry[:4] for entry in first] == [
        ("INFO", "key", upload, None),
        ("INFO", "key", upload, None),
        ("DEBUG", "key", upload, 1),
        ("INFO", "key", upload, 2),
        ("DEBUG", "key", upload, 2),
        ("DEBUG", "key", upload, 3),
        ("INFO", "key", upload, None),
    ]
    texts = [entry[4].partition("memory://bucket")[2].strip(": ") for entry in first]
    assert texts[:2] == [f"started, as upload {upload}", "0 parts are on the storage"]
    assert texts[2] == "uploaded, 10 bytes"
    assert texts[3].startswith("retrying in 0.5 s: ")
    assert texts[6].startswith("ended by UploadFailed: ")

    uploader().upload(source, "key")

    assert [(level, number, text.partition("bucket: ")[2]) for level, _, _, number, text in log()] == [
        ("INFO", None, "3 parts are on the storage"),
        ("DEBUG", 4, "uploaded, 10 bytes"),
        ("DEBUG", 5, "uploaded, 5 bytes"),
        ("INFO", None, "stored, 45 bytes, 15 of them sent now"),
    ]


@pytest.mark.parametrize("operation", ["initiate_upload", "complete_upload"])
def test_a_retry_of_a_request_other_than_a_part_is_logged_with_the_upload(faulty, source, log, operation):
    faulty(Fault(operation, FaultKind.BEFORE)).upload(source, "key")
    found = [entry for entry in log() if "retrying" in entry[4]]

    assert [(level, key, number) for level, key, _, number, _ in found] == [("INFO", "key", None)]
    assert (found[0][2] is None) == (operation == "initiate_upload")


def test_a_single_put_is_logged_without_an_upload_id(uploader, source, log):
    uploader(multipart_threshold=1000).upload(source, "key")

    assert [(*entry[:4], entry[4].partition("bucket: ")[2]) for entry in log()] == [
        ("INFO", "key", None, None, "starting, with one request"),
        ("INFO", "key", None, None, "stored, 45 bytes, 45 of them sent now"),
    ]


@pytest.mark.parametrize("mode", ["pause", "cancel"])
def test_a_requested_stop_is_logged(backend, store, source, log, mode):
    error = {"pause": UploadPaused, "cancel": UploadCancelled}[mode]
    started = threading.Event()

    def stop(progress):
        if progress.parts_done == 2 and started.wait(30):
            getattr(task, mode)()

    config = TransferConfig(part_size=10, multipart_threshold=0, concurrency=1)
    task = Uploader(backend, store=store, config=config).start(source, "key", progress=stop)
    started.set()
    with pytest.raises(error):
        task.result(30)
    level, key, upload, _, text = log()[-1]

    assert (level, key) == ("INFO", "key")
    assert upload is not None
    assert f"ended by {error.__name__}" in text


def test_a_busy_upload_is_logged(uploader, store, source, log):
    made = uploader()
    with pytest.raises(CheckpointBusy):
        made.upload(source, "key", progress=lambda _: made.upload(source, "key"))

    assert [text.partition("bucket: ")[2].partition(":")[0] for *_, text in log()][-2:] == [
        "ended by CheckpointBusy"
    ] * 2


def test_a_part_that_is_not_recorded_is_logged_as_a_warning(faulty, source, log):
    faulty(Fault("append_part", FaultKind.DISK_FULL)).upload(source, "key")
    [warning] = [entry for entry in log() if entry[0] == "WARNING"]

    assert warning[1] == "key"
    assert "progress could not be recorded" in warning[4]


def test_no_record_of_a_whole_upload_over_http_has_a_secret(log, caplog, tmp_path):
    """With everything that is logged, by the backend for OSS too; and every record has the fields."""
    path = tmp_path / "file.bin"
    path.write_bytes(pseudo_random_bytes(350 * KIB))
    key = AccessKey("an-id", "a-secret-of-forty-characters-or-about-so", "a-token-that-is-a-secret-too")
    config = TransferConfig(part_size=100 * KIB, multipart_threshold=0, concurrency=2, retry_base=0)
    with (
        OSSServer(
            settings=ServerSettings(access_keys=[key]),
            faults=[ServerFault("UploadPart", Fail("InternalError"), part_number=2)],
        ) as server,
        OSSBackend(
            "examplebucket",
            endpoint=server.endpoint,
            region=server.region,
            credentials=Credentials(key.access_key_id, key.access_key_secret, key.security_token),
        ) as backend,
    ):
        Uploader(backend, store=MemoryCheckpointStore(), config=config).upload(path, "key")
        found = [record for record in caplog.records if record.name.startswith("partwise")]
        everything = repr([vars(record) for record in found]) + caplog.text

    assert {"partwise", "partwise.backends.oss"} <= {record.name for record in found}
    assert any("retrying" in record.getMessage() for record in found)
    sent = [record for record in found if record.name == "partwise.backends.oss" and record.part_number]
    assert {record.part_number for record in sent} == {1, 2, 3, 4}
    assert {(record.key, record.upload_id) for record in sent} == {("key", found[-1].upload_id)}
    for secret in (key.access_key_secret, key.security_token, "Signature", "OSS4-HMAC"):
        assert secret not in everything


def test_a_program_that_sets_up_no_logging_is_not_spoken_to():
    """Without a handler, Python would print the warnings of a library to stderr."""
    program = "import partwise, logging; logging.getLogger('partwise').warning('something is odd')"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert (ran.stdout, ran.stderr) == ("", "")
