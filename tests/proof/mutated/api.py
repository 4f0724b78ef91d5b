"""Mutations of the API, the sources, and what all packages share."""

from __future__ import annotations

from mutated.mutation import Mutation

STORES = ("tests/stores",)
MOVED = ("tests/core/engine/test_moved_sources.py",)
DISK = ("tests/proof/test_every_system_call.py", "tests/soak/test_power_loss.py")
ENGINE_BOUNDS = (
    "tests/core/engine/test_throttle.py",
    "tests/core/engine/test_context.py",
    "tests/core/engine/test_resume.py",
    "tests/core/engine/test_complete.py",
    "tests/core/test_progress.py",
    "tests/core/engine/test_scheduler.py",
    "tests/core/engine/test_upload.py",
)
PLUGIN_CALLS_TESTS = (
    "tests/core/engine/test_plugin_calls.py",
    "tests/core/engine/test_scheduler.py",
    "tests/core/engine/test_finish.py",
    "tests/core/engine/test_thread_workers.py",
    "tests/core/engine/test_workers.py",
    "tests/core/test_uploader.py",
)
SOURCE_FAILS = ("tests/core/engine/test_transient_source_errors.py",)
PROGRESS_TESTS = ("tests/core/test_progress.py",)
SIGNALS = "core/_signals.py"
MODEL, RESUME, RETRY, WORKERS = (
    "core/model.py",
    "core/_engine/resume.py",
    "core/_engine/retry.py",
    "core/_engine/workers.py",
)
THREAD_WORKERS, PLUGIN_CALLS = "core/_engine/thread_workers.py", "core/_engine/plugin_calls.py"
THROTTLE, PROGRESS = "core/_engine/throttle.py", "core/progress.py"
CALLBACKS, CALLBACK_TESTS = "core/_engine/async_callbacks.py", ("tests/core/engine/test_async_callbacks.py",)
SOURCES = "core/sources.py"
DURABLE, JOURNAL = "core/_durable.py", "stores/_journal.py"

