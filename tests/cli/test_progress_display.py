"""Progress as a bar, as lines and as objects."""

from __future__ import annotations

import io
import json
import threading

import pytest
from rich.cells import cell_len
from rich.console import Console

from partwise.cli.output import Output
from partwise.cli.progress_bar import Bar, bar
from partwise.cli.progress_display import Events, Lines, NullMeter, RateEstimator, format_start, meter_for
from partwise.model import MIB
from partwise.results import Progress, Waiting


def at(
    done: float,
    total: float | None = 100,
    *,
    elapsed: float = 1.0,
    resumed: float = 0,
    completed: bool = False,
    in_flight: int = 0,
    waiting: Waiting | None = None,
) -> Progress:
    """Return a report, in MiB and parts of one MiB."""
    return Progress(
        bytes_done=int(done * MIB),
        bytes_total=None if total is None else int(total * MIB),
        bytes_resumed=int(resumed * MIB),
        parts_done=int(done),
        parts_total=None if total is None else int(total),
        elapsed=elapsed,
        completed=completed,
        parts_in_flight=in_flight,
        retries=3 if waiting else 0,
        waiting=waiting,
    )


def outage(seconds: float, *, host: str = "localhost:9", patience: float | None = 300) -> Waiting:
    """Return what a report has that many seconds after the first failure."""
    return Waiting(f"no connection to {host}", seconds, None if patience is None else patience - seconds)


# --- which meter ---


def test_quiet_shows_no_progress() -> None:
    assert type(meter_for(Output(quiet=True), "f", "f to u")) is NullMeter


def test_progress_is_shown_as_lines_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(meter_for(Output(), "f", "f to u"), Lines)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(meter_for(Output(), "f", "f to u"), Bar)


def test_progress_is_shown_as_lines_on_a_dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(meter_for(Output(), "f", "f to u"), Lines)


def test_progress_none_shows_no_progress() -> None:
    assert type(meter_for(Output(), "f", "f to u", "none")) is NullMeter


def test_lines_can_be_requested_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(meter_for(Output(), "f", "f to u", "lines"), Lines)


def test_quiet_does_not_suppress_objects() -> None:
    assert isinstance(meter_for(Output(quiet=True, json=True, events=True), "f", "f to u", "json"), Events)


# --- the first line ---


def test_the_first_line_says_what_is_uploaded() -> None:
    assert format_start("f to u", at(0)) == "uploading f to u: 100.0 MiB in 100 parts"
    assert format_start("f to u", at(0, None)) == "uploading f to u"


def test_the_first_line_says_what_is_compared() -> None:
    report = Progress(0, 100 * MIB)
    assert format_start("f with u", report, "comparing") == "comparing f with u: 100.0 MiB"


def test_the_first_line_says_what_is_resumed() -> None:
    assert format_start("f to u", at(40, resumed=40)) == ("resuming f to u at 40.0 of 100.0 MiB (40 of 100 parts)")


# --- lines ---


def lines_for(capsys: pytest.CaptureFixture[str], *reports: Progress) -> list[str]:
    """Return the lines for these reports, without the first line."""
    with Lines("f to u", Output()) as meter:
        for report in reports:
            meter(report)
    return capsys.readouterr().err.splitlines()[1:]


def test_a_line_is_printed_at_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_for(capsys, *(at(done, elapsed=done) for done in range(100)))
    assert [line.split()[0] for line in lines] == ["10", "20", "30", "40", "50", "60", "70", "80", "90"]
    assert lines[4] == " 50 %  50.0 of 100.0 MiB  1.0 MiB/s  50 s left"


@pytest.mark.parametrize(
    ("done", "elapsed", "lines"), [(30, 1.99, 0), (30, 2.0, 1), (1, 2.0, 0), (1, 59.9, 0), (1, 60.0, 1), (9.9, 30.0, 0)]
)
def test_a_line_is_printed_after_two_seconds_at_a_tenth_or_after_a_minute(
    capsys: pytest.CaptureFixture[str], done: float, elapsed: float, lines: int
) -> None:
    assert len(lines_for(capsys, at(0, elapsed=0), at(done, elapsed=elapsed))) == lines


def test_a_fast_upload_has_only_the_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_for(capsys, *(at(done, elapsed=done / 100) for done in range(100))) == []


