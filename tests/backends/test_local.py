"""The local backend: what it does beyond the common contract."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import shutil
import time
from io import FileIO
from pathlib import Path

import pytest

from partwise import _durable
from partwise.backends.local import backend as local
from partwise.backends.local import content as _local_content
from partwise.backends.local import directories as _local_directories
from partwise.backends.local import lookup as _local_lookup
from partwise.backends.local import upload_folder as _local_uploads
from partwise.backends.local.backend import ABANDONED_AFTER, LocalBackend, open_url
from partwise.backends.oss import OSSOptions
from partwise.checksums import crc64
from partwise.errors import (
    AccessDenied,
    BackendError,
    BucketNotFound,
    IntegrityError,
    InvalidInput,
    InvalidKey,
    ObjectExists,
    PartRejected,
    ServerFailed,
    UnsupportedOption,
    UploadNotFound,
)
from partwise.model import TIB, ObjectOptions, PendingUpload, utc

NO_OPTIONS = ObjectOptions()
ONCE = ObjectOptions(forbid_overwrite=True)
RICH = ObjectOptions(content_type="text/plain", metadata={"a": "1"})

needs_symlinks = pytest.mark.skipif(os.name == "nt", reason="making symbolic links takes a privilege on Windows")


@pytest.fixture
def backend(directory):
    return LocalBackend(directory)


@pytest.fixture
def meta_dir(directory):
    return directory / ".partwise"


def start_upload(backend, body, *datas, key="key", options=NO_OPTIONS):
    upload_id = backend.initiate_upload(key, options)
    return upload_id, [backend.upload_part(key, upload_id, n, body(data)) for n, data in enumerate(datas, 1)]


def names_in(folder):
    """The names in a folder; an empty list if it does not exist."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def raising(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


# --- properties ------------------------------------------------------------------------------------------------------


def test_an_object_is_a_plain_file(backend, body, directory):
    backend.put_object("a/b/c.txt", body(b"plain"), NO_OPTIONS)

    assert (directory / "a" / "b" / "c.txt").read_bytes() == b"plain"
    assert backend.path_of("a/b/c.txt") == directory / "a" / "b" / "c.txt"


def test_the_location_is_the_url_of_the_resolved_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert LocalBackend("a b/../ü").location == tmp_path.as_uri() + "/%C3%BC"
    assert LocalBackend("x").directory == tmp_path / "x"


@needs_symlinks
def test_the_location_is_the_same_through_a_symbolic_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    assert LocalBackend(tmp_path / "link").location == LocalBackend(tmp_path / "real").location


def test_the_size_of_an_object_is_limited_by_the_file_system(backend):
    limits = backend.limits

    assert (limits.min_part_size, limits.max_part_size, limits.max_parts) == (1, 5 * TIB, 10_000)
    assert limits.max_put_size == limits.max_object_size == 10_000 * 5 * TIB


def test_the_capabilities_are_part_lists_and_checksums(backend):
    capabilities = backend.capabilities

    assert (capabilities.lists_parts, capabilities.part_checksums, capabilities.object_checksums) == (True, True, True)


@pytest.mark.parametrize(
    "option",
    [
        {"acl": "private"},
        {"encryption": "AES256"},
        {"storage_class": "IA"},
        {"if_match": "E"},
        {"traffic_limit": 819_200},
        {"request_payer": "requester"},
    ],
)
def test_an_unsupported_option_is_refused_by_name(backend, body, option):
    with pytest.raises(UnsupportedOption, match=next(iter(option))):
        backend.put_object("key", body(b"x"), OSSOptions(**option))


def test_a_pickled_backend_opens_the_same_directory(backend, body):
    upload_id, parts = start_upload(backend, body, b"one")

    other = pickle.loads(pickle.dumps(backend))
    other.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert other.location == backend.location
    assert backend.head_object("key").size == 3


def test_reading_does_not_create_the_directory(backend, directory):
    assert backend.head_object("key") is None
    assert backend.describe("key") is None
    with pytest.raises(BucketNotFound, match="does not exist, so it has no uploads"):
        backend.list_uploads()
    backend.abort_upload("key", "0" * 32)
    assert not directory.exists()


def test_the_first_write_creates_the_directory_and_its_parents(tmp_path, body):
    LocalBackend(tmp_path / "a" / "b").put_object("key", body(b"x"), NO_OPTIONS)

    assert (tmp_path / "a" / "b" / "key").read_bytes() == b"x"


def test_a_file_in_place_of_the_directory_is_bucket_not_found(backend, body, directory):
    directory.write_bytes(b"a file")

    with pytest.raises(BucketNotFound):
        backend.initiate_upload("key", NO_OPTIONS)
    with pytest.raises(BucketNotFound):
        backend.put_object("key", body(b"x"), NO_OPTIONS)
    with pytest.raises(BucketNotFound):
        list(backend.list_uploads())

    assert backend.head_object("key") is None


def test_upload_ids_are_random(backend):
    ids = {backend.initiate_upload("key", NO_OPTIONS) for _ in range(20)}

    assert len(ids) == 20
    assert all(len(upload_id) == 32 and int(upload_id, 16) >= 0 for upload_id in ids)


def test_upload_ids_and_times_can_be_injected(directory):
    backend = LocalBackend(directory, clock=lambda: 5000.25, upload_ids=lambda: "Id-1")

    assert backend.initiate_upload("key", NO_OPTIONS) == "Id-1"
    assert list(LocalBackend(directory).list_uploads()) == [PendingUpload("key", "Id-1", utc(5000.25))]


def test_an_upload_id_that_is_in_use_is_not_used_again(directory, body, meta_dir):
    backend = LocalBackend(directory, upload_ids=lambda: "same")
    _, parts = start_upload(backend, body, b"one")

    with pytest.raises(BackendError):
        backend.initiate_upload("other", NO_OPTIONS)

    assert list(backend.list_parts("key", "same")) == parts
    assert names_in(meta_dir / "temp") == []


def test_an_upload_id_that_is_not_a_file_name_is_refused(directory):
    with pytest.raises(InvalidInput):
        LocalBackend(directory, upload_ids=lambda: "../x").initiate_upload("key", NO_OPTIONS)


