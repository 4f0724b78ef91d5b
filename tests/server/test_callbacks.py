"""Upload callbacks: the request, the response, and that no other machine is called."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from attrs import define, field

from partwise.checksums import crc64
from partwise.server import OSSServer
from partwise.server.oss.callbacks import CallbackRequest

_MD5 = hashlib.md5(b"hello").hexdigest().upper()


@define
class _Application:
    """An application server with given responses."""

    url: str
    status: int = 200
    body: bytes = b'{"Status":"OK"}'
    with_length: bool = True
    headers: dict[str, str] = field(factory=dict)
    posted: list[tuple[str, dict[str, str], bytes]] = field(factory=list)


@pytest.fixture
def application() -> Iterator[_Application]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            app.posted.append((self.path, dict(self.headers), body))
            self.send_response(app.status)
            for name, value in app.headers.items():
                self.send_header(name, value)
            if app.with_length:
                self.send_header("Content-Length", str(len(app.body)))
            self.end_headers()
            self.wfile.write(app.body)

        def log_message(self, *args: object) -> None:
            """Do not log."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    app = _Application(f"http://127.0.0.1:{server.server_port}/notify?by=oss")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield app
    server.shutdown()
    thread.join()
    server.server_close()


def _encoded(content: Any) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


def _headers(url: str, body: str = "key=${object}", **more: str) -> dict[str, str]:
    return {"x-oss-callback": _encoded({"callbackUrl": url, "callbackBody": body, **more})}


def test_the_client_gets_the_response_of_the_application(application: _Application, client: Any) -> None:
    reply = client("PUT", "dir/a b", headers=_headers(application.url), body=b"hello")
    assert (reply.status, reply.body) == (200, b'{"Status":"OK"}')
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["ETag"] == f'"{_MD5}"'
    assert reply.headers["x-oss-hash-crc64ecma"] == str(crc64(b"hello"))
    [(path, headers, body)] = application.posted
    assert (path, body) == ("/notify?by=oss", b"key=dir%2Fa+b")
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["Host"] == application.url.split("/")[2]


def test_variables_are_replaced_by_their_values(application: _Application, client: Any) -> None:
    template = "&".join(
        f"{n}=${{{n}}}" for n in ("bucket", "object", "etag", "size", "mimeType", "crc64", "x:who", "no")
    )
    headers = {
        **_headers(application.url, template, callbackHost="app.example.com"),
        "x-oss-callback-var": _encoded({"x:who": "é&1"}),
        "Content-Type": "text/plain",
    }
    client("PUT", "key", headers=headers, body=b"hello")
    [(_, posted, body)] = application.posted
    assert posted["Host"] == "app.example.com"
    assert body.decode() == (
        f"bucket=examplebucket&object=key&etag={_MD5}&size=5&mimeType=text%2Fplain&crc64={crc64(b'hello')}"
        "&x:who=%C3%A9%261&no="
    )


def test_a_completed_upload_calls_back_once(application: _Application, client: Any) -> None:
    upload_id = client.begin("key", {**_headers(application.url), "Content-Type": "text/x"})
    etag = client.part("key", upload_id, 1, b"hello").headers["ETag"]
    headers = _headers(application.url, "${operation} ${mimeType} ${size}")
    reply = client.complete("key", upload_id, [(1, etag)], headers)
    assert (reply.status, reply.body) == (200, b'{"Status":"OK"}')
    assert [body for _, _, body in application.posted] == [b"CompleteMultipartUpload text%2Fx 5"]


def test_a_callback_can_be_given_in_the_query(application: _Application, client: Any) -> None:
    query = {
        "callback": _encoded({"callbackUrl": application.url, "callbackBody": "${x:a}"}),
        "callback-var": _encoded({"x:a": "1"}),
    }
    assert client("PUT", "key", query, body=b"x").body == b'{"Status":"OK"}'
    assert application.posted[0][2] == b"1"


