"""Addresses of buckets, judged by botocore where it knows them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from partwise.backends.s3 import S3Backend
from partwise.backends.s3.addressing import check_key, resolve
from partwise.errors import InvalidInput, InvalidKey

REGIONS = ["eu-west-1", "us-west-2", "cn-north-1", "us-gov-west-1", "ap-southeast-7", "us-iso-east-1", "us-isob-east-1"]
BUCKETS = ["examplebucket", "example.bucket", "example-bucket", "a1b"]
ACCESS_POINT = "arn:aws:s3:us-west-2:123456789012:accesspoint/point"
OUTPOST = "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01234567890123456/accesspoint/point"


def signed_for(sent):
    """Return region and service of a signed request; the region is None where the signature is for all regions."""
    credential = re.search(r"Credential=([^,]+),", _text(sent.headers["Authorization"]))[1]
    _, _, *region, service, _ = credential.split("/")
    return region[0] if region else None, service


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


def same(judge, bucket, *, ours, theirs):
    """Assert that botocore sends the same request; return the address."""
    sent = judge.sent("head_object", client=theirs, Bucket=bucket, Key="a/b c")
    address = resolve(bucket, **ours)
    url = urlsplit(sent.url)
    assert (address.scheme, address.authority, address.target("a/b c", ())) == (url.scheme, url.netloc, url.path)
    region, service = signed_for(sent)
    # With awscrt, botocore signs for all regions where it can; a signature for the one of the address is as good.
    assert (address.region, address.service) == (region or address.region, service)
    return address


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("bucket", BUCKETS)
@pytest.mark.parametrize("style", ["auto", "virtual", "path"])
def test_a_bucket_of_a_region(judge, bucket, region, style):
    same(
        judge,
        bucket,
        ours={"region": region, "addressing_style": style},
        theirs={"region": region, "addressing_style": style},
    )


@pytest.mark.parametrize("region", ["eu-west-1", "cn-north-1"])
def test_dual_stack(judge, region):
    same(
        judge,
        "examplebucket",
        ours={"region": region, "dual_stack": True},
        theirs={"region": region, "use_dualstack_endpoint": True},
    )


@pytest.mark.parametrize("dual_stack", [True, False])
def test_acceleration(judge, dual_stack):
    address = same(
        judge,
        "examplebucket",
        ours={"region": "eu-west-1", "accelerate": True, "dual_stack": dual_stack},
        theirs={"region": "eu-west-1", "use_accelerate_endpoint": True, "use_dualstack_endpoint": dual_stack},
    )
    assert address.location == resolve("examplebucket", region="eu-west-1").location


@pytest.mark.parametrize("dual_stack", [True, False])
def test_an_access_point(judge, dual_stack):
    """Its own region counts."""
    same(
        judge,
        ACCESS_POINT,
        ours={"region": "eu-west-1", "dual_stack": dual_stack},
        theirs={"region": "eu-west-1", "use_dualstack_endpoint": dual_stack, "use_arn_region": True},
    )


def test_an_access_point_in_china(judge):
    arn = "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint:point"
    same(judge, arn, ours={}, theirs={"region": "cn-north-1"})


def test_an_access_point_of_an_outpost(judge):
    same(judge, OUTPOST, ours={}, theirs={"region": "us-west-2"})


def test_an_access_point_at_another_endpoint(judge):
    endpoint = "https://example.com:8443"
    same(judge, ACCESS_POINT, ours={"endpoint": endpoint}, theirs={"region": "us-west-2", "endpoint": endpoint})


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://minio:9000",
        "http://127.0.0.1:9000",
        "https://s3.example.com",
        "http://[::1]:9000",
        "https://e.com/api/s3",
    ],
)
@pytest.mark.parametrize("bucket", ["examplebucket", "example.bucket", "Old_Bucket"])
def test_a_bucket_at_another_endpoint_is_in_the_path(judge, endpoint, bucket):
    same(
        judge,
        bucket,
        ours={"region": "eu-west-1", "endpoint": endpoint},
        theirs={"endpoint": endpoint, "addressing_style": "path"},
    )


def test_a_bucket_at_another_endpoint_can_be_in_the_host(judge):
    style = {"endpoint": "https://s3.example.com", "addressing_style": "virtual"}

    same(judge, "examplebucket", ours={"region": "eu-west-1", **style}, theirs=style)


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("s3.dualstack.eu-central-1.amazonaws.com", "eu-central-1"),
        ("https://s3-eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://s3-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("https://bucket.vpce-0123-abc.s3.eu-west-1.vpce.amazonaws.com", None),
        ("https://s3.amazonaws.com", "us-east-1"),
        ("https://other.example.com", "us-east-1"),
    ],
)
def test_the_region_is_derived_from_the_endpoint(endpoint, region):
    if region is not None:
        assert resolve("examplebucket", endpoint=endpoint).region == region
    assert resolve("examplebucket", endpoint=endpoint, region="ap-south-1").region == "ap-south-1"


def test_an_endpoint_of_aws_has_the_bucket_in_the_host():
    address = resolve("examplebucket", endpoint="https://s3.eu-central-1.amazonaws.com")

    assert (address.host, address.path) == ("examplebucket.s3.eu-central-1.amazonaws.com", "/")


def test_all_endpoints_of_a_bucket_in_aws_are_one_location():
    given = [
        {"region": "eu-west-1"},
        {"region": "eu-west-1", "dual_stack": True},
        {"region": "eu-west-1", "accelerate": True},
        {"region": "eu-west-1", "addressing_style": "path"},
        {"endpoint": "http://s3.eu-west-1.amazonaws.com"},
        {"endpoint": "s3-accelerate.amazonaws.com", "region": "eu-west-1"},
        {},  # the wrong region, which S3 answers with the right one
    ]
    assert {resolve("examplebucket", **settings).location for settings in given} == {"s3://examplebucket@amazonaws.com"}


def test_buckets_of_other_partitions_are_other_locations():
    """Names of buckets are unique in a partition only."""
    regions = ["eu-west-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1", "us-isob-east-1", "eusc-de-east-1"]
    assert len({resolve("examplebucket", region=region).location for region in regions}) == len(regions)
    gov = {"region": "us-gov-west-1"}, {"endpoint": "s3.us-gov-west-1.amazonaws.com"}
    assert len({resolve("examplebucket", **settings).location for settings in gov}) == 1


def test_another_endpoint_is_a_location_with_its_port_and_path():
    assert resolve("b1b", endpoint="http://example.com:80/x/").location == "s3://b1b@example.com/x"
    assert resolve("b1b", endpoint="https://example.com/x").location == "s3://b1b@example.com/x"
    assert resolve("b1b", endpoint="https://example.com:9000").location == "s3://b1b@example.com:9000"


@pytest.mark.parametrize(
    "bucket", ["", "a", "-ab", "ab-", "a/b", "a b", "ü" * 3, "a" * 256, "a?b", "a@b", "..", "a\nb"]
)
def test_an_impossible_bucket_is_refused(bucket):
    with pytest.raises(InvalidInput, match="bucket"):
        resolve(bucket, region="eu-west-1")


@pytest.mark.parametrize(
    ("bucket", "settings", "message"),
    [
        ("data--use1-az4--x-s3", {}, "directory bucket"),
        ("examplebucket", {"addressing_style": "cname"}, "addressing style must be one of"),
        ("examplebucket", {"endpoint": "http://10.0.0.1", "addressing_style": "virtual"}, "an IP address"),
        ("examplebucket", {"endpoint": "http://e.com/x", "addressing_style": "virtual"}, "a path"),
        ("examplebucket", {"endpoint": "https://examplebucket.s3.eu-west-1.amazonaws.com"}, "includes the bucket"),
        ("examplebucket", {"endpoint": "https://example.com", "accelerate": True}, "exclude an endpoint"),
        ("example.bucket", {"accelerate": True}, "without dots"),
        ("examplebucket", {"region": "eu_west"}, "not a valid region"),
        ("arn:aws:s3::123456789012:accesspoint/m.mrap", {}, "not the ARN"),
        ("arn:aws:s3-object-lambda:us-west-2:123456789012:accesspoint/x", {}, "not the ARN"),
        (ACCESS_POINT, {"addressing_style": "path"}, "addressed by its host"),
        (ACCESS_POINT, {"accelerate": True}, "addressed by its host"),
        (ACCESS_POINT, {"endpoint": "http://127.0.0.1:9000"}, "can't have an access point"),
    ],
)
def test_what_excludes_each_other_is_refused(bucket, settings, message):
    with pytest.raises(InvalidInput, match=message):
        resolve(bucket, **settings)


@pytest.mark.parametrize(
    "endpoint",
    [
        "ftp://example.com",
        "https://user:secret@example.com",
        "https://example.com/a?b",
        "https://example.com/#x",
        "https://example.com/../x",
        "https://example.com/a b",
        "https://exa mple.com",
        "https://example.com:0",
        "https://example.com:99999",
        "https://",
        "https://[::1",
    ],
)
def test_an_invalid_endpoint_is_refused(endpoint):
    with pytest.raises(InvalidInput, match="not a valid endpoint") as caught:
        resolve("examplebucket", endpoint=endpoint)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("key", ["k", "/k", "a//b", ".", "\x00", "é" * 512, "x" * 1024])
def test_any_key_up_to_1024_bytes_is_valid(key):
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "x" * 1025, "é" * 513, "\ud800"])
def test_other_keys_are_refused(key):
    with pytest.raises(InvalidKey):
        check_key(key)


def test_an_access_point_opens_a_backend():
    with S3Backend(ACCESS_POINT, credentials=lambda: None) as backend:
        assert backend.endpoint == "https://point-123456789012.s3-accesspoint.us-west-2.amazonaws.com"
        assert backend.location == "s3://point-123456789012@s3.us-west-2.amazonaws.com"
