"""
An HTTP server that emulates Alibaba Cloud OSS.

    from partwise.server import LoseResponse, OSSServer, ServerFault

    with OSSServer(faults=[ServerFault("CompleteMultipartUpload", LoseResponse())]) as server:
        ...

It is for tests: of this library's client, of programs that use it, and of clients in any language. It implements all
operations of multipart uploads, and the others that such tests need; it refuses everything else. It is as strict as the
service: signatures, clocks, part sizes, ETags, order of parts. Faults are planned as values (`ServerFault`), and the
requests that arrived are recorded (`OSSServer.requests`).

Objects are stored by any `MultipartBackend`. Properties that a backend does not store, such as a content type, the
server keeps in memory while it runs.

The modules of this package implement the server without a storage protocol; ``partwise.server.oss`` adds the protocol
of OSS, as an implementation of ``partwise.server.dialect.Dialect``. Needs h11: ``pip install "partwise[server]"``.
"""

from partwise.server.access import ObjectAccess
from partwise.server.errors import ServiceError
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
from partwise.server.oss.server import OSSServer, serve_directory
from partwise.server.s3.server import S3Server
from partwise.server.settings import AccessKey, ServerSettings

__all__ = ["OSSServer", "S3Server", "serve_directory", "AccessKey", "ServerSettings", "ReceivedRequest", "ObjectAccess"]
__all__ += ["ServerFault", "Effect", "Exchange", "ServerResponse", "ServiceError"]
__all__ += ["CorruptBody", "CutResponse", "Delay", "Fail", "ForgetUpload", "LoseResponse", "NoChecksum"]
__all__ += ["ReplaceResponse", "ResetInRequest", "SkewClock", "TruncateBody", "WrongChecksum"]
