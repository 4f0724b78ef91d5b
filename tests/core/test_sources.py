"""Files, bytes and streams as sources."""

from __future__ import annotations

import array
import errno
import gc
import gzip
import io
import lzma
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise import sources
from partwise.checkpoint import Fingerprint
from partwise.checksums import crc64
from partwise.errors import InvalidInput, SourceChanged, SourceError, SourceUnreadable
from partwise.model import KIB, MIB
from partwise.protocols import Source, SourceBody
from partwise.sources import (
    CHUNK_SIZE_MAX,
    BytesBody,
    BytesSource,
    FileBody,
    FileSource,
    StreamSource,
    as_source,
    chunk_size,
)
from partwise.testing.fakes import pseudo_random_bytes

DATA = pseudo_random_bytes(1000)
CHUNK = chunk_size(1)


def read(body):
    return b"".join(bytes(chunk) for chunk in body.chunks())


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


# --- bodies, whatever they are of ------------------------------------------------------------------------------------


@pytest.fixture(params=["file", "bytes", "stream", "spooled"])
def body_of(request, tmp_path):
    """Makes a body of bytes, by each kind of source."""

    def make(data):
        match request.param:
            case "file":
                (tmp_path / "data").write_bytes(data)
                return FileSource(tmp_path / "data").body(0, len(data))
            case "bytes":
                return BytesSource(data).body(0, len(data))
            case "stream":
                return StreamSource(io.BytesIO(data)).body(0, len(data))
            case _:
                return StreamSource(io.BytesIO(data), spool_above=-1).body(0, len(data))

    return make


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, MIB, MIB + 1, 4 * MIB, 8 * MIB + 1])
def test_a_body_gives_its_bytes(body_of, size):
    data = pseudo_random_bytes(size)
    body = body_of(data)

    assert isinstance(body, SourceBody)
    assert len(body) == size
    assert read(body) == data


def test_a_body_can_be_read_again_from_its_start(body_of):
    body = body_of(DATA)
    next(body.chunks())

    assert read(body) == read(body) == DATA


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_known_by_its_absolute_path(path, monkeypatch):
    monkeypatch.chdir(path.parent)

    assert FileSource("file").name == FileSource("./sub/../file").name == str(path)


def test_a_file_keeps_its_path_when_the_directory_changes(path, monkeypatch, tmp_path):
    monkeypatch.chdir(path.parent)
    source = FileSource("file")
    monkeypatch.chdir("/")

    assert source.fingerprint().size == 1000


def test_a_files_fingerprint_is_size_time_and_inode(path):
    status = path.stat()

    assert FileSource(path).fingerprint() == Fingerprint(1000, status.st_mtime_ns, str(status.st_ino))


def test_a_platform_without_inodes_gives_no_identity(path, monkeypatch):
    status = list(path.stat())
    status[1] = 0
    monkeypatch.setattr(sources.os, "stat", lambda _: os.stat_result(status))

    assert FileSource(path).fingerprint().identity is None


@pytest.mark.parametrize("change", ["size", "time", "replaced"])
def test_a_files_fingerprint_changes_with_the_file(path, change):
    source = FileSource(path)
    before = source.fingerprint()
    match change:
        case "size":
            path.write_bytes(DATA[:-1])
            os.utime(path, ns=(before.mtime_ns, before.mtime_ns))
        case "time":
            os.utime(path, ns=(before.mtime_ns, before.mtime_ns + 1_000_000))
        case "replaced":
            other = path.with_name("other")
            other.write_bytes(DATA)
            os.utime(other, ns=(before.mtime_ns, before.mtime_ns))
            other.replace(path)

    assert source.fingerprint() != before


