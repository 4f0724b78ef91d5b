"""
Which optional methods a backend or a store has.

The engine asks for each part, so not by `isinstance`: for a protocol with many methods it takes up to 30 µs.
"""

from __future__ import annotations

from typing import TypeGuard

from partwise._validation import has_methods
from partwise.protocols import (
    CheckpointStore,
    MultipartBackend,
    SupportsClaimCheck,
    SupportsConnectingAhead,
    SupportsCutting,
)


def supports_cutting(backend: MultipartBackend) -> TypeGuard[SupportsCutting]:
    """Return whether a part in flight can be cut."""
    return has_methods(backend, ("cut_part",))


def supports_connecting_ahead(backend: MultipartBackend) -> TypeGuard[SupportsConnectingAhead]:
    """Return whether connections can be made before they are needed."""
    return has_methods(backend, ("connect_ahead",))


def supports_claim_check(store: CheckpointStore | None) -> TypeGuard[SupportsClaimCheck]:
    """Return whether the claims of a store can be lost, and can be checked."""
    return has_methods(store, ("check_claim",))
