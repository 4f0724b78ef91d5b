"""The response of a test server, for tests that send requests by `http.client`."""

from __future__ import annotations

import http.client
from xml.etree import ElementTree as ET

from attrs import define


@define
class Reply:
    """A response, whose document is read by paths."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def text(self, path: str) -> str | None:
        """Return the text of the first element at this path below the root."""
        return ET.fromstring(self.body).findtext(path)

    def texts(self, path: str) -> list[str]:
        """Return the texts of all elements at this path."""
        return [element.text or "" for element in ET.fromstring(self.body).findall(path)]

    @property
    def code(self) -> str | None:
        """The error code."""
        return self.text("Code")
