"""
Hypothesis strategies for the values and faults of partwise.

Each generates what the protocols allow, and nothing else; many prefer values at the limits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from attrs import fields
from hypothesis import strategies as st

from partwise.backends.oss import Callback, OSSOptions
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.errors import InvalidInput
from partwise.model import KIB, MIB, ObjectOptions, PartLimits, StoredObject, UploadedPart
from partwise.testing.fakes import ChangingSource, ChunkListBody, StrictBody, pseudo_random_bytes
from partwise.testing.faults import BACKEND_OPERATIONS, OPERATIONS, Fault, FaultKind, FaultPlan

__all__ = ["crc64s", "etags", "keys", "part_limits", "part_sizes", "sizes"]
__all__ += ["bodies", "changing_sources", "contents"]
__all__ += [
    "callbacks",
    "checkpoints",
    "fingerprints",
    "metadata",
    "object_options",
    "stored_objects",
    "uploaded_parts",
]
__all__ += ["fault_plans", "faults"]

_CRC64_MAX = 2**64 - 1
_WORD = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
_PRINTABLE = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)


# --- names and numbers -----------------------------------------------------------------------------------------------


def keys() -> st.SearchStrategy[str]:
    """Return keys of up to 1,023 bytes of UTF-8: plain ones, and odd ones."""
    odd = st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from("/.\\ %+?#&'\""), min_size=1)
    names = st.lists(_WORD, min_size=1, max_size=4).map("/".join)
    return (names | odd).filter(lambda key: len(key.encode()) <= 1023)


def etags() -> st.SearchStrategy[str]:
    """Return ETags: hexadecimal digits, sometimes quoted or with a part count."""
    digits = st.integers(0, 2**128 - 1).map("{:032X}".format)
    return digits | digits.map('"{}"'.format) | st.builds("{}-{}".format, digits, st.integers(1, 10_000))


def crc64s() -> st.SearchStrategy[int]:
    """Return any CRC-64."""
    return st.integers(0, _CRC64_MAX)


def part_limits() -> st.SearchStrategy[PartLimits]:
    """Return limits: tiny ones for small data, and those of real storages."""
    real = st.sampled_from((PartLimits(), PartLimits(min_part_size=100 * KIB), PartLimits(min_part_size=5 * MIB)))

    @st.composite
    def tiny(draw: st.DrawFn) -> PartLimits:
        least = draw(st.integers(1, 20))
        most = draw(st.integers(least, 100))
        count = draw(st.integers(1, 20))
        return PartLimits(
            min_part_size=least,
            max_part_size=most,
            max_parts=count,
            max_object_size=draw(st.integers(most, most * count)),
            max_put_size=draw(st.integers(0, most * count)),
        )

    return tiny() | real


def part_sizes(limits: PartLimits) -> st.SearchStrategy[int]:
    """Return part sizes within the limits, with a preference for the edges."""
    least, most = limits.min_part_size, limits.max_part_size
    powers = [2**n + d for n in range(most.bit_length() + 1) for d in (-1, 0, 1) if least <= 2**n + d <= most]
    edges = sorted({least, min(least + 1, most), max(most - 1, least), most, *powers})
    return st.sampled_from(edges) | st.integers(least, most)


def sizes(part_size: int, *, parts_max: int = 5) -> st.SearchStrategy[int]:
    """Return sizes of up to `parts_max` parts, with a preference for whole parts."""
    edges = sorted({max(0, part_size * count + d) for count in range(parts_max + 1) for d in (-1, 0, 1)})
    return st.sampled_from([size for size in edges if size <= part_size * parts_max]) | st.integers(
        0, part_size * parts_max
    )


# --- data ------------------------------------------------------------------------------------------------------------


def contents(sizes: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[bytes]:
    """Return bytes that look like noise, from one draw of a size; up to 1,000."""
    return st.builds(pseudo_random_bytes, sizes if sizes is not None else st.integers(0, 1000), st.integers(0, 3))


@st.composite
def bodies(draw: st.DrawFn, data: st.SearchStrategy[bytes] | None = None) -> tuple[StrictBody | ChunkListBody, bytes]:
    """Return a body that keeps the protocol, with chunks of any sizes, and its bytes."""
    content = draw(contents() if data is None else data)
    if draw(st.booleans()):
        return StrictBody(content, chunk_size=draw(st.integers(1, max(1, len(content))))), content
    cuts = sorted(draw(st.sets(st.integers(1, len(content) - 1), max_size=4))) if len(content) > 1 else []
    view = memoryview(content)
    chunks = (view[begin:end] for begin, end in pairwise([0, *cuts, len(content)]))
    return ChunkListBody(*filter(None, chunks)), content


@st.composite
def changing_sources(
    draw: st.DrawFn, data: st.SearchStrategy[bytes] | None = None, *, readings_max: int = 5
) -> ChangingSource:
    """Return a source that may change while one of its first bodies is read."""
    content = draw(contents() if data is None else data)
    other = pseudo_random_bytes(len(content), "other")
    changes = (
        lambda source: source.append(b"more"),
        lambda source: source.truncate(len(content) // 2),
        lambda source: source.touch(),
        lambda source: source.write(other),
        lambda source: source.replace(other),
    )
    when = draw(st.none() | st.integers(1, readings_max))
    planned = {} if when is None else {when: draw(st.sampled_from(changes))}
    return ChangingSource(content, chunk_size=draw(st.sampled_from((1, 7, 64 * KIB))), changes=planned)


# --- values ----------------------------------------------------------------------------------------------------------


def metadata() -> st.SearchStrategy[dict[str, str]]:
    """Return metadata with lower-case names, and values that are valid in a header."""
    return st.dictionaries(_WORD, _PRINTABLE.map(str.strip), max_size=4)


_EXCLUDING = {"forbid_overwrite", "if_match"}


def callbacks() -> st.SearchStrategy[Callback]:
    """Return callbacks, with and without the optional fields."""
    return st.builds(
        Callback,
        url=_WORD.map("http://127.0.0.1/{}".format),
        body=_PRINTABLE,
        host=st.none() | _WORD,
        body_type=st.none() | st.sampled_from(("application/x-www-form-urlencoded", "application/json")),
        variables=st.dictionaries(_WORD.map("x:{}".format), _PRINTABLE, max_size=2),
        sni=st.none() | st.booleans(),
    )


def object_options(
    only: Collection[str] | None = None, option_type: type[ObjectOptions] = ObjectOptions
) -> st.SearchStrategy[ObjectOptions]:
    """
    Return object options, most of them unset.

    Args:
        only: the names of the allowed options, such as the ``capabilities.options`` of a backend; None: all.
        option_type: their class. Of a subclass of `ObjectOptions`, the fields that `OSSOptions` has can be set, too.
    """
    values: dict[str, st.SearchStrategy[Any]] = {
        "content_type": st.sampled_from(("text/plain", "application/octet-stream")),
        "acl": st.sampled_from(("private", "public-read", "public-read-write")),
        "metadata": metadata(),
        "storage_class": st.sampled_from(("standard", "infrequent-access", "archive", "deep-archive")),
        "tags": st.dictionaries(_WORD, _WORD, max_size=3),
        "forbid_overwrite": st.booleans(),
        "if_match": _WORD,
        "encryption": st.sampled_from(("AES256", "KMS")),
        "data_encryption": st.just("SM4"),
        "kms_key_id": _WORD,
        "cache_control": st.sampled_from(("no-cache", "max-age=60")),
        "content_disposition": st.just("attachment"),
        "content_encoding": st.sampled_from(("gzip", "br")),
        "content_language": st.sampled_from(("en", "zh-CN")),
        "expires": st.just("Thu, 01 Jan 2032 00:00:00 GMT"),
        "traffic_limit": st.integers(819_200, 838_860_800),
        "request_payer": st.just("requester"),
        "callback": callbacks(),
    }
    assert values.keys() == {a.name for a in fields(OSSOptions)}, "there is a strategy for each option"
    known = values.keys() & {a.name for a in fields(option_type)}
    allowed = sorted(known if only is None else known & set(only))
    if not allowed:
        return st.just(option_type())
    # These two exclude each other.
    names = st.sets(st.sampled_from(allowed), max_size=4).filter(lambda chosen: not chosen >= _EXCLUDING)

    @st.composite
    def options(draw: st.DrawFn) -> ObjectOptions:
        return option_type(**{name: draw(values[name]) for name in sorted(draw(names))})

    return options()


def uploaded_parts(numbers: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[UploadedPart]:
    """Return parts; by default with numbers up to 10,000 that prefer the first few."""
    return st.builds(
        UploadedPart,
        part_number=numbers if numbers is not None else st.integers(1, 5) | st.integers(1, 10_000),
        size=st.integers(0, 5 * 1024 * MIB),
        etag=etags(),
        checksum=st.none() | crc64s(),
    )


def stored_objects() -> st.SearchStrategy[StoredObject]:
    """Return stored objects."""
    return st.builds(
        StoredObject,
        key=keys(),
        size=st.integers(0, 2**48),
        etag=etags(),
        checksum=st.none() | crc64s(),
        version_id=st.none() | _WORD,
        request_id=st.none() | _WORD,
        callback_response=st.none() | st.binary(max_size=20),
        metadata=metadata(),
    )


def fingerprints() -> st.SearchStrategy[Fingerprint]:
    """Return fingerprints of files, bytes and streams."""
    return st.builds(
        Fingerprint,
        size=st.none() | st.integers(0, 2**60),
        mtime_ns=st.none() | st.integers(-(2**62), 2**62),
        identity=st.none() | _WORD,
        crc64=st.none() | crc64s(),
    )


def checkpoints() -> st.SearchStrategy[Checkpoint]:
    """Return checkpoints; names of sources may have lone surrogates, as paths can."""
    return _checkpoints(
        location=_WORD.map("memory://{}".format),
        key=keys(),
        source=st.text(min_size=1, max_size=20) | st.just("/a/\udcff/path"),
    )


def checkpoints_of_one_upload() -> st.SearchStrategy[Checkpoint]:
    """Return checkpoints of one name, which takes less time than to draw it."""
    return _checkpoints(location=st.just("memory://"), key=st.just("key"), source=st.just("source"))


def _checkpoints(**name: st.SearchStrategy[str]) -> st.SearchStrategy[Checkpoint]:
    return st.builds(
        Checkpoint,
        **name,
        fingerprint=fingerprints(),
        part_size=st.integers(1, 5 * 1024 * MIB),
        parts_per_doubling=st.none() | st.integers(1, 10_000),
        options=object_options(option_type=OSSOptions).map(lambda options: options.fixed_data(())),
        upload_id=st.none() | _WORD,
        parts=st.lists(uploaded_parts(), max_size=6, unique_by=lambda part: part.part_number),
        checksum=st.sampled_from(("crc64xz", "crc64nvme", "crc32c", "sha256")),
        token=st.none() | _WORD,
        abandoned=st.lists(_WORD, max_size=2),
        created=st.floats(0, 4e9),
    )


# --- faults ----------------------------------------------------------------------------------------------------------


def faults(
    operations: Sequence[str] = BACKEND_OPERATIONS,
    kinds: Collection[FaultKind] | None = None,
    *,
    occurrence_max: int = 5,
) -> st.SearchStrategy[Fault]:
    """
    Return faults.

    Args:
        operations: the operations into which they are injected.
        kinds: the kinds of faults; None: all but TORN_WRITE, which not every store supports.
        occurrence_max: the maximum occurrence.

    Raises:
        InvalidInput: none of the kinds applies to any of the operations.
    """
    allowed = set(FaultKind) - {FaultKind.TORN_WRITE} if kinds is None else set(kinds)
    pairs = [
        (operation, kind)
        for operation in operations
        for kind in FaultKind
        if kind in allowed and kind.applies_to(operation)
    ]
    if not pairs:
        raise InvalidInput(f"none of {sorted(kind.name for kind in allowed)} applies to {operations}")

    chosen, occurrences, times = st.sampled_from(pairs), st.integers(1, occurrence_max), st.floats(0, 60)

    @st.composite
    def drawn(draw: st.DrawFn) -> Fault:
        operation, kind = draw(chosen)
        timed = kind in {FaultKind.DELAY, FaultKind.THROTTLED}
        return Fault(operation, kind, draw(occurrences), seconds=draw(times) if timed else 0.0)

    return drawn()


def fault_plans(
    operations: Sequence[str] = OPERATIONS,
    kinds: Collection[FaultKind] | None = None,
    *,
    faults_max: int = 4,
    occurrence_max: int = 5,
) -> st.SearchStrategy[FaultPlan]:
    """
    Return plans of a few faults, at most one for each call; delays take no time.

    Args:
        operations: the operations into which they are injected.
        kinds: the kinds of faults; None: all but TORN_WRITE, which not every store supports.
        faults_max: the maximum number of faults of a plan.
        occurrence_max: the maximum occurrence.
    """
    planned = st.lists(
        faults(operations, kinds, occurrence_max=occurrence_max),
        max_size=faults_max,
        unique_by=lambda fault: (fault.operation, fault.occurrence),
    )
    return planned.map(lambda chosen: FaultPlan(chosen, sleep=lambda _: None))