def test_a_slow_upload_has_a_line_per_minute(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_for(capsys, *(at(seconds / 1000, elapsed=seconds) for seconds in range(181)))
    assert len(lines) == 3


def test_a_stream_has_a_line_per_minute_without_a_total(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_for(capsys, *(at(seconds, None, elapsed=seconds) for seconds in range(61)))
    assert lines == ["60.0 MiB  1.0 MiB/s"]


def test_the_tenths_of_an_earlier_run_are_not_printed_again(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_for(capsys, *(at(50 + seconds, elapsed=seconds, resumed=50) for seconds in range(12)))
    assert [line.split()[0] for line in lines] == ["60"]


def test_lines_are_printed_at_the_given_interval(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines("f to u", Output(), interval=10.0) as meter:
        for second in range(35):
            meter(at(second / 1000, elapsed=second))
    assert len(capsys.readouterr().err.splitlines()) == 1 + 3


def test_an_upload_without_parts_to_send_has_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines("f to u", Output()) as meter:
        meter(at(100, completed=True))
        meter.restore_screen()
    assert capsys.readouterr().err == ""


def test_an_outage_has_a_line_after_ten_seconds_then_fewer_and_one_at_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It begins with a warning of the library, which is printed, too."""
    reports = [at(25.5, elapsed=seconds, waiting=outage(seconds)) for seconds in range(2, 201)]
    lines = lines_for(capsys, at(25.5, elapsed=0), *reports, at(25.5, elapsed=201.4), at(26, elapsed=202))
    assert lines[0] == ("retrying: no connection to localhost:9 for 10 s, giving up in 4:50")
    assert [line.partition("localhost:9")[2] for line in lines[1:]] == [
        " for 20 s, giving up in 4:40",
        " for 40 s, giving up in 4:20",
        " for 1 min 20 s, giving up in 3:40",
        " for 2 min 20 s, giving up in 2:40",
        " for 3 min 20 s, giving up in 1:40",
        "",
    ]
    assert lines[-1] == "recovered after 3 min 21 s"


def test_an_outage_that_is_first_reported_late_has_one_line_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    """An attempt that hangs until its timeout reports nothing meanwhile."""
    reports = [at(1, elapsed=seconds, waiting=outage(seconds)) for seconds in (65, 66, 67, 79, 80, 81)]
    lines = lines_for(capsys, at(1, elapsed=0), *reports)
    assert [line.split(" for ")[1].split(",")[0] for line in lines] == ["1 min 5 s", "1 min 20 s"]


def test_the_lines_of_the_next_outage_come_as_those_of_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    reports = []
    for start in (0, 100):
        reports += [at(1, elapsed=start + seconds, waiting=outage(seconds)) for seconds in range(2, 15)]
        reports.append(at(1, elapsed=start + 15))
    lines = lines_for(capsys, at(1, elapsed=0), *reports)
    assert [line.partition("localhost:9 ")[2] for line in lines if "retrying" in line] == [
        "for 10 s, giving up in 4:50"
    ] * 2


def test_lines_of_an_outage_are_printed_at_the_given_interval(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines("f to u", Output(), interval=5.0) as meter:
        meter(at(1, elapsed=0))
        for second in range(2, 21):
            meter(at(1, elapsed=second, waiting=outage(second)))
    assert capsys.readouterr().err.count("retrying") == 4


def test_an_outage_at_the_start_comes_before_the_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What is resumed is not known before the storage answers."""
    with Lines("f to u", Output()) as meter:
        for second in range(2, 15):
            meter(at(0, elapsed=second, waiting=outage(second)))
        meter(at(40, resumed=40, elapsed=15))
    assert capsys.readouterr().err.splitlines() == [
        "retrying: no connection to localhost:9 for 10 s, giving up in 4:50",
        "recovered after 15 s",
        "resuming f to u at 40.0 of 100.0 MiB (40 of 100 parts)",
    ]


def test_an_outage_before_the_end_ends_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_for(capsys, at(99), at(99, elapsed=4, waiting=outage(3)), at(100, elapsed=5, completed=True))
    assert lines == ["recovered after 4.0 s"]


def test_a_reason_can_not_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    [line] = lines_for(capsys, at(1, elapsed=0), at(1, elapsed=10, waiting=outage(10, host="a\x1b[2Jb\n\u202ec")))
    assert "a\\x1b[2Jb\\n\\u202ec for 10 s" in line


# --- objects ---


def objects(capsys: pytest.CaptureFixture[str], *reports: Progress, interval: float = 1.0) -> list[dict[str, object]]:
    with Events(Output(json=True, events=True), interval) as meter:
        for report in reports:
            meter(report)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_report_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    _, payload = objects(capsys, at(10, resumed=10, elapsed=0.5), at(25.5, elapsed=2.0, resumed=10, in_flight=4))
    assert payload == {
        "event": "progress",
        "bytes_done": int(25.5 * MIB),
        "bytes_total": 100 * MIB,
        "bytes_resumed": 10 * MIB,
        "bytes_acknowledged": 0,
        "parts_done": 25,
        "parts_total": 100,
        "fraction": 0.255,
        "elapsed": 2.0,
        "rate": round(15.5 * MIB / 1.5),
        "eta": 7.2,
        "parts_in_flight": 4,
        "retries": 0,
        "waiting": None,
    }


def test_unknown_values_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    (payload,) = objects(capsys, at(10, None))
    assert (payload["bytes_total"], payload["parts_total"], payload["fraction"], payload["eta"]) == (
        None,
        None,
        None,
        None,
    )


def test_objects_are_written_first_at_the_interval_and_last(capsys: pytest.CaptureFixture[str]) -> None:
    reports = [at(tenths, elapsed=tenths / 10) for tenths in range(25)]
    payloads = objects(capsys, *reports, at(100, elapsed=2.41, completed=True), interval=1.0)
    assert [one["elapsed"] for one in payloads] == [0.0, 1.0, 2.0, 2.41]
    assert (payloads[-1]["fraction"], payloads[-1]["eta"]) == (1.0, 0.0)


def test_an_outage_is_in_the_object(capsys: pytest.CaptureFixture[str]) -> None:
    _, payload = objects(capsys, at(10), at(10, elapsed=13.0, waiting=outage(12.04)))
    assert payload["waiting"] == {"reason": "no connection to localhost:9", "seconds": 12.0, "gives_up_in": 288.0}
    assert (payload["retries"], payload["rate"], payload["eta"]) == (3, 0, None)


def test_an_outage_may_have_no_time_to_give_up(capsys: pytest.CaptureFixture[str]) -> None:
    (payload,) = objects(capsys, at(10, waiting=outage(2, patience=None)))
    assert payload["waiting"] == {"reason": "no connection to localhost:9", "seconds": 2, "gives_up_in": None}


def test_an_object_is_written_when_an_outage_begins_and_when_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    reports = [
        at(10, elapsed=0.0),
        at(10, elapsed=2.0, waiting=outage(2)),
        at(10, elapsed=2.1, waiting=outage(2.1)),
        at(10, elapsed=2.2),
        at(11, elapsed=2.3),
    ]
    assert [one["elapsed"] for one in objects(capsys, *reports, interval=60)] == [0.0, 2.0, 2.2]


# --- the rate ---


def test_old_reports_do_not_count_for_the_rate() -> None:
    rate = RateEstimator(window=5)
    for second in range(11):
        rate.add(at(second * 10, 1000, elapsed=second))
    for second in range(11, 21):
        rate.add(at(100 + (second - 10), 1000, elapsed=second))
    assert rate.rate == MIB
    assert rate.time_left(at(110, 1000)) == 890


@pytest.mark.parametrize(("ago", "expected"), [(7, 8), (8, 8), (9, 0), (20, 0)])
def test_the_rate_is_averaged_over_the_last_eight_seconds(ago: int, expected: int) -> None:
    """A burst of 64 MiB counts that long."""
    rate = RateEstimator()
    rate.add(at(0, 1000, elapsed=0))
    for second in range(1, ago + 1):
        rate.add(at(64, 1000, elapsed=second))
    assert rate.rate == pytest.approx(64 * MIB / ago if expected else 0)


def test_an_outage_does_not_count_for_the_rate() -> None:
    rate = RateEstimator()
    rate.add(at(10, elapsed=1))
    rate.add(at(20, elapsed=2))
    rate.add(at(20, elapsed=4, waiting=outage(2)))
    assert rate.rate == 0
    rate.add(at(20, elapsed=6, waiting=outage(4)))
    rate.add(at(28, elapsed=7))
    assert rate.rate == 8 * MIB


def test_what_an_outage_has_cut_off_does_not_count_for_the_rate() -> None:
    """Its bytes counted as sent already, and are sent again."""
    rate = RateEstimator()
    rate.add(at(20, elapsed=4, waiting=outage(2)))
    for second in range(5, 9):
        rate.add(at(20, elapsed=second))
    assert rate.rate == 0
    rate.add(at(22, elapsed=9))
    rate.add(at(22, elapsed=10))
    assert rate.rate == MIB


def test_bytes_of_an_earlier_run_do_not_count_for_the_rate() -> None:
    rate = RateEstimator()
    rate.add(at(50, resumed=50, elapsed=1))
    rate.add(at(51, resumed=50, elapsed=2))
    assert rate.rate == MIB


def test_adopted_parts_do_not_make_the_rate_negative() -> None:
    rate = RateEstimator()
    rate.add(at(10, elapsed=1))
    rate.add(at(20, resumed=20, elapsed=2))
    assert rate.rate == 0


def test_the_rate_is_unknown_at_first() -> None:
    rate = RateEstimator()
    rate.add(at(1, elapsed=1))
    rate.add(at(2, elapsed=1))
    assert (rate.rate, rate.time_left(at(2)), rate.time_left(at(2, None))) == (0, None, None)


# --- the bar ---


def characters(width: int, progress: Progress, *, blocks: bool = True, colors: bool = False) -> str:
    return bar(width, progress, blocks=blocks, colors=colors).plain


def test_without_colors_the_bar_uses_different_characters() -> None:
    assert characters(10, at(75, resumed=50)) == "═════━━╸╌╌"


def test_the_bar_can_be_drawn_in_ascii() -> None:
    assert characters(10, at(70, resumed=50), blocks=False) == "#####==---"


def test_with_colors_resumed_and_sent_have_their_own() -> None:
    text = bar(10, at(70, resumed=50), blocks=True, colors=True)
    assert [(span.style, span.end - span.start) for span in text.spans] == [
        ("cyan", 5),
        ("green", 2),
        ("bright_black", 3),
    ]


@pytest.mark.parametrize("done", [0, 0.01, 33.3, 99.9, 100])
@pytest.mark.parametrize("width", [4, 11, 80])
def test_the_bar_has_the_given_width(done: float, width: int) -> None:
    assert len(characters(width, at(done, resumed=done / 2))) == width


def test_an_empty_file_has_an_empty_bar() -> None:
    assert characters(4, at(0, 0)) == "╌╌╌╌"


def drawn(width: int, *reports: Progress, name: str = "backup.tar") -> str:
    """Return what is shown on a terminal of this width, without spaces at the end."""
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    meter = Bar(name, "f to u", Output(quiet=True), console)
    for report in reports:
        meter(report)
    console.print(meter)
    lines = screen.getvalue().removesuffix("\n").split("\n")
    assert max(map(cell_len, lines)) <= width - 2, "Ctrl-C, which the terminal echoes, does not wrap a line"
    return "\n".join(line.rstrip() for line in lines)


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 250])
def test_the_bar_is_one_line_at_any_width(width: int) -> None:
    line = drawn(width, at(10), at(25.5, elapsed=2.0), name="a-name-of-a-file-that-is-longer-than-most.tar.zst")
    assert "\n" not in line
    assert "25%" in line


def test_eighty_columns_show_everything_but_parts() -> None:
    line = drawn(80, at(10, resumed=10), at(25.5, elapsed=2.0, resumed=10))
    assert line == "backup.tar ══━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌   25%   25.5/100.0 MiB  15.5 MiB/s  0:05 left"


def test_a_wide_terminal_shows_parts() -> None:
    line = drawn(100, at(10, resumed=10), at(25.5, elapsed=2.0, resumed=10, in_flight=16))
    assert line.endswith("  0:05 left  25/100 parts")


def test_a_wider_terminal_shows_parts_in_flight() -> None:
    line = drawn(120, at(10, resumed=10), at(25.5, elapsed=2.0, resumed=10, in_flight=16))
    assert line.endswith("  0:05 left  25/100 parts   16 in flight")


def test_during_an_outage_a_second_line_says_so_instead_of_the_rate() -> None:
    assert drawn(80, at(10), at(25.5, elapsed=14.0, waiting=outage(12))).split("\n") == [
        "backup.tar ━━━━━━━━━━╸╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌   25%   25.5/100.0 MiB",
        "retrying: no connection to localhost:9 for 12 s, giving up in 4:48",
    ]


def test_the_second_line_of_a_stream_is_the_same() -> None:
    assert drawn(120, at(10, None), at(20, None, elapsed=12.0, waiting=outage(12)), name="dump").split("\n") == [
        "dump  20.0 MiB  0:12 so far  20 parts    0 in flight",
        "retrying: no connection to localhost:9 for 12 s, giving up in 4:48",
    ]


def test_the_seconds_of_an_outage_run_on_between_reports() -> None:
    """An attempt that hangs reports nothing."""
    now = [50.0]
    screen = io.StringIO()
    console = Console(file=screen, width=80, force_terminal=True, color_system=None, legacy_windows=False)
    meter = Bar("f", "f to u", Output(quiet=True), console, clock=lambda: now[0])
    meter(at(10, elapsed=14.0, waiting=outage(12)))
    now[0] += 61.5
    console.print(meter)
    assert "localhost:9 for 1 min 13 s, giving up in 3:46" in screen.getvalue()
    now[0] += 400
    console.print(meter)
    assert screen.getvalue().rstrip().endswith("giving up in 0:00")


@pytest.mark.parametrize("width", [20, 40, 80, 120])
@pytest.mark.parametrize(
    "host", ["bucket-with-a-long-name.oss-cn-hangzhou.aliyuncs.com:8443", "\x1b[2J\n", "备份" * 30]
)
def test_an_outage_is_two_lines_at_any_width(width: int, host: str) -> None:
    lines = drawn(width, at(10), at(25.5, elapsed=14.0, waiting=outage(12, host=host))).split("\n")
    assert len(lines) == 2
    assert lines[1].isprintable()
    if width >= 40:
        assert lines[1].endswith(" for 12 s, giving up in 4:48")
    if width >= 80:
        assert lines[1].startswith("retrying: no connection to ")


def test_the_end_of_an_outage_is_printed_above_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    meter = Bar("f", "f to u", Output(), Console(file=io.StringIO(), width=80))
    meter(at(0, elapsed=2.0, waiting=outage(2)))
    assert capsys.readouterr().err == ""
    meter(at(40, elapsed=12.0, resumed=40))
    assert capsys.readouterr().err.splitlines() == [
        "recovered after 12 s",
        "resuming f to u at 40.0 of 100.0 MiB (40 of 100 parts)",
    ]


@pytest.mark.parametrize("width", [40, 80])
def test_a_name_in_wide_characters_fits(width: int) -> None:
    line = drawn(width, at(10), at(25.5, elapsed=2.0), name="备份文件备份文件备份文件备份文件.tar")
    assert "\n" not in line
    assert "25%" in line


def test_a_name_can_not_control_the_terminal() -> None:
    assert "\x1b" not in drawn(80, at(10), name="a\x1b[2Jb\n")


def test_no_color_draws_the_bar_with_different_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar of one character in one color would show nothing."""
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    meter = Bar("f", "f to u", Output(quiet=True))
    meter(at(10, resumed=10))
    meter(at(50, elapsed=2.0, resumed=10))
    Console(file=screen, width=80, no_color=True).print(meter)
    assert {"═", "━", "╌"} <= set(screen.getvalue()) or {"#", "=", "-"} <= set(screen.getvalue())


def test_without_a_thread_the_bar_is_drawn_by_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the limit of processes is reached."""

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refused)
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with Bar("backup.tar", "f to u", Output(quiet=True)) as meter:
        for tick in range(50):
            meter(at(tick, elapsed=1 + tick / 50))
        pictures = screen.getvalue().count("backup.tar")

    assert "49%" in screen.getvalue()
    assert 5 <= pictures <= 15, "ten a second, though there are fifty reports"
    assert screen.getvalue().rstrip().endswith("\x1b[2K"), "it is gone, and the cursor is shown"


def test_a_stream_has_figures_but_no_bar() -> None:
    line = drawn(80, at(10, None), at(20, None, elapsed=2.0), name="standard input")
    assert line == "standard input  20.0 MiB  10.0 MiB/s  0:02 so far  20 parts"


def test_before_the_first_report_only_the_name_is_shown() -> None:
    assert drawn(80) == "backup.tar"
