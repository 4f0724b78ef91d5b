"""Plot the figures of the benchmarks. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_UNITS = {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}
_NAMES = {
    "raw": "raw sockets, CRC-64 (lower bound)",
    "partwise": "partwise: CRC-64, signatures, checkpoint",
    "obstore": "obstore (Rust): no checksum",
    "oss2": "oss2: CRC-64",
}
_COLOURS = {"raw": "#888888", "partwise": "#d1495b", "obstore": "#3d7ea6", "oss2": "#5b8e55"}


def draw(results: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """
    Draw the results of the case `parts`.

    Args:
        results: by part size, such as "8 MiB", and peer.
        path: the file to write; its extension selects the format.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(7.2, 4.2))
    for peer, name in _NAMES.items():
        points = sorted(
            (_mebibytes(size), figures[peer]["cpu_per_gib"]) for size, figures in results.items() if peer in figures
        )
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name, color=_COLOURS[peer])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted((_mebibytes(size), size) for size in results)
    axes.set_xticks([at for at, _ in ticks], [size for _, size in ticks])
    seconds = [0.2, 0.5, 1, 2, 5, 10, 20, 50]
    axes.set_yticks(seconds, [f"{value:g}" for value in seconds])
    axes.minorticks_off()
    axes.set_xlabel("part size, 4 parts at once")
    axes.set_ylabel("processor time, seconds per GiB")
    axes.legend(frameon=False, fontsize=9)
    _tidy(axes)
    _save(figure, path)


def draw_lines(lines: dict[str, dict[str, list[tuple[float, float]]]], path: Path) -> None:
    """
    Draw the rate, and below it the parts in flight, over time, for each line.

    Args:
        lines: by its description: "line" (what it carries, in Mbit/s), "rate" (what arrives) and "in_flight", each as
            pairs of seconds and value.
        path: the file to write; its extension selects the format.
    """
    plt = _pyplot()
    figure, rows = plt.subplots(2, len(lines), sharex="col", squeeze=False, figsize=(1 + 3.4 * len(lines), 4.4))
    for (name, line), rate, parts in zip(lines.items(), *rows, strict=True):
        head, _, rest = name.partition(", ")
        rate.set_title(f"{head}\n{rest}", fontsize=9)
        rate.step(*zip(*line["line"], strict=True), where="post", color=_COLOURS["raw"], linestyle=":")
        rate.plot(*zip(*line["rate"], strict=True), color=_COLOURS["partwise"], linewidth=1)
        parts.step(*zip(*line["in_flight"], strict=True), where="post", color=_COLOURS["obstore"], linewidth=1)
        parts.set_xlabel("seconds")
        for axes in (rate, parts):
            axes.set_ylim(bottom=0)
            _tidy(axes)
    rows[0][0].set_ylabel("Mbit/s; dotted: the line")
    rows[1][0].set_ylabel("parts in flight")
    _save(figure, path)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "partwise"  # equal figures make equal files
    import matplotlib.pyplot as plt

    return plt


def _tidy(axes: Any) -> None:
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    _pyplot().close(figure)


def _mebibytes(size: str) -> float:
    number, unit = size.split()
    return int(number) * _UNITS[unit]
