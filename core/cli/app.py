"""
The commands and their flags, for click.

Each command is implemented in a separate module, which is imported when the command runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
import rich  # noqa: F401  # of the same extra: if it is missing, say so here, and not when a bar is drawn

from partwise.cli.common_options import (
    OUTPUT,
    bucket_url,
    checkpoint_options,
    connection_options,
    connection_settings,
    json_option,
    object_url,
    quiet_option,
    retry_options,
    verbose_option,
)
from partwise.cli.completion import VARIABLE, FilesOrNames, Paths
from partwise.cli.help_pages import WIDTH_MAX, Group, OptionGroup, Sources, argument
from partwise.cli.object_options import RequestedOptions, object_options
from partwise.cli.param_types import Value
from partwise.cli.runner import invoke, run_command
from partwise.cli.vendors import option_flags, reading_flags, scheme_of

if TYPE_CHECKING:
    from partwise.cli.output import Output
    from partwise.cli.targets import BackendSpec, StoreSpec
    from partwise.config import TransferConfig


#: Seconds for which `verify`, `abort`, `uploads` and `gc` retry by default. Someone waits for their output, and running
#: them again costs nothing.
_SHORT_PATIENCE = 60.0


def _examples(*lines: str) -> str:
    return "\n".join(["Examples:", *(f"  {line}" for line in lines)])


def _runs(function: Callable[..., int]) -> Callable[..., int]:
    """
    Make a command of a function.

    The function gets the output, and the value of each option by name.
    """

    @wraps(function)
    def run(**given: Any) -> int:
        files, url = given.get("files", (given.get("file"),)), given.get("url")
        file = files[0] if len(files) == 1 else None
        return run_command(
            lambda output: function(output, **given),
            json=given.get("json", False),
            quiet=given.get("quiet", False),
            verbose=given["verbose"],
            subject=f"{'standard input' if file == '-' else file} to {url}" if file and url else "",
            events=given.get("progress") == "json",
            scheme=scheme_of(url or ""),
            source=file if "files" in given else None,
        )

    return run


def _show_version(ctx: click.Context, param: click.Parameter, given: bool) -> None:  # noqa: ARG001  # click's
    if not given:
        return
    from importlib.metadata import PackageNotFoundError, version

    from partwise.cli.output import Output

    try:
        Output().say(f"partwise {version('partwise')}")
    except PackageNotFoundError:
        Output().say("partwise, unknown version: the package metadata is missing")
    ctx.exit()


def _show_completion(ctx: click.Context, param: click.Parameter, shell: str | None) -> None:  # noqa: ARG001  # click's
    if shell is not None:
        from partwise.cli.completion import script

        ctx.exit(run_command(lambda output: output.verbatim(script(shell.strip(), app))))


def _install_completion(ctx: click.Context, param: click.Parameter, shell: str | None) -> None:  # noqa: ARG001  # click's
    if shell is not None:
        from partwise.cli.completion import install

        ctx.exit(run_command(lambda output: output.say(*install(shell.strip(), app))))


_AT_ONCE: dict[str, Any] = {"expose_value": False, "is_eager": True}

# An option whose value may be left out has a value then that no one types.
_SHELL: dict[str, Any] = {**_AT_ONCE, "is_flag": False, "flag_value": " "}

program_options = (
    OptionGroup("Options")
    .flag("--version", "Show the version and exit.", callback=_show_version, **_AT_ONCE)
    .option(
        "--install-completion [SHELL]",
        str,
        "Install completion for bash, zsh or fish; default: the shell in SHELL.",
        callback=_install_completion,
        **_SHELL,
    )
    .option(
        "--show-completion [SHELL]",
        str,
        "Show the completion script instead of installing it.",
        callback=_show_completion,
        **_SHELL,
    )
)


@click.group(
    "partwise",
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH_MAX},
    epilog=_examples(
        "partwise demo",
        "partwise upload backup.tar oss://examplebucket/backup.tar",
        "partwise upload backup.tar file:///mnt/backups/backup.tar",
        "partwise status",
    ),
)
@program_options
def app() -> None:
    """
    Resumable multipart uploads.

    If an upload is stopped, killed or disconnected, run the same command again to resume it.
    """


# --- upload ----------------------------------------------------------------------------------------------------------

_EXIT_CODES = """

