"""
Which content type the ending of a name stands for: one rule, the same on every machine.

The backends that send a content type use it, too, so that an upload has one type whichever of them it goes through.
"""

from __future__ import annotations

from functools import lru_cache

#: A compressed file is of the type of its compression, whatever is inside. The type of what is inside would be wrong
#: without a content encoding, and with one a client would decompress what was stored as a compressed file.
_COMPRESSED = {
    ".br": "application/x-brotli",
    ".bz2": "application/x-bzip2",
    ".gz": "application/gzip",
    ".lz": "application/x-lzip",
    ".lz4": "application/x-lz4",
    ".lzma": "application/x-lzma",
    ".sz": "application/x-snappy-framed",
    ".svgz": "application/gzip",
    ".taz": "application/x-compress",
    ".tbz": "application/x-bzip2",
    ".tbz2": "application/x-bzip2",
    ".tgz": "application/gzip",
    ".tlz": "application/x-lzma",
    ".txz": "application/x-xz",
    ".tzst": "application/zstd",
    ".xz": "application/x-xz",
    ".z": "application/x-compress",
    ".zst": "application/zstd",
}


def guess_content_type(name: str) -> str | None:
    """
    Guess the content type of an object or a file by the ending of its name.

    Capital letters make no difference. A compressed file (``.gz``, ``.tar.gz``, ``.svgz``, ``.zst`` …) is of the type
    of its compression.

    Args:
        name: a key or a path; what stands after its last slash counts.

    Returns:
        The type; None where there is no ending or it is not known. A name that is only an ending, such as ``.txt``,
        has none.
    """
    stem, dot, ending = name.rpartition("/")[2].lower().rpartition(".")
    if not stem:
        return None
    return _COMPRESSED.get(dot + ending) or _types().get(dot + ending)


@lru_cache(maxsize=1)
def _types() -> dict[str, str]:
    """The table that comes with Python, without what a machine adds to it."""
    from mimetypes import MimeTypes  # here, since many uploads name their type

    usual, registered = MimeTypes().types_map
    return {**usual, **registered}