# --- paths -----------------------------------------------------------------------------------------------------------


def test_an_object_can_not_be_a_directory_as_well(backend, body, directory):
    backend.put_object("a", body(b"x"), NO_OPTIONS)

    with pytest.raises(BackendError, match="'a' is an object") as caught:
        backend.initiate_upload("a/b/c", NO_OPTIONS)
    with pytest.raises(BackendError, match="'a' is an object"):
        backend.put_object("a/b", body(b"x"), NO_OPTIONS)

    assert not caught.value.retryable
    assert backend.head_object("a/b") is None
    assert list(backend.list_uploads()) == []


def test_complete_fails_and_keeps_the_upload_if_an_object_replaced_the_directory(backend, body):
    upload_id, parts = start_upload(backend, body, b"one", key="a/b")
    backend.put_object("a", body(b"x"), NO_OPTIONS)

    with pytest.raises(BackendError, match="'a' is an object"):
        backend.complete_upload("a/b", upload_id, parts, NO_OPTIONS)

    assert list(backend.list_parts("a/b", upload_id)) == parts


def test_a_directory_is_not_replaced_by_an_object(backend, body):
    upload_id, parts = start_upload(backend, body, b"one", key="a")
    backend.put_object("a/b", body(b"x"), NO_OPTIONS)

    with pytest.raises(BackendError, match="a directory of that name"):
        backend.initiate_upload("a", NO_OPTIONS)
    with pytest.raises(BackendError, match="a directory of that name"):
        backend.complete_upload("a", upload_id, parts, NO_OPTIONS)

    assert backend.head_object("a") is None
    assert list(backend.list_parts("a", upload_id)) == parts


def test_only_a_regular_file_is_an_object(backend, directory):
    directory.mkdir()
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(directory / "pipe")

    assert backend.head_object("pipe") is None


@needs_symlinks
@pytest.mark.parametrize("key", ["out/key", "out/deep/key", "meta/uploads/key", "upper/uploads/key", "file"])
def test_a_symbolic_link_that_leads_out_is_refused(backend, body, directory, tmp_path, key):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (directory / ".partwise").mkdir(parents=True)
    (directory / "out").symlink_to(tmp_path / "elsewhere")
    (directory / "meta").symlink_to(".partwise")
    (directory / "upper").symlink_to(".PARTWISE")
    (directory / "file").symlink_to(tmp_path / "secret")

    with pytest.raises(InvalidKey, match="symbolic link"):
        backend.initiate_upload(key, NO_OPTIONS)
    with pytest.raises(InvalidKey):
        backend.put_object(key, body(b"x"), NO_OPTIONS)
    with pytest.raises(InvalidKey):
        backend.head_object(key)
    with pytest.raises(InvalidKey):
        backend.path_of(key)

    assert names_in(tmp_path / "elsewhere") == []
    assert (tmp_path / "secret").read_bytes() == b"secret"


@needs_symlinks
def test_a_link_that_leads_out_since_the_initiate_is_refused_at_complete(backend, body, directory, tmp_path):
    upload_id, parts = start_upload(backend, body, b"one", key="sub/key")
    (tmp_path / "elsewhere").mkdir()
    (directory / "sub").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(InvalidKey):
        backend.complete_upload("sub/key", upload_id, parts, NO_OPTIONS)

    assert names_in(tmp_path / "elsewhere") == []


@needs_symlinks
def test_a_symbolic_link_within_the_directory_is_followed(backend, body, directory):
    (directory / "real").mkdir(parents=True)
    (directory / "link").symlink_to("real")

    backend.put_object("link/key", body(b"x"), NO_OPTIONS)

    assert (directory / "real" / "key").read_bytes() == b"x"
    assert backend.head_object("real/key").size == 1


@needs_symlinks
def test_a_loop_of_links_is_a_backend_error(backend, body, directory):
    directory.mkdir()
    (directory / "a").symlink_to("b")
    (directory / "b").symlink_to("a")

    with pytest.raises((BackendError, InvalidKey)):
        backend.put_object("a/key", body(b"x"), NO_OPTIONS)


def test_a_path_too_long_for_the_system_is_refused_before_anything_is_written(backend):
    with pytest.raises(InvalidKey):
        backend.initiate_upload("/".join(["x" * 200] * 40), NO_OPTIONS)

    assert list(backend.list_uploads()) == []


@pytest.mark.parametrize("key", ["mounted/key", "mounted/new/key"])
def test_a_key_on_another_file_system_is_refused_before_anything_is_written(backend, body, directory, monkeypatch, key):
    """Completing would fail after all parts were sent: a rename does not move a file to another file system."""
    (directory / "mounted").mkdir(parents=True)
    status = _local_directories.Directory._status

    def with_a_mount(self):
        found = status(self)
        if Path(self.path) == directory / "mounted":
            return os.stat_result([*found[:2], found.st_dev + 1, *found[3:10]])
        return found

    monkeypatch.setattr(_local_directories.Directory, "_status", with_a_mount)

    for call in (
        lambda: backend.put_object(key, body(b"x"), NO_OPTIONS),
        lambda: backend.initiate_upload(key, NO_OPTIONS),
    ):
        with pytest.raises(BackendError, match=f"{directory / 'mounted'} is on another file system") as caught:
            call()
        assert (caught.value.code, caught.value.retryable) == ("EXDEV", False)
    assert [path.relative_to(directory).as_posix() for path in directory.rglob("*")] == ["mounted"]


# --- heads -----------------------------------------------------------------------------------------------------------


def test_the_head_of_a_file_created_by_hand_is_computed_from_its_bytes(backend, directory):
    (directory / "sub").mkdir(parents=True)
    (directory / "sub" / "mine").write_bytes(b"by hand" * 1000)

    head = backend.head_object("sub/mine")

    assert (head.size, head.checksum, head.metadata) == (7000, crc64(b"by hand" * 1000), {})
    assert backend.describe("sub/mine") == NO_OPTIONS


