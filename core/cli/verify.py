"""``partwise verify``: compare a file with a stored object by its checksum."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

from attrs import define

from partwise.cli.formatting import fold, format_size, pluralize
from partwise.cli.output import Output
from partwise.cli.progress_display import Kind, meter_for
from partwise.cli.reporting import DONE, FAILED, ErrorReport, result_fields
from partwise.cli.signals import SignalReceived, Signals
from partwise.cli.stdin import STANDARD_INPUT, source_of
from partwise.cli.targets import BackendSpec
from partwise.config import TransferConfig
from partwise.protocols import MultipartBackend
from partwise.results import Verification
from partwise.uploader import Uploader

#: The exit code if the sizes are equal, and there is no checksum to compare.
UNDECIDED = 4


@define(frozen=True)
class VerifyCommand:
    """A comparison as the command line describes it."""

    file: str  # a path, or ``-`` for standard input
    target: BackendSpec  # the URL, with its connection settings
    config: TransferConfig
    progress: Kind = "auto"  # the form in which progress is shown
    interval: float | None = None  # seconds between two lines or objects of progress; None: the default of the form

    @property
    def source(self) -> str:
        """The source, for messages."""
        return "standard input" if self.file == STANDARD_INPUT else self.file


def verify(command: VerifyCommand, output: Output) -> int:
    """
    Compare, show progress, and print the result.

    Raises:
        SignalReceived: a signal stopped it.
        PartwiseError: as `Uploader.verify` does.
    """
    with command.target.open_object(command.file) as (backend, key, url):
        verification = _perform(command, backend, key, url, output)
    code = UNDECIDED if verification.equal is None else DONE if verification.equal else FAILED
    if verification.equal:
        equal = f"{command.source} is equal to {url}: {format_size(verification.size or 0)},"
        checksum = f"{verification.checksum_algorithm} {verification.checksum}"
        width = get_terminal_size().columns if sys.stdout.isatty() else None
        output.say(*fold(f"{equal} {checksum}", width))
    else:
        output.error(_report(command, verification, url))
    output.record(as_data(verification, url, code))
    return code


def _perform(command: VerifyCommand, backend: MultipartBackend, key: str, url: str, output: Output) -> Verification:
    source = source_of(command.file, threading.Event(), "verify")
    name = command.source if command.file == STANDARD_INPUT else Path(command.file).name
    meter = meter_for(
        output, name, f"{command.source} with {url}", command.progress, command.interval, activity="comparing"
    )
    with Signals(_stop, meter.restore_screen), meter:
        return Uploader(backend, config=command.config).verify(source, key, progress=meter)


def _stop(number: int) -> None:
    raise SignalReceived(number, "stopped before all was compared")


def _report(command: VerifyCommand, verification: Verification, url: str) -> ErrorReport:
    if verification.stored is None:
        return ErrorReport(f"{command.source} is not stored as {url}", verification.reason)
    if verification.equal is None:
        return ErrorReport(
            f"it is unknown whether {command.source} is equal to {url}",
            f"{verification.reason}{_about_etag(verification.stored.etag)}",
            hint="Only the sizes were compared. Download the object to compare its bytes",
        )
    return ErrorReport(f"{command.source} is not equal to {url}", verification.reason)


def _about_etag(etag: str) -> str:
    """Return why the ETag of an object made of parts was not compared."""
    found = re.fullmatch(r'"?[0-9A-Fa-f]{32}-([0-9]{1,5})"?', etag)
    if found is None:
        return ""
    parts = pluralize(int(found[1]), "part")
    return f". Its ETag is that of {parts}: neither it nor a composite checksum is one of the whole object"


def as_data(verification: Verification, url: str, code: int) -> dict[str, Any]:
    """Return a verification as an object."""
    stored = verification.stored
    return {
        "ok": code == DONE,
        "url": url,
        "key": verification.key,
        "equal": verification.equal,
        "reason": verification.reason,
        "size": verification.size,
        "checksum": None if verification.checksum is None else str(verification.checksum),
        "checksum_algorithm": verification.checksum_algorithm,
        "stored": None if stored is None else _stored_fields(result_fields(stored)),
        "exit_code": code,
    }


def _stored_fields(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in ("size", "etag", "checksum", "version_id")}
