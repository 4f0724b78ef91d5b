"""The address of a bucket, and request targets."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.backends._argument_checks import check_call
from partwise.backends.oss.addressing import check_key, region_of, resolve
from partwise.errors import InvalidInput, InvalidKey

BUCKET = "examplebucket"
PUBLIC = "oss-cn-hangzhou.aliyuncs.com"


def address(endpoint=None, region=None, style="virtual", **more):
    return resolve(BUCKET, endpoint=endpoint, region=region, addressing_style=style, **more)


# --- host and path ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "scheme", "authority"),
    [
        (PUBLIC, "https", f"{BUCKET}.{PUBLIC}"),
        (f"https://{PUBLIC}", "https", f"{BUCKET}.{PUBLIC}"),
        (f"http://{PUBLIC}", "http", f"{BUCKET}.{PUBLIC}"),
        (f"HTTPS://{PUBLIC.upper()}/", "https", f"{BUCKET}.{PUBLIC}"),
        (f"https://{PUBLIC}:443", "https", f"{BUCKET}.{PUBLIC}"),
        (f"http://{PUBLIC}:80", "http", f"{BUCKET}.{PUBLIC}"),
        (f"https://{PUBLIC}:8443", "https", f"{BUCKET}.{PUBLIC}:8443"),
        (f"  {PUBLIC} ", "https", f"{BUCKET}.{PUBLIC}"),
    ],
)
def test_the_bucket_is_prepended_to_a_host_name(endpoint, scheme, authority):
    found = address(endpoint)
    assert (scheme, authority, "/") == (found.scheme, found.authority, found.path)


@pytest.mark.parametrize(
    ("endpoint", "authority"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://127.0.0.1", "127.0.0.1"),
        ("localhost:9000", "localhost:9000"),
        ("http://[::1]:9000", "[::1]:9000"),
        ("https://[2001:db8::1]", "[2001:db8::1]"),
    ],
)
def test_for_an_ip_address_and_localhost_the_bucket_is_in_the_path(endpoint, authority):
    found = address(endpoint, "cn-hangzhou")
    assert (authority, f"/{BUCKET}/") == (found.authority, found.path)


def test_path_style_does_not_change_the_host():
    found = address(PUBLIC, style="path")
    assert (PUBLIC, f"/{BUCKET}/") == (found.authority, found.path)


def test_with_cname_the_bucket_is_not_in_the_url():
    found = address("https://static.example.com", "cn-hangzhou", style="cname")
    assert (found.authority, found.path) == ("static.example.com", "/")


def test_cname_applies_to_an_ip_address_too():
    assert address("http://127.0.0.1:80", "cn-hangzhou", style="cname").path == "/"


def test_the_default_endpoint_is_the_public_one_of_the_region():
    found = address(region="cn-hangzhou")
    assert ("https", f"{BUCKET}.{PUBLIC}", 443) == (found.scheme, found.host, found.port)


# --- the region ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        (PUBLIC, "cn-hangzhou"),
        ("oss-cn-hangzhou-internal.aliyuncs.com", "cn-hangzhou"),
        ("https://cn-hangzhou.oss.aliyuncs.com", "cn-hangzhou"),
        ("oss-us-west-1.aliyuncs.com", "us-west-1"),
        ("oss-ap-southeast-1-internal.aliyuncs.com", "ap-southeast-1"),
        ("oss-accelerate.aliyuncs.com", None),
        ("oss-accelerate-overseas.aliyuncs.com", None),
        ("static.example.com", None),
        ("oss-cn-hangzhou.example.com", None),
        ("http://127.0.0.1:8080", None),
    ],
)
def test_the_region_is_derived_from_endpoints_of_oss_only(endpoint, region):
    assert region == region_of(endpoint)


@pytest.mark.parametrize("endpoint", ["oss-accelerate.aliyuncs.com", "static.example.com", "http://127.0.0.1:8080"])
def test_an_unknown_region_is_an_error(endpoint):
    with pytest.raises(InvalidInput, match=r"Pass region= or set OSS_REGION"):
        address(endpoint)


def test_v1_does_not_require_a_region():
    assert address("http://127.0.0.1:8080", region_needed=False).region is None


def test_an_explicit_region_takes_precedence():
    assert address("oss-cn-hzjbp-a-internal.aliyuncs.com", "cn-hzfinance").region == "cn-hzfinance"


def test_the_prefix_oss_of_a_region_is_removed():
    assert address(region="oss-cn-hangzhou") == address(region="cn-hangzhou")


def test_without_region_and_endpoint_the_hint_names_both():
    with pytest.raises(InvalidInput, match=r"Pass region= or endpoint=, or set OSS_REGION or OSS_ENDPOINT"):
        address()


# --- the location ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    [
        PUBLIC,
        f"http://{PUBLIC}",
        "oss-cn-hangzhou-internal.aliyuncs.com",
        "cn-hangzhou.oss.aliyuncs.com",
        "oss-accelerate.aliyuncs.com",
        "oss-accelerate-overseas.aliyuncs.com",
        None,
    ],
)
@pytest.mark.parametrize("style", ["virtual", "path"])
def test_the_location_does_not_depend_on_the_endpoint(endpoint, style):
    assert address(endpoint, "cn-hangzhou", style).location == f"oss://{BUCKET}@{PUBLIC}"


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("https://127.0.0.1", "127.0.0.1"),
        ("http://127.0.0.1", "127.0.0.1"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("https://static.example.com", "static.example.com"),
    ],
)
def test_a_test_server_or_a_custom_domain_is_its_own_location(endpoint, name):
    assert address(endpoint, "cn-hangzhou").location == f"oss://{BUCKET}@{name}"


def test_locations_differ_between_regions_and_between_buckets():
    other = resolve("otherbucket", endpoint=None, region="cn-hangzhou")
    assert len({address(region="cn-hangzhou").location, address(region="cn-beijing").location, other.location}) == 3


# --- invalid arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bucket", ["ab", "a" * 64, "-abc", "abc-", "Abc", "a_b", "a.b", "", "abc\n", "a/b", "ébc"])
def test_an_invalid_bucket_name_is_refused(bucket):
    with pytest.raises(InvalidInput, match="is not a valid bucket name"):
        resolve(bucket, endpoint=None, region="cn-hangzhou")


@pytest.mark.parametrize("bucket", ["abc", "a" * 63, "0-9", "a1b"])
def test_a_valid_bucket_name_is_accepted(bucket):
    assert resolve(bucket, endpoint=None, region="cn-hangzhou").bucket == bucket


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "ftp://host",
        "https://",
        "https://host/path",
        "https://host?query",
        "https://host#fragment",
        "https://host:port",
        "https://host:0",
        "https://host:99999",
        "https://ho st",
        "https://ho\nst",
        "https://[::1",
        "https://-host",
        "https://höst",
    ],
)
def test_an_invalid_endpoint_is_refused(endpoint):
    with pytest.raises(InvalidInput, match="is not a valid endpoint"):
        address(endpoint, "cn-hangzhou")


@pytest.mark.parametrize("password", ["hunter2", "hunter2\n", "hun@ter2hunter2"])
def test_a_password_in_an_endpoint_is_not_shown(password):
    with pytest.raises(InvalidInput, match="is not a valid endpoint") as raised:
        address(f"https://user:{password}@host", "cn-hangzhou")
    assert "hunter2" not in str(raised.value)


def test_an_endpoint_that_includes_the_bucket_is_refused():
    with pytest.raises(InvalidInput, match=f"the endpoint is {PUBLIC}"):
        address(f"https://{BUCKET}.{PUBLIC}")


@pytest.mark.parametrize("region", ["", "CN", "cn hangzhou", "cn/hangzhou", "-cn"])
def test_an_invalid_region_is_refused(region):
    with pytest.raises(InvalidInput, match="is not a valid region id"):
        address(region=region)


@pytest.mark.parametrize("style", ["cname", "path"])
def test_a_custom_domain_may_begin_with_the_buckets_name(style):
    host = f"{BUCKET}.example.com"
    assert address(host, "cn-hangzhou", style=style).host == host


def test_white_space_around_a_region_is_ignored():
    assert address(region=" cn-hangzhou\n").region == "cn-hangzhou"
    assert address(region=" oss-cn-hangzhou ").region == "cn-hangzhou"


def test_an_accelerated_endpoint_is_its_own_location_without_a_region():
    found = address("oss-accelerate.aliyuncs.com", region_needed=False)
    assert found.location == f"oss://{BUCKET}@oss-accelerate.aliyuncs.com"
    assert address("oss-accelerate.aliyuncs.com", "cn-hangzhou").location == f"oss://{BUCKET}@{PUBLIC}"


def test_an_unknown_addressing_style_is_refused():
    with pytest.raises(InvalidInput, match="virtual, path, cname"):
        address(PUBLIC, style="virtual-hosted")


def test_cname_requires_an_endpoint():
    with pytest.raises(InvalidInput, match="Pass endpoint= with the custom domain"):
        address(region="cn-hangzhou", style="cname")


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "a" * 1024, "é" * 512, "/a", "\\a", "\ud800"])
def test_an_invalid_key_is_refused(key):
    with pytest.raises(InvalidKey):
        check_key(key)


@pytest.mark.parametrize("key", ["a", "a" * 1023, "é" * 511, "a/", "a\\b", ".", "..", "../a", "?", " ", "\x00"])
def test_a_valid_key_is_accepted(key):
    assert key == check_key(key)


def test_a_prefix_must_be_encodable():
    check_call(prefix="")
    with pytest.raises(InvalidKey):
        check_call(prefix="\ud800")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a b+c", "/a%20b%2Bc"),
        ("a/../b", "/a/../b"),
        ("./x", "/./x"),
        ("a//b", "/a//b"),
        ("a%2Fb", "/a%252Fb"),
        ("what?is=this&that#frag", "/what%3Fis%3Dthis%26that%23frag"),
        ("tilde~dash-dot._!*'();:@,$[]", "/tilde~dash-dot._%21%2A%27%28%29%3B%3A%40%2C%24%5B%5D"),
        ("中文", "/%E4%B8%AD%E6%96%87"),
        ("a\x01\n", "/a%01%0A"),
    ],
)
def test_a_key_is_encoded_and_not_normalised(key, path):
    assert path == address(PUBLIC).target(key, ())


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_every_key_can_be_decoded_from_its_target(key):
    target = address("http://127.0.0.1:80", "r").target(key, (("partNumber", "1"),))
    path, _, query = target.partition("?")
    assert (f"/{BUCKET}/{key}", "partNumber=1") == (unquote(path), query)
    assert target.isascii()
    assert target.isprintable()


def test_a_query_is_sorted_and_encoded_without_equals_sign_for_empty_values():
    query = (("uploads", None), ("prefix", "a b/中+"), ("empty", ""))
    assert address(PUBLIC).target(None, query) == "/?empty&prefix=a%20b%2F%E4%B8%AD%2B&uploads"
