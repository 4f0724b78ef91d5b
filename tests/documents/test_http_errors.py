"""The table of HTTP statuses is what the backends go by."""

from __future__ import annotations

import re
from collections.abc import Callable

import partwise
from partwise.http_errors import class_for_status, error_for_status

Table = list[dict[str, str]]


def test_each_status_of_the_table_has_its_class(
    section: Callable[[str, str], str], tables: Callable[[str], list[Table]], names: Callable[[str], list[str]]
) -> None:
    [table] = tables(section("reference/protocols", "HTTP statuses"))
    seen = set()
    for row in table:
        kind = getattr(partwise, names(row["class"])[0])
        for status, waits in re.findall(r"\b([1-5]\d\d)\b( with a Retry-After)?", row["status"]):
            headers = {"Retry-After": "1"} if waits else {}
            error = error_for_status(int(status), headers, "no")
            assert (type(error), error.retryable) == (kind, row["retryable"] == "yes"), status
            seen.add((int(status), bool(waits)))

    assert len(seen) > 15
    unlisted = {status for status in range(100, 500) if (status, False) not in seen}
    assert {class_for_status(status) for status in unlisted} == {partwise.BackendError}
    assert {class_for_status(status) for status in range(506, 600)} == {partwise.ServerFailed}
