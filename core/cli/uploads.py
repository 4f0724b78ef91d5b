"""``partwise uploads``: list the pending uploads of a bucket."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from math import nan
from shutil import get_terminal_size
from typing import Any

from attrs import define

from partwise.cli.formatting import escape_control, format_age, format_size, pluralize
from partwise.cli.output import Output
from partwise.cli.retries import Retries
from partwise.cli.status import names_of, scan
from partwise.cli.style import Line, Styled
from partwise.cli.targets import BackendSpec, StoreSpec
from partwise.config import TransferConfig
from partwise.errors import CheckpointError, UnsupportedOption, UploadNotFound
from partwise.model import PendingUpload
from partwise.protocols import MultipartBackend


@define(frozen=True)
class UploadsCommand:
    """What one call of `uploads` is asked to do."""

    target: BackendSpec  # where the uploads are
    store: StoreSpec  # where the checkpoints are
    config: TransferConfig
    older_than: float | None = None  # seconds; younger uploads are left out
    parts: bool = False  # list the parts of each upload


@define(frozen=True)
class ListedUpload:
    """
    One pending upload.

    Args:
        pending: as the storage lists it.
        checkpoint: the name of the checkpoint that it belongs to; "" for none, None if that is not known.
        shown: as many characters of the name as are shown.
        parts: the number of parts on the storage; None if they were not listed.
        size: the number of their bytes.
    """

    pending: PendingUpload
    checkpoint: str | None
    shown: str
    parts: int | None = None
    size: int = 0

    def figures(self) -> list[str]:
        """Return age, checkpoint, and the parts if they were listed."""
        found = [f"{format_age(age_of(self.pending)):<11}", f"{self.shown:<10}"]
        if self.parts is not None:
            found += [f"{self.parts:>6,}", f"{format_size(self.size):>10}"]
        return found

    def as_data(self) -> dict[str, Any]:
        """Return the upload as an object."""
        listed = {} if self.parts is None else {"parts": self.parts, "bytes": self.size}
        return {
            **as_data(self.pending),
            "checkpoint": self.checkpoint or None,
            "has_checkpoint": None if self.checkpoint is None else bool(self.checkpoint),
            **listed,
        }


def uploads(command: UploadsCommand, output: Output) -> int:
    """
    List the pending multipart uploads of a bucket, in the order of the storage.

    If the URL has a prefix, only keys that begin with it are listed. Each upload is printed as soon as it is known, so
    that a list of any length takes little memory.

    Raises:
        InvalidInput: the URL names a directory that does not exist, or a prefix that nothing matches; or the checkpoint
            store does not exist.
        UnsupportedOption: the storage does not list uploads, or their parts.
        BackendError: the storage can't be listed.
    """
    command.store.require_existing()
    retries = Retries(command.config)
    found = shown = parts = size = 0
    with command.target.open_prefix() as (backend, prefix):
        require_listing(backend, "See those with a checkpoint here by 'partwise status'")
        if command.parts and not backend.capabilities.lists_parts:
            raise UnsupportedOption(f"{backend.location} does not list the parts of uploads", hint="Omit --parts")
        owners = _Owners.read(command, backend.location, output)
        width = get_terminal_size().columns if sys.stdout.isatty() else None
        for pending in retries.pending_uploads(backend, prefix):
            found += 1
            one = _listed(command, pending, owners, backend, retries)
            if one is None:
                continue
            if not shown and not output.json:
                output.say(Styled(_headings(parts=command.parts), "bold"))
            shown, parts, size = shown + 1, parts + (one.parts or 0), size + one.size
            output.record(one.as_data())
            if not output.json:
                output.say(*_lines(one, width))
        if not found:
            command.target.require_matching_name(backend, prefix)
    in_parts = f", {format_size(size)} in {pluralize(parts, 'part')}," if command.parts and shown else ""
    count = f"{pluralize(shown, 'pending upload')}{in_parts} at" if shown else "no uploads are pending at"
    if found and not shown:
        count = f"none of {pluralize(found, 'pending upload')} is old enough at"
    output.note(f"{count} {command.target.url}")
    return output.list_exit_code()


def _listed(
    command: UploadsCommand, pending: PendingUpload, owners: _Owners, backend: MultipartBackend, retries: Retries
) -> ListedUpload | None:
    """Return what is shown of an upload; None if it is left out, or has ended."""
    if command.older_than is not None and not age_of(pending) >= command.older_than:  # a number, or not
        return None
    checkpoint, shown = owners.owner_of(pending)
    if not command.parts:
        return ListedUpload(pending, checkpoint, shown)

    def add_up() -> tuple[int, int]:
        count = size = 0
        for part in backend.list_parts(pending.key, pending.upload_id):
            count, size = count + 1, size + part.size
        return count, size

    try:
        count, size = retries.call(add_up, f"listing the parts of {pending.upload_id}")
    except UploadNotFound:
        return None
    return ListedUpload(pending, checkpoint, shown, count, size)


# --- checkpoints -----------------------------------------------------------------------------------------------------


@define(frozen=True)
class _Owners:
    """
    The checkpoints here, by the ids of their uploads.

    Args:
        names: the name of the checkpoint.
        shown: as many characters of a name as are shown.
        complete: whether every checkpoint could be read.
    """

    names: Mapping[str, str]
    shown: Mapping[str, str]
    complete: bool

    @classmethod
    def read(cls, command: UploadsCommand, location: str, output: Output) -> _Owners:
        """Read the checkpoints for one storage. A store that can't be read is a warning."""
        try:
            with command.store.open() as store:
                checkpoints, unreadable = scan(store, Retries(command.config))
        except CheckpointError as error:
            output.warning(f"it is not known which uploads have a checkpoint here: {error.message}")
            return cls({}, {}, complete=False)
        here = [one for one in checkpoints if one.location == location]
        names = {
            upload_id: one.name
            for one in here
            for upload_id in (one.upload_id, *one.abandoned)
            if upload_id is not None
        }
        return cls(names, names_of(checkpoints), complete=not unreadable)

    def owner_of(self, pending: PendingUpload) -> tuple[str | None, str]:
        """Return the name of an upload's checkpoint, and how it is shown."""
        name = self.names.get(pending.upload_id)
        if name is None:
            return ("", "-") if self.complete else (None, "?")
        return name, self.shown.get(name, name)


