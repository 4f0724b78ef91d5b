"""Each check of a checkpoint store passes on a correct one, and fails on one that breaks its rule."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from attrs import evolve
from filelock import FileLock, Timeout
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.errors import (
    CheckpointBusy,
    CheckpointDamaged,
    CheckpointError,
    CheckpointMismatch,
    CheckpointUnwritable,
    ClaimLost,
    InvalidInput,
    StoreClosed,
)
from partwise.model import ClaimOwner, UploadedPart
from partwise.protocols import CheckpointStore
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing import (
    STORE_CHECKS,
    NotApplicable,
    StoreHarness,
    agreement_machine,
    run_machine,
    store_machine,
)
from partwise.testing.conformance import store_claims, store_failures

# --- a correct store, which subclasses break -------------------------------------------------------------------------


class Correct:
    """
    A store of files.

    Each line is the text of a record after its checksum, which is chained to the line before. A last line without its
    newline is torn.
    """

    holds_one = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def close(self) -> None:
        self.closed = True

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        self.begin()
        with self.writing():
            self.directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path(name, ".lock"), thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise CheckpointBusy("busy") from error
        try:
            yield
        finally:
            lock.release()

    def load(self, name: str) -> Checkpoint | None:
        self.begin()
        found = self.decode(name, self.content(self.path(name)))
        if found is not None and found.name != name:
            raise CheckpointMismatch("of another upload")
        return found

    def save(self, checkpoint: Checkpoint) -> None:
        self.begin()
        self.check_owner(checkpoint.name)
        texts = [json.dumps(evolve(checkpoint, parts=()).to_data()), *map(part_text, checkpoint.parts)]
        with self.writing():
            self.replace(self.path(checkpoint.name), encoded(texts))

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        self.begin()
        path = self.path(name)
        data = self.content(path)
        if data is None:
            raise CheckpointError("there is none")
        self.check_owner(name)
        self.compare(name, upload_id)
        good = data[: data.rindex(b"\n") + 1]
        with self.writing():
            if len(good) < len(data):
                os.truncate(path, len(good))
            self.write(path, encoded([part_text(part)], int(good.splitlines()[-1][:8], 16)), os.O_APPEND)

    def delete(self, name: str, upload_id: str | None) -> None:
        self.begin()
        with suppress(CheckpointMismatch):
            self.check_owner(name)
            self.compare(name, upload_id)
            with suppress(FileNotFoundError):
                self.path(name).unlink()

    def compare(self, name: str, upload_id: str | None) -> None:
        with suppress(CheckpointDamaged):
            found = self.decode(name, self.content(self.path(name)))
            if found is not None and found.upload_id != upload_id:
                raise ClaimLost("of another upload", name=name)

    def scan(self) -> Iterable[Checkpoint]:
        self.begin()
        return self.scanned(sorted(self.directory.glob("*.ucp")))

    # --- where it can be broken --------------------------------------------------------------------------------------

    def begin(self) -> None:
        if self.closed:
            raise StoreClosed("closed")

    def path(self, name: str, ending: str = ".ucp") -> Path:
        if self.holds_one:
            return self.directory / f"one{ending}"
        return self.directory / (hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest() + ending)

    def content(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def decode(self, name: str, data: bytes | None) -> Checkpoint | None:
        if data is None:
            return None
        try:
            header, *parts = decoded(data)
            checkpoint = Checkpoint.from_data(json.loads(header))
            held = {part.part_number: part for part in map(part_of, parts)}
        except (ValueError, CheckpointDamaged) as error:
            raise CheckpointDamaged("damaged", name=name) from error
        return evolve(checkpoint, parts=held.values())

    def check_owner(self, name: str) -> None:
        if self.holds_one:
            with suppress(CheckpointDamaged):
                self.load(name)

    def replace(self, path: Path, data: bytes) -> None:
        temporary = path.with_suffix(".tmp")
        self.write(temporary, data, os.O_CREAT | os.O_TRUNC)
        temporary.replace(path)

    def write(self, path: Path, data: bytes, flags: int) -> None:
        file = os.open(path, os.O_WRONLY | flags, 0o600)
        try:
            os.write(file, data)
        finally:
            os.close(file)

    @contextmanager
    def writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointUnwritable("unwritable") from error

    def scanned(self, paths: Iterable[Path]) -> Iterator[Checkpoint]:
        for path in paths:
            try:
                found = self.decode("", self.content(path))
            except CheckpointDamaged:
                continue
            if found is not None:
                yield found


def part_text(part: UploadedPart) -> str:
    return json.dumps([part.part_number, part.size, part.etag, part.checksum])


def part_of(text: str) -> UploadedPart:
    return UploadedPart(*json.loads(text))


def encoded(texts: Iterable[str], checksum: int = 0) -> bytes:
    lines = []
    for text in texts:
        checksum = zlib.crc32(text.encode(), checksum)
        lines.append(f"{checksum:08x} {text}\n")
    return "".join(lines).encode()


def decoded(data: bytes) -> list[str]:
    texts, checksum = [], 0
    for line in data.split(b"\n")[:-1]:
        checksum = zlib.crc32(line[9:], checksum)
        if line[:9] != b"%08x " % checksum:
            raise ValueError("another checksum")
        texts.append(line[9:].decode())
    return texts


class Harness(StoreHarness):
    tears = True
    subject: ClassVar[type[Correct]] = Correct

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp())

    def close(self) -> None:
        shutil.rmtree(self.directory)

    def open(self) -> Correct:
        return self.subject(self.directory)

    def read_record(self, name: str) -> bytes:
        return self.subject(self.directory).path(name).read_bytes()

    def write_record(self, name: str, data: bytes) -> None:
        self.subject(self.directory).path(name).write_bytes(data)

    def open_unwritable(self) -> Correct:
        (self.directory / "file").touch()
        return self.subject(self.directory / "file")

    def elsewhere(self) -> Callable[[], CheckpointStore]:
        # Another process does not find this module by name, and so has to be shown the folder.
        name, directory = self.subject.__name__, str(self.directory)
        this = Path(__file__)
        opener = f"__import__({this.stem!r}).{name}(__import__('pathlib').Path({directory!r}))"
        return partial(eval, f"__import__('sys').path.append({str(this.parent)!r}) or {opener}")


def harness_of(mutant: type[Correct]) -> type[Harness]:
    return type("MutantHarness", (Harness,), {"subject": mutant, "holds_one": mutant.holds_one})


# --- broken: records -------------------------------------------------------------------------------------------------


class InventsCheckpoints(Correct):
    def load(self, name: str) -> Checkpoint | None:
        found = super().load(name)
        return (
            Checkpoint("memory://", "key", "source", fingerprint=Fingerprint(), part_size=1) if found is None else found
        )


class ForgetsTheToken(Correct):
    def save(self, checkpoint: Checkpoint) -> None:
        super().save(evolve(checkpoint, token=None))


class DecodesAsLatin1(Correct):
    def save(self, checkpoint: Checkpoint) -> None:
        metadata = checkpoint.options.get("metadata", {})
        metadata = {name: value.encode("ascii", "replace").decode() for name, value in metadata.items()}
        super().save(evolve(checkpoint, options={**checkpoint.options, "metadata": metadata}))


class KeepsOldParts(Correct):
    def save(self, checkpoint: Checkpoint) -> None:
        before = self.decode(checkpoint.name, self.content(self.path(checkpoint.name)))
        parts = {part.part_number: part for part in (*(before.parts if before else ()), *checkpoint.parts)}
        super().save(evolve(checkpoint, parts=parts.values()))


class FirstAppendedCounts(Correct):
    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        found = self.load(name)
        of_this_upload = found is not None and found.upload_id == upload_id
        if not of_this_upload or part.part_number not in {held.part_number for held in found.parts}:
            super().append_part(name, upload_id, part)


class AppendsToNothing(Correct):
    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        if self.content(self.path(name)) is not None:
            super().append_part(name, upload_id, part)


class DeletesOnce(Correct):
    def delete(self, name: str, upload_id: str | None) -> None:
        if self.content(self.path(name)) is None:
            raise CheckpointError("there is none")
        super().delete(name, upload_id)


class DeletesByMark(Correct):
    """Leaves an empty file, which a later append treats as a checkpoint."""

    def delete(self, name: str, upload_id: str | None) -> None:
        self.begin()
        if self.content(self.path(name)) is not None:
            self.path(name).write_bytes(encoded([json.dumps({})]))

    def decode(self, name: str, data: bytes | None) -> Checkpoint | None:
        return None if data == encoded([json.dumps({})]) else super().decode(name, data)


class SharesWhatWasLoaded(Correct):
    cache: ClassVar[dict[str, Checkpoint]] = {}

    def load(self, name: str) -> Checkpoint | None:
        found = super().load(name)
        if found is not None:
            found = self.cache.setdefault(name, found)
        return found


class SharesWhatWasSaved(Correct):
    cache: ClassVar[dict[str, Checkpoint]] = {}

    def save(self, checkpoint: Checkpoint) -> None:
        super().save(checkpoint)
        self.cache[checkpoint.name] = checkpoint

    def load(self, name: str) -> Checkpoint | None:
        return self.cache.get(name) if super().load(name) is not None else None


class ScansHeadersOnly(Correct):
    def scanned(self, paths: Iterable[Path]) -> Iterator[Checkpoint]:
        return (evolve(found, parts=()) for found in super().scanned(paths))


class ScansTwice(Correct):
    def scanned(self, paths: Iterable[Path]) -> Iterator[Checkpoint]:
        paths = list(paths)
        return super().scanned([*paths, *paths])


class OneFileForAll(Correct):
    def path(self, name: str, ending: str = ".ucp") -> Path:
        return self.directory / f"one{ending}" if ending == ".ucp" else super().path(name, ending)

    def load(self, name: str) -> Checkpoint | None:
        self.begin()
        return self.decode(name, self.content(self.path(name)))


class NamesAreFiles(Correct):
    def path(self, name: str, ending: str = ".ucp") -> Path:
        return self.directory / (name + ending)


class NamesOfOneCase(Correct):
    def path(self, name: str, ending: str = ".ucp") -> Path:
        return super().path(name.lower(), ending)


class ScanFailsOnMissing(Correct):
    def content(self, path: Path) -> bytes | None:
        return (
            path.read_bytes()
            if path.suffix == ".ucp" and path.parent.exists() and self.scanning
            else super().content(path)
        )

    scanning = False

    def scanned(self, paths: Iterable[Path]) -> Iterator[Checkpoint]:
        self.scanning = True
        yield from super().scanned(paths)


class SingleCheckpoint(Correct):
    holds_one = True


class OverwritesTheOther(SingleCheckpoint):
    def check_owner(self, name: str) -> None:
        """Do nothing."""


class DeletesTheOther(SingleCheckpoint):
    def delete(self, name: str, upload_id: str | None) -> None:
        self.begin()
        with suppress(FileNotFoundError):
            self.path(name).unlink()


class OneHandleADirectory(Correct):
    def __init__(self, directory: Path) -> None:
        super().__init__(Path(tempfile.mkdtemp(dir=directory)))


class LoadsFromItsCache(Correct):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.cache: dict[str, Checkpoint | None] = {}

    def load(self, name: str) -> Checkpoint | None:
        if self.cache.get(name) is None:
            self.cache[name] = super().load(name)
        return self.cache[name]

    def save(self, checkpoint: Checkpoint) -> None:
        self.cache.clear()
        super().save(checkpoint)


class ForgetsWhenClosed(Correct):
    def close(self) -> None:
        if not self.closed:
            for path in self.directory.glob("*.ucp"):
                path.unlink()
        super().close()


class RaisesOSError(Correct):
    @contextmanager
    def writing(self) -> Iterator[None]:
        yield


class HidesTheCause(Correct):
    @contextmanager
    def writing(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            raise CheckpointUnwritable("unwritable") from None


class ClaimsAnywhere(Correct):
    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        self.begin()
        self.directory.with_suffix(".elsewhere").mkdir(exist_ok=True)
        yield


class SecondCloseFails(Correct):
    def close(self) -> None:
        self.begin()
        super().close()


class ScansAfterClose(Correct):
    def scan(self) -> Iterable[Checkpoint]:
        return self.scanned([])


class NoRepr(Correct):
    def __repr__(self) -> str:
        return "a store"


# --- broken: claims, crashes, damage ---------------------------------------------------------------------------------


class RefusesNoClaim(Correct):
    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        self.begin()
        self.directory.mkdir(exist_ok=True)
        yield


class ClaimsWithinTheProcess(Correct):
    claimed: ClassVar[set[str]] = set()
    pause = 0.0

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        self.begin()
        if name in self.claimed:
            raise CheckpointBusy("busy")
        time.sleep(self.pause)
        self.claimed.add(name)
        try:
            yield
        finally:
            self.claimed.discard(name)


class NamesOwners(Correct):
    """Correct, too: it records which process holds a claim."""

    host = "host.example.com"

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        with super().claim(name):
            self.path(name, ".owner").write_text(str(os.getpid()))
            try:
                yield
            finally:
                self.forget_owner(name)

    def forget_owner(self, name: str) -> None:
        self.path(name, ".owner").unlink(missing_ok=True)

    def claim_owner(self, name: str) -> ClaimOwner | None:
        recorded = self.content(self.path(name, ".owner"))
        return None if recorded is None else ClaimOwner(self.host, int(recorded))


class NamesTheProcessThatAsks(NamesOwners):
    def claim_owner(self, name: str) -> ClaimOwner | None:
        return evolve(owner, process=os.getpid()) if (owner := super().claim_owner(name)) else None


class NamesTheParent(NamesOwners):
    def claim_owner(self, name: str) -> ClaimOwner | None:
        return evolve(owner, process=os.getppid()) if (owner := super().claim_owner(name)) else None


class NamesTheLastOwner(NamesOwners):
    def forget_owner(self, name: str) -> None:
        """Keep it."""


class NamesOneOwnerForAll(NamesOwners):
    def path(self, name: str, ending: str = ".ucp") -> Path:
        return super().path("" if ending == ".owner" else name, ending)


class NamesNoHost(NamesOwners):
    host = ""


class NamesNoOwner(NamesOwners):
    def claim_owner(self, name: str) -> ClaimOwner | None:
        return None


class BreaksTheClaim(NamesOwners):
    def claim_owner(self, name: str) -> ClaimOwner | None:
        owner = super().claim_owner(name)
        self.path(name, ".lock").unlink(missing_ok=True)
        return owner


class ClaimsByHandle(ClaimsWithinTheProcess):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        vars(self)["claimed"] = set()


class ChecksThenClaims(ClaimsWithinTheProcess):
    pause = 0.001


class ClaimStaysAfterAnError(Correct):
    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        self.begin()
        lock = FileLock(self.path(name, ".lock"), thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise CheckpointBusy("busy") from error
        HELD.append(lock)
        yield
        lock.release()


HELD: list[Any] = []


class ClaimsByFileExistence(Correct):
    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        self.begin()
        try:
            self.path(name, ".claimed").touch(exist_ok=False)
        except FileExistsError as error:
            raise CheckpointBusy("busy") from error
        try:
            yield
        finally:
            self.path(name, ".claimed").unlink()


class OneTemporaryForAll(Correct):
    def replace(self, path: Path, data: bytes) -> None:
        temporary = path.parent / "temporary"
        self.write(temporary, data, os.O_CREAT | os.O_TRUNC)
        time.sleep(0.002)
        temporary.replace(path)


class WritesInPlace(Correct):
    def replace(self, path: Path, data: bytes) -> None:
        half = len(data) // 2
        self.write(path, data[:half], os.O_CREAT | os.O_TRUNC)
        time.sleep(0.002)  # as on a disk; a file system in memory would write it in no time
        self.write(path, data[half:], os.O_APPEND)


class LoadsSlowly(WritesInPlace):
    """A load takes longer than some dozens of saves."""

    def load(self, name: str) -> Checkpoint | None:
        time.sleep(0.2)
        return super().load(name)


class RemovesThenRenames(Correct):
    def replace(self, path: Path, data: bytes) -> None:
        temporary = path.with_suffix(".tmp")
        self.write(temporary, data, os.O_CREAT | os.O_TRUNC)
        with suppress(FileNotFoundError):
            path.unlink()
        time.sleep(0.002)
        temporary.replace(path)


class ScansHalfSaves(Correct):
    """Saves without parts first, and appends them."""

    def save(self, checkpoint: Checkpoint) -> None:
        super().save(evolve(checkpoint, parts=()))
        for part in checkpoint.parts:
            self.append_part(checkpoint.name, str(checkpoint.upload_id), part)


class AppendsByRewriting(Correct):
    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        found = self.load(name)
        if found is None:
            raise CheckpointError("there is none")
        with self.writing():
            texts = [json.dumps(evolve(found, parts=()).to_data()), *map(part_text, (*found.parts, part))]
            self.write(self.path(name), encoded(texts), os.O_TRUNC)


class AppendsAfterTheTornLine(Correct):
    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        data = self.content(self.path(name))
        if data is None:
            raise CheckpointError("there is none")
        checksum = int(data[: data.rindex(b"\n") + 1].splitlines()[-1][:8], 16)
        self.write(self.path(name), encoded([part_text(part)], checksum), os.O_APPEND)


class DeletesByTruncating(Correct):
    def delete(self, name: str, upload_id: str | None) -> None:
        self.begin()
        with suppress(FileNotFoundError):
            os.truncate(self.path(name), 0)
            self.path(name).unlink()


class TornIsDamaged(Correct):
    def decode(self, name: str, data: bytes | None) -> Checkpoint | None:
        if data is not None and not data.endswith(b"\n"):
            raise CheckpointDamaged("torn", name=name)
        return super().decode(name, data)


class TornHeaderIsNothing(Correct):
    def decode(self, name: str, data: bytes | None) -> Checkpoint | None:
        return None if data is not None and b"\n" not in data else super().decode(name, data)


class IgnoresChecksums(Correct):
    def decode(self, name: str, data: bytes | None) -> Checkpoint | None:
        if data is not None:
            data = encoded([line[9:].decode("utf-8", "replace") for line in data.split(b"\n")[:-1]])
        return super().decode(name, data)

    def load(self, name: str) -> Checkpoint | None:
        self.begin()
        return self.decode(name, self.content(self.path(name)))


class DamagedIsOfAnotherUpload(IgnoresChecksums):
    """Compares the name that a record has, and nothing else."""

    def load(self, name: str) -> Checkpoint | None:
        return Correct.load(self, name)


class DamagedIsNothing(Correct):
    def load(self, name: str) -> Checkpoint | None:
        try:
            return super().load(name)
        except CheckpointDamaged:
            return None


class DamagedHasNoName(Correct):
    def decode(self, name: str, data: bytes | None) -> Checkpoint | None:
        return super().decode("", data)


class DamagedStays(Correct):
    def save(self, checkpoint: Checkpoint) -> None:
        self.load(checkpoint.name)
        super().save(checkpoint)


class DamagedCanNotBeDeleted(Correct):
    def delete(self, name: str, upload_id: str | None) -> None:
        self.load(name)
        super().delete(name, upload_id)


class DamagedIsNotDeleted(Correct):
    def delete(self, name: str, upload_id: str | None) -> None:
        with suppress(CheckpointDamaged):
            self.load(name)
            super().delete(name, upload_id)


class DamageEndsTheScan(Correct):
    def scanned(self, paths: Iterable[Path]) -> Iterator[Checkpoint]:
        for path in paths:
            found = self.decode("", self.content(path))
            if found is not None:
                yield found


#: The mutants of each check, with what the message says by which it has to catch them.
MUTANTS: dict[str, dict[type[Correct], str]] = {
    "empty_store": {InventsCheckpoints: "load returns None if there is no checkpoint"},
    "round_trip": {
        ForgetsTheToken: "load returns what was saved: expected",
        DecodesAsLatin1: "load returns what was saved: expected",
    },
    "saving_again": {
        KeepsOldParts: "the last save replaces the checkpoint with its parts",
        ScansTwice: "a checkpoint that was saved twice is scanned once",
    },
    "append": {FirstAppendedCounts: "the last part of each number is loaded: expected"},
    "append_to_nothing": {AppendsToNothing: "there is no checkpoint of this name: expected CheckpointError"},
    "delete": {
        DeletesOnce: "deleting a checkpoint that does not exist is not an error",
        DeletesByMark: "the checkpoint was deleted: expected CheckpointError",
    },
    "nothing_is_shared": {
        SharesWhatWasLoaded: "changing a loaded checkpoint does not change the stored one",
        SharesWhatWasSaved: "changing a checkpoint after save does not change the stored one",
    },
    "scan": {
        ScansHeadersOnly: "scan yields every checkpoint once, with its parts",
        ScansTwice: "scan yields every checkpoint once, with its parts",
        OneFileForAll: "scan yields every checkpoint once, with its parts",
    },
    "uploads_are_kept_apart": {OneFileForAll: "each upload has its own checkpoint"},
    "strange_names": {
        NamesAreFiles: "accepts the name 'with\\x00nul', and ValueError was raised",
        NamesOfOneCase: "'plain' and 'Plain' are two names",
    },
    "deleting_during_a_scan": {ScanFailsOnMissing: "a scan goes on while checkpoints are deleted"},
    "single_checkpoint": {
        OverwritesTheOther: "the store holds the checkpoint of another upload: expected CheckpointMismatch",
        DeletesTheOther: "the store holds the checkpoint of another upload, which is unchanged",
    },
    "handles_see_each_other": {
        OneHandleADirectory: "a checkpoint saved through one handle is loaded through another",
        LoadsFromItsCache: "a part appended through one handle is loaded through another at once",
    },
    "reopening": {ForgetsWhenClosed: "saved and appended parts are loaded after reopening"},
    "unwritable_place": {
        HidesTheCause: "CheckpointUnwritable has its cause",
        ClaimsAnywhere: "the store can't be written to: expected CheckpointUnwritable, and the call returned",
        RaisesOSError: "the store can't be written to: expected CheckpointUnwritable, and FileExistsError was raised",
    },
    "close_and_repr": {
        SecondCloseFails: "closing twice is not an error",
        ScansAfterClose: "scan after close: expected StoreClosed",
        NoRepr: "repr names the class NoRepr",
    },
    "claim_is_exclusive": {
        RefusesNoClaim: "this handle holds the claim: expected CheckpointBusy",
        ClaimsByHandle: "another handle holds the claim: expected CheckpointBusy",
        ClaimStaysAfterAnError: "a claim is released on an error",
    },
    "claim_race": {
        ChecksThenClaims: "at most one thread holds the claim",
        RefusesNoClaim: "at most one thread holds the claim",
    },
    "claim_owner": {
        NamesTheProcessThatAsks: "another process holds the claim, and not ClaimOwner",
        NamesTheParent: "another handle of this process holds the claim, and not ClaimOwner",
        NamesTheLastOwner: "claim_owner is None: the claim was released",
        NamesOneOwnerForAll: "claim_owner is None: the claim on another name is held",
        NamesNoHost: "claim_owner names the host",
        NamesNoOwner: "claim_owner is a ClaimOwner",
        BreaksTheClaim: "claim_owner does not end the claim",
    },
    "claim_ends_with_its_process": {
        ClaimsWithinTheProcess: "another process holds the claim: expected CheckpointBusy",
        ClaimsByFileExistence: "the claim of a killed process is released",
    },
    "many_threads": {OneTemporaryForAll: "concurrent writes do not affect each other"},
    "readers_see_whole_records": {
        WritesInPlace: "loading during a save returns",  # a half may be a checkpoint of fewer parts
        RemovesThenRenames: "loading during a save never returns None",
        LoadsSlowly: "loading during a save returns",
    },
    "crash_while_saving": {
        WritesInPlace: "a crash at step 2 leaves the old state or the new one, and CheckpointDamaged was raised",
        RemovesThenRenames: "leaves the old state or the new one, and not None",
        ScansHalfSaves: "leaves the old state or the new one, and not Checkpoint",
    },
    "crash_while_saving_first": {
        WritesInPlace: "a crash at step 2 leaves the old state or the new one, and CheckpointDamaged was raised",
        ScansHalfSaves: "leaves the old state or the new one, and not Checkpoint",
    },
    "crash_while_appending": {
        AppendsByRewriting: "leaves the old state or the new one, and CheckpointDamaged was raised",
        AppendsAfterTheTornLine: "after a crash at step 1 parts can be appended",
    },
    "crash_while_deleting": {DeletesByTruncating: "leaves the old state or the new one, and CheckpointDamaged was"},
    "torn_end": {
        TornIsDamaged: "a record that lost only its last byte is torn, which is not damage",
        TornHeaderIsNothing: "load does not return None for a record of 2 bytes",
    },
    "damage": {
        IgnoresChecksums: "was edited, and the record was loaded as another",
        DamagedIsOfAnotherUpload: "edited is damaged, and CheckpointMismatch was raised",
        DamagedIsNothing: "load does not return None for a record with byte 0 edited",
        DamagedHasNoName: "CheckpointDamaged has the name of the checkpoint",
    },
    "saving_after_damage": {
        DamagedStays: "save replaces a damaged checkpoint, and CheckpointDamaged was raised",
        DamagedIsNothing: "the record was edited in its middle: expected CheckpointDamaged",
    },
    "damage_is_not_scanned": {DamageEndsTheScan: "scan yields the checkpoints that can be read"},
    "deleting_damage": {
        DamagedCanNotBeDeleted: "a damaged record is deleted, and CheckpointDamaged was raised",
        DamagedIsNotDeleted: "a damaged checkpoint that was deleted is not loaded",
        DamagedIsNothing: "the record was edited in its middle: expected CheckpointDamaged",
    },
}


# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _claimants_are_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new interpreter would import this module, and with it all of pytest and hypothesis."""
    import forked  # the other process runs this file, too, and does not find it

    modules = ("filelock", "hypothesis.stateful", "partwise.testing", "pytest")
    monkeypatch.setattr(store_claims, "_start_python", partial(forked.start_claimant, modules=modules))
    monkeypatch.setattr(store_claims, "_HELD_FOR", 0.2)  # no claim ends by itself


