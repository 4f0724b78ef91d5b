"""
Every error a user of partwise can meet, in one tree.

The classes follow what a caller does next: correct the call, wait and run the same call again, look at the source,
look at the account, or start anew. Programs act on the type and the fields; the message is for people and says what
happened, to which object, what is kept, and what to do.

A backend or a store written elsewhere raises these classes too: the protocols fit by shape, errors are recognised by
class.

Every class takes one positional message and keyword fields that all have a default, so that each of them survives
pickling on its way home from a worker process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from partwise.model import StoredObject, UploadResult


class PartwiseError(Exception):
    """The root of the tree: whatever partwise raises on purpose is one of these."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """What happened, in words for people."""
        return str(self.args[0]) if self.args else ""


# --- the call is wrong -----------------------------------------------------------------------------------------------


class InvalidInput(PartwiseError, ValueError):
    """
    The call itself is wrong, and nothing was sent: an impossible part size, a URL that names no object, a bad flag.

    Correct the call. A server that refuses a well-formed request is a `BackendError` instead.
    """


class InvalidKey(InvalidInput):
    """The backend can't hold an object of this name: it is empty, too long, or would leave the bucket."""


class UnknownScheme(InvalidInput):
    """No installed backend (or checkpoint store) serves URLs of this scheme; the message lists those that are."""


class UnsupportedOption(InvalidInput):
    """The backend does not honour an option that was asked for. An option is honoured or refused, never dropped."""


# --- the storage behind the backend ----------------------------------------------------------------------------------


class BackendError(PartwiseError):
    """
    The storage, or the way to it, refused or failed one operation.

    Args:
        message: what happened, for people.
        code: the storage's own word for it, such as ``"NoSuchUpload"``.
        status: the HTTP status, where there was one.
        request_id: the storage's name for the request, to be given to its support.
        host_id: the host that answered.
        ec: a finer error code, where the storage has one.
        retryable: whether the same operation may succeed if it is simply tried again; None takes the class's default.
        retry_after: seconds that the storage asks to be left alone before the next attempt; None where it did not say.
        details: further facts from the answer, by name. Never a secret.
    """

    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        host_id: str | None = None,
        ec: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        details: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.request_id = request_id
        self.host_id = host_id
        self.ec = ec
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.details = dict(details or {})


class ConnectionFailed(BackendError):
    """
    The connection could not be made, or broke, or fell silent. Retryable.

    The operation may have taken effect all the same: what was lost can be the answer alone.
    """

    default_retryable = True


class ServerFailed(BackendError):
    """The storage answered that it failed (HTTP 5xx and the like). Retryable; the effect may have happened."""

    default_retryable = True


class Throttled(BackendError):
    """The storage asks for fewer requests. Retryable, after `retry_after` seconds where it says so."""

    default_retryable = True


class CredentialsExpired(BackendError):
    """
    The credentials are past their time. Retryable, since the backend fetches new ones before its next attempt.

    A backend that can't fetch others raises it with ``retryable=False``.
    """

    default_retryable = True


class ClockSkewed(BackendError):
    """The storage found our clock off. Retryable, since the backend has corrected its clock from the answer."""

    default_retryable = True


class IntegrityError(BackendError):
    """
    What was stored is not what was sent: the checksums differ.

    Retryable for a part, which is simply sent again; for a whole object it is final, and the message says what stands
    under the key.
    """

    default_retryable = True


class UploadNotFound(BackendError):
    """The storage knows no multipart upload of this id: completed, aborted, or expired. Permanent for that id."""


class PartRejected(BackendError):
    """
    `complete_upload` refused the list of parts: one is missing, stale, foreign, too small, or out of order.

    The upload is still usable. The engine compares with `list_parts`, sends what differs, and completes again.
    """


class AccessDenied(BackendError):
    """The credentials don't allow it, or don't sign as they should. Retrying does not help; the checkpoint stays."""


class BucketNotFound(BackendError):
    """The bucket (or the directory that stands for it) does not exist."""


class ObjectExists(BackendError):
    """Overwriting was forbidden, and an object of this key exists."""


class CallbackError(BackendError):
    """
    The object is stored, but the application server that was to be told of it failed.

    Don't upload again: the checkpoint is gone, and `result` describes the object that stands under the key.

    Args:
        result: what was stored. A backend gives it as `StoredObject`; the engine hands it on as `UploadResult`.
    """

    def __init__(
        self,
        message: str = "",
        *,
        result: StoredObject | UploadResult | None = None,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        host_id: str | None = None,
        ec: str | None = None,
        details: dict[str, str] | None = None,
    ) -> None:
        super().__init__(
            message, code=code, status=status, request_id=request_id, host_id=host_id, ec=ec, details=details
        )
        self.result = result


class BackendClosed(BackendError):
    """The backend was used after `close`."""


# --- the checkpoint --------------------------------------------------------------------------------------------------


