"""Derive the keys of signature version 4, and compare secrets, for all dialects."""

from __future__ import annotations

import hmac
from functools import lru_cache

from partwise.server.messages import to_bytes


# It is the same for a day.
@lru_cache(maxsize=16)
def derived_key(prefix: str, secret: str, scope: str) -> bytes:
    """
    Return the key that signs requests, by signature version 4.

    Args:
        prefix: what the dialect puts before the secret.
        secret: the secret half of the access key.
        scope: the steps that the key is derived by (date, region, service and a fixed word), separated by slashes.
    """
    key = to_bytes(prefix + secret)
    for step in scope.split("/"):
        key = hmac.digest(key, to_bytes(step), "sha256")
    return key


def equal_secrets(left: str, right: str) -> bool:
    """Compare two texts in a time that does not depend on where they differ."""
    return hmac.compare_digest(to_bytes(left), to_bytes(right))
