"""What an author tells the suite about a checkpoint store, and what the checks do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from attrs import evolve

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.model import ObjectOptions, UploadedPart
from partwise.protocols import CheckpointStore
from partwise.testing.conformance.suite import Harness, NotApplicable, must_return
from partwise.testing.oracles import in_order


class StoreHarness(Harness[CheckpointStore]):
    """What the suite has to know about a store. `open` must be given; the rest declares what is special."""

    holds_one: ClassVar[bool] = False
    """Whether there is room for one checkpoint only; that of another upload is a `CheckpointMismatch` then."""

    durable: ClassVar[bool] = True
    """Whether checkpoints are still there once every handle was closed."""

    tears: ClassVar[bool] = False
    """Whether a record grows at its end, so that a death can tear what is written last, which is not damage then."""

    def elsewhere(self) -> Callable[[], CheckpointStore] | None:
        """What opens the store in another process: a callable that can be pickled. None where no other process can."""
        return None

    def read_record(self, name: str) -> bytes | None:  # noqa: ARG002  # for harnesses that look at it
        """The bytes of a record as they lie in the store, by a back door; None where there is no such thing."""
        return None

    def write_record(self, name: str, data: bytes) -> None:
        """Put other bytes in the place of a record, by a back door. Needed where `read_record` is given."""
        raise NotImplementedError(f"read_record is given, so write_record({name!r}, {len(data)} bytes) is needed too")

    def open_unwritable(self) -> CheckpointStore | None:
        """A handle on a place that can't be written to, such as a directory that is a file; None if there is none."""
        return None


def sample(number: int = 1, *parts: int, upload_id: str = "upload", options: ObjectOptions | None = None) -> Checkpoint:
    """The checkpoint of upload no. `number`, with the receipts of these parts."""
    return Checkpoint(
        location="memory://bucket",
        key=f"key-{number}",
        source="/a/source",
        fingerprint=Fingerprint(10_000_000, 1_700_000_000_000_000_001, "12345"),
        part_size=1_000_000,
        options=options or ObjectOptions(),
        upload_id=upload_id,
        parts=receipts(*parts),
        created=1_700_000_000.25,
    )


def receipt(number: int, version: str = "first") -> UploadedPart:
    """The receipt of a part; of the odd ones the checksum is known."""
    return UploadedPart(number, 1000 + number, f'"etag {number} {version}"', 2**64 - number if number % 2 else None)


def receipts(*numbers: int) -> tuple[UploadedPart, ...]:
    """The receipts of these parts."""
    return tuple(receipt(number) for number in numbers)


def with_parts(checkpoint: Checkpoint, *parts: UploadedPart) -> Checkpoint:
    """The checkpoint with these receipts in place of its own."""
    return evolve(checkpoint, parts=parts)


# The engine writes only under a claim, and a store may rely on it.


def save(store: CheckpointStore, checkpoint: Checkpoint) -> None:
    """Save under a claim of its own."""
    with store.claim(checkpoint.name):
        store.save(checkpoint)


def append(store: CheckpointStore, name: str, *parts: UploadedPart) -> None:
    """Append under a claim of its own."""
    with store.claim(name):
        for part in parts:
            store.append_part(name, part)


def delete(store: CheckpointStore, name: str) -> None:
    """Delete under a claim of its own."""
    with store.claim(name):
        store.delete(name)


def enter_claim(store: CheckpointStore, name: str) -> None:
    """Claim the name and let it go."""
    with store.claim(name):
        pass


def close(store: CheckpointStore) -> None:
    """Close the store, if it is one that needs closing."""
    if callable(closing := getattr(store, "close", None)):
        closing()


def must_load(store: CheckpointStore, expected: Checkpoint, duty: str) -> None:
    """Under the name of this checkpoint the store has it, equal in every field; the order of parts means nothing."""
    found = must_return(duty, store.load, expected.name)
    assert found is not None, f"{duty}: there is none"
    assert in_order(found) == in_order(expected), f"{duty}: expected\n{expected}\nand there is\n{found}"


def skip_unless_multiple(harness: StoreHarness) -> None:
    """Go no further with a store that has room for one checkpoint."""
    if harness.holds_one:
        raise NotApplicable("the store has room for one checkpoint only, as declared")
