"""
The exclusive right to a checkpoint.

It is held from before the checkpoint is loaded until the upload has ended.
"""

from __future__ import annotations

from types import TracebackType

from partwise._engine.context import UploadContext
from partwise._engine.plugin_calls import call_plugin_unwrapped
from partwise.errors import CheckpointBusy
from partwise.protocols import CheckpointStore


class Claim:
    """
    Hold the store's claim on the upload's checkpoint.

    The error of a refused claim names the upload.

    Args:
        store: the store.
        context: the upload.
        consequence: what did not happen if the claim is refused.
    """

    def __init__(self, store: CheckpointStore, context: UploadContext, consequence: str = "Nothing was sent") -> None:
        self._claim = call_plugin_unwrapped(store.claim, context.name)
        self._context = context
        self._consequence = consequence

    def __enter__(self) -> None:
        try:
            call_plugin_unwrapped(self._claim.__enter__)
        except CheckpointBusy as error:
            raise CheckpointBusy(
                f"{self._context.description} is being uploaded by another process or thread right now."
                f" {self._consequence}",
                name=self._context.name,
                where=error.where,
                hint="Wait until it has finished, or stop it first",
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        call_plugin_unwrapped(self._claim.__exit__, kind, error, trace)
