"""
Recorded requests of three official SDKs, sent again byte for byte.

The clock stands where it stood then, upload ids and failures are those of the recording; what comes back is compared
with what the recording server answered.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from attrs import evolve

from partwise.backends.memory import MemoryBackend
from partwise.model import PartLimits
from partwise.server import (
    AccessKey,
    Fail,
    ForgetUpload,
    OSSServer,
    ServerFault,
    ServerSettings,
    SkewClock,
)

_FILES = sorted((Path(__file__).parent.parent / "data" / "oss" / "wire").glob("*.json"))


class _RecordedIds(MemoryBackend):
    """Gives uploads the ids of the recording."""

    def __init__(self, clock: Any) -> None:
        # The recording server had no minimum part size.
        super().__init__(clock=clock, limits=PartLimits(min_part_size=1))
        self._real: dict[str, str] = {}

    def _of(self, upload_id: str) -> str:
        return self._real.get(upload_id, upload_id)

    def initiate_upload(self, key: str, options: Any) -> str:
        shown = f"0004B9895DBBB6EC98E36A8D77C1{len(self._real) + 1:04}"
        self._real[shown] = super().initiate_upload(key, options)
        return shown

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Any) -> Any:
        return super().upload_part(key, self._of(upload_id), part_number, body)

    def list_parts(self, key: str, upload_id: str) -> Any:
        return super().list_parts(key, self._of(upload_id))

    def complete_upload(self, key: str, upload_id: str, parts: Any, options: Any) -> Any:
        return super().complete_upload(key, self._of(upload_id), parts, options)

    def abort_upload(self, key: str, upload_id: str) -> None:
        super().abort_upload(key, self._of(upload_id))

    def list_uploads(self, prefix: str = "") -> Any:
        shown = {real: shown for shown, real in self._real.items()}
        found = [evolve(upload, upload_id=shown[upload.upload_id]) for upload in super().list_uploads(prefix)]
        return sorted(found, key=lambda upload: (upload.key, upload.upload_id))


def _stream(seed: str, length: int) -> bytes:
    blocks = range(length // 32 + 1)
    return b"".join(hashlib.sha256(seed.encode() + index.to_bytes(8, "big")).digest() for index in blocks)[:length]


_BODIES = {
    hashlib.sha256(data).hexdigest(): data
    for data in (
        _stream("part-1", 102_400),
        _stream("part-2", 102_400),
        _stream("part-3", 12_345),
        _stream("small", 5_000),
        *(b"x" * length for length in range(6)),
    )
}


def _body(recorded: dict[str, Any]) -> bytes:
    text = recorded.get("text")
    return _BODIES[recorded["sha256"]] if text is None else text.encode()


def _faults(requests: Iterable[dict[str, Any]]) -> list[ServerFault]:
    """The faults that the recording server injected."""
    counts: Counter[str] = Counter()
    faults = []
    for request in requests:
        operation, status = request["operation"], request["response"]["status"]
        counts[operation] += 1
        if status >= 400 and request["method"] != "HEAD":
            code = ET.fromstring(request["response"]["body_text"]).findtext("Code") or ""
            made_up = {"NoSuchUpload": ForgetUpload(), "RequestTimeTooSkewed": SkewClock(3600)}
            faults.append(ServerFault(operation, made_up.get(code, Fail(code)), occurrence=counts[operation]))
    return faults


def _settings(recording: dict[str, Any]) -> ServerSettings:
    tokens = {value for request in recording["requests"] for name, value in request["headers"] if "token" in name}
    key = AccessKey(**recording["credentials"], security_token=tokens.pop() if tokens else None)
    clock = datetime.fromisoformat(recording["clock"]).timestamp()
    hosts = {value for request in recording["requests"] for name, value in request["headers"] if name.lower() == "host"}
    return ServerSettings(
        access_keys=[key],
        min_part_size=1,
        clock=lambda: clock,
        cnames={host: "examplebucket" for host in hosts if "cname" in host},
        hosts=hosts,
        path_style_hosts={host for host in hosts if host.startswith("oss-")},
    )


def _facts(document: str) -> list[tuple[str, str]]:
    """Return the elements of a document that do not depend on the server."""
    chosen = {"Location", "StorageClass", "Message", "RequestId", "RecommendDoc", "HostId", "EC"}
    return sorted(
        (element.tag, (element.text or "").strip())
        for element in ET.fromstring(document).iter()
        if element.tag not in chosen and not len(element)
    )


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name.removesuffix(".http.json"))
def test_the_responses_to_a_recording_are_those_recorded(path: Path) -> None:
    recording = json.loads(path.read_text("utf-8"))
    settings = _settings(recording)
    with OSSServer(
        {"examplebucket": _RecordedIds(settings.clock)}, settings=settings, faults=_faults(recording["requests"])
    ) as server:
        connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=20)
        with contextlib.closing(connection):
            for request in recording["requests"]:
                connection.putrequest(request["method"], request["target"], skip_host=True, skip_accept_encoding=True)
                for name, value in request["headers"]:
                    connection.putheader(name, value.encode())
                connection.endheaders(_body(request["body"]))
                response = connection.getresponse()
                _compare(request, response, response.read())
        assert server.unreached_faults == ()


def _compare(request: dict[str, Any], response: http.client.HTTPResponse, content: bytes) -> None:
    recorded = request["response"]
    if not request["signature_verified"]:
        assert (response.status, b"SignatureDoesNotMatch" in content) == (403, True)
        return
    sent = {name.lower() for name, _ in request["headers"]}
    if request["operation"] == "CompleteMultipartUpload" and "x-oss-callback" in sent:
        # The application server of the recording is not on this machine, so it is not called.
        assert (response.status, b"<Code>CallbackFailed</Code>" in content) == (203, True)
    else:
        assert response.status == recorded["status"], content
        if content.startswith(b"<"):
            assert _facts(content.decode()) == _facts(recorded["body_text"])
    headers = {name.lower(): value for name, value in recorded["headers"]}
    for name in ("etag", "content-md5", "server", "x-oss-server-side-encryption"):
        if name in headers:
            assert response.headers[name] == headers[name], name
