"""
The operation of a request.

A server that ignored unknown sub-resources would store an ACL document as an object, so everything unknown is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define

from partwise.server.errors import ServiceError
from partwise.server.messages import RequestTarget, ServerRequest

#: The names of operations, by method and by the sub-resources of the query, sorted and joined by blanks.
_Table = Mapping[tuple[str, str], str]


@define(frozen=True)
class OperationTable:
    """The operations of a dialect, which method and sub-resources select."""

    selectors: frozenset[str]  # the query parameters that select an operation
    copy_source: str  # the beginning of the names of the headers of a copy, which no operation here makes
    service: _Table
    bucket: _Table
    object: _Table

    @property
    def names(self) -> frozenset[str]:
        """The names of all operations, for recorded requests and planned faults."""
        return frozenset({*self.service.values(), *self.bucket.values(), *self.object.values(), "ListObjectsV2"})

    def find(self, request: ServerRequest, target: RequestTarget) -> str:
        """
        Return the operation's name in the API reference.

        Raises ServiceError with the code NotImplemented if there is none.
        """
        selected = " ".join(sorted({name for name, _ in request.query} & self.selectors))
        if target.bucket is None:
            table = self.service
        elif target.key is None:
            table = self.bucket
        else:
            table = self.object
        operation = table.get((request.method, selected))
        copies = any(name.startswith(self.copy_source) for name, _ in request.headers)
        if operation is None or copies:
            raise ServiceError("NotImplemented", f"This server has no operation {request.method} with ({selected}).")
        if operation == "ListObjects" and request.param("list-type") == "2":
            return "ListObjectsV2"
        return operation
