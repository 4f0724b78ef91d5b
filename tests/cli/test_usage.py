"""Wrong command lines, and the help pages."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import click
import pytest

from partwise.cli import main
from partwise.cli.app import app
from partwise.cli.help_pages import Argument

Run = Callable[..., "Ended"]  # noqa: F821  # of conftest, which can't be imported


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (["uplaod"], "uplaod"),
        (["statsu"], "error: no such command 'statsu'\nhint: Did you mean status?\n"),
        (["x" * 40], "hint: See 'partwise --help'"),
        (["upload"], "FILE"),
        (["upload", "small.bin"], "URL"),
        (["upload", "small.bin", "URL", "--nonsense"], "no such option: --nonsense"),
        (["upload", "small.bin", "URL", "--part-sise", "8M"], "Did you mean --part-size?"),
        (["upload", "small.bin", "URL", "--acl"], "requires an argument"),
        (["upload", "small.bin", "URL", "-x"], "no such option: -x\n"),
        (["upload", "small.bin", "URL", "extra"], "extra"),
        (["upload", "small.bin", "URL", "--concurrency", "many"], "--concurrency"),
        (["upload", "small.bin", "URL", "--concurrency", "0"], "--concurrency"),
        (["upload", "small.bin", "URL", "--concurrency", "1001"], "from 1 to 1000"),
        (["upload", "small.bin", "URL", "--concurrency", "999999999999999999"], "from 1 to 1000"),
        (["upload", "small.bin", "URL", "--max-attempts", "0"], "--max-attempts"),
        (["upload", "small.bin", "URL", "--part-size", "big"], "--part-size"),
        (["upload", "small.bin", "URL", "--part-size", "0"], "--part-size"),
        (["upload", "small.bin", "URL", "--part-size", "6TiB"], "out of bounds"),
        (["upload", "small.bin", "URL", "--part-size", "10B", "--multipart-threshold", "0"], "30,000 parts"),
        (["upload", "small.bin", "URL", "--multipart-threshold", "x"], "--multipart-threshold"),
        (["upload", "small.bin", "URL", "--bandwidth-limit", "0"], "--bandwidth-limit"),
        (["upload", "small.bin", "URL", "--timeout", "soon"], "--timeout"),
        (["upload", "small.bin", "URL", "--meta", "nothing"], "--meta"),
        (["upload", "small.bin", "URL", "--tag", "a=1", "--tag", "a=2"], "--tag"),
        (["upload", "small.bin", "URL", "--callback-url", "http://127.0.0.1/"], "--callback-body"),
        (["upload", "small.bin", "URL", "--callback-var", "x:a=1"], "--callback-url"),
        (["upload", "small.bin", "URL", "--set", "colour"], "--set: 'colour' does not have the form NAME=VALUE"),
        (["upload", "small.bin", "URL", "--set", "colour=red"], "does not support --set colour. Nothing was sent"),
        (
            ["upload", "small.bin", "URL", "--set", "a=1", "--acl", "x", "--set", "b=2"],
            "support --set a, --acl, --set b.",
        ),
        (["upload", "small.bin", "URL", "--set", "expires=a", "--set", "expires=b"], "'expires' is given twice"),
        (
            ["upload", "small.bin", "URL", "--set", "content_type=a/b", "--content-type", "c/d"],
            "gives content_type a second",
        ),
        (["upload", "small.bin", "URL", "--set", "metadata=a"], "--set can't give metadata"),
        (["upload", "small.bin", "URL", "--set", "forbid_overwrite=yes"], "must be true or false, not 'yes'"),
        (
            ["upload", "small.bin", "OSS", "--set", "traffic_limit=fast"],
            "--traffic-limit must be an integer, not 'fast'",
        ),
        (["upload", "small.bin", "OSS", "--set", "traffic_limit=5"], "--traffic-limit must be from 819200"),
        (["upload", "small.bin", "OSS", "--set", "callback=http://127.0.0.1/"], "--set can't give callback"),
        (["upload", "small.bin", "OSS", "--if-match", "E"], "does not support --if-match"),
        (["upload", "small.bin", "URL", "--if-match", "E"], "does not support --if-match"),
        (["upload", "small.bin", "URL", "--request-payer", "requester"], "does not support --request-payer"),
        (["upload", "small.bin", "OSS", "--request-payer", "me"], "--request-payer must be one of requester"),
        (["upload", "small.bin", "OSS", "--data-encryption", "SM4"], "Pass --encryption KMS with them"),
        (["upload", "small.bin", "URL", "--traffic-limit", "819200"], "does not support --traffic-limit"),
        (["upload", "small.bin", "OSS", "--timeout", "2d"], "error: --timeout must be"),
        (["upload", "small.bin", "OSS", "--traffic-limit", "5"], "error: --traffic-limit must be from"),
        (["upload", "small.bin", "OSS", "--acl", "none"], "error: --acl must be one of"),
        (["upload", "small.bin", "OSS", "--meta", "a=ä"], "error: --meta 'a' is sent as a header"),
        (["upload", "small.bin", "URL", "--callback-host", ""], "--callback-url"),
        (["upload", "small.bin", "OSS", "--callback-url", "", "--callback-body", ""], "1 to 5 http or https URLs"),
        (["upload", "small.bin", "URL", "--no-resume", "--require-resume"], "--require-resume"),
        (["upload", "small.bin", "URL", "--no-resume", "--checkpoint", "c"], "--no-resume"),
        (["upload", "small.bin", "URL", "--checkpoint", "c", "--checkpoint-dir", "d"], "--checkpoint-dir"),
        (["upload", "small.bin", "URL", "--store", "memory:", "--checkpoint-dir", "d"], "--store"),
        (["upload", "small.bin", "URL", "--store", "nowhere:"], "nowhere:"),
        (["upload", "small.bin", "URL", "--acl", "private"], "acl"),
        (["upload", "small.bin", "URL", "--endpoint", "example.com"], "endpoint"),
        (["upload", "small.bin", "nowhere://bucket/key"], "nowhere:"),
        (["upload", "small.bin", "/mnt/backups/copy"], "or file:///mnt/backups/copy for a directory"),
        (["upload", "small.bin", "/mnt/backups/"], "or file:///mnt/backups/ for a directory"),
        (["upload", "small.bin", "file:///tmp"], "end the URL with a slash"),
        (["upload", "-", "file:///tmp/x/"], "has no name to add"),
        (["upload", "-", "oss://examplebucket"], "has no name to add"),
        (["upload", "", "URL"], "name of the file is empty"),
        (["upload", "small.bin", ""], "oss://bucket/key"),
        (["upload", "small.bin", "URL", "--progress", "jason"], "'auto', 'lines', 'json', 'none'"),
        (["upload", "small.bin", "URL", "--progress-interval", "often"], "--progress-interval"),
        (["upload", "small.bin", "URL", "--traffic-limit", "fast"], "--traffic-limit"),
        (["upload", "small.bin", "OSS", "--acl", "secret"], "default, private, public-read"),
        (["upload", "small.bin", "OSS", "--storage-class", "Cheap"], "Standard, IA"),
        (["upload", "small.bin", "OSS", "--encryption", "rot13"], "AES256"),
        (["upload", "small.bin", "OSS", "--signature-version", "v5"], "must be v4 or v1"),
        (["upload", "small.bin", "OSS", "--addressing-style", "odd"], "one of virtual"),
        (["upload", "small.bin", "OSS", "--traffic-limit", "5"], "from 819200"),
        (["upload", "small.bin", "OSS", "--timeout", "0"], "--timeout: must be above 0 seconds"),
        (["upload", "small.bin", "OSS", "--kms-key-id", "x"], "KMS"),
        (["upload", "small.bin", "OSS", "--callback-url", "ftp://x", "--callback-body", "y"], "http or https"),
        (["upload", "small.bin", "file:///tmp/x/%2e%2e"], "'..'"),
        (["upload", "small.bin", "file://elsewhere/x/y"], "elsewhere"),
        (["upload", "small.bin", "memory:"], "memory:"),
        (["abort", "-", "file:///tmp/x/"], "has no name to add"),
        (["verify", "small.bin", "memory:"], "memory:"),
        (["verify", "small.bin", "file:///tmp"], "end the URL with a slash"),
        (["verify", "small.bin", "URL", "--endpoint", "example.com"], "endpoint"),
        (["verify", "", "URL"], "name of the file is empty"),
        (["gc", "URL", "--older-than", "long"], "--older-than"),
        (["gc", "URL", "--older-than", "7"], "7d or 7s"),
        (["gc", "URL", "--older-than", "0"], "has no unit"),
        (["gc", "URL", "--older-than", "99999999999999999999d"], "--older-than"),
        (["gc", "URL", "--max-attempts", "0"], "--max-attempts"),
        (["upload", "small.bin", "URL", "--bandwidth-limit", "20"], "20MiB or 20B"),
        (["upload", "small.bin", "URL", "--part-size", "8"], "8MiB or 8B"),
        (["upload", "small.bin", "URL", "--multipart-threshold", "10"], "10MiB or 10B"),
        (["demo", "--size", "100"], "100MiB or 100B"),
        (["upload", "small.bin", "memory://bucket/key"], "nothing would be kept"),
        (["upload", "--dry-run", "small.bin", "Memory://bucket/key"], "nothing would be kept"),
        (["uploads", "memory://bucket"], "nothing would be kept"),
        (["gc", "memory://bucket"], "nothing would be kept"),
        (["abort", "small.bin", "memory://bucket/key"], "nothing would be kept"),
        (["upload", "small.bin", "URL", "--store", "memory://"], "--store"),
        (["status", "--store", "memory:"], "nothing would be kept"),
        (["gc", "URL", "--store", "memory://name"], "nothing would be kept"),
        (["uploads", "file:///tmp"], "end the URL with a slash"),
        (["gc", "file:///tmp"], "end the URL with a slash"),
        (["uploads", "file:///tmp/not/there/"], "there is no directory"),
        (["gc", "file:///tmp/not/there/prefix"], "there is no directory"),
        (["uploads", "/tmp"], "is not a URL"),
        (["gc", "backups"], "is not a URL"),
        (["status", "--checkpoint-dir", "typo"], "--checkpoint-dir: there is no directory typo"),
        (["status", "--checkpoint", "typo/one.ucp"], "--checkpoint: there is no directory for the file"),
        (["abort", "small.bin", "URL", "--checkpoint-dir", "typo"], "there is no directory typo"),
        (["gc", "URL", "--checkpoint-dir", "typo"], "nothing was changed"),
        (["gc", "URL", "--checkpoint", "typo.ucp"], "there is no file typo.ucp"),
        (["serve"], "DIR"),
        (["serve", ".", "--port", "70000"], "from 0 to 65535"),
        (["serve", ".", "--port", "many"], "--port"),
        (["serve", "small.bin"], "is not a directory"),
        (["demo", "--size", "17KiB"], "--size"),
        (["demo", "--size", "x"], "--size"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_refused_with_an_error_and_perhaps_a_hint(
    *, partwise: Run, small: Path, url: str, monkeypatch: pytest.MonkeyPatch, line: list[str], names: str
) -> None:
    for name, value in {"REGION": "cn-hangzhou", "ACCESS_KEY_ID": "x", "ACCESS_KEY_SECRET": "y"}.items():
        monkeypatch.setenv(f"OSS_{name}", value)
    urls = {"URL": url, "OSS": "oss://examplebucket/key"}
    ended = partwise(*(urls.get(word, word) for word in line))
    assert ended.code == 2
    assert ended.out == ""
    labels = [text.partition(": ")[0] for text in ended.err.splitlines()]
    assert labels in (["error"], ["error", "hint"])
    assert names in ended.err
    assert not re.search(r"\{|\w=\s|\w=$", ended.err), "no Python keyword is printed"


def test_a_file_that_looks_like_a_flag_gets_a_hint(partwise: Run, place: Path, url: str) -> None:
    (place / "-x").write_bytes(b"x")
    assert partwise("upload", "-x", url).err.endswith("hint: Write a file of that name as ./-x\n")
    assert partwise("upload", "./-x", url).code == 0


def test_a_flag_that_is_too_long_for_the_name_of_a_file_is_unknown(partwise: Run, url: str) -> None:
    flag = f"--{'x' * 5000}"
    ended = partwise("upload", flag, url)
    assert (ended.code, ended.err.splitlines()[0]) == (2, f"error: no such option: {flag}")


def test_a_usage_error_is_an_object_too(partwise: Run) -> None:
    ended = partwise("upload", "--json")
    assert ended.code == 2
    assert ended.last["ok"] is False
    assert ended.last["exit_code"] == 2
    assert ended.last["error"]["type"] == "UsageError"


def test_an_invalid_value_has_the_type_of_the_library_s_error(partwise: Run) -> None:
    ended = partwise("upload", "file", "oss://examplebucket/key", "--part-size", "big", "--json")
    assert ended.last["error"] == {
        "type": "InvalidInput",
        "message": (
            "--part-size: 'big' is not a valid size. Write a number of bytes, or a unit as in 8MiB, 1.5G or 100kB"
        ),
        "retryable": False,
        "resumable": False,
    }


@pytest.mark.parametrize("progress", [["--progress", "json"], ["--progress=JSON"]], ids=" ".join)
def test_events_end_with_a_usage_error(partwise: Run, progress: list[str]) -> None:
    ended = partwise("upload", "file", "oss://examplebucket/key", *progress, "--part-size", "big")
    assert (ended.code, ended.last["exit_code"], ended.last["error"]["type"]) == (2, 2, "InvalidInput")


@pytest.mark.parametrize("progress", [[], ["--progress", "lines"]], ids=" ".join)
def test_a_usage_error_is_an_object_only_on_request(partwise: Run, progress: list[str]) -> None:
    ended = partwise("upload", "json", "oss://examplebucket/key", *progress, "--part-size", "big")
    assert (ended.code, ended.out) == (2, "")


def test_a_pair_that_is_given_twice_is_wrong_usage(partwise: Run, url: str) -> None:
    ended = partwise("upload", "file", url, "--meta", "a=1", "--meta", "a=2")
    assert (ended.code, ended.err.splitlines()[0]) == (2, "error: --meta: 'a' is given twice")


def test_a_wrong_command_line_creates_nothing(partwise: Run, small: Path, url: str, bucket: Path) -> None:
    partwise("upload", "small.bin", url, "--part-size", "6TiB")
    assert not bucket.exists()


FLAGS = [
    "--part-size",
    "--multipart-threshold",
    "--concurrency",
    "--max-attempts",
    "--bandwidth-limit",
    "--timeout",
    "--checkpoint",
    "--checkpoint-dir",
    "--store",
    "--no-resume",
    "--require-resume",
    "--dry-run",
    "--content-type",
    "--meta",
    "--acl",
    "--storage-class",
    "--tag",
    "--cache-control",
    "--content-disposition",
    "--content-encoding",
    "--forbid-overwrite",
    "--if-match",
    "--encryption",
    "--kms-key-id",
    "--set",
    "--traffic-limit",
    "--request-payer",
    "--expected-bucket-owner",
    "--data-encryption",
    "--callback-url",
    "--callback-host",
    "--callback-body",
    "--callback-body-type",
    "--callback-var",
    "--endpoint",
    "--region",
    "--signature-version",
    "--addressing-style",
    "--ca-bundle",
    "--proxy",
    "--profile",
    "--dialect",
    "--dual-stack",
    "--accelerate",
    "--sse-customer-key-file",
    "--object-lock-mode",
    "--object-lock-retain-until",
    "--json",
    "--progress",
    "--progress-interval",
    "--quiet",
    "--verbose",
]


def test_the_help_of_upload_lists_every_flag(partwise: Run) -> None:
    page = partwise("upload", "--help").out
    assert [flag for flag in FLAGS if not re.search(rf"^  (?:-\w, )?{flag}\b", page, re.MULTILINE)] == []


@pytest.mark.parametrize("command", ["upload", "verify", "status", "abort", "uploads", "gc", "probe", "serve", "demo"])
def test_every_help_page_has_examples(partwise: Run, command: str) -> None:
    ended = partwise(command, "--help")
    assert ended.code == 0
    assert len(re.findall(rf"(?:^  |[|] )partwise {command}\b", ended.out, re.MULTILINE)) >= 3
    assert max(map(len, ended.out.splitlines())) <= 80


def test_every_flag_is_explained() -> None:
    parameters = [(name, parameter) for name, command in app.commands.items() for parameter in command.params]
    missing = []
    for name, parameter in parameters:
        if isinstance(parameter, click.Option):
            explained = parameter.help and (parameter.is_flag or parameter.metavar)
        else:
            assert isinstance(parameter, Argument)
            explained = parameter.explanation and parameter.metavar
        if not explained:
            missing.append((name, parameter.name))
    assert missing == []


def test_the_word_help_shows_the_help(partwise: Run) -> None:
    assert partwise("help", "gc").out == partwise("gc", "--help").out


@pytest.mark.parametrize("line", [[], ["--help"], ["-h"], ["help"]], ids=["nothing", "--help", "-h", "help"])
def test_the_first_page_lists_every_command(partwise: Run, line: list[str]) -> None:
    ended = partwise(*line)
    assert ended.code == 0
    for command in ("upload", "verify", "status", "abort", "uploads", "gc", "probe", "serve", "demo"):
        assert f"\n  {command} " in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80


def test_every_example_fits_80_columns_however_wide_the_terminal_is() -> None:
    pages = {"partwise": app, **app.commands}
    examples = {name: command.epilog or "" for name, command in pages.items()}
    assert [name for name, text in examples.items() if "Examples:\n" not in text] == []
    assert [line for text in examples.values() for line in text.splitlines() if len(line) > 80] == []


def test_help_is_as_wide_as_the_terminal_up_to_a_hundred_columns(
    partwise: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = {}
    for columns in (80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = partwise("upload", "--help").out.partition("Examples:")[0].splitlines()
        widths[columns] = max(map(len, lines))
    assert widths[80] <= 80
    assert 80 < widths[200] <= 100


def test_the_version_is_shown(partwise: Run) -> None:
    ended = partwise("--version")
    assert (ended.code, ended.out.split()[0]) == (0, "partwise")


def test_without_its_metadata_it_has_no_version(partwise: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", not_found)
    ended = partwise("--version")
    assert (ended.code, ended.out) == (0, "partwise, unknown version: the package metadata is missing\n")


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == missing or name == "partwise.cli.app"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delattr("partwise.cli.app", raising=False)
    assert main(["--help"]) == 2
    assert capsys.readouterr().err == (
        "error: the command line needs click and rich, which are not installed\n"
        'hint: Run: pip install "partwise[cli]"\n'
    )


def test_another_missing_module_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "partwise.cli.app", raising=False)
    monkeypatch.setitem(sys.modules, "partwise.cli.runner", None)
    with pytest.raises(ModuleNotFoundError):
        main(["--help"])
