"""How far an upload is, as a bar and as lines."""

from __future__ import annotations

import io
import json
import threading

import pytest
from rich.cells import cell_len
from rich.console import Console

from partwise.cli.output import Output
from partwise.cli.progress_display import Bar, Events, Lines, Pace, Silence, bar, beginning, meter_for
from partwise.model import MIB
from partwise.results import Progress


def at(
    done: float, total: float | None = 100, *, elapsed: float = 1.0, resumed: float = 0, completed: bool = False
) -> Progress:
    """A report, in MiB and parts of one MiB."""
    return Progress(
        bytes_done=int(done * MIB),
        bytes_total=None if total is None else int(total * MIB),
        bytes_resumed=int(resumed * MIB),
        parts_done=int(done),
        parts_total=None if total is None else int(total),
        elapsed=elapsed,
        completed=completed,
    )


# --- which ---


def test_the_quiet_have_no_meter() -> None:
    assert type(meter_for(Output(quiet=True), "f", "f to u")) is Silence


def test_what_is_no_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(meter_for(Output(), "f", "f to u"), Lines)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(meter_for(Output(), "f", "f to u"), Bar)


def test_a_terminal_that_can_not_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(meter_for(Output(), "f", "f to u"), Lines)


def test_those_who_want_no_progress_have_no_meter() -> None:
    assert type(meter_for(Output(), "f", "f to u", "none")) is Silence


def test_lines_can_be_had_on_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(meter_for(Output(), "f", "f to u", "lines"), Lines)


def test_objects_are_had_by_the_quiet_too() -> None:
    assert isinstance(meter_for(Output(quiet=True, json=True, events=True), "f", "f to u", "json"), Events)


# --- words ---


def test_the_beginning_tells_what_there_is_to_do() -> None:
    assert beginning("f to u", at(0)) == "uploading f to u: 100.0 MiB in 100 parts"
    assert beginning("f to u", at(0, None)) == "uploading f to u"


def test_the_beginning_tells_what_need_not_be_done_again() -> None:
    assert beginning("f to u", at(40, resumed=40)) == ("resuming f to u at 40.0 of 100.0 MiB (40 of 100 parts)")


# --- lines ---


def said(capsys: pytest.CaptureFixture[str], *reports: Progress) -> list[str]:
    """The lines that are written of these reports, after the one that tells the beginning."""
    with Lines("f to u", Output()) as meter:
        for report in reports:
            meter(report)
    return capsys.readouterr().err.splitlines()[1:]


def test_a_line_is_written_at_each_tenth_of_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, *(at(done, elapsed=done) for done in range(100)))
    assert [line.split()[0] for line in lines] == ["10", "20", "30", "40", "50", "60", "70", "80", "90"]
    assert lines[4] == " 50 %  50.0 of 100.0 MiB  1.0 MiB/s  50 s left"


@pytest.mark.parametrize(
    ("done", "elapsed", "lines"), [(30, 1.99, 0), (30, 2.0, 1), (1, 2.0, 0), (1, 59.9, 0), (1, 60.0, 1), (9.9, 30.0, 0)]
)
def test_a_line_is_written_after_two_seconds_at_a_tenth_and_after_a_minute_anywhere(
    capsys: pytest.CaptureFixture[str], done: float, elapsed: float, lines: int
) -> None:
    assert len(said(capsys, at(0, elapsed=0), at(done, elapsed=elapsed))) == lines


def test_a_quick_upload_is_told_at_its_beginning_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, *(at(done, elapsed=done / 100) for done in range(100))) == []


def test_a_slow_upload_is_told_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, *(at(seconds / 1000, elapsed=seconds) for seconds in range(181)))
    assert len(lines) == 3


def test_a_stream_is_told_once_a_minute_and_has_no_end_in_sight(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, *(at(seconds, None, elapsed=seconds) for seconds in range(61)))
    assert lines == ["60.0 MiB  1.0 MiB/s"]


def test_the_tenths_of_an_earlier_run_are_not_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, *(at(50 + seconds, elapsed=seconds, resumed=50) for seconds in range(12)))
    assert [line.split()[0] for line in lines] == ["60"]


def test_lines_come_as_often_as_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines("f to u", Output(), interval=10.0) as meter:
        for second in range(35):
            meter(at(second / 1000, elapsed=second))
    assert len(capsys.readouterr().err.splitlines()) == 1 + 3


def test_an_upload_that_is_done_at_once_has_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines("f to u", Output()) as meter:
        meter(at(100, completed=True))
        meter.restore_screen()
    assert capsys.readouterr().err == ""


# --- objects ---


def objects(capsys: pytest.CaptureFixture[str], *reports: Progress, interval: float = 1.0) -> list[dict[str, object]]:
    with Events(Output(json=True, events=True), interval) as meter:
        for report in reports:
            meter(report)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_report_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    _, told = objects(capsys, at(10, resumed=10, elapsed=0.5), at(25.5, elapsed=2.0, resumed=10))
    assert told == {
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
    }


def test_what_is_not_known_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    (told,) = objects(capsys, at(10, None))
    assert (told["bytes_total"], told["parts_total"], told["fraction"], told["eta"]) == (None, None, None, None)


def test_objects_come_at_the_beginning_now_and_then_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    reports = [at(tenths, elapsed=tenths / 10) for tenths in range(25)]
    told = objects(capsys, *reports, at(100, elapsed=2.41, completed=True), interval=1.0)
    assert [one["elapsed"] for one in told] == [0.0, 1.0, 2.0, 2.41]
    assert (told[-1]["fraction"], told[-1]["eta"]) == (1.0, 0.0)


