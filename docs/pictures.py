"""
Draw the pictures of the command line for the documents: ``python docs/pictures.py``.

Only the command lines are typed in: the rest is the program's own output, recorded instead of shown. Times and rates
are given, so that every run draws the same. A test draws them again, and compares.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from partwise import Checkpoint, ClaimOwner, Progress, TransferConfig, UploadedPart, UploadResult, Waiting
from partwise.checkpoint import Fingerprint
from partwise.cli import main
from partwise.cli.object_options import RequestedOptions
from partwise.cli.output import Output
from partwise.cli.progress_bar import Bar
from partwise.cli.progress_display import format_start
from partwise.cli.targets import BackendSpec, StoreSpec
from partwise.cli.upload import UploadCommand, format_plan, format_result
from partwise.explain import Explanation, PlannedPart
from partwise.model import GIB, MIB
from partwise.stores.file import FileCheckpointStore

HERE = Path(__file__).parent / "pictures"
COLUMNS = 92

THEME = TerminalTheme(
    background=(24, 26, 31),
    foreground=(214, 218, 226),
    normal=[
        (60, 64, 72),
        (240, 113, 120),
        (126, 198, 113),
        (229, 192, 110),
        (97, 175, 239),
        (198, 120, 221),
        (86, 194, 214),
        (214, 218, 226),
    ],
    bright=[
        (110, 116, 128),
        (255, 140, 145),
        (150, 220, 140),
        (245, 215, 140),
        (130, 195, 250),
        (215, 150, 235),
        (120, 215, 230),
        (255, 255, 255),
    ],
)

# No font is downloaded. Each line has an explicit width, so that any of these fonts fits.
TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" class="{unique_id}" viewBox="0 0 {width} {height}" role="img">
<style>
.{unique_id}-matrix {{
  font-family: "Cascadia Mono", "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; white-space: pre;
}}
.{unique_id}-title {{ font-family: sans-serif; font-size: 16px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Screen(io.StringIO):
    """A terminal that records what is written to it."""

    def isatty(self) -> bool:
        return True

    def types(self, line: str) -> None:
        """Show a command line, as a person types it."""
        self.write(f"\x1b[90m$\x1b[0m \x1b[1m{line}\x1b[0m\n")

    def runs(self, *arguments: str) -> None:
        """Run a command, and show the command line and its output."""
        self.types(" ".join(["partwise", *arguments]))
        main(arguments)

    def draws(self, *reports: Progress) -> None:
        """Show the bar after these reports."""
        console = Console(file=self, force_terminal=True, color_system="standard", width=COLUMNS)
        meter = Bar("backup.tar", str(COMMAND), Output(quiet=True), console)
        for report in reports:
            meter(report)
        console.print(meter)


def at(
    done: float, total: float = 1024, *, elapsed: float, resumed: float = 0, waiting: Waiting | None = None
) -> Progress:
    """Return a report, in MiB, of an upload in parts of 8 MiB."""
    return Progress(
        bytes_done=int(done * MIB),
        bytes_total=int(total * MIB),
        bytes_resumed=int(resumed * MIB),
        parts_done=int(done) // 8,
        parts_total=int(total) // 8,
        elapsed=elapsed,
        parts_in_flight=0 if waiting else 16,
        waiting=waiting,
    )


COMMAND = UploadCommand(
    file="backup.tar",
    target=BackendSpec("oss://examplebucket/backup.tar", {}),
    store=StoreSpec(),
    config=TransferConfig(),
    options=RequestedOptions(),
    resume="auto",
    command="partwise upload backup.tar oss://examplebucket/backup.tar",
)


def resumed(screen: Screen) -> None:
    """An upload that is killed, and the same command again."""
    screen.types(COMMAND.command)
    screen.write(format_start(str(COMMAND), at(0, elapsed=0)) + "\n")
    screen.draws(at(0, elapsed=0), at(540, elapsed=12.9), at(624, elapsed=15.0))
    screen.write("Killed\n")
    screen.types(COMMAND.command)
    screen.write(format_start(str(COMMAND), at(616, elapsed=0, resumed=616)) + "\n")
    screen.draws(at(616, elapsed=0, resumed=616), at(778, elapsed=4.0, resumed=616))
    result = UploadResult(
        key="backup.tar",
        size=GIB,
        etag="",
        checksum=0,
        bytes_sent=408 * MIB,
        bytes_resumed=616 * MIB,
        parts_sent=51,
        parts_resumed=77,
        verified=True,
    )
    Output().say(*format_result(COMMAND, result, 10.1))


def status(screen: Screen) -> None:
    """Show three unfinished uploads, one of them running."""
    store = FileCheckpointStore()
    hour = 3600.0
    uploads = [
        ("/srv/backups/shop.tar", "examplebucket@cn-hangzhou", "2026/shop.tar", 512, 41, 26 * hour),
        ("/srv/backups/photos.tar", "examplebucket@cn-hangzhou", "2026/photos.tar", 40_000, 3120, 3.2 * hour),
        ("-", "logs@cn-beijing", "today.jsonl", None, 12, 1.1 * hour),
    ]
    names = []
    for source, bucket, key, size, parts, age in uploads:
        checkpoint = Checkpoint(
            location=f"oss://{bucket}",
            key=key,
            source=source,
            fingerprint=Fingerprint(size=None if size is None else size * MIB),
            part_size=8 * MIB,
            upload_id="0004B9895DBBB6EC9",
            parts=tuple(UploadedPart(number, 8 * MIB, "etag") for number in range(1, parts + 1)),
            created=time.time() - age - 30,  # in the middle of a minute, so that the age is the same in every run
        )
        store.save(checkpoint)
        names.append(checkpoint.name)
    where = "/home/ada/.local/state/partwise/checkpoints"
    owner = ClaimOwner("backup-1", 4711)
    with (
        store.claim(names[1]),
        patch.object(FileCheckpointStore, "where", where),
        patch.object(FileCheckpointStore, "claim_owner", return_value=owner),
    ):
        screen.runs("status")


def dry_run(screen: Screen) -> None:
    """What the next run would do."""
    outcomes = [
        (1, 70, "keep", "recorded, and on the storage"),
        (71, 71, "send", "the storage holds another version of it than the recorded one"),
        (72, 76, "keep", "recorded, and on the storage"),
        (77, 77, "adopt", "on the storage, not recorded, and its checksum is the source's"),
        (78, 128, "send", "it was not sent yet"),
    ]
    parts = tuple(
        PlannedPart(number, (number - 1) * 8 * MIB, 8 * MIB, action, why)
        for first, last, action, why in outcomes
        for number in range(first, last + 1)
    )
    screen.types("partwise upload --dry-run backup.tar oss://examplebucket/backup.tar")
    Output().say(*format_plan(COMMAND, Explanation("resume", "", parts), width=COLUMNS))


def wrong(screen: Screen) -> None:
    """Wrong command lines."""
    Path("backup.tar").write_bytes(b"x")
    screen.runs("upload", "backup.tar", "/mnt/backups/")
    screen.runs("upload", "backup.tar", "file:///mnt/backups/", "--part-size", "8Q")
    screen.runs("upload", "backup.tar", "file:///mnt/backups/", "--part-sise", "8M")
    screen.runs("statsu")


def outage(screen: Screen) -> None:
    """An upload during an outage."""
    screen.types(COMMAND.command)
    screen.write(format_start(str(COMMAND), at(0, elapsed=0)) + "\n")
    waiting = Waiting("no connection to examplebucket.oss-cn-hangzhou.aliyuncs.com", 12.0, 288.0)
    screen.draws(at(0, elapsed=0), at(540, elapsed=12.9), at(624, elapsed=27.0, waiting=waiting))


PICTURES: dict[str, Callable[[Screen], None]] = {
    "resumed": resumed,
    "outage": outage,
    "status": status,
    "dry-run": dry_run,
    "wrong": wrong,
}


@contextmanager
def _terminal(screen: Screen) -> Iterator[None]:
    """Use this terminal, in an empty directory without any state."""
    before, environment = Path.cwd(), dict(os.environ)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(screen), redirect_stderr(screen):
        os.chdir(folder)
        for name in [name for name in os.environ if name.startswith("OSS_")] + ["NO_COLOR", "FORCE_COLOR"]:
            os.environ.pop(name, None)
        os.environ |= {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "HOME": folder, "XDG_STATE_HOME": folder}
        try:
            yield
        finally:
            os.chdir(before)
            os.environ.clear()
            os.environ.update(environment)


def drawn(name: str) -> str:
    """Return a picture as SVG."""
    screen = Screen()
    with _terminal(screen):
        PICTURES[name](screen)
    paper = Console(file=io.StringIO(), record=True, width=COLUMNS, force_terminal=True, legacy_windows=False)
    paper.print(Text.from_ansi(screen.getvalue().rstrip("\n")), soft_wrap=False, overflow="fold", no_wrap=False)
    return paper.export_svg(title="partwise", theme=THEME, code_format=TEMPLATE, unique_id=f"partwise-{name}")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for name in PICTURES:
        (HERE / f"{name}.svg").write_text(drawn(name), encoding="utf-8")
        sys.stdout.write(f"docs/pictures/{name}.svg\n")
