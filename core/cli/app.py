"""
The commands and their flags, for typer.

What a command does is in a module of its own, which is imported when the command is called. Flags stay text here, and
are read by `asking`, so that a slip of the keyboard is told in our words whatever the version of typer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import rich  # noqa: F401  # belongs to the same extra: without it the failure would come later, and in other words
import typer

from partwise.cli import common_options
from partwise.cli.completion import (
    ACLS,
    CALLBACK_TYPES,
    ENCRYPTIONS,
    METERS,
    ON_SOURCE_CHANGE,
    STORAGE_CLASSES,
    VERIFY_SOURCE,
    rejoin,
    words,
)
from partwise.cli.help_pages import WIDTH_MAX, Command, Group
from partwise.cli.runner import carry_out, invoke

if TYPE_CHECKING:
    from partwise.cli.output import Output


def _examples(*lines: str) -> str:
    return "\n".join(["Examples:", *(f"  {line}" for line in lines)])


app = typer.Typer(
    name="partwise",
    cls=Group,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH_MAX},
    epilog=_examples(
        "partwise demo",
        "partwise upload backup.tar oss://examplebucket/backup.tar",
        "partwise upload backup.tar file:///mnt/backups/backup.tar",
        "partwise status",
    ),
)

_EXIT_CODES = """

