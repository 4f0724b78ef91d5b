"""
The heads of the requests that send parts, with all that parts have in common written once.

To write down and sign a request takes as long as everything else that Python does for a small part. Of the parts of one
upload that are sent within one second, with the same credentials, only number, length and signature differ. So the
general rules are followed once, for a part whose number stands nowhere else, and what they give is cut where that
number and the signature stand. There is no second set of rules that could come to differ from the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count

from partwise.backends.oss.signing import Query, Signing


class PartHeads:
    """
    The heads for the parts of one upload.

    Args:
        query: the query for a part number.
        sign: prepares the signing of a request with this query; the time and the credentials are its affair.
        write: gives a request's head, without a length, for a query and for the headers that `sign` adds.
    """

    def __init__(
        self,
        *,
        query: Callable[[str], Query],
        sign: Callable[[Query], Signing],
        write: Callable[[Query, Mapping[str, str]], bytes],
    ) -> None:
        for stranger in count():
            # Keys, ids and tokens may hold any text, this one too, but not all of them.
            number, signature = f"NUMBER{stranger}", f"SIGNATURE{stranger}"
            signing = sign(query(number))
            added = {**signing.headers, "Authorization": signing.authorization + signature}
            head = write(query(number), added).decode("latin-1")
            if signing.text.count(number) == head.count(number) == head.count(signature) == 1:
                break
        self._sign = signing.sign
        self._text = signing.text.partition(number)[::2]
        self._to_number, _, rest = head.partition(number)
        self._to_signature, _, rest = rest.partition(signature)
        self._to_length = rest.removesuffix("\r\n") + "Content-Length: "

    def head(self, part_number: int, size: int) -> bytes:
        """The head for one part of `size` bytes."""
        before, after = self._text
        signature = self._sign(f"{before}{part_number}{after}")
        return (f"{self._to_number}{part_number}{self._to_signature}{signature}{self._to_length}{size}\r\n\r\n").encode(
            "latin-1"
        )
