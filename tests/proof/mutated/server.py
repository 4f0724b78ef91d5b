"""Mutations of the server."""

from __future__ import annotations

from mutated.mutation import Mutation

WHO_ASKS, BOUNDS = ("tests/server/test_hosts.py",), ("tests/server/test_bounds.py",)
FOLDERS = ("tests/server/test_folders.py",)

MUTATIONS = [
    Mutation(
        "all servers have one key",
        "core/server/settings.py",
        "    return (AccessKey.new(),)",
        '    return (AccessKey("id", "secret"),)',
        WHO_ASKS,
    ),
    Mutation(
        "any host may be named",
        "core/server/service.py",
        "        check_hosts(request, exchange.settings, self._listen_address)\n",
        "",
        WHO_ASKS,
    ),
    Mutation(
        "a web page of another site may ask",
        "core/server/hosts.py",
        "    if origin is not None:\n        try:",
        "    if False:\n        try:",
        WHO_ASKS,
    ),
    Mutation(
        "a name is allowed where only addresses are",
        "core/server/hosts.py",
        "    if _listens_everywhere(listen_address) and is_address(host):",
        "    if _listens_everywhere(listen_address):",
        WHO_ASKS,
    ),
    Mutation(
        "a host below the bucket of one that was given may be named",
        "core/server/hosts.py",
        '    return host in names or host.partition(".")[2] in names',
        "    return any(host.endswith(name) for name in names)",
        WHO_ASKS,
    ),
    Mutation(
        "a request without a signature is answered",
        "core/server/oss/signatures.py",
        "        if settings.allow_anonymous:\n            return None\n        raise",
        "        return None\n        raise",
        WHO_ASKS,
    ),
    Mutation(
        "a presigned URL holds before its time",
        "core/server/oss/signatures.py",
        "    if now < begin:",
        "    if False:",
        ("tests/server/test_signatures.py",),
    ),
    Mutation(
        "a server that needs no signature listens for others",
        "core/server/server.py",
        "    if settings.allow_anonymous and not is_loopback(host):",
        "    if False:",
        ("tests/server/test_server.py",),
    ),
    Mutation(
        "requests are kept for ever",
        "core/server/service.py",
        "            self._recorded.shrink(maximum)\n",
        "            pass\n",
        BOUNDS,
    ),
    Mutation(
        "large requests are kept for ever",
        "core/server/recent.py",
        "(len(self._entries) > entries_max or self._bytes > self._bytes_max)",
        "len(self._entries) > entries_max",
        BOUNDS,
    ),
    Mutation(
        "what is dropped still counts",
        "core/server/recent.py",
        "        self._bytes -= size\n",
        "        pass\n",
        BOUNDS,
    ),
    Mutation(
        "any number of clients is served",
        "core/server/listener.py",
        "            if len(self._open) >= self._max_connections():",
        "            if False:",
        BOUNDS,
    ),
    Mutation(
        "a client that went keeps its place",
        "core/server/listener.py",
        "            with self._lock:\n                del self._open[threading.current_thread()]",
        "            pass",
        BOUNDS,
    ),
    Mutation(
        "a head may drip for ever",
        "core/server/connection.py",
        "            timeout = end - time.monotonic()\n",
        "            timeout = self._idle_timeout\n",
        BOUNDS,
    ),
    Mutation(
        "a body may drip for ever",
        "core/server/connection.py",
        "            waited += self._receive(",
        "            self._receive(",
        BOUNDS,
    ),
    Mutation(
        "a body that stops is waited for the longer the more came",
        "core/server/connection.py",
        "min(self._idle_timeout, left))",
        "left)",
        BOUNDS,
    ),
    Mutation(
        "an answer is waited for as long as is left of the request",
        "core/server/connection.py",
        "        self._socket.settimeout(self._idle_timeout)\n",
        "        pass\n",
        BOUNDS,
    ),
    Mutation(
        "a large head that comes at once is taken",
        "core/server/connection.py",
        "    if size > _HEAD_BYTES_MAX:",
        "    if False:",
        BOUNDS,
    ),
    Mutation(
        "any number of headers is taken",
        "core/server/connection.py",
        "len(event.headers) > _FIELDS_MAX or ",
        "",
        BOUNDS,
    ),
    Mutation(
        "a client that was refused may send for ever", "core/server/body.py", " or time.monotonic() > end:", ":", BOUNDS
    ),
    Mutation(
        "a chunked body may fill the disk",
        "core/server/body.py",
        "            if self.received > BODY_BYTES_MAX:",
        "            if False:",
        BOUNDS,
    ),
    Mutation(
        "a document type is read",
        "core/server/oss/xml.py",
        "        parser.StartDoctypeDeclHandler = self._refuse\n",
        "",
        BOUNDS,
    ),
    Mutation(
        "a document may be nested without end",
        "core/server/oss/xml.py",
        " or len(self._path) > _DEPTH_MAX:",
        ":",
        BOUNDS,
    ),
    Mutation(
        "a document may have elements without end",
        "core/server/oss/xml.py",
        "self._elements > _ELEMENTS_MAX or ",
        "",
        BOUNDS,
    ),
    Mutation(
        "a callback is posted to any machine",
        "core/server/oss/callbacks.py",
        "        if not is_loopback(host):",
        "        if False:",
        ("tests/server/test_callbacks.py",),
    ),
    Mutation(
        "an application server may drip for ever",
        "core/server/oss/callbacks.py",
        "    timer.start()\n    try:\n        yield\n    finally:\n        timer.cancel()\n        timer.join()",
        "    yield",
        ("tests/server/test_callbacks.py",),
    ),
    Mutation(
        "a link is a bucket",
        "core/server/buckets.py",
        " and folder.is_dir() and not folder.is_symlink()",
        " and folder.is_dir()",
        FOLDERS,
    ),
    Mutation(
        "a folder that becomes a link is a bucket",
        "core/server/buckets.py",
        "                if backend.directory != folder:",
        "                if False:",
        FOLDERS,
    ),
    Mutation(
        "folders are made for everybody", "core/server/buckets.py", "_PRIVATE = 0o700", "_PRIVATE = 0o755", FOLDERS
    ),
]