@given(st.data())
def test_any_range_of_a_file_can_be_read(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "ranged"
    if not path.exists():
        path.write_bytes(DATA)
    offset = data.draw(st.integers(0, 1000))
    size = data.draw(st.integers(0, 1000 - offset))

    assert read(FileSource(path).body(offset, size)) == DATA[offset : offset + size]


def test_a_file_that_is_cut_short_has_changed(path):
    body = FileSource(path).body(500, 500)
    path.write_bytes(DATA[:900])

    with pytest.raises(SourceChanged, match=r"was truncated .* it ends 100 bytes before byte 1000") as caught:
        read(body)
    assert caught.value.source == str(path)


def test_a_file_that_is_cut_short_while_it_is_read_has_changed(path):
    path.write_bytes(pseudo_random_bytes(2 * CHUNK))
    chunks = FileSource(path).body(0, 2 * CHUNK).chunks()
    next(chunks)
    os.truncate(path, 10)

    with pytest.raises(SourceChanged):
        next(chunks)


def test_a_path_with_a_nul_character_is_refused_at_once(tmp_path):
    with pytest.raises(InvalidInput, match="no NUL character"):
        FileSource(tmp_path / "nul\0byte")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path / "missing", "No such file"),
        (lambda path: path, "is a directory, not a file. Upload each file in it, or an archive"),
        (lambda path: path / "file" / "below", "Not a directory|No such file"),
    ],
)
def test_a_path_that_is_not_a_file_is_unreadable(tmp_path, make, reason):
    (tmp_path / "file").touch()
    path = make(tmp_path)

    with pytest.raises(SourceUnreadable, match=reason) as caught:
        FileSource(path).fingerprint()
    assert caught.value.source == str(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no FIFOs")
def test_a_fifo_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(SourceUnreadable, match=r"is a FIFO, not a regular file.*Upload it as a stream.*StreamSource"):
        FileSource(tmp_path / "fifo").fingerprint()


def test_a_file_that_vanished_can_not_be_read(path):
    body = FileSource(path).body(0, 1000)
    path.unlink()

    with pytest.raises(SourceUnreadable, match="can't be read: No such file") as caught:
        read(body)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permission")
@pytest.mark.parametrize("look", ["FileSource('file').fingerprint()", "list(FileBody('file', 0, 10).chunks())"])
def test_a_file_that_may_not_be_read_says_so(look):
    """At the first look already, before anything is sent; in a child that gives up its privileges, for root may."""
    script = (
        "import os\n"
        "from partwise.errors import SourceUnreadable\n"
        "from partwise.sources import FileBody, FileSource\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        f"try: {look}\n"
        "except SourceUnreadable as error: print(os.path.basename(str(error)), type(error.__cause__).__name__)\n"
    )
    with tempfile.TemporaryDirectory() as folder:  # not in pytest's, which is closed to others
        Path(folder).chmod(0o755)
        path = Path(folder, "file")
        path.write_bytes(DATA)
        path.chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )

    assert done.stdout.strip() == "file can't be read: Permission denied PermissionError", done.stderr


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this platform has no such files")
def test_a_file_without_a_size_is_refused_instead_of_stored_as_empty():
    assert Path("/proc/self/stat").stat().st_size == 0

    with pytest.raises(SourceUnreadable, match="reports a size of 0 bytes, but has more"):
        FileSource("/proc/self/stat").fingerprint()


@pytest.fixture(params=["positioned", "seeking"])
def reading(request, monkeypatch):
    """By positioned reads, and without them, as on Windows."""
    if request.param == "seeking":
        monkeypatch.delattr(os, "preadv", raising=False)
    elif not hasattr(os, "preadv"):
        pytest.skip("this platform has no positioned reads")
    return request.param


def test_a_file_is_read_by_whatever_the_platform_has(path, reading):
    source = FileSource(path)

    assert b"".join(read(source.body(offset, 100)) for offset in range(0, 1000, 100)) == DATA
    source.close()


def test_a_read_that_fails_says_why(path, reading, monkeypatch):
    def fail(*arguments):
        raise OSError(5, "Input/output error")

    if reading == "positioned":
        monkeypatch.setattr(os, "preadv", fail)
    else:
        monkeypatch.setattr(sources, "FileIO", type("Broken", (io.FileIO,), {"readinto": fail}))

    with pytest.raises(SourceUnreadable, match="can't be read: Input/output error"):
        read(FileBody(str(path), 0, 10))