# --- lines -----------------------------------------------------------------------------------------------------------


def _headings(*, parts: bool) -> str:
    figures = [f"{'AGE':<11}", f"{'CHECKPOINT':<10}", *([f"{'PARTS':>6}", f"{'SIZE':>10}"] if parts else [])]
    return "  ".join([*figures, "KEY, UPLOAD ID"])


def _lines(one: ListedUpload, width: int | None) -> Iterator[Line]:
    """
    Yield the lines of an upload.

    Neither key nor upload id is truncated, so that they can be copied. On a terminal on which they do not fit one line,
    the id gets its own.
    """
    figures = "  ".join(one.figures())
    key, upload_id = escape_control(one.pending.key), escape_control(one.pending.upload_id)
    line = f"{figures}  {key}  {upload_id}"
    if width is None or len(line) <= width:
        yield line
    else:
        yield f"{figures}  {key}"
        yield f"{' ' * len(figures)}  {upload_id}"


# --- shared with gc --------------------------------------------------------------------------------------------------


def require_listing(backend: MultipartBackend, hint: str) -> None:
    """Raise UnsupportedOption for a storage that does not list uploads."""
    if not backend.capabilities.lists_uploads:
        raise UnsupportedOption(
            f"{backend.location} does not list pending uploads, so those without a checkpoint can't be found; nothing"
            " was changed",
            hint=hint,
        )


def age_of(pending: PendingUpload) -> float:
    """Return seconds since initiation: negative for the future, NaN if not known."""
    try:
        return time.time() - pending.initiated.timestamp()
    except (ValueError, OverflowError, OSError):
        return nan


def as_data(pending: PendingUpload) -> dict[str, Any]:
    """Return a pending upload as an object."""
    return {
        "key": pending.key,
        "upload_id": pending.upload_id,
        "initiated": pending.initiated.isoformat(),
        "age": round(age_of(pending), 1),
    }
