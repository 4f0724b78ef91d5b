"""Mutations of the checkpoint store on PostgreSQL."""

from __future__ import annotations

from mutated.mutation import Mutation

STORE, SESSION = "stores/postgres.py", "stores/_postgres.py"


def _tests(words: str, file: str = "test_postgres") -> tuple[str, ...]:
    return (f"tests/stores/{file}.py -k '{words}'",)


MUTATIONS = [
    Mutation(
        "a part is appended after the claim was lost",
        STORE,
        "WHERE {_HEADER_ROW} AND owner = %(owner)s AND upload = %(upload)s AND record IS NOT NULL",
        "WHERE {_HEADER_ROW} AND upload = %(upload)s AND record IS NOT NULL",
        _tests("rows_are_the_fence"),
    ),
    Mutation(
        "a part is appended to a checkpoint of another upload",
        STORE,
        "WHERE {_HEADER_ROW} AND owner = %(owner)s AND upload = %(upload)s AND record IS NOT NULL",
        "WHERE {_HEADER_ROW} AND owner = %(owner)s AND record IS NOT NULL",
        _tests("only_the_same_upload"),
    ),
    Mutation(
        "a checkpoint is saved after the claim was lost",
        STORE,
        "    WHERE {_HEADER_ROW} AND owner = %(owner)s\n    RETURNING name",
        "    WHERE {_HEADER_ROW}\n    RETURNING name",
        _tests("rows_are_the_fence"),
    ),
    Mutation(
        "a checkpoint is deleted after the claim was lost",
        STORE,
        "AND owner = %(owner)s AND (record IS NULL OR upload = %(upload)s OR %(anyway)s)",
        "AND (record IS NULL OR upload = %(upload)s OR %(anyway)s)",
        _tests("rows_are_the_fence"),
    ),
    Mutation(
        "a checkpoint of another upload is deleted",
        STORE,
        "(record IS NULL OR upload = %(upload)s OR %(anyway)s)",
        "true",
        _tests("only_the_same_upload"),
    ),
    Mutation(
        "a claim does not replace the owner of a checkpoint",
        STORE,
        "DO UPDATE SET owner = excluded.owner",
        "DO NOTHING",
        _tests("in_between"),
    ),
    Mutation(
        "the claim is taken again from any owner",
        STORE,
        "            self._check_owner(session, claim)\n            if not locked:",
        "            if not locked:",
        _tests("held_by_another_host"),
    ),
    Mutation(
        "the claim is taken again without the lock",
        STORE,
        "            if not locked:\n",
        "            if False:\n",
        _tests("still_has"),
    ),
    Mutation(
        "a check of the claim asks nothing",
        STORE,
        "        self._use(claim, lambda session: self._check_owner(session, claim), writing=False)",
        "        claim.name",
        _tests("held_by_another_host"),
    ),
    Mutation(
        "a lost claim is taken again",
        STORE,
        "            if claim.is_lost:\n                raise self._lost(claim)\n            if pausing",
        "            if pausing",
        _tests("in_between"),
    ),
    Mutation(
        "an ended session is not replaced",
        STORE,
        "            if not claim.session.is_broken or isinstance(error, self._driver.NoAnswer):",
        "            if True:",
        _tests("survives"),
    ),
    Mutation(
        "the session of another host is ended",
        SESSION,
        " {_LOCK} AND pid = %(pid)s",
        " {_LOCK} AND %(pid)s > 0",
        _tests("session_that_is_in_use"),
    ),
    Mutation(
        "every append connects again while the server is away",
        STORE,
        "            claim.pause_until = now + _PAUSE * (now - start)",
        "            claim.pause_until = now",
        _tests("away"),
    ),
    Mutation(
        "an append waits for the disk",
        STORE,
        "set_config('synchronous_commit', 'off', true)",
        "set_config('synchronous_commit', 'on', true)",
        _tests("waits_for_the_disk"),
    ),
    Mutation(
        "a save does not wait for the disk if the server does not by default",
        SESSION,
        "WHEN 'off' THEN 'on'",
        "WHEN 'off' THEN 'off'",
        _tests("waits_for_the_disk"),
    ),
    Mutation(
        "the server keeps the session of a dead host for two hours",
        SESSION,
        '    **{f"tcp_{name}": str(value) for name, value in _KEEPALIVE.items()},\n',
        "",
        _tests("dead_host"),
    ),
    Mutation(
        "a server that does not answer is waited for without a limit",
        SESSION,
        "            elif time.monotonic() - moved > seconds:",
        "            elif False:",
        _tests("does_not_answer"),
    ),
    Mutation(
        "a forked child keeps the session of its parent",
        SESSION,
        "        session.abandon()\n",
        "",
        _tests("forked", "test_postgres_hosts"),
    ),
    Mutation(
        "a forked child has the claims of its parent",
        STORE,
        "            self._reset()  # a forked child has none of its parent's claims",
        "            pass",
        _tests("forked", "test_postgres_hosts"),
    ),
    Mutation(
        "an invalid URL is shown with its password",
        SESSION,
        '            "the URL of a PostgreSQL database is not valid",',
        '            f"the URL of a PostgreSQL database is not valid: {target}",',
        _tests("invalid_url"),
    ),
    Mutation(
        "a database is shown with its password",
        STORE,
        "    return f\"postgresql://{','.join(places)}/{database}\"",
        "    return f\"postgresql://{parameters.get('password')}@{','.join(places)}/{database}\"",
        _tests("never_shown"),
    ),
    Mutation(
        "part of a password is taken for the host of a database, and shown",
        SESSION,
        '        (has_host and any("@" in one[1:] for one in host.split(",")))',
        "        False",
        ("tests/stores/test_postgres.py -k invalid_url",),
    ),
    Mutation(
        "part of a password is taken for the port of a database, and shown",
        SESSION,
        '        or not re.fullmatch("[0-9,]*", port)\n',
        "",
        ("tests/stores/test_postgres.py -k invalid_url",),
    ),
    Mutation(
        "a directory of a socket whose name has an @ is refused",
        SESSION,
        're.search("://[^/?]", target) is not None',
        "True",
        _tests("shown_by_its_place"),
    ),
    Mutation(
        "the password of a URL with a mistyped scheme is shown",
        "core/registry.py",
        'f"{without_password(url)!r}: no installed',
        'f"{url!r}: no installed',
        ("tests/core/test_registry.py -k password",),
    ),
    Mutation(
        "a wrong password is retried",
        SESSION,
        "    return worked or bool(_OUTAGE.search(str(error)))",
        "    return True",
        _tests("wrong_password"),
    ),
    Mutation(
        "an outage at the start is not retried",
        SESSION,
        "    return worked or bool(_OUTAGE.search(str(error)))",
        "    return worked",
        _tests("wrong_password"),
    ),
    Mutation(
        "a table of a later version is used",
        SESSION,
        "    if version > len(_MIGRATIONS):",
        "    if False:",
        _tests("later_version"),
    ),
    Mutation(
        "two hosts create the table at the same time",
        SESSION,
        '            self.execute("SELECT pg_advisory_xact_lock(%(key)s)", {"key": self._lock_key("")})\n',
        "",
        _tests("same_time or migrated"),
    ),
    Mutation(
        "a part of another upload is loaded",
        STORE,
        'f"{key}\\0{number}\\0{upload}\\0"',
        'f"{key}\\0{number}\\0"',
        _tests("upload_are_damage"),
    ),
    Mutation(
        "a header of any size is read",
        STORE,
        "SELECT part_number, left(upload, 100), left(checksum, 100),\n"
        "    CASE WHEN octet_length(record) <= {journal.LINE_MAX} THEN record END,",
        "SELECT part_number, left(upload, 100), left(checksum, 100),\n    record,",
        _tests("too_large"),
    ),
    Mutation(
        "parts of any total size are read",
        STORE,
        "part_number = 0 OR (total.row_count <= {PART_NUMBER_MAX} AND total.byte_count <= {journal.BYTES_MAX})",
        "true",
        _tests("too_large"),
    ),
    Mutation(
        "status takes the claim of a run that has lost its connection",
        "core/cli/status.py",
        'if (is_claimed := getattr(store, "is_claimed", None)) is not None:',
        "if (is_claimed := None) is not None:",
        _tests("status"),
    ),
    Mutation(
        "status shows the password of the store",
        "core/cli/targets.py",
        "(without_password(self.url) if self.url else",
        "(self.url if self.url else",
        ("tests/cli/test_status.py -k password",),
    ),
]
