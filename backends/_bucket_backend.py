"""
What the backends of services that are built like S3 share.

This is their settings, their handles and pickles, and the operations that differ in details only: lists, and the abort
of an upload.
"""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Protocol, Self

from attrs import define, field

from partwise._closing import Closing
from partwise._validation import brief, check_callable, check_path
from partwise.backends._argument_checks import check_call
from partwise.backends._http.addresses import is_loopback
from partwise.backends._http.client import HTTPClient
from partwise.backends._http.clock import ServerClock
from partwise.backends._http.connections import Endpoint
from partwise.backends._http.credentials import CredentialsCache, CredentialsProvider
from partwise.backends._http.headers import check_header_value
from partwise.backends._http.http1 import Response
from partwise.backends._http.option_headers import OptionTable, RequestKind
from partwise.backends._http.proxies import Proxy, environment_proxy
from partwise.backends._http.responses import ResponseReader
from partwise.backends._http.signed_client import SignedClient, SignedRequest
from partwise.backends._http.tls_pump import lazy_tls_context
from partwise.content_types import guess_content_type
from partwise.errors import BackendClosed, InvalidInput, UploadNotFound
from partwise.model import Capabilities, ObjectOptions, PartLimits, PendingUpload, UploadedPart
from partwise.paging import Entry, Marker, ResultPage, list_pages
from partwise.protocols import Body

PAGE_SIZE_MAX = 1000

#: Uploads in one list. The caller may have to keep them all, and a server that reports more and more is not a bucket. A
#: bucket that really has more can be listed by prefixes.
_UPLOADS_MAX = 100_000

#: Seconds. A larger value is a mistake, or in milliseconds.
_TIMEOUT_MAX = 86_400

_CONNECTIONS_MAX = 10_000


class BucketAddress(Protocol):
    """How to reach a bucket."""

    @property
    def bucket(self) -> str:
        """The bucket's name."""

    @property
    def region(self) -> str | None:
        """The region's id, None if it is unknown."""

    @property
    def scheme(self) -> str:
        """``https`` or ``http``."""

    @property
    def host(self) -> str:
        """The host to connect to."""

    @property
    def port(self) -> int:
        """The port to connect to."""

    @property
    def authority(self) -> str:
        """The host as in a URL and in the Host header."""

    @property
    def location(self) -> str:
        """A URL of the bucket that does not depend on the endpoint."""


@define(frozen=True)
class _PickleState:
    """
    How a backend was created, to create it again in another process.

    Backends from the same call of the constructor have equal states, however often they were pickled.
    """

    kind: type[BucketBackend]
    identity: str
    settings: dict[str, Any] = field(eq=False, repr=False)


# A process pool unpickles a backend for each part. All copies share the connections and the credentials of one backend;
# otherwise each part would require a TLS handshake, and perhaps a call of the credentials provider. The connections of
# a backend that is evicted from this cache are closed when its last handle is garbage-collected.
@lru_cache(maxsize=8)
def _rebuild(state: _PickleState) -> BucketBackend:
    backend = state.kind(**state.settings)
    backend._pickle_state = state  # noqa: SLF001  # so that a copy of a copy is equal, too
    return backend


def _unpickle(state: _PickleState, options: ObjectOptions | None) -> BucketBackend:
    backend = _rebuild(state)
    return backend.with_request_options(backend.option_table.option_type() if options is None else options)


def check_connection_settings(
    *,
    connect_timeout: float,
    read_timeout: float,
    max_connections: int,
    page_size: int,
    proxy: str | None,
    ca_bundle: str | None,
    clock: object,
) -> None:
    """
    Check the settings that all backends have.

    Raises:
        InvalidInput: one of them is invalid.
    """
    for name, seconds in (("connect_timeout", connect_timeout), ("read_timeout", read_timeout)):
        if type(seconds) not in (int, float) or not 0 < seconds <= _TIMEOUT_MAX:
            raise InvalidInput(
                f"{name} must be a number of seconds above 0, up to {_TIMEOUT_MAX}, not {brief(seconds)}"
            )
    for name, number, maximum in (
        ("max_connections", max_connections, _CONNECTIONS_MAX),
        ("page_size", page_size, PAGE_SIZE_MAX),
    ):
        if type(number) is not int or not 1 <= number <= maximum:
            raise InvalidInput(f"{name} must be a number from 1 to {maximum}, not {brief(number)}")
    if proxy is not None and not isinstance(proxy, str):
        raise InvalidInput(f"proxy must be a URL, not {type(proxy).__name__}")
    if ca_bundle is not None:
        check_path("ca_bundle", ca_bundle, str)
    check_callable("clock", clock)


