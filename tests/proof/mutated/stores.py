"""Mutations of the checkpoint stores."""

from __future__ import annotations

from mutated.mutation import PROOF, Mutation

STORES = ("tests/stores",)
DISK = ("tests/proof/test_every_system_call.py", "tests/soak/test_power_loss.py")
MEMORY_STORE = "stores/memory.py"
APPENDING = "stores/_appending.py"
FENCING_TESTS = ("tests/stores/test_contract.py", "tests/stores/test_conformance.py")
LOCKS = "stores/_locks.py"
WITHOUT_COPYING = "__import__('partwise.checkpoint', fromlist=['']).with_parts"
MEMORY_STORE_TESTS = ("tests/stores/test_memory.py",)
APPENDING_TESTS = ("tests/stores/test_appending.py",)
LOCKS_TESTS = ("tests/stores/test_locks.py -k 'lock_file_is or lock_of_the_table'",)
DURABLE, JOURNAL = "core/_durable.py", "stores/_journal.py"

OWNERS = "stores/_owners.py"
OWNERS_TESTS = ("tests/stores/test_owners.py",)

MUTATIONS = [
    Mutation(
        "the whole checkpoint is written again for each part",
        APPENDING,
        "    written = os.write(tail.file, line)\n",
        "    whole = os.pread(tail.file, tail.length, 0)\n    os.ftruncate(tail.file, 0)\n    os.write(tail.file, whole)\n"
        "    written = os.write(tail.file, line)\n",
        ("tests/proof/test_defects.py -k d48",),
    ),
    Mutation(
        "what others wrote into a checkpoint changes what a terminal shows",
        "core/_validation.py",
        "    return text if text.isprintable() else repr(text)",
        "    return text",
        ("tests/stores/test_file.py -k terminal", "tests/core/test_checkpoint.py -k control"),
    ),
    Mutation(
        "a database that another program has locked fails an upload",
        "stores/_errors.py",
        "    return error.errno == errno.EBUSY\n",
        "    return False\n",
        ("tests/stores/test_sqlite.py -k lock",),
    ),
    Mutation(
        "a process of another host is looked up",
        OWNERS,
        " or owner.host != this.host:",
        ":",
        OWNERS_TESTS,
    ),
    Mutation(
        "a killed process is shown as the owner of a claim",
        OWNERS,
        "    return None if owner is None or _has_ended(owner) else owner",
        "    return owner",
        OWNERS_TESTS,
    ),
    Mutation(
        "a file of the name of a record is lost",
        OWNERS,
        " and all(one in (0, own) for one, own in zip(text, _BEGIN, strict=False)):",
        ":",
        OWNERS_TESTS,
    ),
    Mutation(
        "the record of an owner may be anything",
        OWNERS,
        "_RECORD.fullmatch(text)",
        're.match(rb"([0-9]+) (.*)", text)',
        OWNERS_TESTS,
    ),
    Mutation(
        "the record of an owner outlives the claim",
        LOCKS,
        "    owners.remove_record(owner_path(path))\n",
        "",
        OWNERS_TESTS,
    ),
    Mutation(
        "a checkpoint of version 1 loses the checksum of its source",
        "core/checkpoint.py",
        '    ("fingerprint", "content", "crc64"),\n',
        "",
        ("tests/stores/test_version_1.py",),
    ),
    Mutation(
        "a checkpoint of version 1 may have fields of version 2",
        "core/checkpoint.py",
        "        if new in inner:",
        "        if False:",
        ("tests/stores/test_version_1.py",),
    ),
    Mutation(
        "a store saves what is not a checkpoint",
        "stores/_arguments.py",
        '    check_type("the checkpoint to save", checkpoint, Checkpoint, "a Checkpoint")',
        '    check_type("the checkpoint to save", checkpoint, object, "a Checkpoint")',
        ("tests/core/test_wrong_calls.py",),
    ),
    Mutation(
        "a planted checkpoint is replaced",
        "stores/file.py",
        "files.check_trusted(path)  # a file that",
        "pass  # a file that",
        ("tests/stores/test_shared_locations.py",),
    ),
    Mutation(
        "a planted file is replaced by one that is set aside",
        "stores/_locations.py",
        "    if not os.path.lexists(aside) or (files.is_trusted(aside) and files.is_trusted(path)):",
        "    if True:",
        ("tests/stores/test_shared_locations.py",),
    ),
    Mutation(
        "a planted lock file is used",
        "stores/_locks.py",
        "        if files.check_trusted(path).st_size:",
        "        if os.stat(path, follow_symlinks=False).st_size:",
        ("tests/stores/test_shared_locations.py",),
    ),
    Mutation(
        "a lock file that was swapped while it was acquired is used",
        "stores/_locks.py",
        "        _check_lock(lock, path)",
        "        pass",
        ("tests/stores/test_locks.py", "tests/stores/test_shared_locations.py"),
    ),
    Mutation(
        "a file that SQLite reads beside a database is not checked",
        "stores/_database.py",
        '_SIDE_FILES = ("-journal", "-wal", "-shm")',
        '_SIDE_FILES = ("-journal", "-shm")',
        ("tests/stores/test_shared_locations.py",),
    ),
    Mutation(
        "a database that was swapped while it was opened is used",
        "stores/_database.py",
        "            ready = _is_ready(connection)\n            self._check_opened()",
        "            ready = _is_ready(connection)",
        ("tests/stores/test_shared_locations.py",),
    ),
    Mutation(
        "a database is opened in a directory that others may write to",
        "stores/_database.py",
        "        _check_directory(os.path.dirname(self.path))\n",
        "",
        ("tests/stores/test_shared_locations.py",),
    ),
    Mutation(
        "any schema is accepted",
        "stores/_database.py",
        "        _check_schema(connection)\n",
        "",
        ("tests/stores/test_bounds.py -k other_schema",),
    ),
    Mutation(
        "SQLite may work endlessly",
        "stores/_database.py",
        "        return self._operations > _OPERATIONS_MAX",
        "        return self._operations > 1000 * _OPERATIONS_MAX",
        ("tests/stores/test_bounds.py -k endless",),
    ),
    Mutation(
        "the directory of a new database is not synced",
        "stores/_database.py",
        "            return\n        files.sync_directory(os.path.dirname(self.path))",
        "            return",
        ("tests/stores/test_syncs.py",),
    ),
    Mutation(
        "a checkpoint file of any size is read",
        "stores/file.py",
        "    return files.read(path, journal.BYTES_MAX + 1)",
        "    return files.read(path, 2**62)",
        ("tests/stores/test_bounds.py -k gibibytes",),
    ),
    Mutation(
        "a line of any length is read",
        JOURNAL,
        "            if end - self.length > LINE_MAX:",
        "            if False:",
        ("tests/stores/test_bounds.py",),
    ),
    Mutation(
        "lines are not chained",
        JOURNAL,
        "    return blake2b(before + body, digest_size=_DIGEST_BYTES).digest()",
        "    return blake2b(body, digest_size=_DIGEST_BYTES).digest()",
        (*PROOF[1:2], *STORES),
    ),
    Mutation(
        "an incomplete line counts as damage",
        JOURNAL,
        '        while (end := data.find(b"\\n", self.length)) >= 0:',
        '        while self.length < len(data) and (end := data.find(b"\\n", self.length) % (len(data) + 1)):',
        (*DISK, *STORES),
    ),
    Mutation(
        "a saved checkpoint in memory shares its mappings with the caller",
        MEMORY_STORE,
        "cls(_detached(checkpoint, ()),",
        f"cls({WITHOUT_COPYING}(checkpoint, ()),",
        MEMORY_STORE_TESTS,
    ),
    Mutation(
        "a checkpoint loaded from memory shares its mappings with the store",
        MEMORY_STORE,
        "_detached(self.header, tuple(",
        f"{WITHOUT_COPYING}(self.header, tuple(",
        MEMORY_STORE_TESTS,
    ),
    Mutation(
        "a claim in memory is not released by an error",
        MEMORY_STORE,
        "        try:\n            yield\n        finally:\n            with memory.lock:\n                memory.claimed",
        "        yield\n        if True:\n            with memory.lock:\n                memory.claimed",
        MEMORY_STORE_TESTS,
    ),
    Mutation(
        "a second deletion in memory is an error",
        MEMORY_STORE,
        "            if entry is None:\n                return\n",
        "            if entry is None:\n                raise not_found_error(name)\n",
        MEMORY_STORE_TESTS,
    ),
    Mutation(
        "a part is appended in memory to the checkpoint of another upload",
        MEMORY_STORE,
        "            if entry.header.upload_id != upload_id:\n"
        "                raise claim_lost_error(upload_id, entry.header.upload_id, name=name)\n"
        "            entry.parts",
        "            entry.parts",
        FENCING_TESTS,
    ),
    Mutation(
        "the checkpoint of another upload is deleted in memory",
        MEMORY_STORE,
        "            if entry.header.upload_id != upload_id:\n"
        "                raise claim_lost_error(upload_id, entry.header.upload_id, name=name)\n"
        "            del",
        "            del",
        FENCING_TESTS,
    ),
    Mutation(
        "a part is appended to the file of another upload",
        APPENDING,
        "                if tail.upload_id != upload_id:",
        "                if False:",
        FENCING_TESTS,
    ),
    Mutation(
        "the file of another upload is deleted",
        "stores/file.py",
        "            if header is not None and header.name == name and header.upload_id != upload_id:",
        "            if False:",
        FENCING_TESTS,
    ),
    Mutation(
        "a part is appended to the row of another upload",
        "stores/sqlite.py",
        "        if header.upload_id != upload_id:\n            raise",
        "        if False:\n            raise",
        FENCING_TESTS,
    ),
    Mutation(
        "a part is appended by what a handle has saved, not by what is stored",
        "stores/sqlite.py",
        " AND checksum = :header)",
        ")",
        FENCING_TESTS,
    ),
    Mutation(
        "the row of another upload is deleted",
        "stores/sqlite.py",
        "                if header is not None and header.upload_id != upload_id:",
        "                if False:",
        FENCING_TESTS,
    ),
    Mutation(
        "a closed store in memory saves",
        MEMORY_STORE,
        "        self._check_usable(checkpoint.name)\n",
        "",
        MEMORY_STORE_TESTS,
    ),
    Mutation(
        "handles on one memory do not share claims",
        MEMORY_STORE,
        "        handle._memory = self._memory ",
        "        handle._memory.entries = self._memory.entries ",
        MEMORY_STORE_TESTS,
    ),
    Mutation(
        "lines are appended to a file that was removed", APPENDING, " and status.st_nlink > 0", "", APPENDING_TESTS
    ),
    Mutation(
        "a line that another process appended is overlooked",
        APPENDING,
        "status.st_size == tail.length and ",
        "",
        APPENDING_TESTS,
    ),
    Mutation(
        "a file whose descriptor is stale is not opened again",
        APPENDING,
        "    with ignored(OSError):  # of a network",
        "    with ignored(ZeroDivisionError):  # of a network",
        APPENDING_TESTS,
    ),
    Mutation(
        "an error of closing a file leaves a claim",
        APPENDING,
        "        with ignored(OSError):\n            self._close(path)\n",
        "        self._close(path)\n",
        APPENDING_TESTS,
    ),
    Mutation(
        "an invalid file stays open",
        APPENDING,
        "        except BaseException:\n            os.close(file)\n            raise",
        "        except BaseException:\n            raise",
        APPENDING_TESTS,
    ),
    Mutation(
        "a file stays open without a claim",
        APPENDING,
        "                if not keep_open:\n                    self._close(path)",
        "                pass",
        APPENDING_TESTS,
    ),
    Mutation(
        "two threads append at the same time",
        APPENDING,
        "        with self._lock:\n            tail = self._tail",
        "        if True:\n            tail = self._tail",
        APPENDING_TESTS,
    ),
    Mutation(
        "a forked child waits for a lock of a parent's thread",
        APPENDING,
        "        self._lock = threading.Lock()\n        self.close()",
        "        self.close()",
        APPENDING_TESTS,
    ),
    Mutation(
        "an incomplete line is not removed before the next",
        APPENDING,
        "            if len(data) > found.length:\n",
        "            if False:\n",
        APPENDING_TESTS,
    ),
    Mutation("a lock file is readable by other users", LOCKS, "mode=0o600", "mode=0o644", LOCKS_TESTS),
    Mutation(
        "a forked child waits for the lock of the table of claims",
        LOCKS,
        "    _held_lock = threading.Lock()\n\n\nif",
        "\n\nif",
        LOCKS_TESTS,
    ),
    Mutation(
        "a lock file is removed after its lock was released",
        "stores/_locks.py",
        "    with ignored(OSError):\n        files.remove(path)\n    lock.release()",
        "    lock.release()\n    with ignored(OSError):\n        files.remove(path)",
        ("tests/stores/test_locks.py -k still_held",),
    ),
    Mutation(
        "a file half of whose mark is damaged is still a checkpoint",
        JOURNAL,
        "return 4 * sum",
        "return 8 * sum",
        ("tests/stores/test_journal.py -k mostly",),
    ),
    Mutation(
        "a busy database is waited for only half a second",
        "stores/_database.py",
        "_BUSY_SECONDS = 5.0",
        "_BUSY_SECONDS = 0.5",
        ("tests/stores/test_sqlite.py -k waited",),
    ),
    Mutation(
        "a power loss undoes a save without write-ahead mode",
        "stores/_database.py",
        'connection.execute("PRAGMA synchronous = EXTRA")',
        'connection.execute("PRAGMA synchronous = FULL")',
        ("tests/stores/test_sqlite.py -k write_ahead",),
    ),
    Mutation(
        "a checkpoint that can't be read is deleted or replaced",
        "stores/file.py",
        "    except (FileNotFoundError, files.Untrusted, journal.CorruptJournal):\n",
        "    except (OSError, journal.CorruptJournal):\n",
        ("tests/stores/test_file.py -k can_t_be_read",),
    ),
    Mutation(
        "files are created before the directory of a database is checked",
        "stores/sqlite.py",
        "                self._database.check_directory()\n",
        "                pass\n",
        ("tests/stores/test_shared_locations.py -k group",),
    ),
    Mutation(
        "the upload id of another version is reported under another name",
        "stores/file.py",
        "                damage.upload_id = None  #",
        "                pass  #",
        ("tests/stores/test_file.py -k another_version",),
    ),
    Mutation(
        "a forked child closes the connection of its parent",
        "stores/_database.py",
        "        self._check_process()\n        with self._lock:\n            if self._connection is not None:\n",
        "        with self._lock:\n            if self._connection is not None:\n",
        ("tests/stores/test_sqlite.py -k forked_child_closes",),
    ),
    Mutation(
        "the log of an earlier damaged database stays beside the next one",
        "stores/_database.py",
        "                files.remove(aside + suffix)  #",
        "                pass  #",
        ("tests/stores/test_sqlite.py -k earlier_damaged",),
    ),
    Mutation(
        "the parts in a database have no maximum total size",
        "stores/sqlite.py",
        "        if size > journal.BYTES_MAX:\n            break\n",
        "",
        ("tests/stores/test_bounds.py -k total_size",),
    ),
    Mutation(
        "the schema of a database is read to the end",
        "stores/_database.py",
        " > _OPERATIONS_OF_SCHEMA_MAX",
        " > 1000 * _OPERATIONS_OF_SCHEMA_MAX",
        ("tests/stores/test_bounds.py -k schema",),
    ),
]
