"""The harnesses of the toy storages, for the conformance suites and the machine of processes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from partwise.protocols import MultipartBackend
from partwise.testing._proof.scenario import InMemoryHarness
from toys.azure import BlockBlobBackend
from toys.s3 import STORAGE_CLASSES, S3Backend
from toys.services import S3, BlockBlobs, Bucket, Sessions
from toys.session import SessionBackend


class ToyHarness(InMemoryHarness):
    """A toy service and its backend."""

    checksums: ClassVar[bool] = True
    """Whether the service reports the checksums of objects."""

    hooks_left_out: ClassVar = {
        "secrets": "it has no credentials",
        "open_with_page_size": "its lists have no pages",
        "open_failing": "the service is in this process, and does not fail",
        "open_damaging": "nothing is on its way",
        "open_failing_in_body": "it sends no requests",
        "requests": "it sends no requests",
        "elsewhere": "the service is in this process",
    }
    backend_class: ClassVar[Any]
    service: Any

    def __init__(self) -> None:
        super().__init__()
        self.service = self.make_service()

    def make_service(self) -> Bucket:
        """Create a service without objects."""
        raise NotImplementedError

    def open(self) -> MultipartBackend:
        backend: MultipartBackend = self.backend_class(self.service, checksums=self.checksums)
        return backend

    def read(self, key: str) -> bytes | None:
        found = self.service.objects.get(key)
        return None if found is None else found.data

    def options(self, key: str) -> Mapping[str, object]:
        headers = self.service.objects[key].headers
        named = {"content_type": "Content-Type", "acl": "acl"}
        shown = {name: headers.get(header) for name, header in named.items() if name in self._supported()}
        if "storage_class" in self._supported():
            words = {word: name for name, word in STORAGE_CLASSES.items()}
            shown["storage_class"] = words.get(headers.get("storage_class"))
        return {**shown, "metadata": self.service.objects[key].metadata}

    def _supported(self) -> frozenset[str]:
        return frozenset(self.open_for_test().capabilities.options)

    def drop_upload(self, key: str, upload_id: str) -> bool:
        self.service.abort(key, upload_id)
        return True

    def fork(self) -> Self:
        forked = copy.copy(self)
        forked.__dict__.pop("_handles", None)
        forked.service = copy.deepcopy(self.service)
        return forked

    def state(self, key: str) -> str:
        assert self.service.objects.keys() <= {key}
        return repr(self.service)


class S3Harness(ToyHarness):
    """Parts in any order, replaced by sending them again; options are fixed when an upload is initiated."""

    backend_class = S3Backend

    def make_service(self) -> S3:
        return S3()


class EqualPartsHarness(S3Harness):
    """The same, with parts of one size, and without checksums: an object is recognised by its metadata."""

    checksums = False

    def make_service(self) -> S3:
        return S3(equal_part_sizes=True)


class AzureHarness(ToyHarness):
    """One list of blocks for a key; options come with the request that commits it."""

    deviations: ClassVar = {"list_uploads: initiated": "the service does not say when a block was put"}
    backend_class = BlockBlobBackend

    def make_service(self) -> BlockBlobs:
        return BlockBlobs()

    def drop_upload(self, key: str, upload_id: str) -> bool:
        blocks = self.service.uncommitted.get(key, {})
        latest = max((block for block in blocks if block[24:29] == "00000"), default="")
        if latest[8:24] == upload_id:
            del self.service.uncommitted[key]
        return True


class AzureWithoutChecksumsHarness(AzureHarness):
    """The same, without checksums of blobs, as in Azure itself: an object is recognised by its metadata."""

    checksums = False


class SessionHarness(ToyHarness):
    """An offset and nothing else: parts in order, never replaced, neither parts nor uploads listed."""

    backend_class = SessionBackend

    def make_service(self) -> Sessions:
        return Sessions()


class SessionWithoutChecksumsHarness(SessionHarness):
    """The same, without checksums of objects."""

    checksums = False


#: The shapes, by name.
SHAPES: dict[str, type[ToyHarness]] = {
    "like S3": S3Harness,
    "like S3, with equal parts and no checksums": EqualPartsHarness,
    "like Azure": AzureHarness,
    "like Azure, with no checksums of blobs": AzureWithoutChecksumsHarness,
    "like a session": SessionHarness,
    "like a session, with no checksums": SessionWithoutChecksumsHarness,
}