def test_the_same_bytes_have_the_same_etag_however_they_were_uploaded(backend, body, directory):
    upload_id, parts = start_upload(backend, body, b"one", b"two")
    stored = backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    (directory / "mine").write_bytes(b"onetwo")

    assert stored.etag == backend.put_object("put", body(b"onetwo"), NO_OPTIONS).etag
    assert stored.etag == backend.head_object("mine").etag


@pytest.mark.parametrize("edit", ["in place", "replaced", "appended"])
def test_an_object_edited_by_hand_loses_its_metadata(backend, body, directory, edit):
    backend.put_object("key", body(b"stored"), RICH)
    path = directory / "key"
    if edit == "replaced":
        path.unlink()
    with path.open("r+b" if edit == "in place" else "ab") as file:
        file.write(b"edited")
    os.utime(path, (1, 1))

    head = backend.head_object("key")

    assert (head.checksum, head.metadata) == (crc64(path.read_bytes()), {})


def test_an_object_with_a_record_is_not_read_for_its_checksum(backend, body, monkeypatch):
    backend.put_object("key", body(b"stored"), RICH)
    monkeypatch.setattr(_local_lookup, "checksum_file", lambda file: pytest.fail("the object was read"))

    assert backend.head_object("key").checksum == crc64(b"stored")


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"version": 1}',
        b'{"version": 2, "key": "key", "crc64": "0000000000000001", "options": {}}',
        b'{"version": 1, "key": "other", "crc64": "0000000000000001", "options": {}}',
        b'{"version": 1, "key": "key", "crc64": "1", "options": {}}',
        b'{"version": 1, "key": "key", "crc64": "0000000000000001", "options": {"later": 1}}',
    ],
)
def test_a_damaged_record_of_metadata_is_ignored(backend, body, meta_dir, damage):
    backend.put_object("key", body(b"stored"), RICH)
    [record] = meta_dir.glob("objects/*/*")
    record.write_bytes(damage)

    head = backend.head_object("key")

    assert (head.checksum, head.metadata) == (crc64(b"stored"), {})


def test_tags_stored_by_version_0_1_0_are_read(backend, body, meta_dir):
    """Their name in the record was "tagging"."""
    backend.put_object("key", body(b"abc"), ObjectOptions(tags={"team": "a"}))
    [record] = meta_dir.glob("objects/*/*")
    record.write_text(record.read_text().replace('"tags"', '"tagging"'))

    assert backend.describe("key").tags == {"team": "a"}


def test_the_metadata_of_a_replaced_object_is_removed(backend, body, meta_dir):
    backend.put_object("key", body(b"old"), RICH)
    backend.put_object("key", body(b"new!"), RICH)
    [record] = meta_dir.glob("objects/*/*")
    described = json.loads(record.read_bytes())["crc64"]

    backend.put_object("key", body(b"newer"), NO_OPTIONS)

    assert described == f"{crc64(b'new!'):016X}"
    assert not meta_dir.exists()
    assert backend.describe("key") == NO_OPTIONS


def test_metadata_left_by_crashes_is_removed_once_it_is_old(directory, body, meta_dir):
    LocalBackend(directory).put_object("key", body(b"old"), RICH)
    [record] = meta_dir.glob("objects/*/*")
    left, not_ours = record.with_name("1-2-3.json"), record.with_name("notes.json")
    for path in (left, not_ours):
        path.write_bytes(b"{}")
    young = LocalBackend(directory)
    young.put_object("key", body(b"new"), RICH)
    kept = left.exists()

    later = LocalBackend(directory, clock=lambda: time.time() + ABANDONED_AFTER + 60)
    later.put_object("key", body(b"newer"), RICH)

    assert kept
    assert not left.exists()
    assert not_ours.exists()
    assert len(list(meta_dir.glob("objects/*/*"))) == 2
    assert later.head_object("key").metadata == RICH.metadata


def test_head_retries_if_the_object_is_replaced_meanwhile(backend, body, directory, monkeypatch):
    directory.mkdir()
    (directory / "key").write_bytes(b"by hand")
    original = _local_lookup.Sidecars.read

    def replaced_meanwhile(self, key, version):
        found = original(self, key, version)
        monkeypatch.undo()
        backend.put_object("key", body(b"stored"), RICH)
        return found

    monkeypatch.setattr(_local_lookup.Sidecars, "read", replaced_meanwhile)

    assert backend.head_object("key").metadata == RICH.metadata


def test_head_of_an_object_that_is_replaced_all_the_time_is_a_transient_error(backend, directory, monkeypatch):
    directory.mkdir()
    (directory / "key").write_bytes(b"by hand")
    monkeypatch.setattr(_local_lookup, "_is_same_version", lambda left, right: False)

    with pytest.raises(ServerFailed):
        backend.head_object("key")


def test_head_of_an_object_that_is_deleted_meanwhile_is_none(backend, directory, monkeypatch):
    directory.mkdir()
    (directory / "key").write_bytes(b"by hand")
    monkeypatch.setattr(_local_lookup.Sidecars, "read", lambda self, key, version: (directory / "key").unlink())

    assert backend.head_object("key") is None


# --- parts -----------------------------------------------------------------------------------------------------------


def test_a_new_backend_continues_an_upload_by_its_id(directory, body):
    upload_id, [one] = start_upload(LocalBackend(directory), body, b"one", options=RICH)
    fresh = LocalBackend(directory)
    two = fresh.upload_part("key", upload_id, 2, body(b"two"))

    fresh.complete_upload("key", upload_id, [one, two], NO_OPTIONS)

    assert (directory / "key").read_bytes() == b"onetwo"
    assert fresh.describe("key") == RICH


def test_a_completed_or_aborted_upload_leaves_no_files(backend, body, meta_dir):
    upload_id, parts = start_upload(backend, body, b"one", b"two")
    backend.complete_upload("key", upload_id, parts, ONCE)
    upload_id, _ = start_upload(backend, body, b"one")
    backend.abort_upload("key", upload_id)

    assert not meta_dir.exists()


def test_a_failed_body_leaves_no_file(backend, body, meta_dir):
    upload_id, _ = start_upload(backend, body)
    with pytest.raises(IntegrityError):
        backend.upload_part("key", upload_id, 1, body(b"x" * 5000, promised=6000))
    with pytest.raises(IntegrityError):
        backend.put_object("key", body(b"x" * 5000, promised=6000), NO_OPTIONS)

    assert names_in(meta_dir / "uploads" / upload_id / "parts") == []
    assert names_in(meta_dir / "temp") == []


