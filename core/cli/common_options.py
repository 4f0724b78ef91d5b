"""The arguments and options that several commands have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from partwise.cli.completion import Paths
from partwise.cli.help_pages import OptionGroup, argument
from partwise.cli.param_types import Value
from partwise.cli.vendors import connection_flags, connection_values, suggestions

OUTPUT = "Output"
CONNECTION = "Connection"

object_url = argument(
    "url",
    "URL",
    "oss://bucket/key, s3://bucket/key, or file:///directory/key. If it ends with a slash, the file's name is added.",
    type=Value("url"),
)
bucket_url = argument(
    "url",
    "URL",
    "oss://bucket or s3://bucket, with /prefix to select keys; or file:///directory/.",
    type=Value("url"),
)

checkpoint_options = (
    OptionGroup("Checkpoint")
    .option("--checkpoint FILE", Paths("file"), "Use this checkpoint file, for one upload.")
    .option("--checkpoint-dir DIR", Paths("dir"), "Use this directory of checkpoints; default: your state directory.")
    .option("--store URL", Value("store_url"), "Use a checkpoint store, such as sqlite:///uploads.db.")
)

_connection_options = (
    OptionGroup(CONNECTION)
    .option(
        "--endpoint HOST",
        str,
        "Host or URL of the region, a service, or a custom domain; default: OSS_ENDPOINT; for S3 AWS_ENDPOINT_URL_S3;"
        " or that of the profile.",
    )
    .option(
        "--region ID",
        str,
        "Such as cn-hangzhou or eu-west-1; default: OSS_REGION; for S3 AWS_REGION; or that of the profile or endpoint.",
    )
    .option(
        "--profile NAME",
        str,
        "Profile with settings and credentials: in ~/.ossutilconfig; for S3 in ~/.aws, default: AWS_PROFILE.",
    )
    .option(
        "--addressing-style STYLE",
        suggestions("addressing_style"),
        "How requests name the bucket: virtual (default) or path; OSS: cname for a custom domain; S3: auto (default).",
    )
    .option(
        "--ca-bundle PATH",
        Paths("file"),
        "Certificate authorities to trust; default: the system's; for S3 AWS_CA_BUNDLE.",
    )
    .option(
        "--proxy URL",
        str,
        "HTTP proxy, http://[user:password@]host:port; '' for none; default: https_proxy, http_proxy, all_proxy.",
    )
    .option(
        "--timeout DURATION",
        Value("positive_duration"),
        "Time without any data sent or received after which an attempt fails; default: 60s.",
    )
)


#: The options of every request that several storages have.
request_options = OptionGroup(CONNECTION).option(
    "--request-payer WHO",
    suggestions("request_payer", ("requester",)),
    "requester, if the requester pays for the requests.",
)


def connection_options(function: Any) -> Any:
    """Declare the flags for connections and requests: a decorator of a command."""
    return _connection_options(request_options(connection_flags(function)))


def connection_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the connection settings that were given, by name."""
    return _connection_options.values(given) | connection_values(given)


retry_options = (
    OptionGroup(CONNECTION)
    .option(
        "--give-up-after DURATION",
        Value("patience"),
        "Time without any success before giving up; 0: at the first failure; default: 1m.",
    )
    .option(
        "--max-attempts N",
        Value("positive_integer"),
        "Consecutive failures of a request before giving up; default: no limit.",
    )
)

json_option = OptionGroup(OUTPUT).flag("--json", "Write JSON to standard output, and text to standard error.")
quiet_option = OptionGroup(OUTPUT).flag("-q --quiet", "Print only errors.")
verbose_option = OptionGroup(OUTPUT).flag("-v --verbose", "Print the library's log, and tracebacks.")
