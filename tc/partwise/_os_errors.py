"""
Transient errors of the operating system, for files that are read or written.

Private to partwise. It imports no other module of partwise.
"""

from __future__ import annotations

import errno

#: A temporary failure of a disk or a network file system, a restart of its server, too many open files, out of memory,
#: a lock. None of them means that the file does not exist or that access is denied.
_TRANSIENT_NAMES = """
    EAGAIN EBUSY ECOMM ECONNABORTED ECONNREFUSED ECONNRESET EHOSTDOWN EHOSTUNREACH EINTR EIO EMFILE ENETDOWN ENETRESET
    ENETUNREACH ENFILE ENOBUFS ENOLCK ENOLINK ENOMEM ENOTCONN EREMOTEIO ESHUTDOWN ESTALE ETIMEDOUT
"""

# Not every system knows each of them.
_TRANSIENT = frozenset(getattr(errno, name) for name in _TRANSIENT_NAMES.split() if hasattr(errno, name))

#: Windows: another program has opened the file, or locked a part of it.
IN_USE_WINDOWS = frozenset({32, 33})

#: Windows: the network path is not available, timed out, or out of resources.
_TRANSIENT_WINDOWS = IN_USE_WINDOWS | {53, 59, 64, 121, 1231, 1450}


def is_transient(error: OSError) -> bool:
    """Return whether the same operation may succeed if it is retried."""
    return error.errno in _TRANSIENT or getattr(error, "winerror", None) in _TRANSIENT_WINDOWS
