"""The harness that describes a store, and what the checks do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from attrs import evolve

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.model import UploadedPart
from partwise.protocols import CheckpointStore, SupportsClaimCheck
from partwise.testing.conformance.suite import Harness, NotApplicable, must_return
from partwise.testing.oracles import in_order


class StoreHarness(Harness[CheckpointStore]):
    """
    Describes a store to the suite.

    Implement `open`; override the rest if the defaults do not apply.

    The hooks are optional, and each lets the suite check what it can't check otherwise. A run lists those that are
    missing. If one can't be offered for this store, name it in `hooks_left_out` with the reason.

    - `elsewhere`: claims of another process are respected, and end with it.
    - `read_record`, with `write_record`: a damaged record is noticed.
    - `open_unwritable`: a store that can't be written to raises the right errors.
    - `secrets`: no password is in a repr or an error.
    - `advance`: records do not expire.
    - `lose_claim`: a run that has lost its claim changes nothing. Needed if the store implements `check_claim`.
    """

    hooks: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "elsewhere": "whether claims of another process are respected, kept while it lives, and end with it",
            "read_record": "whether damaged and torn records are noticed, and can be replaced and deleted",
            "open_unwritable": "which errors a store raises that can't be written to",
            "secrets": "whether a password is shown in a repr or an error",
            "advance": "whether records expire",
            "lose_claim": "whether a run that has lost its claim can still change the checkpoint of another run",
        }
    )

    holds_one: ClassVar[bool] = False
    """Whether the store holds a single checkpoint; that of another upload is a `CheckpointMismatch` then."""

    durable: ClassVar[bool] = True
    """Whether checkpoints survive closing all handles."""

    tears: ClassVar[bool] = False
    """Whether the store appends to its records, so that a crash can tear the last entry; that is not damage then."""

    claim_outlives_its_process: ClassVar[float] = 0.0
    """
    Seconds for which a claim may remain when its process was killed: the length of a lease. 0: it ends at once, as a
    lock of the operating system or of a database session does. The checks wait this long, so let the harness open the
    store with a short lease.
    """

    secrets: ClassVar[Sequence[str]] = ()
    """The passwords that the handles are opened with, which must never be shown."""

    def missing_hooks(self) -> dict[str, str]:
        """Return the hooks that are neither given nor left out, and apply to the store."""
        missing = super().missing_hooks()
        if "lose_claim" in missing and not isinstance(self.open_for_test(), SupportsClaimCheck):
            del missing["lose_claim"]
        return missing

    def advance(self, seconds: float) -> bool:  # noqa: ARG002  # for overrides
        """
        Let these seconds pass for the stored records; return False if impossible.

        By a clock that the store is opened with, or by changing the times that the server keeps.
        """
        return False

    def lose_claim(self, store: CheckpointStore, name: str) -> bool:  # noqa: ARG002  # for overrides
        """
        Let `store` lose the claim that it holds; return False if that is impossible.

        As a network partition does, or a host that is suspended: another handle can claim the name then, and `store`
        does not notice. Break the connection that holds the lock, or let the lease expire without renewal.
        """
        return False

    def elsewhere(self) -> Callable[[], CheckpointStore] | None:
        """Return a picklable function that opens the store in another process, or None."""
        return None

    def read_record(self, name: str) -> bytes | None:  # noqa: ARG002  # for overrides
        """Return the stored bytes of a record without the store; None if impossible."""
        return None

    def write_record(self, name: str, data: bytes) -> None:
        """
        Replace the stored bytes of a record, without using the store.

        Required if `read_record` is overridden.
        """
        raise NotImplementedError(
            f"read_record is overridden, so write_record({name!r}, {len(data)} bytes) has to be, too"
        )

    def open_unwritable(self) -> CheckpointStore | None:
        """Open a store that can't be written to; None if that is not possible."""
        return None


def sample(
    number: int = 1, *parts: int, upload_id: str | None = "upload", options: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Return the checkpoint of upload no. `number`, with these parts."""
    return Checkpoint(
        location="memory://bucket",
        key=f"key-{number}",
        source="/a/source",
        fingerprint=Fingerprint(10_000_000, 1_700_000_000_000_000_001, "12345"),
        part_size=1_000_000,
        options=options or {},
        upload_id=upload_id,
        parts=sample_parts(*parts),
        created=1_700_000_000.25,
    )


def sample_part(number: int, version: str = "first") -> UploadedPart:
    """Return a part; odd numbers have a checksum."""
    return UploadedPart(number, 1000 + number, f'"etag {number} {version}"', 2**64 - number if number % 2 else None)


def sample_parts(*numbers: int) -> tuple[UploadedPart, ...]:
    """Return these parts."""
    return tuple(sample_part(number) for number in numbers)


def with_parts(checkpoint: Checkpoint, *parts: UploadedPart) -> Checkpoint:
    """Return the checkpoint with these parts instead of its own."""
    return evolve(checkpoint, parts=parts)


# The engine writes only while it holds the claim, and a store may rely on that.


def save(store: CheckpointStore, checkpoint: Checkpoint) -> None:
    """Claim, save, release."""
    with store.claim(checkpoint.name):
        store.save(checkpoint)


def append(store: CheckpointStore, name: str, *parts: UploadedPart, upload_id: str = "upload") -> None:
    """Claim, append, release."""
    with store.claim(name):
        for part in parts:
            store.append_part(name, upload_id, part)


def delete(store: CheckpointStore, name: str, upload_id: str | None = "upload") -> None:
    """Claim, delete, release."""
    with store.claim(name):
        store.delete(name, upload_id)


def enter_claim(store: CheckpointStore, name: str) -> None:
    """Claim the name and release it."""
    with store.claim(name):
        pass


def close(store: CheckpointStore) -> None:
    """Close the store, if it has a `close` method."""
    if callable(closing := getattr(store, "close", None)):
        closing()


def must_load(store: CheckpointStore, expected: Checkpoint, duty: str) -> None:
    """Assert that the store has this checkpoint; only the order of parts may differ."""
    found = must_return(duty, store.load, expected.name)
    assert found is not None, f"{duty}: load returned None"
    assert in_order(found) == in_order(expected), f"{duty}: expected\n{expected}\nbut got\n{found}"


def skip_unless_multiple(harness: StoreHarness) -> None:
    """Skip the check for a store that holds a single checkpoint."""
    if harness.holds_one:
        raise NotApplicable("the store holds a single checkpoint, as declared")
