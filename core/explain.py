"""What an upload would do: the values that `Uploader.plan` returns."""

from __future__ import annotations

from typing import Literal

from attrs import define

from partwise._engine.plan import LONG_LINE_SECONDS, PartPlan, is_single_put, plan_parts
from partwise._engine.reconcile import AlreadyStored, Ambiguous, CompareWhileReading, Decision, Resume
from partwise._units import format_bytes
from partwise.config import TransferConfig
from partwise.model import PartLimits

__all__ = ["Explanation", "PlannedPart"]


@define(frozen=True)
class PlannedPart:
    """
    What an upload would do with one part.

    Args:
        part_number: from 1.
        offset: its first byte in the source, from 0.
        size: its size in bytes.
        action: "keep" (it is in the checkpoint), "adopt" (the storage has it, the checkpoint does not) or "send".
        why: the reason, for people.
    """

    part_number: int
    offset: int
    size: int
    action: Literal["keep", "adopt", "send"]
    why: str


@define(frozen=True)
class Explanation:
    """
    What an upload would do, and why.

    Args:
        action: "put" (in one request), "start", "resume", "done" (the object is stored already) or "unknown" (the
            storage does not show whether an earlier run has completed it).
        reason: why, for people; may be empty.
        parts: part by part; empty for a stream, whose parts are known only after reading it. If `part_size` is "auto",
            a new upload to a storage that responds slowly has smaller parts; `reason` says so.
    """

    action: Literal["put", "start", "resume", "done", "unknown"]
    reason: str
    parts: tuple[PlannedPart, ...]


def explain(decision: Decision, plan: PartPlan, *, limits: PartLimits, config: TransferConfig) -> Explanation:
    """
    Describe a decision of the engine.

    Args:
        decision: what the upload would do.
        plan: the parts of a new upload, which differ from those of a resumed one if another part size is configured.
        limits: those of the backend.
        config: that of the uploader.
    """
    match decision:
        case AlreadyStored():
            return Explanation("done", "an earlier run completed it, but the response was lost", ())
        case Ambiguous():
            reason = "an object of this size exists, and nothing shows whether an earlier run has written it"
            return Explanation("unknown", reason, ())
        case CompareWhileReading(plan=resumed, candidates=candidates):
            reason = f"up to {len(candidates)} parts are not sent again if the stream has the same bytes"
            return Explanation("resume", "; ".join(filter(None, (reason, _kept_part_size(resumed, config)))), ())
        case Resume(plan=resumed, parts=decisions):
            parts = [(resumed.part(decided.part_number), decided) for decided in decisions]
            return Explanation(
                "resume",
                _kept_part_size(resumed, config),
                tuple(PlannedPart(p.part_number, p.offset, p.size, d.action, d.why) for p, d in parts),
            )
        case start:
            if plan.size is not None and is_single_put(plan.size, limits, config.multipart_threshold):
                return Explanation("put", start.reason, ())
            planned = [plan.part(number) for number in range(1, (plan.parts_total or 0) + 1)]
            return Explanation(
                "start",
                "; ".join(filter(None, (start.reason, _part_size_on_a_long_line(plan, limits, config)))),
                tuple(PlannedPart(p.part_number, p.offset, p.size, "send", "it was not sent yet") for p in planned),
            )


def _kept_part_size(resumed: PartPlan, config: TransferConfig) -> str:
    """Return a note if a resumed upload keeps a part size that differs, else ""."""
    wanted = config.part_size
    if not isinstance(wanted, int) or wanted == resumed.part_size:
        return ""
    kept = format_bytes(resumed.part_size)
    return f"the part size of the upload, {kept}, is kept instead of {format_bytes(wanted)}"


def _part_size_on_a_long_line(plan: PartPlan, limits: PartLimits, config: TransferConfig) -> str:
    """
    Return a note if a new upload would have smaller parts on a long line, or "".

    Whether the line is long is not known before.
    """
    if config.part_size != "auto" or plan.size is None:
        return ""
    far = plan_parts(plan.size, limits, latency=LONG_LINE_SECONDS)
    if far.parts_total == plan.parts_total:
        return ""
    return (
        f"part size auto: parts of {format_bytes(far.part_size)} on a long line, where a request takes"
        f" {LONG_LINE_SECONDS * 1000:.0f} ms or more"
    )