def test_a_file_body_is_a_plain_value(path):
    """So that a part can be sent from another process."""
    body = pickle.loads(pickle.dumps(FileSource(path).body(100, 200)))

    assert repr(body) == f"FileBody({str(path)!r}, offset=100, size=200)"
    assert read(body) == DATA[100:300]


@pytest.mark.parametrize("change", [lambda path: os.utime(path, ns=(0, 1)), lambda path: path.write_bytes(DATA[:999])])
def test_a_pickled_body_is_of_the_file_that_its_source_saw(path, change):
    """On another machine, another file may have that path."""
    source = FileSource(path)
    source.fingerprint()
    copy = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(source.body(100, 200)))))
    assert read(copy) == DATA[100:300]
    change(path)

    with pytest.raises(SourceUnreadable, match="is not the file that is being uploaded") as caught:
        read(copy)
    assert caught.value.source == str(path)


def test_nothing_is_open_between_reads(path):
    """A body that is abandoned half-way releases its file, too."""
    source = FileSource(path)
    chunks = source.body(0, 1000).chunks()
    next(chunks)
    chunks.close()
    source.close()

    assert open_files(path) == []
    assert repr(source) == f"FileSource({str(path)!r})"


class Buffers(sources._BufferPool):
    """Records the buffers that are allocated."""

    made: ClassVar = []

    def acquire(self):
        buffer = super().acquire()
        if not any(buffer is known for known in self.made):
            self.made.append(buffer)
        return buffer


@pytest.fixture
def buffers(monkeypatch):
    counted = Buffers()
    monkeypatch.setattr(Buffers, "made", [])
    monkeypatch.setattr(sources, "_buffers", counted)
    return counted


def open_files(path):
    return [obj for obj in gc.get_objects() if isinstance(obj, io.FileIO) and not obj.closed and obj.name == str(path)]


def test_bodies_that_are_read_one_after_the_other_open_the_file_once(path):
    source = FileSource(path)
    for offset in range(0, 1000, 10):
        read(source.body(offset, 10))
    assert len(open_files(path)) == 1

    source.close()
    assert open_files(path) == []


def test_a_source_that_was_closed_can_be_read_again(path):
    source = FileSource(path)
    for _ in range(2):
        assert read(source.body(0, 1000)) == DATA
        source.close()
        source.close()


def test_what_is_being_read_when_the_source_is_closed_is_read_to_its_end(path):
    source = FileSource(path)
    path.write_bytes(pseudo_random_bytes(2 * CHUNK))
    chunks = source.body(0, 2 * CHUNK).chunks()
    begin = bytes(next(chunks))
    source.close()

    assert begin + b"".join(bytes(chunk) for chunk in chunks) == pseudo_random_bytes(2 * CHUNK)
    assert open_files(path) == []


@pytest.mark.parametrize("early", [False, True], ids=["in order", "the file first"])
def test_a_read_that_was_not_finished_is_closed_in_any_order_of_collection(path, early):
    """As when the frames of an error hold both, in a circle: the source may be finalized before the read is."""
    source = FileSource(path)
    chunks = source.body(0, 1000).chunks()
    if early:
        gc.collect(0)  # what is made after this is finalized before what was made before
    next(chunks)
    circle = [source, chunks]
    circle.append(circle)
    del source, chunks, circle

    with warnings.catch_warnings(record=True) as caught_warnings:
        warnings.simplefilter("always")
        gc.collect()

    assert [str(warning.message) for warning in caught_warnings if str(path) in str(warning.message)] == []


def test_a_spooled_part_is_closed_in_whatever_order_it_is_collected():
    """As when the frames of an error hold it in a circle: its file may be finalized before it is."""
    body = StreamSource(io.BytesIO(pseudo_random_bytes(1000)), spool_above=100).body(0, 1000)
    circle = [body]
    circle.append(circle)
    del body, circle

    with warnings.catch_warnings(record=True) as caught_warnings:
        warnings.simplefilter("always")
        gc.collect()

    assert [str(warning.message) for warning in caught_warnings if "rb+" in str(warning.message)] == []


def test_a_file_that_was_not_closed_is_closed_with_its_source(path):
    source = FileSource(path)
    read(source.body(0, 10))
    del source

    assert open_files(path) == []


