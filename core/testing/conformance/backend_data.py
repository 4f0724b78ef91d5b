"""Bytes, checksums, keys, options and limits (27 to 35)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import define, fields

from partwise.errors import InvalidKey, ObjectExists, PartwiseError, SourceChanged, UnsupportedOption
from partwise.model import MIB, ObjectOptions
from partwise.protocols import MultipartBackend
from partwise.testing.conformance.backend_harness import (
    NO_OPTIONS,
    WAYS,
    BackendHarness,
    Upload,
    body_of,
    listed_parts,
    must_be_stored,
    put,
    skip_if_sequential,
    skip_unless_replaces_parts,
    skip_unless_supports,
)
from partwise.testing.conformance.suite import NotApplicable, Suite, must_raise, must_return
from partwise.testing.fakes import ChunkListBody, StrictBody, pseudo_random_bytes
from partwise.testing.oracles import slow_checksum

CHECKS: Suite[BackendHarness] = Suite()


# --- bodies ----------------------------------------------------------------------------------------------------------


@CHECKS.covers(27)
def check_buffers_of_every_kind(harness: BackendHarness) -> None:
    """Chunks may be views of bytes, bytearrays or slices, and of any length."""
    backend = harness.open_for_test()
    data = pseudo_random_bytes(harness.part_size(backend), "buffers")
    checksum = backend.capabilities.checksum
    padded = bytearray(b"(" + data + b")")
    bodies = {
        "bytes": ChunkListBody(memoryview(data), checksum=checksum),
        "a bytearray": ChunkListBody(memoryview(bytearray(data)), checksum=checksum),
        "a slice": ChunkListBody(memoryview(padded)[1:-1], checksum=checksum),
        "a read-only view": ChunkListBody(memoryview(padded)[1:-1].toreadonly(), checksum=checksum),
        "of uneven lengths": ChunkListBody(
            memoryview(data)[:1], memoryview(data)[1:3], memoryview(data)[3:], checksum=checksum
        ),
    }
    for kind, body in bodies.items():
        upload = harness.begin(backend, "buffer")
        upload.complete([backend.upload_part(upload.key, upload.upload_id, 1, body)])
        must_be_stored(harness, upload.key, data, f"upload_part accepts chunks that are {kind}")
        backend.put_object(upload.key, body, NO_OPTIONS)
        must_be_stored(harness, upload.key, data, f"put_object accepts chunks that are {kind}")


@CHECKS.covers(27, 28)
def check_chunks_are_not_kept(harness: BackendHarness) -> None:
    """A chunk is valid until the next one; a body is always read from its start."""
    backend = harness.open_for_test()
    data = pseudo_random_bytes(harness.part_size(backend), "chunks")
    body = body_of(backend, data, chunk_size=max(1, len(data) // 7))
    upload = harness.begin(backend, "chunks")
    backend.upload_part(upload.key, upload.upload_id, 1, body)
    upload.complete([backend.upload_part(upload.key, upload.upload_id, 1, body)])
    duty = "sends or copies a chunk before it reads the next, and reads a body from its start"
    must_be_stored(harness, upload.key, data, f"upload_part {duty}")
    for _ in range(2):
        backend.put_object(upload.key, body, NO_OPTIONS)
        must_be_stored(harness, upload.key, data, f"put_object {duty}")


@CHECKS.covers(29)
def check_body_too_short(harness: BackendHarness) -> None:
    """A body that is shorter than its length is an error, and nothing is stored."""
    backend = harness.open_for_test()
    size = harness.part_size(backend)
    _check_wrong_length(
        harness.begin(backend, "short"), body_of(backend, pseudo_random_bytes(size - 1), declared=size), size
    )


@CHECKS.covers(29)
def check_body_too_long(harness: BackendHarness) -> None:
    """A body that is longer than its length is an error, and nothing is stored."""
    backend = harness.open_for_test()
    size = harness.part_size(backend)
    _check_wrong_length(
        harness.begin(backend, "long"), body_of(backend, pseudo_random_bytes(size), declared=size - 1), size
    )


def _check_wrong_length(upload: Upload, body: StrictBody, size: int) -> None:
    before = pseudo_random_bytes(size, "before")
    parts = [upload.send(1, before)]
    duty = f"{body!r} yields another number of bytes"
    must_raise(PartwiseError, duty, upload.backend.upload_part, upload.key, upload.upload_id, 1, body)
    upload.must_hold(parts, f"{duty}: the previous part is unchanged")
    must_raise(PartwiseError, duty, upload.backend.put_object, upload.key, body, NO_OPTIONS)
    assert upload.harness.read(upload.key) is None, f"{duty}: no object may be stored"
    upload.must_complete(parts, before, "a body of a wrong length")


class _OtherError(Exception):
    """An error that is not a PartwiseError, as a defect of a source raises."""


class _Cancelled(BaseException):
    """An exception that an event loop or a signal handler raises at any time."""


@CHECKS.covers(30, 38)
def check_bodies_that_fail(harness: BackendHarness) -> None:
    """An error of a body is re-raised unchanged, and nothing is stored."""
    backend = harness.open_for_test()
    size = harness.part_size(backend)
    before = pseudo_random_bytes(size, "before")
    upload = harness.begin(backend, "failing-body")
    parts = [upload.send(1, before)]
    for error in (SourceChanged("it was cut short"), _OtherError("a defect"), _Cancelled("stop")):
        for given in (b"", pseudo_random_bytes(size // 2, "half")):
            body = body_of(backend, given, declared=size, error=error)
            duty = f"the body raised {type(error).__name__} after {len(given)} of {size} bytes"
            raised = must_raise(type(error), duty, backend.upload_part, upload.key, upload.upload_id, 1, body)
            assert raised is error, f"{duty}: upload_part re-raises it unchanged"
            upload.must_hold(parts, f"{duty}: the previous part is unchanged")
            raised = must_raise(type(error), duty, backend.put_object, upload.key, body, NO_OPTIONS)
            assert raised is error, f"{duty}: put_object re-raises it unchanged"
            assert harness.read(upload.key) is None, f"{duty}: no object may be stored"
    upload.must_complete(parts, before, "a body that failed")


@CHECKS.covers(31)
def check_checksums(harness: BackendHarness) -> None:
    """Checksums are those of the stored bytes if declared, otherwise None."""
    backend = harness.open_for_test()
    contents = [pseudo_random_bytes(harness.part_size(backend), "checksums"), b"the last part"]
    checksum = backend.capabilities.checksum
    expected = [slow_checksum(checksum, content) for content in contents]
    of_parts: list[int | None] = [*expected] if backend.capabilities.part_checksums else [None, None]
    of_object = slow_checksum(checksum, b"".join(contents)) if backend.capabilities.object_checksums else None
    upload = harness.begin(backend, "checksums")
    parts = upload.send_all(contents)
    assert [part.checksum for part in parts] == of_parts, (
        f"upload_part returns the {checksum.name} of the part, if declared"
    )
    if backend.capabilities.lists_parts:
        listed = [part.checksum for part in listed_parts(backend, upload.key, upload.upload_id)]
        assert listed == of_parts, (
            "list_parts returns the checksums of the parts, if part_checksums is True; if the storage reports them to"
            " upload_part alone, it is False, and the backend compares them itself"
        )
    completed = upload.complete(parts)
    assert completed.checksum == of_object, "complete_upload returns the checksum of the object, if declared"
    found = backend.head_object(upload.key)
    assert getattr(found, "checksum", None) == of_object, "head_object returns the checksum of the object, if declared"
    stored = put(harness, backend, "checksums", b"by put")
    of_put = {None, slow_checksum(checksum, b"by put")} if backend.capabilities.object_checksums else {None}
    assert stored.checksum in of_put, "put_object returns the checksum of the object, or None"


# --- keys and limits -------------------------------------------------------------------------------------------------

_STRANGE_NAMES = (
    *("plain.txt", "UPPER.txt", "upper.txt", "deep/er/and/deep/er", "slashes//doubled", "slashes/ends-with/"),
    *("/begins-with", "dots/./one", "dots/../two", "dots/..hidden", "back\\slash", "space s/ led and trailed "),
    *("quotes'\"`", "percent%20%2F", "plus+and&=?#;:,@!$*()[]{}<>|^~"),
    # The second one looks like the first one, but has other characters.
    *("umlaut/\u00e4\u00f6\u00fc", "umlaut/a\u0308o\u0308u\u0308"),
    *("\u6587\u4ef6/\U0001f4e6", "control/\x01\x7f", "line\nbreak\ttab", "long/" + "n" * 200),
)


@CHECKS.covers(32, 36)
def check_strange_keys(harness: BackendHarness) -> None:
    """Unusual keys are distinct and unchanged, or refused with InvalidKey."""
    backend = harness.open_for_test()
    size = harness.part_size(backend)
    kept = {}
    for name in _STRANGE_NAMES:
        key = harness.key(name)
        if harness.refuses(key):
            duty = f"{key!r} is declared to be refused"
            must_raise(InvalidKey, duty, harness.begin, backend, name)
            must_raise(InvalidKey, duty, put, harness, backend, name, b"x")
            continue
        kept[key] = pseudo_random_bytes(size, name)
        upload = harness.begin(backend, name)
        upload.must_be_pending(f"list_uploads returns {key!r} unchanged")
        stored = upload.complete([upload.send(1, kept[key])])
        assert stored.key == key, f"complete_upload returns {key!r} unchanged, not {stored.key!r}"
    for key, data in kept.items():
        must_be_stored(harness, key, data, f"{key!r} is distinct from all other keys")
        found = backend.head_object(key)
        assert found is not None and found.key == key, f"head_object returns {key!r} unchanged"  # noqa: PT018  # one fact
        backend.put_object(key, body_of(backend, data[::-1]), NO_OPTIONS)
    for key, data in kept.items():
        must_be_stored(harness, key, data[::-1], f"{key!r} is distinct from all other keys for put_object, too")


@CHECKS.covers(35)
def check_part_too_small(harness: BackendHarness) -> None:
    """A part that is too small and not the last is refused; the upload goes on."""
    backend = harness.open_for_test()
    least = backend.limits.min_part_size
    if least == 1:
        raise NotApplicable("min_part_size is 1")
    contents = [pseudo_random_bytes(least, 1), pseudo_random_bytes(least, 2)]
    skip_if_sequential(backend)
    skip_unless_replaces_parts(backend)
    upload = harness.begin(backend, "small")
    parts = upload.send_all([contents[0][:-1], contents[1]])
    upload.must_refuse(parts, f"part 1 has {least - 1} bytes, and min_part_size is {least}")
    part = must_return("after a part was too small the upload is still usable", upload.send, 1, contents[0])
    upload.must_complete([part, parts[1]], b"".join(contents), "a part was too small")


@CHECKS.covers(35)
def check_limits_are_accepted(harness: BackendHarness) -> None:
    """The smallest and the largest part, and the highest part number, are accepted."""
    backend = harness.open_for_test()
    limits = backend.limits
    upload = harness.begin(backend, "limits")
    # A larger max_part_size is not tested, so that the checks are fast.
    sizes = [size for size in (limits.min_part_size, limits.max_part_size) if size <= MIB]
    number = 1 if backend.capabilities.sequential else limits.max_parts
    for size in sizes or [limits.min_part_size]:
        if not backend.capabilities.replaces_parts:
            upload = harness.begin(backend, f"limits-{size}")
        duty = f"a part no. {number} of {size} bytes is within the limits"
        part = must_return(duty, upload.send, number, pseudo_random_bytes(size))
        assert (part.part_number, part.size) == (number, size), f"{duty}, and its result has number and size"
        upload.must_hold([part], f"{duty}, and is listed")


# --- options ---------------------------------------------------------------------------------------------------------

_SAMPLES: Mapping[str, ObjectOptions] = {
    "content_type": ObjectOptions(content_type="text/x-sample"),
    "acl": ObjectOptions(acl="private"),
    "metadata": ObjectOptions(metadata={"sample": "value"}),
    "storage_class": ObjectOptions(storage_class="infrequent-access"),
    "tags": ObjectOptions(tags={"sample": "value"}),
    "forbid_overwrite": ObjectOptions(forbid_overwrite=True),
    "encryption": ObjectOptions(encryption="AES256"),
    "kms_key_id": ObjectOptions(encryption="KMS", kms_key_id="sample-key"),
    "cache_control": ObjectOptions(cache_control="no-cache"),
    "content_disposition": ObjectOptions(content_disposition='attachment; filename="sample"'),
    "content_encoding": ObjectOptions(content_encoding="gzip"),
    "content_language": ObjectOptions(content_language="en-GB"),
    "expires": ObjectOptions(expires="Thu, 01 Jan 2032 00:00:00 GMT"),
    "if_match": ObjectOptions(if_match="0123456789ABCDEF"),
}
_OWN = "own_options"
_NOT_STORED = frozenset({"forbid_overwrite", "if_match"})


@define(frozen=True)
class _OptionsOfAnotherStorage(ObjectOptions):
    option_of_another_storage: str | None = None


_FOREIGN = {"option_of_another_storage": _OptionsOfAnotherStorage(option_of_another_storage="value")}


@CHECKS.covers(3, 36)
def check_other_options_are_refused(harness: BackendHarness) -> None:
    """Every method refuses an option that is not in the capabilities."""
    backend = harness.open_for_test()
    samples = {**_SAMPLES, **harness.own_options, **_FOREIGN}
    refused = {name: options for name, options in samples.items() if name not in backend.capabilities.options}
    data = pseudo_random_bytes(harness.part_size(backend))
    for name, options in refused.items():
        duty = f"{name} is not in capabilities.options"
        must_raise(UnsupportedOption, duty, harness.begin, backend, name, options)
        must_raise(UnsupportedOption, duty, put, harness, backend, name, b"x", options)
        upload = harness.begin(backend, name)
        part = upload.send(1, data)
        must_raise(UnsupportedOption, duty, upload.complete, [part], options)
        assert harness.read(upload.key) is None, f"{duty}: nothing may be stored"
        upload.must_complete([part], data, "an option was refused")


@CHECKS.covers(3, 34, behaviours={*_SAMPLES.keys() - _NOT_STORED, _OWN})
def check_options_are_kept(harness: BackendHarness) -> None:
    """Each declared option is accepted and stored with the object."""
    backend = harness.open_for_test()
    capabilities = backend.capabilities
    unknown = set(harness.inspected_options) - {a.name for a in fields(capabilities.option_type)}
    assert not unknown, f"inspected_options names options of the backend, but not {sorted(unknown)}"
    # Of the backend's own options, those that act late are properties of requests.
    own = {name: options for name, options in harness.own_options.items() if name not in capabilities.late_options}
    samples = {
        name: options
        for name, options in {**_SAMPLES, **own}.items()
        if name not in _NOT_STORED and options.explicitly_set() <= capabilities.options
    }
    if not samples:
        raise NotApplicable("the backend supports no option that is stored with an object")
    data = pseudo_random_bytes(harness.part_size(backend))
    ways: dict[str, Callable[..., object]] = {**WAYS, "parts of two handles": _store_by_two_handles}
    for name, options in samples.items():
        with harness.behaviour(name if name in _SAMPLES else _OWN):
            for way, store in ways.items():
                duty = f"{name} is in capabilities.options, and accepted by {way}"
                must_return(duty, store, harness, backend, f"{name}-{way}", data, options)
                _must_be_kept(harness, f"{name}-{way}", options, name, f"{name} is stored by {way}")


def _must_be_kept(harness: BackendHarness, object_name: str, options: ObjectOptions, name: str, duty: str) -> None:
    """Assert that an object has this option, if the harness can inspect it."""
    kept = harness.options(harness.key(object_name))
    wanted = getattr(options, name)
    if name in kept:
        assert kept[name] == wanted, f"{duty}: expected {wanted!r}, not {kept[name]!r}"
        return
    assert name not in harness.inspected_options, f"{duty}: expected {wanted!r}, and the object has none"
    harness.note_missing("options", name, f"whether an object has the {name} that was requested")


def _store_by_two_handles(
    harness: BackendHarness, backend: MultipartBackend, name: str, data: bytes, options: ObjectOptions
) -> None:
    """Initiate an upload by one handle, and complete it by another."""
    upload = harness.begin(backend, name, options)
    parts = [upload.send(1, data)]
    upload.backend = harness.open_for_test()
    upload.complete(parts)


#: Other values than those of `_SAMPLES`.
_OTHER_SAMPLES: Mapping[str, ObjectOptions] = {
    "content_type": ObjectOptions(content_type="text/x-other"),
    "acl": ObjectOptions(acl="public-read"),
    "metadata": ObjectOptions(metadata={"sample": "other"}),
    "storage_class": ObjectOptions(storage_class="archive"),
    "tags": ObjectOptions(tags={"sample": "other"}),
    "cache_control": ObjectOptions(cache_control="max-age=60"),
    "content_disposition": ObjectOptions(content_disposition="inline"),
    "content_encoding": ObjectOptions(content_encoding="identity"),
    "content_language": ObjectOptions(content_language="de"),
    "expires": ObjectOptions(expires="Fri, 01 Jan 2038 00:00:00 GMT"),
}


@CHECKS.covers(3, 34, behaviours={*_OTHER_SAMPLES, "forbid_overwrite"})
def check_late_options(harness: BackendHarness) -> None:
    """A late option has the value that is passed to complete_upload, as declared."""
    backend = harness.open_for_test()
    late = backend.capabilities.late_options
    names = [name for name in _OTHER_SAMPLES if name in late]
    if not names and "forbid_overwrite" not in late:
        raise NotApplicable("no option that is inspected acts late, as declared")
    data = pseudo_random_bytes(harness.part_size(backend), "late")
    for name in names:
        with harness.behaviour(name):
            upload = harness.begin(backend, f"late-{name}", _SAMPLES[name])
            upload.complete([upload.send(1, data)], _OTHER_SAMPLES[name])
            duty = f"{name} is in capabilities.late_options: complete_upload decides"
            _must_be_kept(harness, f"late-{name}", _OTHER_SAMPLES[name], name, duty)
    if "forbid_overwrite" in late:
        with harness.behaviour("forbid_overwrite"):
            put(harness, backend, "late-forbid", b"was first")
            upload = harness.begin(backend, "late-forbid")
            part = upload.send(1, data)
            duty = "forbid_overwrite is in capabilities.late_options: complete_upload refuses"
            must_raise(ObjectExists, duty, upload.complete, [part], ObjectOptions(forbid_overwrite=True))
            must_be_stored(harness, upload.key, b"was first", f"{duty}: the object is unchanged")
            upload.must_complete([part], data, "overwriting was refused")


_METADATA = {
    "author": "an author",
    "capitals": "Mixed CASE",
    "blanks": "two  blanks   inside",
    "equals": "a=b=c",
    "separators": "a, b; c & d / e: f",
    "digits": "007",
}


@CHECKS.covers(34, behaviours=_METADATA)
def check_metadata_is_returned(harness: BackendHarness) -> None:
    """`head_object` returns metadata unchanged, of an object stored by parts or put."""
    backend = harness.open_for_test()
    skip_unless_supports(backend, "metadata")
    data = pseudo_random_bytes(harness.part_size(backend))
    found: dict[str, Mapping[str, str]] = {}
    for way, store in WAYS.items():
        store(harness, backend, way, data, ObjectOptions(metadata=_METADATA))
        stored = backend.head_object(harness.key(way))
        assert stored is not None, f"head_object finds an object stored by {way}"
        found[way] = {name.lower(): value for name, value in stored.metadata.items()}
        assert found[way].keys() == _METADATA.keys(), f"head_object returns the metadata of an object stored by {way}"
    for name, value in _METADATA.items():
        with harness.behaviour(name):
            for way in WAYS:
                kept = found[way][name]
                assert kept == value, f"metadata of an object stored by {way} is kept: {value!r}, and not {kept!r}"
