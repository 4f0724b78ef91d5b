"""The flags that several commands have, each told once."""

from __future__ import annotations

from typing import Annotated

import typer

#: Headings of the help pages.
RECORD = "Where progress is recorded"
WAY = "The way to OSS"
WORDS = "What is printed"

Checkpoint = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE",
        help="In this file, for one upload; default: your state directory.",
        rich_help_panel=RECORD,
    ),
]
CheckpointDir = Annotated[
    str | None,
    typer.Option("--checkpoint-dir", metavar="DIR", help="In this directory.", rich_help_panel=RECORD),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="In the store of this URL, such as sqlite:///uploads.db.", rich_help_panel=RECORD
    ),
]
Endpoint = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="HOST",
        help="The region's host or a custom domain; default: OSS_ENDPOINT, or ~/.ossutilconfig.",
        rich_help_panel=WAY,
    ),
]
Region = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="ID",
        help="Such as cn-hangzhou; default: OSS_REGION, ~/.ossutilconfig, or the endpoint's.",
        rich_help_panel=WAY,
    ),
]
SignatureVersion = Annotated[
    str | None,
    typer.Option(
        "--signature-version",
        metavar="v4|v1",
        help="How requests are signed; default: v4.",
        autocompletion=lambda: ["v4", "v1"],
        rich_help_panel=WAY,
    ),
]
AddressingStyle = Annotated[
    str | None,
    typer.Option(
        "--addressing-style",
        metavar="virtual|path|cname",
        help="Where the bucket's name goes; default: virtual; cname for a custom domain.",
        autocompletion=lambda: ["virtual", "path", "cname"],
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
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help="End an attempt when nothing has moved for so long; default: 60.",
        rich_help_panel=WAY,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="JSON on standard output; words go to standard error.", rich_help_panel=WORDS)
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Nothing but errors.", rich_help_panel=WORDS)]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Also what the library logs, and tracebacks.", rich_help_panel=WORDS)
]

ObjectURL = Annotated[str, typer.Argument(metavar="URL", help="oss://bucket/key, or file:///directory/key.")]
BucketURL = Annotated[
    str, typer.Argument(metavar="URL", help="oss://bucket, or oss://bucket/prefix for some keys; file:///directory/.")
]
