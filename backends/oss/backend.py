"""
The OSS backend: nine operations, each of which is one request.

A list is one request per page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Self

from attrs import evolve

from partwise._validation import brief
from partwise.backends._argument_checks import check_call, check_part, check_put
from partwise.backends._bucket_backend import PAGE_SIZE_MAX, BucketBackend, check_connection_settings, open_access
from partwise.backends._http.http1 import Response
from partwise.backends._http.option_headers import RequestKind
from partwise.backends._http.signed_client import SignedRequest, SigningContext
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
from partwise.backends.oss.options import CAPABILITIES, OPTION_TABLE, callback_of
from partwise.backends.oss.responses import READER, checksum_of, verified_checksum
from partwise.backends.oss.xml import parse_parts
from partwise.bodies import exact_chunks
from partwise.errors import BackendError, InvalidInput, PartRejected
from partwise.model import GIB, KIB, Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart
from partwise.paging import ResultPage
from partwise.protocols import Body

LIMITS = PartLimits(
    min_part_size=100 * KIB,
    max_part_size=5 * GIB,
    max_parts=10_000,
    max_object_size=10_000 * 5 * GIB,
    max_put_size=5 * GIB,
)

SIGNATURE_VERSIONS = ("v4", "v1")


class OSSBackend(BucketBackend):
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
        page_size: int = PAGE_SIZE_MAX,
        user_agent: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        settings = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        if signature_version not in SIGNATURE_VERSIONS:
            raise InvalidInput(
                f"the signature version must be {' or '.join(SIGNATURE_VERSIONS)}, not {brief(signature_version)}"
            )
        check_connection_settings(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_connections=max_connections,
            page_size=page_size,
            proxy=proxy,
            ca_bundle=ca_bundle,
            clock=clock,
        )
        address = resolve(
            bucket,
            endpoint=endpoint,
            region=region,
            addressing_style=addressing_style,
            region_needed=signature_version == "v4",
        )
        provider = as_provider(credentials)
        settings["credentials"] = provider
        access = open_access(address, provider, settings, clock)
        client = OSSClient(address, access.http, access.credentials, access.clock, v4=signature_version == "v4")
        self._set_up(address, client, settings)

    # --- what differs from S3 ----------------------------------------------------------------------------------------

    option_table = OPTION_TABLE
    _reader = READER
    _list_parts_query = (("encoding-type", "url"),)

    def _check_key(self, key: str) -> str:
        return check_key(key)

    def _parse_parts(self, data: bytes) -> ResultPage[UploadedPart, int]:
        return parse_parts(data)

    def _parse_uploads(self, data: bytes) -> ResultPage[PendingUpload, tuple[str, str]]:
        return parse_uploads(data)

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

    def with_request_options(self, options: ObjectOptions) -> Self:
        """
        Return a handle that sends `traffic_limit` and `request_payer`.

        See `BucketBackend.with_request_options`.
        """
        return super().with_request_options(options)

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
            response = self._send(self._reading(operation, "HEAD", key, (), RequestKind.READ))
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

    def _with_callback_result(
        self, response: Response, context: SigningContext, stored: StoredObject, options: ObjectOptions, operation: str
    ) -> StoredObject:
        has_callback = callback_of(options) is not None
        if response.status == 203:
            details = self._client.error_details(response, context)
            # A proxy that changes the body of a success sends this status, too (RFC 9110, section 15.3.4).
            if has_callback or details.code == "CallbackFailed":
                raise callback_error_for(response, operation, details, stored)
        return evolve(stored, callback_response=response.body) if has_callback else stored
