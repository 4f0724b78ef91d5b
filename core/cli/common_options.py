"""The flags that several commands have, each told once."""

from __future__ import annotations

from typing import Annotated

import typer

from partwise.cli.completion import ADDRESSING_STYLES, SIGNATURES, words

#: Headings of the help pages.
RECORD = "Where progress is recorded"
WAY = "The way to OSS"
WORDS = "What is printed"

Checkpoint = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE",
        help="In this file, which is for one upload.",
        rich_help_panel=RECORD,
    ),
]
CheckpointDir = Annotated[
    str | None,
    typer.Option(
        "--checkpoint-dir",
        metavar="DIR",
        help="In this directory; default: your state directory.",
        rich_help_panel=RECORD,
    ),
]
Store = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="In a store, such as sqlite:///uploads.db.", rich_help_panel=RECORD),
]
Endpoint = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="HOST",
        help="Host of the region, or a custom domain; else OSS_ENDPOINT, or ~/.ossutilconfig.",
        rich_help_panel=WAY,
    ),
]
Region = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="ID",
        help="Such as cn-hangzhou; else OSS_REGION, ~/.ossutilconfig, or the endpoint's.",
        rich_help_panel=WAY,
    ),
]
SignatureVersion = Annotated[
    str | None,
    typer.Option(
        "--signature-version",
        metavar="VERSION",
        help="How requests are signed: v4 (default) or v1.",
        autocompletion=words(SIGNATURES),
        rich_help_panel=WAY,
    ),
]
AddressingStyle = Annotated[
    str | None,
    typer.Option(
        "--addressing-style",
        metavar="STYLE",
        help="Where the bucket's name goes: virtual (default), path, or cname for a custom domain.",
        autocompletion=words(ADDRESSING_STYLES),
        rich_help_panel=WAY,
    ),
]
CaBundle = Annotated[
    str | None,
    typer.Option(
        "--ca-bundle",
        metavar="PATH",
        help="Certificate authorities to trust; default: the system's.",
        rich_help_panel=WAY,
    ),
]
Proxy = Annotated[
    str | None,
    typer.Option(
        "--proxy",
        metavar="URL",
        help="HTTP proxy, http://[user:password@]host:port; else https_proxy, http_proxy, all_proxy; '' for none.",
        rich_help_panel=WAY,
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="SPAN",
        help="Give up an attempt when nothing has moved for so long; default: 60s.",
        rich_help_panel=WAY,
    ),
]
MaxAttempts = Annotated[
    str | None,
    typer.Option(
        "--max-attempts",
        metavar="N",
        help="Consecutive failures of a request before giving up; default: 5.",
        rich_help_panel=WAY,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="JSON on standard output; words go to standard error.", rich_help_panel=WORDS)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but errors.", rich_help_panel=WORDS)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also what the library logs, and tracebacks.", rich_help_panel=WORDS)
]

ObjectURL = Annotated[
    str,
    typer.Argument(
        metavar="URL", help="oss://bucket/key, or file:///directory/key. After a slash at its end goes the file's name."
    ),
]
BucketURL = Annotated[
    str, typer.Argument(metavar="URL", help="oss://bucket, or oss://bucket/prefix for some keys; file:///directory/.")
]