class CheckpointError(PartwiseError):
    """
    Something is wrong with the record of an upload's progress, not with the upload.

    Args:
        name: the checkpoint's name in its store.
        where: the place a person can look at (a path, a URL), if there is one.
    """

    def __init__(self, message: str = "", *, name: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.where = where


class CheckpointDamaged(CheckpointError):
    """
    The record can't be trusted: edited, cut in the middle, or written by a version that this one does not know.

    The engine warns, starts again and sends all parts. A torn last record, which is what the death of a process leaves,
    is not damage.

    Args:
        upload_id: the multipart upload that the record speaks of, where that much of it could still be verified, so
            that the abandoned upload can be aborted.
    """

    def __init__(
        self,
        message: str = "",
        *,
        name: str | None = None,
        where: str | None = None,
        upload_id: str | None = None,
    ) -> None:
        super().__init__(message, name=name, where=where)
        self.upload_id = upload_id


class CheckpointBusy(CheckpointError):
    """Another uploader, in this process or in another, holds this upload now. Nothing was sent."""


class CheckpointUnwritable(CheckpointError):
    """The record can't be written: no permission, a full disk, a directory that is none."""


class CheckpointMismatch(CheckpointError):
    """
    The one place that was named for the checkpoint holds that of another upload. Neither is touched.

    Finish or abort that upload first, or name another place.
    """


class StoreClosed(CheckpointError):
    """The checkpoint store was used after `close`."""


# --- the source ------------------------------------------------------------------------------------------------------


class SourceError(PartwiseError):
    """
    The bytes to upload can't be had.

    Args:
        source: the name of the source, a path for a file.
        retryable: whether the same bytes may be had if they are asked for again, as after an error of a network file
            system. The engine then retries the part, as after a retryable error of the storage.
    """

    def __init__(self, message: str = "", *, source: str | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.source = source
        self.retryable = retryable


class SourceUnreadable(SourceError):
    """The source is missing, is a directory, or may not be read; or a worker elsewhere finds another file there."""


class SourceMismatch(SourceError):
    """
    The source is not what the caller expects: it has another size or checksum than `expected_size` or
    `expected_crc64`, as a stream has whose producer died half way.

    Nothing was completed. Where that shows before anything is sent, this error comes out; otherwise it is the cause of
    an `UploadFailed`, and the parts that were sent are kept for a run with the right source.
    """


class SourceChanged(SourceError):
    """
    The source changed while it was being uploaded, so its parts would be of two versions.

    Nothing was completed. The upload and its checkpoint are dropped: the next run sends every part.
    """


# --- the upload as a whole -------------------------------------------------------------------------------------------


class CannotResume(PartwiseError):
    """
    ``resume="require"`` was asked for, and this upload can only start again. Nothing was changed.

    Args:
        reason: why, in a few words, such as ``"the source changed"``.
    """

    def __init__(self, message: str = "", *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class UploadStopped(PartwiseError):
    """
    An upload ended without an object.

    Args:
        key: the object that was to be written.
        upload_id: the multipart upload on the storage, None where there is none (any more).
        resumable: whether the same call carries on from here.
        bytes_done: bytes that the storage holds for this upload.
        bytes_total: the size of the source in bytes, None where it is not known yet.
        parts_done: parts that the storage holds.
        parts_total: parts in all, None where it is not known yet.
        warnings: what else went wrong on the way, such as an upload that could not be aborted.
    """

    def __init__(
        self,
        message: str = "",
        *,
        key: str = "",
        upload_id: str | None = None,
        resumable: bool = False,
        bytes_done: int = 0,
        bytes_total: int | None = None,
        parts_done: int = 0,
        parts_total: int | None = None,
        warnings: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.key = key
        self.upload_id = upload_id
        self.resumable = resumable
        self.bytes_done = bytes_done
        self.bytes_total = bytes_total
        self.parts_done = parts_done
        self.parts_total = parts_total
        self.warnings = warnings


class UploadPaused(UploadStopped):
    """`pause` was asked for: the upload and its checkpoint are kept, and the same call carries on."""


class UploadCancelled(UploadStopped):
    """`cancel` was asked for: the upload was aborted and its checkpoint deleted; `warnings` says if that failed."""


class UploadFailed(UploadStopped):
    """
    The upload failed; the last error is the `__cause__`.

    `resumable` tells whether progress is kept; `retryable` tells whether the cause may pass by itself, so that running
    the same call again is worth it.
    """

    @property
    def retryable(self) -> bool:
        """Whether the cause is of a kind that passes by itself: a broken connection, a busy server."""
        return bool(getattr(self.__cause__, "retryable", False))


class OutcomeUnknown(UploadFailed):
    """
    The answer to `complete_upload` was lost and the storage gives nothing to tell whether it took effect.

    Nothing is guessed: look at the object under `key`. The upload may be gone, so the next run may send every part.
    """
