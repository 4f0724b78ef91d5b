"""Planned faults: which requests they apply to, and what the client sees."""

from __future__ import annotations

import http.client
import math
import socket
import time
from typing import Any

import pytest
from attrs import evolve

from partwise.backends.memory import MemoryBackend
from partwise.checksums import crc64
from partwise.errors import InvalidInput
from partwise.server import (
    CorruptBody,
    CutResponse,
    Delay,
    Fail,
    ForgetUpload,
    LoseResponse,
    NoChecksum,
    OSSServer,
    ReplaceResponse,
    ResetInRequest,
    ServerFault,
    SkewClock,
    TruncateBody,
    WrongChecksum,
)

_DATA = b"0123456789" * 20_000
_GONE = (ConnectionError, http.client.HTTPException)


def _keys(server: OSSServer) -> list[str]:
    backend = server.backend()
    assert isinstance(backend, MemoryBackend)
    return backend.keys()


# --- which requests --------------------------------------------------------------------------------------------------


def test_a_fault_applies_to_the_occurrence_that_it_names(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault("PutObject", Fail(), occurrence=2, times=2))
    assert [client("PUT", "key", body=b"x").status for _ in range(5)] == [200, 500, 500, 200, 200]


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_a_delay_that_is_not_finite_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidInput):
        Delay(seconds)
    assert Delay(0).seconds == 0


def test_a_fault_can_apply_to_all_later_requests(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault(None, Fail("ServiceUnavailable"), occurrence=2, times=None))
    assert [client("HEAD", "key").status for _ in range(4)] == [404, 503, 503, 503]


def test_a_fault_can_select_a_key_or_a_part(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault("PutObject", Fail(), key="b"), ServerFault("UploadPart", Fail("BadRequest"), part_number=2))
    assert [client("PUT", key, body=b"x").status for key in "abb"] == [200, 500, 200]
    upload_id = client.begin("c")
    assert [client.part("c", upload_id, number, b"x").status for number in (1, 2, 2)] == [200, 400, 200]


def test_a_fault_counts_from_when_it_was_planned(server: OSSServer, client: Any) -> None:
    client("HEAD", "key")
    server.plan(ServerFault("HeadObject", Fail("AccessDenied")))
    assert [client("HEAD", "key").status for _ in range(2)] == [403, 404]


def test_a_fault_that_applied_to_no_request_is_listed_as_unreached() -> None:
    fault = ServerFault("PutObject", Fail())
    with OSSServer(faults=[fault]) as server:
        assert server.unreached_faults == (fault,)


def test_a_recorded_request_names_its_faults(server: OSSServer, client: Any) -> None:
    fault = ServerFault("HeadObject", Fail("AccessDenied"))
    server.plan(fault)
    client("HEAD", "key")
    client("HEAD", "key")
    assert [(request.status, request.code, request.faults) for request in server.requests] == [
        (403, "AccessDenied", (fault,)),
        (404, "NoSuchKey", ()),
    ]


def test_several_faults_of_one_request_act_in_the_order_in_which_they_were_planned(
    server: OSSServer, client: Any
) -> None:
    server.plan(
        ServerFault("PutObject", ReplaceResponse(b"<html>busy", 503)), ServerFault("PutObject", TruncateBody(6))
    )
    reply = client("PUT", "key", body=b"x")
    assert (reply.status, reply.body) == (503, b"<html>")
    assert _keys(server) == ["key"]


@pytest.mark.parametrize(
    "plan",
    [
        lambda: ServerFault("PutObject", Fail(), occurrence=0),
        lambda: ServerFault("PutObject", Fail(), times=0),
    ],
)
def test_a_fault_that_can_apply_to_no_request_is_refused(plan: Any) -> None:
    with pytest.raises(InvalidInput, match="counted from 1"):
        plan()


