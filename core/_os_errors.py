"""
Which errors of the operating system are transient: for the files that are read, and for those that are written.

Internal to partwise. It imports nothing of it.
"""

from __future__ import annotations

import errno

#: A network file system or a disk that fails for a moment, a server behind it that restarts, too many open files, no
#: memory for the moment, a lock. None of them says that the file is not there or may not be used.
_TRANSIENT = frozenset(
    getattr(errno, name)
    for name in (
        "EAGAIN",
        "EBUSY",
        "ECOMM",
        "ECONNABORTED",
        "ECONNREFUSED",
        "ECONNRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "EINTR",
        "EIO",
        "EMFILE",
        "ENETDOWN",
        "ENETRESET",
        "ENETUNREACH",
        "ENFILE",
        "ENOBUFS",
        "ENOLCK",
        "ENOLINK",
        "ENOMEM",
        "ENOTCONN",
        "EREMOTEIO",
        "ESHUTDOWN",
        "ESTALE",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)  # not every system knows each of them
)

#: Windows: another program has the file open, or has locked a part of it.
IN_USE_WINDOWS = frozenset({32, 33})

#: Windows: the network path is gone for the moment, timed out, or out of resources.
_TRANSIENT_WINDOWS = IN_USE_WINDOWS | {53, 59, 64, 121, 1231, 1450}


def is_transient(error: OSError) -> bool:
    """Whether the same operation may succeed if it is tried again, since the cause may be gone by then."""
    return error.errno in _TRANSIENT or getattr(error, "winerror", None) in _TRANSIENT_WINDOWS
