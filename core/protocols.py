"""
What a plug-in promises, and what it may rely on.

Three protocols meet in the engine: a `MultipartBackend` stores objects, a `CheckpointStore` remembers progress, a
`Source` has the bytes. Classes need not inherit from them; shape is enough. Errors are not structural: raise the
classes of `partwise.errors`, since the engine decides by them.

The division of labour, once for all of it:

- **The engine owns time.** It retries, waits, limits bandwidth, and decides what an answer means. A plug-in makes one
  attempt per call: no retry, no sleep, no guess.
- **A plug-in translates.** Every failure becomes an error of the tree, with the native error as its `__cause__`. An
  exception of any other class is taken for a defect in the plug-in, and ends the upload; progress is kept.
- **Nobody drops anything.** An option is honoured or refused; a failure is raised or reported.
- **No secret leaves.** Not by a message, a repr, a log record, or a checkpoint.

`partwise.testing` has a conformance suite for backends and for stores: some ten lines of harness show whether a plug-in
of your own keeps these promises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.model import Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart

__all__ = [
    "Body",
    "CheckpointStore",
    "MultipartBackend",
    "Source",
    "SupportsPipelining",
    "SupportsRequestOptions",
    "SupportsSourceFile",
]

# --- bytes -----------------------------------------------------------------------------------------------------------


@runtime_checkable
class Body(Protocol):
    """
    A run of bytes of known length that can be read again from its start.

    One thread reads a body at a time. It can be pickled if its source can be read from another process.
    """

    @property
    def crc64(self) -> int | None:
        """The CRC-64/XZ of all bytes: there once `chunks` ran to its end, None before."""

    def __len__(self) -> int:
        """The length in bytes."""

    def chunks(self) -> Iterator[memoryview]:
        """
        The bytes from the start, `len(self)` of them in all, in pieces of any size above zero.

        Each piece is valid until the next one is asked for: send it or copy it, don't keep it. Calling again starts
        again from the first byte.

        Raises:
            SourceError: the bytes can't be had (any more). Let this exception propagate; do not translate it to a
                `BackendError`: it is not the storage's failure. With ``retryable`` the engine sends the part again.
        """


@runtime_checkable
class Source(Protocol):
    """
    Where the bytes come from.

    `fingerprint` and `body` are called from the loop of one upload; bodies are read by workers, several at a time.
    """

    @property
    def name(self) -> str:
        """
        How the source is found again by a later run, such as an absolute path; part of the checkpoint's identity.

        An empty name says that no later run can read the same bytes. Such an upload is not resumable: no checkpoint is
        kept, and a failure aborts it.
        """

    def fingerprint(self) -> Fingerprint:
        """
        The version of the source as it is now; cheap, since it is asked before, during and after the upload.

        A `size` of None says that the source must be read to its end for its size to be known, and only in order.

        Raises:
            SourceUnreadable: there is nothing to read. With ``retryable`` the engine asks again.
        """

    def body(self, offset: int, size: int) -> Body:
        """
        The bytes from `offset` (0 is the first), `size` of them.

        Where the size of the source is known, the engine asks for any ranges within it, in any order, and the body has
        exactly `size` bytes: reading it raises SourceChanged if fewer are there. Where it is not known, the engine asks
        for ranges that follow on each other from offset 0, and a body shorter than `size` tells the end.

        Raises:
            SourceError: the bytes can't be had.
        """

    def close(self) -> None:
        """Let go of what is open. The source can be used again if it can be read again. Closing twice is fine."""


# --- storage ---------------------------------------------------------------------------------------------------------


@runtime_checkable
class MultipartBackend(Protocol):
    """
    A storage that takes an object in parts, bound to one bucket (or directory), so that a key is all it takes to name
    an object.

    Every method may be called from many threads at once. A backend can be pickled, without its sockets, if parts are to
    be sent from other processes; one that can't be says so by a TypeError.

    What each method may assume: keys are non-empty `str`; part numbers are from 1 to `limits.max_parts`; sizes are
    within `limits`. What every method may raise, beside what it names:

    - `UnsupportedOption`: `options` asks for something beyond `capabilities.options`. Nothing happened. One line does
      it: ``options.require_supported_by(self.capabilities, self.location)``.
    - `ConnectionFailed`, `ServerFailed`, `Throttled` and other retryable errors: try again. The effect may have taken
      place unless the method says otherwise.
    - `AccessDenied`, `BucketNotFound` and other permanent errors: nothing happened, and trying again is no use.
    - `InvalidKey`: the key can't be that of an object here. Nothing happened.
    - `BackendClosed`: the backend was used after `close`.
    """

    @property
    def location(self) -> str:
        """
        Which bucket this is, as a URL: stable from run to run, the same for every handle on it, free of credentials.

        It is part of every checkpoint's identity: a change of it means that no earlier upload is found again.
        """

    @property
    def limits(self) -> PartLimits:
        """What the storage accepts. Constant for the life of the backend."""

    @property
    def capabilities(self) -> Capabilities:
        """What the backend can do. Constant for the life of the backend."""

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        """
        Begin a multipart upload of `key` and return its id.

        An object that stands under `key` is left as it is. Several uploads of one key can be open, each with its own id
        and its own parts. Every option but those that act later (`acl`, `callback`) is fixed here.

        Effect of failure: an upload may exist whose id nobody learned. The engine knows; `list_uploads` finds it.

        Raises:
            ObjectExists: `options.forbid_overwrite`, and there is an object. Nothing happened.
        """

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        """
        Store `body` as part `part_number` and return the receipt.

        A part of that number that is there already is replaced: the last one stands. Parts come in any order, several
        at a time. Never hold a whole part in memory: take `body.chunks()` piece by piece. Whatever `body` raises
        passes through unchanged, and then nothing is stored.

        Where the storage reports a checksum, `crc64` of the receipt is the storage's, not the body's: the engine
        compares the two. Otherwise it is None.

        Effect of failure: the part may be stored; sending it again is harmless.

        Raises:
            UploadNotFound: the id is dead.
            IntegrityError: what arrived is not what was sent.
        """

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        """
        The parts that the storage holds for this upload, by ascending number, each once.

        Pages are the backend's affair; reading on may raise what the call itself may raise. A receipt from here is as
        good in `complete_upload` as the one from `upload_part`. Nothing is changed, whatever fails.

        Raises:
            UploadNotFound: the id is dead. An upload without parts gives an empty list instead.
            UnsupportedOption: `capabilities.lists_parts` is False.
        """

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        """
        Make the object of `parts`, which ascend by number, and return it; the upload id is dead afterwards.

        A receipt is known by its number and its ETag. Where the storage reports no checksum of parts, its `crc64` is
        what the engine has computed itself.

        The object appears whole and at once, in place of what stood there. Parts that are not named are dropped.
        Completing once more gives the same object again or UploadNotFound, never a second object.

        Effect of failure: the object may have been made. The engine finds out by `head_object` and `list_parts`.

        Raises:
            UploadNotFound: the id is dead.
            PartRejected: a part is missing, stale (its number was sent again since), foreign, too small or out of
                order. Nothing happened, and the upload is usable.
            ObjectExists: `options.forbid_overwrite`, and there is an object. Nothing happened, and the upload is
                usable.
            CallbackError: the object is stored, but the callback failed; `result` describes the object.
        """

    def abort_upload(self, key: str, upload_id: str) -> None:
        """
        Drop the upload and its parts; the id is dead afterwards. An id that is dead already is fine.

        No object is touched, even if the upload was completed before.

        Effect of failure: the upload may be gone, in whole or in part; aborting again is harmless.
        """

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        """
        The uploads that were initiated and neither completed nor aborted, of keys that start with `prefix`.

        By ascending key, then id. Pages are the backend's affair. Nothing is changed, whatever fails.
        """

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        """
        Store `body` as a whole object, in place of what stood there, and return it. Empty bodies are fine.

        Never hold a large body in memory. Whatever `body` raises passes through unchanged, and then nothing is stored.

        Effect of failure: the object may have been stored, whole; storing it again is harmless.

        Raises:
            ObjectExists: `options.forbid_overwrite`, and there is an object. Nothing happened.
            IntegrityError: what arrived is not what was sent.
            CallbackError: the object is stored, but the callback failed; `result` describes the object.
        """

    def head_object(self, key: str) -> StoredObject | None:
        """The object that stands under `key`, or None. `metadata` is filled where the backend keeps metadata."""

    def close(self) -> None:
        """Let go of connections. No other method may be called afterwards. Closing twice is fine."""


@runtime_checkable
class SupportsRequestOptions(Protocol):
    """Optional, beside `MultipartBackend`: options that go with every request of one upload, not with the object."""

    def with_request_options(self, options: ObjectOptions) -> MultipartBackend:
        """
        A handle on the same storage, sharing its connections, whose requests carry `options.traffic_limit` and
        `options.request_payer`. The engine asks for it once an upload with options, and does not close it.

        Raises:
            InvalidInput: an option, one of these two or any other, has a value that can't be sent.
        """


@runtime_checkable
class SupportsSourceFile(Protocol):
    """Optional, beside `MultipartBackend`: a storage of files, to which the file that an object is made of matters."""

    def with_source_file(self, path: str) -> MultipartBackend:
        """
        A handle on the same storage for the upload of this file: an object made by it has the file's permissions, as
        far as the storage keeps permissions, and is never that very file. A later run of the upload, in another
        process, need not ask for it again: what `initiate_upload` was asked by such a handle holds for the upload.

        The engine asks for it once an upload, where the source is a file, and does not close it.
        """


@runtime_checkable
class SupportsPipelining(MultipartBackend, Protocol):
    """
    Optional, on top of `MultipartBackend`: to send a part now, and to wait for its answer later.

    Where parts are small and the storage is near, the engine sends them by one thread, and has a few of them on their
    way at a time if it can. A class with an `upload_part` of its own that inherits `begin_part` is taken not to offer
    this: its parts are meant to go by the former.
    """

    def begin_part(self, key: str, upload_id: str, part_number: int, body: Body) -> Callable[[], UploadedPart]:
        """
        `upload_part` in two steps: this reads and sends the body, and what it returns waits for the answer.

        That is called once at the most, by the same thread, and returns the receipt. Either step raises what
        `upload_part` does. Other parts may be begun between the two, and be asked for in any order; one that is never
        asked for holds nothing but its connection, until what waits for it is collected.
        """


# --- memory ----------------------------------------------------------------------------------------------------------


@runtime_checkable
class CheckpointStore(Protocol):
    """
    A place where checkpoints outlive the process.

    `name` is `Checkpoint.name`: 32 hexadecimal digits from the engine. A store takes any other non-empty `str` too, and
    keeps each name apart from every other, whatever characters it is of.

    The engine calls `save`, `append_part` and `delete` only while it holds the claim, from one thread; `load` and
    `scan` may come from any process at any time. Methods that change something raise `CheckpointUnwritable` when they
    can't: what was there before is then still there, whole.
    """

    def claim(self, name: str) -> AbstractContextManager[None]:
        """
        The sole right to this name, from entering the context to leaving it.

        A process that dies gives up its claims at once, by whatever death: use a lock of the operating system, not a
        file that says so. A second claim, by another process or by this one, is refused at once; it never waits.

        Raises:
            CheckpointBusy: on entering: somebody holds the claim.
            CheckpointUnwritable: on entering: the place can't be used.
        """

    def load(self, name: str) -> Checkpoint | None:
        """
        The checkpoint as it was last saved, with every part that was appended since; None where there is none.

        A part number that was appended twice counts once, as it was appended last. A last record that is torn, as by
        the death of a process while it wrote, is left out silently.

        Raises:
            CheckpointDamaged: what is there can't be trusted. A store sets it aside for a person to look at where it
                can; the next `save` starts afresh.
            CheckpointMismatch: this store has room for one checkpoint, and that of another upload is there.
        """

    def save(self, checkpoint: Checkpoint) -> None:
        """
        Keep the checkpoint under `checkpoint.name`, in place of what was there.

        Whole or not at all, and durable when it returns: neither the death of the process nor the loss of power takes
        it back.

        Raises:
            CheckpointMismatch: this store has room for one checkpoint, and that of another upload is there.
        """

    def append_part(self, name: str, part: UploadedPart) -> None:
        """
        Add one receipt to the checkpoint that was saved under this name.

        The cost does not depend on how many there are. When it returns, the death of the process does not take it back;
        the loss of power may, for then the storage's own list has it.

        Raises:
            CheckpointError: there is no checkpoint of this name.
        """

    def delete(self, name: str) -> None:
        """Forget the checkpoint and what `load` set aside for it. One that is not there is fine."""

    def scan(self) -> Iterable[Checkpoint]:
        """
        Every checkpoint that can be read, in no particular order.

        One that appears or vanishes meanwhile may or may not be among them; one that is damaged is logged and left out.
        """
