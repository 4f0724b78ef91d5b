"""Follow an error to what caused it."""

from __future__ import annotations

from collections.abc import Iterator


def error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those before it, each once, as a traceback shows them."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # a chain may lead back to where it began
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
