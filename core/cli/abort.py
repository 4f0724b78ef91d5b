"""``partwise abort``: abort an unfinished upload, and delete its checkpoint."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import get_terminal_size
from typing import NoReturn

from attrs import define

from partwise.checkpoint import Checkpoint, Fingerprint, checkpoint_name
from partwise.cli import parsing
from partwise.cli.formatting import escape_control, fold, format_ratio, pluralize
from partwise.cli.output import Output
from partwise.cli.reporting import DONE
from partwise.cli.retries import Retries
from partwise.cli.status import is_running, names_of, owner_of, scan
from partwise.cli.stdin import STANDARD_INPUT, standard_input
from partwise.cli.targets import BackendSpec, StoreSpec, url_of
from partwise.config import TransferConfig
from partwise.errors import (
    AccessDenied,
    CheckpointBusy,
    CheckpointDamaged,
    CheckpointError,
    ClaimLost,
    InvalidInput,
    SourceUnreadable,
    UnsupportedOption,
)
from partwise.protocols import CheckpointStore, MultipartBackend, Source, SourceBody
from partwise.sources import as_source
from partwise.uploader import Uploader

#: Characters of a name that are needed at least, and how many candidates an error lists.
_PREFIX_MIN = 4
_CANDIDATES_MAX = 10


def _say(output: Output, text: str) -> None:
    output.say(*fold(text, get_terminal_size().columns if sys.stdout.isatty() else None))


@define(frozen=True)
class AbortCommand:
    """What all ways to name an upload have in common."""

    store: StoreSpec
    config: TransferConfig


def given_name(name: str | None) -> str:
    """Return the name of a checkpoint that was given; raise InvalidInput if none was."""
    if not name:
        raise InvalidInput("missing argument 'FILE|NAME'", hint="See 'partwise abort --help'")
    return name


def only_url(first: str | None, second: str | None) -> str:
    """
    Return the only argument, which has to be a URL.

    Raises:
        InvalidInput: it is not one, or there are two.
    """
    if first is None:
        raise InvalidInput("missing argument 'URL'", hint="See 'partwise abort --help'")
    if second is not None:
        raise InvalidInput(f"--upload-id excludes a file, and {first!r:.200} is one", hint="Leave out one of them")
    return parsing.url(first)


def abort(file: str, target: BackendSpec, command: AbortCommand, output: Output) -> int:
    """
    Abort the unfinished upload of a file, which need not exist any more.

    Raises:
        InvalidInput: the checkpoint store does not exist.
        PartwiseError: as `Uploader.abort` does.
    """
    command.store.require_existing()
    with target.open_object(file) as (backend, key, url), command.store.open() as store:
        source = standard_input(threading.Event()) if file == STANDARD_INPUT else as_source(file)
        return _abort_recorded(_Upload(backend, source, key, f"{file} to {url}"), store, command, output)


def abort_named(name: str, target: Callable[[str], BackendSpec], command: AbortCommand, output: Output) -> int:
    """
    Abort the upload whose checkpoint has a name that begins so.

    Args:
        name: the name, or its first characters.
        target: returns the backend for the URL of the upload.
        command: the store, and how to retry.
        output: where the result is printed.

    Raises:
        InvalidInput: no checkpoint has such a name, or several have; or the connection settings lead to another bucket
            than that of the checkpoint. Nothing was changed.
        PartwiseError: as `Uploader.abort` does.
    """
    command.store.require_existing()
    with command.store.open() as store:
        recorded = _find_named(name, store, command)
        url = url_of(recorded)
        with target(url).open() as (backend, key):
            if (backend.location, key) != (recorded.location, recorded.key):
                raise InvalidInput(
                    f"the upload {name} is at {recorded.location}, and {url} is at {backend.location} now; nothing was"
                    " changed",
                    hint="Give the same {endpoint}, {region} and {profile} as for its upload",
                )
            return _abort_recorded(_Upload.of(backend, recorded, url), store, command, output)


def abort_by_id(upload_id: str, target: BackendSpec, command: AbortCommand, output: Output) -> int:
    """
    Abort the upload of this id at the target, which needs no checkpoint.

    If a checkpoint in the store is of this upload, it is deleted, too.

    Raises:
        InvalidInput: the URL names no object, the id is empty, or the store does not exist.
        CheckpointBusy: the upload is running, or an upload to this key is beginning whose id is not recorded yet.
        UnsupportedOption: the storage can't abort uploads. Nothing was changed.
        PartwiseError: the storage or the store can't be asked.
    """
    command.store.require_existing()
    if not upload_id:
        raise InvalidInput("--upload-id: it is empty")
    retries = Retries(command.config)
    with target.open() as (backend, key), command.store.open() as store:
        if not key:
            raise InvalidInput(
                f"{target.url!r:.200} names no object", hint="Write the whole key, as 'uploads' shows it"
            )
        recorded = _checkpoint_of(upload_id, backend, key, store, retries)
        if recorded is not None:
            return _abort_recorded(_Upload.of(backend, recorded, target.url, upload_id), store, command, output)
        if not backend.capabilities.aborts:
            raise UnsupportedOption(
                f"{backend.location} can't abort uploads: their parts expire by themselves; nothing was changed"
            )
        is_pending = _is_pending(backend, key, upload_id, retries)
        if is_pending is not False:
            retries.call(lambda: backend.abort_upload(key, upload_id), f"aborting {upload_id}")
    if is_pending is False:
        _say(output, f"no upload {upload_id} to {target.url} is pending; nothing was changed")
    elif is_pending:
        _say(output, f"dropped the upload {upload_id} to {target.url}, of which there was no checkpoint")
    else:
        _say(
            output,
            f"dropped the upload {upload_id} to {target.url}, if there was one; the storage does not list uploads",
        )
    dropped = is_pending is not False
    bytes_dropped = None if dropped else 0  # it was not asked for the parts
    output.record({"ok": True, "dropped": dropped, "upload_id": upload_id, "bytes_dropped": bytes_dropped})
    return DONE


# --- with a checkpoint -----------------------------------------------------------------------------------------------


class _RecordedSource:
    """
    The source that a checkpoint names.

    It is not read, and need not exist any more.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.name = checkpoint.source
        self._fingerprint = checkpoint.fingerprint

    def fingerprint(self) -> Fingerprint:
        """Return what is recorded."""
        return self._fingerprint

    def body(self, offset: int, size: int) -> SourceBody:  # noqa: ARG002  # the signature of a source
        """Raise SourceUnreadable."""
        self._refuse()

    def close(self) -> None:
        """Do nothing."""

    def _refuse(self) -> NoReturn:
        raise SourceUnreadable(f"{self.name} is not read here", source=self.name)


