"""The backends of partwise keep the contract of `MultipartBackend`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import evolve

from partwise.backends.local import LocalBackend
from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend
from partwise.backends.oss import Callback, OSSOptions
from partwise.model import Capabilities, PartLimits
from partwise.testing import BackendConformance, BackendHarness, shown_options

TINY = PartLimits(min_part_size=5, max_part_size=64, max_parts=8, max_object_size=200, max_put_size=200)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make fsync a no-op: these tests do not simulate power loss."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


class MemoryHarness(BackendHarness):
    """A bucket in memory, with small limits."""

    picklable = False
    hooks_left_out: ClassVar = {
        "secrets": "it has no credentials",
        "open_failing": "memory does not fail",
        "open_damaging": "nothing is on its way",
        "open_failing_in_body": "it sends no requests",
        "requests": "it sends no requests",
        "elsewhere": "the bucket belongs to this process",
    }
    deviations: ClassVar = {"bodies_are_not_held_in_memory": "the storage is the memory"}
    own_options: ClassVar = {
        "traffic_limit": OSSOptions(traffic_limit=838_860_800),
        "request_payer": OSSOptions(request_payer="requester"),
        "data_encryption": OSSOptions(encryption="KMS", data_encryption="SM4"),
        "callback": OSSOptions(callback=Callback(url="http://127.0.0.1:9/", body="key=${object}")),
    }
    limits: PartLimits | None = PartLimits(min_part_size=5)
    capabilities: Capabilities | None = None

    def __init__(self) -> None:
        self.bucket = self.with_pages(1000)

    def with_pages(self, page_size: int) -> MemoryBackend:
        return MemoryBackend("bucket", limits=self.limits, capabilities=self.capabilities, page_size=page_size)

    def open(self) -> MemoryBackend:
        return self.bucket.handle()

    def read(self, key: str) -> bytes | None:
        try:
            return self.bucket.read(key)
        except KeyError:
            return None

    def options(self, key: str) -> Mapping[str, object]:
        return shown_options(self.bucket.describe(key))

    def open_with_page_size(self, page_size: int) -> MemoryBackend:
        return self.with_pages(page_size)


class MemoryVariant(MemoryHarness):
    """A bucket in memory for which the checks of many entries and large bodies are the same as for `MemoryHarness`."""

    page_size = None


class DefaultLimits(MemoryVariant):
    """The limits of a real storage: parts of at least 100 KiB."""

    limits = None


class TinyLimits(MemoryVariant):
    """Limits that the tests can reach."""

    limits = TINY


class BelowPrefix(MemoryVariant):
    """All keys have a prefix."""

    prefix = "deep/er/"


class PoorCapabilities(MemoryVariant):
    """A storage that supports no option, lists no parts, and reports no checksums."""

    capabilities = Capabilities(lists_parts=False, equal_part_sizes=True)


class InOrder(MemoryVariant):
    """A storage that takes parts in ascending order, one at a time, and never replaces one."""

    capabilities = evolve(DEFAULT_CAPABILITIES, sequential=True, replaces_parts=False)


class NeverReplaces(MemoryVariant):
    """A storage that never replaces a part."""

    capabilities = evolve(DEFAULT_CAPABILITIES, replaces_parts=False)


class OneUploadPerKey(MemoryVariant):
    """A storage where an upload, or an object, ends the other uploads of its key."""

    capabilities = evolve(DEFAULT_CAPABILITIES, one_upload_per_key=True)


class NoHousekeeping(MemoryVariant):
    """A storage that neither lists nor aborts uploads, as one where parts expire."""

    capabilities = evolve(DEFAULT_CAPABILITIES, lists_uploads=False, aborts=False)


class LocalHarness(BackendHarness):
    """A directory."""

    examples = 15
    hooks_left_out: ClassVar = {
        "secrets": "it has no credentials",
        "open_with_page_size": "a directory has no pages",
        "open_failing": "errors of the system are tested in tests/backends/test_local_errors.py",
        "open_damaging": "nothing is on its way",
        "open_failing_in_body": "it sends no requests",
        "requests": "it sends no requests",
    }

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp()

    def open(self) -> LocalBackend:
        return LocalBackend(self.directory)

    def elsewhere(self) -> Callable[[], LocalBackend]:
        return partial(LocalBackend, self.directory)

    def read(self, key: str) -> bytes | None:
        try:
            return Path(self.directory, key).read_bytes()
        except (OSError, ValueError):
            return None

    def refuses(self, key: str) -> bool:
        names = key.split("/")
        return "\\" in key or any(name in {"", ".", ".."} for name in names)

    def options(self, key: str) -> Mapping[str, object]:
        with LocalBackend(self.directory) as backend:
            return shown_options(backend.describe(key))

    def close(self) -> None:
        shutil.rmtree(self.directory)


class LocalBelowPrefix(LocalHarness):
    """All keys have a prefix."""

    prefix = "deep/er/"
    page_size = None  # see `LocalHarness`


class TestMemoryBackend(BackendConformance):
    harness = MemoryHarness


class VariantConformance(BackendConformance):
    test_bodies_are_not_held_in_memory = None


class LimitsConformance(VariantConformance):
    test_any_sequence_of_calls = None  # it sends two parts of the smallest size at most, and reaches no limit


class TestMemoryBackendWithDefaultLimits(LimitsConformance):
    harness = DefaultLimits


class TestMemoryBackendWithTinyLimits(LimitsConformance):
    harness = TinyLimits


class TestMemoryBackendBelowPrefix(VariantConformance):
    harness = BelowPrefix


class TestPoorMemoryBackend(VariantConformance):
    harness = PoorCapabilities


class TestMemoryBackendInOrder(VariantConformance):
    harness = InOrder


class TestMemoryBackendThatNeverReplaces(VariantConformance):
    harness = NeverReplaces


class TestMemoryBackendWithOneUploadPerKey(VariantConformance):
    harness = OneUploadPerKey


class TestMemoryBackendWithoutHousekeeping(VariantConformance):
    harness = NoHousekeeping


class TestLocalBackend(BackendConformance):
    harness = LocalHarness


class TestLocalBackendBelowPrefix(BackendConformance):
    harness = LocalBelowPrefix
