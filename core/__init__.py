"""
Resumable multipart uploads, with any backend and any checkpoint store.

    import partwise

    partwise.upload("backup.tar", "file:///mnt/backups/backup.tar")

If the process dies, the machine restarts, or the network drops, run the same line again: it resumes the upload.

Submodules are imported when one of their names is first used, so that importing partwise costs little in a program that
does not upload, and the command line responds quickly.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

# Without a handler, Python would print warnings to stderr in programs that have not configured logging.
logging.getLogger(__name__).addHandler(logging.NullHandler())

# Each lists in its `__all__` what it adds to this package. Each imports only modules before it.
_MODULES = (
    "errors",
    "model",
    "checkpoint",
    "results",
    "config",
    "protocols",
    "registry",
    "sources",
    "explain",
    "task",
    "uploader",
)

# Names that have moved to a backend, which is imported only for them.
_MOVED = {"Callback": "partwise.backends.oss"}

if TYPE_CHECKING:
    from partwise.backends.oss import Callback as Callback
    from partwise.checkpoint import *
    from partwise.config import *
    from partwise.errors import *
    from partwise.explain import *
    from partwise.model import *
    from partwise.protocols import *
    from partwise.registry import *
    from partwise.results import *
    from partwise.sources import *
    from partwise.task import *
    from partwise.uploader import *

    __version__: str
else:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name == "__all__":
            return [public for module in _MODULES for public in import_module(f"{__name__}.{module}").__all__]
        if name == "__version__":
            value = globals()[name] = _version()
            return value
        if name in _MOVED:
            return getattr(import_module(_MOVED[name]), name)
        if not name.startswith("_"):
            for module in _MODULES:
                found = import_module(f"{__name__}.{module}")
                if name in found.__all__:
                    value = globals()[name] = getattr(found, name)
                    return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULES, *__getattr__("__all__"), "__version__"})

    def _version() -> str:
        # Imported here: it takes longer to import than all of partwise.
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("partwise")
        except PackageNotFoundError:  # a copy of the package without its metadata, such as in a frozen program
            return "0+unknown"  # a valid version, lower than any release