@define(frozen=True)
class _Upload:
    """The upload whose checkpoint is to be deleted."""

    backend: MultipartBackend
    source: Source
    key: str
    subject: str  # source and target, for messages
    upload_id: str | None = None  # the only upload that may be aborted; None: whichever is recorded

    @classmethod
    def of(cls, backend: MultipartBackend, checkpoint: Checkpoint, url: str, upload_id: str | None = None) -> _Upload:
        """Return the upload of a checkpoint, without its source."""
        source = "standard input" if checkpoint.source == STANDARD_INPUT else checkpoint.source
        return cls(backend, _RecordedSource(checkpoint), checkpoint.key, f"{source} to {url}", upload_id)


def _abort_recorded(upload: _Upload, store: CheckpointStore, command: AbortCommand, output: Output) -> int:
    """Abort an upload by its checkpoint, and print the result."""
    backend, source, subject = upload.backend, upload.source, upload.subject
    recorded = _load(store, checkpoint_name(backend.location, upload.key, source.name))
    try:
        dropped = Uploader(backend, store=store, config=command.config).abort(
            source, upload.key, upload_id=upload.upload_id
        )
    except ClaimLost:
        raise
    except CheckpointBusy as error:
        owner = owner_of(store, recorded) if isinstance(recorded, Checkpoint) else None
        if owner is None:
            raise
        hint = f"Wait until process {owner.process} on {owner.host} has finished, or stop it first"
        raise CheckpointBusy(error.message, name=error.name, where=error.where, hint=hint) from error
    capabilities = backend.capabilities
    aborted = dropped and capabilities.aborts
    if not dropped:
        place = command.store.place(store)
        _say(output, f"no unfinished upload of {subject} is recorded in {place}; nothing was changed")
    elif not aborted:
        _say(
            output,
            f"deleted the checkpoint of {subject}; the storage can't abort its upload, whose parts expire by"
            " themselves",
        )
    elif isinstance(recorded, CheckpointDamaged) and recorded.upload_id is None:
        _say(
            output,
            f"deleted the damaged checkpoint of {subject}, whose upload id can't be read; if the storage"
            " still has the upload, "
            + ("'partwise gc' drops it" if capabilities.lists_uploads else "its parts stay there"),
        )
    else:
        _say(output, f"dropped the upload of {subject}{_size_of(recorded)}, and its checkpoint")
    output.record(
        {
            "ok": True,
            "dropped": aborted,
            "upload_id": recorded.upload_id if dropped and recorded else None,
            "bytes_dropped": recorded.bytes_done if aborted and isinstance(recorded, Checkpoint) else 0,
        }
    )
    return DONE


