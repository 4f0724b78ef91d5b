"""
Telling an application server that an object is stored.

Only servers on the loopback interface are called. A callback to anywhere else counts as failed, so that a test can't
reach out of its machine by a mistaken URL.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from urllib.parse import SplitResult, quote_plus, urlsplit

from attrs import define, field

from partwise.model import KIB, MIB
from partwise.server.hosts import is_loopback
from partwise.server.messages import Request, is_text, to_bytes
from partwise.server.oss.errors import OSSError, bad_argument

#: Seconds within which the application server must have answered, from when it takes the connection.
PATIENCE = 5.0

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_URLS_MAX = 5
_HEADER_BYTES_MAX = 5 * KIB
_RESPONSE_BYTES_MAX = MIB
_VARIABLE = re.compile(r'("?)\$\{([^}]*)\}')


class CallbackFailed(Exception):
    """No application server took the callback; the message says why."""


@define(frozen=True)
class CallbackRequest:
    """
    What was asked for, as it came.

    Args:
        urls: tried in turn until one answers as it should.
        body: the template of what is posted.
        host: the Host header; None: that of the URL.
        body_type: the Content-Type, which also says how values are written into the body.
        variables: the caller's own values, by ``x:name``.
    """

    urls: tuple[str, ...]
    body: str
    host: str | None = None
    body_type: str = _FORM
    variables: Mapping[str, str] = field(factory=dict)

    def deliver(self, values: Mapping[str, str | int]) -> bytes:
        """
        Post the callback and return the JSON that came back.

        Args:
            values: the service's variables, by name.

        Raises:
            CallbackFailed: no URL gave the response that is needed.
        """
        body = self.filled(values).encode()
        failures = []
        for url in self.urls:
            try:
                return self._post(url, body)
            except (CallbackFailed, OSError, HTTPException, ValueError) as error:
                failures.append(f"{url}: {str(error) or type(error).__name__}")
        raise CallbackFailed("; ".join(failures))

    def filled(self, values: Mapping[str, str | int]) -> str:
        """The body with every variable replaced by its value, and by nothing where there is none."""
        known = {**values, **self.variables}

        def value_of(match: re.Match[str]) -> str:
            quote, name = match[1], match[2]
            value = known.get(name, "")
            if self.body_type == _FORM:
                return quote + quote_plus(to_bytes(str(value)))
            # A value stands as a JSON literal; within quotes of the template it must not bring its own.
            return quote + json.dumps(str(value))[1:-1] if quote else json.dumps(value)

        return _VARIABLE.sub(value_of, self.body)

    def _post(self, url: str, body: bytes) -> bytes:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host = parts.hostname or ""
        if parts.scheme != "http":
            raise CallbackFailed("only http is called")
        if not is_loopback(host):
            raise CallbackFailed("only the loopback interface is called")
        connection = HTTPConnection(host, parts.port or 80, timeout=PATIENCE)
        try:
            connection.connect()
            # The limit of the connection holds for each wait, and one that drips would be waited for again and again.
            with _cut_off_after(PATIENCE, connection.sock):
                return self._posted(connection, parts, body)
        finally:
            connection.close()

    def _posted(self, connection: HTTPConnection, parts: SplitResult, body: bytes) -> bytes:
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        headers = {"Content-Type": self.body_type, "Host": self.host or parts.netloc}
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        content = response.read(_RESPONSE_BYTES_MAX + 1)
        if response.status != 200:
            raise CallbackFailed(f"it answered {response.status}, not 200")
        if response.getheader("Content-Length") is None:
            raise CallbackFailed("its response has no Content-Length")
        if len(content) > _RESPONSE_BYTES_MAX:
            raise CallbackFailed(f"its response has more than {_RESPONSE_BYTES_MAX} bytes")
        _json_of(content)
        return content


@contextmanager
def _cut_off_after(seconds: float, connection: socket.socket) -> Iterator[None]:
    """End the connection where the block takes longer."""
    timer = threading.Timer(seconds, _end, (connection,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _end(connection: socket.socket) -> None:
    # It may have ended by itself meanwhile.
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _json_of(text: bytes) -> object:
    """
    The value of a JSON text.

    Raises:
        ValueError: it is not JSON, or is nested too deep to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def callback_of(request: Request) -> CallbackRequest | None:
    """
    The callback that the request asks for, in a header or in the query; None where it asks for none.

    Raises:
        OSSError: InvalidArgument: what it says is no callback, or it stands in both places.
    """
    asked = _decoded(request, "callback")
    if asked is None:
        return None
    variables = _decoded(request, "callback-var") or {}
    urls = tuple(url.strip() for url in _text(asked, "callbackUrl").split(";") if url.strip())
    body_type = _text(asked, "callbackBodyType", _FORM)
    if not 1 <= len(urls) <= _URLS_MAX:
        raise bad_argument("callback", ";".join(urls), f"callbackUrl has from 1 to {_URLS_MAX} URLs.")
    if body_type not in (_FORM, _JSON):
        raise bad_argument("callback", body_type, f"callbackBodyType is {_FORM} or {_JSON}.")
    for name in variables:
        if not name.startswith("x:") or name != name.lower():
            raise bad_argument("callback-var", name, "A name of your own is in lower case and starts with x:.")
    return CallbackRequest(
        urls,
        _text(asked, "callbackBody"),
        _text(asked, "callbackHost", "") or None,
        body_type,
        {name: _text(variables, name, "") for name in variables},
    )


def _decoded(request: Request, name: str) -> dict[str, object] | None:
    in_header, in_query = request.header(f"x-oss-{name}"), request.param(name)
    if in_header is not None and in_query is not None:
        raise bad_argument(name, "", f"x-oss-{name} and the query parameter {name} can't go together.")
    text = in_header if in_header is not None else in_query
    if text is None:
        return None
    if len(text) > _HEADER_BYTES_MAX:
        raise bad_argument(name, "", f"The {name} has more than {_HEADER_BYTES_MAX} bytes.")
    try:
        content = _json_of(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise bad_argument(name, text, f"The {name} configuration is not the base64 of JSON.") from error
    if not isinstance(content, dict):
        raise bad_argument(name, text, f"The {name} configuration is not an object.")
    return content


def _text(content: Mapping[str, object], name: str, default: str | None = None) -> str:
    value = content.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise OSSError("InvalidArgument", f"{name} of the callback configuration is missing or not a text.")
    if not is_text(value):
        raise OSSError("InvalidArgument", f"{name} of the callback configuration is not UTF-8.")
    return value