# --- pace ---


def test_the_pace_is_that_of_late() -> None:
    pace = Pace(window=5)
    for second in range(11):
        pace.note(at(second * 10, 1000, elapsed=second))
    for second in range(11, 21):
        pace.note(at(100 + (second - 10), 1000, elapsed=second))
    assert pace.rate == MIB
    assert pace.left(at(110, 1000)) == 890


@pytest.mark.parametrize(("ago", "rate"), [(7, 8), (8, 8), (9, 0), (20, 0)])
def test_the_pace_is_that_of_the_last_eight_seconds(ago: int, rate: int) -> None:
    """A burst of 64 MiB counts for as long, and then no more."""
    pace = Pace()
    pace.note(at(0, 1000, elapsed=0))
    for second in range(1, ago + 1):
        pace.note(at(64, 1000, elapsed=second))
    assert pace.rate == pytest.approx(64 * MIB / ago if rate else 0)


def test_what_an_earlier_run_sent_is_no_pace() -> None:
    pace = Pace()
    pace.note(at(50, resumed=50, elapsed=1))
    pace.note(at(51, resumed=50, elapsed=2))
    assert pace.rate == MIB


def test_parts_that_turn_out_to_be_there_make_no_pace_below_zero() -> None:
    pace = Pace()
    pace.note(at(10, elapsed=1))
    pace.note(at(20, resumed=20, elapsed=2))
    assert pace.rate == 0


def test_nothing_can_be_said_of_a_pace_at_first() -> None:
    pace = Pace()
    pace.note(at(1, elapsed=1))
    pace.note(at(2, elapsed=1))
    assert (pace.rate, pace.left(at(2)), pace.left(at(2, None))) == (0, None, None)


# --- the bar ---


def signs(width: int, progress: Progress, *, blocks: bool = True, colours: bool = False) -> str:
    return bar(width, progress, blocks=blocks, colours=colours).plain


def test_the_bar_tells_resumed_from_sent_from_left_without_colour() -> None:
    assert signs(10, at(75, resumed=50)) == "═════━━╸╌╌"


def test_the_bar_can_be_drawn_in_ascii() -> None:
    assert signs(10, at(70, resumed=50), blocks=False) == "#####==---"


def test_the_bar_tells_them_apart_by_colour() -> None:
    styled = bar(10, at(70, resumed=50), blocks=True, colours=True)
    assert [(span.style, span.end - span.start) for span in styled.spans] == [
        ("cyan", 5),
        ("green", 2),
        ("bright_black", 3),
    ]


@pytest.mark.parametrize("done", [0, 0.01, 33.3, 99.9, 100])
@pytest.mark.parametrize("width", [4, 11, 80])
def test_the_bar_has_the_width_that_it_is_given(done: float, width: int) -> None:
    assert len(signs(width, at(done, resumed=done / 2))) == width


def test_an_empty_file_has_an_empty_bar() -> None:
    assert signs(4, at(0, 0)) == "╌╌╌╌"


def drawn(width: int, *reports: Progress, name: str = "backup.tar") -> str:
    """What stands on a terminal of this width."""
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    meter = Bar(name, "f to u", Output(quiet=True))
    for report in reports:
        meter(report)
    console.print(meter)
    return screen.getvalue().rstrip("\n")


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 250])
def test_the_bar_is_one_line_on_any_terminal(width: int) -> None:
    line = drawn(width, at(10), at(25.5, elapsed=2.0), name="a-name-of-a-file-that-is-longer-than-most.tar.zst")
    assert "\n" not in line
    assert len(line) <= width - 2
    assert "25%" in line


def test_a_terminal_of_eighty_columns_shows_all_that_matters() -> None:
    line = drawn(80, at(10, resumed=10), at(25.5, elapsed=2.0, resumed=10))
    assert line == "backup.tar ══━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌   25%   25.5/100.0 MiB  15.5 MiB/s  0:05 left"


def test_a_wider_terminal_shows_parts_too() -> None:
    assert drawn(120, at(10, resumed=10), at(25.5, elapsed=2.0, resumed=10)).endswith("  0:05 left  25/100 parts")


@pytest.mark.parametrize("width", [40, 80])
def test_a_name_in_wide_signs_does_not_break_the_line(width: int) -> None:
    line = drawn(width, at(10), at(25.5, elapsed=2.0), name="备份文件备份文件备份文件备份文件.tar")
    assert cell_len(line) <= width - 2
    assert "25%" in line


def test_a_name_can_not_give_orders_to_the_terminal() -> None:
    assert "\x1b" not in drawn(80, at(10), name="a\x1b[2Jb\n")


def test_without_colours_the_bar_is_drawn_by_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar of one sign in one colour would tell nothing."""
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    meter = Bar("f", "f to u", Output(quiet=True))
    meter(at(10, resumed=10))
    meter(at(50, elapsed=2.0, resumed=10))
    meter._console.width = 80
    meter._console.print(meter)
    assert {"═", "━", "╌"} <= set(screen.getvalue()) or {"#", "=", "-"} <= set(screen.getvalue())


def test_without_a_thread_to_draw_it_the_bar_is_drawn_with_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a limit on processes is reached."""

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


def test_a_stream_has_no_bar_but_figures() -> None:
    line = drawn(80, at(10, None), at(20, None, elapsed=2.0), name="standard input")
    assert line == "standard input  20.0 MiB  10.0 MiB/s  0:02 so far  20 parts"


def test_before_the_first_report_there_is_a_name() -> None:
    assert drawn(80) == "backup.tar"
