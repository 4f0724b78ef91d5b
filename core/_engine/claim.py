"""
The exclusive right to a checkpoint.

It is held from before the checkpoint is loaded until the upload has ended, or until the store says that it was lost.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

from partwise._engine.context import UploadContext, logger
from partwise._engine.control import CallbackRaised, StopRequested
from partwise._engine.finish import stop_requested_error
from partwise._engine.plugin_calls import PluginDefect, call_plugin, call_plugin_unwrapped
from partwise.errors import CheckpointBusy, PartwiseError
from partwise.protocols import CheckpointStore


class Claim:
    """
    Hold the store's claim on the upload's checkpoint.

    The error of a refused claim names the upload. Transient errors of the store are retried.

    Args:
        store: the store.
        context: the upload.
        consequence: what did not happen if the claim is refused.
    """

    def __init__(self, store: CheckpointStore, context: UploadContext, consequence: str = "Nothing was sent") -> None:
        self._store = store
        self._context = context
        self._consequence = consequence
        self._claim: AbstractContextManager[None] | None = None

    def __enter__(self) -> None:
        context = self._context
        try:
            call_plugin_unwrapped(lambda: context.retry("claim", self._enter, moves=False))
        except CheckpointBusy as error:
            raise CheckpointBusy(
                f"{context.description} is being uploaded by another process or thread right now. {self._consequence}",
                name=context.name,
                where=error.where,
                hint="Wait until it has finished, or stop it first",
            ) from error
        except StopRequested as request:  # while the store was called again
            raise stop_requested_error(context, request.mode) from None
        except CallbackRaised as error:
            raise error.__cause__ or error  # noqa: B904  # the caller's own error, as it was raised

    def _enter(self) -> None:
        self._claim = self._store.claim(self._context.name)  # a context manager is entered once, so each time another
        self._claim.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._claim is not None, "it was entered"
        try:
            call_plugin(self._claim.__exit__, kind, error, trace)
        except PartwiseError as unreleased:
            raised = unreleased.__cause__ if isinstance(unreleased, PluginDefect) else unreleased
            if raised is error:
                return  # it propagates by itself
            # The upload has ended, and this does not change how: its object may be stored.
            context = self._context
            logger.warning(
                "%s: its claim could not be released: %s", context.key, unreleased, extra=context.log_fields()
            )
