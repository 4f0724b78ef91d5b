"""
Requests compared with those of the official clients, recorded from the wire.

Each scenario runs against a server that sends the recorded responses. Compared is everything that OSS acts on: method,
bucket and key, query, x-oss-* headers, content type, length and bytes. Where the official clients differ from each
other (a content type without effect, optional query parameters), the permitted differences are listed.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import unquote

import pytest

from partwise.backends.oss import Callback, Credentials, OSSOptions, client
from partwise.errors import AccessDenied, CallbackError, UploadNotFound
from partwise.model import ObjectOptions, UploadedPart

KEY = "dir/three parts+中.bin"
SIZES = [102400, 102400, 12345]
WHOLE = 217145

#: Query parameters without effect on the result: default page sizes, and the encoding of keys in the response.
FREE_QUERY = {"encoding-type", "max-parts", "max-uploads", "prefix", "delimiter", "key-marker", "upload-id-marker"}


def parts(kit, body) -> list[Any]:
    recipes = [{"kind": "sha256-stream", "seed": f"part-{n}", "length": size} for n, size in enumerate(SIZES, 1)]
    return [body(kit.generated(recipe)) for recipe in recipes]


def small(kit, body) -> Any:
    return body(kit.generated({"kind": "sha256-stream", "seed": "small", "length": 5000}))


def recorded_object(request: dict[str, Any], bucket: str) -> str:
    """The key of a recorded request, for any addressing style."""
    path = unquote(request["target"].partition("?")[0])
    host = dict(request["headers"])["Host"]
    return path.removeprefix("/") if host.startswith(f"{bucket}.") else path.removeprefix(f"/{bucket}/")


def same_request(sent, recorded_request: dict[str, Any], bucket: str = "examplebucket") -> None:
    headers = {name.lower(): value for name, value in recorded_request["headers"]}
    query = {name: value for name, value in recorded_request["query"] if name not in FREE_QUERY}
    assert recorded_request["method"] == sent.method
    assert f"/{bucket}/{recorded_object(recorded_request, bucket)}" == sent.path
    assert query == {name: value for name, value in sent.query.items() if name not in FREE_QUERY}
    signing = {"x-oss-date", "x-oss-content-sha256", "x-oss-security-token"}
    own = {name: value for name, value in headers.items() if name.startswith("x-oss-") and name not in signing}
    assert own == sent.service_headers("x-oss-")
    for name in ("x-oss-security-token", "x-oss-content-sha256"):
        assert headers.get(name) == sent.header(name)
    if recorded_request["operation"] != "CompleteMultipartUpload" and recorded_request["method"] in ("PUT", "POST"):
        # The clients format the part list differently.
        assert headers["content-length"] == sent.header("content-length")
        assert recorded_request["body"]["sha256"] == hashlib.sha256(sent.body).hexdigest()
    for name in ("cache-control", "content-disposition", "content-encoding", "expires"):
        assert headers.get(name) == sent.header(name)
    if recorded_request["operation"] in ("PutObject", "InitiateMultipartUpload"):
        assert headers["content-type"] == sent.header("content-type")
    if recorded_request["operation"] == "UploadPart":
        assert sent.header("content-type") is None


def play(kit, server, name: str) -> dict[str, Any]:
    recording = kit.recording(name)
    server.reply(*[kit.recorded_response(request["response"]) for request in recording["requests"]])
    return recording


def backend_for(connect, recording: dict[str, Any], **more: Any):
    token = dict(recording["requests"][0]["headers"]).get("x-oss-security-token")
    return connect(
        credentials=Credentials(**recording["credentials"], security_token=token),
        signature_version=recording["settings"]["signature"],
        **more,
    )


def upload(kit, body, backend, options: ObjectOptions | None = None) -> Any:
    """A new upload of three parts, as the engine makes it."""
    options = options or ObjectOptions()
    bound = backend.with_request_options(options)
    upload_id = bound.initiate_upload(KEY, options)
    uploaded = [bound.upload_part(KEY, upload_id, n, part) for n, part in enumerate(parts(kit, body), 1)]
    return bound.complete_upload(KEY, upload_id, uploaded, options)


@pytest.mark.parametrize(
    "name",
    [
        "alibabacloud-oss-v2-fresh-3parts-v4",
        "alibabacloud-oss-v2-fresh-3parts-v1",
        "ali-oss-sts-3parts-v4",
        "alibabacloud-oss-v2-callback-3parts-v4",
        "alibabacloud-oss-v2-rich-headers-3parts-v4",
    ],
)
def test_a_fresh_upload_of_three_parts(kit, server, connect, body, name):
    recording = play(kit, server, name)
    options = {}
    if "callback" in name:
        options["callback"] = Callback(
            "http://cb.example.com/cb", "bucket=${bucket}&object=${object}", variables={"x:var1": "value-1"}
        )
        if "x-oss-callback-var" not in dict(recording["requests"][-1]["headers"]):
            options["callback"] = Callback("http://cb.example.com/cb", "bucket=${bucket}&object=${object}")
    if "rich" in name:
        options = {
            "storage_class": "IA",
            "acl": "private",
            "forbid_overwrite": True,
            "metadata": {"author": "someone"},
            "tags": {"a": "1", "b": "2"},
            "encryption": "AES256",
            "request_payer": "requester",
            "cache_control": "no-cache",
            "content_disposition": "attachment",
            "content_type": "application/x-test",
        }
    stored = upload(kit, body, backend_for(connect, recording), OSSOptions(**options))
    assert len(recording["requests"]) == len(server.requests)
    for recorded_request, sent in zip(recording["requests"], server.requests, strict=True):
        same_request(sent, recorded_request)
    assert (stored.key, stored.size) == (KEY, WHOLE)
    assert (stored.etag, stored.checksum) == ("2E8744D9E33720E02BA508DED0C42D16-3", 17556320702373757072)
    if "callback" in name:
        assert stored.callback_response == recording["requests"][-1]["response"]["body_text"].encode()


def test_the_part_list_is_byte_for_byte_that_of_the_official_client(kit, server, connect, body):
    recording = play(kit, server, "alibabacloud-oss-v2-fresh-3parts-v4")
    upload(kit, body, backend_for(connect, recording))
    recorded_request = recording["requests"][-1]
    assert recorded_request["body"]["text"].encode() == server.requests[-1].body
    assert dict(recorded_request["headers"])["Content-MD5"] == server.requests[-1].header("content-md5")


@pytest.fixture
def host_unsigned(monkeypatch):
    """Signatures without the Host header, which the recorded clients do not sign."""
    monkeypatch.setattr(client, "_ADDITIONAL_HEADERS", ())


@pytest.mark.usefixtures("host_unsigned")
def test_part_signatures_are_equal_to_those_of_the_official_client(kit, server, connect, body):
    """Part requests have no permitted differences, so their signatures must be equal."""
    for name in ("alibabacloud-oss-v2-fresh-3parts-v4", "alibabacloud-oss-v2-fresh-3parts-v1"):
        server.requests.clear()
        recording = play(kit, server, name)
        upload(kit, body, backend_for(connect, recording))
        for recorded_request, sent in list(zip(recording["requests"], server.requests, strict=True))[1:4]:
            assert dict(recorded_request["headers"])["Authorization"] == sent.header("authorization")


def test_a_put_below_the_threshold(kit, server, connect, body):
    for name in (
        "alibabacloud-oss-v2-put-below-threshold-v4",
        "alibabacloud-oss-v2-put-below-threshold-v1",
        "oss2-put-below-threshold-v4",
        "oss2-put-below-threshold-v1",
    ):
        server.requests.clear()
        recording = play(kit, server, name)
        backend = backend_for(connect, recording)
        stored = backend.put_object("dir/small.txt", small(kit, body), ObjectOptions())
        recorded_request, sent = recording["requests"][0], server.requests[0]
        same_request(sent, recorded_request)
        assert (
            stored.size,
            stored.etag,
            stored.checksum,
        ) == (5000, "5C780D93085C5C661E2FA3D0F31BD4A6", 13290614948927768987)


def test_rich_headers_on_a_put(kit, server, connect, body):
    recording = play(kit, server, "alibabacloud-oss-v2-rich-headers-put-v4")
    options = OSSOptions(
        storage_class="IA",
        acl="private",
        forbid_overwrite=True,
        metadata={"author": "someone"},
        tags={"a": "1", "b": "2"},
        encryption="AES256",
        traffic_limit=838860800,
        request_payer="requester",
        cache_control="no-cache",
        content_disposition="attachment",
        content_type="application/x-test",
    )
    backend_for(connect, recording).put_object("dir/small.txt", small(kit, body), options)
    same_request(server.requests[0], recording["requests"][0])


def test_parts_have_the_traffic_limit_that_one_official_client_omits(kit, server, connect, body):
    recording = play(kit, server, "oss2-rich-headers-3parts-v4")
    limited = OSSOptions(traffic_limit=838860800, request_payer="requester")
    backend = backend_for(connect, recording).with_request_options(limited)
    recorded_request = [request for request in recording["requests"] if request["operation"] == "UploadPart"]
    server.replies[:] = [kit.recorded_response(request["response"]) for request in recorded_request]
    for number, part in enumerate(parts(kit, body), 1):
        backend.upload_part(KEY, "0004B9895DBBB6EC98E36A8D77C10001", number, part)
    for request, sent in zip(recorded_request, server.requests, strict=True):
        same_request(sent, request)


def test_the_error_of_a_failed_callback_contains_the_object(kit, server, connect, body):
    recording = play(kit, server, "alibabacloud-oss-v2-callback-203-v4")
    callback = Callback("http://cb.example.com/cb", "bucket=${bucket}&object=${object}")
    with pytest.raises(CallbackError) as raised:
        upload(kit, body, backend_for(connect, recording), OSSOptions(callback=callback))
    same = recording["requests"][-1]
    headers = dict(same["headers"])
    assert headers["x-oss-callback"] == server.requests[-1].header("x-oss-callback")
    result = raised.value.result
    assert result is not None
    assert (result.key, result.size, result.etag) == (KEY, WHOLE, "2E8744D9E33720E02BA508DED0C42D16-3")
    assert (result.checksum, result.callback_response) == (17556320702373757072, None)
    assert (raised.value.code, raised.value.details["ec"], raised.value.status) == (
        "CallbackFailed",
        "0007-00000203",
        203,
    )


def test_a_callback_is_sent_with_complete_as_only_one_client_does(kit, server, connect, body):
    """Another client sends it with initiate, where it has no effect."""
    recording = play(kit, server, "oss2-callback-complete-v4")
    recorded_request = next(r for r in recording["requests"] if r["operation"] == "CompleteMultipartUpload")
    headers = {name.lower(): value for name, value in recorded_request["headers"]}
    server.replies[:] = [kit.recorded_response(recorded_request["response"])]
    variables = {"x:var1": "value-1"} if "x-oss-callback-var" in headers else {}
    callback = Callback("http://cb.example.com/cb", "bucket=${bucket}&object=${object}", variables=variables)
    stored = backend_for(connect, recording).complete_upload(
        KEY, "ID", [UploadedPart(1, WHOLE, "E")], OSSOptions(callback=callback)
    )
    sent = server.requests[-1]
    assert {n: v for n, v in headers.items() if n.startswith("x-oss-callback")} == {
        n: v for n, v in sent.service_headers("x-oss-").items() if n.startswith("x-oss-callback")
    }
    assert stored.callback_response == recorded_request["response"]["body_text"].encode()


def test_a_resume_lists_the_parts_once_and_sends_what_is_missing(kit, server, connect, body):
    recording = kit.recording("alibabacloud-oss-v2-resume-v4")
    requests = recording["requests"]
    refused = next(r for r in requests if r["response"]["status"] == 403)
    listing = next(r for r in requests if r["operation"] == "ListParts")
    rest = [r for r in requests if r["phase"] == listing["phase"] and r["operation"] != "ListParts"]
    upload_id = dict(listing["query"])["uploadId"]
    backend = backend_for(connect, recording)

    server.reply(kit.recorded_response(refused["response"]))
    with pytest.raises(AccessDenied) as raised:
        backend.upload_part(KEY, upload_id, 2, parts(kit, body)[1])
    assert (raised.value.retryable, raised.value.details["ec"]) == (False, "0003-00000001")

    server.reply(kit.recorded_response(listing["response"]))
    held = list(backend.list_parts(KEY, upload_id))
    same_request(server.requests[-1], listing)
    assert held == [UploadedPart(1, 102400, "E1978FD9B93973974AB2F2D39BE4AFE9", 6224048988634414979)]

    server.reply(*[kit.recorded_response(r["response"]) for r in rest])
    missing = [backend.upload_part(KEY, upload_id, n, parts(kit, body)[n - 1]) for n in (2, 3)]
    stored = backend.complete_upload(KEY, upload_id, held + missing, ObjectOptions())
    for recorded_request, sent in zip(rest, server.requests[-3:], strict=True):
        same_request(sent, recorded_request)
    assert stored.checksum == 17556320702373757072


def test_a_lost_upload(kit, server, connect):
    recording = kit.recording("alibabacloud-oss-v2-resume-nosuchupload-v4")
    gone = next(r for r in recording["requests"] if r["response"]["status"] == 404)
    server.reply(kit.recorded_response(gone["response"]))
    with pytest.raises(UploadNotFound) as raised:
        backend_for(connect, recording).list_parts(KEY, dict(gone["query"])["uploadId"])
    assert (raised.value.code, raised.value.details["ec"]) == ("NoSuchUpload", "0017-00000244")


def lists(kit) -> list[dict[str, Any]]:
    return kit.recording("alibabacloud-oss-v2-lists-completeall-abort-v4")["requests"]


def test_the_pages_of_a_list_of_uploads(kit, server, connect):
    recorded = [
        r
        for r in lists(kit)
        if r["operation"] == "ListMultipartUploads" and ["max-uploads", "2"] in r["query"] and len(r["query"]) in (3, 5)
    ]
    server.reply(*[kit.recorded_response(r["response"]) for r in recorded[:2]])
    backend = connect(page_size=2)
    uploads = list(backend.list_uploads())
    assert [upload.key for upload in uploads] == ["a b", "a+c", "b/中", "b/中"]
    assert [upload.upload_id[-1] for upload in uploads] == ["1", "2", "3", "4"]
    for recorded_request, sent in zip(recorded[:2], server.requests, strict=True):
        assert dict(recorded_request["query"]) == sent.query
        assert sent.path == "/examplebucket/"


def test_the_pages_of_a_list_of_parts(kit, server, connect):
    recorded = [r for r in lists(kit) if r["operation"] == "ListParts" and ["max-parts", "2"] in r["query"]]
    server.reply(*[kit.recorded_response(r["response"]) for r in recorded])
    held = list(connect(page_size=2).list_parts("a b", "0004B9895DBBB6EC98E36A8D77C10001"))
    assert [(part.part_number, part.size) for part in held] == [(n, n) for n in range(1, 6)]
    assert all(part.checksum is not None and '"' not in part.etag for part in held)
    assert len(recorded) == len(server.requests) == 3
    for recorded_request, sent in zip(recorded, server.requests, strict=True):
        # The clients request the first page without a marker, or with that of part 0.
        expected = {
            name: value for name, value in recorded_request["query"] if (name, value) != ("part-number-marker", "0")
        }
        assert expected == sent.query


def test_an_abort(kit, server, connect):
    recorded_request = next(r for r in lists(kit) if r["operation"] == "AbortMultipartUpload")
    server.reply(kit.recorded_response(recorded_request["response"]))
    connect().abort_upload(
        recorded_object(recorded_request, "examplebucket"), dict(recorded_request["query"])["uploadId"]
    )
    same_request(server.requests[0], recorded_request)


@pytest.mark.parametrize("name", ["alibabacloud-oss-v2-head-404-v4", "oss2-head-404-v4", "ali-oss-head-404-v4"])
def test_head_of_a_missing_object(kit, server, connect, name):
    recording = kit.recording(name)
    recorded_request = recording["requests"][0]
    server.reply(kit.recorded_response({**recorded_request["response"], "body_text": ""}))
    assert backend_for(connect, recording).head_object("no/such key") is None
    assert (recorded_request["method"], "/examplebucket/no/such key") == (
        server.requests[0].method,
        server.requests[0].path,
    )


def odd_keys() -> list[str]:
    return [
        "plain.txt",
        "dir/sub dir/file name.bin",
        "plus+and&amp=eq.txt",
        "percent%25raw%2Fand%zz.txt",
        "unicode-中文-é-😀.txt",
        "a//b///c.txt",
        "trailing/slash/",
        "what?is=this&that#frag",
        "tilde~dash-dot._!*'();:@,$[]",
        'quote"back\\slash<>|^`{}',
        "dot/./and/../dots",
    ]


@pytest.mark.parametrize("key", odd_keys())
@pytest.mark.usefixtures("host_unsigned")
def test_unusual_keys_are_sent_as_by_the_official_client_except_for_dots(kit, server, connect, body, key):
    recording = kit.recording("alibabacloud-oss-v2-odd-keys-v4")
    recorded_request = recording["requests"][odd_keys().index(key)]
    server.reply(kit.recorded_response(recorded_request["response"]))
    options = ObjectOptions(content_type=dict(recorded_request["headers"]).get("Content-Type"))
    backend_for(connect, recording).put_object(key, body(b"x"), options)
    sent = server.requests[0]
    assert sent.path == f"/examplebucket/{key}"
    if recorded_request["signature_verified"]:
        assert sent.target == f"/examplebucket{recorded_request['target']}"
        assert dict(recorded_request["headers"])["Authorization"] == sent.header("authorization")
    else:
        assert "/dot/dots" in recorded_request["target"]
        assert sent.target == "/examplebucket/dot/./and/../dots"


@pytest.mark.usefixtures("host_unsigned")
def test_the_signature_does_not_depend_on_the_addressing_style(kit, server, connect, body):
    recording = kit.recording("alibabacloud-oss-v2-addressing-v4")
    for recorded_request in recording["requests"]:
        server.reply(kit.recorded_response(recorded_request["response"]))
    for style in ("path", "virtual", "cname"):
        backend = connect(addressing_style=style)
        backend.put_object("dir/small.txt", small(kit, body), ObjectOptions())
    assert len({request.header("authorization") for request in server.requests}) == 1
    assert dict(recording["requests"][0]["headers"])["Authorization"] == server.requests[0].header("authorization")
    assert [request.target for request in server.requests] == [
        "/examplebucket/dir/small.txt",
        "/examplebucket/dir/small.txt",
        "/dir/small.txt",
    ]


def test_v1_signs_the_documented_header_of_the_security_token(kit, server, connect, body):
    recording = play(kit, server, "ali-oss-sts-3parts-v1")
    upload(kit, body, backend_for(connect, recording))
    token = "STS.testtoken/with+chars=and==padding"
    assert [request.header("x-oss-security-token") for request in server.requests] == [token] * 5