def _load(store: CheckpointStore, name: str) -> Checkpoint | CheckpointDamaged | None:
    """Load the checkpoint as far as it can be read: it is only used in messages."""
    try:
        return store.load(name)
    except CheckpointDamaged as error:
        return error
    except CheckpointError:
        return None


def _size_of(checkpoint: Checkpoint | CheckpointDamaged | None) -> str:
    if not isinstance(checkpoint, Checkpoint):
        return ""
    done = format_ratio(checkpoint.bytes_done, checkpoint.fingerprint.size)
    return f": {done} in {pluralize(len(checkpoint.parts), 'part')} on the storage"


# --- by name ---------------------------------------------------------------------------------------------------------


def _find_named(text: str, store: CheckpointStore, command: AbortCommand) -> Checkpoint:
    """Return the only checkpoint whose name begins so; raise InvalidInput otherwise."""
    spec = command.store
    checkpoints, _ = scan(store, Retries(command.config))
    name = text.lower()
    if re.fullmatch(rf"[0-9a-f]{{{_PREFIX_MIN},64}}", name):
        found = [one for one in checkpoints if one.name.startswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidInput(
                f"{text!r} is the beginning of {len(found)} names in {spec.place(store)}; nothing was changed",
                hint=f"Write more of one: {_candidates(found, checkpoints)}",
            )
    # A file or a URL alone says which uploads are meant, but there may be more of it than those recorded here.
    paths = {text}
    with suppress(OSError, ValueError):  # the working directory was removed, or this can't be a path
        paths.add(str(Path(text).absolute()))
    short = re.fullmatch(rf"[0-9a-f]{{1,{_PREFIX_MIN - 1}}}", name)
    meant = [one for one in checkpoints if one.source in paths or url_of(one) == text]
    if meant:
        hint = f"Write FILE and URL, or a name: {_candidates(meant, checkpoints)}"
    elif short and any(one.name.startswith(name) for one in checkpoints):
        hint = f"Write at least {_PREFIX_MIN} characters of a name"
    else:
        hint = "'partwise status' shows the names. Or write FILE and URL, or --upload-id ID and URL"
    raise InvalidInput(
        f"{text!r:.200} is not the name of an unfinished upload in {spec.place(store)}; nothing was changed", hint=hint
    )


def _candidates(found: Sequence[Checkpoint], checkpoints: Sequence[Checkpoint]) -> str:
    names = names_of(checkpoints)
    texts = [f"{names[one.name]} ({one.source} -> {url_of(one)})" for one in found[:_CANDIDATES_MAX]]
    more = [f"{len(found) - _CANDIDATES_MAX} more"] if len(found) > _CANDIDATES_MAX else []
    # Braces mean a setting in a hint.
    return escape_control(", ".join([*texts, *more])).replace("{", "(").replace("}", ")")


# --- by upload id ----------------------------------------------------------------------------------------------------


def _checkpoint_of(
    upload_id: str, backend: MultipartBackend, key: str, store: CheckpointStore, retries: Retries
) -> Checkpoint | None:
    """
    Return the checkpoint of this upload, or None.

    Raises:
        CheckpointBusy: an upload to this key is beginning, so that this may be its id.
    """
    here = [one for one in scan(store, retries)[0] if (one.location, one.key) == (backend.location, key)]
    for one in here:
        # Claims are checked first and ids are read after that, as `gc` does.
        if one.upload_id is None and is_running(store, one):
            found = _load(store, one.name)
            if isinstance(found, Checkpoint) and found.upload_id == upload_id:
                return found
            if found is None or found.upload_id is None:
                raise CheckpointBusy(
                    f"an upload to {key} is beginning, and {upload_id} may be its id. Nothing was changed",
                    name=one.name,
                    hint="Wait a moment, and run the same command again",
                )
    return next((one for one in here if one.upload_id == upload_id), None)


def _is_pending(backend: MultipartBackend, key: str, upload_id: str, retries: Retries) -> bool | None:
    """Return whether the storage lists the upload; None if it lists none."""
    if not backend.capabilities.lists_uploads:
        return None
    try:
        listed = retries.pending_uploads(backend, key)
        return any((one.key, one.upload_id) == (key, upload_id) for one in listed)
    except AccessDenied:  # a key that may abort need not be allowed to list
        return None