def test_a_rejected_complete_leaves_no_file(backend, body, meta_dir):
    upload_id, parts = start_upload(backend, body, b"one")
    backend.put_object("key", body(b"x"), NO_OPTIONS)
    with pytest.raises(ObjectExists):
        backend.complete_upload("key", upload_id, parts, ONCE)

    assert names_in(meta_dir / "uploads" / upload_id) == ["parts", "upload.json"]


@pytest.mark.parametrize("place", [0, 1500, 2999])
def test_a_flipped_bit_in_a_part_is_detected_at_complete_and_fixed_by_sending_it_again(
    backend, body, directory, meta_dir, place
):
    upload_id, parts = start_upload(backend, body, b"one", b"x" * 3000, b"three")
    path = meta_dir / "uploads" / upload_id / "parts" / "00002"
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)

    with pytest.raises(PartRejected, match="part 2 is damaged on the disk"):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert backend.head_object("key") is None
    assert list(backend.list_parts("key", upload_id)) == parts[::2]
    backend.upload_part("key", upload_id, 2, body(b"x" * 3000))
    backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    assert (directory / "key").read_bytes() == b"one" + b"x" * 3000 + b"three"


def test_one_complete_detects_all_damaged_parts(backend, body, directory, meta_dir):
    """A power loss may damage many, and each attempt to complete takes time."""
    upload_id, parts = start_upload(backend, body, b"one", b"two", b"three", b"four")
    for number in (1, 3, 4):
        path = meta_dir / "uploads" / upload_id / "parts" / f"{number:05}"
        path.write_bytes(b"\0" + path.read_bytes()[1:])

    with pytest.raises(PartRejected, match="3 parts, the first of which is part 1, are damaged on the disk"):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert list(backend.list_parts("key", upload_id)) == [parts[1]]
    assert names_in(meta_dir / "uploads" / upload_id) == ["parts", "upload.json"]


def test_a_flipped_bit_in_a_trailer_changes_the_part(backend, body, meta_dir):
    upload_id, parts = start_upload(backend, body, b"one")
    path = meta_dir / "uploads" / upload_id / "parts" / "00001"
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))

    with pytest.raises(PartRejected):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    with pytest.raises(PartRejected):
        backend.complete_upload("key", upload_id, list(backend.list_parts("key", upload_id)), NO_OPTIONS)

    assert list(backend.list_parts("key", upload_id)) == []


@pytest.mark.parametrize("size", [0, 10, 24, 3000, 3023])
def test_a_truncated_part_is_not_listed(backend, body, meta_dir, size):
    upload_id, parts = start_upload(backend, body, b"x" * 3000)
    os.truncate(meta_dir / "uploads" / upload_id / "parts" / "00001", size)

    assert list(backend.list_parts("key", upload_id)) == []
    with pytest.raises(PartRejected):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)


def test_a_part_truncated_after_it_was_listed_is_rejected(backend, body, meta_dir, monkeypatch):
    upload_id, parts = start_upload(backend, body, b"x" * 3000)
    monkeypatch.setattr(local.UploadFolder, "parts", lambda self: {1: parts[0]})
    os.truncate(meta_dir / "uploads" / upload_id / "parts" / "00001", 100)

    with pytest.raises(PartRejected):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)


def test_a_part_removed_after_it_was_listed_is_a_transient_error(backend, body, meta_dir, monkeypatch):
    upload_id, parts = start_upload(backend, body, b"one")
    monkeypatch.setattr(local.UploadFolder, "parts", lambda self: {1: parts[0]})
    (meta_dir / "uploads" / upload_id / "parts" / "00001").unlink()

    with pytest.raises(ServerFailed):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)


ENDS = {
    "complete": lambda backend, upload_id, parts: backend.complete_upload("key", upload_id, parts, NO_OPTIONS),
    "abort": lambda backend, upload_id, _: backend.abort_upload("key", upload_id),
}
LOOKS = {"complete": ENDS["complete"], "list": lambda backend, upload_id, _: list(backend.list_parts("key", upload_id))}


@pytest.mark.parametrize(("end", "look"), [(end, look) for end in ENDS for look in LOOKS])
def test_an_upload_that_ends_while_its_parts_are_listed_is_not_found(backend, body, monkeypatch, end, look):
    """Parts that are removed together with their upload are not missing parts."""
    upload_id, parts = start_upload(backend, body, b"one", b"two")
    original = _local_uploads.read_part

    def read_part(folder, name):
        if name == "00002":
            monkeypatch.setattr(_local_uploads, "read_part", original)
            ENDS[end](backend, upload_id, parts)
        return original(folder, name)

    monkeypatch.setattr(_local_uploads, "read_part", read_part)
    with pytest.raises(UploadNotFound):
        LOOKS[look](backend, upload_id, parts)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b'{"version": 1, "key": "key", "initiated": 1}',
        b'{"version": 1, "key": "key", "options": {}}',
        b'{"version": 9, "key": "key", "initiated": 1, "options": {}}',
    ],
)
def test_an_upload_with_a_damaged_record_is_not_found(backend, body, meta_dir, damage):
    upload_id, _ = start_upload(backend, body, b"one")
    (meta_dir / "uploads" / upload_id / "upload.json").write_bytes(damage)

    with pytest.raises(UploadNotFound):
        list(backend.list_parts("key", upload_id))
    assert list(backend.list_uploads()) == []


def test_an_upload_that_is_aborted_while_it_is_completed_makes_no_object(backend, body, directory, monkeypatch):
    upload_id, parts = start_upload(backend, body, b"one")
    original = local.assemble

    def aborted_meanwhile(*args):
        checksum = original(*args)
        LocalBackend(directory).abort_upload("key", upload_id)
        return checksum

    monkeypatch.setattr(local, "assemble", aborted_meanwhile)

    with pytest.raises(UploadNotFound):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    assert backend.head_object("key") is None


