"""The OSS server: the one module that puts the server and the dialect together."""

from __future__ import annotations

from types import MappingProxyType

from partwise.server.oss.dialect import OSSDialect
from partwise.server.server import StorageServer


class OSSServer(StorageServer):
    """
    An HTTP server that emulates Alibaba Cloud OSS, over any `MultipartBackend`.

        with OSSServer() as server:
            client = oss2.Bucket(auth, server.endpoint, "examplebucket", region=server.region)

    It checks requests as the service does, signatures included, and injects planned faults. Requests to an IP address
    or to ``localhost`` are path-style. For any other host name, the first label is the bucket, as in
    ``examplebucket.localhost``. Host names that are not loopback must be allowed by `ServerSettings.hosts`.

    Each server has its own random access key, unless `settings` has access keys.

    Args:
        buckets: the backend of each bucket, by name; the caller closes them. None: ``examplebucket`` in memory, unless
            a `directory` is given.
        directory: every folder in it is a bucket. It is created if it does not exist. Excludes `buckets`.
        settings: see `ServerSettings`.
        faults: the planned faults; see `ServerFault`.
        host: the address to listen on. An address that is not loopback causes a warning.
        port: 0: any free port.

    Raises:
        InvalidInput: both `buckets` and `directory` are given, the port is out of range, `settings` allows anonymous
            requests and `host` is not loopback, or a fault is for an operation that the server does not have.
    """

    dialect = OSSDialect()
    variables = MappingProxyType(
        {
            "endpoint": "OSS_ENDPOINT",
            "region": "OSS_REGION",
            "access_key_id": "OSS_ACCESS_KEY_ID",
            "access_key_secret": "OSS_ACCESS_KEY_SECRET",
        }
    )
