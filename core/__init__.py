"""
partwise: resumable multipart uploads. Any backend, any checkpoint store, one engine that is proven against failures.

    import partwise

    partwise.upload("backup.tar", "file:///mnt/backups/backup.tar")

If that process dies, or the machine restarts, or the network goes, the same line run again carries on where it stopped.

Nothing is imported before it is used, so that a program that may never upload starts as fast as one that can't, and so
that the command line answers at once when it is asked for help.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

logging.getLogger(__name__).addHandler(logging.NullHandler())  # a library does not speak where nobody asked for it

if TYPE_CHECKING:
    from partwise.checkpoint import Checkpoint, Fingerprint
    from partwise.config import TransferConfig
    from partwise.errors import (
        AccessDenied,
        BackendClosed,
        BackendError,
        BucketNotFound,
        CallbackError,
        CannotResume,
        CheckpointBusy,
        CheckpointDamaged,
        CheckpointError,
        CheckpointMismatch,
        CheckpointUnwritable,
        ClockSkewed,
        ConnectionFailed,
        CredentialsExpired,
        IntegrityError,
        InvalidInput,
        InvalidKey,
        ObjectExists,
        OutcomeUnknown,
        PartRejected,
        PartwiseError,
        ServerFailed,
        SourceChanged,
        SourceError,
        SourceMismatch,
        SourceUnreadable,
        StoreClosed,
        Throttled,
        UnknownScheme,
        UnsupportedOption,
        UploadCancelled,
        UploadFailed,
        UploadNotFound,
        UploadPaused,
        UploadStopped,
    )
    from partwise.explain import Explanation, PlannedPart
    from partwise.model import (
        Callback,
        Capabilities,
        ObjectOptions,
        PartLimits,
        PendingUpload,
        StoredObject,
        UploadedPart,
    )
    from partwise.protocols import Body, CheckpointStore, MultipartBackend, Source
    from partwise.registry import (
        open_backend,
        open_checkpoint_store,
        register_backend,
        register_checkpoint_store,
    )
    from partwise.results import Progress, UploadResult
    from partwise.sources import BytesSource, FileSource, StreamSource
    from partwise.task import UploadTask
    from partwise.uploader import Uploader, upload

# The same once more, by room.
_NAMES = {
    "checkpoint": ("Checkpoint", "Fingerprint"),
    "config": ("TransferConfig",),
    "errors": (
        "AccessDenied",
        "BackendClosed",
        "BackendError",
        "BucketNotFound",
        "CallbackError",
        "CannotResume",
        "CheckpointBusy",
        "CheckpointDamaged",
        "CheckpointError",
        "CheckpointMismatch",
        "CheckpointUnwritable",
        "ClockSkewed",
        "ConnectionFailed",
        "CredentialsExpired",
        "IntegrityError",
        "InvalidInput",
        "InvalidKey",
        "ObjectExists",
        "OutcomeUnknown",
        "PartRejected",
        "PartwiseError",
        "ServerFailed",
        "SourceChanged",
        "SourceError",
        "SourceMismatch",
        "SourceUnreadable",
        "StoreClosed",
        "Throttled",
        "UnknownScheme",
        "UnsupportedOption",
        "UploadCancelled",
        "UploadFailed",
        "UploadNotFound",
        "UploadPaused",
        "UploadStopped",
    ),
    "model": (
        "Callback",
        "Capabilities",
        "ObjectOptions",
        "PartLimits",
        "PendingUpload",
        "StoredObject",
        "UploadedPart",
    ),
    "results": (
        "Progress",
        "UploadResult",
    ),
    "registry": (
        "open_backend",
        "open_checkpoint_store",
        "register_backend",
        "register_checkpoint_store",
    ),
    "protocols": (
        "Body",
        "CheckpointStore",
        "MultipartBackend",
        "Source",
    ),
    "sources": (
        "BytesSource",
        "FileSource",
        "StreamSource",
    ),
    "uploader": (
        "Uploader",
        "upload",
    ),
    "task": ("UploadTask",),
    "explain": ("Explanation", "PlannedPart"),
}

_HOMES = {name: room for room, names in _NAMES.items() for name in names}

__all__ = [
    # what to call
    "upload",
    "Uploader",
    "UploadTask",
    "TransferConfig",
    "ObjectOptions",
    "Callback",
    # what comes back
    "UploadResult",
    "Progress",
    "Checkpoint",
    "Explanation",
    "PlannedPart",
    # where the bytes come from
    "FileSource",
    "BytesSource",
    "StreamSource",
    # to write a plug-in
    "MultipartBackend",
    "CheckpointStore",
    "Source",
    "Body",
    "PartLimits",
    "Capabilities",
    "UploadedPart",
    "PendingUpload",
    "StoredObject",
    "Fingerprint",
    "open_backend",
    "open_checkpoint_store",
    "register_backend",
    "register_checkpoint_store",
    # what can go wrong
    "PartwiseError",
    "InvalidInput",
    "InvalidKey",
    "UnknownScheme",
    "UnsupportedOption",
    "BackendError",
    "ConnectionFailed",
    "ServerFailed",
    "Throttled",
    "CredentialsExpired",
    "ClockSkewed",
    "IntegrityError",
    "UploadNotFound",
    "PartRejected",
    "AccessDenied",
    "BucketNotFound",
    "ObjectExists",
    "CallbackError",
    "BackendClosed",
    "CheckpointError",
    "CheckpointDamaged",
    "CheckpointBusy",
    "CheckpointUnwritable",
    "CheckpointMismatch",
    "StoreClosed",
    "SourceError",
    "SourceMismatch",
    "SourceUnreadable",
    "SourceChanged",
    "CannotResume",
    "UploadStopped",
    "UploadPaused",
    "UploadCancelled",
    "UploadFailed",
    "OutcomeUnknown",
]


if not TYPE_CHECKING:  # a checker would take any name for one that is there

    def __getattr__(name: str) -> object:
        if name in _NAMES:
            return import_module(f"{__name__}.{name}")
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
