"""
Content types by the ending of a name, by the same rule on every machine.

Backends that send a content type use it, too, so that an object has the same type with each of them.
"""

from __future__ import annotations

from functools import lru_cache

#: A compressed file has the type of its compression, whatever it contains. The type of its content would be wrong
#: without a content encoding, and with one, clients would decompress a file that was stored compressed.
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

#: What the versions of Python disagree about. A run with another Python would not resume an upload, since its content
#: type is fixed when it starts.
_PINNED = {
    ".js": "text/javascript",
    ".markdown": "text/markdown",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".rst": "text/x-rst",
    ".rtf": "application/rtf",
}


def guess_content_type(name: str) -> str | None:
    """
    Guess the content type of an object or a file from the ending of its name.

    The ending is not case-sensitive. A compressed file (``.gz``, ``.tar.gz``, ``.svgz``, ``.zst`` …) has the type of
    its compression.

    Args:
        name: a key or a path; only the part after its last slash counts.

    Returns:
        the type; None if there is no ending or it is not known. A name that is only an ending, such as ``.txt``, has
        none.
    """
    stem, dot, ending = name.rpartition("/")[2].lower().rpartition(".")
    if not stem:
        return None
    return _COMPRESSED.get(dot + ending) or _types().get(dot + ending)


@lru_cache(maxsize=1)
def _types() -> dict[str, str]:
    """Return the table of Python itself, without the additions of this machine."""
    from mimetypes import MimeTypes  # imported here: many uploads specify their type

    usual, registered = MimeTypes().types_map
    return {**usual, **registered, **_PINNED}