def test_values_in_a_json_body_are_json_literals() -> None:
    template = '{"key":${object},"size":${size},"me":${x:me},"quoted":"${object}","none":${no}}'
    request = CallbackRequest(("",), template, body_type="application/json", variables={"x:me": "é"})
    filled = json.loads(request.filled({"object": 'a"b', "size": 5}))
    assert filled == {"key": 'a"b', "size": 5, "me": "é", "quoted": 'a"b', "none": ""}


def test_urls_are_tried_until_one_responds(application: _Application, client: Any) -> None:
    urls = f"http://127.0.0.1:{_free_port()}/; {application.url.removeprefix('http://')}"
    assert client("PUT", "key", headers=_headers(urls), body=b"x").status == 200
    assert len(application.posted) == 1


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def _fail_depth(app: _Application) -> None:
    app.body = b"[" * 100_000 + b"]" * 100_000


def _fail_redirect(app: _Application) -> None:
    app.status = 302
    app.headers = {"Location": app.url}


def _fail_status(app: _Application) -> None:
    app.status = 502


def _fail_json(app: _Application) -> None:
    app.body = b"thanks"


def _fail_length(app: _Application) -> None:
    app.with_length = False


def _fail_size(app: _Application) -> None:
    app.body = b'"' + b"x" * 1024 * 1024 + b'"'


@pytest.mark.parametrize("fail", [_fail_status, _fail_json, _fail_length, _fail_size, _fail_depth, _fail_redirect])
def test_an_unexpected_response_of_the_application_is_a_failed_callback(
    server: OSSServer, application: _Application, client: Any, fail: Callable[[_Application], None]
) -> None:
    fail(application)
    reply = client("PUT", "key", headers=_headers(application.url), body=b"hello")
    assert (reply.status, reply.code, reply.text("EC")) == (203, "CallbackFailed", "0007-00000203")
    assert reply.headers["ETag"] == f'"{_MD5}"'
    assert reply.headers["x-oss-hash-crc64ecma"] == str(crc64(b"hello"))
    assert client("GET", "key").body == b"hello"
    assert server.requests[0].code == "CallbackFailed"
    assert len(application.posted) == 1


