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
    .option("--checkpoint FILE", str, "Use this checkpoint file, for one upload.")
    .option("--checkpoint-dir DIR", str, "Use this directory of checkpoints; default: your state directory.")
    .option("--store URL", Value("store_url"), "Use a checkpoint store, such as sqlite:///uploads.db.")
)

connection_options = (
    OptionGroup(CONNECTION)
    .option(
        "--endpoint HOST", str, "Host of the region, or a custom domain; default: OSS_ENDPOINT, or ~/.ossutilconfig."
    )
    .option("--region ID", str, "Such as cn-hangzhou; default: OSS_REGION, ~/.ossutilconfig, or the endpoint's.")
    .option("--signature-version VERSION", Suggestions(SIGNATURES), "How requests are signed: v4 (default) or v1.")
    .option(
        "--addressing-style STYLE",
        Suggestions(ADDRESSING_STYLES),
        "How URLs name the bucket: virtual (default), path, or cname for a custom domain.",
    )
    .option("--ca-bundle PATH", str, "Certificate authorities to trust; default: the system's.")
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
