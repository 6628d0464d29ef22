"""`python -m benchmarks.pictures`: measure along a line, and draw it into docs/reference/pictures.

Each picture is an SVG, with its figures beside it as JSON: `--redraw` draws them again without measuring.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import typer
from matplotlib import pyplot
from matplotlib.ticker import NullFormatter

from benchmarks import postgres
from benchmarks.curves import PICTURES, QUICK, Curves, Range
from benchmarks.report import machine

FOLDER = Path(__file__).parents[1] / "docs" / "reference" / "pictures"
TITLES = {
    "writers": ("appends of one event", "writers at once"),
    "processes": ("processes that write to one log, 64 tasks in each", "processes"),
    "loads": ("loading an aggregate", "events in its stream"),
    "rebuilds": ("rebuilding a read model of 10,000 keys", "events in the log"),
    "workers": ("handling events together, 8 partitions of 400 keys, handlers that compute", "workers"),
    "growth": ("appends of one event by 64 tasks, as the log grows", "events in the log"),
}
COLOURS = {"everlog, PostgreSQL": "#0b5fa5", "everlog, SQLite": "#2a9d8f", "UmaDB": "#7a7a7a",
           "eventsourcing, PostgreSQL": "#d1495b", "eventsourcing, SQLite": "#edae49"}  # fmt: skip

matplotlib.use("svg")
matplotlib.rcParams.update({
    "svg.hashsalt": "everlog", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd",
    "axes.axisbelow": True, "legend.frameon": False,
})  # fmt: skip


def draw(name: str, panels: dict[str, Curves], measured_on: str, folder: Path) -> None:
    title, along = TITLES[name]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(max(8.4, 4.2 * len(panels)), 3.8), squeeze=False)
    for axis, (unit, curves) in zip(axes[0], panels.items(), strict=True):
        for line, points in curves.items():
            what = line.removesuffix(", snapshot").removesuffix(", names in the order of time")
            dashed = "-" if what == line else "--"
            axis.plot(*zip(*points, strict=True), dashed, marker="o", markersize=3, color=COLOURS[what], label=line)
        _scale(axis, name, curves)
        axis.set_xlabel(along)
        axis.set_title(unit, fontsize=9, loc="left")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower left", ncols=3 if len(labels) > 4 else 2, bbox_to_anchor=(0.0, 0.04))
    figure.text(0.01, 0.01, measured_on, fontsize=6, color="#666666")
    figure.tight_layout(rect=(0, 0.16, 1, 0.97))
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, facecolor="white")
    pyplot.close(figure)


def _scale(axis: Any, name: str, curves: Curves) -> None:
    """Times and rates that differ by powers of ten are drawn by powers of ten; what should stay flat starts at 0."""
    ticks = sorted({at for points in curves.values() for at, _ in points})
    axis.set_xscale("log")
    axis.set_xticks(ticks, [_short(tick) for tick in ticks])
    axis.minorticks_off()
    if name in ("writers", "loads"):
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(lambda number, _: _short(number))
        axis.yaxis.set_minor_formatter(NullFormatter())
    else:
        axis.set_ylim(0, 1.1 * max(figure for points in curves.values() for _, figure in points))


def _short(number: float) -> str:
    for size, letter in ((1_000_000, " M"), (1000, " k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:g}"


def main(
    only: Annotated[str | None, typer.Option(help=f"Of {', '.join(PICTURES)}, with commas between.")] = None,
    quick: Annotated[bool, typer.Option(help="Few small points, to see that everything runs.")] = False,
    redraw: Annotated[bool, typer.Option(help="Draw the figures that are there.")] = False,
    rebuilt: Annotated[int, typer.Option(help="The largest log to rebuild from.")] = 5_000_000,
    grown: Annotated[int, typer.Option(help="The largest log to append to; ten million take an hour.")] = 1_000_000,
    into: Annotated[Path, typer.Option(help="Where to draw.")] = FOLDER,
    folder: Annotated[Path | None, typer.Option(help="Where to write: its disk is what is measured.")] = None,
) -> None:
    """Measure and draw; progress is on stderr."""
    names = only.split(",") if only else list(PICTURES)
    if unknown := [name for name in names if name not in PICTURES]:
        raise SystemExit(f"no picture is called {', '.join(unknown)}: choose from {', '.join(PICTURES)}")
    into.mkdir(parents=True, exist_ok=True)
    full = Range()
    how = QUICK if quick else full._replace(
        rebuilt=[size for size in full.rebuilt if size <= rebuilt], grown=[size for size in full.grown if size <= grown]
    )  # fmt: skip
    for name in names:
        figures = into / f"{name}.json"
        if not redraw:
            with postgres.serving(), tempfile.TemporaryDirectory(dir=folder, prefix="everlog-pictures-") as inputs:
                panels = PICTURES[name](Path(inputs), how)
            figures.write_text(json.dumps({"machine": machine(), "panels": panels}, indent=1))
        found = json.loads(figures.read_text())
        draw(name, found["panels"], found["machine"], into)


if __name__ == "__main__":
    typer.run(main)
