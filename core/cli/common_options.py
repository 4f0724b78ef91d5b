"""The arguments and options that several commands have."""

from __future__ import annotations

from partwise.cli.completion import ADDRESSING_STYLES, SIGNATURES, Suggestions
from partwise.cli.help_pages import OptionGroup, argument
from partwise.cli.param_types import Value

OUTPUT = "Output"
CONNECTION = "OSS connection"

object_url = argument(
    "url",
    "URL",
    "oss://bucket/key, or file:///directory/key. If it ends with a slash, the file's name is added.",
    type=Value("url"),
)
bucket_url = argument(
    "url", "URL", "oss://bucket, or oss://bucket/prefix to select keys; file:///directory/.", type=Value("url")
)

checkpoint_options = (
    OptionGroup("Checkpoint")
    .option("checkpoint", "--checkpoint", metavar="FILE", help="Use this checkpoint file, for one upload.")
    .option(
        "checkpoint_dir",
        "--checkpoint-dir",
        metavar="DIR",
        help="Use this directory of checkpoints; default: your state directory.",
    )
    .option(
        "store",
        "--store",
        metavar="URL",
        type=Value("store_url"),
        help="Use a checkpoint store, such as sqlite:///uploads.db.",
    )
)

connection_options = (
    OptionGroup(CONNECTION)
    .option(
        "endpoint",
        "--endpoint",
        metavar="HOST",
        help="Host of the region, or a custom domain; default: OSS_ENDPOINT, or ~/.ossutilconfig.",
    )
    .option(
        "region",
        "--region",
        metavar="ID",
        help="Such as cn-hangzhou; default: OSS_REGION, ~/.ossutilconfig, or the endpoint's.",
    )
    .option(
        "signature_version",
        "--signature-version",
        metavar="VERSION",
        type=Suggestions(SIGNATURES),
        help="How requests are signed: v4 (default) or v1.",
    )
    .option(
        "addressing_style",
        "--addressing-style",
        metavar="STYLE",
        type=Suggestions(ADDRESSING_STYLES),
        help="How URLs name the bucket: virtual (default), path, or cname for a custom domain.",
    )
    .option(
        "ca_bundle",
        "--ca-bundle",
        metavar="PATH",
        help="Certificate authorities to trust; default: the system's.",
    )
    .option(
        "proxy",
        "--proxy",
        metavar="URL",
        help="HTTP proxy, http://[user:password@]host:port; '' for none; default: https_proxy, http_proxy, all_proxy.",
    )
    .option(
        "timeout",
        "--timeout",
        metavar="DURATION",
        type=Value("positive_duration"),
        help="Time without any data sent or received after which an attempt fails; default: 60s.",
    )
)

max_attempts_option = OptionGroup(CONNECTION).option(
    "max_attempts",
    "--max-attempts",
    metavar="N",
    type=Value("positive_integer"),
    help="Consecutive failures of a request before giving up; default: 5.",
)

json_option = OptionGroup(OUTPUT).option(
    "json", "--json", is_flag=True, help="Write JSON to standard output, and text to standard error."
)
quiet_option = OptionGroup(OUTPUT).option("quiet", "-q", "--quiet", is_flag=True, help="Print only errors.")
verbose_option = OptionGroup(OUTPUT).option(
    "verbose", "-v", "--verbose", is_flag=True, help="Print the library's log, and tracebacks."
)
