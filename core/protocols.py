"""
The contracts of plug-ins: what they guarantee, and what they can rely on.

The engine uses three protocols: a `MultipartBackend` stores objects, a `CheckpointStore` stores checkpoints, and a
`Source` provides the bytes. They are structural: classes need not inherit from them. Errors are nominal: raise the
classes of `partwise.errors`, because the engine decides by them.

Rules for all of them:

- **The engine owns time.** It retries, waits, limits bandwidth, and interprets outcomes. A plug-in makes one attempt
  per call, without retries, sleeps or guesses.
- **A plug-in translates errors.** Every failure is raised as a class of `partwise.errors`, with the native error as its
  `__cause__`. An exception of any other class counts as a defect of the plug-in and ends the upload; progress is kept.
- **Nothing is ignored.** An option is honoured or refused; a failure is raised or reported.
- **Secrets stay secret.** They never appear in a message, a repr, a log record, or a checkpoint.

`partwise.testing` has conformance suites that check a backend or a store against these contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.model import Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart

__all__ = ["Body", "CheckpointStore", "MultipartBackend", "Source", "SourceBody"]
__all__ += ["SupportsClaimCheck", "SupportsConnectingAhead", "SupportsCutting", "SupportsPipelining"]
__all__ += ["SupportsRequestOptions", "SupportsSourceFile"]

# --- bytes -----------------------------------------------------------------------------------------------------------


@runtime_checkable
class SourceBody(Protocol):
    """
    A range of a source, which can be read repeatedly.

    Only one thread reads it at a time. It can be pickled if its source can be read from another process. The engine
    computes the checksum.
    """

    def __len__(self) -> int:
        """Return the length in bytes."""

    def chunks(self) -> Iterator[memoryview]:
        """
        Yield the bytes from the start, in chunks of any size above zero.

        Together they have `len(self)` bytes. A chunk is valid until the next one is requested, so that one buffer can
        be used for all of them. Each call starts from the first byte.

        Raises:
            SourceError: the source can no longer be read. If it is ``retryable``, the engine sends the part again.
        """


@runtime_checkable
class Body(Protocol):
    """
    The bytes of a part, or of a whole object, as a backend gets them.

    They have a known length and can be read repeatedly, by one thread at a time. The body can be pickled if its source
    can be read from another process.
    """

    @property
    def offset(self) -> int:
        """The place of the first byte in the object, from 0."""

    @property
    def is_last(self) -> bool:
        """
        Whether these are the last bytes of the object.

        False, too, if that is not known: for the last part of a stream whose length is a multiple of the part size.
        """

    @property
    def checksum(self) -> int | None:
        """
        The checksum of all bytes, by the algorithm in the backend's capabilities.

        It is known once `chunks` has yielded the last chunk, and None before.
        """

    def __len__(self) -> int:
        """Return the length in bytes."""

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:
        """
        Yield the bytes from the start, in chunks of any size above zero.

        Together they have `len(self)` bytes. A chunk is valid until the next one is requested: send it or copy it,
        don't keep it. Each call starts from the first byte.

        Args:
            counted: whether the bytes are sent as they are read: they then count as progress, and a bandwidth limit
                holds them back. Pass False to read them for something else, such as a digest that the request has to
                begin with.

        Raises:
            SourceError: the source can no longer be read. Let this exception propagate; do not translate it to a
                `BackendError`. If it is ``retryable``, the engine sends the part again.
        """


@runtime_checkable
class Source(Protocol):
    """
    The bytes to upload.

    `fingerprint` and `body` are called from one thread, that of the upload; several workers read bodies concurrently.
    """

    @property
    def name(self) -> str:
        """
        The name by which a later run finds the checkpoint, such as an absolute path.

        An empty name means that no later run can read the same bytes. Such an upload is not resumable: it has no
        checkpoint, and a failure aborts it.
        """

    def fingerprint(self) -> Fingerprint:
        """
        Return the current version of the source.

        Called before, during and after the upload, so it should be cheap. A `size` of None means that the size is known
        only once the source was read to its end, and that it can only be read in order.

        Raises:
            SourceUnreadable: the source can't be read. If it is ``retryable``, the engine calls again.
        """

    def body(self, offset: int, size: int) -> SourceBody:
        """
        Return `size` bytes from `offset` (from 0).

        If the size of the source is known, the engine requests any ranges within it, in any order, and the body has
        exactly `size` bytes: reading it raises SourceChanged if there are fewer. If the size is not known, the engine
        requests consecutive ranges from offset 0, and a body shorter than `size` is the last one.

        Raises:
            SourceError: the bytes can't be read. If it is ``retryable``, the engine calls again.
        """

    def close(self) -> None:
        """
        Close open files.

        The source can be used again if it can be read again. Closing twice is fine.
        """


# --- backends --------------------------------------------------------------------------------------------------------


@runtime_checkable
class MultipartBackend(Protocol):
    """
    Multipart uploads to one bucket (or directory); a key identifies an object.

    Methods are called from several threads concurrently. A backend can be pickled, without its sockets, if parts are
    sent from other processes; otherwise pickling raises a TypeError. Sizes are in bytes and times in seconds.

    What a method returns comes from the storage: sizes, ETags and checksums are those that it reports, not those of the
    arguments. A method makes one attempt. It may make two requests if each can be repeated without harm; a list makes
    one for each page.

    Arguments are valid: keys are non-empty `str`, part numbers are from 1 to `limits.max_parts`, and sizes are within
    `limits`. Besides the errors that it names, each method can raise:

    - `UnsupportedOption`: an option is set that is not in `capabilities.options`. Nothing happened. This line raises
      it: ``options.require_supported_by(self.capabilities, self.location)``.
    - `InvalidInput`: an option has a value that the storage can't have, or that can't be sent. Nothing happened.
    - `InvalidKey`: no object can have this key. Nothing happened.
    - `ConnectionFailed`, `ServerFailed`, `Throttled` and other retryable errors. The operation may have taken effect,
      unless the method says otherwise: "effect of failure" is about these.
    - `AccessDenied`, `BucketNotFound` and other permanent errors: nothing happened, and a retry does not help.
    - `BackendClosed`: the backend was used after `close`.
    """

    @property
    def location(self) -> str:
        """
        The URL of the bucket, such as ``scheme://host/bucket``, without credentials.

        It is the same in every handle, process and run, and different for different buckets. It is part of the name of
        each checkpoint: if it changes, earlier uploads are not resumed. The command line shows an upload as this URL,
        up to an ``@`` in it, a slash, and the key.
        """

    @property
    def limits(self) -> PartLimits:
        """What the storage accepts. Never changes."""

    @property
    def capabilities(self) -> Capabilities:
        """What the storage can do and the backend supports. Never changes."""

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        """
        Initiate a multipart upload of `key` and return its id.

        The id is new, and valid in other processes, until the upload is completed or aborted, or expires. An existing
        object under `key` is not changed. A key can have several pending uploads, each with its own id and parts;
        where `capabilities.one_upload_per_key` is True, all others of the key end.

        The storage keeps all options for the object, except those in `capabilities.late_options`. Where its options
        act when the object is created, check them here; `complete_upload` gets the same ones.

        Effect of failure: an upload may exist whose id is unknown. `list_uploads` finds it. Where a key has only one
        upload, the others of the key may have ended.

        Raises:
            ObjectExists: `options.forbid_overwrite` is set, and an object exists. Nothing happened.
        """

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        """
        Store `body` as part `part_number`, and return the part.

        It replaces an earlier part of the same number (unless `capabilities.replaces_parts` is False: then the engine
        sends only the same bytes again). Parts arrive in any order, several concurrently (unless
        `capabilities.sequential` is True). `body.offset` is the place of its first byte in the object, and
        `body.is_last` whether it is known to be the last part.

        Don't hold a whole part in memory: send `body.chunks()` one by one. An exception raised by `body` propagates
        unchanged, and nothing is stored then.

        If the storage reports a checksum of the part, it is that of the returned part, by the algorithm
        `capabilities.checksum`; otherwise None. The engine compares it with that of the body, and sends a part that
        differs again.

        Effect of failure: the part may be stored, completely; sending it again is harmless.

        Raises:
            UploadNotFound: there is no upload of this id.
            UploadUnusable: the upload exists, but can never be completed, such as one that has other bytes where this
                part belongs, and can't replace them. The engine aborts it and starts again, once.
            IntegrityError: the storage received other bytes than were sent, or `body` has fewer or more bytes than
                its length. Sending the part again may help.
        """

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        """
        Return the parts of this upload that the storage has, in ascending order.

        Each part number occurs once, with the size, ETag and checksum of the part that was stored last.
        `complete_upload` accepts these parts like those of `upload_part`. The backend follows pagination; iterating may
        raise what the call may raise.

        Effect of failure: none. The engine lists from the start again.

        Raises:
            UploadNotFound: there is no upload of this id. For an upload without parts, the list is empty instead.
            UnsupportedOption: `capabilities.lists_parts` is False.
        """

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        """
        Create the object from `parts`, in ascending order, and return it.

        The upload no longer exists afterwards. A part is identified by its number and ETag. If the storage reports no
        checksums of parts, their `checksum` is that computed by the engine.

        `options` are those that `initiate_upload` got, with a guessed content type and the token in the metadata. Those
        in `capabilities.late_options` are as this run requests them, and act now.

        The object appears atomically, and replaces an existing one. Parts that are not in the list are deleted.
        Completing again returns the same object or raises UploadNotFound; it never creates a second object.

        Effect of failure: the object may have been created, completely. The engine finds out by `head_object` and
        `list_parts`.

        Raises:
            UploadNotFound: there is no upload of this id.
            PartRejected: the upload exists, and a part is missing, outdated (its number was sent again), of another
                upload, too small or out of order. Nothing happened, and the upload is still usable.
            UploadUnusable: the upload exists, but can never be completed. Nothing happened. The engine aborts it and
                starts again, once.
            ObjectExists: `options.forbid_overwrite` is set, and an object exists. Nothing happened, and the upload is
                still usable.
            PreconditionFailed: `options.if_match` is set, and the object has another ETag or does not exist. Nothing
                happened, and the upload is still usable.
            IntegrityError: not retryable: the storage compared the object with a checksum in the request, and refused
                to make it. Nothing happened. The engine sends the parts again whose listed checksum is not theirs; if
                there are none, it aborts the upload and starts again, once.
            CallbackError: the object is stored, but the callback failed; `result` describes the object.
        """

    def abort_upload(self, key: str, upload_id: str) -> None:
        """
        End the upload and delete its parts.

        Its id is unknown from then on. The storage may delete the parts some time later, but a part that arrives late
        does not bring the upload back. It is not an error if there is no upload of this id. No object and no other
        upload is changed, even if the upload was completed before, or another one of the key was initiated since.

        Where `capabilities.aborts` is False, it does nothing, and the engine does not call it.

        Effect of failure: the upload may be deleted, completely or in part; aborting again is harmless.
        """

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        """
        Return the pending uploads of keys that start with `prefix`.

        Each is returned once, in any order. Completed and aborted uploads are not pending. One that begins or ends
        meanwhile may be included or not. The backend follows pagination; iterating may raise what the call may raise.

        Effect of failure: none.

        Raises:
            UnsupportedOption: `capabilities.lists_uploads` is False.
        """

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        """
        Store `body` as an object in one request, and return it.

        It replaces an existing object, atomically. The body may be empty. Don't hold a large body in memory. An
        exception raised by `body` propagates unchanged, and then nothing is stored.

        The object has all of `options`, the late ones included. If the storage reports no checksums of objects, their
        metadata has a token where `forbid_overwrite` or `if_match` is set: it tells the engine whether an object whose
        response was lost is that of this run.

        Effect of failure: the object may have been stored, completely; storing it again is harmless.

        Raises:
            ObjectExists: `options.forbid_overwrite` is set, and an object exists. Nothing happened.
            PreconditionFailed: `options.if_match` is set, and the object has another ETag or does not exist. Nothing
                happened.
            IntegrityError: the storage received other bytes than were sent, or `body` has fewer or more bytes than
                its length. Nothing is stored; or it is not retryable, and the message says that the object is stored.
            CallbackError: the object is stored, but the callback failed; `result` describes the object.
        """

    def head_object(self, key: str) -> StoredObject | None:
        """
        Return the object under `key` as the storage has it now, or None.

        It has `metadata` if the backend stores metadata, and `checksum` if `capabilities.object_checksums` is True. No
        answer comes from a cache: the engine asks after a lost response. None is never a failure in disguise, except
        that it may stand for a bucket that does not exist, if a response without a body does not name that.

        Effect of failure: none.
        """

    def close(self) -> None:
        """
        Close connections.

        Other methods raise BackendClosed afterwards, and requests in flight may fail. Closing twice is fine.
        """


@runtime_checkable
class SupportsRequestOptions(Protocol):
    """
    Optional, besides `MultipartBackend`: options of requests, not of the object.

    Without it they reach only the methods that get options, and not those that send parts.
    """

    def with_request_options(self, options: ObjectOptions) -> MultipartBackend:
        """
        Return a handle whose requests carry the options that belong to requests.

        An example is the limit of each request that OSS offers. Each request of an upload carries them, those that send
        and list parts included. The handle shares the connections of this backend, and has the same `location`. The
        engine calls this for each upload that has options, and does not close the handle. Nothing is sent.

        Raises:
            InvalidInput: an option, of requests or any other, has a value that can't be sent.
        """


@runtime_checkable
class SupportsSourceFile(Protocol):
    """
    Optional, besides `MultipartBackend`: a storage that needs the source file.

    A storage of files may have to know which file is uploaded.
    """

    def with_source_file(self, path: str) -> MultipartBackend:
        """
        Return a handle for the upload of this file.

        Its objects have the permissions of the file, as far as the storage has permissions, and are never that file
        itself. This holds for an upload that was initiated by the handle, also if a later run in another process
        completes it without one.

        The engine calls this once per upload of a file, and does not close the handle.
        """


@runtime_checkable
class SupportsPipelining(MultipartBackend, Protocol):
    """
    Optional, besides `MultipartBackend`: send a part and await its response later.

    For small parts and a storage with low latency, one thread of the engine sends several parts before it waits for
    their responses. A class that overrides `upload_part` but inherits `begin_part` does not support this: its parts are
    sent by `upload_part`.
    """

    def begin_part(self, key: str, upload_id: str, part_number: int, body: Body) -> Callable[[], UploadedPart]:
        """
        Send the body, and return a function that waits for the response.

        That function returns the part. The function is called at most once, by the same thread. Either step raises what
        `upload_part` raises. Other parts may be sent between the two, and finished in any order. A part that is never
        finished only holds its connection, until the function is garbage-collected.
        """


@runtime_checkable
class SupportsCutting(MultipartBackend, Protocol):
    """
    Optional, besides `MultipartBackend`: end `upload_part` from another thread.

    At the end of an upload, the engine sends a late part a second time; when one copy is acknowledged, it cuts the
    other one. Without this method nothing is sent a second time. It also cuts a part whose connection moves far less
    than the others do, and the parts that hang when an upload is paused, cancelled or ends by an error; without this
    method it waits until they time out.
    """

    def cut_part(self, body: Body, reason: str) -> None:
        """
        Make the `upload_part` that sends this body fail soon.

        Nothing happens if there is none. It may also succeed, if the response arrives meanwhile. Its error is a
        retryable `ConnectionFailed` that names the reason. Called from any thread; it must not wait.
        """


@runtime_checkable
class SupportsConnectingAhead(MultipartBackend, Protocol):
    """
    Optional, besides `MultipartBackend`: make connections before they are needed.

    While an upload is initiated over a long line, those of its first parts are made, which saves a round trip.
    """

    def connect_ahead(self, count_for: Callable[[float], int]) -> None:
        """
        Prepare for many requests at a time, which will follow the next one.

        It must not wait, and raises nothing.

        Args:
            count_for: returns how many connections the requests will need, that of the next request included. To be
                called at most once, with the seconds that it took to make a connection; on a short line the result
                is 0.
        """


# --- checkpoint stores -----------------------------------------------------------------------------------------------


@runtime_checkable
class CheckpointStore(Protocol):
    """
    Durable storage of checkpoints.

    `name` is `Checkpoint.name`: 32 hexadecimal digits from the engine. A store accepts any other non-empty `str`, too,
    and keeps different names apart, whatever characters they contain.

    The engine calls `save`, `append_part` and `delete` only while it holds the claim, from one thread; any process can
    call `load` and `scan` at any time. If a method can't make its change, it raises `CheckpointUnwritable`, and what
    was stored before is unchanged; only if the error is ``retryable`` may the change have been made.

    An error that may pass, such as a connection that broke, is raised with ``retryable=True``. The engine then calls
    again, for as long as it retries requests to the storage, and for up to 10 seconds once the upload has ended. Only
    `append_part` is called again with the next part instead. So each method can be called twice with the same effect as
    once.

    Claims of three kinds are possible:

    - A lock of the operating system ends with its process, and can't be lost before.
    - A lock of a database session ends with its connection. The store keeps that connection open while the claim is
      held. A host that loses power keeps its lock until the server notices, so turn on TCP keepalives there.
    - A lease ends at a time. The store renews it in a thread, several times before it ends, and stops when the claim
      is released. It gives each claim a new value (a fencing token), and every write checks in one step that the
      record has this value. A run whose host was suspended is refused that way, however late it wakes up.

    The last two can be lost while the run goes on. Then `save`, `append_part` and `delete` raise ClaimLost and change
    nothing, and such a store is a `SupportsClaimCheck`. After a ClaimLost the engine stops the parts in flight, and
    sends nothing more: it aborts, deletes and completes nothing. Even a store that can't lose a claim raises it in
    `append_part` and `delete`, if the record is that of another upload.
    """

    def claim(self, name: str) -> AbstractContextManager[None]:
        """
        Return a context manager that holds the exclusive right to this name.

        It is held while the context manager is entered. The claims of a process end when it dies, in whatever way, at
        once or after the time of a lease: use a lock or a lease, not the existence of a file or a row. A second claim,
        by another process or by the same one, is refused immediately; it never waits. After a failure the engine calls
        this method again, and enters the new context manager.

        Leaving the context of a claim that was lost changes nothing and raises nothing. If a claim can't be released,
        leaving may raise a CheckpointError; the engine logs it, and the outcome of the upload is the same.

        Effect of failure: the name may be claimed until the process ends, or for the time of a lease.

        Raises:
            CheckpointBusy: on entering: the name is claimed.
            CheckpointUnwritable: on entering: the location can't be used.
        """

    def load(self, name: str) -> Checkpoint | None:
        """
        Return the checkpoint as last saved, with the parts appended since; or None.

        A part number that was appended twice counts once, with the last part. An incomplete last record, as left by a
        process that died while writing it, is ignored.

        Effect of failure: nothing changed, except that a damaged record may be set aside.

        Raises:
            CheckpointDamaged: the stored data can't be trusted. The store sets it aside for inspection if it can; the
                next `save` starts again.
            CheckpointMismatch: the store holds a single checkpoint, and it belongs to another upload.
        """

    def save(self, checkpoint: Checkpoint) -> None:
        """
        Store the checkpoint under `checkpoint.name`, and replace an existing one.

        It is atomic, and durable when it returns: it survives a crash of the process and a loss of power. The record
        that it replaces may have any upload id, or be damaged.

        Effect of failure: the old checkpoint is unchanged; after a retryable error, either of the two is stored, whole.

        Raises:
            CheckpointMismatch: the store holds a single checkpoint, and it belongs to another upload.
            ClaimLost: the claim was lost. Nothing changed.
        """

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        """
        Add a part to the checkpoint of this name with this upload id.

        The cost does not depend on the number of parts. When it returns, the part survives a crash of the process. A
        loss of power may lose it; the part list of the storage still has it then. `UploadedPart.to_data` returns its
        plain form.

        Effect of failure: the part is not recorded; after a retryable error it may be. The upload goes on, unless the
        claim was lost, and only a warning says that progress was not recorded.

        Raises:
            CheckpointError: there is no checkpoint of this name.
            ClaimLost: the checkpoint has another upload id or none, or the claim was lost. Nothing changed.
        """

    def delete(self, name: str, upload_id: str | None) -> None:
        """
        Delete the checkpoint with this upload id, and what `load` has set aside.

        None deletes a checkpoint without an upload id. A record that is damaged is deleted, too, at least if its upload
        id is not known: after a CheckpointDamaged the engine passes the `upload_id` of that error. It is not an error
        if there is no checkpoint.

        Effect of failure: the checkpoint is unchanged; after a retryable error it may be deleted.

        Raises:
            ClaimLost: the checkpoint has another upload id, or the claim was lost. Nothing changed.
        """

    def scan(self) -> Iterable[Checkpoint]:
        """
        Return every readable checkpoint, in any order.

        One that is saved or deleted meanwhile may be included or not. A damaged one is logged and left out.

        Effect of failure: nothing changed. Iterating may raise what the call may raise.
        """


@runtime_checkable
class SupportsClaimCheck(CheckpointStore, Protocol):
    """
    Optional, besides `CheckpointStore`: a store whose claims can be lost.

    Leases expire, and locks of a database end with their connection. The engine calls `check_claim` right before it
    creates the object, aborts an upload, or deletes a checkpoint. A claim that is lost in the moment between is not
    noticed; that only the record of the same upload is changed still holds then.
    """

    def check_claim(self, name: str) -> None:
        """
        Return if this store object holds the claim on this name.

        It asks the place that grants claims.

        Effect of failure: nothing changed. After an error other than ClaimLost the engine acts as if the claim could
        not be checked: it does not create the object, and what was to be deleted is kept.

        Raises:
            ClaimLost: it does not hold the claim, or no longer.
        """
