"""``partwise abort``: drop one unfinished upload, on the storage and here."""

from __future__ import annotations

import threading

from partwise.checkpoint import Checkpoint, checkpoint_name
from partwise.cli.formatting import count, share
from partwise.cli.output import Output
from partwise.cli.reporting import DONE
from partwise.cli.stdin import STANDARD_INPUT, standard_input
from partwise.cli.targets import BackendChoice, StoreChoice
from partwise.config import TransferConfig
from partwise.errors import CheckpointDamaged, CheckpointError
from partwise.protocols import CheckpointStore
from partwise.sources import as_source
from partwise.uploader import Uploader


def abort(file: str, target: BackendChoice, choice: StoreChoice, config: TransferConfig, output: Output) -> int:
    """
    Drop the unfinished upload of a file, which need not exist any more.

    Raises:
        InvalidInput: the place for checkpoints is not there.
        PartwiseError: as `Uploader.abort` says.
    """
    choice.check_that_it_is_there()
    with target.open_object(file) as (backend, key, url), choice.open() as store:
        source = standard_input(threading.Event()) if file == STANDARD_INPUT else as_source(file)
        recorded = _recorded(store, checkpoint_name(backend.location, key, source.name))
        dropped = Uploader(backend, store=store, config=config).abort(source, key)
    if not dropped:
        output.say(f"no unfinished upload of {file} to {url} is recorded in {choice}; nothing was done")
    elif isinstance(recorded, CheckpointDamaged) and recorded.upload_id is None:
        output.say(
            f"dropped the damaged checkpoint of {file} to {url}; which upload it was of can't be read: if the storage"
            " still has one, 'partwise gc' drops it"
        )
    else:
        output.say(f"dropped the upload of {file} to {url}{_what(recorded)}, and its checkpoint")
    output.record(
        {
            "ok": True,
            "dropped": dropped,
            "upload_id": recorded.upload_id if dropped and recorded else None,
            "bytes_dropped": recorded.bytes_done if dropped and isinstance(recorded, Checkpoint) else 0,
        }
    )
    return DONE


def _recorded(store: CheckpointStore, name: str) -> Checkpoint | CheckpointDamaged | None:
    """What is recorded, as far as it can be read: it only serves to say what is dropped."""
    try:
        return store.load(name)
    except CheckpointDamaged as error:
        return error
    except CheckpointError:
        return None


def _what(checkpoint: Checkpoint | CheckpointDamaged | None) -> str:
    if not isinstance(checkpoint, Checkpoint):
        return ""
    done = share(checkpoint.bytes_done, checkpoint.fingerprint.size)
    return f": {done} in {count(len(checkpoint.parts), 'part')} on the storage"
