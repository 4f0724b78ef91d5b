"""What worker processes import by name: a backend whose requests say which process sent them."""

from __future__ import annotations

import os
from typing import Any

from partwise.backends.oss import OSSBackend


class NamedBackend(OSSBackend):
    """An OSSBackend that names its process as the user agent; made again in a worker, it names the worker."""

    def __init__(self, bucket: str, **settings: Any) -> None:
        super().__init__(bucket, **{**settings, "user_agent": str(os.getpid())})