def test_a_file_that_replaced_the_one_of_the_fingerprint_is_not_read(path):
    """Its bytes would belong to another version, even if the first one is restored before the next check."""
    source = FileSource(path)
    source.fingerprint()
    path.rename(path.with_name("first"))
    path.write_bytes(pseudo_random_bytes(1000, seed=1))

    with pytest.raises(SourceChanged, match="was replaced by another file during the upload") as caught:
        read(source.body(0, 10))
    assert caught.value.source == str(path)
    assert open_files(path) == []


def test_a_source_with_a_new_fingerprint_reads_the_current_file(path):
    source = FileSource(path)
    source.fingerprint()
    assert read(source.body(0, 10)) == DATA[:10]
    path.rename(path.with_name("first"))
    path.write_bytes(DATA[::-1])
    source.fingerprint()

    assert read(source.body(0, 10)) == DATA[::-1][:10]
    source.close()
    assert open_files(path) == []


def test_a_file_source_can_be_pickled(path):
    source = FileSource(path)
    read(source.body(0, 10))
    copy = pickle.loads(pickle.dumps(source))
    source.close()

    assert copy.name == source.name
    assert read(copy.body(0, 1000)) == DATA
    copy.close()


def test_bodies_that_are_read_one_after_the_other_share_one_buffer(path, buffers):
    for offset in range(0, 1000, 10):
        assert read(FileBody(str(path), offset, 10)) == DATA[offset : offset + 10]

    assert len(buffers.made) == 1


def test_bodies_that_are_read_in_turns_have_a_buffer_each(path, buffers):
    first, second = FileBody(str(path), 0, 10).chunks(), FileBody(str(path), 10, 10).chunks()
    pieces = next(first), next(second)

    assert [bytes(piece) for piece in pieces] == [DATA[:10], DATA[10:20]]
    assert len(buffers.made) == 2