Exit codes:
  0    done
  1    failed: fix the cause first
  2    wrong usage
  3    busy: another process is running this upload
  75   failed, but retryable: run the same command again to resume
  130  stopped by Ctrl-C (143: by SIGTERM; 129: the terminal was closed):
       run the same command again"""

transfer_options = (
    OptionGroup("Transfer")
    .option(
        "--part-size SIZE",
        Value("part_size"),
        "Part size; default: auto: 8MiB, more for very large files, less on a long line.",
    )
    .option("--multipart-threshold SIZE", Value("size"), "Upload smaller files in a single request; default: 10MiB.")
    .option(
        "--concurrency N",
        Value("concurrency"),
        "Number of parts to upload in parallel, up to 1000; default: auto, which follows the line.",
    )
    .option("--concurrency-max N", Value("concurrency_max"), "The most parallel parts that auto uses; default: 128.")
    .option(
        "--give-up-after DURATION",
        Value("patience"),
        "Time without any progress before giving up, such as 15m; 0: at the first failure; default: 5m.",
    )
    .option(
        "--max-attempts N",
        Value("positive_integer"),
        "Consecutive failures of a part before giving up; default: no limit.",
    )
    .option("--bandwidth-limit SIZE", Value("rate"), "Maximum upload rate per second, such as 20MiB.")
)

expected_options = (
    OptionGroup("Transfer")
    .option(
        "--expect-size SIZE",
        Value("exact_size"),
        "Fail, and store nothing, unless the source has this size.",
        "expected_size",
    )
    .option(
        "--expect-crc64 N",
        Value("crc64"),
        "Fail, and store nothing, unless the source has this CRC-64/XZ: decimal, or 0x and hexadecimal digits.",
        "expected_crc64",
    )
)

_RESUMING = "Resuming"

resume_options = (
    OptionGroup(_RESUMING)
    .flag("--no-resume", "Neither read nor write a checkpoint.")
    .flag("--require-resume", "Fail if the upload can't be resumed.")
    .flag("-n --dry-run", "Show which parts would be kept or sent, and why; send nothing.")
)

change_options = (
    OptionGroup(_RESUMING)
    .option(
        "--verify-source HOW",
        click.Choice(["metadata", "content"], case_sensitive=False),
        "metadata (default): compare size and time; content: read the parts sent before and compare checksums.",
    )
    .option(
        "--on-source-change WHAT",
        click.Choice(["restart", "keep-matching"], case_sensitive=False),
        "restart (default), or keep-matching: read the file, and keep the parts that did not change.",
    )
)

progress_options = (
    OptionGroup(OUTPUT)
    .option(
        "--progress FORM",
        click.Choice(["auto", "lines", "json", "none"], case_sensitive=False),
        "auto (a bar on a terminal, lines elsewhere), lines, json (one object per line), or none.",
        default="auto",
    )
    .option(
        "--progress-interval DURATION", Value("duration"), "Time between two lines or objects of progress, such as 10s."
    )
)


@app.command(
    short_help="Upload a file, or resume its upload.",
    epilog=_examples(
        "partwise upload backup.tar oss://examplebucket/backup.tar",
        "partwise upload backup.tar oss://examplebucket/2026/",
        "partwise upload *.tar oss://examplebucket/2026/",
        "partwise upload backup.tar s3://examplebucket/backup.tar --profile work",
        "partwise upload --dry-run backup.tar oss://examplebucket/backup.tar",
        "partwise upload --bandwidth-limit 20MiB backup.tar oss://examplebucket/",
        "partwise upload --checkpoint-dir checkpoints b.tar oss://examplebucket/",
        "partwise upload --progress json b.tar oss://examplebucket/ | jq .fraction",
        "pg_dump shop | partwise upload - oss://examplebucket/shop.sql --meta host=db1",
    )
    + _EXIT_CODES,
)
@argument(
    "files",
    "FILE...",
    "A file, or several for a URL that ends with a slash; or - for standard input. To resume standard input, pipe in"
    " the same bytes again. A producer that fails half way looks like one that ends: use set -o pipefail, or"
    " --expect-size.",
    cls=Sources,
    nargs=-1,
    type=Paths("file"),
)
@object_url
@transfer_options
@expected_options
@resume_options
@change_options
@checkpoint_options
@object_options
@connection_options
@option_flags
@json_option
@progress_options
@quiet_option
@verbose_option
@_runs
def upload(output: Output, **given: Any) -> int:
    """
    Upload a file, or resume its upload if an earlier run was stopped.

    If the upload is stopped or killed, or the network fails, run the same command again: parts that the storage already
    has are not sent again.

    Several files are uploaded one after the other, each with a checkpoint of its own. If one fails, the others are
    uploaded nevertheless, and the exit code is that of the worst.

    A SIZE is written as 8MiB, 8M (the same), 8MB (8,000,000 bytes) or 1.5GiB; a DURATION as 90s, 5m or 1h30m.

    The access key for OSS comes from OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN, or from
    ~/.ossutilconfig; that for S3 from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or as other AWS
    tools find it: ~/.aws, AWS_PROFILE, single sign-on, the role of the container or machine.
    """

    from partwise.cli import formatting
    from partwise.cli import upload as command
    from partwise.config import TransferConfig

    files, context = given["files"], click.get_current_context()
    is_several = len(files) > 1
    request = command.UploadCommand(
        file=files[0],
        target=_target(given),
        store=_store(given),
        config=TransferConfig(**transfer_options.values(given), **change_options.values(given)),
        options=RequestedOptions.from_flags(given),
        resume=command.resume_mode(no_resume=given["no_resume"], require_resume=given["require_resume"]),
        command=formatting.command_line(formatting.without_passwords(context.obj)),
        progress=given["progress"],
        interval=given["progress_interval"],
        expected=expected_options.values(given),
    )
    if not is_several:
        return command.explain(request, output) if given["dry_run"] else command.upload(request, output)

    from partwise.cli import upload_several as several

    several.require_several(files, given)
    with_value = {
        flag for one in context.command.params if isinstance(one, click.Option) and not one.is_flag for flag in one.opts
    }

    def command_without(done: Collection[str]) -> str:
        words = formatting.without_words(context.obj, done, with_value)
        return formatting.command_line(formatting.without_passwords(words))

    return several.upload_several(
        several.SeveralUploads(files, request, command_without), output, dry_run=given["dry_run"]
    )


# --- stored objects --------------------------------------------------------------------------------------------------


@app.command(
    short_help="Compare a file with a stored object by its checksum.",
    epilog=_examples(
        "partwise verify backup.tar oss://examplebucket/backup.tar",
        "partwise verify backup.tar s3://examplebucket/2026/ --profile work",
        "pg_dump shop | partwise verify - oss://examplebucket/shop.sql",
        "partwise verify --json b.tar oss://examplebucket/ | jq .equal",
    )
    + """