def test_an_upload_that_is_aborted_at_the_last_instant_makes_no_object(backend, body, directory, monkeypatch):
    upload_id, parts = start_upload(backend, body, b"one")
    original = local.UploadFolder.mark_committing

    def aborted_meanwhile(self, staged):
        original(self, staged)
        LocalBackend(directory).abort_upload("key", upload_id)

    monkeypatch.setattr(local.UploadFolder, "mark_committing", aborted_meanwhile)

    with pytest.raises(UploadNotFound):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    assert backend.head_object("key") is None


def test_an_upload_that_another_process_completed_meanwhile_makes_no_second_object(
    backend, body, directory, monkeypatch
):
    """Even if that process crashed before it dropped the upload."""
    upload_id, parts = start_upload(backend, body, b"one")
    original = local.assemble

    def completed_meanwhile(*args):
        checksum = original(*args)
        monkeypatch.undo()
        other = LocalBackend(directory)
        with monkeypatch.context() as crashed:
            crashed.setattr(local, "drop_upload", lambda root, upload_id: None)
            other.complete_upload("key", upload_id, parts, NO_OPTIONS)
        other.put_object("key", body(b"later"), NO_OPTIONS)
        return checksum

    monkeypatch.setattr(local, "assemble", completed_meanwhile)

    with pytest.raises(UploadNotFound):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    assert (directory / "key").read_bytes() == b"later"


def test_a_part_removed_during_the_listing_is_not_listed(backend, body, meta_dir, monkeypatch):
    upload_id, parts = start_upload(backend, body, b"one", b"two")
    original = _local_uploads.read_part

    def removing(folder, name):
        (meta_dir / "uploads" / upload_id / "parts" / "00001").unlink(missing_ok=True)
        return original(folder, name)

    monkeypatch.setattr(_local_uploads, "read_part", removing)

    assert list(backend.list_parts("key", upload_id)) == parts[1:]


def test_an_abort_after_another_process_aborted_succeeds(backend, body, directory, monkeypatch):
    upload_id, _ = start_upload(backend, body, b"one")
    original = local.UploadFolder.record

    def aborted_meanwhile(self):
        found = original(self)
        monkeypatch.undo()
        LocalBackend(directory).abort_upload("key", upload_id)
        return found

    monkeypatch.setattr(local.UploadFolder, "record", aborted_meanwhile)

    backend.abort_upload("key", upload_id)

    assert list(backend.list_uploads()) == []


def test_stray_files_among_the_uploads_are_ignored(backend, body, meta_dir):
    upload_id, parts = start_upload(backend, body, b"one")
    (meta_dir / "uploads" / "stray").write_bytes(b"x")
    (meta_dir / "uploads" / upload_id / "parts" / "note.txt").write_bytes(b"x")

    assert [upload.upload_id for upload in backend.list_uploads()] == [upload_id]
    assert list(backend.list_parts("key", upload_id)) == parts


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_named_and_the_parts_are_kept(backend, body, meta_dir, monkeypatch):
    upload_id, parts = start_upload(backend, body, b"one")
    with monkeypatch.context() as full:
        full.setattr(_durable, "write", raising(errno.ENOSPC))
        with pytest.raises(ServerFailed, match=r"storing part 2 of 'key' failed: the disk at .* is full") as caught:
            backend.upload_part("key", upload_id, 2, body(b"two"))

    assert not caught.value.retryable
    assert isinstance(caught.value.__cause__, OSError)
    assert names_in(meta_dir / "uploads" / upload_id / "parts") == ["00001"]
    assert list(backend.list_parts("key", upload_id)) == parts


def test_a_disk_that_is_full_at_complete_keeps_the_upload(backend, body, directory, monkeypatch):
    upload_id, parts = start_upload(backend, body, b"one")
    with monkeypatch.context() as full:
        full.setattr(_local_content, "append_copy", raising(errno.ENOSPC))
        with pytest.raises(ServerFailed):
            backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    backend.complete_upload("key", upload_id, parts, NO_OPTIONS)
    assert (directory / "key").read_bytes() == b"one"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_directory_without_write_permission_is_access_denied(directory, body):
    directory.mkdir(mode=0o500)

    with pytest.raises(AccessDenied):
        LocalBackend(directory).put_object("key", body(b"x"), NO_OPTIONS)


def test_a_permission_error_is_access_denied(backend, body, monkeypatch):
    with monkeypatch.context() as denied:
        denied.setattr(os, "mkdir", raising(errno.EROFS))
        with pytest.raises(AccessDenied) as caught:
            backend.initiate_upload("key", NO_OPTIONS)

    assert caught.value.code == "EROFS"


class FullAtClose(FileIO):
    """A file on NFS, where a full quota may be reported when the file is closed."""

    def close(self):
        is_open, is_new = not self.closed, not self.closed and self.writable()
        super().close()
        if is_open and is_new:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


STORES = {
    "part": lambda backend, upload_id, body: backend.upload_part("key", upload_id, 1, body),
    "put": lambda backend, upload_id, body: backend.put_object("key", body, NO_OPTIONS),
}


@pytest.mark.parametrize("store", STORES)
def test_a_failure_that_close_reports_is_translated(backend, body, meta_dir, monkeypatch, store):
    upload_id, _ = start_upload(backend, body)
    with monkeypatch.context() as full:
        full.setattr(_local_directories, "FileIO", FullAtClose)
        with pytest.raises(ServerFailed, match="quota is used up"):
            STORES[store](backend, upload_id, body(b"one"))

    assert backend.head_object("key") is None
    assert names_in(meta_dir / "uploads" / upload_id / "parts") == names_in(meta_dir / "temp") == []


@pytest.mark.parametrize("store", STORES)
def test_a_failure_of_close_does_not_replace_that_of_the_body(backend, body, meta_dir, monkeypatch, store):
    upload_id, _ = start_upload(backend, body)
    failure = OSError(5, "mine")

    def fail(given):
        raise failure

    with monkeypatch.context() as full:
        full.setattr(_local_directories, "FileIO", FullAtClose)
        with pytest.raises(OSError, match="mine") as caught:
            STORES[store](backend, upload_id, body(b"one", before=fail))

    assert caught.value is failure
    assert names_in(meta_dir / "uploads" / upload_id / "parts") == names_in(meta_dir / "temp") == []


