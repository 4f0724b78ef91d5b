"""Which content type the ending of a name stands for."""

from __future__ import annotations

import mimetypes

import pytest

from partwise import TransferConfig, Uploader
from partwise.backends.memory import MemoryBackend
from partwise.content_types import guess_content_type


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text/plain"),
        ("dir.d/photo.JPG", "image/jpeg"),
        ("a.tar", "application/x-tar"),
        ("no-ending", None),
        ("dir.txt/file", None),
        ("dir.txt/", None),
        (".txt", None),
        ("dir/.txt", None),
        ("a.unheard-of", None),
        ("a.", None),
        ("", None),
        ("data:a.txt", "text/plain"),
        ("C:\\files\\a.txt", "text/plain"),
        ("a.rtf", "application/rtf"),
        ("a.js", "text/javascript"),
        ("a.md", "text/markdown"),
    ],
)
def test_the_ending_of_a_name_tells_its_type(name, kind):
    assert guess_content_type(name) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.tar.gz", "application/gzip"),
        ("index.html.gz", "application/gzip"),
        ("INDEX.HTML.GZ", "application/gzip"),
        (".tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.svgz", "application/gzip"),
        ("a.csv.bz2", "application/x-bzip2"),
        ("a.tbz2", "application/x-bzip2"),
        ("a.tar.xz", "application/x-xz"),
        ("a.txz", "application/x-xz"),
        ("a.tar.zst", "application/zstd"),
        ("a.tzst", "application/zstd"),
        ("a.tar.Z", "application/x-compress"),
        ("a.html.br", "application/x-brotli"),
        ("a.lz4", "application/x-lz4"),
        ("a.zip", "application/zip"),
    ],
)
def test_a_compressed_file_is_of_the_type_of_its_compression(name, kind):
    assert guess_content_type(name) == kind


def test_what_a_machine_adds_to_the_table_changes_nothing():
    mimetypes.add_type("application/x-added-here", ".txt")
    try:
        assert guess_content_type("a.txt") == "text/plain"
    finally:
        mimetypes.init()


@pytest.mark.parametrize("threshold", [0, 1024], ids=["parts", "one piece"])
def test_an_upload_of_a_compressed_file_has_its_type_and_no_encoding(threshold):
    backend = MemoryBackend()
    Uploader(backend, config=TransferConfig(multipart_threshold=threshold)).upload(
        b"bytes", "index.html.gz", resume="never"
    )
    options = backend.describe("index.html.gz")

    assert (options.content_type, options.content_encoding) == ("application/gzip", None)