Exit codes:
  0    equal
  1    not equal, or no such object; or failed
  2    wrong usage
  4    unknown: equal sizes, and no checksum to compare
  75   failed, but retryable: run the same command again
  130  stopped by Ctrl-C (143: by SIGTERM; 129: the terminal was closed)""",
)
@argument("file", "FILE", "A file, or - for standard input.", type=Paths("file"))
@object_url
@connection_options
@reading_flags
@retry_options
@json_option
@progress_options
@quiet_option
@verbose_option
@_runs
def verify(output: Output, **given: Any) -> int:
    """
    Compare a file with a stored object by size and checksum.

    The storage is asked once for the object, and nothing is downloaded. The file is read once, unless the sizes differ.

    If the storage reports no checksum of the object, only the sizes are compared. If they are equal, nothing shows that
    the bytes are: the exit code is 4, and with --json "equal" is null.
    """

    from partwise.cli import verify as command

    request = command.VerifyCommand(
        file=given["file"],
        target=_requests_to(given),
        config=_retry_config(given),
        progress=given["progress"],
        interval=given["progress_interval"],
    )
    return command.verify(request, output)


# --- unfinished uploads ----------------------------------------------------------------------------------------------


@app.command(
    short_help="List the unfinished uploads that have a checkpoint here.",
    epilog=_examples(
        "partwise status",
        "partwise status --checkpoint-dir /var/lib/backups",
        "partwise status --json | jq -r 'select(.running | not) | .source'",
    ),
)
@checkpoint_options
@json_option
@quiet_option
@verbose_option
@_runs
def status(output: Output, **given: Any) -> int:
    """
    List the unfinished uploads that have a checkpoint here.

    Shown are progress, size, age, whether the upload is running now or stopped, source and target. With --json, one
    object per line.
    """

    from partwise.cli import status as command

    return command.status(_store(given), output)


abort_options = OptionGroup("Options").option(
    "--upload-id ID", str, "Abort this upload to URL, with or without a checkpoint, instead of that of FILE."
)


@app.command(
    short_help="Abort an unfinished upload and delete its checkpoint.",
    epilog=_examples(
        "partwise abort 9c139a10",
        "partwise abort backup.tar oss://examplebucket/backup.tar",
        "partwise abort - oss://examplebucket/shop.sql",
        "partwise abort --checkpoint-dir checkpoints b.tar oss://examplebucket/b.tar",
        "partwise abort --upload-id 0004B989A1 oss://examplebucket/backup.tar",
    ),
)
@argument(
    "file",
    "FILE|NAME",
    "The file, written as for the upload, which need not exist any more. Or, without a URL, the name that 'partwise"
    " status' shows: its first characters are enough.",
    type=FilesOrNames(),
    required=False,
)
@argument(
    "url",
    "[URL]",
    "oss://bucket/key, s3://bucket/key, or file:///directory/key. If it ends with a slash, the file's name is added.",
    type=Value("url"),
    required=False,
)
@abort_options
@checkpoint_options
@connection_options
@retry_options
@json_option
@quiet_option
@verbose_option
@_runs
def abort(output: Output, **given: Any) -> int:
    """
    Abort an unfinished upload.

    Its parts are deleted from the storage, then its checkpoint. An object that is stored under the key is not touched.
    It is not an error if there is no such upload, unless it was given by its NAME. An upload that another process is
    running is not aborted.
    """

    from partwise.cli import abort as command

    file, url, upload_id = given["file"], given["url"], given["upload_id"]
    shared = command.AbortCommand(_store(given), _retry_config(given))
    if upload_id is not None:
        target = _requests_to({**given, "url": command.only_url(file, url)})
        return command.abort_by_id(upload_id, target, shared, output)
    if url is None:
        name = command.given_name(file)
        return command.abort_named(name, lambda url: _requests_to({**given, "url": url}), shared, output)
    return command.abort(file, _requests_to(given), shared, output)


uploads_options = (
    OptionGroup("Options")
    .flag("--parts", "Show the parts and bytes of each upload. This takes at least one request for each.")
    .option("--older-than DURATION", Value("age"), "Leave out younger uploads, such as 12h; default: list all.")
)


@app.command(
    short_help="List the pending uploads of a bucket.",
    epilog=_examples(
        "partwise uploads oss://examplebucket",
        "partwise uploads --parts oss://examplebucket/backups/",
        "partwise uploads --older-than 7d s3://examplebucket --profile work",
        "partwise uploads --json oss://examplebucket | jq -r .upload_id",
    ),
)
@bucket_url
@uploads_options
@checkpoint_options
@connection_options
@retry_options
@json_option
@quiet_option
@verbose_option
@_runs
def uploads(output: Output, **given: Any) -> int:
    """
    List the pending multipart uploads of a bucket.

    Shown are age, the checkpoint here that belongs to it, key and upload id. Uploads of other programs are included:
    they have no checkpoint here. With --json, one object per line.
    """

    from partwise.cli import uploads as command

    request = command.UploadsCommand(
        target=_requests_to(given), store=_store(given), config=_retry_config(given), **uploads_options.values(given)
    )
    return command.uploads(request, output)


gc_options = (
    OptionGroup("Options")
    .option("--older-than DURATION", Value("age"), "Keep younger uploads, such as 12h; default: 7d.", default="7d")
    .flag("-n --dry-run", "Only list what would be aborted.")
    .flag("-y --yes", "Do not ask for confirmation on a terminal.")
)


@app.command(
    short_help="Abort orphans: old pending uploads without a checkpoint.",
    epilog=_examples(
        "partwise gc --dry-run oss://examplebucket",
        "partwise gc --older-than 30d oss://examplebucket",
        "partwise gc --checkpoint-dir /var/lib/backups oss://examplebucket/backups/",
    ),
)
@bucket_url
@gc_options
@checkpoint_options
@connection_options
@retry_options
@json_option
@quiet_option
@verbose_option
@_runs
def gc(output: Output, **given: Any) -> int:
    """
    Abort orphans: old pending uploads that no checkpoint here belongs to.

    On a terminal, it lists them and asks for confirmation. In a script or a cron job, it does not ask.

    Checkpoints on other machines, or in other places than the one given, are not known here: their uploads are kept
    only if they are young enough. An upload that is running here is never aborted.
    """

    from partwise.cli import gc as command

    request = command.GcCommand(
        target=_requests_to(given), store=_store(given), config=_retry_config(given), **gc_options.values(given)
    )
    return command.gc(request, output)


probe_options = OptionGroup("Options").flag(
    "-y --yes", "Probe a bucket with a default retention, too, in which what is stored can't be deleted."
)


@app.command(
    short_help="Find out what a storage that speaks S3 can do.",
    epilog=_examples(
        "partwise probe s3://examplebucket",
        "partwise probe s3://examplebucket/tmp --endpoint https://s3.example.com",
        "partwise probe --json s3://examplebucket | jq -r .dialect",
    ),
)
@argument("url", "URL", "s3://bucket, or s3://bucket/prefix to store below a prefix.", type=Value("url"))
@probe_options
@connection_options
@retry_options
@json_option
@quiet_option
@verbose_option
@_runs
def probe(output: Output, **given: Any) -> int:
    """
    Find out what a storage that speaks S3 can do, and which --dialect fits it.

    It uploads a few small objects and up to 21 MiB of parts, under a random name below the prefix, and removes all of
    it, also after Ctrl-C. No other key is read or written.

    Shown are the dialect, what uploads verify with it, and what was observed: checksums, conditions, sizes of parts,
    lists, aborts.
    """
    from partwise.cli import probe as command

    return command.probe(_requests_to(given), _retry_config(given), output, yes=given["yes"])


# --- server and demo -------------------------------------------------------------------------------------------------

serve_options = (
    OptionGroup("Options")
    .option("--dialect NAME", click.Choice(["oss", "s3"]), "The service to emulate; default: oss.", default="oss")
    .option("--port N", Value("port"), "Port; default: 0, which takes a free one.", default=0)
    .option(
        "--allow-host NAME", str, "A host name to accept besides localhost; can be repeated.", "hosts", multiple=True
    )
)

demo_options = OptionGroup("Options").option(
    "--size SIZE", Value("size"), "Size of the random file; default: 256MiB.", default="256MiB"
)


@app.command(
    short_help="Run a server that emulates OSS or S3, for tests.",
    epilog=_examples(
        "partwise serve ~/buckets",
        "partwise serve --dialect s3 --port 9000 ~/buckets",
        "partwise serve --json ~/buckets | head -1 | jq -r .endpoint",
    ),
)
@argument("directory", "DIR", "Each directory in it is a bucket.", type=Paths("dir"))
@serve_options
@json_option
@quiet_option
@verbose_option
@_runs
def serve(output: Output, **given: Any) -> int:
    """
    Run a server on loopback that emulates OSS or Amazon S3, for tests.

    The tests can be written in any language. With --json it prints one object: endpoint, access_key_id,
    access_key_secret, region. Stop it with Ctrl-C or SIGTERM.

    The access key is generated for this run. To use your own, set PARTWISE_SERVE_ACCESS_KEY_ID and
    PARTWISE_SERVE_ACCESS_KEY_SECRET; there is no flag for it, since other users can read command lines.
    """

    from partwise.cli import serve as command

    return command.serve(given["directory"], given["dialect"], given["port"], given["hosts"], output)


@app.command(
    short_help="Show an upload that is killed half way and resumed.",
    epilog=_examples("partwise demo", "partwise demo --size 1GiB", "partwise demo backup.tar"),
)
@argument("file", "[FILE]", "The file to upload; default: random bytes.", type=Paths("file"), required=False)
@demo_options
@verbose_option
@_runs
def demo(output: Output, **given: Any) -> int:
    """
    Show how an upload over HTTP is killed half way and resumed.

    The same command resumes it, and the object is compared byte for byte. The server runs on loopback, and everything
    is in a temporary directory that is deleted.
    """

    from partwise.cli import demo as command

    return command.demo(given["file"], given["size"], output)


# --- from flags to values --------------------------------------------------------------------------------------------


def _target(given: dict[str, Any]) -> BackendSpec:
    from partwise.cli.targets import BackendSpec
    from partwise.cli.vendors import require_matching_flags

    require_matching_flags(given["url"], given)
    return BackendSpec(given["url"], connection_settings(given))


def _requests_to(given: dict[str, Any]) -> BackendSpec:
    """Return the target, with the options of its requests."""
    from attrs import evolve

    from partwise.cli.object_options import RequestedOptions

    return evolve(_target(given), options=RequestedOptions.of_requests(given))


def _store(given: dict[str, Any]) -> StoreSpec:
    from partwise.cli.targets import StoreSpec
    from partwise.errors import InvalidInput

    spec = StoreSpec(given["checkpoint"], given["checkpoint_dir"], given["store"])
    if given.get("no_resume") and spec.is_given:
        raise InvalidInput(
            "--no-resume excludes --checkpoint, --checkpoint-dir and --store", hint="Leave out one of them"
        )
    return spec


def _retry_config(given: dict[str, Any]) -> TransferConfig:
    from partwise.config import TransferConfig

    return TransferConfig(**{"give_up_after": _SHORT_PATIENCE, **retry_options.values(given)})


def run(arguments: list[str]) -> int:
    """
    Run one command and return its exit code.

    ``help`` and an empty command line show the help.
    """
    if VARIABLE in os.environ:
        from partwise.cli.completion import complete
        from partwise.cli.output import Output

        if complete(app, Output()):
            return 0
    if arguments[:1] in ([], ["help"]):
        arguments = [*arguments[1:], "--help"]
    return invoke(app, arguments)