def test_large_parts_are_read_in_larger_pieces(tmp_path):
    (tmp_path / "large").write_bytes(bytes(8 * MIB))
    source = FileSource(tmp_path / "large")

    largest = [max(map(len, source.body(0, size).chunks())) for size in (MIB, 4 * MIB, 8 * MIB)]
    source.close()

    assert largest == [MIB // 2, MIB, MIB]
    assert max(largest) <= CHUNK_SIZE_MAX


def test_there_is_one_buffer_for_each_thread_that_reads(path, buffers):
    with ThreadPoolExecutor(3) as workers:
        pieces = list(workers.map(lambda n: read(FileBody(str(path), 10 * n, 10)), range(100)))

    assert b"".join(pieces) == DATA
    assert 1 <= len(buffers.made) <= 3


def test_with_many_readers_the_first_8_have_large_buffers_and_the_others_small_ones(tmp_path, buffers):
    """128 parts in flight take 16 MiB, not 128."""
    (tmp_path / "large").write_bytes(pseudo_random_bytes(8 * MIB))
    source = FileSource(tmp_path / "large")
    readers = [source.body(0, 8 * MIB).chunks() for _ in range(128)]

    sizes = [len(next(reader)) for reader in readers]

    assert sizes == [MIB] * 8 + [64 * KIB] * 120
    assert sum(map(len, buffers.made)) < 16 * MIB
    for reader in readers:
        reader.close()
    source.close()


def test_a_part_that_starts_when_a_large_buffer_is_free_has_it(path, buffers):
    """When fewer parts are in flight again, they are read in large chunks again."""
    bodies = [FileBody(str(path), 0, 10).chunks() for _ in range(20)]
    for body in bodies:
        next(body)
    for body in bodies:
        body.close()

    assert [len(buffers.acquire()) for _ in range(9)] == [MIB] * 8 + [64 * KIB]


def test_the_last_buffer_released_is_used_first(buffers):
    """It may still be in the cache of the processor."""
    taken = [buffers.acquire() for _ in range(3)]
    for buffer in taken:
        buffers.release(buffer)

    assert buffers.acquire() is taken[2]


def test_buffers_are_freed_when_a_source_is_closed(path, buffers):
    """A program that uploads now and then does not keep what its uploads needed."""
    source = FileSource(path)
    readers = [source.body(0, 10).chunks() for _ in range(10)]
    for reader in readers:
        next(reader)
    for reader in readers:
        reader.close()
    gone = [weakref.ref(buffer) for buffer in buffers.made]
    buffers.made.clear()
    source.close()
    gc.collect()

    assert [reference() for reference in gone] == [None] * 10
    assert [len(buffers.acquire()) for _ in range(9)] == [MIB] * 8 + [64 * KIB]


def test_a_body_that_fails_gives_its_buffer_back(path, buffers):
    with pytest.raises(SourceChanged):
        read(FileBody(str(path), 990, 20))
    with pytest.raises(SourceUnreadable):
        read(FileBody(str(path / "missing"), 0, 20))
    read(FileBody(str(path), 0, 10))

    assert len(buffers.made) == 1


# --- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_are_a_source(kind):
    source = BytesSource(kind(DATA))

    assert source.fingerprint() == Fingerprint(size=1000, crc64=crc64(DATA))
    assert read(source.body(100, 50)) == DATA[100:150]


@pytest.mark.parametrize("code", ["i", "d", "H"])
def test_a_view_of_larger_items_is_its_bytes(code):
    items = array.array(code, range(10))
    source = as_source(memoryview(items))

    assert source.fingerprint().size == 10 * items.itemsize
    assert read(source.body(0, 10 * items.itemsize)) == items.tobytes()


def test_a_view_with_gaps_is_refused():
    with pytest.raises(InvalidInput, match="Copy it with bytes"):
        as_source(memoryview(DATA)[::2])


def test_the_checksum_of_bytes_is_taken_once():
    """So that a buffer that is written to afterwards is found out: its parts no longer add up."""
    data = bytearray(DATA)
    source = BytesSource(data)
    before = source.fingerprint()
    data[0] ^= 1

    assert source.fingerprint() == before


def test_bytes_are_known_by_their_name():
    source = BytesSource(DATA, name="report")
    source.close()

    assert (source.name, BytesSource(b"").name) == ("report", "bytes")
    assert repr(source) == "<BytesSource 'report' of 1000 bytes>"
    assert repr(source.body(0, 7)) == "<BytesBody of 7 bytes>"


def test_a_body_of_bytes_can_be_pickled():
    assert read(pickle.loads(pickle.dumps(BytesSource(DATA).body(10, 20)))) == DATA[10:30]


def test_a_body_of_bytes_is_not_copied():
    data = bytearray(DATA)
    chunk = next(BytesBody(data).chunks())

    assert chunk.obj is data


def released():
    view = memoryview(b"abc")
    view.release()
    return view


@pytest.mark.parametrize(
    "value", ["text", 5, None, [1], released()], ids=["text", "number", "none", "list", "released"]
)
def test_what_is_not_bytes_is_refused_as_such(value):
    """No hint suggests bytes(): of a number, those are as many zeros."""
    with pytest.raises(InvalidInput, match="data must be bytes, a bytearray or a memoryview, not ") as caught:
        BytesSource(value)
    assert not caught.value.hint


def test_a_view_that_is_not_contiguous_can_be_copied():
    with pytest.raises(InvalidInput, match="the view is not contiguous bytes") as caught:
        BytesSource(memoryview(b"abcdef")[::2])
    assert caught.value.hint == "Copy it with bytes()"


# --- streams ---------------------------------------------------------------------------------------------------------


class Dripping(io.RawIOBase):
    """A stream that gives one byte at a time."""

    def __init__(self, data):
        self._data = iter(data)

    def readable(self):
        return True

    def read(self, size=-1, /):
        return bytes([byte]) if (byte := next(self._data, None)) is not None else b""


class Fixed:
    """A stream that returns this, whatever size is requested."""

    def __init__(self, answer):
        self.answer = answer

    def read(self, size, /):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture(params=[16 * MIB, 0], ids=["in memory", "spooled"])
def streamed(request):
    return lambda stream, **settings: StreamSource(stream, spool_above=request.param, **settings)


def test_a_stream_is_of_unknown_size(streamed):
    assert streamed(io.BytesIO(DATA)).fingerprint() == Fingerprint()


def test_a_stream_is_read_in_order_up_to_its_end(streamed):
    source = streamed(io.BytesIO(DATA))
    bodies = [source.body(offset, 300) for offset in (0, 300, 600, 900)]

    assert [len(body) for body in bodies] == [300, 300, 300, 100]
    assert b"".join(map(read, bodies)) == DATA
    assert len(source.body(1000, 300)) == 0


def test_a_stream_that_gives_one_byte_at_a_time_fills_its_parts(streamed):
    source = streamed(Dripping(DATA))

    assert [len(source.body(offset, 600)) for offset in (0, 600)] == [600, 400]


def test_a_stream_is_read_from_its_current_position(streamed):
    stream = io.BytesIO(DATA)
    stream.seek(990)

    assert read(streamed(stream).body(0, 100)) == DATA[990:]


def test_a_body_of_a_stream_can_be_read_while_the_stream_is_read_further(streamed):
    source = streamed(io.BytesIO(DATA))
    first = source.body(0, 10)
    source.body(10, 10)

    assert read(first) == read(first) == DATA[:10]


@pytest.mark.parametrize("offset", [0, 9, 11])
def test_a_stream_can_not_go_anywhere_but_on(streamed, offset):
    source = streamed(io.BytesIO(DATA), name="dump")
    source.body(0, 10)

    with pytest.raises(SourceError, match=f"the stream is at byte 10, and can't seek to {offset}") as caught:
        source.body(offset, 10)
    assert caught.value.source == "dump"


def test_a_stream_that_fails_says_where(streamed):
    stream = io.BytesIO(DATA)
    source = streamed(stream)
    source.body(0, 10)
    stream.close()

    with pytest.raises(SourceError, match="the stream failed at byte 10: I/O operation on closed file") as caught:
        source.body(10, 10)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_stream_whose_read_fails_says_why(streamed):
    with pytest.raises(SourceError, match=r"the stream failed at byte 0: .*broken pipe"):
        streamed(Fixed(OSError(32, "broken pipe"))).body(0, 10)


def test_a_decompressor_whose_input_is_damaged_is_a_stream_that_fails(streamed):
    """Such errors are neither OSError nor ValueError."""
    packed = lzma.compress(DATA)
    damaged = packed[:40] + b"\xff" * 20 + packed[60:]
    for text, opened in {
        "EOFError: Compressed file ended before": gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(DATA)[:-20])),
        "LZMAError: Corrupt input data": lzma.LZMAFile(io.BytesIO(damaged)),  # noqa: SIM115
    }.items():
        with pytest.raises(SourceError, match=f"the stream failed at byte 0: {text}") as caught:
            streamed(opened, name="dump").body(0, len(DATA))
        assert caught.value.source == "dump"
        assert not caught.value.retryable


