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
CLI_FORMATTING = "core/cli/formatting.py"
CLI_GC = "core/cli/gc.py"
CLI_RETRIES = "core/cli/retries.py"
CLI_TARGETS = "core/cli/targets.py"
PROGRESS, PROGRESS_BAR = "core/cli/progress_display.py", "core/cli/progress_bar.py"
PROGRESS_SHOWN = ("tests/cli/test_progress_display.py",)
SERVE_AND_DEMO = ("tests/cli/test_serve_demo.py -k 'not demo_succeeds_and and not demo_takes'",)

MUTATIONS = [
    Mutation(
        "an outage counts for the rate",
        PROGRESS,
        "            self._stalled = True",
        "            pass",
        PROGRESS_SHOWN,
    ),
    Mutation(
        "what an outage has cut off counts for the rate",
        PROGRESS,
        "        elif self._reports and sent > self._reports[-1][1]:",
        "        else:",
        PROGRESS_SHOWN,
    ),
    Mutation(
        "an outage has a line for each report",
        PROGRESS,
        "            self._outage_line_at += min(self._outage_line_at, self._SECONDS_MAX)",
        "            pass",
        PROGRESS_SHOWN,
    ),
    Mutation(
        "the second outage has fewer lines",
        PROGRESS,
        "            self._output.note(recovered)\n            self._outage_line_at = self._OUTAGE_SECONDS\n",
        "            self._output.note(recovered)\n",
        PROGRESS_SHOWN,
    ),
    Mutation(
        "the end of an outage is not printed",
        PROGRESS,
        "            self._output.note(recovered)\n",
        "            pass\n",
        PROGRESS_SHOWN,
    ),
    Mutation(
        "the begin of an outage has no object",
        PROGRESS,
        "is None or changed or progress",
        "is None or progress",
        PROGRESS_SHOWN,
    ),
    Mutation(
        "what is resumed is printed before it is known",
        PROGRESS,
        "        if not self._started and progress.waiting is None:",
        "        if not self._started:",
        PROGRESS_SHOWN,
    ),
    Mutation(
        "the end of an outage is not printed above the bar",
        PROGRESS_BAR,
        "            self._output.note(recovered)\n",
        "            pass\n",
        PROGRESS_SHOWN,
    ),
    Mutation(
        "the seconds of an outage stand still between reports",
        PROGRESS_BAR,
        "self._clock() - self._shown_at, width",
        "0.0, width",
        PROGRESS_SHOWN,
    ),
    Mutation(
        "the reason for an outage can control the terminal",
        PROGRESS_BAR,
        "Text(escape_control(reason),",
        "Text(reason,",
        PROGRESS_SHOWN,
    ),
    Mutation(
        "the rate is shown during an outage",
        PROGRESS_BAR,
        " and not (report.waiting and figure in (self._speed, self._time_left))",
        "",
        PROGRESS_SHOWN,
    ),
    Mutation(
        "printed text is not escaped",
        CLI_OUTPUT,
        "if isinstance(piece, Styled) else escape_control(piece)\n",
        "if isinstance(piece, Styled) else piece\n",
        PRINTED,
    ),
    Mutation(
        "styled text is not escaped",
        CLI_OUTPUT,
        "styled(escape_control(piece), piece.color, stream)",
        "styled(piece, piece.color, stream)",
        PRINTED,
    ),
    Mutation(
        "bytes that are not text are printed unescaped",
        CLI_FORMATTING,
        "one if one.isprintable() else one",
        'one if one.isprintable() or "\\ud800" <= one <= "\\udfff" else one',
        PRINTED,
    ),
    Mutation("JSON is not ASCII", CLI_OUTPUT, "(data, ensure_ascii=True,", "(data, ensure_ascii=False,", PRINTED),
    Mutation(
        "the lines of a traceback are not indented",
        CLI_OUTPUT,
        'f"  {line}" for line in written',
        "line for line in written",
        PRINTED,
    ),
    Mutation(
        "a failing stream ends the command",
        CLI_STREAMS,
        "        except (OSError, ValueError) as error:  # ValueError: it was closed",
        "        except ValueError as error:",
        PRINTED,
    ),
    Mutation(
        "a closed stream ends the command",
        CLI_STREAMS,
        "        except (OSError, ValueError) as error:  # ValueError: it was closed",
        "        except OSError as error:",
        PRINTED,
    ),
    Mutation(
        "a file gets the descriptor of a closed stream",
        CLI_STREAMS,
        "    _occupy_closed_descriptors()\n    before",
        "    before",
        PRINTED,
    ),
    Mutation(
        "a truncated list is a success",
        CLI_STREAMS,
        "        return self.failure is not None and",
        "        return False and",
        PRINTED,
    ),
    Mutation(
        "gc does not ask",
        CLI_GC,
        "        asks = orphans > 0 and not",
        "        asks = orphans > 0 and False and not",
        COMMANDS,
    ),
    Mutation(
        "gc drops after a no",
        CLI_GC,
        "            drop = output.ask(",
        "            output.ask(",
        COMMANDS,
    ),
    Mutation(
        "gc does not read checkpoints again after the confirmation",
        CLI_GC,
        "                decisions = _decide_again(decisions, backend, store)  # the",
        "                pass  # the",
        COMMANDS,
    ),
    Mutation(
        "gc drops a running upload",
        CLI_GC,
        '        return evolve(decision, orphan=False, why="an upload is running here")',
        "        return decision",
        COMMANDS,
    ),
    Mutation(
        "gc reads the ids only before the claims",
        CLI_GC,
        "for one in (*first, *second) for",
        "for one in first for",
        COMMANDS,
    ),
    Mutation(
        "gc drops uploads that may belong to an unreadable checkpoint",
        CLI_GC,
        "    if decision.orphan and owners.unreadable:",
        "    if False:",
        COMMANDS,
    ),
    Mutation(
        "gc treats a missing store as empty",
        CLI_GC,
        "    command.store.require_existing(including_file=True)\n",
        "",
        COMMANDS,
    ),
    Mutation(
        "gc warns only below a minute",
        CLI_GC,
        "_PROBABLY_RUNNING = 3600.0",
        "_PROBABLY_RUNNING = 60.0",
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
        "private fields of errors are printed",
        "core/cli/reporting.py",
        'if not name.startswith("_") and ',
        "if ",
        ("tests/cli/test_reporting.py",),
    ),
    Mutation(
        "empty callback options are ignored",
        "core/cli/object_options.py",
        "if value is not False and value != {}}",
        "if value}",
        COMMANDS,
    ),
    Mutation(
        "messages name settings, not flags",
        "core/cli/reporting.py",
        "return ErrorReport(_message(error), hint",
        "return ErrorReport(error.message, hint",
        ("tests/cli/test_reporting.py",),
    ),
    Mutation(
        "an abort that fails is reported as a failed upload",
        "core/cli/reporting.py",
        'aborting = error.message.endswith("could not be aborted")',
        "aborting = False",
        ("tests/cli/test_reporting.py",),
    ),
    Mutation(
        "events do not end with a usage error",
        "core/cli/runner.py",
        "--(?:json|progress[=\\0]json)",
        "--(?:json)",
        COMMANDS,
    ),
    Mutation("memory URLs are accepted", "core/cli/parsing.py", '.lower() == "memory":', '.lower() == "":', COMMANDS),
    Mutation(
        "a directory without a slash is a prefix",
        CLI_TARGETS,
        "    if os.path.isdir(directory / key):",
        "    if False:",
        COMMANDS,
    ),
    Mutation(
        "commands retry nothing",
        CLI_RETRIES,
        "            result = call_with_retries(attempt, patience, self._clock.monotonic, self._wait, log_retry, moves=True)",
        "            result = attempt()",
        COMMANDS,
    ),
    Mutation(
        "a list that is requested again repeats uploads",
        CLI_RETRIES,
        " if (one.key, one.upload_id) not in seen)",
        ")",
        COMMANDS,
    ),
    Mutation(
        "every request backs off while the storage is down",
        CLI_RETRIES,
        "self._patience.at_most(0.0) if self._down else self._patience",
        "self._patience",
        COMMANDS,
    ),
    Mutation(
        "an invalid checkpoint hides all others in status",
        "core/cli/status.py",
        "    except Exception:  # noqa: BLE001  # see above",
        "    except ZeroDivisionError:",
        COMMANDS,
    ),
    Mutation(
        "serve records requests",
        "core/cli/serve.py",
        "max_recorded_requests=0",
        "max_recorded_requests=1",
        SERVE_AND_DEMO,
    ),
    Mutation(
        "a short secret is accepted", "core/cli/serve.py", "len(secret) < _SECRET_LENGTH_MIN or ", "", SERVE_AND_DEMO
    ),
    Mutation(
        "the secret of the environment is printed",
        "core/cli/serve.py",
        'f"${_SECRET}" if given else server.access_key_secret',
        "server.access_key_secret",
        SERVE_AND_DEMO,
    ),
    Mutation(
        "a signal is not deferred while the demo starts an upload",
        "core/cli/demo.py",
        "        if not self._is_deferred:\n",
        "        if True:\n",
        SERVE_AND_DEMO,
    ),
    Mutation(
        "a deferred signal is lost",
        "core/cli/demo.py",
        "        if self._number is not None:\n",
        "        if False:\n",
        SERVE_AND_DEMO,
    ),
    Mutation(
        "hints name Python arguments on the command line",
        "core/cli/reporting.py",
        "        return FLAGS.get(setting, setting)\n",
        "        return setting\n",
        ("tests/cli/test_reporting.py",),
    ),
    Mutation(
        "the command line prints no cause",
        CLI_OUTPUT,
        '(("cause", report.cause), ',
        "(",
        ("tests/cli/test_output.py",),
    ),
]
