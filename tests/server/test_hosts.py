"""Access: the random access key of each server, and hosts that no web page of another site can name."""

from __future__ import annotations

import http.client
from typing import Any

import pytest
from attrs import evolve

from partwise.server import OSSServer, ServerSettings
from partwise.server.errors import ServiceError
from partwise.server.hosts import check_hosts
from partwise.server.messages import ServerRequest
from partwise.server.oss.errors import error_response
from partwise.server.oss.routing import OPERATIONS
from partwise.server.settings import AccessKey


def _is_refused(headers: dict[str, str], listen_address: str = "127.0.0.1", **settings: Any) -> bool:
    request = ServerRequest.parsed("GET", "/examplebucket/key", list(headers.items()))
    try:
        check_hosts(request, ServerSettings(**settings), listen_address)
    except ServiceError as error:
        response = error_response(error, "id", "host", is_head=False)
        return (response.code, response.status) == ("AccessDenied", 403)
    return False


# --- access keys -----------------------------------------------------------------------------------------------------


def test_each_server_has_its_own_access_key() -> None:
    servers = [OSSServer() for _ in range(3)]
    assert len({server.access_key_id for server in servers}) == 3
    assert len({server.access_key_secret for server in servers}) == 3
    assert all(len(server.access_key_secret) == 40 for server in servers)
    for server in servers:
        server.stop()


def test_a_change_of_the_settings_keeps_the_access_key() -> None:
    settings = ServerSettings()
    assert evolve(settings, page_limit=1).access_keys == settings.access_keys
    assert ServerSettings().access_keys != settings.access_keys


@pytest.mark.parametrize(
    "keys", [("partwise-test-id", "partwise-test-secret"), ("", ""), ("partwise", "partwise")], ids=str
)
def test_well_known_access_keys_are_refused(client: Any, keys: tuple[str, str]) -> None:
    assert client("PUT", "key", body=b"mine").status == 200
    stranger = evolve(client, access_key_id=keys[0], access_key_secret=keys[1])
    assert stranger("GET", "key").status in (400, 403)
    assert stranger("PUT", "key", body=b"theirs").status in (400, 403)
    assert stranger("DELETE", "key").status in (400, 403)
    assert client("GET", "key").body == b"mine"


_REQUESTS = {
    "ListBuckets": ("GET", "/"),
    "PutBucket": ("PUT", "/newbucket"),
    "ListObjects": ("GET", "/examplebucket"),
    "ListObjectsV2": ("GET", "/examplebucket?list-type=2"),
    "ListMultipartUploads": ("GET", "/examplebucket?uploads"),
    "GetBucketInfo": ("GET", "/examplebucket?bucketInfo"),
    "GetBucketLocation": ("GET", "/examplebucket?location"),
    "GetBucketAcl": ("GET", "/examplebucket?acl"),
    "InitiateMultipartUpload": ("POST", "/examplebucket/key?uploads"),
    "UploadPart": ("PUT", "/examplebucket/key?partNumber=1&uploadId=ID"),
    "ListParts": ("GET", "/examplebucket/key?uploadId=ID"),
    "CompleteMultipartUpload": ("POST", "/examplebucket/key?uploadId=ID"),
    "AbortMultipartUpload": ("DELETE", "/examplebucket/key?uploadId=ID"),
    "PutObject": ("PUT", "/examplebucket/key"),
    "GetObject": ("GET", "/examplebucket/key"),
    "GetObjectAcl": ("GET", "/examplebucket/key?acl"),
    "HeadObject": ("HEAD", "/examplebucket/key"),
    "GetObjectMeta": ("HEAD", "/examplebucket/key?objectMeta"),
    "DeleteObject": ("DELETE", "/examplebucket/key"),
}


@pytest.mark.parametrize("operation", sorted(OPERATIONS.names))
def test_no_operation_runs_without_a_signature(server: OSSServer, client: Any, operation: str) -> None:
    method, target = _REQUESTS[operation]
    reply = client(method, target=target, signed=False)
    assert reply.status == 403
    assert [request.operation for request in server.requests] == [operation]
    assert server.requests[0].code == "AccessDenied"
    assert server.bucket_names == ["examplebucket"]


def test_a_form_posted_by_a_web_page_is_refused(client: Any) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\nkey\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for key in (None, "key"):
        reply = client("POST", key, headers=headers, body=body, signed=False)
        assert (reply.status, reply.code) == (501, "NotImplemented")


def test_no_response_can_be_read_by_a_web_page_of_another_site(client: Any) -> None:
    reply = client("GET", None, headers={"Origin": "http://localhost:3000"})
    assert reply.status == 200
    assert not any(name.lower().startswith("access-control-") for name in reply.headers)
    assert client("OPTIONS", "key", headers={"Origin": "http://localhost:3000"}).status == 501


