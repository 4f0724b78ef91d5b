"""Mutations of what the authors of backends build on: bodies as files, statuses and pages."""

from __future__ import annotations

from mutated.mutation import Mutation

HTTP_ERRORS, HTTP_ERRORS_TESTS = "core/http_errors.py", ("tests/core/test_http_errors.py",)
BODIES, FILE_TESTS = "core/bodies.py", ("tests/core/test_body_files.py",)
PAGING, PAGING_TESTS = "core/paging.py", ("tests/core/test_paging.py",)

MUTATIONS = [
    Mutation(
        "a body with more bytes than its length is sent",
        BODIES,
        "        if received > expected:\n            break",
        "        pass",
        FILE_TESTS,
    ),
    Mutation(
        "a body that ends early is a shorter file",
        BODIES,
        "    if received != expected:\n",
        "    if received > expected:\n",
        FILE_TESTS,
    ),
    Mutation(
        "the last bytes are returned before the body has ended",
        BODIES,
        "                if self._position == self._size:\n                    self._finish_reading()",
        "                pass",
        FILE_TESTS,
    ),
    Mutation(
        "the error of a body is lost in that of the library",
        BODIES,
        "        if error is None:\n            return",
        "        return",
        FILE_TESTS,
    ),
    Mutation(
        "the error of a body is kept after rewinding",
        BODIES,
        "self._position, self.error = position, None",
        "self._position = position",
        FILE_TESTS,
    ),
    Mutation(
        "a file reads on after an error of its body",
        BODIES,
        "        if self.error is not None:\n            raise self.error\n",
        "",
        FILE_TESTS,
    ),
    Mutation(
        "a reading that was given up keeps its source open",
        BODIES,
        "            self._chunks.close()  # a suspended generator would keep a file open",
        '            globals().setdefault("_LEAKED", []).append(self._chunks)',
        FILE_TESTS,
    ),
    Mutation(
        "a digest is counted as sent",
        BODIES,
        'exact_chunks(self._body, "the request", counted=self.counted)',
        'exact_chunks(self._body, "the request")',
        FILE_TESTS,
    ),
    Mutation(
        "a read waits until the buffer is full",
        BODIES,
        "while filled < min(len(target), _GATHERED) and (piece",
        "while filled < len(target) and (piece",
        FILE_TESTS,
    ),
    Mutation(
        "a read returns a chunk, however small it is",
        BODIES,
        "while filled < min(len(target), _GATHERED) and (piece",
        "while not filled and (piece",
        FILE_TESTS,
    ),
    Mutation(
        "a wait that is not a number hides that of Retry-After",
        HTTP_ERRORS,
        "if retry_after is not None and not math.isnan(retry_after):",
        "if retry_after is not None:",
        HTTP_ERRORS_TESTS,
    ),
    Mutation(
        "501 and 505 are retryable",
        HTTP_ERRORS,
        "(500 <= status <= 599 and status not in _PERMANENT_5XX)",
        "500 <= status <= 599",
        HTTP_ERRORS_TESTS,
    ),
    Mutation(
        "any 503 is throttling",
        HTTP_ERRORS,
        "(status == 503 and asks_to_wait)",
        "status == 503",
        HTTP_ERRORS_TESTS,
    ),
    Mutation(
        "a code hides that the storage asks to wait",
        HTTP_ERRORS,
        "    if status == 429 or (status == 503 and asks_to_wait):",
        "    if code not in known and (status == 429 or (status == 503 and asks_to_wait)):",
        HTTP_ERRORS_TESTS,
    ),
    Mutation(
        "a status takes precedence over a code",
        HTTP_ERRORS,
        "    if code is not None and code in known:",
        "    if code is not None and code in known and status not in known:",
        HTTP_ERRORS_TESTS,
    ),
    Mutation(
        "the seconds of Retry-After are not limited",
        HTTP_ERRORS,
        "return min(float(value[:_SECONDS_DIGITS_MAX]), RETRY_AFTER_MAX)",
        "return float(value[:_SECONDS_DIGITS_MAX])",
        HTTP_ERRORS_TESTS,
    ),
    Mutation(
        "a date of Retry-After is not limited",
        HTTP_ERRORS,
        "min(max(date - now, 0.0), RETRY_AFTER_MAX)",
        "max(date - now, 0.0)",
        HTTP_ERRORS_TESTS,
    ),
    Mutation(
        "a wait that the storage states by itself is not limited",
        HTTP_ERRORS,
        "min(max(retry_after, stated or 0.0), RETRY_AFTER_MAX)",
        "max(retry_after, stated or 0.0)",
        HTTP_ERRORS_TESTS,
    ),
    Mutation(
        "a permanent error has a wait",
        HTTP_ERRORS,
        "    if retryable and stated is not None:",
        "    if stated is not None:",
        HTTP_ERRORS_TESTS,
    ),
    Mutation(
        "the names of headers are compared with their case",
        HTTP_ERRORS,
        "if key.lower() == name",
        "if key == name",
        HTTP_ERRORS_TESTS,
    ),
    Mutation(
        "a list is not limited",
        PAGING,
        "if count > maximum:",
        "if False:",
        PAGING_TESTS,
    ),
    Mutation(
        "a list of empty pages is not limited",
        PAGING,
        "if empty > _EMPTY_PAGES_MAX:",
        "if False:",
        PAGING_TESTS,
    ),
    Mutation(
        "a list of short pages is not limited",
        PAGING,
        "if short > _SHORT_PAGES_MAX:",
        "if False:",
        PAGING_TESTS,
    ),
    Mutation(
        "a token that was used before the last one is used again",
        PAGING,
        "            if not ordered:\n                used.add(marker)",
        "            if not ordered:\n                used = {marker}",
        PAGING_TESTS,
    ),
    Mutation(
        "an ordered list may stand still",
        PAGING,
        "return bool(marker <= previous)",
        "return bool(marker < previous)",
        PAGING_TESTS,
    ),
]
