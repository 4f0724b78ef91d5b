"""
The OSS backend: nine operations, each of which is one request.

A list is one request per page.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import pickle
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Self

from attrs import define, evolve, field

from partwise._closing import Closing
from partwise._validation import brief, check_callable, check_path
from partwise.backends._argument_checks import check_call, check_part, check_put
from partwise.backends._http.addresses import is_loopback
from partwise.backends._http.client import HTTPClient
from partwise.backends._http.clock import ServerClock
from partwise.backends._http.connections import Endpoint
from partwise.backends._http.credentials import CredentialsCache
from partwise.backends._http.headers import check_header_value
from partwise.backends._http.http1 import Response
from partwise.backends._http.option_headers import RequestKind
from partwise.backends._http.proxies import Proxy, environment_proxy
from partwise.backends._http.signed_client import SignedRequest, SigningContext
from partwise.backends._http.tls_pump import tls_context
from partwise.backends._http.xml import (
    CompleteDocument,
    parse_completed,
    parse_etag,
    parse_initiated,
    parse_uploads,
)
from partwise.backends.oss.addressing import check_key, resolve
from partwise.backends.oss.client import OSSClient
from partwise.backends.oss.credentials import as_provider
from partwise.backends.oss.errors import callback_error_for
from partwise.backends.oss.options import CAPABILITIES, OPTION_TABLE, OSSOptions, callback_of
from partwise.backends.oss.responses import READER, checksum_of, verified_checksum
from partwise.backends.oss.xml import parse_parts
from partwise.bodies import exact_chunks
from partwise.content_types import guess_content_type
from partwise.errors import BackendClosed, BackendError, InvalidInput, PartRejected, UploadNotFound
from partwise.model import GIB, KIB, Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart
from partwise.paging import Entry, Marker, ResultPage, list_pages
from partwise.protocols import Body

LIMITS = PartLimits(
    min_part_size=100 * KIB,
    max_part_size=5 * GIB,
    max_parts=10_000,
    max_object_size=10_000 * 5 * GIB,
    max_put_size=5 * GIB,
)

SIGNATURE_VERSIONS = ("v4", "v1")

_PAGE_SIZE_MAX = 1000

#: Uploads in one list. The caller may have to keep them all, and a server that reports more and more is not a bucket. A
#: bucket that really has more can be listed by prefixes.
_UPLOADS_MAX = 100_000

#: Seconds. A larger value is a mistake, or in milliseconds.
_TIMEOUT_MAX = 86_400

_CONNECTIONS_MAX = 10_000

_NO_OPTIONS = OSSOptions()

_log = logging.getLogger("partwise.backends.oss")


@define(frozen=True)
class _PickleState:
    """
    How a backend was created, to create it again in another process.

    Backends from the same call of the constructor have equal states, however often they were pickled.
    """

    kind: type[OSSBackend]
    identity: str
    settings: dict[str, Any] = field(eq=False, repr=False)


# A process pool unpickles a backend for each part. All copies share the connections and the credentials of one backend;
# otherwise each part would require a TLS handshake, and perhaps a call of the credentials provider. The connections of
# a backend that is evicted from this cache are closed when its last handle is garbage-collected.
@lru_cache(maxsize=8)
def _rebuild(state: _PickleState) -> OSSBackend:
    backend = state.kind(**state.settings)
    backend._pickle_state = state  # noqa: SLF001  # so that a copy of a copy is equal, too
    return backend


def _unpickle(state: _PickleState, options: ObjectOptions | None) -> OSSBackend:
    return _rebuild(state).with_request_options(options or _NO_OPTIONS)


class OSSBackend(Closing):
    """
    A bucket of Alibaba Cloud OSS.

    An upload that was started through one endpoint of a bucket (from inside or outside its region, accelerated, by http
    or https) can be resumed through another: `location` identifies the bucket, not the endpoint. A custom domain is a
    location of its own, since its bucket is unknown.

    The backend can be pickled if its credentials can, which are then part of the pickle. In another process, all copies
    of one backend share their connections.

    Args:
        bucket: the bucket's name.
        endpoint: the region's host, a custom domain (with ``addressing_style="cname"``) or a test server, with or
            without ``https://`` or ``http://``; the default scheme is https. None means ``oss-REGION.aliyuncs.com``.
        region: the region's id, such as ``cn-hangzhou``; None derives it from the endpoint.
        credentials: `Credentials`; a function that returns them, which is called again before they expire; an object
            with `get_credential()` as in the package alibabacloud-credentials, or with `get_credentials()`; or a
            provider. None means the environment.
        signature_version: ``"v4"``, or ``"v1"`` for old services.
        addressing_style: ``"virtual"``, ``"path"`` or ``"cname"``; for an IP address and for localhost, virtual means
            path.
        connect_timeout: seconds to make a connection, for all addresses of the name together.
        read_timeout: seconds for which a connection may send nothing, or accept nothing.
        ca_bundle: a file or directory of certificate authorities to trust instead of the system's.
        proxy: a proxy, ``http://[user:password@]host:port``; None means that of the environment, as for curl
            (`https_proxy`, `http_proxy`, `all_proxy`, except for the hosts in `no_proxy` and for this machine); ``""``
            connects directly.
        max_connections: how many idle connections to keep; the number of workers is enough.
        page_size: how many entries to request per page of a list, 1 to 1000.
        user_agent: the User-Agent header; None means partwise and its version.
        clock: the local clock, in seconds since 1970.

    Raises:
        InvalidInput: an argument is invalid, or the region is unknown.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        credentials: object = None,
        signature_version: str = "v4",
        addressing_style: str = "virtual",
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        ca_bundle: str | None = None,
        proxy: str | None = None,
        max_connections: int = 128,
        page_size: int = _PAGE_SIZE_MAX,
        user_agent: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if signature_version not in SIGNATURE_VERSIONS:
            raise InvalidInput(
                f"the signature version must be {' or '.join(SIGNATURE_VERSIONS)}, not {brief(signature_version)}"
            )
        for name, seconds in (("connect_timeout", connect_timeout), ("read_timeout", read_timeout)):
            if type(seconds) not in (int, float) or not 0 < seconds <= _TIMEOUT_MAX:
                raise InvalidInput(
                    f"{name} must be a number of seconds above 0, up to {_TIMEOUT_MAX}, not {brief(seconds)}"
                )
        for name, number, maximum in (
            ("max_connections", max_connections, _CONNECTIONS_MAX),
            ("page_size", page_size, _PAGE_SIZE_MAX),
        ):
            if type(number) is not int or not 1 <= number <= maximum:
                raise InvalidInput(f"{name} must be a number from 1 to {maximum}, not {brief(number)}")
        if proxy is not None and not isinstance(proxy, str):
            raise InvalidInput(f"proxy must be a URL, not {type(proxy).__name__}")
        if ca_bundle is not None:
            ca_bundle = check_path("ca_bundle", ca_bundle, str)
        check_callable("clock", clock)
        self._address = resolve(
            bucket,
            endpoint=endpoint,
            region=region,
            addressing_style=addressing_style,
            region_needed=signature_version == "v4",
        )
        provider = as_provider(credentials)
        settings: dict[str, Any] = {
            "bucket": bucket,
            "endpoint": endpoint,
            "region": region,
            "credentials": provider,
            "signature_version": signature_version,
            "addressing_style": addressing_style,
            "connect_timeout": connect_timeout,
            "read_timeout": read_timeout,
            "ca_bundle": ca_bundle,
            "proxy": proxy,
            "max_connections": max_connections,
            "page_size": page_size,
            "user_agent": user_agent,
            "clock": clock,
        }
        self._pickle_state = _PickleState(type(self), uuid.uuid4().hex, settings)
        self._page_size = page_size
        scheme, host = self._address.scheme, self._address.host
        if proxy is None:
            used_proxy = environment_proxy(scheme, host, os.environ)
        else:
            used_proxy = Proxy.parse(proxy) if proxy else None
        http_endpoint = Endpoint(
            scheme=scheme,
            host=host,
            port=self._address.port,
            authority=self._address.authority,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            context=tls_context(ca_bundle) if scheme == "https" else None,
            proxy=used_proxy,
        )
        http = HTTPClient(
            http_endpoint,
            user_agent=_default_user_agent() if user_agent is None else check_header_value("user_agent", user_agent),
            max_connections=max_connections,
        )
        local = used_proxy is None and is_loopback(host)
        server_clock = ServerClock(clock, authenticated=scheme == "https" or local)
        self._client = OSSClient(
            self._address, http, CredentialsCache(provider, server_clock), server_clock, v4=signature_version == "v4"
        )
        self._request_options: ObjectOptions = _NO_OPTIONS
        self._other_headers: dict[str, str] = {}
        self._owns_client = True
        self._closed = False

    # --- properties --------------------------------------------------------------------------------------------------

    @property
    def location(self) -> str:
        """
        ``oss://BUCKET@HOST``, without credentials.

        It is the same for every endpoint of the bucket. For the endpoints of OSS, HOST is ``oss-REGION.aliyuncs.com``,
        whether they are public, internal, dual-stack or accelerated. For a custom domain or a test server, it is that
        host, with its port.
        """
        return self._address.location

    @property
    def limits(self) -> PartLimits:
        """Up to 10,000 parts of 100 KiB to 5 GiB; up to 5 GiB in one request."""
        return LIMITS

    @property
    def capabilities(self) -> Capabilities:
        """All of `OSSOptions` but `if_match`, lists of parts, and all checksums."""
        return CAPABILITIES

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._address.bucket

    @property
    def region(self) -> str | None:
        """The region's id; None if it is unknown, which only V1 allows."""
        return self._address.region

    @property
    def endpoint(self) -> str:
        """Scheme and host of the requests."""
        return f"{self._address.scheme}://{self._address.authority}"

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"OSSBackend({self.bucket!r}, endpoint={self.endpoint!r}, region={self.region!r}{closed})"

    def __reduce__(
        self,
    ) -> tuple[Callable[[_PickleState, ObjectOptions | None], OSSBackend], tuple[_PickleState, ObjectOptions | None]]:
        for name in ("credentials", "clock"):
            try:
                pickle.dumps(self._pickle_state.settings[name])
            except Exception as error:
                raise TypeError(
                    f"this OSSBackend can't be pickled, since its {name} can't be ({type(error).__name__}): pass a "
                    "module-level function, Credentials, or None for the environment"
                ) from error
        options = self._request_options
        return _unpickle, (self._pickle_state, None if options == _NO_OPTIONS else options)

    def close(self) -> None:
        """
        Close the connections; those in use are closed when their request ends.

        Closing twice is fine.
        """
        self._closed = True
        if self._owns_client:
            self._client.close()

    def with_request_options(self, options: ObjectOptions) -> Self:
        """
        Return a handle that sends `traffic_limit` and `request_payer`.

        It has the same connections. The handle is valid until this backend is closed; closing the handle closes no
        connection.

        All options are checked here, since those of a resumed upload are sent only when it is completed.

        Raises:
            InvalidInput: an option has a value that can't be sent.
        """
        self._check_open()
        OPTION_TABLE.check(options)
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound._owns_client = False
        request_options = OPTION_TABLE.of_parts(options)
        if request_options != self._request_options:
            bound._request_options = request_options
            bound._other_headers = OPTION_TABLE.headers(RequestKind.OTHER, request_options)
            bound._client = self._client.with_part_headers(OPTION_TABLE.headers(RequestKind.PART, request_options))
        return bound

    # --- multipart uploads -------------------------------------------------------------------------------------------

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        """
        Initiate a multipart upload; see `MultipartBackend.initiate_upload`.

        All options are checked here, including those that are sent when the upload is completed.

        Raises:
            InvalidInput: an option has a value that can't be sent.
        """
        headers = self._option_headers(RequestKind.INITIATE, key, options)
        operation = f"initiating an upload of {self._describe(key)}"
        query = (("uploads", None), ("encoding-type", "url"))
        response = self._send(SignedRequest(operation, "POST", key, query, headers))
        return READER.parse(response, parse_initiated, operation)

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        """
        Store one part; see `MultipartBackend.upload_part`.

        Raises:
            InvalidInput: the part number or the size exceeds `limits`.
        """
        return self.begin_part(key, upload_id, part_number, body)()

    def begin_part(self, key: str, upload_id: str, part_number: int, body: Body) -> Callable[[], UploadedPart]:
        """
        Send one part, and wait for the response later.

        See `SupportsPipelining.begin_part` and `upload_part`.
        """
        self._check_usable(key, upload_id=upload_id, body=body)
        size = len(body)
        check_part(part_number, size, LIMITS)
        operation = f"part {part_number} of {self._describe(key)}"
        chunks = exact_chunks(body, operation)
        wait = self._client.start_part(
            key, upload_id, part_number, size=size, chunks=chunks, operation=operation, owner=body
        )

        def part() -> UploadedPart:
            response = wait()
            checksum = verified_checksum(response, body, operation)
            return UploadedPart(part_number, size, READER.etag(response, operation), checksum)

        return part

    def cut_part(self, body: Body, reason: str) -> None:
        """End the call of `upload_part` that sends this body; see `SupportsCutting`."""
        self._client.cut(body, reason)

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        """List the stored parts, page by page; see `MultipartBackend.list_parts`."""
        self._check_usable(key, upload_id=upload_id)
        operation = f"listing the parts of upload {upload_id} of {self._describe(key)}"

        def fetch(marker: int) -> ResultPage[UploadedPart, int]:
            query = [("uploadId", upload_id), ("max-parts", str(self._page_size)), ("encoding-type", "url")]
            if marker:
                query.append(("part-number-marker", str(marker)))
            request = SignedRequest(operation, "GET", key, query, self._other_headers, length=None)
            return self._fetch_page(request, parse_parts)

        return list_pages(fetch, 0, operation, LIMITS.max_parts, page_size=self._page_size)

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        """Complete an upload with these parts; see `MultipartBackend.complete_upload`."""
        option_headers = self._option_headers(RequestKind.COMPLETE, key, options)
        check_call(upload_id=upload_id, parts=parts)
        if not parts:
            raise PartRejected(f"{self._describe(key)} can't be completed: no parts were given; the upload is kept")
        document = CompleteDocument(parts)
        # OSS verifies a part list only by this header: a list has no checksum.
        headers = {**option_headers, "Content-Type": "application/xml", "Content-MD5": document.md5}
        operation = f"completing upload {upload_id} of {self._describe(key)}"
        query = (("uploadId", upload_id), ("encoding-type", "url"))
        request = SignedRequest(operation, "POST", key, query, headers, document, document.length)
        response, context = self._client.send(request, expected=(200, 203))
        etag = parse_etag(response.headers.get("etag", ""))
        if etag is None:
            # With a callback, the body is the response of the application server, without an ETag.
            has_callback = callback_of(options) is not None
            from_body = None if has_callback else READER.parse(response, parse_completed, operation)
            etag = "" if has_callback else from_body or READER.etag(response, operation)
        size = sum(part.size for part in parts)
        stored = StoredObject(key, size, etag, checksum_of(response, operation), **READER.ids(response))
        return self._with_callback_result(response, context, stored, options, operation)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Abort an upload and delete its parts; see `MultipartBackend.abort_upload`."""
        self._check_usable(key, upload_id=upload_id)
        operation = f"aborting upload {upload_id} of {self._describe(key)}"
        request = SignedRequest(operation, "DELETE", key, (("uploadId", upload_id),), self._other_headers)
        try:
            self._client.send(request, expected=(200, 204))
        except UploadNotFound:
            extra = {"key": key, "upload_id": upload_id, "part_number": None}
            _log.debug("%s: it does not exist any more", operation, extra=extra)

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        """List the pending uploads, page by page; see `MultipartBackend.list_uploads`."""
        self._check_open()
        check_call(prefix=prefix)
        operation = f"listing the uploads in {self.location}"

        def fetch(marker: tuple[str, str]) -> ResultPage[PendingUpload, tuple[str, str]]:
            query = [("uploads", None), ("max-uploads", str(self._page_size)), ("encoding-type", "url")]
            for name, value in (("prefix", prefix), ("key-marker", marker[0]), ("upload-id-marker", marker[1])):
                if value:
                    query.append((name, value))
            request = SignedRequest(operation, "GET", None, query, self._other_headers, length=None)
            return self._fetch_page(request, parse_uploads)

        hint = "List them by a prefix of their keys"
        return list_pages(fetch, ("", ""), operation, _UPLOADS_MAX, page_size=self._page_size, hint=hint)

    # --- objects -----------------------------------------------------------------------------------------------------

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        """
        Store a whole object; see `MultipartBackend.put_object`.

        The checksum that OSS reports is compared with that of the body. If they differ, the damaged object is stored
        under the key. The error is retryable, unless overwriting is forbidden: a retry could not replace the object.

        Raises:
            InvalidInput: the body is larger than `limits.max_put_size`, or an option has a value that can't be sent.
        """
        headers = self._option_headers(RequestKind.PUT, key, options)
        check_call(body=body)
        size = len(body)
        check_put(key, size, LIMITS)
        operation = f"storing {self._describe(key)}"
        chunks = exact_chunks(body, self._describe(key))
        request = SignedRequest(operation, "PUT", key, (), headers, chunks, size)
        response, context = self._client.send(request, expected=(200, 203))
        checksum = verified_checksum(response, body, operation, retryable=not options.forbid_overwrite)
        stored = StoredObject(key, size, READER.etag(response, operation), checksum, **READER.ids(response))
        return self._with_callback_result(response, context, stored, options, operation)

    def head_object(self, key: str) -> StoredObject | None:
        """Describe an object; see `MultipartBackend.head_object`."""
        self._check_usable(key)
        operation = f"looking up {self._describe(key)}"
        try:
            response = self._send(SignedRequest(operation, "HEAD", key, (), self._other_headers, length=None))
        except BackendError as error:
            # Without a code, the object is what is most likely missing.
            if error.status == 404 and error.code in (None, "NoSuchKey"):
                return None
            raise
        return StoredObject(
            key,
            READER.size(response, operation),
            READER.etag(response, operation),
            checksum_of(response, operation),
            metadata=READER.metadata(response),
            **READER.ids(response),
        )

    # --- steps that operations share ---------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosed(f"the backend for {self.location} is closed", hint="Open a new one")

    def _check_usable(self, key: str, **arguments: object) -> None:
        self._check_open()
        check_key(key)
        check_call(**arguments)

    def _describe(self, key: str) -> str:
        return f"{key!r} in {self._address.location}"

    def _option_headers(self, kind: RequestKind, key: str, options: ObjectOptions) -> dict[str, str]:
        self._check_usable(key, options=options)
        options.require_supported_by(CAPABILITIES, self.location)
        OPTION_TABLE.check(options)
        headers = OPTION_TABLE.headers(kind, self._request_options) | OPTION_TABLE.headers(kind, options)
        if kind is not RequestKind.COMPLETE:
            headers.setdefault("Content-Type", guess_content_type(key) or "application/octet-stream")
        return headers

    def _send(self, request: SignedRequest) -> Response:
        return self._client.send(request)[0]

    def _fetch_page(
        self, request: SignedRequest, parse: Callable[[bytes], ResultPage[Entry, Marker]]
    ) -> ResultPage[Entry, Marker]:
        self._check_open()
        return READER.parse(self._send(request), parse, request.operation)

    def _with_callback_result(
        self, response: Response, context: SigningContext, stored: StoredObject, options: ObjectOptions, operation: str
    ) -> StoredObject:
        if response.status == 203:
            details = self._client.error_details(response, context)
            raise callback_error_for(response, operation, details, stored)
        return stored if callback_of(options) is None else evolve(stored, callback_response=response.body)


@lru_cache(maxsize=1)
def _default_user_agent() -> str:
    try:
        return f"partwise/{importlib.metadata.version('partwise')}"
    except importlib.metadata.PackageNotFoundError:
        return "partwise"
