"""Pause and cancel of a running upload, and the private exceptions that end one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

from partwise.errors import PartwiseError

StopMode = Literal["pause", "cancel"]


class StopRequested(PartwiseError):
    """A pause or a cancel was requested. It never reaches the caller."""

    def __init__(self, mode: StopMode) -> None:
        super().__init__(mode)
        self.mode: StopMode = mode


class CallbackRaised(PartwiseError):
    """
    A callback of the caller raised the `__cause__`, which the engine re-raises.

    Args:
        callback: which one, "progress" or "event".
    """

    def __init__(self, callback: str) -> None:
        super().__init__(f"the {callback} callback raised")
        self.callback = callback


class Control:
    """
    Pauses or cancels one running upload, from any thread.

    A cancel overrides a pause. A request can't be withdrawn.
    """

    def __init__(self) -> None:
        self.requested = threading.Event()
        self._mode: StopMode | None = None
        self._callback_raised: CallbackRaised | None = None
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    def pause(self) -> None:
        """Request the upload to stop and to keep what was sent."""
        self._request("pause")

    def cancel(self) -> None:
        """Request the upload to stop and to discard what was sent."""
        self._request("cancel")

    def stop_for(self, error: CallbackRaised) -> None:
        """Request the upload to stop as by a pause, and to raise this error."""
        self._callback_raised = error
        self._request("pause")

    @property
    def cancelled(self) -> bool:
        """Whether a cancel was requested."""
        return self._mode == "cancel"

    def check(self) -> None:
        """
        Raise if the upload is to stop.

        Raises:
            StopRequested: a pause or a cancel was requested.
            CallbackRaised: a callback raised. It takes precedence.
        """
        if self._mode is not None:
            if self._callback_raised is not None:
                raise self._callback_raised
            raise StopRequested(self._mode)

    def on_request(self, callback: Callable[[], None]) -> None:
        """
        Call `callback` at each request, and now if there was one already.

        Args:
            callback: must return quickly. It may be called from any thread.
        """
        with self._lock:
            self._callbacks.append(callback)
            requested = self._mode is not None
        if requested:
            callback()

    def _request(self, mode: StopMode) -> None:
        with self._lock:
            if self._mode != "cancel":
                self._mode = mode
            callbacks = list(self._callbacks)
        self.requested.set()
        for callback in callbacks:
            callback()
