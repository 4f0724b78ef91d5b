"""
Callbacks: a request to an application server after an object was stored.

Only servers on the loopback interface are called. A callback to any other host fails, so that a wrong URL in a test
reaches no other machine.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from urllib.parse import SplitResult, quote_plus, urlsplit

from attrs import define, field

from partwise.model import KIB, MIB
from partwise.server.errors import ServiceError, bad_argument
from partwise.server.hosts import is_loopback
from partwise.server.listener import shut_down
from partwise.server.messages import ServerRequest, is_utf8, to_bytes

#: Seconds from the connection to the application server until the end of its response.
CALLBACK_TIMEOUT = 5.0

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_URLS_MAX = 5
_HEADER_BYTES_MAX = 5 * KIB
_RESPONSE_BYTES_MAX = MIB
_VARIABLE = re.compile(r'("?)\$\{([^}]*)\}')


class CallbackFailed(Exception):
    """No application server accepted the callback; the message says why."""


@define(frozen=True)
class CallbackRequest:
    """The callback of a request."""

    urls: tuple[str, ...]  # tried in order until one responds correctly
    body: str  # the template of the body
    host: str | None = None  # the Host header; None: the host of the URL
    body_type: str = _FORM  # the Content-Type, which also determines how values are encoded in the body
    variables: Mapping[str, str] = field(factory=dict)  # the values of custom variables, by ``x:name``

    def deliver(self, values: Mapping[str, str | int]) -> bytes:
        """Post the callback and return the response; raise CallbackFailed if invalid."""
        body = self.filled(values).encode()
        failures = []
        for url in self.urls:
            try:
                return self._post(url, body)
            except (CallbackFailed, OSError, HTTPException, ValueError) as error:
                failures.append(f"{url}: {str(error) or type(error).__name__}")
        raise CallbackFailed("; ".join(failures))

    def filled(self, values: Mapping[str, str | int]) -> str:
        """
        Return the body with each variable replaced by its value.

        An unknown variable is replaced by nothing.
        """
        known = {**values, **self.variables}

        def value_of(match: re.Match[str]) -> str:
            quote, name = match[1], match[2]
            value = known.get(name, "")
            if self.body_type == _FORM:
                return quote + quote_plus(to_bytes(str(value)))
            # A value is encoded as a JSON literal, without quotes of its own if the template has them.
            return quote + json.dumps(str(value))[1:-1] if quote else json.dumps(value)

        return _VARIABLE.sub(value_of, self.body)

    def _post(self, url: str, body: bytes) -> bytes:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host = parts.hostname or ""
        if parts.scheme != "http":
            raise CallbackFailed("only http is supported")
        if not is_loopback(host):
            raise CallbackFailed("only hosts on the loopback interface are called")
        with closing(HTTPConnection(host, parts.port or 80, timeout=CALLBACK_TIMEOUT)) as connection:
            connection.connect()
            # The timeout of the connection applies to each single read; this one applies to all of them together.
            with _shut_down_after(CALLBACK_TIMEOUT, connection.sock):
                return self._send_and_check(connection, parts, body)

    def _send_and_check(self, connection: HTTPConnection, parts: SplitResult, body: bytes) -> bytes:
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        headers = {"Content-Type": self.body_type, "Host": self.host or parts.netloc}
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        content = response.read(_RESPONSE_BYTES_MAX + 1)
        if response.status != 200:
            raise CallbackFailed(f"the status of its response is {response.status}, not 200")
        if response.getheader("Content-Length") is None:
            raise CallbackFailed("its response has no Content-Length")
        if len(content) > _RESPONSE_BYTES_MAX:
            raise CallbackFailed(f"its response has more than {_RESPONSE_BYTES_MAX} bytes")
        _parse_json(content)
        return content


@contextmanager
def _shut_down_after(seconds: float, connection: socket.socket) -> Iterator[None]:
    """Shut the connection down if the block takes longer."""
    timer = threading.Timer(seconds, shut_down, (connection,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _parse_json(text: bytes) -> object:
    """Parse a JSON text; raise ValueError if it is invalid, or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def callback_of(request: ServerRequest) -> CallbackRequest | None:
    """
    Return the callback of a request; None if it has none.

    It comes from a header or from the query.

    Raises:
        ServiceError: InvalidArgument: the callback is invalid, or given in both places.
    """
    content = _decoded(request, "callback")
    if content is None:
        return None
    variables = _decoded(request, "callback-var") or {}
    urls = tuple(url.strip() for url in _text(content, "callbackUrl").split(";") if url.strip())
    body_type = _text(content, "callbackBodyType", _FORM)
    if not 1 <= len(urls) <= _URLS_MAX:
        raise bad_argument("callback", ";".join(urls), f"callbackUrl must have from 1 to {_URLS_MAX} URLs.")
    if body_type not in (_FORM, _JSON):
        raise bad_argument("callback", body_type, f"callbackBodyType must be {_FORM} or {_JSON}.")
    for name in variables:
        if not name.startswith("x:") or name != name.lower():
            raise bad_argument("callback-var", name, "A custom variable must be in lower case and start with x:.")
    return CallbackRequest(
        urls,
        _text(content, "callbackBody"),
        _text(content, "callbackHost", "") or None,
        body_type,
        {name: _text(variables, name, "") for name in variables},
    )


def _decoded(request: ServerRequest, name: str) -> dict[str, object] | None:
    in_header, in_query = request.header(f"x-oss-{name}"), request.param(name)
    if in_header is not None and in_query is not None:
        raise bad_argument(name, "", f"x-oss-{name} and the query parameter {name} exclude each other.")
    text = in_header if in_header is not None else in_query
    if text is None:
        return None
    if len(text) > _HEADER_BYTES_MAX:
        raise bad_argument(name, "", f"The {name} has more than {_HEADER_BYTES_MAX} bytes.")
    try:
        content = _parse_json(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise bad_argument(name, text, f"The {name} configuration is not base64-encoded JSON.") from error
    if not isinstance(content, dict):
        raise bad_argument(name, text, f"The {name} configuration is not a JSON object.")
    return content


def _text(content: Mapping[str, object], name: str, default: str | None = None) -> str:
    value = content.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise ServiceError("InvalidArgument", f"{name} of the callback configuration is missing or not a string.")
    if not is_utf8(value):
        raise ServiceError("InvalidArgument", f"{name} of the callback configuration is not UTF-8.")
    return value