Exit codes:
  0    done
  1    failed for good: something has to change first
  2    wrong usage
  3    busy: another process has this upload
  75   failed for now: run the same line again to carry on
  130  stopped by Ctrl-C (143: by SIGTERM): the same line carries on"""

# --- upload ----------------------------------------------------------------------------------------------------------

_HOW = "How it is sent"
_RESUMING = "Carrying on"
_OBJECT = "What the object is like"
_CALLBACK = "Whom OSS tells once it is stored"


@app.command(
    cls=Command,
    short_help="Upload a file, or carry on with its upload.",
    epilog=_examples(
        "partwise upload backup.tar oss://examplebucket/backup.tar",
        "partwise upload backup.tar oss://examplebucket/2026/",
        "partwise upload --dry-run backup.tar oss://examplebucket/backup.tar",
        "partwise upload --bandwidth-limit 20MiB backup.tar oss://examplebucket/",
        "partwise upload --checkpoint-dir /var/lib/backups backup.tar oss://examplebucket/",
        "partwise upload --progress json backup.tar oss://examplebucket/ | jq .fraction",
        "pg_dump shop | partwise upload - oss://examplebucket/shop.sql --meta host=db1",
    )
    + _EXIT_CODES,
)
def upload(
    *,
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A file, or - for standard input. To resume that, pipe in the same bytes again. A producer that fails"
            " half way looks like one that ends: use set -o pipefail, or --expect-size.",
        ),
    ],
    url: common_options.ObjectURL,
    part_size: Annotated[
        str,
        typer.Option(
            metavar="SIZE", help="Default: auto, which is 8MiB, and more for very large files.", rich_help_panel=_HOW
        ),
    ] = "auto",
    multipart_threshold: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Send smaller files in one piece; default: 10MiB.", rich_help_panel=_HOW),
    ] = None,
    concurrency: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Number of parts uploaded in parallel, 1000 at most; default: 4.", rich_help_panel=_HOW
        ),
    ] = None,
    max_attempts: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Give up when a part fails so often in a row; default: 5.", rich_help_panel=_HOW
        ),
    ] = None,
    bandwidth_limit: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Send so many bytes a second at most, as in 20MiB.", rich_help_panel=_HOW),
    ] = None,
    expect_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Store nothing unless the source has this many bytes.", rich_help_panel=_HOW),
    ] = None,
    expect_crc64: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Store nothing unless the source has this CRC-64/XZ; decimal, or 0x and hexadecimal digits.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    no_resume: Annotated[
        bool,
        typer.Option("--no-resume", help="Ignore and write no checkpoint.", rich_help_panel=_RESUMING),
    ] = False,
    require_resume: Annotated[
        bool,
        typer.Option("--require-resume", help="Fail rather than start from nothing.", rich_help_panel=_RESUMING),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", "-n", help="Say what would be kept or sent, and why; do nothing.", rich_help_panel=_RESUMING
        ),
    ] = False,
    verify_source: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="metadata (default), or content: read what was sent before, and compare it.",
            autocompletion=words(VERIFY_SOURCE),
            rich_help_panel=_RESUMING,
        ),
    ] = None,
    on_source_change: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="restart (default), or keep-matching: read the file, keep the parts that are the same.",
            autocompletion=words(ON_SOURCE_CHANGE),
            rich_help_panel=_RESUMING,
        ),
    ] = None,
    checkpoint: common_options.Checkpoint = None,
    checkpoint_dir: common_options.CheckpointDir = None,
    store: common_options.Store = None,
    content_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Default: by the ending of the name.", rich_help_panel=_OBJECT)
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Metadata; may be given again.", rich_help_panel=_OBJECT),
    ] = None,
    acl: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="private, public-read, public-read-write or default.",
            autocompletion=words(ACLS),
            rich_help_panel=_OBJECT,
        ),
    ] = None,
    storage_class: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="Standard, IA, Archive, ColdArchive or DeepColdArchive.",
            autocompletion=words(STORAGE_CLASSES),
            rich_help_panel=_OBJECT,
        ),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A tag; may be given again.", rich_help_panel=_OBJECT)
    ] = None,
    cache_control: Annotated[
        str | None, typer.Option(metavar="VALUE", help="Cache-Control of the object.", rich_help_panel=_OBJECT)
    ] = None,
    content_disposition: Annotated[
        str | None, typer.Option(metavar="VALUE", help="Content-Disposition of the object.", rich_help_panel=_OBJECT)
    ] = None,
    content_encoding: Annotated[
        str | None, typer.Option(metavar="VALUE", help="Content-Encoding of the object.", rich_help_panel=_OBJECT)
    ] = None,
    forbid_overwrite: Annotated[
        bool, typer.Option("--forbid-overwrite", help="Fail if the object exists.", rich_help_panel=_OBJECT)
    ] = False,
    encryption: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="AES256, KMS or SM4.",
            autocompletion=words(ENCRYPTIONS),
            rich_help_panel=_OBJECT,
        ),
    ] = None,
    kms_key_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The key under KMS.", rich_help_panel=_OBJECT)
    ] = None,
    traffic_limit: Annotated[
        str | None,
        typer.Option(metavar="BITS", help="Bits a second that OSS grants each request.", rich_help_panel=_OBJECT),
    ] = None,
    callback_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Post to this application server.", rich_help_panel=_CALLBACK)
    ] = None,
    callback_host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Default: that of the URL.", rich_help_panel=_CALLBACK)
    ] = None,
    callback_body: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="What to post, as in 'object=${object}&size=${size}'.", rich_help_panel=_CALLBACK
        ),
    ] = None,
    callback_body_type: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="application/json, or application/x-www-form-urlencoded (default).",
            autocompletion=words(CALLBACK_TYPES),
            rich_help_panel=_CALLBACK,
        ),
    ] = None,
    callback_var: Annotated[
        list[str] | None,
        typer.Option(metavar="x:NAME=VALUE", help="A variable for it; may be given again.", rich_help_panel=_CALLBACK),
    ] = None,
    endpoint: common_options.Endpoint = None,
    region: common_options.Region = None,
    signature_version: common_options.SignatureVersion = None,
    addressing_style: common_options.AddressingStyle = None,
    ca_bundle: common_options.CaBundle = None,
    proxy: common_options.Proxy = None,
    timeout: common_options.Timeout = None,
    json: common_options.Json = False,
    progress: Annotated[
        str,
        typer.Option(
            metavar="FORM",
            help="auto (a bar on a terminal, lines elsewhere), lines, json (an object a line), or none.",
            autocompletion=words(METERS),
            rich_help_panel=common_options.WORDS,
        ),
    ] = "auto",
    progress_interval: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN",
            help="Between two lines or objects of progress, as in 10s.",
            rich_help_panel=common_options.WORDS,
        ),
    ] = None,
    quiet: common_options.Quiet = False,
    verbose: common_options.Verbose = False,
) -> int:
    """
    Upload a file, or carry on with its upload if an earlier run did not get to its end.

    If this is stopped or killed, or the network goes, run the same line again: what is on the storage already is not
    sent a second time.

    Sizes are written as in 8MiB, 8M (the same), 8MB (8,000,000 bytes) or 1.5GiB; spans of time as in 90s, 5m or 1h30m.
    The access key for OSS comes from OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN, or from
    ~/.ossutilconfig.
    """

    def work(output: Output) -> int:
        from partwise.cli import formatting, from_flags, parsing
        from partwise.cli import upload as command

        order = command.UploadOrder(
            file=file,
            target=from_flags.backend(
                url,
                endpoint=endpoint,
                region=region,
                signature_version=signature_version,
                addressing_style=addressing_style,
                ca_bundle=ca_bundle,
                proxy=proxy,
                timeout=timeout,
            ),
            store=from_flags.store(checkpoint, checkpoint_dir, store, no_resume=no_resume),
            config=from_flags.config(
                part_size=part_size,
                multipart_threshold=multipart_threshold,
                concurrency=concurrency,
                max_attempts=max_attempts,
                bandwidth_limit=bandwidth_limit,
                verify_source=verify_source,
                on_source_change=on_source_change,
            ),
            options=from_flags.options(
                callback=from_flags.callback(
                    url=callback_url,
                    host=callback_host,
                    body=callback_body,
                    body_type=callback_body_type,
                    variables=callback_var or (),
                ),
                meta=meta or (),
                tag=tag or (),
                content_type=content_type,
                acl=acl,
                storage_class=storage_class,
                forbid_overwrite=forbid_overwrite,
                encryption=encryption,
                kms_key_id=kms_key_id,
                cache_control=cache_control,
                content_disposition=content_disposition,
                content_encoding=content_encoding,
                traffic_limit=traffic_limit,
            ),
            resume=from_flags.resume(no_resume=no_resume, require_resume=require_resume),
            expected_size=None if expect_size is None else parsing.exact_size("--expect-size", expect_size),
            expected_crc64=None if expect_crc64 is None else parsing.crc64("--expect-crc64", expect_crc64),
            command=formatting.command_line(context.obj),
            meter=from_flags.meter(progress),
            interval=None if progress_interval is None else parsing.seconds("--progress-interval", progress_interval),
        )
        return command.explain(order, output) if dry_run else command.upload(order, output)

    return carry_out(
        work,
        json=json,
        quiet=quiet,
        verbose=verbose,
        subject=_subject(file, url),
        events=progress.strip().lower() == "json",
    )


# --- what was begun --------------------------------------------------------------------------------------------------


@app.command(
    cls=Command,
    short_help="List the unfinished uploads that are recorded here.",
    epilog=_examples(
        "partwise status",
        "partwise status --checkpoint-dir /var/lib/backups",
        "partwise status --json | jq -r 'select(.running | not) | .source'",
    ),
)
def status(
    *,
    checkpoint: common_options.Checkpoint = None,
    checkpoint_dir: common_options.CheckpointDir = None,
    store: common_options.Store = None,
    json: common_options.Json = False,
    quiet: common_options.Quiet = False,
    verbose: common_options.Verbose = False,
) -> int:
    """
    List the unfinished uploads that are recorded here: how far each is, how large, how old, whether it is running now
    or was stopped, and where it goes.

    With --json, one object a line.
    """

    def work(output: Output) -> int:
        from partwise.cli import from_flags
        from partwise.cli import status as command

        return command.status(from_flags.store(checkpoint, checkpoint_dir, store), output)

    return carry_out(work, json=json, quiet=quiet, verbose=verbose)


@app.command(
    cls=Command,
    short_help="Drop an unfinished upload and its checkpoint.",
    epilog=_examples(
        "partwise abort backup.tar oss://examplebucket/backup.tar",
        "partwise abort - oss://examplebucket/shop.sql",
        "partwise abort --checkpoint-dir /var/lib/backups backup.tar oss://examplebucket/backup.tar",
    ),
)
def abort(
    *,
    file: Annotated[str, typer.Argument(metavar="FILE", help="As it was uploaded; it need not exist any more.")],
    url: common_options.ObjectURL,
    checkpoint: common_options.Checkpoint = None,
    checkpoint_dir: common_options.CheckpointDir = None,
    store: common_options.Store = None,
    endpoint: common_options.Endpoint = None,
    region: common_options.Region = None,
    signature_version: common_options.SignatureVersion = None,
    addressing_style: common_options.AddressingStyle = None,
    ca_bundle: common_options.CaBundle = None,
    proxy: common_options.Proxy = None,
    timeout: common_options.Timeout = None,
    max_attempts: common_options.MaxAttempts = None,
    json: common_options.Json = False,
    quiet: common_options.Quiet = False,
    verbose: common_options.Verbose = False,
) -> int:
    """
    Drop an unfinished upload: its parts on the storage, then its checkpoint.

    An object that stands under the key is not touched. It is not an error if there is no such upload.
    """

    def work(output: Output) -> int:
        from partwise.cli import abort as command
        from partwise.cli import from_flags

        target = from_flags.backend(
            url,
            endpoint=endpoint,
            region=region,
            signature_version=signature_version,
            addressing_style=addressing_style,
            ca_bundle=ca_bundle,
            proxy=proxy,
            timeout=timeout,
        )
        choice = from_flags.store(checkpoint, checkpoint_dir, store)
        return command.abort(file, target, choice, from_flags.retrying(max_attempts), output)

    return carry_out(work, json=json, quiet=quiet, verbose=verbose, subject=_subject(file, url))


@app.command(
    cls=Command,
    short_help="List the pending uploads that the storage holds.",
    epilog=_examples(
        "partwise uploads oss://examplebucket",
        "partwise uploads oss://examplebucket/backups/",
        "partwise uploads --json oss://examplebucket | jq -r .upload_id",
    ),
)
def uploads(
    *,
    url: common_options.BucketURL,
    endpoint: common_options.Endpoint = None,
    region: common_options.Region = None,
    signature_version: common_options.SignatureVersion = None,
    addressing_style: common_options.AddressingStyle = None,
    ca_bundle: common_options.CaBundle = None,
    proxy: common_options.Proxy = None,
    timeout: common_options.Timeout = None,
    max_attempts: common_options.MaxAttempts = None,
    json: common_options.Json = False,
    quiet: common_options.Quiet = False,
    verbose: common_options.Verbose = False,
) -> int:
    """
    List the pending multipart uploads that the storage holds, whoever began them.

    With --json, one object a line.
    """

    def work(output: Output) -> int:
        from partwise.cli import from_flags
        from partwise.cli import gc as command

        target = from_flags.backend(
            url,
            endpoint=endpoint,
            region=region,
            signature_version=signature_version,
            addressing_style=addressing_style,
            ca_bundle=ca_bundle,
            proxy=proxy,
            timeout=timeout,
        )
        return command.uploads(target, from_flags.retrying(max_attempts), output)

    return carry_out(work, json=json, quiet=quiet, verbose=verbose)


@app.command(
    cls=Command,
    short_help="Drop pending uploads that nobody owns.",
    epilog=_examples(
        "partwise gc --dry-run oss://examplebucket",
        "partwise gc --older-than 30d oss://examplebucket",
        "partwise gc --checkpoint-dir /var/lib/backups oss://examplebucket/backups/",
    ),
)
def gc(
    *,
    url: common_options.BucketURL,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="SPAN", help="Keep younger ones, as in 12h; default: 7d.")
    ] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only list what would be dropped.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Drop without asking, on a terminal too.")] = False,
    checkpoint: common_options.Checkpoint = None,
    checkpoint_dir: common_options.CheckpointDir = None,
    store: common_options.Store = None,
    endpoint: common_options.Endpoint = None,
    region: common_options.Region = None,
    signature_version: common_options.SignatureVersion = None,
    addressing_style: common_options.AddressingStyle = None,
    ca_bundle: common_options.CaBundle = None,
    proxy: common_options.Proxy = None,
    timeout: common_options.Timeout = None,
    max_attempts: common_options.MaxAttempts = None,
    json: common_options.Json = False,
    quiet: common_options.Quiet = False,
    verbose: common_options.Verbose = False,
) -> int:
    """
    Drop orphans: pending uploads that are old and that no checkpoint here owns.

    On a terminal it lists them and asks first. Elsewhere, as in a script or from cron, it does not ask.

    Checkpoints on other machines, or in other places than the one named, are not known here: their uploads are kept
    only if they are young enough. An upload that is running here is never dropped.
    """

    def work(output: Output) -> int:
        from partwise.cli import from_flags, parsing
        from partwise.cli import gc as command

        target = from_flags.backend(
            url,
            endpoint=endpoint,
            region=region,
            signature_version=signature_version,
            addressing_style=addressing_style,
            ca_bundle=ca_bundle,
            proxy=proxy,
            timeout=timeout,
        )
        wanted = command.Collection(
            target=target,
            store=from_flags.store(checkpoint, checkpoint_dir, store),
            older_than=parsing.age("--older-than", older_than),
            config=from_flags.retrying(max_attempts),
            dry_run=dry_run,
            yes=yes,
        )
        return command.collect(wanted, output)

    return carry_out(work, json=json, quiet=quiet, verbose=verbose)


# --- to try it out ---------------------------------------------------------------------------------------------------


@app.command(
    cls=Command,
    short_help="Run an OSS-protocol server on loopback, for tests.",
    epilog=_examples(
        "partwise serve ~/buckets",
        "partwise serve --port 9000 ~/buckets",
        "partwise serve --json ~/buckets | head -1 | jq -r .endpoint",
    ),
)
def serve(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Each folder in it is a bucket.")],
    *,
    port: Annotated[str, typer.Option(metavar="N", help="Default: 0, which takes a free one.")] = "0",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A host that requests may name besides localhost; may be repeated."),
    ] = None,
    json: common_options.Json = False,
    quiet: common_options.Quiet = False,
    verbose: common_options.Verbose = False,
) -> int:
    """
    Run a server on loopback that clients of Alibaba Cloud OSS take for OSS, for tests in any language.

    With --json it prints one object: endpoint, access_key_id, access_key_secret, region. Ctrl-C and SIGTERM end it.

    The access key is made for this run. To bring your own, set PARTWISE_SERVE_ACCESS_KEY_ID and
    PARTWISE_SERVE_ACCESS_KEY_SECRET; no flag takes it, since other users can read command lines.
    """

    def work(output: Output) -> int:
        from partwise.cli import parsing
        from partwise.cli import serve as command

        return command.serve(directory, parsing.whole("--port", port, 0, 65535), allow_host or [], output)

    return carry_out(work, json=json, quiet=quiet, verbose=verbose)


@app.command(
    cls=Command,
    short_help="See an upload killed half way and carried on.",
    epilog=_examples("partwise demo", "partwise demo --size 1GiB", "partwise demo backup.tar"),
)
def demo(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="What to upload; random bytes if nothing is said.")
    ] = None,
    size: Annotated[str, typer.Option(metavar="SIZE", help="How many random bytes; default: 256MiB.")] = "256MiB",
    verbose: common_options.Verbose = False,
) -> int:
    """
    See it happen: an upload over HTTP is killed half way, carried on by the same line, and compared byte for byte.

    The server runs on loopback, and all is in a temporary folder that is removed.
    """

    def work(output: Output) -> int:
        from partwise.cli import demo as command
        from partwise.cli import parsing

        return command.demo(file, parsing.size("--size", size), output)

    return carry_out(work, json=False, quiet=False, verbose=verbose)


# --- the whole -------------------------------------------------------------------------------------------------------


def _subject(file: str, url: str) -> str:
    """What an upload is called in messages."""
    return f"{'standard input' if file == '-' else file} to {url}"


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        from partwise.cli.output import Output

        try:
            Output().say(f"partwise {version('partwise')}")
        except PackageNotFoundError:
            Output().say("partwise, of an unknown version: the metadata of the package is missing")
        raise typer.Exit


@app.callback()
def partwise(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Resumable multipart uploads: if one is stopped, killed or cut off, the same line run again carries on."""


def run(arguments: list[str]) -> int:
    """Run one command, and return its exit code. No command at all, and ``help``, ask for help."""
    rejoin()
    if arguments[:1] in ([], ["help"]):
        arguments = [*arguments[1:], "--help"]
    return invoke(typer.main.get_command(app), arguments)