MUTATIONS = [
    Mutation(
        "a file opened under another inode is not noted",
        "core/sources.py",
        "                self.others.add(status.st_ino)\n",
        "                pass\n",
        MOVED,
    ),
    Mutation(
        "options that act late are a reason to start again",
        MODEL,
        "        return evolve(self, **{name: getattr(_NO_OPTIONS, name) for name in _LATE_OPTIONS})",
        "        return self",
    ),
    Mutation(
        "a stale file is read again",
        SOURCES,
        "                files.discard(file)",
        "                files.release(file)",
        SOURCE_FAILS,
    ),
    Mutation(
        "other open files of a stale one stay open",
        SOURCES,
        """        self._close(file)
        self._close_idle()
""",
        """        self._close(file)
""",
        SOURCE_FAILS,
    ),
    Mutation(
        "a stream that uses its buffer again is stored corrupt",
        SOURCES,
        "            piece = bytes(piece)",
        "            piece = memoryview(piece)",
        ("tests/core/test_sources.py",),
    ),
    Mutation(
        "a time limit that a plug-in translated is tried again",
        SIGNALS,
        "        found += (one.__context__, one.__cause__)\n",
        "",
        PLUGIN_CALLS_TESTS,
    ),
    Mutation(
        "what a failed call was given stays in memory",
        SIGNALS,
        "        values.clear()\n",
        "        pass\n",
        PLUGIN_CALLS_TESTS,
    ),
    Mutation(
        "a time limit that is being handled counts as a new one",
        SIGNALS,
        "    seen = {id(handled), id(None)}",
        "    seen = {id(None)}",
        PLUGIN_CALLS_TESTS,
    ),
    Mutation(
        "an exit of the waiting thread leaves the upload running",
        "core/task.py",
        "            self.pause()\n            self._join()\n            raise\n",
        "            raise\n",
        PLUGIN_CALLS_TESTS,
    ),
    Mutation(
        "a coroutine is started after the stop",
        CALLBACKS,
        "        if self._stopping:\n            _close_if_not_started(returned)\n        elif",
        "        if",
        CALLBACK_TESTS,
    ),
    # --- wrong types and numbers -------------------------------------------------------------------------------------
    Mutation(
        "concurrency has no maximum",
        "core/config.py",
        "integer(1, CONCURRENCY_MAX)",
        "integer(1)",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "parts at a time are bounded by another number",
        "core/config.py",
        "CONCURRENCY_MAX = 1000",
        "CONCURRENCY_MAX = 999",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "the first wait between attempts is another",
        "core/config.py",
        "default=0.5, validator=_duration",
        "default=5.0, validator=_duration",
        ("tests/core/test_config.py",),
    ),
    Mutation(
        "the longest wait between attempts is another",
        "core/config.py",
        "default=30.0, validator=_duration",
        "default=3.0, validator=_duration",
        ("tests/core/test_config.py",),
    ),
    Mutation(
        "progress is reported as often as there is time",
        "core/config.py",
        "default=0.2, validator=_duration",
        "default=0.0, validator=_duration",
        ("tests/core/test_config.py",),
    ),
    Mutation(
        "a mebibyte has another size",
        "core/model.py",
        "MIB = 1024 * KIB",
        "MIB = 1000 * KIB",
        ("tests/core/test_model.py",),
    ),
    Mutation(
        "a storage of unknown limits takes more parts",
        "core/model.py",
        "max_parts: int = field(default=10_000",
        "max_parts: int = field(default=20_000",
        ("tests/core/test_model.py",),
    ),
    Mutation(
        "a storage of unknown limits takes parts of more bytes",
        "core/model.py",
        "max_part_size: int = field(default=5 * GIB",
        "max_part_size: int = field(default=6 * GIB",
        ("tests/core/test_model.py",),
    ),
    Mutation(
        "the last bound of a number is not in it",
        "core/_validation.py",
        "if minimum <= value <= highest:",
        "if minimum <= value < highest:",
        ("tests/core/test_model.py",),
    ),
    Mutation(
        "a checkpoint accepts anything as parts",
        "core/checkpoint.py",
        ", validator=tuple_of(UploadedPart)",
        "",
        ("tests/core/test_model.py",),
    ),
    Mutation(
        "a string is accepted as several strings",
        "core/_validation.py",
        "if isinstance(value, str | bytes) or not isinstance(value, Iterable):",
        "if not isinstance(value, Iterable):",
        ("tests/core/test_model.py",),
    ),
    Mutation(
        "what is not a number is waited for",
        "core/_validation.py",
        " or value != value:  # noqa: PLR0124  # NaN alone",
        ":",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "a wait for longer than clocks go raises OverflowError",
        "core/task.py",
        "            timeout = min(timeout, threading.TIMEOUT_MAX)\n",
        "",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "a string with a lone surrogate is accepted",
        "core/_validation.py",
        "        except UnicodeEncodeError:  # a lone surrogate\n            raise error(",
        "        except UnicodeEncodeError:\n            return value\n            raise error(",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "a path with a NUL gets to the system",
        "core/_validation.py",
        'if not found or "\\0" in found:',
        "if not found:",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "a removed working directory is not an invalid argument",
        "core/_validation.py",
        "    except OSError as error:  # of os.getcwd\n",
        "    except NotADirectoryError as error:  # of os.getcwd\n",
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "what can not be called is registered",
        "core/registry.py",
        '    check_callable("factory", factory)\n    _registered[BACKENDS',
        "    _registered[BACKENDS",
        ("tests/core/test_wrong_calls.py",),
    ),
    # --- the file store ----------------------------------------------------------------------------------------------
    Mutation(
        "a save is not synced",
        DURABLE,
        "            write(file, data)\n            sync(file)",
        "            write(file, data)",
        (*DISK[1:], *STORES),
    ),
    Mutation(
        "the name of a save is not synced",
        DURABLE,
        "        raise\n    sync_directory(os.path.dirname(path))",
        "        raise",
        (*DISK[1:], *STORES),
    ),
    Mutation(
        "a save is written in place",
        DURABLE,
        "        os.replace(temporary, path)",
        '        with open(path, "wb") as target:\n            target.write(data)\n        os.unlink(temporary)',
        (*DISK, *STORES),
    ),
    # --- what others may have planted, and what is too large ----------------------------------------------------------
    Mutation(
        "a file of another user is trusted",
        DURABLE,
        "    if status.st_uid not in (os.geteuid(), 0):",
        "    if status.st_uid is None:",
        ("tests/core/test_durable.py", "tests/stores/test_shared_locations.py"),
    ),
    Mutation(
        "a file that others may write is trusted",
        DURABLE,
        "    if status.st_mode & _WRITABLE_BY_OTHERS:",
        "    if status.st_mode & 0:",
        ("tests/core/test_durable.py",),
    ),
    Mutation(
        "what was swapped before it was opened is used",
        DURABLE,
        "        _refuse(path, refusal(os.fstat(file), directory=directory))",
        "        pass",
        ("tests/core/test_durable.py",),
    ),
    Mutation(
        "a link that was swapped in is followed",
        DURABLE,
        '_flags("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")',
        '_flags("O_NONBLOCK", "O_BINARY")',
        ("tests/core/test_durable.py",),
    ),
    Mutation(
        "what others planted is removed",
        DURABLE,
        "    if is_trusted(path):\n        with suppress(FileNotFoundError):",
        "    if True:\n        with suppress(FileNotFoundError):",
        ("tests/stores/test_shared_locations.py",),
    ),
    Mutation(
        "a new private file is assumed to be private",
        DURABLE,
        "        if (reason := untrusted(os.fstat(file))) is not None:",
        "        if (reason := untrusted(os.fstat(file))) is not None and False:",
        ("tests/stores/test_shared_locations.py",),
    ),
    Mutation(
        "a write-only directory fails to be synced",
        DURABLE,
        "_UNSYNCABLE = {errno.EACCES, errno.EPERM, ",
        "_UNSYNCABLE = {",
        ("tests/core/test_durable.py",),
    ),
    Mutation(
        "a new directory is not synced into the one above",
        DURABLE,
        "    else:\n        sync_directory(parent)",
        "    else:\n        pass",
        ("tests/stores/test_syncs.py",),
    ),
    Mutation(
        "NaN is in every range of numbers",
        "core/_validation.py",
        " or not minimum <= value <= maximum:",
        " or value < minimum or value > maximum:",
        ("tests/core/test_checkpoint.py",),
    ),
    Mutation(
        "a part may have any number",
        MODEL,
        "                if number > PART_NUMBER_MAX or",
        "                if number > 2**40 or",
        ("tests/core/test_checkpoint.py",),
    ),
    Mutation(
        "a task of a callback is not referenced",
        CALLBACKS,
        "            _tasks.add(task)\n",
        "            pass\n",
        CALLBACK_TESTS,
    ),
    Mutation(
        "a task of a callback is referenced after its end",
        CALLBACKS,
        "        _tasks.discard(task)\n",
        "",
        CALLBACK_TESTS,
    ),
    Mutation(
        "a pause by a closed loop counts what is in flight",
        CALLBACKS,
        "bytes_done=progress.bytes_acknowledged",
        "bytes_done=progress.bytes_done",
        CALLBACK_TESTS,
    ),
    Mutation(
        "a pause without a checkpoint is resumable",
        CALLBACKS,
        "resumable=checkpoint is not None",
        "resumable=True",
        CALLBACK_TESTS,
    ),
    Mutation(
        "a bar of tqdm loses its total",
        PROGRESS,
        "        if progress.bytes_total is not None:\n            bar.total",
        "        if True:\n            bar.total",
        PROGRESS_TESTS,
    ),
    Mutation("a bar of tqdm is not shown", PROGRESS, "        bar.refresh()\n", "", PROGRESS_TESTS),
    Mutation(
        "an upload spins while a callback is awaited",
        CALLBACKS,
        "                self._wakeup.wait(_POLL_SECONDS)\n",
        "",
        CALLBACK_TESTS,
    ),
    Mutation(
        "a callback that needs a loop is refused for another reason",
        CALLBACKS,
        "        if self.loop is None:\n            raise _no_event_loop()\n",
        "",
        CALLBACK_TESTS,
    ),
    Mutation(
        "an awaitable that is not a coroutine breaks",
        CALLBACKS,
        "if inspect.iscoroutine(awaitable) and inspect",
        "if inspect",
        CALLBACK_TESTS,
    ),
    Mutation(
        "an abort reports success though the damaged checkpoint remains",
        "core/_engine/abort.py",
        "            call_plugin_unwrapped(context.store.load, context.name)\n",
        "            pass\n",
        ("tests/stores/test_shared_locations.py -k abort",),
    ),
    Mutation(
        "a part of a stream for which no file can be made is given up",
        SOURCES,
        "raise self._spool_error(error, retryable=is_transient(error))",
        "raise self._spool_error(error)",
        ("tests/core/engine/test_transient_source_errors.py",),
    ),
    Mutation(
        "a signal handler that deletes its arguments is not known",
        SIGNALS,
        "trace.tb_frame.f_code in installed or ",
        "",
        PLUGIN_CALLS_TESTS,
    ),
    Mutation(
        "a time limit is lost where errors of the system don't matter",
        SIGNALS,
        "isinstance(error, self._kinds) and raised_by_signal(error) is None",
        "isinstance(error, self._kinds)",
        PLUGIN_CALLS_TESTS,
    ),
    # --- hints and stores --------------------------------------------------------------------------------------------
    Mutation(
        "a hint does not show the suggested value of a setting",
        "core/errors.py",
        'f"{setting}={value!r}"',
        'f"{setting}="',
        ("tests/core/test_errors.py",),
    ),
    Mutation(
        "a stopped upload does not show its reason",
        "core/errors.py",
        'f"{self.message}: {self.reason}" if self.reason else self.message',
        "self.message",
        ("tests/core/test_errors.py",),
    ),
    Mutation(
        "the class of a store is accepted as a function that returns stores",
        "core/registry.py",
        "(isinstance(store, type) or not callable(store))",
        "not callable(store)",
        ("tests/core/test_uploader.py",),
    ),
    Mutation(
        "what the function for stores returns is not checked",
        "core/registry.py",
        "    if not _is_store(found):\n",
        "    if False:\n",
        ("tests/core/test_uploader.py",),
    ),
    Mutation(
        "an unknown private name imports all modules",
        "core/__init__.py",
        'if not name.startswith("_"):',
        "if True:",
        ("tests/core/test_public_api.py",),
    ),
]
