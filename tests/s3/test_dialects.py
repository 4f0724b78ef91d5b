"""What storages that speak S3 do differently, and how a dialect is chosen."""

from __future__ import annotations

import sys

import pytest

from partwise import checksums
from partwise.backends.s3 import DIALECTS, Dialect, S3Backend, S3Options
from partwise.backends.s3.dialects import choose_dialect, region_of
from partwise.backends.s3.options import capabilities, option_table
from partwise.checksums import CRC32C, CRC64_NVME
from partwise.errors import InvalidInput, UnsupportedOption
from partwise.model import MIB, ObjectOptions

HOSTS = [
    ("s3.eu-west-1.amazonaws.com", "aws", None),
    ("minio.example.com", "aws", None),
    ("0123456789abcdef.r2.cloudflarestorage.com", "r2", "auto"),
    ("s3.us-west-004.backblazeb2.com", "b2", "us-west-004"),
    ("storage.googleapis.com", "gcs", "auto"),
    ("s3.oss-cn-hangzhou.aliyuncs.com", "oss", "cn-hangzhou"),
    ("oss-cn-hangzhou-internal.aliyuncs.com", "oss", "cn-hangzhou"),
]


@pytest.mark.parametrize(("host", "name", "region"), HOSTS)
def test_a_dialect_is_chosen_by_the_host(host, name, region):
    dialect = choose_dialect(None, host)

    assert dialect is DIALECTS[name]
    assert region_of(dialect, host) == region


def test_without_an_endpoint_it_is_that_of_aws():
    assert choose_dialect(None, None) is DIALECTS["aws"]


def test_a_dialect_is_chosen_by_name():
    assert choose_dialect("minio", "s3.eu-west-1.amazonaws.com") is DIALECTS["minio"]


def test_a_dialect_can_be_a_value():
    own = Dialect("own", "Own", parts_need_checksums=True)
    assert choose_dialect(own, None) is own


@pytest.mark.parametrize("name", ["AWS", "s3", "", 5])
def test_an_unknown_dialect_is_refused(name):
    with pytest.raises(InvalidInput, match="dialect"):
        choose_dialect(name, None)


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [("aws", CRC64_NVME), ("r2", CRC64_NVME), ("minio", CRC64_NVME), ("gcs", CRC32C)]
    + [(name, None) for name in ("b2", "ceph", "oss")],
)
def test_the_algorithm_of_checksums(name, algorithm):
    dialect, known = DIALECTS[name], capabilities(DIALECTS[name])

    assert dialect.checksum == algorithm
    assert (known.part_checksums, known.object_checksums) == (algorithm is not None,) * 2
    assert algorithm is None or known.checksum == algorithm
    assert dialect.sends_checksums == (name in ("aws", "r2", "minio"))


@pytest.mark.parametrize(("name", "algorithm"), [("aws", CRC32C), ("minio", CRC32C), ("r2", None), ("gcs", CRC32C)])
def test_without_awscrt_another_algorithm_is_used_if_there_is_one(monkeypatch, name, algorithm):
    monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
    checksums._nvme.cache_clear()

    assert DIALECTS[name].checksum == algorithm


@pytest.mark.parametrize("name", [name for name in DIALECTS if name != "aws"])
def test_a_refused_option_is_not_in_the_capabilities(name):
    dialect = DIALECTS[name]
    known = {field for field in S3Options.__attrs_attrs__ for field in [field.name]}

    assert dialect.refused_options <= known
    assert capabilities(dialect).options == known - dialect.refused_options
    assert capabilities(dialect).late_options <= capabilities(dialect).options


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("r2", ObjectOptions(acl="private")),
        ("r2", ObjectOptions(tags={"a": "b"})),
        ("r2", ObjectOptions(forbid_overwrite=True)),
        ("b2", ObjectOptions(acl="private")),
        ("gcs", S3Options(object_lock_legal_hold=True)),
        ("minio", ObjectOptions(acl="private")),
        ("ceph", ObjectOptions(if_match="x")),
        ("oss", S3Options(website_redirect="/x")),
    ],
)
def test_what_a_dialect_does_not_honour_is_refused(name, options):
    with pytest.raises(UnsupportedOption, match=r"does not support"):
        options.require_supported_by(capabilities(DIALECTS[name]), "s3://bucket")


@pytest.mark.parametrize(
    ("name", "word", "native"),
    [
        ("r2", "infrequent-access", "STANDARD_IA"),
        ("gcs", "archive", "COLDLINE"),
        ("gcs", "deep-archive", "ARCHIVE"),
        ("ceph", "MY_CLASS", "MY_CLASS"),
        ("oss", "archive", "GLACIER"),
    ],
)
def test_words_for_storage_classes(name, word, native):
    table, options = option_table(DIALECTS[name]), ObjectOptions(storage_class=word)
    table.check(options)
    kind = next(rule.requests for rule in table.rules if rule.option == "storage_class")

    assert table.headers(kind, options) == {"x-amz-storage-class": native}


@pytest.mark.parametrize(("name", "word"), [("r2", "archive"), ("b2", "infrequent-access"), ("gcs", "GLACIER")])
def test_a_storage_class_that_a_dialect_does_not_have_is_refused(name, word):
    with pytest.raises(InvalidInput, match="storage_class must be one of"):
        option_table(DIALECTS[name]).check(ObjectOptions(storage_class=word))


def test_parts_of_r2_have_one_size():
    assert capabilities(DIALECTS["r2"]).equal_part_sizes
    assert not capabilities(DIALECTS["aws"]).equal_part_sizes


def test_minio_lists_no_uploads_of_a_prefix(connect, server):
    backend = connect(dialect="minio")

    assert not backend.capabilities.lists_uploads
    with pytest.raises(UnsupportedOption, match="MinIO"):
        backend.list_uploads("a")
    assert server.requests == []


def test_the_limits_of_s3():
    limits = DIALECTS["aws"].limits
    assert (limits.min_part_size, limits.max_part_size, limits.max_parts) == (5 * MIB, 5120 * MIB, 10_000)
    assert limits.max_object_size == 10_000 * 5120 * MIB
    assert DIALECTS["oss"].limits.min_part_size == 102_400


def test_the_compatible_api_of_oss_has_the_bucket_in_the_host():
    with S3Backend("examplebucket", endpoint="https://s3.oss-cn-hangzhou.aliyuncs.com", credentials=print) as backend:
        assert backend.endpoint == "https://examplebucket.s3.oss-cn-hangzhou.aliyuncs.com"
        assert backend.region == "cn-hangzhou"