@define(frozen=True)
class Access:
    """What a client needs to send signed requests."""

    http: HTTPClient
    credentials: CredentialsCache
    clock: ServerClock
    is_local: bool  # whether requests do not leave this machine


def open_access(
    address: BucketAddress, provider: CredentialsProvider, settings: Mapping[str, Any], clock: Callable[[], float]
) -> Access:
    """
    Prepare the connections to a bucket, with the settings of its backend.

    Raises:
        InvalidInput: a setting is invalid.
    """
    proxy, ca_bundle, user_agent = settings["proxy"], settings["ca_bundle"], settings["user_agent"]
    if proxy is None:
        used_proxy = environment_proxy(address.scheme, address.host, os.environ)
    else:
        used_proxy = Proxy.parse(proxy) if proxy else None
    http_endpoint = Endpoint(
        scheme=address.scheme,
        host=address.host,
        port=address.port,
        authority=address.authority,
        connect_timeout=settings["connect_timeout"],
        read_timeout=settings["read_timeout"],
        context=lazy_tls_context(ca_bundle) if address.scheme == "https" else None,
        proxy=used_proxy,
    )
    http = HTTPClient(
        http_endpoint,
        user_agent=_default_user_agent() if user_agent is None else check_header_value("user_agent", user_agent),
        max_connections=settings["max_connections"],
    )
    is_local = used_proxy is None and is_loopback(address.host)
    server_clock = ServerClock(clock, authenticated=address.scheme == "https" or is_local)
    return Access(http, CredentialsCache(provider, server_clock), server_clock, is_local)