def test_a_fault_of_an_unknown_operation_is_refused_when_it_is_planned(server: OSSServer) -> None:
    fault = ServerFault("PutOject", Fail())
    with pytest.raises(InvalidInput, match="no operation 'PutOject'"):
        server.plan(ServerFault("PutObject", Fail()), fault)
    with pytest.raises(InvalidInput, match="no operation 'PutOject'"):
        OSSServer(faults=[fault])
    assert server.unreached_faults == ()


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_failure_before_the_effect_stores_nothing(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault("PutObject", Fail("QpsLimitExceeded", retry_after=7)))
    reply = client("PUT", "key", body=_DATA)
    assert (reply.status, reply.code, reply.headers["Retry-After"]) == (503, "QpsLimitExceeded", "7")
    assert _keys(server) == []
    assert server.requests[0].body_length == len(_DATA)


def test_a_failure_after_the_effect_stores_the_object(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault("PutObject", Fail("InternalError", after_effect=True)))
    assert client("PUT", "key", body=_DATA).status == 500
    assert client("GET", "key").body == _DATA


def test_a_failure_can_have_any_code_and_status(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault("GetObject", Fail("Teapot", status=418, message="short and stout")))
    reply = client("GET", "key")
    assert (reply.status, reply.code, reply.text("Message")) == (418, "Teapot", "short and stout")


def test_a_failure_after_the_effect_closes_the_file_of_the_object(server: OSSServer, client: Any) -> None:
    client("PUT", "key", body=b"x")
    server.plan(
        ServerFault("GetObject", Fail(after_effect=True)), ServerFault("GetObject", ReplaceResponse(), occurrence=2)
    )
    assert [client("GET", "key").status for _ in range(3)] == [500, 502, 200]


def test_an_upload_can_be_forgotten(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault("UploadPart", ForgetUpload(), occurrence=2))
    upload_id = client.begin("key")
    assert client.part("key", upload_id, 1, b"x").status == 200
    assert client.part("key", upload_id, 2, b"x").code == "NoSuchUpload"
    assert client("GET", None, {"uploads": ""}).texts("Upload") == []


def test_forgetting_does_nothing_without_an_upload(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault("HeadObject", ForgetUpload()))
    assert client("HEAD", "key").status == 404


