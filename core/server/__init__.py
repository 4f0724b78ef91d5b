"""
An HTTP server that clients of Alibaba Cloud OSS take for OSS.

    from partwise.server import LoseResponse, OSSServer, ServerFault

    with OSSServer(faults=[ServerFault("CompleteMultipartUpload", LoseResponse())]) as server:
        ...

It is for tests: of this library's own client, of programs that use it, and of clients in any language. It speaks all
of multipart uploads and as much of the rest as such tests need, refuses what it does not know, and is strict where the
service is strict: signatures, clocks, part sizes, ETags, order. What shall go wrong is planned as values
(`ServerFault`); what came in is on record (`OSSServer.requests`).

Behind it is any `MultipartBackend`. What that does not keep, such as a content type, the server remembers while it
runs.
"""

from partwise.server.exchange import Exchange, ReceivedRequest
from partwise.server.faults import (
    CorruptBody,
    CutResponse,
    Delay,
    Effect,
    Fail,
    ForgetUpload,
    LoseResponse,
    NoChecksum,
    ReplaceResponse,
    ResetInRequest,
    ServerFault,
    SkewClock,
    TruncateBody,
    WrongChecksum,
)
from partwise.server.messages import ServerResponse
from partwise.server.oss.access import ObjectAccess
from partwise.server.server import OSSServer, serve_directory
from partwise.server.settings import AccessKey, ServerSettings

__all__ = [
    # the server
    "OSSServer",
    "serve_directory",
    "AccessKey",
    "ServerSettings",
    "ReceivedRequest",
    "ObjectAccess",
    # what shall go wrong
    "ServerFault",
    "Effect",
    "Exchange",
    "ServerResponse",
    "CorruptBody",
    "CutResponse",
    "Delay",
    "Fail",
    "ForgetUpload",
    "LoseResponse",
    "NoChecksum",
    "ReplaceResponse",
    "ResetInRequest",
    "SkewClock",
    "TruncateBody",
    "WrongChecksum",
]