def test_the_timeout_applies_to_the_whole_response_of_an_application_server(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timeout per read would restart with each byte that trickles in."""
    monkeypatch.setattr("partwise.server.oss.callbacks.CALLBACK_TIMEOUT", 0.15)
    ended = threading.Event()

    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Header: ")
            try:
                while not ended.wait(0.02):
                    connection.sendall(b"1")
            except OSError:
                ended.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        reply = client("PUT", "key", headers=_headers(url), body=b"hello")
        was_cut_off = ended.wait(20)
        thread.join()
    assert (reply.status, reply.code, was_cut_off) == (203, "CallbackFailed", True)


@pytest.mark.parametrize(
    "url",
    [
        *("http://192.0.2.1/", "http://app.example.com/", "https://127.0.0.1/", "http://", "file:///etc/passwd"),
        *("http://0.0.0.0/", "http://127.1/", "http://2130706433/", "http://127.0.0.1@192.0.2.1/", "ftp://127.0.0.1/"),
        *("http://localhost.example.com/", "http://[::]/", "http://169.254.169.254/latest/"),
    ],
)
def test_only_hosts_on_loopback_are_called(client: Any, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("no host may be called")

    monkeypatch.setattr("partwise.server.oss.callbacks.HTTPConnection", refuse)
    reply = client("PUT", "key", headers=_headers(url), body=b"hello")
    assert (reply.status, reply.code) == (203, "CallbackFailed")
    assert client("HEAD", "key").status == 200


@pytest.mark.parametrize("host", ["a\r\nX-Injected: 1", "a b\n", "\x00"])
def test_a_callback_host_can_add_no_headers(application: _Application, client: Any, host: str) -> None:
    headers = {"x-oss-callback": _encoded({"callbackUrl": application.url, "callbackBody": "x", "callbackHost": host})}
    client("PUT", "key", headers=headers, body=b"x")
    assert not any("X-Injected" in posted for _, posted, _ in application.posted)


def test_a_content_type_that_is_not_utf8_is_passed_on_unchanged(application: _Application, client: Any) -> None:
    headers = {**_headers(application.url, "${mimeType}"), "Content-Type": b"text/\xff"}
    assert client("PUT", "key", headers=headers, body=b"x", signed=False).status == 403
    request = CallbackRequest(("",), "${mimeType}")
    assert request.filled({"mimeType": "text/\udcff"}) == "text%2F%FF"


def test_localhost_is_called(application: _Application, client: Any) -> None:
    url = application.url.replace("127.0.0.1", "localhost")
    assert client("PUT", "key", headers=_headers(url), body=b"x").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"x-oss-callback": "not base64!"},
        {"x-oss-callback": base64.b64encode(b"not json").decode()},
        {"x-oss-callback": _encoded(["a", "list"])},
        {"x-oss-callback": _encoded({"callbackBody": "x"})},
        {"x-oss-callback": _encoded({"callbackUrl": "http://127.0.0.1"})},
        {"x-oss-callback": _encoded({"callbackUrl": "http://127.0.0.1", "callbackBody": ""})},
        {"x-oss-callback": _encoded({"callbackUrl": ";", "callbackBody": "x"})},
        {"x-oss-callback": _encoded({"callbackUrl": ";".join(["http://127.0.0.1"] * 6), "callbackBody": "x"})},
        {"x-oss-callback": _encoded({"callbackUrl": "u", "callbackBody": "x", "callbackBodyType": "text/xml"})},
        {"x-oss-callback": _encoded({"callbackUrl": "u", "callbackBody": "x" * 5000})},
        {"x-oss-callback": _encoded({"callbackUrl": "u", "callbackBody": "\ud800"})},
        {"x-oss-callback": _encoded({"callbackUrl": "u", "callbackBody": "x", "callbackHost": "\udc80"})},
        {"x-oss-callback": base64.b64encode(b"[" * 3800).decode()},
        {**_headers("http://127.0.0.1"), "x-oss-callback-var": _encoded({"x:who": "\udfff"})},
        {**_headers("http://127.0.0.1"), "x-oss-callback-var": _encoded({"who": "1"})},
        {**_headers("http://127.0.0.1"), "x-oss-callback-var": _encoded({"x:Who": "1"})},
        {**_headers("http://127.0.0.1"), "x-oss-callback-var": _encoded({"x:who": 1})},
    ],
    ids=lambda headers: str(len(str(headers))),
)
def test_an_invalid_callback_is_refused_and_nothing_is_stored(client: Any, headers: dict[str, str]) -> None:
    reply = client("PUT", "key", headers=headers, body=b"x")
    assert (reply.status, reply.code) == (400, "InvalidArgument")
    assert client("HEAD", "key").status == 404


@pytest.mark.parametrize(("urls", "status"), [(5, 200), (6, 400)])
def test_a_callback_has_at_most_5_urls(application: _Application, client: Any, urls: int, status: int) -> None:
    headers = _headers(";".join([application.url] * urls))
    assert client("PUT", "key", headers=headers, body=b"x").status == status


@pytest.mark.parametrize(("size", "status"), [(5 * 1024, 200), (5 * 1024 + 4, 400)])
def test_a_callback_has_at_most_5_kib(application: _Application, client: Any, size: int, status: int) -> None:
    def padded(text: str) -> str:
        return _headers(application.url, "x" + text)["x-oss-callback"]

    text = next(text for text in ("y" * n for n in range(5000)) if len(padded(text)) == size)
    assert client("PUT", "key", headers={"x-oss-callback": padded(text)}, body=b"x").status == status


@pytest.mark.parametrize(("size", "status"), [(1024 * 1024, 200), (1024 * 1024 + 1, 203)])
def test_the_response_to_a_callback_has_at_most_1_mib(
    application: _Application, client: Any, size: int, status: int
) -> None:
    application.body = b'"' + b"x" * (size - 2) + b'"'
    assert client("PUT", "key", headers=_headers(application.url), body=b"x").status == status


def test_a_callback_in_header_and_query_is_refused(client: Any) -> None:
    headers = _headers("http://127.0.0.1")
    reply = client("PUT", "key", {"callback": headers["x-oss-callback"]}, headers, b"x")
    assert (reply.status, reply.code) == (400, "InvalidArgument")