def test_a_failure_of_close_does_not_replace_an_interrupt_of_complete(backend, body, meta_dir, monkeypatch):
    upload_id, parts = start_upload(backend, body, b"one")

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as full:
        full.setattr(_local_directories, "FileIO", FullAtClose)
        full.setattr(local, "assemble", interrupted)
        with pytest.raises(KeyboardInterrupt):
            backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert names_in(meta_dir / "uploads" / upload_id) == ["parts", "upload.json"]


def test_a_failed_clean_up_does_not_fail_complete(backend, body, directory, monkeypatch):
    upload_id, parts = start_upload(backend, body, b"one")
    with monkeypatch.context() as failing:
        failing.setattr(local, "drop_upload", raising(errno.EIO))
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert (directory / "key").read_bytes() == b"one"
    assert list(backend.list_uploads()) == []
    with pytest.raises(UploadNotFound):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)


def test_a_failed_abort_raises(backend, body, monkeypatch):
    upload_id, _ = start_upload(backend, body, b"one")
    with monkeypatch.context() as failing:
        failing.setattr(os, "rename", raising(errno.EIO))
        with pytest.raises(ServerFailed):
            backend.abort_upload("key", upload_id)

    backend.abort_upload("key", upload_id)
    assert list(backend.list_uploads()) == []


def test_an_upload_with_an_open_file_is_dropped_where_such_folders_can_not_be_renamed(
    backend, body, meta_dir, monkeypatch
):
    upload_id, _ = start_upload(backend, body, b"one")
    with monkeypatch.context() as windows:
        windows.setattr(os, "rename", raising(errno.EACCES))
        backend.abort_upload("key", upload_id)

    assert list(backend.list_uploads()) == []
    assert names_in(meta_dir / "uploads") == []


# --- what crashed processes leave ------------------------------------------------------------------------------------


UNIQUE = "0123456789abcdef"


def left_behind(meta_dir, upload_id):
    """What crashes can leave: files to be removed at once, and files to be removed once they are old."""
    trash = meta_dir / "trash" / UNIQUE
    (trash / "parts").mkdir(parents=True)
    (trash / "parts" / "00001").touch()
    folder = meta_dir / "uploads" / upload_id
    headless = meta_dir / "uploads" / "headless"
    (headless / "parts").mkdir(parents=True)
    committed = meta_dir / "uploads" / "committed"
    shutil.copytree(folder, committed)
    (committed / f"commit-{UNIQUE}").touch()
    old = [
        meta_dir / "temp" / UNIQUE,
        meta_dir / "temp" / UNIQUE[::-1] / "upload.json",
        folder / "parts" / f"00002.{UNIQUE}.new",
        folder / f"staged-{UNIQUE}",
        folder / f"staged-{UNIQUE[::-1]}",
        folder / f"commit-{UNIQUE[::-1]}",
    ]
    for path in old:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    return [trash, committed], [*old, headless]


def test_the_first_write_of_a_later_backend_sweeps_what_crashes_left(directory, body, meta_dir):
    upload_id, parts = start_upload(LocalBackend(directory), body, b"one")
    at_once, when_old = left_behind(meta_dir, upload_id)

    now = LocalBackend(directory)
    now.initiate_upload("other", NO_OPTIONS)
    left_now = [path.exists() for path in at_once], [path.exists() for path in when_old]
    later = LocalBackend(directory, clock=lambda: time.time() + ABANDONED_AFTER + 60)
    later.put_object("other", body(b"x"), NO_OPTIONS)

    assert left_now == ([False, False], [True] * 7)
    assert not any(path.exists() for path in when_old)
    assert list(later.list_parts("key", upload_id)) == parts
    assert len(list(later.list_uploads())) == 2


def test_a_backend_that_is_used_for_days_sweeps_once_a_day(directory, body, meta_dir):
    """Another process may crash at any time."""
    now = time.time()
    backend = LocalBackend(directory, clock=lambda: now)
    upload_id, _ = start_upload(backend, body, b"one")
    at_once, _ = left_behind(meta_dir, upload_id)
    left = []
    for seconds in (ABANDONED_AFTER - 1, 1):
        now += seconds
        backend.put_object("other", body(b"x"), NO_OPTIONS)
        left.append([path.exists() for path in at_once])

    assert left == [[True, True], [False, False]]


@pytest.mark.parametrize(("age", "swept"), [(86_000, False), (86_800, True)], ids=["24 hours", "more than 24 hours"])
def test_files_changed_in_the_last_24_hours_are_not_swept(directory, body, meta_dir, age, swept):
    upload_id, _ = start_upload(LocalBackend(directory), body, b"one")
    _, when_old = left_behind(meta_dir, upload_id)
    now = time.time()
    for path in when_old:
        os.utime(path, (now, now))
        os.utime(path.parent, (now, now))

    LocalBackend(directory, clock=lambda: now + age).put_object("other", body(b"x"), RICH)

    assert {path.exists() for path in when_old} == {not swept}


@pytest.mark.parametrize(("age", "dropped"), [(86_000, False), (86_800, True)], ids=["24 hours", "more than 24 hours"])
def test_metadata_of_the_last_24_hours_is_kept(directory, body, meta_dir, age, dropped):
    LocalBackend(directory).put_object("key", body(b"old"), RICH)
    [record] = meta_dir.glob("objects/*/*")
    coming = record.with_name("1-2-3.json")
    coming.write_bytes(b"{}")

    LocalBackend(directory, clock=lambda: time.time() + age).put_object("key", body(b"new"), RICH)

    assert coming.exists() is not dropped


def all_in(folder):
    return {path.relative_to(folder): path.lstat().st_ino for path in folder.rglob("*")}


