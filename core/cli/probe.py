"""``partwise probe``: find out what a storage can do, and which dialect fits."""

from __future__ import annotations

import sys
from shutil import get_terminal_size
from typing import Any

from attrs import asdict, define

from partwise.cli.formatting import columns, format_size, pluralize
from partwise.cli.output import Output
from partwise.cli.reporting import DONE, FAILED, ErrorReport
from partwise.cli.retries import Retries
from partwise.cli.signals import SignalReceived, Signals
from partwise.cli.style import Line, Styled
from partwise.cli.targets import BackendSpec
from partwise.cli.vendors import probing_module
from partwise.config import TransferConfig


@define
class _Interrupts:
    """Raises an exception for a signal, except while the probe is being removed."""

    defer: bool = False

    def handle(self, number: int) -> None:
        """Raise for a first signal; a second one ends the process at once."""
        if not self.defer:
            raise SignalReceived(number, "stopped")


def probe(target: BackendSpec, config: TransferConfig, output: Output, *, yes: bool) -> int:
    """
    Probe a storage, and print what was observed and which dialect fits.

    Raises:
        InvalidInput: storages with such a URL can't be probed, or the URL or a setting is invalid.
        SignalReceived: a signal stopped the probe. What it had made was removed.
        PartwiseError: the storage can't be reached, refuses what every upload needs, or keeps all objects for some
            time. What the probe had made was removed.
    """
    retries = Retries(config)
    module = probing_module(target.url)
    prober = module.open_prober(
        target.url, target.settings, retries.call, lambda what: output.note(f"probing {what} …")
    )
    interrupts, remaining = _Interrupts(), []
    try:
        if target.options.values:
            prober.bind(target.options.for_backend(prober.backend))
        with Signals(interrupts.handle):
            try:
                if not yes:
                    prober.check_lock()
                observed = prober.run()
                interrupts.defer = True
            finally:
                interrupts.defer = True
                remaining = prober.remove()
                _report_remaining(remaining, target, output)
    finally:
        prober.close()
    verdict = prober.judge(observed)
    if not output.json:
        output.say(*_lines(target.url, prober, observed))
        sent = f"{pluralize(prober.requests, 'request')}, {format_size(prober.bytes_sent)} sent"
        output.say("", sent if remaining else f"{sent}; everything was removed")
    output.record(
        {
            "ok": not remaining,
            "url": target.url,
            "endpoint": prober.backend.endpoint,
            "configured": prober.backend.dialect.name,
            **asdict(verdict),
            "observed": asdict(observed),
            "requests": prober.requests,
            "bytes_sent": prober.bytes_sent,
            "remaining": remaining,
        }
    )
    return FAILED if remaining else DONE


def _report_remaining(remaining: list[str], target: BackendSpec, output: Output) -> None:
    if remaining:
        output.error(
            ErrorReport(
                f"{pluralize(len(remaining), 'object')} of the probe at {target.url} could not be removed",
                "; ".join(remaining),
                hint="Delete them by another tool. They have a random name, and are of no use",
            )
        )


def _lines(url: str, prober: Any, observed: Any) -> list[Line]:
    """Describe what was found, for people."""
    backend, verdict = prober.backend, prober.judge(observed)
    name = verdict.dialect
    if not verdict.fits:
        headline = f"no dialect fits; the nearest is {name}"
    elif name == backend.dialect.name:
        headline = f"the dialect {name} fits, as configured"
    else:
        headline = f"use --dialect {name}"
    facts = [
        *([f"{name} does not fit", fact] for fact in verdict.mismatches),
        *(["verified", fact] for fact in verdict.verified),
        *(["not used", fact] for fact in verdict.unused),
    ]
    width = get_terminal_size().columns - 2 if sys.stdout.isatty() else None
    tables = (facts, [list(row) for row in prober.table(observed)])
    lines: list[Line] = [f"{url} at {backend.endpoint}:", ("  ", Styled(headline, "bold"))]
    for rows in tables:
        lines += ["", *(f"  {line}" for line in columns(rows, width=width))]
    return lines