def test_a_function_that_fails_to_open_a_stream_says_why(streamed):
    def missing():
        return {}["member"]

    with pytest.raises(SourceError, match="the stream can't be opened: KeyError: 'member'") as caught:
        streamed(missing, name="dump").body(0, 10)
    assert (caught.value.source, caught.value.retryable) == ("dump", False)


@pytest.mark.parametrize("opens", [False, True])
def test_an_error_of_partwise_in_a_stream_is_not_changed(streamed, opens):
    raised = InvalidInput("a stream may be one of partwise")
    source = streamed((lambda: Fixed(raised).read(1)) if opens else Fixed(raised))

    with pytest.raises(InvalidInput) as caught:
        source.body(0, 10)
    assert caught.value is raised


def test_a_stream_that_would_block_is_refused(streamed):
    """No bytes for the moment are not the end."""
    with pytest.raises(SourceError, match="non-blocking"):
        streamed(Fixed(None)).body(0, 10)


def test_a_text_stream_is_refused(streamed):
    with pytest.raises(InvalidInput, match=r"the stream returned str, not bytes\. Open it in binary mode"):
        streamed(io.StringIO("text")).body(0, 10)


def test_a_stream_that_returns_more_than_requested_is_refused(streamed):
    """Its parts would be longer than planned."""
    with pytest.raises(InvalidInput, match="returned 11 bytes, more than the 10 requested"):
        streamed(Fixed(b"eleven byte")).body(0, 10)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_stream_may_give_any_bytes(streamed, kind):
    assert read(streamed(Fixed(kind(b"ab"))).body(0, 4)) == b"abab"