READS = {
    "head_object": lambda backend, upload_id: backend.head_object("key"),
    "describe": lambda backend, upload_id: backend.describe("key"),
    "open_object": lambda backend, upload_id: backend.open_object("object").close(),
    "path_of": lambda backend, upload_id: backend.path_of("key"),
    "list_parts": lambda backend, upload_id: list(backend.list_parts("key", upload_id)),
    "list_uploads": lambda backend, upload_id: list(backend.list_uploads()),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("upload", ["pending", "committed", "missing"])
def test_a_read_does_not_remove_what_crashes_left(directory, body, meta_dir, read, upload):
    LocalBackend(directory).put_object("object", body(b"x"), RICH)
    upload_id, _ = start_upload(LocalBackend(directory), body, b"one")
    left_behind(meta_dir, upload_id)
    before = all_in(directory)
    later = LocalBackend(directory, clock=lambda: time.time() + ABANDONED_AFTER + 60)

    with contextlib.suppress(UploadNotFound):
        READS[read](later, {"pending": upload_id}.get(upload, upload))

    assert all_in(directory) == before


def test_an_abort_finishes_the_removal_that_a_crashed_process_started(directory, body, meta_dir):
    upload_id, _ = start_upload(LocalBackend(directory), body, b"one")
    trash = meta_dir / "trash"
    trash.mkdir(mode=0o700)
    (meta_dir / "uploads" / upload_id).rename(trash / UNIQUE)
    LocalBackend(directory).abort_upload("key", upload_id)

    assert not meta_dir.exists()


def test_an_abort_removes_what_is_left_of_a_completed_upload(directory, body, meta_dir, monkeypatch):
    """As left by a process that crashes after it stored the object."""
    upload_id, parts = start_upload(LocalBackend(directory), body, b"one")
    with monkeypatch.context() as crashed:
        crashed.setattr(local, "drop_upload", raising(errno.EIO))
        LocalBackend(directory).complete_upload("key", upload_id, parts, NO_OPTIONS)
    left = names_in(meta_dir / "uploads")

    LocalBackend(directory).abort_upload("key", upload_id)

    assert left == [upload_id]
    assert not meta_dir.exists()
    assert (directory / "key").read_bytes() == b"one"


def test_only_names_that_partwise_generates_are_removed(directory, body, meta_dir):
    upload_id, _ = start_upload(LocalBackend(directory), body, b"one")
    left_behind(meta_dir, upload_id)
    strange = [
        meta_dir / "notes",
        meta_dir / "trash" / "letters",
        meta_dir / "trash" / "album" / "parts" / "00001",
        meta_dir / "trash" / UNIQUE / "letter",
        meta_dir / "trash" / UNIQUE / "parts" / "letter",
        meta_dir / "trash" / UNIQUE / "album" / "00001",
        meta_dir / "temp" / "letter",
        meta_dir / "temp" / UNIQUE[::-1] / "letter",
        meta_dir / "uploads" / "notes.txt",
        meta_dir / "uploads" / "album" / "picture",
        meta_dir / "uploads" / "album" / "parts" / "picture",
        meta_dir / "uploads" / upload_id / "staged-letter",
        meta_dir / "uploads" / upload_id / "parts" / "letter.new",
        meta_dir / "uploads" / upload_id / "parts" / "00001.new",
    ]
    for path in strange:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")

    later = LocalBackend(directory, clock=lambda: time.time() + 10 * ABANDONED_AFTER)
    later.put_object("other", body(b"x"), NO_OPTIONS)
    later.abort_upload("key", upload_id)

    [moved] = [path for path in (meta_dir / "trash").iterdir() if path.name not in {"letters", "album", UNIQUE}]
    kept = [
        moved / path.relative_to(meta_dir / "uploads" / upload_id) if upload_id in path.parts else path
        for path in strange
    ]
    assert [path.read_bytes() for path in kept] == [b"mine"] * len(strange)


def test_a_failed_sweep_does_not_fail_the_call(directory, body, meta_dir, monkeypatch):
    upload_id, _ = start_upload(LocalBackend(directory), body, b"one")
    left_behind(meta_dir, upload_id)
    later = LocalBackend(directory, clock=lambda: time.time() + ABANDONED_AFTER + 60)
    with monkeypatch.context() as failing:
        failing.setattr(os, "unlink", raising(errno.EIO))
        failing.setattr(os, "rmdir", raising(errno.EIO))

        assert later.initiate_upload("other", NO_OPTIONS)


# --- systems with fewer features -------------------------------------------------------------------------------------


def complete_three(backend, body, directory, options=NO_OPTIONS):
    datas = [bytes([n]) * 2_500_000 for n in (1, 2)] + [b"tail"]
    upload_id, parts = start_upload(backend, body, *datas)
    stored = backend.complete_upload("key", upload_id, parts, options)
    assert (directory / "key").read_bytes() == b"".join(datas)
    assert stored.checksum == crc64(b"".join(datas))


def test_without_copy_file_range_parts_are_read_and_written(backend, body, directory, monkeypatch):
    monkeypatch.delattr(os, "copy_file_range", raising=False)

    complete_three(backend, body, directory)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP])
def test_where_copy_file_range_is_refused_parts_are_read_and_written(backend, body, directory, monkeypatch, number):
    monkeypatch.setattr(os, "copy_file_range", raising(number), raising=False)

    complete_three(backend, body, directory)


def test_a_permanent_error_of_copy_file_range_fails_complete(backend, body, directory, monkeypatch):
    monkeypatch.setattr(os, "copy_file_range", raising(errno.EIO), raising=False)
    upload_id, parts = start_upload(backend, body, b"one")

    with pytest.raises(ServerFailed):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert list(backend.list_parts("key", upload_id)) == parts


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="this system does not copy in the kernel")
def test_a_short_copy_of_the_kernel_is_continued(backend, body, directory, monkeypatch):
    original = os.copy_file_range
    monkeypatch.setattr(os, "copy_file_range", lambda s, t, n, so, to: original(s, t, min(n, 99_999), so, to))

    complete_three(backend, body, directory)


def test_a_copy_of_zero_bytes_by_the_kernel_is_checked_by_reading(backend, body, directory, monkeypatch):
    monkeypatch.setattr(os, "copy_file_range", lambda *args: 0, raising=False)

    complete_three(backend, body, directory)


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="this system does not copy in the kernel")
def test_bytes_that_are_copied_wrong_are_detected(backend, body, monkeypatch):
    original = os.copy_file_range

    def wrong(source, target, count, source_offset, target_offset):
        copied = original(source, target, count, source_offset, target_offset)
        os.pwrite(target, b"?", target_offset)
        return copied

    monkeypatch.setattr(os, "copy_file_range", wrong)
    upload_id, parts = start_upload(backend, body, b"one")

    with pytest.raises(PartRejected):
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)


