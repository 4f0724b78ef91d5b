"""The S3 server: the one module that puts the server and the dialect together."""

from __future__ import annotations

from types import MappingProxyType

from partwise.model import MIB
from partwise.server.s3.dialect import S3Dialect
from partwise.server.server import StorageServer
from partwise.server.settings import ServerSettings


def default_settings() -> ServerSettings:
    """Return the settings of a server that is given none: those of S3 in us-east-1."""
    return ServerSettings(region="us-east-1", min_part_size=5 * MIB)


class S3Server(StorageServer):
    """
    An HTTP server that emulates Amazon S3, over any `MultipartBackend`.

        with S3Server() as server:
            client = boto3.client("s3", endpoint_url=server.endpoint, region_name=server.region, ...)

    It checks requests as the service does: signatures, checksums in headers and trailers, conditions, the order and
    sizes of parts. It injects planned faults. Requests to an IP address or to ``localhost`` are path-style. For any
    other host name, the first label is the bucket, as in ``examplebucket.localhost``. Host names that are not loopback
    must be allowed by `ServerSettings.hosts`. A bucket whose name has dots is addressed by the path only.

    Its arguments are those of `OSSServer`, but `ServerSettings` has other defaults: the region ``us-east-1``, and parts
    of at least 5 MiB.
    """

    dialect = S3Dialect()
    variables = MappingProxyType(
        {
            "endpoint": "AWS_ENDPOINT_URL_S3",
            "region": "AWS_REGION",
            "access_key_id": "AWS_ACCESS_KEY_ID",
            "access_key_secret": "AWS_SECRET_ACCESS_KEY",
        }
    )
    default_settings = staticmethod(default_settings)