class ReusesItsBuffer:
    """A stream that returns views of one buffer, which each read overwrites, as `readinto` loops do."""

    def __init__(self, data, step):
        self._stream, self._buffer = io.BytesIO(data), bytearray(step)

    def read(self, size):
        count = self._stream.readinto(memoryview(self._buffer)[:size])
        return memoryview(self._buffer)[:count]


def test_a_stream_that_uses_its_buffer_again_is_copied_from_in_time(streamed):
    body = streamed(ReusesItsBuffer(DATA, 7)).body(0, len(DATA))

    assert read(body) == DATA


def test_a_view_of_larger_items_counts_by_its_bytes(streamed):
    view = memoryview(array.array("H", [1, 2]))

    assert read(streamed(Fixed(view)).body(0, 8)) == 2 * view.tobytes()


def test_a_callable_is_opened_when_reading_begins(streamed):
    opened = []

    def open_it():
        opened.append(io.BytesIO(DATA))
        return opened[-1]

    source = streamed(open_it)
    assert source.fingerprint() == Fingerprint()
    assert opened == []

    assert read(source.body(0, 10)) == DATA[:10]
    assert read(source.body(10, 10)) == DATA[10:20]
    source.close()
    source.close()
    assert [stream.closed for stream in opened] == [True]


def test_a_callable_is_called_again_for_a_further_upload(streamed):
    source = streamed(lambda: io.BytesIO(DATA))
    source.body(0, 10)
    source.close()

    assert read(source.body(0, 10)) == DATA[:10]


def test_what_a_callable_opened_need_not_know_how_to_close(streamed):
    source = streamed(lambda: Fixed(b""))
    source.body(0, 10)
    source.close()

    assert len(source.body(0, 10)) == 0


def test_a_stream_that_was_given_is_not_closed(streamed):
    stream = io.BytesIO(DATA)
    source = streamed(stream)
    source.body(0, 10)
    source.close()

    assert not stream.closed


def test_a_stream_is_nameless_unless_it_is_named(streamed):
    assert (streamed(io.BytesIO()).name, streamed(io.BytesIO(), name="dump").name) == ("", "dump")
    assert repr(streamed(io.BytesIO(), name="dump")) == "<StreamSource 'dump'>"


def test_only_large_parts_are_kept_in_a_file():
    source = StreamSource(io.BytesIO(DATA), spool_above=10)

    assert type(source.body(0, 10)) is BytesBody
    assert type(source.body(10, 11)) is sources._SpooledBody


