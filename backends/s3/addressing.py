"""
Resolve a bucket and an endpoint to scheme, host and path.

Pure. The bucket is a name, or the ARN of an access point. The endpoint is that of a region of AWS, or any server that
speaks S3, with or without a path.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from attrs import define

from partwise._validation import brief, check_string, without_password
from partwise.backends._http.addresses import DEFAULT_PORTS, ServerAddress, authority, is_ip, parse_endpoint
from partwise.backends._http.signatures import Query, encoded_key, encoded_query
from partwise.errors import InvalidInput, InvalidKey

ADDRESSING_STYLES = ("auto", "virtual", "path")

KEY_BYTES_MAX = 1024

#: The region of signatures where none is known: that of the endpoint without a region, and what servers that have no
#: regions expect.
DEFAULT_REGION = "us-east-1"

#: What S3 accepts today, and can be part of a host name.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_NOT_IN_A_HOST = re.compile(r"\.\.|\.-|-\.|\d+\.\d+\.\d+\.\d+")

#: What old buckets and other servers may have; their names can only be in a path.
_OTHER_BUCKET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,253}[A-Za-z0-9_]")

_DIRECTORY_BUCKET = re.compile(r".+--.+-.+--x-s3")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]*")

_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):(?P<service>s3|s3-outposts):(?P<region>[a-z0-9-]+):(?P<account>\d{12}):"
    r"(outpost[/:](?P<outpost>op-[a-z0-9]+)[/:])?accesspoint[/:](?P<name>[a-z0-9]([a-z0-9-]*[a-z0-9])?)"
)

#: The domains of AWS, by the beginning of the names of their regions.
_DOMAINS = (
    ("cn-", "amazonaws.com.cn"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("us-iso-", "c2s.ic.gov"),
    ("eusc-", "amazonaws.eu"),
    ("", "amazonaws.com"),
)
_AWS = re.compile(
    r"(?:(?P<endpoint>[a-z0-9-]+)\.)?s3(?:-fips)?(?:[.-]dualstack)?(?:[.-](?P<region>[a-z]{2,}-[a-z0-9-]+?))?"
    r"(?P<vpc>\.vpce)?\.(?P<domain>amazonaws\.com(?:\.cn)?|amazonaws\.eu|sc2s\.sgov\.gov|csp\.hci\.ic\.gov"
    r"|cloud\.adc-e\.uk|c2s\.ic\.gov)"
)
_AWS_ACCELERATED = re.compile(r"s3-accelerate(\.dualstack)?\.amazonaws\.com")


@define(frozen=True)
class S3Address:
    """How to reach a bucket."""

    bucket: str  # the name of the bucket or of the access point
    region: str  # the region that requests are signed for
    service: str  # the service that requests are signed for: ``s3``, or ``s3-outposts``
    scheme: str
    host: str  # the host to connect to, without brackets if it is an IPv6 address
    port: int
    path: str  # the prefix of every path, encoded: ``/`` or ``/BUCKET/``
    location: str  # a URL of the bucket that does not depend on the endpoint

    @property
    def authority(self) -> str:
        """
        The host as in a URL and in the Host header.

        It has the port, unless that is the scheme's default.
        """
        return authority(self.host, None if self.port == DEFAULT_PORTS[self.scheme] else self.port)

    def path_of(self, key: str | None) -> str:
        """
        Return the path of a request, encoded.

        Dot segments and repeated slashes of the key are kept: normalising them would name another object.
        """
        return self.path if key is None else self.path + encoded_key(key)

    def target(self, key: str | None, query: Query) -> str:
        """Return the request target: path and query, encoded."""
        path = self.path_of(key)
        return f"{path}?{encoded_query(query)}" if query else path


def resolve(
    bucket: str,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    addressing_style: str = "auto",
    dual_stack: bool = False,
    accelerate: bool = False,
) -> S3Address:
    """
    Resolve the address of a bucket.

    Args:
        bucket: the bucket's name, or the ARN of an access point.
        endpoint: the host of a region, or a server that speaks S3; with or without scheme (then https), port and path.
            None means the endpoint of `region` in AWS.
        region: the region; None derives it from the ARN or the endpoint, and is otherwise ``us-east-1``.
        addressing_style: ``virtual``: the bucket is part of the host, if its name allows it: with a dot it fits no
            certificate; ``path``: it is the first segment of the path; ``auto``: virtual in AWS, path elsewhere.
        dual_stack: use the endpoint with IPv6 and IPv4 addresses.
        accelerate: use the endpoint of transfer acceleration.

    Raises:
        InvalidInput: an argument is invalid, or two of them exclude each other.
    """
    if addressing_style not in ADDRESSING_STYLES:
        raise InvalidInput(
            f"the addressing style must be one of {', '.join(ADDRESSING_STYLES)}, not {brief(addressing_style)}"
        )
    region = None if region is None else checked_region(region)
    check_string("bucket", bucket)
    if endpoint is not None and (dual_stack or accelerate):
        raise InvalidInput("dual_stack and accelerate are for the endpoints of AWS, and exclude an endpoint")
    if bucket.startswith("arn:"):
        return _access_point(
            bucket, endpoint=endpoint, style=addressing_style, dual_stack=dual_stack, accelerate=accelerate
        )
    _check_bucket(bucket)
    fits_in_host = _BUCKET.fullmatch(bucket) is not None and not _NOT_IN_A_HOST.search(bucket)
    if endpoint is None:
        return _in_aws(
            bucket,
            region or DEFAULT_REGION,
            style=addressing_style,
            fits_in_host=fits_in_host,
            dual_stack=dual_stack,
            accelerate=accelerate,
        )
    server = _parsed(endpoint)
    scheme, host, prefix = server.scheme, server.host, server.path
    aws = _AWS.fullmatch(host)
    if aws and aws["endpoint"] == bucket:
        raise InvalidInput(
            f"the endpoint {host} includes the bucket, which is prepended automatically: the endpoint is "
            f"{host.removeprefix(f'{bucket}.')}",
            hint="Pass that {endpoint}",
        )
    in_domain = (aws is not None and aws["endpoint"] is None) or _AWS_ACCELERATED.fullmatch(host) is not None
    wanted = addressing_style == "virtual" or (addressing_style == "auto" and in_domain and not prefix)
    virtual = wanted and fits_in_host and not _breaks_tls(bucket, scheme)
    if virtual and (is_ip(host) or prefix):
        why = "an IP address" if is_ip(host) else "an endpoint with a path"
        raise InvalidInput(f"the bucket can't be part of the host of {why}", hint="Pass {addressing_style=path}")
    own_region = aws["region"] if aws is not None else None
    return S3Address(
        bucket=bucket,
        region=region or own_region or DEFAULT_REGION,
        service="s3",
        scheme=scheme,
        host=f"{bucket}.{host}" if virtual else host,
        port=server.port,
        path=f"{prefix}/" if virtual else f"{prefix}/{quote(bucket, safe='')}/",
        location=_location(bucket, aws, server, region or own_region or DEFAULT_REGION),
    )


def check_key(key: str) -> str:
    """
    Return the key if it is valid.

    Raises:
        InvalidKey: it is not 1 to 1,024 bytes of UTF-8.
    """
    size = len(check_string("a key", key, InvalidKey).encode())
    if not 1 <= size <= KEY_BYTES_MAX:
        raise InvalidKey(f"a key has 1 to {KEY_BYTES_MAX} bytes of UTF-8; {key!r:.60} has {size}")
    return key


def host_of(endpoint: str) -> str:
    """Return the host of an endpoint; raise InvalidInput if it is invalid."""
    return _parsed(endpoint).host


def regional_host(service: str, region: str) -> str:
    """
    Return the host of a service of AWS in a region.

    Raises:
        InvalidInput: the region is invalid. It could lead to another host.
    """
    region = checked_region(region)
    return f"{service}.{region}.{_domain(region)}"


def _check_bucket(bucket: str) -> None:
    if not (_BUCKET.fullmatch(bucket) or _OTHER_BUCKET.fullmatch(bucket)):
        raise InvalidInput(
            f"{brief(without_password(bucket))} is not a valid bucket name: it has 3 to 63 lower-case letters, "
            "digits, dots and hyphens, and begins and ends with a letter or digit"
        )
    if _DIRECTORY_BUCKET.fullmatch(bucket):
        raise InvalidInput(f"{bucket!r} is a directory bucket (S3 Express One Zone), which is not supported")


def _in_aws(
    bucket: str, region: str, *, style: str, fits_in_host: bool, dual_stack: bool, accelerate: bool
) -> S3Address:
    domain = _domain(region)
    virtual = style != "path" and fits_in_host and not _breaks_tls(bucket, "https")
    host = f"s3.dualstack.{region}.{domain}" if dual_stack else f"s3.{region}.{domain}"
    if accelerate:
        if not virtual or "." in bucket:
            raise InvalidInput(
                f"transfer acceleration requires a bucket name without dots in the host, unlike {bucket!r}",
                hint="Leave {accelerate} out",
            )
        host = f"s3-accelerate.dualstack.{domain}" if dual_stack else f"s3-accelerate.{domain}"
    return S3Address(
        bucket=bucket,
        region=region,
        service="s3",
        scheme="https",
        host=f"{bucket}.{host}" if virtual else host,
        port=443,
        path="/" if virtual else f"/{quote(bucket, safe='')}/",
        location=_aws_location(bucket, region, domain),
    )


def _access_point(arn: str, *, endpoint: str | None, style: str, dual_stack: bool, accelerate: bool) -> S3Address:
    found = _ARN.fullmatch(arn)
    if found is None or (found["service"] == "s3-outposts") != (found["outpost"] is not None):
        raise InvalidInput(
            f"{brief(arn)} is not the ARN of an access point of one region, such as "
            "arn:aws:s3:eu-west-1:123456789012:accesspoint/name"
        )
    if style == "path" or accelerate or (dual_stack and found["outpost"]):
        raise InvalidInput(
            "an access point is addressed by its host, without transfer acceleration; one of an outpost also without "
            "dual-stack",
            hint="Leave {addressing_style} out",
        )
    region, name = found["region"], f"{found['name']}-{found['account']}"
    label = f"{name}.{found['outpost']}" if found["outpost"] else name
    if found["outpost"]:
        own = f"s3-outposts.{region}.{_domain(region)}"
    else:
        own = f"s3-accesspoint{'.dualstack' if dual_stack else ''}.{region}.{_domain(region)}"
    server = ServerAddress("https", own, 443, "") if endpoint is None else _parsed(endpoint)
    if server.path or is_ip(server.host):
        raise InvalidInput(f"the endpoint {server.host} can't have an access point: it has a path, or is an IP address")
    return S3Address(
        bucket=name,
        region=region,
        service=found["service"],
        scheme=server.scheme,
        host=f"{label}.{server.host}",
        port=server.port,
        path="/",
        location=f"s3://{label}@{found['service']}.{region}.{_domain(region)}",
    )


def _breaks_tls(bucket: str, scheme: str) -> bool:
    """
    Return whether no certificate is valid for the bucket's host.

    A wildcard stands for one label.
    """
    return scheme == "https" and "." in bucket


def _domain(region: str) -> str:
    return next(domain for start, domain in _DOMAINS if region.startswith(start))


def checked_region(region: str) -> str:
    """Return a region; raise InvalidInput if it is invalid."""
    check_string("region", region)
    region = region.strip()
    if not _REGION.fullmatch(region):
        raise InvalidInput(f"{region!r} is not a valid region, such as eu-west-1")
    return region


def _parsed(endpoint: str) -> ServerAddress:
    return parse_endpoint(endpoint, "https://s3.example.com")


def _location(bucket: str, aws: re.Match[str] | None, server: ServerAddress, region: str) -> str:
    # All endpoints of AWS (of a region, dual-stack, accelerated, private) reach the same bucket, whose name is unique
    # in its partition: an upload that was started through one can be resumed through another. That is unknown for other
    # servers, so they are identified by host, port and path; http and https on their default ports are the same.
    if aws is not None:
        return _aws_location(bucket, region, aws["domain"])
    if _AWS_ACCELERATED.fullmatch(server.host):
        return _aws_location(bucket, region, "amazonaws.com")
    return f"s3://{bucket}@{authority(server.host, server.port_shown)}{server.path}"


def _aws_location(bucket: str, region: str, domain: str) -> str:
    # GovCloud is a partition with buckets of its own, but has no domain of its own.
    return f"s3://{bucket}@{'us-gov.' if region.startswith('us-gov-') else ''}{domain}"
