"""A backend for worker processes to import, whose requests name the process that sent them."""

from __future__ import annotations

import os
from typing import Any

from partwise.backends.oss import OSSBackend


class NamedBackend(OSSBackend):
    """An OSSBackend with the process id as its user agent; unpickled in a worker, it has the id of the worker."""

    def __init__(self, bucket: str, **settings: Any) -> None:
        super().__init__(bucket, **{**settings, "user_agent": str(os.getpid())})
