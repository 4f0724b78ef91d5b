"""Lists of uploads, of objects and of buckets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from partwise.server import OSSServer
from partwise.server.paging import page_of

_KEYS = ["a", "a b", "dir/1", "dir/2", "dir/sub/3", "z", "é/4"]


def test_a_key_with_a_carriage_return_is_listed_as_it_is(client: Any) -> None:
    """A parser of XML makes a line feed of one that is not escaped."""
    client.begin("a\rb\r\nc")
    assert client("GET", None, {"uploads": ""}).texts("Upload/Key") == ["a\rb\r\nc"]


# --- uploads ---------------------------------------------------------------------------------------------------------


def test_uploads_are_listed_by_key_and_then_by_id(client: Any) -> None:
    ids = {key: sorted(client.begin(key) for _ in range(2)) for key in ("b", "a")}
    reply = client("GET", None, {"uploads": ""})
    listed = list(zip(reply.texts("Upload/Key"), reply.texts("Upload/UploadId"), strict=True))
    assert listed == [("a", ids["a"][0]), ("a", ids["a"][1]), ("b", ids["b"][0]), ("b", ids["b"][1])]
    assert (reply.text("IsTruncated"), reply.text("MaxUploads")) == ("false", "1000")
    assert all(time.endswith(".000Z") for time in reply.texts("Upload/Initiated"))


def test_uploads_are_listed_in_pages(client: Any) -> None:
    initiated = sorted((key, client.begin(key)) for key in ("a", "b", "b", "b", "c"))
    seen: list[tuple[str, str]] = []
    markers: dict[str, str] = {}
    for _ in range(5):
        reply = client("GET", None, {"uploads": "", "max-uploads": "1", **markers})
        seen += zip(reply.texts("Upload/Key"), reply.texts("Upload/UploadId"), strict=True)
        markers = {"key-marker": reply.text("NextKeyMarker"), "upload-id-marker": reply.text("NextUploadIdMarker")}
    assert seen == initiated
    assert reply.text("IsTruncated") == "false"


def test_a_key_marker_without_an_id_skips_all_uploads_of_its_key(client: Any) -> None:
    for key in ("a", "b", "b", "c"):
        client.begin(key)
    assert client("GET", None, {"uploads": "", "key-marker": "b"}).texts("Upload/Key") == ["c"]


def test_an_upload_id_marker_without_a_key_marker_is_ignored(client: Any) -> None:
    client.begin("a")
    assert client("GET", None, {"uploads": "", "upload-id-marker": "F" * 32}).texts("Upload/Key") == ["a"]


def test_uploads_are_grouped_by_a_delimiter(client: Any) -> None:
    for key in _KEYS:
        client.begin(key)
    reply = client("GET", None, {"uploads": "", "delimiter": "/"})
    assert reply.texts("Upload/Key") == ["a", "a b", "z"]
    assert reply.texts("CommonPrefixes/Prefix") == ["dir/", "é/"]
    below = client("GET", None, {"uploads": "", "delimiter": "/", "prefix": "dir/"})
    assert below.texts("Upload/Key") == ["dir/1", "dir/2"]
    assert below.texts("CommonPrefixes/Prefix") == ["dir/sub/"]


def test_common_prefixes_of_uploads_are_not_repeated_on_the_next_page(client: Any) -> None:
    for key in _KEYS:
        client.begin(key)
    query = {"uploads": "", "delimiter": "/", "max-uploads": "3"}
    first = client("GET", None, query)
    assert (first.texts("Upload/Key"), first.texts("CommonPrefixes/Prefix")) == (["a", "a b"], ["dir/"])
    markers = {"key-marker": first.text("NextKeyMarker"), "upload-id-marker": first.text("NextUploadIdMarker") or ""}
    second = client("GET", None, query | markers)
    assert (second.texts("Upload/Key"), second.texts("CommonPrefixes/Prefix")) == (["z"], ["é/"])


def test_keys_of_uploads_are_encoded_on_request(client: Any) -> None:
    client.begin("a b/é\x01")
    reply = client("GET", None, {"uploads": "", "encoding-type": "url", "prefix": "a b/", "key-marker": "a+"})
    assert reply.texts("Upload/Key") == []
    reply = client("GET", None, {"uploads": "", "encoding-type": "url", "prefix": "a b/"})
    assert reply.texts("Upload/Key") == ["a%20b%2F%C3%A9%01"]
    assert (reply.text("EncodingType"), reply.text("Prefix")) == ("url", "a%20b%2F")


def test_a_key_that_xml_does_not_allow_is_changed_without_encoding(client: Any) -> None:
    client.begin("a\x01b")
    assert client("GET", None, {"uploads": ""}).texts("Upload/Key") == ["a\ufffdb"]


def test_completed_and_aborted_uploads_are_not_listed(client: Any) -> None:
    client.upload("a", [b"x"])
    client("DELETE", "b", {"uploadId": client.begin("b")})
    assert client("GET", None, {"uploads": ""}).texts("Upload") == []


def test_a_page_can_be_limited_to_one_upload(server: OSSServer, client: Any) -> None:
    server.settings = evolve(server.settings, page_limit=1)
    for key in ("a", "b"):
        client.begin(key)
    reply = client("GET", None, {"uploads": ""})
    assert (reply.texts("Upload/Key"), reply.text("IsTruncated")) == (["a"], "true")


@pytest.mark.parametrize("limit", ["0", "1001", "many", "1e3"])
def test_an_invalid_page_limit_is_refused(client: Any, limit: str) -> None:
    assert client("GET", None, {"uploads": "", "max-uploads": limit}).code == "InvalidArgument"


# --- objects ---------------------------------------------------------------------------------------------------------


def test_objects_are_listed(client: Any) -> None:
    for key in _KEYS:
        client("PUT", key, body=key.encode())
    reply = client("GET")
    assert reply.texts("Contents/Key") == _KEYS
    assert reply.texts("Contents/Size") == [str(len(key.encode())) for key in _KEYS]
    assert (reply.text("IsTruncated"), reply.text("MaxKeys"), reply.text("Name")) == ("false", "100", "examplebucket")


@pytest.mark.parametrize("version", ["1", "2"])
def test_objects_are_listed_in_pages(client: Any, version: str) -> None:
    for key in _KEYS:
        client("PUT", key, body=b"")
    marker, following = ("marker", "NextMarker") if version == "1" else ("continuation-token", "NextContinuationToken")
    query = {"max-keys": "2", "delimiter": "/"} | ({"list-type": "2"} if version == "2" else {})
    keys: list[str] = []
    prefixes: list[str] = []
    while True:
        reply = client("GET", None, query)
        keys += reply.texts("Contents/Key")
        prefixes += reply.texts("CommonPrefixes/Prefix")
        if reply.text("IsTruncated") == "false":
            break
        query[marker] = reply.text(following)
    assert (keys, prefixes) == (["a", "a b", "z"], ["dir/", "é/"])


def test_list_objects_v2_starts_after_a_key_and_counts_the_keys(client: Any) -> None:
    for key in _KEYS:
        client("PUT", key, body=b"")
    reply = client("GET", None, {"list-type": "2", "start-after": "dir/2", "prefix": "d"})
    assert (reply.texts("Contents/Key"), reply.text("KeyCount")) == (["dir/sub/3"], "1")


def test_an_invalid_continuation_token_is_refused(client: Any) -> None:
    assert client("GET", None, {"list-type": "2", "continuation-token": "a"}).code == "InvalidArgument"


@given(
    st.lists(st.text("ab/", min_size=1, max_size=4), unique=True).map(sorted),
    st.sampled_from(["", "/", "b"]),
    st.sampled_from(["", "a", "a/"]),
    st.integers(1, 4),
)
def test_pages_of_any_size_contain_the_whole_list(keys: list[str], delimiter: str, prefix: str, limit: int) -> None:
    keys = [key for key in keys if key.startswith(prefix)]

    def pages(size: int) -> tuple[list[str], list[str]]:
        entries: list[str] = []
        prefixes: list[str] = []
        marker = ""
        while True:
            rest = [key for key in keys if key > marker]
            page = page_of(rest, str, prefix=prefix, delimiter=delimiter, marker=marker, limit=size)
            assert len(page.entries) + len(page.prefixes) <= size
            entries += page.entries
            prefixes += page.prefixes
            if not page.truncated:
                return entries, prefixes
            assert page.last is not None
            marker = page.last

    rests = [key.removeprefix(prefix) for key in keys]
    rolled = (
        {prefix + rest.split(delimiter)[0] + delimiter for rest in rests if delimiter in rest} if delimiter else set()
    )
    assert pages(limit) == pages(1000)
    assert pages(limit)[1] == sorted(rolled)


# --- buckets ---------------------------------------------------------------------------------------------------------


def test_bucket_info_and_location_are_reported(server: OSSServer, client: Any) -> None:
    info = client("GET", None, {"bucketInfo": ""})
    assert (info.text("Bucket/Name"), info.text("Bucket/Region")) == ("examplebucket", "cn-hangzhou")
    location = client("GET", None, {"location": ""})
    assert b">oss-cn-hangzhou</LocationConstraint>" in location.body
    assert client("GET", None, {"acl": ""}).text("AccessControlList/Grant") == "private"


@pytest.mark.parametrize("query", [{}, {"uploads": ""}, {"bucketInfo": ""}, {"location": ""}, {"acl": ""}], ids=str)
def test_a_missing_bucket_is_refused(client: Any, query: dict[str, str]) -> None:
    reply = client("GET", None, query, bucket="nothing-here")
    assert (reply.status, reply.code, reply.text("BucketName")) == (404, "NoSuchBucket", "nothing-here")


def test_buckets_can_be_created_and_are_listed(server: OSSServer, client: Any) -> None:
    assert [client("PUT", None, bucket="another").status for _ in range(2)] == [200, 200]
    assert client("PUT", "key", bucket="another", body=b"x").status == 200
    assert client("GET", bucket=None).texts("Buckets/Bucket/Name") == ["another", "examplebucket"]
    assert server.bucket_names == ["another", "examplebucket"]
    assert client("PUT", None, bucket="No_Bucket").code == "InvalidBucketName"


def test_every_folder_of_a_directory_is_a_bucket(tmp_path: Path, client_of: Callable[[OSSServer], Any]) -> None:
    for name in ("one", "two", "Not_A_Bucket"):
        (tmp_path / name).mkdir()
    (tmp_path / "a-file").write_bytes(b"")
    with OSSServer(directory=tmp_path) as server:
        client = client_of(server)
        assert client("GET", bucket=None).texts("Buckets/Bucket/Name") == ["one", "two"]
        assert client("PUT", "key", bucket="one", body=b"x").status == 200
        assert client("PUT", "key", bucket="a-file", body=b"x").code == "NoSuchBucket"
        assert client("PUT", "key", bucket="..", body=b"x").code == "NoSuchBucket"
        assert client("PUT", None, bucket="three").status == 200
        assert client("PUT", "key", bucket="three", body=b"x").status == 200
        assert client("GET", bucket="one").texts("Contents/Key") == ["key"]
    assert (tmp_path / "three" / "key").read_bytes() == b"x"
    assert (tmp_path / "one" / "key").read_bytes() == b"x"


def test_the_metadata_folder_of_a_backend_is_not_listed(tmp_path: Path, client_of: Callable[[OSSServer], Any]) -> None:
    (tmp_path / "bucket").mkdir()
    with OSSServer(directory=tmp_path) as server:
        client = client_of(server)
        upload_id = client("POST", "pending", {"uploads": ""}, bucket="bucket").text("UploadId")
        client("PUT", "key", bucket="bucket", body=b"x")
        assert client("GET", bucket="bucket").texts("Contents/Key") == ["key"]
        assert client("GET", None, {"uploads": ""}, bucket="bucket").texts("Upload/UploadId") == [upload_id]


# --- unsupported requests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "key", "query"),
    [
        ("PUT", "key", {"acl": ""}),
        ("PUT", "key", {"tagging": ""}),
        ("POST", "key", {"append": "", "position": "0"}),
        ("POST", "key", {}),
        ("GET", "key", {"x-oss-process": "image/resize"}),
        ("GET", "key", {"versionId": "1"}),
        ("POST", None, {"delete": ""}),
        ("DELETE", None, {}),
        ("PUT", None, {"lifecycle": ""}),
        ("GET", None, {"cors": ""}),
        ("OPTIONS", "key", {}),
    ],
    ids=str,
)
def test_unknown_operations_are_refused(
    server: OSSServer, client: Any, method: str, key: str | None, query: dict[str, str]
) -> None:
    reply = client(method, key, query, body=b"<X/>")
    assert (reply.status, reply.code) == (501, "NotImplemented")
    assert server.requests[-1].operation == ""
    assert client("HEAD", "key").status == 404


def test_a_copy_request_is_refused(client: Any) -> None:
    reply = client("PUT", "key", headers={"x-oss-copy-source": "/examplebucket/other"}, body=b"")
    assert (reply.status, reply.code) == (501, "NotImplemented")