#: The checks that are tested in `test_the_kit_catches_shared_stores`.
OF_SHARED_STORES = {
    *("claim_never_waits", "claim_is_kept", "fencing", "fencing_of_a_handle", "claim_check", "lost_claim"),
    *(
        "is_claimed",
        "leaving_a_lost_claim",
        "renewal_of_a_lost_claim",
        "long_values",
        "records_do_not_expire",
        "append_cost",
        "secrets_stay_secret",
    ),
}


def test_every_check_has_a_mutant() -> None:
    assert {check.name for check in STORE_CHECKS} == MUTANTS.keys() | OF_SHARED_STORES


def test_every_behaviour_is_covered_or_left_out_with_a_reason() -> None:
    assert STORE_CHECKS.covered | STORE_CHECKS.left_out.keys() == set(range(1, 26))
    assert not STORE_CHECKS.covered & STORE_CHECKS.left_out.keys()


@pytest.mark.parametrize("name", MUTANTS)
def test_the_correct_store_passes(name: str) -> None:
    """No check fails on it, and none is skipped."""
    correct = {"single_checkpoint": SingleCheckpoint, "claim_owner": NamesOwners}
    STORE_CHECKS[name](harness_of(correct.get(name, Correct))())


@pytest.mark.parametrize(
    ("name", "mutant", "reason"),
    [
        pytest.param(name, mutant, reason, id=f"{name}-{mutant.__name__}")
        for name, mutants in MUTANTS.items()
        for mutant, reason in mutants.items()
    ],
)
def test_the_check_detects(name: str, mutant: type[Correct], reason: str) -> None:
    """For this reason, and not since it fails on anything else that the mutant does."""
    with pytest.raises(AssertionError, match=re.escape(reason)):
        STORE_CHECKS[name](harness_of(mutant)())


