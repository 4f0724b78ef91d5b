"""
The heads of part requests, built from a template.

To build and sign the head of a request takes as long as all other Python code for a small part. The parts of one upload
that are sent within one second with the same credentials differ only in number, length and signature. So one head is
built by the general code, with a placeholder as its part number, and split where the placeholder and the signature are.
There is no second implementation that could diverge from the general one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count

from partwise.backends._http.signatures import PreparedSignature, Query


class PartRequestTemplate:
    """
    Builds the heads for the parts of one upload.

    Args:
        query: returns the query for a part number.
        prepare: prepares the signature of a request with this query, for fixed credentials and a fixed time.
        build: returns the head of a request without a length, given its query and the headers of its signature.
    """

    def __init__(
        self,
        *,
        query: Callable[[str], Query],
        prepare: Callable[[Query], PreparedSignature],
        build: Callable[[Query, Mapping[str, str]], bytes],
    ) -> None:
        for attempt in count():
            # A key, an upload id or a token may contain a placeholder, so try others until both are unique.
            number, signature = f"NUMBER{attempt}", f"SIGNATURE{attempt}"
            prepared = prepare(query(number))
            added = {**prepared.headers, "Authorization": prepared.authorization + signature}
            head = build(query(number), added).decode("latin-1")
            if prepared.text.count(number) == head.count(number) == head.count(signature) == 1:
                break
        self._sign = prepared.sign
        self._text = prepared.text.partition(number)[::2]
        self._before_number, _, rest = head.partition(number)
        self._before_signature, _, rest = rest.partition(signature)
        self._before_length = rest.removesuffix("\r\n") + "Content-Length: "

    def head(self, part_number: int, size: int) -> bytes:
        """Return the head of the request for a part of `size` bytes."""
        before, after = self._text
        signature = self._sign(f"{before}{part_number}{after}")
        return (
            f"{self._before_number}{part_number}{self._before_signature}{signature}{self._before_length}{size}\r\n\r\n"
        ).encode("latin-1")
