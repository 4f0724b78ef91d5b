"""The bucket and key of a request: from path, host and custom host; the path is decoded once."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from partwise.server import OSSServer, ServerSettings
from partwise.server.errors import ServiceError
from partwise.server.messages import ServerRequest
from partwise.server.oss.addressing import parse_target

_SETTINGS = ServerSettings(
    cnames={"files.example.com": "examplebucket"}, path_style_hosts={"oss.example.com", "oss-cn-hangzhou.aliyuncs.com"}
)


def _bucket_and_key(
    host: str, request_target: str, settings: ServerSettings = _SETTINGS
) -> tuple[str | None, str | None]:
    target = parse_target(ServerRequest.parsed("GET", request_target, [("Host", host)]), settings)
    return target.bucket, target.key


@pytest.mark.parametrize(
    ("host", "target", "place"),
    [
        ("127.0.0.1:8080", "/examplebucket/a/b", ("examplebucket", "a/b")),
        ("[::1]:8080", "/examplebucket/a", ("examplebucket", "a")),
        ("::1", "/examplebucket/a", ("examplebucket", "a")),
        ("localhost", "/examplebucket/a", ("examplebucket", "a")),
        ("oss", "/examplebucket/a", ("examplebucket", "a")),
        ("localhost:80", "/examplebucket/", ("examplebucket", None)),
        ("localhost:80", "/examplebucket", ("examplebucket", None)),
        ("localhost:80", "/", (None, None)),
        ("localhost:80", "/examplebucket?uploads", ("examplebucket", None)),
        ("oss.example.com", "/examplebucket/a", ("examplebucket", "a")),
        ("oss-cn-hangzhou.aliyuncs.com", "/examplebucket/a", ("examplebucket", "a")),
        ("examplebucket.oss-cn-hangzhou.aliyuncs.com", "/a/b", ("examplebucket", "a/b")),
        ("ExampleBucket.localhost:80", "/a", ("examplebucket", "a")),
        ("examplebucket.localhost:80", "/?uploads", ("examplebucket", None)),
        ("files.example.com:80", "/examplebucket/a", ("examplebucket", "examplebucket/a")),
        ("files.example.com", "/", ("examplebucket", None)),
        ("localhost", "/examplebucket/a%2Fb", ("examplebucket", "a/b")),
        ("localhost", "/examplebucket%2Fa", ("examplebucket", "a")),
        ("localhost", "/examplebucket/a%252Fb", ("examplebucket", "a%2Fb")),
        ("localhost", "/examplebucket/a+b%2B%20c", ("examplebucket", "a+b+ c")),
        ("localhost", "/examplebucket/a//b/../c/./", ("examplebucket", "a//b/../c/./")),
        ("localhost", "/examplebucket/%E4%B8%AD%F0%9F%98%80", ("examplebucket", "中😀")),
        ("localhost", "/examplebucket/%3Fx%23", ("examplebucket", "?x#")),
    ],
)
def test_the_bucket_and_key_are_found_in_host_and_path(
    host: str, target: str, place: tuple[str | None, str | None]
) -> None:
    assert _bucket_and_key(host, target) == place


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("*", "InvalidURI"),
        ("http://localhost/examplebucket/a", "InvalidURI"),
        ("/examplebucket/%FF", "InvalidObjectName"),
        ("/examplebucket//a", "InvalidObjectName"),
        ("/examplebucket/%5Ca", "InvalidObjectName"),
        ("/examplebucket/" + "%C3%A9" * 512, "InvalidObjectName"),
    ],
    ids=lambda value: value[:20],
)
def test_an_invalid_path_is_refused(target: str, code: str) -> None:
    with pytest.raises(ServiceError) as caught:
        _bucket_and_key("localhost", target)
    assert caught.value.code == code


def test_a_key_has_at_most_1023_bytes() -> None:
    assert _bucket_and_key("localhost", "/b/" + "%C3%A9" * 511 + "a") == ("b", "é" * 511 + "a")


@pytest.mark.parametrize("host", ["oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou.oss.aliyuncs.com"])
def test_an_endpoint_of_the_service_refuses_path_style_requests(host: str) -> None:
    with pytest.raises(ServiceError) as caught:
        _bucket_and_key(host, "/examplebucket/a", ServerSettings())
    assert caught.value.code == "SecondLevelDomainForbidden"
    assert (
        _bucket_and_key(host, "/", ServerSettings())
        == _bucket_and_key(f".{host}", "/", ServerSettings())
        == (None, None)
    )


@pytest.mark.parametrize(
    ("host", "target"),
    [
        (None, "/examplebucket/dir/key"),
        (None, "/examplebucket/dir%2Fkey"),
        ("examplebucket.oss-cn-hangzhou.aliyuncs.com", "/dir/key"),
        ("files.example.com", "/dir%2Fkey"),
    ],
)
def test_a_signature_is_valid_for_all_styles_of_address(
    server: OSSServer, client: Any, host: str | None, target: str
) -> None:
    cnames = {"files.example.com": "examplebucket"}
    server.settings = evolve(server.settings, cnames=cnames, hosts={"oss-cn-hangzhou.aliyuncs.com"})
    assert client("PUT", "dir/key", host=host, target=target, body=b"x").status == 200
    assert server.requests[0].path == target
    assert client("GET", "dir/key").body == b"x"


@pytest.mark.parametrize("field", ["uploads", "uploads="])
def test_a_parameter_without_a_value_equals_one_with_an_empty_value(client: Any, field: str) -> None:
    reply = client("POST", "key", {"uploads": ""}, target=f"/examplebucket/key?{field}")
    assert reply.status == 200


def test_dot_segments_belong_to_the_key(client: Any) -> None:
    assert client("PUT", "a/../b", body=b"x").status == 200
    assert client("GET").texts("Contents/Key") == ["a/../b"]
