"""A body as a file: what HTTP libraries can do with it, and what becomes of its errors."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from peers.s3 import shared_loader

from partwise import IntegrityError, SourceChanged, SourceUnreadable
from partwise.bodies import BodyFile, exact_chunks
from partwise.testing import pseudo_random_bytes

DATA = pseudo_random_bytes(300_000)


class RecordedBody:
    """
    A body whose chunks share a buffer, as the protocol allows, and which records how it is read.

    Args:
        data: the bytes that it yields.
        declared: the length that it claims to have.
        chunk_size: the size of a chunk.
        errors: what is raised after all bytes, reading by reading; None ends the reading.
    """

    def __init__(self, data=DATA, *, declared=None, chunk_size=70_000, errors=()):
        self.data, self.chunk_size, self.errors = data, chunk_size, list(errors)
        self.declared = len(data) if declared is None else declared
        self.readings = []  # whether each was counted
        self.bytes_read = 0
        self.open = 0
        self.offset, self.is_last, self.checksum = 0, True, None

    def __len__(self):
        return self.declared

    def chunks(self, *, counted=True):
        self.readings.append(counted)
        self.open += 1
        buffer = bytearray(self.chunk_size)
        try:
            for begin in range(0, len(self.data), self.chunk_size):
                chunk = self.data[begin : begin + self.chunk_size]
                buffer[: len(chunk)] = chunk
                self.bytes_read += len(chunk)
                yield memoryview(buffer)[: len(chunk)]
                buffer[:] = bytes(len(buffer))
            if self.errors and (error := self.errors.pop(0)) is not None:
                raise error
            self.checksum = zlib.crc32(self.data)
        finally:
            self.open -= 1


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1000, 70_000, 400_000])
def test_read_returns_the_bytes_of_the_body(chunk_size):
    file = BodyFile(RecordedBody(chunk_size=chunk_size))

    assert (len(file), file.tell(), file.read(), file.tell(), file.read()) == (300_000, 0, DATA, 300_000, b"")


@pytest.mark.parametrize("size", [1, 7, 8192, 65_536, 10**7])
def test_read_in_pieces_is_the_same(size):
    data = DATA[:20_000] if size < 10 else DATA
    file = BodyFile(RecordedBody(data))

    assert b"".join(iter(lambda: file.read(size), b"")) == data


def test_readinto_fills_a_buffer_of_any_kind():
    file, gathered = BodyFile(RecordedBody()), b""
    for buffer in (bytearray(100), memoryview(bytearray(50_000)), memoryview(bytearray(4000)).cast("I")):
        count = file.readinto(buffer)
        gathered += bytes(memoryview(buffer).cast("B")[:count])

    assert len(gathered) > 4100
    assert gathered == DATA[: len(gathered)]


def test_a_read_returns_at_least_16_kib_of_small_chunks_and_does_not_wait_for_more():
    body = RecordedBody(chunk_size=1000)
    file = BodyFile(body)

    assert len(file.read(1_000_000)) == 16_384
    assert body.bytes_read == 17_000
    assert len(file.read(500)) == 500
    assert 16_384 <= file.readinto(bytearray(1_000_000)) <= 17_384


def test_it_is_a_file_to_read_and_to_seek_in():
    file = BodyFile(RecordedBody())
    assert (file.readable(), file.seekable(), file.writable(), file.isatty()) == (True, True, False, False)
    with pytest.raises(OSError, match="fileno"):
        file.fileno()


def test_no_more_than_a_chunk_is_read_ahead():
    body = RecordedBody(chunk_size=10_000)
    file = BodyFile(body)
    assert body.readings == []

    file.read(10)

    assert body.bytes_read == 10_000


def test_nothing_is_read_before_the_first_read():
    body = RecordedBody()
    file = BodyFile(body)
    file.seek(0, io.SEEK_END)
    file.seek(0)
    file.tell()
    file.close()

    assert body.readings == []


def test_the_checksum_is_known_with_the_last_bytes():
    """A library that knows the length does not read again to see the end."""
    body = RecordedBody(chunk_size=10_000)
    file = BodyFile(body)
    while file.tell() < len(file):
        assert body.checksum is None
        file.read(10_000)

    assert (body.checksum, body.open) == (zlib.crc32(DATA), 0)


def test_an_empty_body_is_an_empty_file_that_was_read_to_its_end():
    body = RecordedBody(b"")
    file = BodyFile(body)

    assert (bool(file), len(file), file.read(), file.read(10)) == (True, 0, b"", b"")
    assert (body.checksum, body.readings) == (0, [True])


# --- seeking ---------------------------------------------------------------------------------------------------------


def test_rewinding_reads_the_body_again():
    body = RecordedBody()
    file = BodyFile(body)
    assert file.read() == DATA

    assert (file.seek(0), file.read()) == (0, DATA)
    assert body.readings == [True, True]


def test_rewinding_in_the_middle_ends_the_reading():
    body = RecordedBody()
    file = BodyFile(body)
    file.read(100)
    assert body.open == 1

    file.seek(0)

    assert body.open == 0
    assert file.read() == DATA


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 50)), max_size=20), st.integers(1, 30))
def test_seeking_and_reading_is_as_in_any_file(steps, chunk_size):
    data = DATA[:100]
    file, expected = BodyFile(RecordedBody(data, chunk_size=chunk_size)), io.BytesIO(data)
    for position, size in steps:
        assert file.seek(position) == expected.seek(position)
        assert file.read(size) == expected.read(size)
        assert file.tell() == expected.tell()
        assert file.seek(0, io.SEEK_CUR) == expected.tell()
    assert file.seek(-1, io.SEEK_END) == 99
    assert file.read() == data[-1:]


def test_seeking_to_the_end_and_back_does_not_read_again():
    """This is how a library looks up the length of a file."""
    body = RecordedBody()
    file = BodyFile(body)
    begun = file.read(100)
    file.seek(0, io.SEEK_END)
    file.seek(100)

    assert begun + file.read() == DATA
    assert body.readings == [True]


def test_there_is_no_position_before_the_start():
    with pytest.raises(ValueError, match="can't be negative"):
        BodyFile(RecordedBody()).seek(-1)


@pytest.mark.parametrize("whence", [-1, 3])
def test_a_position_is_counted_from_the_start_the_position_or_the_end(whence):
    file = BodyFile(RecordedBody())
    file.seek(5)
    with pytest.raises(ValueError, match=f"can't be counted from {whence}"):
        file.seek(0, whence)
    assert file.tell() == 5


def test_a_digest_is_read_uncounted_and_the_request_counted():
    body = RecordedBody()
    file = BodyFile(body, counted=False)
    assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(DATA).digest()

    file.counted = True
    file.seek(0)
    file.read()

    assert body.readings == [False, True]


def test_a_file_is_counted_by_default():
    body = RecordedBody()
    BodyFile(body).read()

    assert body.readings == [True]


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("declared", "had"), [(299_999, "more than 299999 bytes"), (300_001, "300000 bytes")])
@pytest.mark.parametrize("chunk_size", [1000, 299_999, 300_000])
def test_a_body_of_another_length_is_an_error_before_its_last_bytes_are_returned(declared, had, chunk_size):
    file = BodyFile(RecordedBody(declared=declared, chunk_size=chunk_size))
    returned = []
    with pytest.raises(IntegrityError, match=f"had {had} instead of {declared}") as raised:
        returned.extend(iter(lambda: file.read(8192), b""))

    assert sum(map(len, returned)) < min(declared, 300_000)
    assert (file.error, raised.value.retryable) == (raised.value, True)


def test_a_surplus_is_noticed_before_the_last_bytes_are_returned():
    """A library that knows the length sends these, and the storage has a whole request."""
    file = BodyFile(RecordedBody(declared=200_000, chunk_size=100_000))
    assert file.readinto(bytearray(100_000)) == 100_000

    with pytest.raises(IntegrityError, match="more than 200000 bytes"):
        file.readinto(bytearray(100_000))


def test_an_empty_body_that_has_bytes_is_an_error():
    with pytest.raises(IntegrityError, match="more than 0 bytes instead of 0"):
        BodyFile(RecordedBody(declared=0)).read()


def test_what_the_body_raises_is_raised_and_kept():
    error = SourceChanged("changed")
    body = RecordedBody(errors=[error])
    file = BodyFile(body)

    for _ in range(2):  # a library that reads on does not get fewer bytes instead
        with pytest.raises(SourceChanged) as raised:
            file.read()
        assert raised.value is file.error is error
    assert (body.readings, body.open) == ([True], 0)


def test_rewinding_forgets_the_error():
    body = RecordedBody(errors=[SourceUnreadable("once", retryable=True), None])
    file = BodyFile(body)
    with pytest.raises(SourceUnreadable):
        file.read()

    file.seek(0)

    assert (file.error, file.read(), file.error) == (None, DATA, None)


def test_the_with_block_raises_what_the_body_raised_in_place_of_what_the_library_made_of_it():
    cause = OSError("stale handle")
    error = SourceUnreadable("gone")
    error.__cause__ = cause

    with pytest.raises(SourceUnreadable) as raised, BodyFile(RecordedBody(errors=[error])) as file:  # noqa: PT012
        try:
            file.read()
        except SourceUnreadable as failure:
            raise ConnectionError("a library's own") from failure

    assert raised.value is error
    assert (error.__cause__, error.__context__) == (cause, None)


def test_the_with_block_raises_what_the_body_raised_if_the_library_swallowed_it():
    body = RecordedBody(errors=[SourceChanged("changed")])
    with pytest.raises(SourceChanged), BodyFile(body) as file, contextlib.suppress(SourceChanged):
        file.read()


def test_the_with_block_leaves_other_errors_as_they_are():
    with pytest.raises(ConnectionError, match="the network's"), BodyFile(RecordedBody()) as file:  # noqa: PT012
        file.read(10)
        raise ConnectionError("the network's")


def test_the_with_block_ends_the_reading():
    body = RecordedBody()
    with BodyFile(body) as file:
        file.read(10)
        assert body.open == 1

    assert (body.open, file.closed) == (0, True)


@pytest.mark.parametrize(
    "use", [lambda file: file.read(), lambda file: file.seek(0), lambda f: f.readinto(bytearray(1))]
)
def test_a_closed_file_can_not_be_used(use):
    file = BodyFile(RecordedBody())
    file.close()
    file.close()

    with pytest.raises(ValueError, match="after close"):
        use(file)


def test_a_file_shows_its_length_and_position():
    file = BodyFile(RecordedBody())
    file.read(10)
    assert repr(file) == "<BodyFile of 300000 bytes, at 10>"


def test_exact_chunks_passes_on_whether_a_reading_is_counted():
    body = RecordedBody()
    assert sum(map(len, exact_chunks(body, "it"))) == sum(map(len, exact_chunks(body, "it", counted=False))) == 300_000
    assert body.readings == [True, False]


def test_exact_chunks_yields_no_surplus():
    yielded = []
    with pytest.raises(IntegrityError, match="the body of it had more than 299999 bytes instead of 299999"):
        yielded.extend(map(len, exact_chunks(RecordedBody(declared=299_999), "it")))

    assert yielded == [70_000] * 4


# --- HTTP libraries --------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Keeps the body of each complete PUT, of a given length or in chunks, and its headers."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        body = (
            self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else self.chunked()
        )
        if body is None or len(body) < int(self.headers.get("Content-Length", 0)):
            self.close_connection = True
            return
        self.server.received.append((body, self.headers))
        self.send_response(200)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def chunked(self):
        body = b""
        while line := self.rfile.readline():
            size = int(line.partition(b";")[0], 16)
            if size == 0:
                while self.rfile.readline().strip():  # trailers
                    pass
                return body
            body += self.rfile.read(size)
            self.rfile.readline()
        return None

    def handle_expect_100(self):
        return True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.received = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def put_by_http_client(server, file):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.request("PUT", "/b/k", body=file, headers={"Content-Length": str(len(file))})
        return connection.getresponse().status
    finally:
        connection.close()


def put_by_urllib3(server, file):
    with urllib3.PoolManager() as pool:
        headers = {"Content-Length": str(len(file))}
        return pool.request("PUT", f"{server.url}/b/k", body=file, headers=headers, retries=False).status


def put_by_requests(server, file):
    requests = pytest.importorskip("requests")
    with requests.Session() as session:
        session.trust_env = False
        return session.put(f"{server.url}/b/k", data=file, timeout=10).status_code


def put_by_httpx(server, file):
    httpx = pytest.importorskip("httpx")
    with httpx.Client(trust_env=False) as client:
        return client.put(f"{server.url}/b/k", content=file).status_code


def s3_client(server, **config):
    session = pytest.importorskip("botocore.session")
    from botocore.config import Config

    own = session.Session()
    own.register_component("data_loader", shared_loader())
    client = own.create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id="ID",
        aws_secret_access_key="SECRET",
        config=Config(retries={"total_max_attempts": 1}, proxies={}, **config),
    )

    def begin_request(request, **_):
        if isinstance(request.body, BodyFile):
            request.body.counted = True

    client.meta.events.register("before-send", begin_request)
    return client


def put_by_botocore(server, file):
    answer = s3_client(server).put_object(Bucket="b", Key="k", Body=file)
    return answer["ResponseMetadata"]["HTTPStatusCode"]


LIBRARIES = [put_by_http_client, put_by_urllib3, put_by_requests, put_by_httpx, put_by_botocore]


@pytest.mark.parametrize("put", LIBRARIES)
@pytest.mark.parametrize("chunk_size", [700, 70_000])
def test_a_library_sends_the_body_with_its_length(server, put, chunk_size):
    body = RecordedBody(chunk_size=chunk_size)
    with BodyFile(body) as file:
        assert put(server, file) == 200

    [(received, headers)] = server.received
    assert received == DATA
    assert headers["Content-Length"] == "300000"
    assert body.open == 0


@pytest.mark.parametrize("put", [put for put in LIBRARIES if put is not put_by_requests])
def test_a_library_sends_an_empty_body(server, put):
    with BodyFile(RecordedBody(b"")) as file:
        assert put(server, file) == 200

    assert server.received[0][0] == b""


@pytest.mark.parametrize("put", LIBRARIES)
def test_an_error_of_the_body_comes_back_unchanged_and_nothing_is_stored(server, put):
    error = SourceChanged("the file changed")
    body = RecordedBody(errors=[error] * 5)
    with pytest.raises(SourceChanged) as raised, BodyFile(body) as file:
        put(server, file)

    assert raised.value is error
    assert (server.received, body.open) == ([], 0)


@pytest.mark.parametrize("put", LIBRARIES)
@pytest.mark.parametrize("declared", [299_999, 300_001])
def test_a_body_of_another_length_is_not_stored(server, put, declared):
    with pytest.raises(IntegrityError), BodyFile(RecordedBody(declared=declared)) as file:
        put(server, file)

    assert server.received == []


def test_botocore_reads_for_its_digests_without_counting_and_sends_once_counted(server):
    """Over http, it reads for the checksum, for the signature, and to send."""
    body = RecordedBody()
    with BodyFile(body, counted=False) as file:
        put_by_botocore(server, file)

    assert body.readings == [False, False, True]
    assert server.received[0][1]["x-amz-checksum-crc32"]


def test_an_s3_upload_in_signed_chunks_has_chunks_of_at_least_8_kib(server, monkeypatch):
    """S3 refuses smaller ones, but for the last."""
    httpchecksum = pytest.importorskip("botocore.httpchecksum")
    body = RecordedBody(chunk_size=700)
    with BodyFile(body) as file:
        wrapper = httpchecksum.AwsChunkedWrapper(file, chunk_size=1024 * 1024)
        encoded = b"".join(iter(wrapper.read, b""))

    sizes, position = [], 0
    while (end := encoded.index(b"\r\n", position)) and (size := int(encoded[position:end], 16)):
        sizes.append(size)
        position = end + 2 + size + 2
    assert sum(sizes) == 300_000
    assert min(sizes[:-1]) >= 8192


def test_awscrt_reads_the_body_into_its_buffers():
    crt = pytest.importorskip("awscrt.http")
    io_ = pytest.importorskip("awscrt.io")
    body = RecordedBody()
    with BodyFile(body) as file:
        stream = io_.InputStream(file)
        gathered = b""
        while len(gathered) < len(file):
            buffer = bytearray(65_536)
            count = stream._read_into_memoryview(memoryview(buffer))
            gathered += buffer[:count]

    assert crt.HttpRequest("PUT", "/", body_stream=stream).body_stream is stream
    assert gathered == DATA