def test_without_descriptors_of_directories_entries_are_reached_by_path(backend, body, directory, monkeypatch):
    monkeypatch.setattr(_local_directories, "BY_DESCRIPTOR", False)
    monkeypatch.setattr(os, "open", without_directories(os.open))

    complete_three(backend, body, directory)
    backend.put_object("a/b", body(b"x"), RICH)
    upload_id, _ = start_upload(backend, body, b"one")
    backend.abort_upload("key", upload_id)

    assert backend.describe("a/b") == RICH
    with pytest.raises(BackendError, match="'key' is an object"):
        backend.put_object("key/c", body(b"x"), NO_OPTIONS)


def without_directories(original):
    def opens(path, flags, mode=0o777, *, dir_fd=None):
        assert dir_fd is None
        return original(path, flags, mode)

    return opens


def test_directories_that_can_not_be_synced_are_not_an_error(backend, body, directory, monkeypatch):
    original = os.fsync

    def no_directories(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", no_directories)

    complete_three(backend, body, directory)


def test_the_strongest_sync_of_the_system_is_used(backend, body, monkeypatch):
    synced = []

    class Fcntl:
        F_FULLFSYNC = 51

        @staticmethod
        def fcntl(file, command):
            synced.append(command)
            return 0

    monkeypatch.setattr(_durable, "fcntl", Fcntl)
    monkeypatch.setattr(_local_directories, "sync_directory", lambda path: None)
    monkeypatch.setattr(os, "fsync", lambda file: synced.append("plain"))
    backend.put_object("key", body(b"x"), NO_OPTIONS)
    assert 51 in synced
    synced.clear()
    monkeypatch.setattr(Fcntl, "fcntl", staticmethod(raising(errno.ENOTSUP)))
    backend.put_object("key", body(b"x"), NO_OPTIONS)
    assert synced
    assert set(synced) == {"plain"}


def test_without_fcntl_files_are_synced_by_fsync(backend, body, monkeypatch):
    monkeypatch.setattr(_durable, "fcntl", None)
    backend.put_object("key", body(b"x"), NO_OPTIONS)
    assert backend.head_object("key").size == 1


def test_a_failed_sync_fails_the_call(backend, body, monkeypatch):
    monkeypatch.setattr(os, "fsync", raising(errno.EIO))

    with pytest.raises(ServerFailed):
        backend.put_object("key", body(b"x"), NO_OPTIONS)


@pytest.fixture(params=["missing", errno.EPERM, errno.EOPNOTSUPP])
def no_links(request, monkeypatch):
    """A system without hard links, or a file system that refuses them."""
    if request.param == "missing":
        monkeypatch.delattr(os, "link")
    else:
        monkeypatch.setattr(os, "link", raising(request.param))


def test_without_hard_links_a_new_object_is_stored(backend, body, directory, no_links):
    complete_three(backend, body, directory, ONCE)


def test_without_hard_links_an_object_is_not_overwritten(backend, body, directory, no_links, monkeypatch):
    backend.put_object("key", body(b"old"), NO_OPTIONS)
    # Without the first check, as if a writer had stored the object after it.
    monkeypatch.setattr(local.Target, "check", lambda *args: None)

    with pytest.raises(ObjectExists):
        backend.put_object("key", body(b"new"), ONCE)

    assert (directory / "key").read_bytes() == b"old"


def test_an_object_stored_meanwhile_is_not_overwritten(backend, body, directory, monkeypatch):
    upload_id, parts = start_upload(backend, body, b"new")
    original = local.UploadFolder.mark_committing

    def stored_meanwhile(self, staged):
        original(self, staged)
        LocalBackend(directory).put_object("key", body(b"old"), NO_OPTIONS)

    monkeypatch.setattr(local.UploadFolder, "mark_committing", stored_meanwhile)

    with pytest.raises(ObjectExists):
        backend.complete_upload("key", upload_id, parts, ONCE)

    assert (directory / "key").read_bytes() == b"old"
    assert list(backend.list_parts("key", upload_id)) == parts


@pytest.mark.parametrize("call", ["put", "complete"])
def test_a_link_that_exists_although_it_was_refused_is_the_object(backend, body, directory, monkeypatch, call):
    """As on NFS, if the server makes the link, restarts before it has responded, and gets the request again."""
    upload_id, parts = start_upload(backend, body, b"new")
    link = os.link

    def made_twice(*args, **kwargs):
        link(*args, **kwargs)
        link(*args, **kwargs)

    monkeypatch.setattr(os, "link", made_twice)
    if call == "put":
        backend.put_object("key", body(b"new"), ONCE)
        backend.abort_upload("key", upload_id)
    else:
        backend.complete_upload("key", upload_id, parts, ONCE)

    assert (directory / "key").read_bytes() == b"new"
    assert (directory / "key").stat().st_nlink == 1
    assert names_in(directory) == ["key"]


def test_a_permanent_error_of_link_fails_the_call(backend, body, monkeypatch):
    monkeypatch.setattr(os, "link", raising(errno.ENOSPC))

    with pytest.raises(ServerFailed):
        backend.put_object("key", body(b"x"), ONCE)


# --- by URL ----------------------------------------------------------------------------------------------------------


def test_a_url_opens_the_directory(tmp_path, body):
    backend, key = open_url((tmp_path / "a b").as_uri() + "/key%201", timeout=3)
    backend.put_object(key, body(b"x"), NO_OPTIONS)

    assert (tmp_path / "a b" / "key 1").read_bytes() == b"x"


def test_the_location_with_a_slash_opens_the_same_directory(tmp_path):
    backend = LocalBackend(tmp_path / "ü")

    again, key = open_url(backend.location + "/")

    assert (again.location, key) == (backend.location, "")


def test_an_unknown_setting_is_refused_by_name():
    with pytest.raises(InvalidInput, match="region"):
        open_url("file:///dir/key", region="x", timeout=3)