class BucketBackend(Closing):
    """
    The base of the backends of OSS and S3.

    A subclass checks its settings, opens its client, and calls `_set_up`.
    """

    #: The options that the service honours.
    option_table: OptionTable
    _reader: ClassVar[ResponseReader]

    #: Parameters of every list of parts, besides the upload id and the page.
    _list_parts_query: ClassVar[tuple[tuple[str, str], ...]] = ()

    #: Whether a list of uploads is sorted by key and upload id.
    _uploads_are_ordered: ClassVar[bool] = True

    def _set_up(self, address: BucketAddress, client: SignedClient, settings: dict[str, Any]) -> None:
        """Keep what the operations need; `settings` are the arguments of the constructor."""
        self._address = address
        self._client = client
        self._pickle_state = _PickleState(type(self), uuid.uuid4().hex, settings)
        self._page_size: int = settings["page_size"]
        self._request_options = self._no_options
        self._owns_client = True
        self._closed = False

    # --- what differs between services -------------------------------------------------------------------------------

    @property
    @abstractmethod
    def limits(self) -> PartLimits:
        """What the storage accepts."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the backend supports."""

    @abstractmethod
    def _check_key(self, key: str) -> str: ...

    @abstractmethod
    def _parse_parts(self, data: bytes) -> ResultPage[UploadedPart, int]: ...

    @abstractmethod
    def _parse_uploads(self, data: bytes) -> ResultPage[PendingUpload, tuple[str, str]]: ...

    # --- properties --------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def location(self) -> str:
        """A URL of the bucket, without credentials: the same for each of its endpoints."""

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._address.bucket

    @property
    def region(self) -> str | None:
        """The region's id; None if it is unknown."""
        return self._address.region

    @property
    def endpoint(self) -> str:
        """Scheme and host of the requests."""
        return f"{self._address.scheme}://{self._address.authority}"

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        name = type(self).__name__
        return f"{name}({self.bucket!r}, endpoint={self.endpoint!r}, region={self.region!r}{closed})"

    # --- handles -----------------------------------------------------------------------------------------------------

    def __reduce__(
        self,
    ) -> tuple[
        Callable[[_PickleState, ObjectOptions | None], BucketBackend], tuple[_PickleState, ObjectOptions | None]
    ]:
        for name in ("credentials", "clock"):
            try:
                pickle.dumps(self._pickle_state.settings[name])
            except Exception as error:
                raise TypeError(
                    f"this {type(self).__name__} can't be pickled, since its {name} can't be ({type(error).__name__}): "
                    "pass a module-level function, Credentials, or None for the environment"
                ) from error
        options = self._request_options
        return _unpickle, (self._pickle_state, None if options == self._no_options else options)

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
        Return a handle whose requests carry the options that are not of the object.

        It has the same connections. The handle is valid until this backend is closed; closing the handle closes no
        connection.

        All options are checked here, since those of a resumed upload are sent only when it is completed.

        Raises:
            InvalidInput: an option has a value that can't be sent.
        """
        self._check_open()
        self.option_table.check(options)
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound._owns_client = False
        request_options = self.option_table.of_requests(options)
        if request_options != self._request_options:
            bound._request_options = request_options
            bound._client = self._client.with_part_headers(self.option_table.headers(RequestKind.PART, request_options))
        return bound

    # --- operations that are the same everywhere ---------------------------------------------------------------------

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        """
        Store one part; see `MultipartBackend.upload_part`.

        Raises:
            InvalidInput: the part number or the size exceeds `limits`.
        """
        return self.begin_part(key, upload_id, part_number, body)()

    @abstractmethod
    def begin_part(self, key: str, upload_id: str, part_number: int, body: Body) -> Callable[[], UploadedPart]:
        """
        Send one part, and wait for the response later.

        See `SupportsPipelining.begin_part` and `upload_part`.
        """

    def cut_part(self, body: Body, reason: str) -> None:
        """End the call of `upload_part` that sends this body; see `SupportsCutting`."""
        self._client.cut(body, reason)

    def connect_ahead(self, count_for: Callable[[float], int]) -> None:
        """
        Make the connections of the parts during the next request.

        See `SupportsConnectingAhead.connect_ahead`.
        """
        self._client.connect_ahead(count_for)

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        """List the stored parts, page by page; see `MultipartBackend.list_parts`."""
        self._check_usable(key, upload_id=upload_id)
        operation = f"listing the parts of upload {upload_id} of {self._describe(key)}"

        def fetch(marker: int) -> ResultPage[UploadedPart, int]:
            query = [("uploadId", upload_id), ("max-parts", str(self._page_size)), *self._list_parts_query]
            if marker:
                query.append(("part-number-marker", str(marker)))
            request = self._reading(operation, "GET", key, query, RequestKind.READ)
            return self._fetch_page(request, self._parse_parts)

        return list_pages(fetch, 0, operation, self.limits.max_parts, page_size=self._page_size)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Abort an upload and delete its parts; see `MultipartBackend.abort_upload`."""
        self._check_usable(key, upload_id=upload_id)
        operation = f"aborting upload {upload_id} of {self._describe(key)}"
        headers = self._request_headers(RequestKind.OTHER)
        request = SignedRequest(operation, "DELETE", key, (("uploadId", upload_id),), headers)
        try:
            self._client.send(request, expected=(200, 204))
        except UploadNotFound:
            extra = {"key": key, "upload_id": upload_id, "part_number": None}
            self._client.log.debug("%s: it does not exist any more", operation, extra=extra)

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
            request = self._reading(operation, "GET", None, query, RequestKind.OTHER)
            return self._fetch_page(request, self._parse_uploads)

        return list_pages(
            fetch,
            ("", ""),
            operation,
            _UPLOADS_MAX,
            page_size=self._page_size,
            ordered=self._uploads_are_ordered,
            hint="List them by a prefix of their keys",
        )

    # --- steps that operations share ---------------------------------------------------------------------------------

    @property
    def _no_options(self) -> ObjectOptions:
        return self.option_table.option_type()

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosed(f"the backend for {self.location} is closed", hint="Open a new one")

    def _check_usable(self, key: str, **arguments: object) -> None:
        self._check_open()
        self._check_key(key)
        check_call(**arguments)

    def _describe(self, key: str) -> str:
        return f"{key!r} in {self._address.location}"

    def _option_headers(self, kind: RequestKind, key: str, options: ObjectOptions) -> dict[str, str]:
        self._check_usable(key, options=options)
        options.require_supported_by(self.capabilities, self.location)
        self.option_table.check(options)
        headers = self._request_headers(kind) | self.option_table.headers(kind, options)
        if kind is not RequestKind.COMPLETE:
            headers.setdefault("Content-Type", guess_content_type(key) or "application/octet-stream")
        return headers

    def _request_headers(self, kind: RequestKind) -> dict[str, str]:
        return self.option_table.headers(kind, self._request_options)

    def _reading(
        self,
        operation: str,
        method: str,
        key: str | None,
        query: Iterable[tuple[str, str | None]],
        kind: RequestKind,
        **headers: str,
    ) -> SignedRequest:
        """Return a request without a body."""
        return SignedRequest(
            operation, method, key, tuple(query), {**self._request_headers(kind), **headers}, length=None
        )

    def _send(self, request: SignedRequest) -> Response:
        return self._client.send(request)[0]

    def _fetch_page(
        self, request: SignedRequest, parse: Callable[[bytes], ResultPage[Entry, Marker]]
    ) -> ResultPage[Entry, Marker]:
        self._check_open()
        return self._reader.parse(self._send(request), parse, request.operation)


@lru_cache(maxsize=1)
def _default_user_agent() -> str:
    try:
        return f"partwise/{importlib.metadata.version('partwise')}"
    except importlib.metadata.PackageNotFoundError:
        return "partwise"
