"""What the flags amount to: choices, configuration, options. Flags that were not given are None, or empty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from partwise._engine.context import ResumeMode
from partwise.cli import parsing
from partwise.cli.completion import METERS, ON_SOURCE_CHANGE, VERIFY_SOURCE
from partwise.cli.progress_display import Kind
from partwise.cli.targets import BackendChoice, StoreChoice
from partwise.config import CONCURRENCY_MAX, TransferConfig
from partwise.errors import InvalidInput
from partwise.model import Callback, ObjectOptions

_MOST = {"concurrency": CONCURRENCY_MAX}


def backend(url: str, *, timeout: str | None, **settings: str | None) -> BackendChoice:
    """Where to, and by what way."""
    return BackendChoice(url, {**settings, "timeout": _if_given(parsing.seconds, "--timeout", timeout)})


def store(
    checkpoint: str | None, checkpoint_dir: str | None, url: str | None, *, no_resume: bool = False
) -> StoreChoice:
    """
    Where progress is recorded.

    Raises:
        InvalidInput: two places are named, or one though nothing is to be recorded.
    """
    choice = StoreChoice(checkpoint, checkpoint_dir, url)
    if no_resume and choice.is_given:
        raise InvalidInput("--no-resume records nothing, so a place to record it makes no sense: leave out one of them")
    return choice


def config(
    *,
    part_size: str,
    multipart_threshold: str | None,
    bandwidth_limit: str | None,
    verify_source: str | None,
    on_source_change: str | None,
    **counts: str | None,
) -> TransferConfig:
    """
    How to transfer; what was not given is as in programs.

    Raises:
        InvalidInput: a value is impossible; the message names the flag.
    """
    given: dict[str, Any] = {
        "part_size": parsing.size_or_auto("--part-size", part_size),
        "multipart_threshold": _if_given(parsing.size, "--multipart-threshold", multipart_threshold),
        "bandwidth_limit": _if_given(parsing.rate, "--bandwidth-limit", bandwidth_limit),
        "verify_source": _choice("--verify-source", verify_source, VERIFY_SOURCE),
        "on_source_change": _choice("--on-source-change", on_source_change, ON_SOURCE_CHANGE),
        **{name: _whole(name, text, 1, _MOST.get(name)) for name, text in counts.items()},
    }
    return TransferConfig(**{name: value for name, value in given.items() if value is not None})


def retrying(max_attempts: str | None) -> TransferConfig:
    """
    How often a request to the storage is made, for commands that make nothing but requests.

    Raises:
        InvalidInput: it is not a number; the message names the flag.
    """
    attempts = _whole("max_attempts", max_attempts, 1)
    return TransferConfig() if attempts is None else TransferConfig(max_attempts=attempts)


def options(
    *,
    callback: Callback | None,
    meta: Iterable[str],
    tag: Iterable[str],
    traffic_limit: str | None,
    forbid_overwrite: bool,
    **others: str | None,
) -> ObjectOptions:
    """
    What the object shall be like.

    Raises:
        InvalidInput: metadata or tags are not of the form NAME=VALUE, or a number is none.
    """
    given: dict[str, Any] = {name: value for name, value in others.items() if value is not None}
    if traffic_limit is not None:
        given["traffic_limit"] = _whole("traffic_limit", traffic_limit, 1)
    return ObjectOptions(
        metadata=parsing.pairs("--meta", meta),
        tags=parsing.pairs("--tag", tag),
        callback=callback,
        forbid_overwrite=forbid_overwrite,
        **given,
    )


def callback(
    *, url: str | None, host: str | None, body: str | None, body_type: str | None, variables: Iterable[str]
) -> Callback | None:
    """
    Whom OSS is to tell; None if nobody.

    Raises:
        InvalidInput: one of the flags was given without those that it needs.
    """
    named = parsing.pairs("--callback-var", variables)
    if url is None and host is None and body is None and body_type is None and not named:
        return None
    if url is None or body is None:
        raise InvalidInput("a callback needs both --callback-url and --callback-body")
    return Callback(url, body, host, body_type, named)


def meter(text: str) -> Kind:
    """
    How progress is shown.

    Raises:
        InvalidInput: there is no such form.
    """
    return cast(Kind, parsing.one_of("--progress", text, METERS))


def resume(*, no_resume: bool, require_resume: bool) -> ResumeMode:
    """
    What to do about an earlier run.

    Raises:
        InvalidInput: two things at once.
    """
    parsing.at_most_one(no_resume=no_resume, require_resume=require_resume)
    return "never" if no_resume else "require" if require_resume else "auto"


def _whole(name: str, text: str | None, least: int, most: int | None = None) -> int | None:
    return None if text is None else parsing.whole(f"--{name.replace('_', '-')}", text, least, most)


def _choice(flag: str, text: str | None, choices: Sequence[str]) -> str | None:
    return None if text is None else parsing.one_of(flag, text, choices)


def _if_given(read: Any, flag: str, text: str | None) -> Any:
    return None if text is None else read(flag, text)
