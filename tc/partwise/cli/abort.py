"""``partwise abort``: abort an unfinished upload, and delete its checkpoint."""

from __future__ import annotations

import threading

from partwise.checkpoint import Checkpoint, checkpoint_name
from partwise.cli.formatting import format_ratio, pluralize
from partwise.cli.output import Output
from partwise.cli.reporting import DONE
from partwise.cli.stdin import STANDARD_INPUT, standard_input
from partwise.cli.targets import BackendSpec, StoreSpec
from partwise.config import TransferConfig
from partwise.errors import CheckpointDamaged, CheckpointError
from partwise.protocols import CheckpointStore
from partwise.sources import as_source
from partwise.uploader import Uploader


def abort(file: str, target: BackendSpec, spec: StoreSpec, config: TransferConfig, output: Output) -> int:
    """
    Abort the unfinished upload of a file, which need not exist any more.

    Raises:
        InvalidInput: the checkpoint store does not exist.
        PartwiseError: as `Uploader.abort` does.
    """
    spec.require_existing()
    with target.open_object(file) as (backend, key, url), spec.open() as store:
        source = standard_input(threading.Event()) if file == STANDARD_INPUT else as_source(file)
        recorded = _load(store, checkpoint_name(backend.location, key, source.name))
        dropped = Uploader(backend, store=store, config=config).abort(source, key)
        capabilities = backend.capabilities
    aborted = dropped and capabilities.aborts
    if not dropped:
        output.say(f"no unfinished upload of {file} to {url} is recorded in {spec}; nothing was changed")
    elif not aborted:
        output.say(
            f"deleted the checkpoint of {file} to {url}; the storage can't abort its upload, whose parts expire by"
            " themselves"
        )
    elif isinstance(recorded, CheckpointDamaged) and recorded.upload_id is None:
        output.say(
            f"deleted the damaged checkpoint of {file} to {url}, whose upload id can't be read; if the storage"
            " still has the upload, "
            + ("'partwise gc' drops it" if capabilities.lists_uploads else "its parts stay there")
        )
    else:
        output.say(f"dropped the upload of {file} to {url}{_size_of(recorded)}, and its checkpoint")
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