def test_a_wrong_clock_refuses_requests_and_shows_its_time(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault("HeadObject", SkewClock(3600)), ServerFault("HeadObject", SkewClock(-600), occurrence=2))
    refused = client("HEAD", "key")
    assert (refused.status, server.requests[0].code) == (403, "RequestTimeTooSkewed")
    server_time = time.mktime(time.strptime(refused.headers["Date"], "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone
    assert abs(server_time - time.time() - 3600) < 60
    assert client("HEAD", "key").status == 404


# --- lost, cut and late responses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [True, False])
def test_a_response_is_lost_after_the_effect(server: OSSServer, client: Any, reset: bool) -> None:
    server.plan(ServerFault("PutObject", LoseResponse(reset=reset)))
    with pytest.raises(ConnectionResetError if reset else http.client.RemoteDisconnected):
        client("PUT", "key", body=_DATA)
    assert client("GET", "key").body == _DATA
    assert server.requests[0].status is None


@pytest.mark.parametrize("after_bytes", [0, 1000])
def test_a_reset_within_the_request_stores_nothing(server: OSSServer, client: Any, after_bytes: int) -> None:
    server.plan(ServerFault("PutObject", ResetInRequest(after_bytes)))
    with pytest.raises(_GONE):
        client("PUT", "key", body=_DATA * 10)
    assert _keys(server) == []
    assert after_bytes <= server.requests[0].body_length < len(_DATA * 10)


def _raw_answer(server: OSSServer) -> bytes:
    """Return all bytes of the response, as received."""
    host, port = server.endpoint.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"GET /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.mark.parametrize("after_bytes", [1, 20, 400, 300_000, 800_000])
def test_a_response_is_cut(server: OSSServer, client: Any, after_bytes: int) -> None:
    client("PUT", "key", body=_DATA * 4)
    server.settings = evolve(server.settings, allow_anonymous=True)
    server.plan(ServerFault("GetObject", CutResponse(after_bytes, reset=False)))
    assert len(_raw_answer(server)) == after_bytes
    assert _raw_answer(server).endswith(_DATA * 4)


def test_a_cut_beyond_the_end_sends_the_whole_response(server: OSSServer, client: Any) -> None:
    client("PUT", "key", body=_DATA)
    server.plan(ServerFault("GetObject", CutResponse(10**9, reset=False)))
    assert client("GET", "key").body == _DATA


def test_a_response_is_cut_by_a_reset(server: OSSServer, client: Any) -> None:
    client("PUT", "key", body=_DATA)
    server.plan(ServerFault("GetObject", CutResponse(20, reset=True)))
    with pytest.raises(ConnectionResetError):
        client("GET", "key")
    assert server.requests[-1].status == 200


def test_a_delayed_response_is_complete(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault("PutObject", Delay(0.01)), ServerFault("GetObject", Delay(0.01, after_effect=True)))
    assert client("PUT", "key", body=b"x").status == 200
    assert client("GET", "key").body == b"x"


@pytest.mark.parametrize("after_effect", [True, False])
def test_stopping_the_server_ends_a_delay(after_effect: bool) -> None:
    with OSSServer(faults=[ServerFault("HeadObject", Delay(600, after_effect=after_effect))]) as server:
        connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=20)
        connection.request("HEAD", "/examplebucket/key")
        while server.unreached_faults:
            time.sleep(0.001)
    with pytest.raises(_GONE):
        connection.getresponse()
    connection.close()
    assert len(server.requests) == 1


# --- wrong responses and wrong data ----------------------------------------------------------------------------------


@pytest.mark.parametrize("before_effect", [True, False])
def test_a_proxy_responds_instead_of_the_service(server: OSSServer, client: Any, before_effect: bool) -> None:
    server.plan(ServerFault("PutObject", ReplaceResponse(b"<html>busy", 503, before_effect=before_effect)))
    reply = client("PUT", "key", body=b"x")
    assert (reply.status, reply.body, reply.headers["Content-Type"]) == (503, b"<html>busy", "text/html")
    assert reply.headers["x-oss-request-id"] is None
    assert _keys(server) == ([] if before_effect else ["key"])


def test_a_document_is_truncated(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault("InitiateMultipartUpload", TruncateBody(80)))
    reply = client("POST", "key", {"uploads": ""})
    assert (reply.status, len(reply.body), reply.headers["Content-Length"]) == (200, 80, "80")


def test_the_body_of_an_object_is_not_truncated(server: OSSServer, client: Any) -> None:
    client("PUT", "key", body=b"data")
    server.plan(ServerFault("GetObject", TruncateBody(1)))
    assert client("GET", "key").body == b"data"


def test_a_wrong_checksum_is_reported_for_correct_data(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault("PutObject", WrongChecksum()))
    assert client("PUT", "key", body=b"data").headers["x-oss-hash-crc64ecma"] == str(crc64(b"data") ^ 1)
    assert client("HEAD", "key").headers["x-oss-hash-crc64ecma"] == str(crc64(b"data"))


def test_checksums_can_be_suppressed_by_a_fault(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault("UploadPart", NoChecksum()), ServerFault("ListParts", NoChecksum()))
    upload_id = client.begin("key")
    assert client.part("key", upload_id, 1, b"x").headers["x-oss-hash-crc64ecma"] is None
    assert client("GET", "key", {"uploadId": upload_id}).texts("Part/HashCrc64ecma") == []
    assert client("GET", "key", {"uploadId": upload_id}).texts("Part/HashCrc64ecma") == [str(crc64(b"x"))]


def test_a_byte_can_be_corrupted_before_it_is_stored(server: OSSServer, client: Any) -> None:
    server.plan(ServerFault("PutObject", CorruptBody(at=150_000)))
    reply = client("PUT", "key", body=_DATA)
    stored = client("GET", "key").body
    assert [i for i in range(len(_DATA)) if stored[i] != _DATA[i]] == [150_000]
    assert reply.headers["x-oss-hash-crc64ecma"] == str(crc64(stored))
