"""
The S3 backend: nine operations, each of which is one request.

A list is one request per page; with `forbid_overwrite`, an upload is initiated by two; and an object that HEAD does not
describe is looked up by two.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from attrs import evolve

from partwise.backends._argument_checks import check_call, check_part, check_put
from partwise.backends._bucket_backend import (
    PAGE_SIZE_MAX,
    BucketBackend,
    check_connection_settings,
    open_access,
)
from partwise.backends._http.option_headers import RequestKind
from partwise.backends._http.signed_client import SignedRequest
from partwise.backends._http.xml import CompleteDocument, parse_etag, parse_initiated
from partwise.backends.s3.addressing import check_key, host_of, resolve
from partwise.backends.s3.client import LearnedFacts, S3Client
from partwise.backends.s3.credentials import as_provider
from partwise.backends.s3.dialects import Dialect, choose_dialect, region_of
from partwise.backends.s3.options import S3Options, capabilities, option_table
from partwise.backends.s3.responses import READER, checksum_header, checksum_of, verified_checksum
from partwise.backends.s3.signing import PAYLOAD_HEADER
from partwise.backends.s3.xml import ALGORITHM_NAMES, is_error, parse_completed, parse_parts, parse_uploads
from partwise.bodies import exact_chunks
from partwise.errors import (
    BackendError,
    InvalidInput,
    ObjectExists,
    PartRejected,
    UnsupportedOption,
)
from partwise.model import Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart
from partwise.paging import ResultPage
from partwise.protocols import Body

#: Seconds that the response to a complete request may take, as long as S3 sends white space now and then. It says that
#: it may take several minutes.
_COMPLETE_SECONDS = 3600.0

#: Statuses of a failed HEAD that can have several reasons. There is no body that could say which.
_WITHOUT_REASON = frozenset({400, 403, 404})


class S3Backend(BucketBackend):
    """
    A bucket of Amazon S3, or of a storage that speaks S3.

    An upload that was started through one endpoint of a bucket in AWS (dual-stack, accelerated, private) can be resumed
    through another: `location` identifies the bucket, not the endpoint. A bucket at any other endpoint is a location
    with that host, port and path.

    The backend can be pickled if its credentials can, which are then part of the pickle. In another process, all copies
    of one backend share their connections.

    Args:
        bucket: the bucket's name, or the ARN of an access point.
        endpoint: a host of AWS or of any server that speaks S3, with or without scheme (then https), port and path.
            None means that of the region in AWS.
        region: the region; None derives it from the ARN or the endpoint, and is otherwise ``us-east-1``.
        credentials: `Credentials`; a function that returns them, which is called again before they expire; or a
            provider. None means the environment.
        dialect: what the storage does differently: ``"aws"``, ``"r2"``, ``"b2"``, ``"gcs"``, ``"ceph"``, ``"minio"``,
            ``"oss"``, or a `Dialect`. None takes it from the endpoint, and is otherwise ``"aws"``.
        addressing_style: ``"virtual"``: the bucket is part of the host, if its name allows it; ``"path"``: it is the
            first segment of the path; ``"auto"``: virtual in AWS, and path elsewhere.
        dual_stack: use the endpoint of AWS that has IPv6 addresses, too.
        accelerate: use transfer acceleration.
        sign_payload: whether the digest of a body is part of the signature, for which the body is read twice. None
            means: over plain http, unless the server is on this machine. The digests of lists of parts are always
            signed.
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
        InvalidInput: an argument is invalid.
    """

    _reader = READER
    _uploads_are_ordered = False  # by key, and then by time

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        credentials: object = None,
        dialect: Dialect | str | None = None,
        addressing_style: str = "auto",
        dual_stack: bool = False,
        accelerate: bool = False,
        sign_payload: bool | None = None,
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
        for name, value in (("dual_stack", dual_stack), ("accelerate", accelerate)):
            if type(value) is not bool:
                raise InvalidInput(f"{name} must be True or False, not {type(value).__name__}")
        if sign_payload is not None and type(sign_payload) is not bool:
            raise InvalidInput(f"sign_payload must be True, False or None, not {type(sign_payload).__name__}")
        check_connection_settings(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_connections=max_connections,
            page_size=page_size,
            proxy=proxy,
            ca_bundle=ca_bundle,
            clock=clock,
        )
        host = None if endpoint is None else host_of(endpoint)
        self._dialect = choose_dialect(dialect, host)
        style = "virtual" if addressing_style == "auto" and self._dialect.virtual_hosts_only else addressing_style
        address = resolve(
            bucket,
            endpoint=endpoint,
            region=region or region_of(self._dialect, host),
            addressing_style=style,
            dual_stack=dual_stack,
            accelerate=accelerate,
        )
        provider = as_provider(credentials)
        settings["credentials"] = provider
        self.option_table = option_table(self._dialect)
        access = open_access(address, provider, settings, clock)
        self._learned = LearnedFacts(self._dialect.parts_need_checksums)
        client = S3Client(address, access.http, access.credentials, access.clock, self._learned)
        is_plain = address.scheme == "http" and not access.is_local
        self._signs_payload = is_plain if sign_payload is None else sign_payload
        self._is_exposed = is_plain
        self._set_up(address, client, settings)

    # --- what differs from OSS ---------------------------------------------------------------------------------------

    def _check_key(self, key: str) -> str:
        return check_key(key)

    def _parse_parts(self, data: bytes) -> ResultPage[UploadedPart, int]:
        return parse_parts(data, self._dialect.checksum)

    def _parse_uploads(self, data: bytes) -> ResultPage[PendingUpload, tuple[str, str]]:
        return parse_uploads(data, plus_is_space=self._dialect.plus_is_space)

    # --- properties --------------------------------------------------------------------------------------------------

    @property
    def location(self) -> str:
        """
        ``s3://BUCKET@HOST``, without credentials.

        It is the same for every endpoint of the bucket in AWS, where HOST is ``amazonaws.com`` or the domain of another
        partition. For any other server, it is that host, with its port and path.
        """
        return self._address.location

    @property
    def limits(self) -> PartLimits:
        """Those of the dialect; in AWS up to 10,000 parts of 5 MiB to 5 GiB."""
        return self._dialect.limits

    @property
    def capabilities(self) -> Capabilities:
        """Those of the dialect."""
        return capabilities(self._dialect)

    @property
    def dialect(self) -> Dialect:
        """What the storage does differently."""
        return self._dialect

    def with_request_options(self, options: ObjectOptions) -> Self:
        """
        Return a handle that sends the options of each request.

        These are `request_payer`, `expected_bucket_owner` and `sse_customer_key`; see
        `BucketBackend.with_request_options`.
        """
        self._refuse_exposed_key(options)
        return super().with_request_options(options)

    # --- multipart uploads -------------------------------------------------------------------------------------------

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        """
        Initiate a multipart upload; see `MultipartBackend.initiate_upload`.

        All options are checked here, including those that are sent when the upload is completed. With
        `forbid_overwrite`, the object is looked up first, if that is permitted: S3 checks the condition only when the
        upload is completed.

        Raises:
            InvalidInput: an option has a value that can't be sent.
        """
        headers = self._option_headers(RequestKind.INITIATE, key, options)
        operation = f"initiating an upload of {self._describe(key)}"
        if options.forbid_overwrite and self._is_known_to_exist(key):
            raise ObjectExists(f"{operation}: the object exists, and overwriting was forbidden")
        if self._dialect.sends_checksums and self._dialect.checksum is not None:
            headers["x-amz-checksum-algorithm"] = ALGORITHM_NAMES[self._dialect.checksum.name]
            headers["x-amz-checksum-type"] = "FULL_OBJECT"
        if _has_lock(options):
            self._learned.parts_need_checksums = True
        response = self._send(SignedRequest(operation, "POST", key, (("uploads", None),), headers))
        return READER.parse(response, parse_initiated, operation)

    def begin_part(self, key: str, upload_id: str, part_number: int, body: Body) -> Callable[[], UploadedPart]:
        """
        Send one part, and wait for the response later.

        See `SupportsPipelining.begin_part` and `upload_part`.
        """
        self._check_usable(key, upload_id=upload_id, body=body)
        size = len(body)
        check_part(part_number, size, self.limits)
        operation = f"part {part_number} of {self._describe(key)}"
        headers = self._digests(body, operation, with_checksum=self._learned.parts_need_checksums)
        wait = self._client.start_part(
            key,
            upload_id,
            part_number,
            size=size,
            chunks=exact_chunks(body, operation),
            operation=operation,
            owner=body,
            headers=headers,
        )

        def part() -> UploadedPart:
            response = wait()
            checksum = verified_checksum(response, body, self._dialect, operation)
            return UploadedPart(part_number, size, READER.etag(response, operation), checksum)

        return part

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        """
        Complete an upload with these parts; see `MultipartBackend.complete_upload`.

        If the checksums of all parts are known, that of the object is sent with them, so that S3 itself refuses to
        store another object.

        Raises:
            IntegrityError: the object that S3 made of the parts has another checksum. It was not stored. Not retryable.
        """
        headers = self._option_headers(RequestKind.COMPLETE, key, options)
        check_call(upload_id=upload_id, parts=parts)
        if not parts:
            raise PartRejected(f"{self._describe(key)} can't be completed: no parts were given; the upload is kept")
        document = CompleteDocument(parts)
        digest = hashlib.sha256()
        for chunk in document:
            digest.update(chunk)
        size = sum(part.size for part in parts)
        headers |= {"Content-Type": "application/xml", PAYLOAD_HEADER: digest.hexdigest()}
        headers |= self._object_headers(parts, size)
        operation = f"completing upload {upload_id} of {self._describe(key)}"
        query = (("uploadId", upload_id),)
        request = SignedRequest(operation, "POST", key, query, headers, document, document.length)
        response, context = self._client.send(request, response_seconds=_COMPLETE_SECONDS)
        if is_error(response.body):
            raise self._client.failure(response, operation, context)
        etag, checksum = READER.parse(response, lambda data: parse_completed(data, self._dialect.checksum), operation)
        etag = etag or parse_etag(response.headers.get("etag", ""))
        if etag is None:
            raise READER.invalid(response, operation, "it has no ETag")
        if checksum is None:
            checksum = checksum_of(response, self._dialect, operation)
        return StoredObject(key, size, etag, checksum, **READER.ids(response))

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        """List the pending uploads, page by page; see `MultipartBackend.list_uploads`."""
        self._check_open()
        if not self._dialect.lists_uploads:
            raise UnsupportedOption(f"{self._dialect.title} lists the uploads of one key only, not those of a prefix")
        return super().list_uploads(prefix)

    # --- objects -----------------------------------------------------------------------------------------------------

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        """
        Store a whole object; see `MultipartBackend.put_object`.

        The body is read twice: its checksum goes before it, so that S3 refuses damaged bytes before it replaces an
        object. Where the storage takes no checksum, the one that it reports is compared; if they differ, the damaged
        object is stored. That error is retryable, unless overwriting is forbidden: a retry could not replace it.

        Raises:
            InvalidInput: the body is larger than `limits.max_put_size`, or an option has a value that can't be sent.
        """
        headers = self._option_headers(RequestKind.PUT, key, options)
        check_call(body=body)
        size = len(body)
        check_put(key, size, self.limits)
        operation = f"storing {self._describe(key)}"
        needed = self._dialect.sends_checksums or self._learned.parts_need_checksums or _has_lock(options)
        headers |= self._digests(body, operation, with_checksum=needed)
        chunks = exact_chunks(body, self._describe(key))
        response = self._send(SignedRequest(operation, "PUT", key, (), headers, chunks, size))
        checksum = verified_checksum(response, body, self._dialect, operation, retryable=not options.forbid_overwrite)
        return StoredObject(key, size, READER.etag(response, operation), checksum, **READER.ids(response))

    def head_object(self, key: str) -> StoredObject | None:
        """
        Describe an object; see `MultipartBackend.head_object`.

        The response of S3 to a failed request of this kind does not say why it failed, such as that there is no bucket.
        So another request, for the first byte of the object, asks for the reason. For credentials that may not list the
        bucket, a missing object is AccessDenied.
        """
        self._check_usable(key)
        operation = f"looking up {self._describe(key)}"
        request = self._reading(operation, "HEAD", key, (), RequestKind.READ)
        if self._dialect.sends_checksums:
            request = evolve(request, headers={**request.headers, "x-amz-checksum-mode": "ENABLED"})
        try:
            response = self._send(request)
        except BackendError as error:
            if error.code is not None or error.status not in _WITHOUT_REASON:
                raise
            self._raise_reason(key, operation, error)
            return None
        return StoredObject(
            key,
            READER.size(response, operation),
            READER.etag(response, operation),
            checksum_of(response, self._dialect, operation),
            metadata=READER.metadata(response),
            **READER.ids(response),
        )

    # --- steps that operations share ---------------------------------------------------------------------------------

    def _option_headers(self, kind: RequestKind, key: str, options: ObjectOptions) -> dict[str, str]:
        headers = super()._option_headers(kind, key, options)
        self._refuse_exposed_key(options)
        return headers

    def _refuse_exposed_key(self, options: ObjectOptions) -> None:
        if self._is_exposed and isinstance(options, S3Options) and options.sse_customer_key is not None:
            raise InvalidInput(
                f"sse_customer_key would be sent to {self.endpoint} unencrypted", hint="Pass {endpoint} with https://"
            )

    def _raise_reason(self, key: str, operation: str, error: BackendError) -> None:
        """Raise what a failed HEAD could not say; return if there is no object."""
        request = self._reading(operation, "GET", key, (), RequestKind.READ, Range="bytes=0-0")
        try:
            self._client.send(request, expected=(200, 206, 416))
        except BackendError as reason:
            if reason.status == 404 and reason.code in (None, "NoSuchKey"):
                return
            raise reason from error
        if error.status != 404:  # otherwise the object was created since
            raise error

    def _is_known_to_exist(self, key: str) -> bool:
        """
        Return whether HEAD describes an object.

        Why it does not is not asked for, as `head_object` does. There may be no object, or no permission to read it.
        Anything else is refused again by the request that follows, with the reason.
        """
        operation = f"looking up {self._describe(key)}"
        try:
            self._send(self._reading(operation, "HEAD", key, (), RequestKind.READ))
        except BackendError as error:
            if error.status not in _WITHOUT_REASON:
                raise
            return False
        return True

    def _digests(self, body: Body, what: str, *, with_checksum: bool) -> dict[str, str]:
        """
        Return the headers about the bytes of a body.

        It is read for them, unless there are none.
        """
        algorithm = self._dialect.checksum if self._dialect.sends_checksums else None
        digest = hashlib.sha256() if self._signs_payload else None
        # A storage that reports no checksums may still demand one, as in a bucket with object lock.
        md5 = hashlib.md5(usedforsecurity=False) if with_checksum and algorithm is None else None
        hashes = [running for running in (digest, md5) if running is not None]
        if not hashes and not with_checksum:
            return {}
        for chunk in exact_chunks(body, what, counted=False):
            for running in hashes:
                running.update(chunk)
        headers = {}
        if digest is not None:
            headers[PAYLOAD_HEADER] = digest.hexdigest()
        if md5 is not None:
            headers["Content-MD5"] = base64.b64encode(md5.digest()).decode()
        if algorithm is not None and body.checksum is not None:
            headers[checksum_header(algorithm)] = algorithm.to_base64(body.checksum)
        return headers

    def _object_headers(self, parts: Sequence[UploadedPart], size: int) -> dict[str, str]:
        """Return the headers that say which object the parts are to become."""
        algorithm = self._dialect.checksum
        if algorithm is None or not self._dialect.sends_checksums:
            return {}
        headers = {"x-amz-mp-object-size": str(size)}
        known = [(part.checksum, part.size) for part in parts if part.checksum is not None]
        folded = algorithm.fold(known) if len(known) == len(parts) else None
        if folded is not None:
            headers |= {checksum_header(algorithm): algorithm.to_base64(folded), "x-amz-checksum-type": "FULL_OBJECT"}
        return headers


def _has_lock(options: ObjectOptions) -> bool:
    return isinstance(options, S3Options) and (options.object_lock_mode is not None or options.object_lock_legal_hold)