def test_a_part_that_can_not_be_flushed_to_its_file_is_unreadable(monkeypatch):
    class Full(io.BytesIO):
        def flush(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryFile", Full)
    with pytest.raises(SourceError, match=f"can't be kept in .*: {os.strerror(errno.ENOSPC)}"):
        StreamSource(io.BytesIO(DATA), spool_above=10).body(0, 100)


def test_a_file_whose_status_can_not_be_read_is_closed_and_unreadable(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "file").write_bytes(DATA)
    opened = []
    real = sources.FileIO
    body = FileSource(tmp_path / "file").body(0, 10)
    with monkeypatch.context() as patch:
        patch.setattr(sources, "FileIO", lambda path: opened.append(real(path)) or opened[-1])
        patch.setattr(os, "fstat", fail)
        with pytest.raises(SourceUnreadable, match=os.strerror(errno.EIO)):
            read(body)
    assert [file.closed for file in opened] == [True]


def test_a_spooled_part_is_pickled_as_its_bytes():
    body = StreamSource(io.BytesIO(DATA), spool_above=0).body(0, 1000)

    assert read(pickle.loads(pickle.dumps(body))) == DATA


@pytest.mark.parametrize("at", [0, 50, 99])
def test_a_spooled_part_whose_file_was_changed_is_not_read_to_its_end(at):
    body = StreamSource(io.BytesIO(bytes(100)), spool_above=0).body(0, 100)
    body._file.seek(at)
    body._file.write(b"x")
    body._file.flush()

    with pytest.raises(SourceUnreadable, match="the temporary file with a part of the stream was changed"):
        read(body)


def test_a_spooled_part_whose_file_was_truncated_is_not_shorter():
    body = StreamSource(io.BytesIO(bytes(100)), spool_above=0).body(0, 100)
    body._file.truncate(50)

    with pytest.raises(SourceUnreadable, match="the temporary file with a part of the stream was changed"):
        read(body)


def test_a_spooled_part_takes_its_file_with_it(monkeypatch):
    files = _noted_files(monkeypatch)
    body = StreamSource(io.BytesIO(DATA), spool_above=0).body(0, 10)
    assert [file.closed for file in files] == [False]

    del body
    gc.collect()
    assert [file.closed for file in files] == [True]


def test_a_part_that_could_not_be_spooled_takes_its_file_with_it(monkeypatch):
    files = _noted_files(monkeypatch)
    with pytest.raises(SourceError):
        StreamSource(Fixed(None), spool_above=0).body(0, 10)

    assert [file.closed for file in files] == [True]


def _noted_files(monkeypatch):
    files = []
    make = tempfile.TemporaryFile

    def noted():
        files.append(make())
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    return files


# --- whatever a caller gives -----------------------------------------------------------------------------------------


# --- paths -----------------------------------------------------------------------------------------------------------


def entry_of(folder):
    with os.scandir(os.fsencode(folder)) as found:
        return next(iter(found))


@pytest.mark.parametrize(
    "give",
    [
        lambda path: entry_of(path.parent),
        os.fsencode,
        lambda path: path,
        str,
    ],
    ids=["entry of bytes", "bytes", "path", "text"],
)
def test_a_path_may_be_given_in_any_form(path, give):
    source = FileSource(give(path))

    assert source.name == str(path)
    assert read(source.body(0, 1000)) == DATA


def test_an_entry_of_a_directory_of_bytes_can_be_uploaded(path):
    assert type(as_source(entry_of(path.parent))) is FileSource


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are text")
def test_a_name_that_is_not_text_can_be_read(tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff\xfe"
    Path(os.fsdecode(name)).write_bytes(DATA)

    assert read(FileSource(name).body(0, 1000)) == DATA


@pytest.mark.parametrize("path", ["", b"", 7, None, 1.5, ["a"]])
def test_a_value_that_is_not_a_path_is_refused(path):
    with pytest.raises(InvalidInput, match="path"):
        FileSource(path)


@pytest.mark.skipif(sys.platform == "win32", reason="a directory that is in use can't be removed there")
def test_without_a_working_directory_a_relative_path_is_refused(tmp_path, path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(InvalidInput, match="relative path 'file', and the working directory was removed") as caught:
        as_source("file")
    assert caught.value.hint == "Use an absolute path"
    assert FileSource(path).fingerprint().size == 1000


class OwnSource:
    name = "own"

    def fingerprint(self):
        return Fingerprint(0)

    def body(self, offset, size):
        return BytesBody(b"")

    def close(self):
        pass


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("/a/file", FileSource),
        (Path("/a/file"), FileSource),
        (b"abc", BytesSource),
        (bytearray(b"abc"), BytesSource),
        (memoryview(b"abc"), BytesSource),
        (io.BytesIO(b"abc"), StreamSource),
        (OwnSource(), OwnSource),
        (FileSource("/a/file"), FileSource),
    ],
)
def test_what_a_caller_gives_becomes_a_source(given, kind):
    source = as_source(given)

    assert type(source) is kind
    assert isinstance(source, Source)


def test_an_open_file_is_a_stream(path):
    with path.open("rb") as file:
        assert read(as_source(file).body(0, 10)) == DATA[:10]


@pytest.mark.parametrize("given", [None, 7, ["a", "b"], object()])
def test_a_value_that_is_not_a_source_is_refused(given):
    with pytest.raises(InvalidInput, match="a source must be a path, bytes, a binary stream or a Source, not"):
        as_source(given)
