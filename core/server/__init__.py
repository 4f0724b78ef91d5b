"""
HTTP servers that emulate Alibaba Cloud OSS and Amazon S3.

    from partwise.server import LoseResponse, OSSServer, ServerFault

    with OSSServer(faults=[ServerFault("CompleteMultipartUpload", LoseResponse())]) as server:
        ...

They are for tests: of this library's clients, of programs that use it, and of clients in any language. They implement
all operations of multipart uploads, and the others that such tests need; they refuse everything else. They are as
strict as the services: signatures, clocks, checksums, part sizes, ETags, order of parts. Faults are planned as values
(`ServerFault`), and the requests that arrived are recorded (`OSSServer.requests`).

Objects are stored by any `MultipartBackend`. Properties that a backend does not store, such as a content type, the
server keeps in memory while it runs.

The modules of this package implement the server without a storage protocol; ``partwise.server.oss`` and
``partwise.server.s3`` add one each, as an implementation of ``partwise.server.dialect.ServerDialect``. Needs h11:
``pip install "partwise[server]"``.
"""

from partwise._extras import missing_module

try:
    import h11  # noqa: F401  # the first of all modules, to say what is missing, and how to get it
except ModuleNotFoundError as error:
    if error.name != "h11":
        raise
    raise missing_module("partwise.server", error, "server") from error

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
from partwise.server.oss.server import OSSServer
from partwise.server.s3.server import S3Server
from partwise.server.serving import SERVERS, serve_directory
from partwise.server.settings import AccessKey, ServerSettings

__all__ = ["SERVERS", "OSSServer", "S3Server", "serve_directory", "AccessKey", "ServerSettings", "ReceivedRequest"]
__all__ += ["ObjectAccess"]
__all__ += ["ServerFault", "Effect", "Exchange", "ServerResponse", "ServiceError"]
__all__ += ["CorruptBody", "CutResponse", "Delay", "Fail", "ForgetUpload", "LoseResponse", "NoChecksum"]
__all__ += ["ReplaceResponse", "ResetInRequest", "SkewClock", "TruncateBody", "WrongChecksum"]
