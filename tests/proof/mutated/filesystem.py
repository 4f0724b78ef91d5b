"""Mutations of the filesystems of fsspec."""

from __future__ import annotations

from mutated.mutation import Mutation

PIPE, FILES, FILESYSTEMS, PROGRESS = (
    "core/fsspec/pipe.py",
    "core/fsspec/files.py",
    "core/fsspec/filesystems.py",
    "core/progress.py",
)
FILE_TESTS = ("tests/filesystem/test_files.py",)
FILESYSTEM_TESTS = ("tests/filesystem/test_filesystem.py",)
PROGRESS_TESTS = ("tests/core/test_progress.py",)

MUTATIONS = [
    Mutation(
        "a filesystem: what a program writes is buffered without a bound",
        PIPE,
        "                piece = data[: BUFFER_SIZE - len(self._buffer)]",
        "                piece = data",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a program that writes waits for an upload that has ended",
        PIPE,
        "                if self._stopped or not is_read():",
        "                if self._stopped:",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a thread waits for what it writes itself",
        PIPE,
        "            if not self._ended and self._writer == threading.get_ident():",
        "            if self._ended and self._writer == 0:",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a discarded file looks like a complete one to its upload",
        PIPE,
        "            if self._stopped:\n                raise",
        "            if False:\n                raise",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: an exception in the block of a file stores half of it",
        FILES,
        "        if error is not None:\n            self._abandon()\n",
        "",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: an exception in a block of fsspec stores half of a file",
        FILES,
        "    if current is None or id(current) == known:\n",
        "    if True:\n",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a file that reports an exception is not stored",
        FILES,
        "    if current is None or id(current) == known:\n",
        "    if current is None:\n",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a handler of an exception can't close a file",
        FILES,
        "    return any(_is_exit_with(frame, current) for frame, _ in traceback.walk_stack(None))",
        "    return True",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a file that is garbage-collected is stored",
        FILES,
        "            if self._is_collected:\n",
        "            if False:\n",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a text file that is garbage-collected is stored",
        FILES,
        "        # A text file calls this before it closes its binary file, when it is garbage-collected.\n"
        "        self._is_collected = True",
        "        pass",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: an exception in the block of a text file stores half of it",
        FILES,
        "            self._file.__exit__(kind, error, trace)  # without",
        "            self.close()  # without",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: an exception aborts a stream with a name",
        FILES,
        "        self._stop(UploadTask.pause, wait=wait)",
        "        self._stop(UploadTask.cancel, wait=wait)",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a discarded stream with a name is kept",
        FILES,
        "        self._stop(UploadTask.cancel)",
        "        self._stop(UploadTask.pause)",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a discarded file can be written",
        FILES,
        "        if self._state is not _State.WRITING:\n            raise ValueError",
        "        if False:\n            raise ValueError",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a failure that the program ignored is forgotten when the file is closed",
        FILES,
        "        if self._failure is not None:\n            raise self._failure\n"
        "        if self._state is not _State.WRITING:\n            return",
        "        if self._state is not _State.WRITING:\n            return",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a compressed file lacks its header",
        FILES,
        "        self._state = _State.WRITING\n        try:\n",
        "        try:\n",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a compressed file lacks its end",
        FILES,
        "            self._encoder.close()\n",
        "            pass\n",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a file of a transaction is stored when it is closed",
        FILES,
        "            elif self.autocommit or self._failure is not None:",
        "            else:",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: an object that was to be created and exists is another error",
        FILES,
        "        if isinstance(error.__cause__, ObjectExists):",
        "        if False:",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: a small file starts a thread",
        FILES,
        "        if self._task is None and not self._pipe.has_room(len(data)):",
        "        if self._task is None:",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: listings are not forgotten when a file is stored",
        FILES,
        "        written.on_stored()\n",
        "        pass\n",
        FILESYSTEM_TESTS,
    ),
    Mutation(
        "a filesystem: an object that was to be created replaces another one",
        FILESYSTEMS,
        "        return evolve(value, forbid_overwrite=True) if create else value",
        "        return value",
        FILESYSTEM_TESTS,
    ),
    Mutation(
        "a filesystem: who may only write can't create an object",
        FILESYSTEMS,
        "        with suppress(AccessDenied):\n",
        "        with suppress(KeyError):\n",
        FILESYSTEM_TESTS,
    ),
    Mutation(
        "a filesystem: a file that is put in a transaction is stored at once",
        FILESYSTEMS,
        '        expected: dict[str, Any] = {"expected_size": expected_size, "expected_crc64": expected_crc64}\n'
        "        if self._intrans:",
        '        expected: dict[str, Any] = {"expected_size": expected_size, "expected_crc64": expected_crc64}\n'
        "        if False:",
        FILESYSTEM_TESTS,
    ),
    Mutation(
        "a filesystem: a file that is put in a transaction can't be resumed",
        FILESYSTEMS,
        "            name = str(Path(local).absolute())",
        '            name = ""',
        FILESYSTEM_TESTS,
    ),
    Mutation(
        "a filesystem: bytes that are piped in a transaction are stored at once",
        FILESYSTEMS,
        "        path = self._strip_protocol(path)\n        if self._intrans:",
        "        path = self._strip_protocol(path)\n        if False:",
        FILE_TESTS,
    ),
    Mutation(
        "a filesystem: an unknown field of an option is refused without its name",
        FILESYSTEMS,
        "    if unknown := sorted(str(name) for name in values if name not in known):",
        "    if unknown := []:",
        FILESYSTEM_TESTS,
    ),
    Mutation(
        "a filesystem: its backends are not closed with it",
        FILESYSTEMS,
        "                self._closing.callback(backend.close)\n",
        "",
        FILESYSTEM_TESTS,
    ),
    Mutation(
        "a filesystem: its store is not closed with it",
        FILESYSTEMS,
        "                    self._closing.callback(close)",
        "                    pass",
        FILESYSTEM_TESTS,
    ),
    Mutation(
        "a filesystem: pending uploads of a directory are listed",
        FILESYSTEMS,
        ".name != META_DIR]",
        '.name != ""]',
        FILESYSTEM_TESTS,
    ),
    Mutation(
        "a filesystem: a storage that can't be asked has no object",
        FILESYSTEMS,
        "        try:\n            self.info(path, **kwargs)\n        except FileNotFoundError:",
        "        try:\n            self.info(path, **kwargs)\n        except Exception:",
        FILESYSTEM_TESTS,
    ),
    Mutation(
        "a filesystem: the paths of another one keep their slash",
        FILESYSTEMS,
        '        return name.strip("/")',
        "        return name",
        ("tests/filesystem/test_abstract.py",),
    ),
    Mutation(
        "a filesystem: an access point of S3 is a bucket named after its beginning",
        FILESYSTEMS,
        "        return split_path(path)",
        '        return path.partition("/")[0], path.partition("/")[2]',
        FILESYSTEM_TESTS,
    ),
    Mutation(
        "a callback of fsspec counts what was resumed twice",
        PROGRESS,
        "        amount, seen = progress.bytes_done - seen, progress.bytes_done\n        if amount:",
        "        amount = progress.bytes_done - seen\n        if amount:",
        PROGRESS_TESTS,
    ),
    Mutation(
        "a callback of fsspec is not closed",
        PROGRESS,
        "            callback.close()",
        "            pass",
        PROGRESS_TESTS,
    ),
    Mutation(
        "a bar of tqdm is not closed",
        PROGRESS,
        "            bar.close()",
        "            pass",
        PROGRESS_TESTS,
    ),
]
