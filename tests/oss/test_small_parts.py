"""Small parts on a fast link: the loop sends them itself, with several in flight at a time."""

from __future__ import annotations

import threading

import pytest

from partwise import ConnectionFailed, SourceChanged, TransferConfig, Uploader, UploadFailed, UploadPaused
from partwise._engine.pipelining import InlineSwitch
from partwise.backends.oss import Callback, Credentials, OSSBackend, OSSOptions
from partwise.errors import InvalidInput
from partwise.model import KIB
from partwise.server import CorruptBody, Fail, LoseResponse, ServerFault
from partwise.server.faults import CutResponse, ForgetUpload, ResetInRequest
from partwise.stores.file import FileCheckpointStore
from partwise.testing.fakes import pseudo_random_bytes

PART = 100 * KIB
DATA = pseudo_random_bytes(11 * PART + 7)


class Backend(OSSBackend):
    """A backend that records which threads send parts, and how many parts are in flight."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.threads = set()
        self.waiting = self.most_waiting = 0

    def begin_part(self, *args):
        self.threads.add(threading.current_thread())
        wait = super().begin_part(*args)
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)

        def counted_wait():
            self.waiting -= 1
            return wait()

        return counted_wait


@pytest.fixture
def backend(oss_server, monkeypatch):
    monkeypatch.setattr(InlineSwitch, "inline", property(lambda self: True, lambda self, value: None), raising=False)
    credentials = Credentials(oss_server.access_key_id, oss_server.access_key_secret)
    with Backend(
        "examplebucket", endpoint=oss_server.endpoint, region=oss_server.region, credentials=credentials
    ) as backend:
        yield backend
        assert backend.threads == {threading.main_thread()}
        assert backend.waiting == 0, "the response to every part was read"


@pytest.fixture
def uploader(backend, tmp_path):
    def make(**config):
        settings = {"part_size": PART, "multipart_threshold": 0, "concurrency": 4, "retry_base": 0, **config}
        return Uploader(backend, store=FileCheckpointStore(tmp_path / "state"), config=TransferConfig(**settings))

    return make


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize("concurrency", [1, 2, 3, 9])
def test_several_parts_are_in_flight_up_to_the_concurrency(uploader, backend, memory_backend, file, concurrency):
    result = uploader(concurrency=concurrency).upload(file, "key")

    assert memory_backend.read("key") == DATA
    assert (result.parts_sent, result.verified) == (12, True)
    assert backend.most_waiting == min(concurrency, 3)


@pytest.mark.parametrize(
    "effect",
    [
        Fail("ServiceUnavailable"),
        Fail("InternalError"),
        LoseResponse(reset=True),
        CutResponse(),
        ResetInRequest(),
        CorruptBody(),
    ],
    ids=lambda effect: type(effect).__name__,
)
def test_only_the_failed_part_is_sent_again(uploader, oss_server, memory_backend, file, effect):
    oss_server.plan(ServerFault("UploadPart", effect, part_number=5))
    result = uploader().upload(file, "key")

    assert memory_backend.read("key") == DATA
    assert result.verified
    sent = [int(request.query["partNumber"]) for request in oss_server.requests_of("UploadPart")]
    assert sorted(sent) == sorted([*range(1, 13), 5])


def test_parts_in_flight_are_recorded_when_a_part_fails_permanently(uploader, oss_server, memory_backend, file):
    oss_server.plan(ServerFault("UploadPart", Fail("AccessDenied"), part_number=5))
    with pytest.raises(UploadFailed) as caught:
        uploader().upload(file, "key")
    result = uploader().upload(file, "key")

    assert caught.value.parts_done >= 6, "parts 6 and 7 were in flight when part 5 was refused"
    assert result.parts_resumed == caught.value.parts_done
    assert memory_backend.read("key") == DATA


def test_parts_in_flight_are_recorded_at_a_pause(uploader, backend, file):
    def pause(progress):
        if progress.parts_done == 4:
            raise UploadPaused

    with pytest.raises(UploadPaused):
        uploader().upload(file, "key", progress=pause)
    result = uploader().upload(file, "key")

    assert result.parts_resumed == 6
    assert result.verified


def test_a_lost_upload_is_started_again_although_parts_are_in_flight(uploader, oss_server, memory_backend, file):
    oss_server.plan(ServerFault("UploadPart", ForgetUpload(), part_number=5))
    result = uploader().upload(file, "key")

    assert memory_backend.read("key") == DATA
    assert result.parts_sent == 12


def test_a_file_that_changes_with_parts_in_flight_creates_no_object(uploader, memory_backend, file):
    def change(progress):
        if progress.parts_done == 4:
            file.write_bytes(DATA + b"more")

    with pytest.raises(SourceChanged):
        uploader().upload(file, "key", progress=change)

    assert memory_backend.head_object("key") is None


def test_a_server_that_stops_fails_all_parts_in_flight(uploader, oss_server, backend, file):
    def stop(progress):
        if progress.parts_done == 4:
            oss_server.stop()

    with pytest.raises(UploadFailed) as caught:
        uploader(max_attempts=2).upload(file, "key", progress=stop)

    assert isinstance(caught.value.__cause__, ConnectionFailed)
    assert caught.value.resumable


def test_an_invalid_callback_is_refused_before_an_upload_is_resumed(uploader, oss_server, file):
    """A callback is sent only with complete, but it is checked before anything is sent."""
    oss_server.plan(ServerFault("UploadPart", Fail("AccessDenied"), part_number=5))
    with pytest.raises(UploadFailed):
        uploader().upload(file, "key")
    sent = len(oss_server.requests)
    with pytest.raises(InvalidInput, match="a callback has 1 to 5 http or https URLs"):
        uploader().upload(file, "key", options=OSSOptions(callback=Callback("ftp://a/", "b")))
    assert len(oss_server.requests) == sent
