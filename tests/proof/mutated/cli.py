"""Mutations of the command line."""

from __future__ import annotations

from mutated.mutation import Mutation

PRINTED = ("tests/cli/test_output.py", "tests/cli/test_formatting.py")
COMMANDS = (
    "tests/cli/test_gc.py",
    "tests/cli/test_usage.py",
    "tests/cli/test_status.py",
    "tests/cli/test_parsing.py",
)
CLI_OUTPUT = "core/cli/output.py"
CLI_STREAMS = "core/cli/streams.py"
CLI_WORDING = "core/cli/formatting.py"
CLI_PENDING = "core/cli/gc.py"
CLI_RETRIES = "core/cli/retries.py"
CLI_OPENING = "core/cli/targets.py"
SERVE_AND_DEMO = ("tests/cli/test_serve_demo.py -k 'not show_ends_well_and and not show_takes'",)

MUTATIONS = [
    Mutation(
        "what is printed is not escaped",
        CLI_OUTPUT,
        "if isinstance(piece, Painted) else shown(piece) for piece",
        "if isinstance(piece, Painted) else piece for piece",
        PRINTED,
    ),
    Mutation(
        "what is painted is not escaped",
        CLI_OUTPUT,
        "painted(shown(piece), piece.colour, stream)",
        "painted(piece, piece.colour, stream)",
        PRINTED,
    ),
    Mutation(
        "bytes that are not text are printed as they are",
        CLI_WORDING,
        "    return sign if sign.isprintable() else sign",
        '    return sign if sign.isprintable() or "\\ud800" <= sign <= "\\udfff" else sign',
        PRINTED,
    ),
    Mutation("JSON is not ASCII", CLI_OUTPUT, "(data, ensure_ascii=True,", "(data, ensure_ascii=False,", PRINTED),
    Mutation(
        "the lines of a traceback look like ours",
        CLI_OUTPUT,
        'f"  {line}" for line in written',
        "line for line in written",
        PRINTED,
    ),
    Mutation(
        "a stream that fails ends the command",
        CLI_STREAMS,
        "        except (OSError, ValueError) as error:  # ValueError: it was closed",
        "        except ValueError as error:",
        PRINTED,
    ),
    Mutation(
        "a stream that was closed ends the command",
        CLI_STREAMS,
        "        except (OSError, ValueError) as error:  # ValueError: it was closed",
        "        except OSError as error:",
        PRINTED,
    ),
    Mutation(
        "a file gets the number of a closed stream",
        CLI_STREAMS,
        "    _occupy_closed_descriptors()\n    before",
        "    before",
        PRINTED,
    ),
    Mutation(
        "a list that is cut short is a success",
        CLI_STREAMS,
        "        return self.failure is not None and",
        "        return False and",
        PRINTED,
    ),
    Mutation(
        "gc does not ask",
        CLI_PENDING,
        "        asks = orphans > 0 and not",
        "        asks = orphans > 0 and False and not",
        COMMANDS,
    ),
    Mutation(
        "gc drops after a no",
        CLI_PENDING,
        "            drop = output.ask(",
        "            output.ask(",
        COMMANDS,
    ),
    Mutation(
        "gc does not look again after the answer",
        CLI_PENDING,
        "                judged = _judged_again(judged, backend, store)  # the",
        "                pass  # the",
        COMMANDS,
    ),
    Mutation(
        "gc drops what runs here",
        CLI_PENDING,
        '        return evolve(judged, orphan=False, why="an upload is running here")',
        "        return judged",
        COMMANDS,
    ),
    Mutation(
        "gc reads the ids before the claims only",
        CLI_PENDING,
        "for one in (*first, *second) for",
        "for one in first for",
        COMMANDS,
    ),
    Mutation(
        "gc drops what an unreadable checkpoint may own",
        CLI_PENDING,
        "    if judged.orphan and found.unreadable:",
        "    if False:",
        COMMANDS,
    ),
    Mutation(
        "gc takes a place that is not there for an empty one",
        CLI_PENDING,
        "    wanted.store.check_that_it_is_there(the_file_too=True)\n",
        "",
        COMMANDS,
    ),
    Mutation(
        "gc warns below a minute only",
        CLI_PENDING,
        "_LIKELY_RUNNING = 3600.0",
        "_LIKELY_RUNNING = 60.0",
        COMMANDS,
    ),
    Mutation(
        "an age needs no unit",
        "core/cli/parsing.py",
        "    if re.fullmatch(_NUMBER, number):\n",
        "    if False:\n",
        COMMANDS,
    ),
    Mutation(
        "what is kept in memory is taken for kept", CLI_OPENING, '.lower() == "memory":', '.lower() == "":', COMMANDS
    ),
    Mutation(
        "a directory without its slash is a prefix",
        CLI_OPENING,
        "    if os.path.isdir(directory / key):",
        "    if False:",
        COMMANDS,
    ),
    Mutation(
        "commands retry nothing",
        CLI_RETRIES,
        "            result = call_with_retries(attempt, policy, self._wait, note)",
        "            result = attempt()",
        COMMANDS,
    ),
    Mutation(
        "a list that breaks off tells what it has told",
        CLI_RETRIES,
        " if (one.key, one.upload_id) not in seen)",
        ")",
        COMMANDS,
    ),
    Mutation(
        "a storage that is down is waited for at each request",
        CLI_RETRIES,
        "evolve(self._policy, max_attempts=1) if self._down else self._policy",
        "self._policy",
        COMMANDS,
    ),
    Mutation(
        "one odd entry hides all of status",
        "core/cli/status.py",
        "    except Exception:  # noqa: BLE001  # see above",
        "    except ZeroDivisionError:",
        COMMANDS,
    ),
    Mutation("serve keeps requests", "core/cli/serve.py", "max_recorded_requests=0", "kept_requests=1", SERVE_AND_DEMO),
    Mutation("a weak secret is taken", "core/cli/serve.py", "len(secret) < _SECRET_LENGTH_MIN or ", "", SERVE_AND_DEMO),
    Mutation(
        "the secret that was given is shown",
        "core/cli/serve.py",
        'f"${_SECRET}" if given else server.access_key_secret',
        "server.access_key_secret",
        SERVE_AND_DEMO,
    ),
    Mutation(
        "a signal is let in while the demo starts an upload",
        "core/cli/demo.py",
        "        if not self._is_held:\n",
        "        if True:\n",
        SERVE_AND_DEMO,
    ),
    Mutation(
        "a signal that came too early is forgotten",
        "core/cli/demo.py",
        "        if self._number is not None:\n",
        "        if False:\n",
        SERVE_AND_DEMO,
    ),
]
