"""
The exception hierarchy of partwise.

The classes follow what the caller does next: correct the call, run the same call again later, fix the source, fix the
account, or start again. Programs should use the type and the fields. The message is for people: it says what happened,
to which object, and what is kept; the hint says what to do next.

Third-party backends and stores raise these classes, too: protocols are structural, but errors are recognised by class.

Every class takes one positional message and keyword fields with defaults, so that all of them can be pickled and sent
back from a worker process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from partwise.model import StoredObject
    from partwise.results import UploadResult

__all__ = ["PartwiseError", "render_hint"]
__all__ += ["InvalidInput", "InvalidKey", "UnknownScheme", "UnsupportedOption"]
__all__ += ["BackendError", "ConnectionFailed", "HostNotFound", "ServerFailed", "Throttled", "CredentialsExpired"]
__all__ += ["ClockSkewed", "IntegrityError", "UploadNotFound", "UploadUnusable", "PartRejected", "AccessDenied"]
__all__ += ["BucketNotFound", "ObjectExists", "PreconditionFailed", "CallbackError", "BackendClosed"]
__all__ += ["CheckpointError", "CheckpointDamaged", "CheckpointBusy", "ClaimLost", "CheckpointUnwritable"]
__all__ += ["CheckpointMismatch", "StoreClosed"]
__all__ += ["SourceError", "SourceUnreadable", "SourceMismatch", "SourceChanged"]
__all__ += ["CannotResume", "UploadStopped", "UploadPaused", "UploadCancelled", "UploadFailed", "OutcomeUnknown"]


_SETTING = re.compile(r"\{(\w+)(?:=([^{}]*))?\}")


def render_hint(template: str, name_setting: Callable[[str, str | None], str]) -> str:
    """
    Replace the settings in a hint by their names in the caller's interface.

    Args:
        template: a hint with ``{setting}`` where a setting is named, or ``{setting=value}`` with the suggested value.
        name_setting: returns the text to show for a setting and its suggested value, None where there is none.
    """
    return _SETTING.sub(lambda match: name_setting(match[1], match[2]), template)


def _as_argument(setting: str, value: str | None) -> str:
    return f"{setting}=" if value is None else f"{setting}={value!r}"


def _join_sentences(*sentences: str) -> str:
    return ". ".join(sentence.removesuffix(".") for sentence in sentences if sentence)


class PartwiseError(Exception):
    """
    The base class of every exception that partwise raises on purpose.

    Args:
        message: what happened to what, for people.
        hint: what to do next, a sentence. A setting in braces, as in ``"Pass {ca_bundle}"`` or
            ``"Pass {resume=never}"``, is shown as a Python argument here, and as a flag by the command line. Pass no
            text from outside (a key, a path) in it, since that may contain braces.
    """

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message)
        self.hint_template = hint

    @property
    def message(self) -> str:
        """What happened, for people, without the hint."""
        return str(self.args[0]) if self.args else ""

    @property
    def hint(self) -> str:
        """What to do next, with settings as Python arguments; "" for no suggestion."""
        return render_hint(self.hint_template, _as_argument)

    def __str__(self) -> str:
        return _join_sentences(self.message, self.hint) if self.hint_template else self.message


# --- invalid calls ---------------------------------------------------------------------------------------------------


class InvalidInput(PartwiseError, ValueError):
    """
    The call itself is invalid, and nothing was sent.

    Examples are an impossible part size, a URL without a key, and an unknown option. Correct the call. If the server
    refuses a well-formed request, that is a `BackendError` instead.
    """


class InvalidKey(InvalidInput):
    """
    The backend can't store an object under this key.

    The key is empty, too long, or points outside the bucket.
    """


class UnknownScheme(InvalidInput):
    """
    No installed backend or checkpoint store handles this URL scheme.

    The message lists the known schemes.
    """


class UnsupportedOption(InvalidInput):
    """
    The backend does not support an option that was given.

    An option is honoured or refused, never ignored.
    """


# --- the storage -----------------------------------------------------------------------------------------------------


class BackendError(PartwiseError):
    """
    The storage refused or failed an operation, or the connection to it failed.

    Args:
        message: what happened, for people.
        code: the storage's error code, such as ``"NoSuchUpload"``.
        status: the HTTP status, if there was a response.
        request_id: the storage's id of the request, for its support.
        retryable: whether the same operation may succeed if it is repeated; None means the default of the class.
        retry_after: seconds that the storage asks to wait before the next attempt; None if it did not say.
        details: the storage's own facts about the failure, by name, such as a host or a finer error code. Never a
            secret.
        hint: what to do next; see `PartwiseError`.
    """

    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        details: Mapping[str, str] | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.status = status
        self.request_id = request_id
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.details = dict(details or {})


class ConnectionFailed(BackendError):
    """
    The connection could not be made, broke, or timed out. Retryable.

    The operation may have taken effect: perhaps only its response was lost.
    """

    default_retryable = True


class HostNotFound(ConnectionFailed):
    """
    The name of the host can't be resolved. Retryable.

    A computer without a network can't resolve any name. If that is all that happened until the engine gave up, the name
    is probably wrong: the error is then no longer retryable.
    """


class ServerFailed(BackendError):
    """
    The storage reported an internal failure, such as HTTP 5xx.

    Retryable; the operation may have taken effect.
    """

    default_retryable = True


class Throttled(BackendError):
    """
    The storage asks for fewer requests.

    Retryable, after `retry_after` seconds if that is set.
    """

    default_retryable = True


class CredentialsExpired(BackendError):
    """
    The credentials have expired.

    Retryable, since the backend fetches new ones before its next attempt. A backend that can't fetch new ones raises it
    with ``retryable=False``.
    """

    default_retryable = True


class ClockSkewed(BackendError):
    """
    The local clock is off.

    Retryable, since the backend has corrected its clock from the storage's response.
    """

    default_retryable = True


class IntegrityError(BackendError):
    """
    The storage has other bytes than those that were sent: the checksums differ.

    Retryable for a part, which is sent again. For a whole object it is final, and the message says what is stored under
    the key.
    """

    default_retryable = True


class UploadNotFound(BackendError):
    """
    The storage has no multipart upload of this id.

    It was completed or aborted, or it expired. Not retryable.
    """


class UploadUnusable(BackendError):
    """
    The multipart upload exists, but can never be completed.

    S3's 409 ConditionalRequestConflict is an example. Nothing was stored. The engine aborts the upload and starts
    again, once in a run. Not retryable.
    """


class PartRejected(BackendError):
    """
    The storage rejected the part list in `complete_upload`.

    A part is missing, outdated, too small, or out of order. The upload is still usable. The engine compares with
    `list_parts`, sends what differs, and completes again.
    """


class AccessDenied(BackendError):
    """
    The credentials lack a permission, or the signature is wrong.

    Not retryable; the checkpoint is kept.
    """


class BucketNotFound(BackendError):
    """The bucket (for the local backend: the directory) does not exist."""


class ObjectExists(BackendError):
    """An object with this key exists, and overwriting was forbidden."""


class PreconditionFailed(BackendError):
    """
    The stored object is not the one that `ObjectOptions.if_match` names.

    It has another ETag, or there is none. Nothing happened, and a multipart upload is still usable.
    """


class CallbackError(BackendError):
    """
    The object is stored, but the callback to the application server failed.

    Don't upload again: the object is complete and the checkpoint is deleted. `result` describes the object.

    Args:
        result: the stored object. A backend raises with a `StoredObject`; the engine replaces it by an `UploadResult`.
    """

    def __init__(
        self,
        message: str = "",
        *,
        result: StoredObject | UploadResult | None = None,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        details: Mapping[str, str] | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, code=code, status=status, request_id=request_id, details=details, hint=hint)
        self.result = result


class BackendClosed(BackendError):
    """The backend was used after `close`."""


# --- the checkpoint --------------------------------------------------------------------------------------------------


class CheckpointError(PartwiseError):
    """
    Something is wrong with the checkpoint of an upload, not with the upload.

    Args:
        name: the checkpoint's name in its store.
        where: its path or URL, without credentials, if there is one.
        retryable: whether the same call may succeed later, as after a fail-over of a database. The engine then retries
            it, as after a retryable error of the storage.
    """

    def __init__(
        self,
        message: str = "",
        *,
        name: str | None = None,
        where: str | None = None,
        retryable: bool = False,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.name = name
        self.where = where
        self.retryable = retryable


class CheckpointDamaged(CheckpointError):
    """
    The checkpoint can't be trusted.

    It was edited or truncated in the middle, or has an unknown format version. The engine warns, starts again and sends
    all parts. An incomplete last record, as a killed process leaves it, is not damage.

    Args:
        upload_id: the multipart upload of the checkpoint, if that could still be verified, so that the upload can be
            aborted.
    """

    def __init__(
        self,
        message: str = "",
        *,
        name: str | None = None,
        where: str | None = None,
        upload_id: str | None = None,
        retryable: bool = False,
        hint: str = "",
    ) -> None:
        super().__init__(message, name=name, where=where, retryable=retryable, hint=hint)
        self.upload_id = upload_id


class CheckpointBusy(CheckpointError):
    """
    Another run, in this process or in another, has claimed this upload.

    Nothing was sent.
    """


class ClaimLost(CheckpointBusy):
    """
    This run no longer holds the claim on its upload, and another run may hold it.

    The lease expired, or the connection that held a lock of the database broke. The run stops: it aborts, deletes and
    completes nothing more. The parts that it sent are kept, for the run that holds the claim.
    """


class CheckpointUnwritable(CheckpointError):
    """
    The checkpoint can't be written.

    Permission was denied, the disk is full, the path is not a directory, or a database can't be reached.
    """


class CheckpointMismatch(CheckpointError):
    """
    The file named for the checkpoint contains the checkpoint of another upload.

    Neither is changed. Finish or abort that upload first, or name another file.
    """


class StoreClosed(CheckpointError):
    """The checkpoint store was used after `close`."""


# --- the source ------------------------------------------------------------------------------------------------------


class SourceError(PartwiseError):
    """
    The source can't be read.

    Args:
        source: the name of the source, a path for a file.
        retryable: whether reading again may succeed, as after an error of a network file system. The engine then
            retries the part, as after a retryable error of the storage.
    """

    def __init__(
        self, message: str = "", *, source: str | None = None, retryable: bool = False, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.source = source
        self.retryable = retryable


class SourceUnreadable(SourceError):
    """
    The source is missing, not readable, or a directory.

    It is also raised if a worker process finds another file at the path.
    """


class SourceMismatch(SourceError):
    """
    The source differs from `expected_size` or `expected_crc64`.

    For a stream, this is how a producer that died half way is noticed. No object was written. If nothing was sent yet,
    this error is raised; otherwise it is the cause of an `UploadFailed`, and the parts that were sent are kept for a
    run with the right source.
    """


class SourceChanged(SourceError):
    """
    The source changed during the upload, so the object would mix two versions.

    No object was written, unless the message says that an earlier request of the run may have written one. The upload
    is aborted and its checkpoint deleted: the next run sends every part. `Uploader.verify` raises it, too, for a source
    that changed while it was compared; nothing is changed by that.
    """


# --- the upload ------------------------------------------------------------------------------------------------------


class CannotResume(PartwiseError):
    """
    The upload can't be resumed, and ``resume="require"`` was given.

    No other upload was started. Unless that showed only after parts were sent, nothing was changed.

    Args:
        reason: why, in a few words, such as ``"the source changed"``.
    """

    def __init__(self, message: str = "", *, reason: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class UploadStopped(PartwiseError):
    """
    An upload ended without writing its object.

    Args:
        message: which upload ended how, for people.
        reason: why it ended, from the error that is the `__cause__`. Pickling loses the cause but keeps this.
        kept: what is kept for the next run, a sentence.
        key: the key of the object.
        upload_id: the multipart upload on the storage, None if there is none.
        resumable: whether the same call resumes from here.
        bytes_done: bytes that the storage has for this upload.
        bytes_total: the size of the source in bytes, None if it is not known yet.
        parts_done: parts that the storage has.
        parts_total: the number of all parts, None if it is not known yet.
        warnings: what else went wrong, such as an upload that could not be aborted.
        hint: what to do next; see `PartwiseError`.
    """

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "",
        kept: str = "",
        key: str = "",
        upload_id: str | None = None,
        resumable: bool = False,
        bytes_done: int = 0,
        bytes_total: int | None = None,
        parts_done: int = 0,
        parts_total: int | None = None,
        warnings: tuple[str, ...] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.kept = kept
        self.key = key
        self.upload_id = upload_id
        self.resumable = resumable
        self.bytes_done = bytes_done
        self.bytes_total = bytes_total
        self.parts_done = parts_done
        self.parts_total = parts_total
        self.warnings = warnings

    def __str__(self) -> str:
        what_and_why = f"{self.message}: {self.reason}" if self.reason else self.message
        return _join_sentences(what_and_why, self.kept, self.hint)


#: What `UploadStopped.kept` says if it is not known whether there is a checkpoint: the run ended before it was loaded.
KEPT_BY_EARLIER_RUN = "What an earlier run has sent is kept"

#: How the message of a `CannotResume` ends that was raised before anything was sent.
NOTHING_CHANGED = "Nothing was changed"


class UploadPaused(UploadStopped):
    """
    The upload was paused.

    The upload and its checkpoint are kept, and the same call resumes it.
    """


class UploadCancelled(UploadStopped):
    """
    The upload was cancelled: it was aborted and its checkpoint deleted.

    If that failed, `warnings` says so.
    """


class UploadFailed(UploadStopped):
    """
    The upload failed; the last error is the `__cause__`.

    `resumable` says whether progress is kept, `retryable` whether running the same call again may succeed. Pickling
    loses the cause but keeps both.
    """

    #: That of the cause, in a copy by pickle, which has no cause, or another one.
    _retryable: bool | None = None

    @property
    def retryable(self) -> bool:
        """Whether the cause is transient, such as a broken connection or a busy server."""
        if self._retryable is not None:
            return self._retryable
        return bool(getattr(self.__cause__, "retryable", False))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {**self.__dict__, "_retryable": self.retryable}


class OutcomeUnknown(UploadFailed):
    """
    The response to `complete_upload` was lost, and its effect can't be determined.

    Check the object under `key`. The multipart upload may no longer exist, so the next run may send every part.
    """