def test_a_refusal_contains_no_secret(server: OSSServer, client: Any) -> None:
    secret = server.access_key_secret
    wrong = evolve(client, access_key_secret="0" * 40)
    for reply in (wrong("GET", "key"), wrong("PUT", "key", body=b"x"), client("GET", "nothing")):
        assert reply.status >= 400
        assert secret.encode() not in reply.body
        assert secret not in str(reply.headers)


# --- hosts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:80", "127.255.255.254", "localhost", "LOCALHOST:8080", "[::1]", "[::1]:80"),
        *("examplebucket.localhost", "examplebucket.localhost:80"),
        ".127.0.0.1:80",  # so does ali-oss
    ],
)
def test_loopback_hosts_are_allowed(host: str) -> None:
    assert not _is_refused({"Host": host})


@pytest.mark.parametrize(
    "host",
    [
        *("", "example.com", "examplebucket.example.com", "attacker", "attacker:80", "192.0.2.1", "0.0.0.0", "[::]"),
        *("127.0.0.1.example.com", "localhost.example.com", "examplebucket.localhost.example.com", "a.b.localhost"),
        *("localhost.", "localhost,localhost", "127.1", "2130706433", "[::1", "notlocalhost", "128.0.0.1"),
        "examplebucket.127.0.0.1",
    ],
)
def test_other_hosts_are_refused(host: str) -> None:
    assert _is_refused({"Host": host})


def test_a_request_without_a_host_is_refused() -> None:
    assert _is_refused({})


@pytest.mark.parametrize("host", ["oss.example.com", "examplebucket.oss.example.com:80", "OSS.example.com"])
def test_a_host_in_the_settings_is_allowed_and_so_are_its_buckets(host: str) -> None:
    assert not _is_refused({"Host": host}, hosts={"oss.example.com"})
    assert _is_refused({"Host": f"evil.{host}" if host.startswith("examplebucket") else f"evil-{host}"}, hosts={host})


def test_cnames_and_path_style_hosts_are_allowed() -> None:
    assert not _is_refused({"Host": "files.example.com"}, cnames={"files.example.com": "examplebucket"})
    assert not _is_refused({"Host": "store.example.com"}, path_style_hosts={"store.example.com"})
    assert _is_refused({"Host": "a.files.example.com"}, cnames={"files.example.com": "examplebucket"})


def test_the_listen_address_is_allowed() -> None:
    assert not _is_refused({"Host": "192.0.2.1:80"}, listen_address="192.0.2.1")
    assert _is_refused({"Host": "192.0.2.2:80"}, listen_address="192.0.2.1")


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])
def test_a_server_on_all_addresses_allows_any_address_but_no_other_name(everywhere: str) -> None:
    assert not _is_refused({"Host": "192.0.2.1:80"}, listen_address=everywhere)
    assert _is_refused({"Host": "example.com"}, listen_address=everywhere)


@pytest.mark.parametrize("origin", ["http://example.com", "https://localhost.example.com", "null", "", "http://[", "x"])
def test_a_web_page_of_another_site_is_refused(origin: str) -> None:
    assert _is_refused({"Host": "127.0.0.1", "Origin": origin})


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1", "https://app.example.com"])
def test_a_web_page_of_this_machine_is_allowed(origin: str) -> None:
    assert not _is_refused({"Host": "127.0.0.1", "Origin": origin}, hosts={"App.example.com"})


def test_a_host_name_that_resolves_to_loopback_is_refused() -> None:
    """With a signature, and if none is required."""
    settings = ServerSettings(allow_anonymous=True)
    with OSSServer(settings=settings) as server:
        connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=20)
        for headers in ({"Host": "examplebucket.attacker.example"}, {"Origin": "http://attacker.example"}):
            connection.request("PUT", "/examplebucket/key", b"planted", headers)
            answer = connection.getresponse()
            assert answer.status == 403
            assert b"--allow-host" in answer.read()
        connection.close()
        assert server.backend().head_object("key") is None
        assert {request.code for request in server.requests} == {"AccessDenied"}


def test_the_access_key_of_a_server_is_refused_by_others(client: Any) -> None:
    with OSSServer() as other:
        assert evolve(client, endpoint=other.endpoint)("GET", None).code == "InvalidAccessKeyId"


def test_a_new_access_key_needs_no_quoting_in_a_shell() -> None:
    key = AccessKey.new()
    assert f"{key.access_key_id}{key.access_key_secret}".replace("-", "").isalnum()
