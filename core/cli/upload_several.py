"""``partwise upload`` of several files, one after the other."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from attrs import define, evolve

from partwise.cli.formatting import pluralize
from partwise.cli.output import Output
from partwise.cli.reporting import DONE, TRY_AGAIN, exit_code, failure, format_error, worst_exit_code
from partwise.cli.signals import SignalReceived
from partwise.cli.stdin import STANDARD_INPUT
from partwise.cli.upload import UploadCommand, explain_to, upload_to
from partwise.config import TransferConfig
from partwise.errors import ConnectionFailed, InvalidInput
from partwise.protocols import CheckpointStore, MultipartBackend

#: Flags that make sense for one object only, by the name of the value or of the option of `--set`.
_FOR_ONE_OBJECT = {
    "checkpoint": "--checkpoint",
    "expected_size": "--expect-size",
    "expected_crc64": "--expect-crc64",
    "if_match": "--if-match",
}

#: Seconds for which a file is retried after one that failed since the storage can't be reached: many files would
#: otherwise take the whole patience each.
_PATIENCE_AFTER_FAILURE = 10.0


@define(frozen=True)
class SeveralUploads:
    """Uploads of several files, as the command line describes them."""

    files: Sequence[str]
    common: UploadCommand  # of which the file, the URL and the command line are not used
    command_without: Callable[[Collection[str]], str]  # the command line without the files that are done


def require_several(files: Sequence[str], given: Mapping[str, Any]) -> None:
    """
    Refuse standard input, and flags that make sense for one object only.

    Raises:
        InvalidInput: one of them was given.
    """
    if STANDARD_INPUT in files:
        raise InvalidInput(
            "standard input can't be one of several sources", hint="Upload it on its own, with the whole key"
        )
    names = [name for name in _FOR_ONE_OBJECT if given.get(name) is not None or name in given["assignments"]]
    if names:
        flag = _FOR_ONE_OBJECT[names[0]] if given.get(names[0]) is not None else f"--set {names[0]}"
        raise InvalidInput(
            f"{flag} is for one file, and there are {len(files)}", hint=f"Leave it out, or upload one file with {flag}"
        )


def upload_several(command: SeveralUploads, output: Output, *, dry_run: bool = False) -> int:
    """
    Upload each file, print how each ended, and return the exit code.

    After the failure of one, the next is tried. An interrupt stops all.

    Args:
        command: what to upload.
        output: where to print.
        dry_run: only print what would be done.

    Raises:
        InvalidInput: the command can't be carried out for any file. Nothing was sent.
        PartwiseError: the checkpoint store can't be opened.
    """
    common = command.common
    with common.target.open_objects(command.files) as (backend, objects), common.store.open() as store:
        common.options.for_backend(backend)  # what is refused for all files is reported once
        return _upload_each(command, objects, backend, store, output, dry_run=dry_run)


def _upload_each(
    command: SeveralUploads,
    objects: Sequence[tuple[str, str]],
    backend: MultipartBackend,
    store: CheckpointStore,
    output: Output,
    *,
    dry_run: bool,
) -> int:
    codes: list[int] = []
    done: list[str] = []
    interrupted: int | None = None
    config = command.common.config
    for file, (key, url) in zip(command.files, objects, strict=True):
        one = evolve(command.common, file=file, url=url, config=config, is_one_of_several=True)
        try:
            (explain_to if dry_run else upload_to)(backend, store, key, one, output)
        except (Exception, KeyboardInterrupt) as error:  # a defect is reported, too
            if dry_run and isinstance(error, KeyboardInterrupt):
                raise
            codes.append(exit_code(error))
            if isinstance(error, KeyboardInterrupt):
                interrupted, error = codes[-1], _stopped(error, command.command_without(done))
            output.error(format_error(error, str(one), one.target.scheme, again=False), error)
            output.record({**failure(error, str(one), one.target.scheme), "url": url, "source": file})
            config = _after(error, command.common.config)
        else:
            codes.append(DONE)
            done.append(file)
            config = command.common.config
        if interrupted is not None:
            break
    if not dry_run:
        output.say(f"{len(done):,} of {pluralize(len(command.files), 'file')} uploaded")
        if len(done) < len(command.files) and interrupted is None:
            output.note("To upload the rest:", f"  {command.command_without(done)}")
    return worst_exit_code(codes) if interrupted is None else interrupted


def _stopped(error: KeyboardInterrupt, command: str) -> SignalReceived:
    """Return the error for an interrupt, with the command line to go on."""
    if not isinstance(error, SignalReceived):  # between two files
        return SignalReceived(signal.SIGINT, "stopped", hint="To upload the rest:", command=command)
    hint = error.hint or "To upload the rest:"
    stopped = SignalReceived(error.signal, str(error), kept=error.kept, hint=hint, command=command)
    stopped.__cause__ = error.__cause__
    return stopped


def _after(error: BaseException, config: TransferConfig) -> TransferConfig:
    """Return the configuration for the file after one that failed."""
    is_outage = exit_code(error) == TRY_AGAIN or isinstance(error.__cause__, ConnectionFailed)
    if not is_outage:
        return config
    return evolve(config, give_up_after=min(config.give_up_after, _PATIENCE_AFTER_FAILURE))
