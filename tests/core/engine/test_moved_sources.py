"""Sources whose inode is another one than it was, while their size and time are the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from partwise import sources
from partwise.errors import SourceChanged
from partwise.sources import FileSource
from partwise.testing.fakes import ChangingSource, pseudo_random_bytes


def moved(source):
    """Mounted again: the same bytes, under another inode."""
    source.replace(source.data)


@pytest.fixture
def other():
    return pseudo_random_bytes(45, "other")


def test_a_source_that_moved_between_runs_is_resumed(uploader, backend, interrupted, source, data):
    interrupted(source)
    moved(source)
    result = uploader().upload(source, "key")

    assert (result.parts_resumed, result.parts_sent, result.warnings) == (2, 3, ())
    assert backend.read("key") == data


@pytest.mark.parametrize("reading", range(1, 6))
def test_a_source_that_moves_during_the_upload_is_uploaded(uploader, backend, data, left_behind, reading):
    source = ChangingSource(data, changes={reading: moved}, chunk_size=3)
    result = uploader().upload(source, "key")

    assert (backend.read("key"), result.parts_sent) == (data, 5)
    assert backend.calls["upload_part"] == 5
    assert left_behind() == []


def test_a_source_that_moves_at_each_check_is_uploaded(uploader, backend, data):
    source = ChangingSource(data, changes=dict.fromkeys(range(1, 30), moved))
    uploader().upload(source, "key")

    assert backend.read("key") == data


@pytest.mark.parametrize("reading", range(1, 6))
def test_another_file_in_its_place_is_never_mixed_with_it(uploader, backend, data, other, reading):
    source = ChangingSource(data, changes={reading: lambda source: source.replace(other)}, chunk_size=3)
    with pytest.raises(SourceChanged, match="was replaced by another file during the upload"):
        uploader().upload(source, "key")

    assert (backend.keys(), backend.uploads) == ([], {})
    assert backend.calls["upload_part"] == reading, "no part is sent after the change"


def test_another_file_is_found_out_though_the_first_parts_are_the_same(uploader, backend, data):
    """They are compared once more before the object is made."""
    cut = data[:20] + bytes(25)
    source = ChangingSource(data, changes={3: lambda source: source.replace(cut)}, chunk_size=3)
    with pytest.raises(SourceChanged, match="was replaced by another file during the upload"):
        uploader().upload(source, "key")

    assert (backend.keys(), backend.uploads) == ([], {})


def test_another_file_is_found_out_though_the_source_had_moved_before(uploader, backend, data):
    """The first move was harmless; what is sent after the second one is compared before the object is made."""
    mixed = bytes(10) + data[10:40] + bytes(5)
    source = ChangingSource(data, changes={2: moved, 4: lambda source: source.replace(mixed)}, chunk_size=3)
    with pytest.raises(SourceChanged, match="was replaced by another file during the upload"):
        uploader().upload(source, "key")

    assert (backend.keys(), backend.uploads) == ([], {})


def test_what_is_a_single_put_is_of_one_file(uploader, backend, data, other):
    source = ChangingSource(data, changes={1: lambda source: source.replace(other)}, chunk_size=3)
    uploader(multipart_threshold=100).upload(source, "key")

    assert backend.read("key") == other
    assert source.readings == 2


class System:
    """The system as one module sees it: `os.stat` and `os.fstat` tell other inodes than there are."""

    def __init__(self, inode, opened):
        self.inode = inode
        self.opened = opened

    def __getattr__(self, name):
        return getattr(os, name)

    def stat(self, path):
        return _with_inode(Path(path).stat(), self.inode)

    def fstat(self, file):
        return _with_inode(os.fstat(file), self.opened)


def _with_inode(status, inode):
    return os.stat_result([status[0], inode, *status[2:]], {"st_mtime_ns": status.st_mtime_ns})


@pytest.fixture
def path(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    return path


def test_a_file_that_is_opened_under_another_inode_is_compared(uploader, backend, path, data, monkeypatch):
    """It was another one for a moment, between two looks: nothing else would tell."""
    monkeypatch.setattr(sources, "os", System(1, 2))
    source = FileSource(path)
    source.fingerprint()
    assert b"".join(bytes(chunk) for chunk in source.body(0, 45).chunks()) == data

    uploader().upload(path, "key")
    assert backend.read("key") == data


def test_a_file_that_was_read_under_another_inode_is_known_to_have_moved(path, data, monkeypatch):
    system = System(1, 1)
    monkeypatch.setattr(sources, "os", system)
    source = FileSource(path)
    before = source.fingerprint()
    system.opened = 2
    next(source.body(0, 45).chunks())

    assert before.identity == "1"
    assert source.fingerprint().identity == "1+2"


def test_a_file_system_that_is_mounted_again_sends_no_part_again(uploader, backend, path, data, monkeypatch):
    system = System(1, 1)
    monkeypatch.setattr(sources, "os", system)

    def mount_anew(at):
        system.inode = system.opened = 2

    uploader().upload(path, "key", progress=mount_anew)

    assert backend.read("key") == data
    assert backend.calls["upload_part"] == 5


def test_where_the_storage_reports_no_checksums_those_of_the_checkpoint_decide(
    interrupted, uploader, make_backend, source
):
    backend = make_backend(part_checksums=False)
    interrupted(source, backend=backend)
    moved(source)
    result = uploader(backend=backend).upload(source, "key")

    assert result.parts_resumed == 2
