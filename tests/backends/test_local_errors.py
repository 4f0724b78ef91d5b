"""The translation of errors of the operating system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from partwise.backends.local.errors import translate_os_errors, translated
from partwise.errors import AccessDenied, BackendError, BucketNotFound, InvalidKey, ServerFailed, UploadNotFound


@pytest.mark.parametrize(
    ("number", "kind", "retryable"),
    [
        (errno.EIO, ServerFailed, True),
        (errno.EMFILE, ServerFailed, True),
        (errno.ENOENT, ServerFailed, True),
        (errno.ENOSPC, ServerFailed, False),
        (errno.EDQUOT, ServerFailed, False),
        (errno.EACCES, AccessDenied, False),
        (errno.EPERM, AccessDenied, False),
        (errno.EROFS, AccessDenied, False),
        (errno.EFBIG, BackendError, False),
        (errno.EISDIR, BackendError, False),
    ],
)
def test_each_error_number_has_its_class(tmp_path, number, kind, retryable):
    error = translated(OSError(number, os.strerror(number), "/a/file"), "storing 'key'", tmp_path)

    assert (type(error), error.retryable, error.code) == (kind, retryable, errno.errorcode[number])
    assert "storing 'key'" in error.message


def test_a_full_disk_is_named_and_the_message_says_what_is_kept(tmp_path):
    error = translated(OSError(errno.ENOSPC, "No space"), "storing part 3 of 'key'", tmp_path / "not" / "there")
    mount = tmp_path
    while not os.path.ismount(mount):
        mount = mount.parent

    assert f"the disk at {mount}, which holds {tmp_path}/not/there, is full" in error.message
    assert "the parts stored so far are kept" in error.message


def test_a_full_disk_that_is_the_bucket_is_named_once():
    error = translated(OSError(errno.ENOSPC, "No space"), "storing part 3 of 'key'", Path("/"))

    assert "the disk at / is full" in error.message


def test_a_path_that_is_too_long_is_an_invalid_key():
    assert isinstance(translated(OSError(errno.ENAMETOOLONG, "File name too long"), "looking", Path("/")), InvalidKey)


def test_a_file_in_place_of_the_bucket_is_bucket_not_found(tmp_path):
    file = tmp_path / "file"
    file.touch()

    assert isinstance(translated(NotADirectoryError(errno.ENOTDIR, "Not a directory"), "x", file), BucketNotFound)


def test_a_bucket_that_can_not_be_looked_at_is_no_reason_for_another_error(tmp_path, monkeypatch):
    def stale(*args, **kwargs):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "stat", stale)
    monkeypatch.setattr(os, "lstat", stale)

    error = translated(OSError(errno.ELOOP, "Too many levels of symbolic links"), "storing", tmp_path)
    assert (type(error), error.code) == (BackendError, "ELOOP")


def test_a_file_that_another_program_has_open_is_a_transient_error_on_windows():
    error = PermissionError(errno.EACCES, "in use")
    error.winerror = 32

    assert translated(error, "storing", Path("/")).retryable


def test_an_error_without_a_number_is_permanent():
    error = translated(OSError("odd"), "storing", Path("/"))

    assert (type(error), error.code, error.retryable) == (BackendError, None, False)
    assert "odd" in error.message


def test_the_native_error_is_the_cause(tmp_path):
    native = OSError(errno.EIO, "I/O error")

    with pytest.raises(ServerFailed) as caught, translate_os_errors("storing", tmp_path):
        raise native

    assert caught.value.__cause__ is native


def test_a_missing_file_can_be_translated_to_another_error(tmp_path):
    meaning = UploadNotFound("gone")

    with pytest.raises(UploadNotFound) as caught, translate_os_errors("storing", tmp_path, missing=lambda: meaning):
        raise FileNotFoundError(errno.ENOENT, "No such file")

    assert caught.value is meaning


def test_other_exceptions_propagate(tmp_path):
    with pytest.raises(ValueError, match="mine"), translate_os_errors("storing", tmp_path):
        raise ValueError("mine")
