"""
The refusal of a request.

Any module of the server can raise `ServiceError`. The dialect writes the error response, and adds the status and the
message that belong to the code.
"""

from __future__ import annotations

from collections.abc import Mapping


class ServiceError(Exception):
    """
    The request is refused.

    Args:
        code: the error code, such as ``"AccessDenied"``.
        message: None: the dialect's usual message for this code.
        status: the HTTP status; None: the dialect's usual status for this code, or 500 if it is unknown.
        elements: further elements of the error document by name, such as ``{"UploadId": "..."}``.
        headers: further headers of the response.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        status: int | None = None,
        elements: Mapping[str, str] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.code = code
        self.message = message
        self.status = status
        self.elements = dict(elements or {})
        self.headers = headers
        super().__init__(code if message is None else f"{code}: {message}")


def bad_argument(name: str, value: str, message: str) -> ServiceError:
    """Make an InvalidArgument error that names the argument and its value."""
    return ServiceError("InvalidArgument", message, elements={"ArgumentName": name, "ArgumentValue": value})
