"""The OSS backend: nine operations, each of them one request (lists: one a page), over the parts beside this module."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import pickle
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Self, TypeVar

from attrs import define, evolve, field

from partwise._validation import brief, check_callable, check_path
from partwise.backends._argument_checks import check_call, check_part, check_put, exact_chunks
from partwise.backends._http.addresses import is_loopback
from partwise.backends._http.http1 import Answer
from partwise.backends._http.proxies import Proxy, environment_proxy
from partwise.backends._http.tls_pump import tls_context
from partwise.backends.oss.addressing import check_key, check_prefix, resolve
from partwise.backends.oss.clock import ServerClock
from partwise.backends.oss.credentials import (
    Credentials,
    Issued,
    Keyring,
    as_provider,
)
from partwise.backends.oss.errors import callback_failure, failure, read, server_time
from partwise.backends.oss.options import (
    CAPABILITIES,
    METADATA_PREFIX,
    Request,
    check,
    check_header_value,
    headers_for,
    metadata_of,
)
from partwise.backends.oss.redaction import contains, redacted
from partwise.backends.oss.request_template import PartHeads
from partwise.backends.oss.signing import Query, Signable, Signing, signing_v1, signing_v4
from partwise.backends.oss.transport import Transport, how_to_sign_on
from partwise.backends.oss.xml import (
    NAME_MAX,
    BadDocument,
    CompleteDocument,
    Entry,
    Marker,
    Page,
    bare_etag,
    crc64_of,
    parse_completed,
    parse_initiated,
    parse_parts,
    parse_uploads,
)
from partwise.content_types import guess_content_type
from partwise.errors import (
    BackendClosed,
    BackendError,
    ClockSkewed,
    CredentialsExpired,
    IntegrityError,
    InvalidInput,
    PartRejected,
    ServerFailed,
    UploadNotFound,
)
from partwise.model import (
    GIB,
    KIB,
    Capabilities,
    ObjectOptions,
    PartLimits,
    PendingUpload,
    StoredObject,
    UploadedPart,
)
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

#: Entries of one list of uploads. A caller may have to hold them all, and a server that makes up more and more is not
#: a bucket; one that really has more can be listed by prefixes.
_UPLOADS_MAX = 100_000

#: Pages of one list that have no entry, though more is said to follow.
_EMPTY_PAGES_MAX = 100

#: Pages of one list that have fewer entries than were asked for. A server that says each time that more follows would
#: otherwise be asked once for every entry. As many as an upload can have parts, for servers that list them singly.
_SHORT_PAGES_MAX = 10_000

#: Seconds; more is a mistake, or in milliseconds.
_TIMEOUT_MAX = 86_400

_CONNECTIONS_MAX = 10_000

#: Bytes of a body in which parts of secrets are looked for, too; a longer one is a page of a list.
_SEARCHED_FOR_PARTS = 4096

#: What is signed in addition to what V4 always signs, so that a request is not good at another host.
_ADDITIONAL_HEADERS = ("host",)

#: The headers of an answer that are kept as they are, beside the metadata.
_KEPT_HEADERS = frozenset({"etag", "x-oss-request-id", "x-oss-version-id"})

# What the two look like in nearly every answer to a part, so that nothing has to be looked for in it.
_PLAIN_ETAG = re.compile('"[0-9A-F]{32}"')
_PLAIN_REQUEST_ID = re.compile("[0-9A-F]{24}")

#: Digits of an object's size: of the largest it has fourteen.
_SIZE_DIGITS_MAX = 18

_SIGNATURE = re.compile(rb"\r\nAuthorization: (?:OSS4.*Signature=|OSS .*:)(.+)\r\n")

_WRONG_REGION = "0002-00000226"

_NO_OPTIONS = ObjectOptions()

_log = logging.getLogger("partwise.backends.oss")

_Parsed = TypeVar("_Parsed")


@define(frozen=True)
class _Request:
    """One request, as the operations think of it."""

    what: str  # for people: what is done to which object
    method: str
    key: str | None
    query: Query
    headers: Mapping[str, str]
    body: Iterable[bytes | memoryview] = ()
    length: int | None = 0


@define(frozen=True)
class _Sent:
    """
    What a request was signed with, which may have been replaced when its answer comes.

    Args:
        issued: the credentials.
        offset: what was added to our clock.
        head: the head that was sent, which has the signature.
    """

    issued: Issued
    offset: float
    head: bytes


@define
class _Latest:
    """The heads that were made last, and what they are good for; replaced as a whole, so threads need no lock."""

    made: tuple[tuple[str, str, int, int], PartHeads] | None = None


@define(frozen=True)
class _Recipe:
    """
    How a backend was made, so that another process can make it again.

    Those that were made by one call of the constructor are equal, however often they were pickled.
    """

    kind: type[OSSBackend]
    identity: str
    settings: dict[str, Any] = field(eq=False, repr=False)


# A process pool unpickles a backend for each part. All of them send by the connections of one, and with its
# credentials: otherwise each part would cost a TLS handshake, and perhaps a visit to whoever gives credentials.
# What drops out of here closes its connections when the last handle on it is gone.
@lru_cache(maxsize=8)
def _made_again(recipe: _Recipe) -> OSSBackend:
    backend = recipe.kind(**recipe.settings)
    backend._recipe = recipe  # noqa: SLF001  # so that a copy of a copy is one more of the same
    return backend


def _restored(recipe: _Recipe, options: ObjectOptions | None) -> OSSBackend:
    return _made_again(recipe).with_request_options(options or _NO_OPTIONS)


class OSSBackend:
    """
    A bucket of Alibaba Cloud OSS.

    Uploads that were begun by one way to the bucket (from inside or outside its region, accelerated, by http or https)
    can be carried on by another: `location` names the bucket, not the way. A custom domain is a place of its own.

    It can be pickled if its credentials can, which are then in the pickle. In another process all copies of one backend
    share their connections.

    Args:
        bucket: the bucket's name.
        endpoint: the region's host, a custom domain (with ``addressing_style="cname"``) or a test server, with or
            without ``https://`` or ``http://``; https where it does not say. None takes ``oss-REGION.aliyuncs.com``.
        region: the region's id, such as ``cn-hangzhou``; None takes it from the endpoint.
        credentials: `Credentials`; a function that returns them, called again before they expire; an object with
            `get_credential()` as in the package alibabacloud-credentials, or with `get_credentials()`; or a provider.
            None takes the environment's.
        signature_version: ``"v4"``, or ``"v1"`` for old services.
        addressing_style: ``"virtual"``, ``"path"`` or ``"cname"``; a virtual one becomes path by itself for an IP
            address and for localhost.
        connect_timeout: seconds that making a connection may take.
        read_timeout: seconds for which a connection may be silent, or take no bytes.
        ca_bundle: a file or directory of certificate authorities to trust instead of the system's.
        proxy: a proxy to go through, ``http://[user:password@]host:port``; None takes that of the environment, as curl
            does (`https_proxy`, `http_proxy`, `all_proxy`, less `no_proxy`; never for this machine itself), and ``""``
            none at all.
        max_connections: how many idle connections are kept; as many as there are workers is enough.
        page_size: how many entries a list asks for at a time, 1 to 1000.
        user_agent: what the service logs us as; None says partwise and its version.
        clock: our clock, in seconds since 1970.

    Raises:
        InvalidInput: one of these is impossible, or the region can't be known.
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
        max_connections: int = 32,
        page_size: int = _PAGE_SIZE_MAX,
        user_agent: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if signature_version not in SIGNATURE_VERSIONS:
            raise InvalidInput(
                f"signature_version is {' or '.join(SIGNATURE_VERSIONS)}, not {brief(signature_version)}"
            )
        for name, seconds in (("connect_timeout", connect_timeout), ("read_timeout", read_timeout)):
            if type(seconds) not in (int, float) or not 0 < seconds <= _TIMEOUT_MAX:
                raise InvalidInput(
                    f"{name} is a number of seconds above 0, {_TIMEOUT_MAX} at most, not {brief(seconds)}"
                )
        for name, number, most in (
            ("max_connections", max_connections, _CONNECTIONS_MAX),
            ("page_size", page_size, _PAGE_SIZE_MAX),
        ):
            if type(number) is not int or not 1 <= number <= most:
                raise InvalidInput(f"{name} is a number from 1 to {most}, not {brief(number)}")
        if proxy is not None and not isinstance(proxy, str):
            raise InvalidInput(f"proxy is a URL, not {type(proxy).__name__}")
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
        self._recipe = _Recipe(type(self), uuid.uuid4().hex, settings)
        self._v4 = signature_version == "v4"
        self._page_size = page_size
        scheme, host = self._address.scheme, self._address.host
        found = environment_proxy(scheme, host, os.environ) if proxy is None else Proxy.parse(proxy) if proxy else None
        self._clock = ServerClock(clock, authenticated=scheme == "https" or (found is None and is_loopback(host)))
        self._keyring = Keyring(provider, self._clock)
        self._transport = Transport(
            scheme=scheme,
            host=host,
            port=self._address.port,
            authority=self._address.authority,
            user_agent=_default_user_agent() if user_agent is None else check_header_value("user_agent", user_agent),
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_connections=max_connections,
            context=tls_context(ca_bundle) if scheme == "https" else None,
            proxy=found,
        )
        self._options = _NO_OPTIONS
        self._part_headers: dict[str, str] = {}
        self._heads = _Latest()
        self._other_headers: dict[str, str] = {}
        self._owner = True
        self._closed = False

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def location(self) -> str:
        """
        ``oss://BUCKET@HOST``: free of credentials, and the same by every way to the bucket.

        For the service's own endpoints HOST is ``oss-REGION.aliyuncs.com``, whether the endpoint is public, internal,
        dual-stack or accelerated. A custom domain or a test server stands for itself, with its port.
        """
        return self._address.location

    @property
    def limits(self) -> PartLimits:
        """Parts of 100 KiB to 5 GiB, 10,000 of them; 5 GiB at once."""
        return LIMITS

    @property
    def capabilities(self) -> Capabilities:
        """Every option, lists of parts, checksums of parts and of objects."""
        return CAPABILITIES

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._address.bucket

    @property
    def region(self) -> str | None:
        """The region's id, None where it is not known, which only V1 can do without."""
        return self._address.region

    @property
    def endpoint(self) -> str:
        """Scheme and host that requests go to."""
        return f"{self._address.scheme}://{self._address.authority}"

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"OSSBackend({self.bucket!r}, endpoint={self.endpoint!r}, region={self.region!r}{closed})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(
        self,
    ) -> tuple[Callable[[_Recipe, ObjectOptions | None], OSSBackend], tuple[_Recipe, ObjectOptions | None]]:
        for name in ("credentials", "clock"):
            try:
                pickle.dumps(self._recipe.settings[name])
            except Exception as error:
                raise TypeError(
                    f"this OSSBackend can't be pickled, since its {name} can't be ({type(error).__name__}): give a "
                    "function of a module, Credentials, or None for the environment"
                ) from error
        return _restored, (self._recipe, None if self._options == _NO_OPTIONS else self._options)

    def close(self) -> None:
        """Close the connections; those in use are closed when their request ends. Closing twice is fine."""
        self._closed = True
        if self._owner:
            self._transport.close()

    def with_request_options(self, options: ObjectOptions) -> Self:
        """
        A handle that shares these connections, whose requests carry `traffic_limit` and `request_payer`.

        It lives as long as this one; closing it closes nothing else.

        All options are checked here, since those of an upload that is carried on are sent only when it is completed.

        Raises:
            InvalidInput: an option has a value that can't be sent.
        """
        self._check_open()
        check(options)
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound._owner = False
        bound._bind(ObjectOptions(traffic_limit=options.traffic_limit, request_payer=options.request_payer))
        return bound

    def _bind(self, options: ObjectOptions) -> None:
        if options == self._options:
            return  # the headers, and the heads made with them, are those of the handle that this one is of
        self._options = options
        self._part_headers = headers_for(Request.PART, options)
        self._other_headers = headers_for(Request.OTHER, options)
        self._heads = _Latest()

    # --- a multipart upload ------------------------------------------------------------------------------------------

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        """
        Begin a multipart upload; see `MultipartBackend.initiate_upload`.

        All options are checked here, also those that act when the upload is completed.

        Raises:
            InvalidInput: an option has a value that can't be sent.
        """
        headers = self._object_headers(Request.INITIATE, key, options)
        what = f"beginning an upload of {self._of(key)}"
        query = (("uploads", None), ("encoding-type", "url"))
        return _parsed(self._send(_Request(what, "POST", key, query, headers)), parse_initiated, what)

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        """
        Store one part; see `MultipartBackend.upload_part`.

        The service's checksum is compared with the body's here already.

        Raises:
            InvalidInput: the part number or the size is beyond `limits`.
        """
        return self.begin_part(key, upload_id, part_number, body)()

    def begin_part(self, key: str, upload_id: str, part_number: int, body: Body) -> Callable[[], UploadedPart]:
        """Send one part, and ask for its receipt later; see `SupportsPipelining.begin_part`, and `upload_part`."""
        self._begin(key, upload_id=upload_id, body=body)
        size = len(body)
        check_part(part_number, size, LIMITS)
        what = f"part {part_number} of {self._of(key)}"
        issued, (now, offset) = self._keyring.current(), self._clock.reading()
        head = self._part_heads(key, upload_id, issued, now).head(part_number, size)
        wait = self._transport.begin("PUT", head, exact_chunks(body, what))

        def receipt() -> UploadedPart:
            answer = wait()
            if not _is_plain(answer) or _log.isEnabledFor(logging.DEBUG):
                sent = _Sent(issued, offset, head)
                answer = _masked(answer, self._secrets(sent))
                _tell(answer, what, key, (("uploadId", upload_id),), part_number)
                self._judge(answer, what, sent)
            checksum = self._verified(answer, body, what, final=False)
            return UploadedPart(part_number, size, _etag(answer, what), checksum)

        return receipt

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        """List the parts held, a page at a time; see `MultipartBackend.list_parts`."""
        self._begin(key, upload_id=upload_id)
        what = f"listing the parts of upload {upload_id} of {self._of(key)}"

        def fetch(marker: int) -> Page[UploadedPart, int]:
            query = [("uploadId", upload_id), ("max-parts", str(self._page_size)), ("encoding-type", "url")]
            if marker:
                query.append(("part-number-marker", str(marker)))
            return self._page(_Request(what, "GET", key, query, self._other_headers, length=None), parse_parts)

        return _paged(
            fetch,
            0,
            what,
            LIMITS.max_parts,
            page_size=self._page_size,
            advice="the service keeps no more parts of an upload",
        )

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        """Make the object of the parts named; see `MultipartBackend.complete_upload`."""
        own = self._object_headers(Request.COMPLETE, key, options)
        check_call(upload_id=upload_id, parts=parts)
        if not parts:
            raise PartRejected(f"{self._of(key)} can't be completed: no part was named; the upload is kept")
        document = CompleteDocument(parts)
        # The list of parts has no checksum of its own.
        headers = {**own, "Content-Type": "application/xml", "Content-MD5": document.md5}
        what = f"completing upload {upload_id} of {self._of(key)}"
        query = (("uploadId", upload_id), ("encoding-type", "url"))
        request = _Request(what, "POST", key, query, headers, document, document.length)
        answer, sent = self._exchange(request, expected=(200, 203))
        etag = bare_etag(answer.headers.get("etag", ""))
        if etag is None:
            # A callback's answer is the application's, and says nothing of the object.
            etag = "" if options.callback else _parsed(answer, parse_completed, what) or _etag(answer, what)
        size = sum(part.size for part in parts)
        stored = StoredObject(key, size, etag, _checksum(answer, what), **_identity(answer))
        return self._called_back(answer, sent, stored, options, what)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts; see `MultipartBackend.abort_upload`."""
        self._begin(key, upload_id=upload_id)
        what = f"aborting upload {upload_id} of {self._of(key)}"
        try:
            self._send(
                _Request(what, "DELETE", key, (("uploadId", upload_id),), self._other_headers), expected=(200, 204)
            )
        except UploadNotFound:
            _log.debug("%s: it is gone already", what, extra={"key": key, "upload_id": upload_id, "part_number": None})

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        """List the pending uploads, a page at a time; see `MultipartBackend.list_uploads`."""
        self._check_open()
        check_prefix(prefix)
        what = f"listing the uploads in {self.location}"

        def fetch(marker: tuple[str, str]) -> Page[PendingUpload, tuple[str, str]]:
            query = [("uploads", None), ("max-uploads", str(self._page_size)), ("encoding-type", "url")]
            for name, value in (("prefix", prefix), ("key-marker", marker[0]), ("upload-id-marker", marker[1])):
                if value:
                    query.append((name, value))
            return self._page(_Request(what, "GET", None, query, self._other_headers, length=None), parse_uploads)

        return _paged(
            fetch, ("", ""), what, _UPLOADS_MAX, page_size=self._page_size, advice="list them by a prefix of their keys"
        )

    # --- objects -----------------------------------------------------------------------------------------------------

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        """
        Store a whole object; see `MultipartBackend.put_object`.

        The service's checksum is compared with the body's. Where they differ, what was stored stands under the key; the
        error is retryable unless overwriting was forbidden, since then it can't be put right by storing it again.

        Raises:
            InvalidInput: the body is larger than `limits.max_put_size`, or an option has a value that can't be sent.
        """
        headers = self._object_headers(Request.PUT, key, options)
        check_call(body=body)
        size = len(body)
        check_put(key, size, LIMITS)
        what = f"storing {self._of(key)}"
        chunks = exact_chunks(body, self._of(key))
        answer, sent = self._exchange(_Request(what, "PUT", key, (), headers, chunks, size), expected=(200, 203))
        checksum = self._verified(answer, body, what, final=options.forbid_overwrite)
        stored = StoredObject(key, size, _etag(answer, what), checksum, **_identity(answer))
        return self._called_back(answer, sent, stored, options, what)

    def head_object(self, key: str) -> StoredObject | None:
        """Describe an object; see `MultipartBackend.head_object`."""
        self._begin(key)
        what = f"looking at {self._of(key)}"
        try:
            answer = self._send(_Request(what, "HEAD", key, (), self._other_headers, length=None))
        except BackendError as error:
            # Where the service does not say why, the object is what is most likely to be missing.
            if error.status == 404 and error.code in (None, "NoSuchKey"):
                return None
            raise
        length = answer.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) <= _SIZE_DIGITS_MAX):
            raise _unusable(answer, what, "it does not say the object's size")
        return StoredObject(
            key,
            int(length),
            _etag(answer, what),
            _checksum(answer, what),
            metadata=metadata_of(answer.headers),
            **_identity(answer),
        )

    # --- one request -------------------------------------------------------------------------------------------------

    def _send(self, request: _Request, expected: tuple[int, ...] = (200,)) -> Answer:
        return self._exchange(request, expected)[0]

    def _exchange(self, request: _Request, expected: tuple[int, ...]) -> tuple[Answer, _Sent]:
        issued, (now, offset) = self._keyring.current(), self._clock.reading()
        signable = Signable(request.method, self._address.bucket, request.key, request.query, request.headers)
        signing = self._signing(signable, issued.credentials, now)
        target = self._address.target(request.key, request.query)
        head = self._transport.head(request.method, target, {**request.headers, **signing.signed()}, request.length)
        sent = _Sent(issued, offset, head)
        answer = _masked(self._transport.begin(request.method, head, request.body)(), self._secrets(sent))
        _tell(answer, request.what, request.key, request.query)
        return self._judge(answer, request.what, sent, expected), sent

    def _signing(self, request: Signable, credentials: Credentials, now: float) -> Signing:
        address = self._address
        if self._v4:
            assert address.region is not None  # `resolve` saw to it
            # The host is in each head already.
            request = request.with_headers({"Host": address.authority})
            return signing_v4(credentials, request, now, region=address.region, additional_headers=_ADDITIONAL_HEADERS)
        return signing_v1(credentials, request, now)

    def _secrets(self, sent: _Sent) -> tuple[str, ...]:
        """What an answer to a request may repeat and must not be shown."""
        signature = _SIGNATURE.search(sent.head)
        own = () if signature is None else (signature[1].decode("latin-1"),)
        return (*sent.issued.credentials.secrets, *self._transport.secrets, *own)

    def _part_heads(self, key: str, upload_id: str, issued: Issued, now: float) -> PartHeads:
        same = (key, upload_id, issued.generation, int(now))
        made = self._heads.made
        if made is not None and made[0] == same:
            return made[1]
        headers = self._part_headers
        heads = PartHeads(
            query=lambda number: (("partNumber", number), ("uploadId", upload_id)),
            sign=lambda query: self._signing(
                Signable("PUT", self._address.bucket, key, query, headers), issued.credentials, now
            ),
            write=lambda query, added: self._transport.head(
                "PUT", self._address.target(key, query), {**headers, **added}, None
            ),
        )
        self._heads.made = same, heads
        return heads

    def _judge(self, answer: Answer, what: str, sent: _Sent, expected: tuple[int, ...] = (200,)) -> Answer:
        if answer.status in expected:
            return answer
        raise self._failure(answer, what, sent)

    def _failure(self, answer: Answer, what: str, sent: _Sent) -> BackendError:
        said = read(answer, self._secrets(sent))
        error = failure(answer, what, said)
        if isinstance(error, ClockSkewed):
            theirs = server_time(answer, said)
            error.retryable = theirs is not None and self._clock.correct(theirs, sent.offset)
            if theirs is not None and not error.retryable:
                _advise(error, self._about_clocks(theirs))
        elif answer.status == 407:
            proxy = self._transport.proxy
            _advise(error, "something on the way asks for a password" if proxy is None else how_to_sign_on(proxy))
        elif self._v4 and (said.ec == _WRONG_REGION or "signing region" in said.message.lower()):
            _advise(error, self._about_region())
        elif self._v4 and said.code == "SignatureDoesNotMatch":
            _advise(
                error, f"check the secret; {self._about_region()}, and nothing on the way may change the Host header"
            )
        elif isinstance(error, CredentialsExpired):
            error.retryable = self._keyring.renew(sent.issued)
        elif said.code == "InvalidAccessKeyId" and self._keyring.renew(sent.issued):
            # A key that was rotated away looks like one that never was; there is another now.
            error = CredentialsExpired(
                error.message,
                code=error.code,
                status=error.status,
                request_id=error.request_id,
                host_id=error.host_id,
                ec=error.ec,
                details=error.details,
            )
        return error

    def _page(self, request: _Request, parse: Callable[[bytes], Page[Entry, Marker]]) -> Page[Entry, Marker]:
        self._check_open()
        return _parsed(self._send(request), parse, request.what)

    def _about_clocks(self, theirs: float) -> str:
        ahead = self._clock.difference(theirs)
        side = "ahead of" if ahead > 0 else "behind"
        # Nothing takes over more than a day.
        other_way = ", or give an endpoint by https" if self._clock.would_correct_if_authenticated(theirs) else ""
        return (
            f"the service's clock is {abs(ahead):.0f} seconds {side} this machine's, which is not taken over from this "
            f"answer: set the clock of this machine{other_way}"
        )

    def _about_region(self) -> str:
        region = self._address.region
        return f"requests were signed for the region {region}: give the bucket's own by region= or OSS_REGION"

    # --- what requests and answers have in common --------------------------------------------------------------------

    def _begin(self, key: str, **given: object) -> None:
        self._check_open()
        check_key(key)
        check_call(**given)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosed(f"the backend for {self.location} was closed; open it again to go on")

    def _of(self, key: str) -> str:
        return f"{key!r} in {self.location}"

    def _object_headers(self, request: Request, key: str, options: ObjectOptions) -> dict[str, str]:
        self._begin(key, options=options)
        options.require_supported_by(CAPABILITIES, self.location)
        if self._options != _NO_OPTIONS:
            options = evolve(
                options,
                traffic_limit=options.traffic_limit or self._options.traffic_limit,
                request_payer=options.request_payer or self._options.request_payer,
            )
        check(options)
        headers = headers_for(request, options)
        if request is not Request.COMPLETE:
            headers.setdefault("Content-Type", guess_content_type(key) or "application/octet-stream")
        return headers

    def _verified(self, answer: Answer, body: Body, what: str, *, final: bool) -> int | None:
        """The service's checksum of what it stored, compared with the body's."""
        theirs = _checksum(answer, what)
        if theirs is not None and body.crc64 is not None and theirs != body.crc64:
            raise IntegrityError(
                f"{what}: the bytes that were stored have the CRC-64 {theirs}, those that were sent {body.crc64}",
                status=answer.status,
                request_id=answer.headers.get("x-oss-request-id"),
                retryable=not final,
            )
        return theirs

    def _called_back(
        self, answer: Answer, sent: _Sent, stored: StoredObject, options: ObjectOptions, what: str
    ) -> StoredObject:
        if answer.status == 203:
            raise callback_failure(answer, what, read(answer, self._secrets(sent)), stored)
        return stored if options.callback is None else evolve(stored, callback_response=answer.body)


def _is_plain(answer: Answer) -> bool:
    """Whether this is the usual answer to a part, in which there is nothing to be masked."""
    headers = answer.headers
    return (
        answer.status == 200
        and _PLAIN_ETAG.fullmatch(headers.get("etag", "")) is not None
        and _PLAIN_REQUEST_ID.fullmatch(headers.get("x-oss-request-id", "")) is not None
    )


def _masked(answer: Answer, secrets: tuple[str, ...]) -> Answer:
    """
    The answer without secrets in what is kept of it.

    What an answer means that is a failure is for `read`, which masks all of it.
    """
    headers = {}
    for name, value in answer.headers.items():
        is_metadata = name.startswith(METADATA_PREFIX)
        kept = redacted(value, secrets) if is_metadata or name in _KEPT_HEADERS else value
        headers[redacted(name, secrets) if is_metadata else name] = kept
    body = answer.body
    if len(body) <= _SEARCHED_FOR_PARTS or contains(body, secrets):
        body = redacted(body.decode("latin-1"), secrets).encode("latin-1")
    return Answer(answer.status, headers, body)


def _advise(error: BackendError, advice: str) -> None:
    error.args = (f"{error.message}; {advice}",)


def _tell(answer: Answer, what: str, key: str | None, query: Query, part_number: int | None = None) -> None:
    if _log.isEnabledFor(logging.DEBUG):
        fields = {"key": key, "upload_id": dict(query).get("uploadId"), "part_number": part_number}
        _log.debug("%s: %d (request %s)", what, answer.status, answer.headers.get("x-oss-request-id"), extra=fields)


def _paged(
    fetch: Callable[[Marker], Page[Entry, Marker]], start: Marker, what: str, most: int, *, page_size: int, advice: str
) -> Iterator[Entry]:
    """
    The entries of all pages: the first page is taken now, each further one when it is reached.

    Args:
        fetch: gives the page that follows a marker.
        start: the marker of the first page.
        what: what is listed, for the message.
        most: entries that there can be.
        page_size: entries that a page was asked for.
        advice: what to do about more.
    """
    first = fetch(start)

    def entries(page: Page[Entry, Marker], marker: Marker) -> Iterator[Entry]:
        count = empty = short = 0
        while True:
            count += len(page.entries)
            empty += not page.entries
            short += len(page.entries) < page_size
            if count > most or empty > _EMPTY_PAGES_MAX:
                found = f"more than {most} entries" if count > most else f"more than {_EMPTY_PAGES_MAX} empty pages"
                raise BackendError(f"{what}: the list has {found}; {advice}")
            if short > _SHORT_PAGES_MAX:
                found = f"more than {_SHORT_PAGES_MAX} pages of fewer than {page_size} entries"
                raise BackendError(f"{what}: the list has {found}; {advice}")
            yield from page.entries
            if page.next_marker is None:
                return
            if page.next_marker <= marker:
                raise BackendError(f"{what}: the list does not advance beyond {marker!r:.200}")
            marker = page.next_marker
            page = fetch(marker)

    return entries(first, start)


def _identity(answer: Answer) -> dict[str, Any]:
    return {
        "version_id": answer.headers.get("x-oss-version-id"),
        "request_id": answer.headers.get("x-oss-request-id"),
    }


def _etag(answer: Answer, what: str) -> str:
    etag = bare_etag(answer.headers.get("etag", ""))
    if etag is None:
        raise _unusable(answer, what, "it has no ETag")
    if len(etag) > NAME_MAX:
        raise _unusable(answer, what, f"its ETag has more than {NAME_MAX} characters")
    return etag


def _checksum(answer: Answer, what: str) -> int | None:
    try:
        return crc64_of(answer.headers.get("x-oss-hash-crc64ecma"))
    except BadDocument as error:
        raise _unusable(answer, what, str(error)) from error


def _parsed(answer: Answer, parse: Callable[[bytes], _Parsed], what: str) -> _Parsed:
    try:
        return parse(answer.body)
    except BadDocument as error:
        raise _unusable(answer, what, str(error)) from error


def _unusable(answer: Answer, what: str, why: str) -> ServerFailed:
    # Retryable: it was said by something on the way, or cut short, and may be whole the next time.
    return ServerFailed(
        f"{what}: the answer can't be used: {why}",
        status=answer.status,
        request_id=answer.headers.get("x-oss-request-id"),
    )


@lru_cache(maxsize=1)
def _default_user_agent() -> str:
    try:
        return f"partwise/{importlib.metadata.version('partwise')}"
    except importlib.metadata.PackageNotFoundError:
        return "partwise"