def test_the_machine_passes_on_the_correct_store() -> None:
    run_machine(store_machine(Harness), examples=5)


@pytest.mark.parametrize(
    ("mutant", "reason"),
    [
        (ForgetsTheToken, "loads what was saved last"),
        (KeepsOldParts, "loads what was saved last"),
        (FirstAppendedCounts, "loads what was saved last"),
        (ScansHeadersOnly, "scans what was saved last"),
    ],
)
def test_the_machine_detects(mutant: type[Correct], reason: str) -> None:
    """Within a hundred sequences of calls, derandomised and without shrinking, to save time."""
    quick = settings(
        max_examples=100,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    # Beside the correct store, too; to find one of the others takes too many sequences for two stores.
    beside = [Harness] if mutant is ForgetsTheToken else []
    with pytest.raises(AssertionError, match=f"<{mutant.__name__}> {reason}"):
        run_state_machine_as_test(agreement_machine([*beside, harness_of(mutant)]), settings=quick)


def test_a_check_that_a_harness_does_not_support_is_not_applicable() -> None:
    class Blind(StoreHarness):
        durable = False

        def open(self) -> CheckpointStore:
            return FileCheckpointStore(self.directory)

        def __init__(self) -> None:
            self.directory = Path(tempfile.mkdtemp())

        def close(self) -> None:
            shutil.rmtree(self.directory)

    blind = ("claim_ends_with_its_process", "damage", "reopening", "single_checkpoint", "torn_end", "unwritable_place")
    for name in blind:
        with pytest.raises(NotApplicable):
            STORE_CHECKS[name](Blind())


def test_a_harness_that_reads_records_must_write_them() -> None:
    class ReadsOnly(Harness):
        write_record = StoreHarness.write_record

    with pytest.raises(NotImplementedError, match="write_record"):
        STORE_CHECKS["damage"](ReadsOnly())


def test_a_deviation_that_names_no_check_is_refused() -> None:
    class Declared(Harness):
        deviations: ClassVar = {"colour": "there is none"}

    with pytest.raises(InvalidInput, match="colour"):
        STORE_CHECKS.check_declarations(Declared())


def test_a_store_need_not_have_anything_to_close() -> None:
    class Endless(Correct):
        close = None  # type: ignore[assignment]  # as if there were none

        def __getattribute__(self, name: str) -> Any:
            if name == "close":
                raise AttributeError(name)
            return super().__getattribute__(name)

    for name in ("close_and_repr", "reopening"):
        STORE_CHECKS[name](harness_of(Endless)())


@pytest.mark.parametrize("name", [name for name in MUTANTS if name.startswith("crash_")])
def test_a_check_that_can_t_simulate_a_crash_is_not_applicable(name: str) -> None:
    """As with a store in memory, or one that writes by the library of a database."""

    class InMemory(StoreHarness):
        def __init__(self) -> None:
            self.store = MemoryCheckpointStore()

        def open(self) -> CheckpointStore:
            return self.store.handle()

    with pytest.raises(NotApplicable, match="no crash can be simulated"):
        STORE_CHECKS[name](InMemory())


def test_a_write_that_never_ends_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_failures, "_STEPS_MAX", 20)  # to save time

    class Busy(Correct):
        def replace(self, path: Path, data: bytes) -> None:
            for _ in range(30):
                path.with_suffix(".tmp").unlink(missing_ok=True)
            super().replace(path, data)

    with pytest.raises(AssertionError, match="not finished after"):
        STORE_CHECKS["crash_while_saving"](harness_of(Busy)())
