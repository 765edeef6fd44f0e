"""Draws what `cargo xtask bench` has measured: how far each contender is ahead of the peer, and where the goals are."""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

# The same samples give the same file.
matplotlib.rcParams["svg.hashsalt"] = "bench"
# Text stays text: small, and to be searched.
matplotlib.rcParams["svg.fonttype"] = "none"

PEER = "pyo3-async-runtimes"
LABELS = {"native": "PyO3's experimental-async", "python": "pure Python", "floor": "floor (no Python)"}
COLOURS = {"native": "#b07aa1", "python": "#bab0ac", "floor": "#d7d2cf"}
OURS = ["#1f4e79", "#2e75b6", "#5b9bd5", "#9dc3e6"]


def main(samples, path):
    with open(samples) as file:
        runs = json.load(file)
    drawings = []
    for run in runs:
        rows = bars_of(run)
        if rows:
            drawings.append((0.6 + 0.19 * len(rows), lambda axes, run=run, rows=rows: draw_bars(axes, run, rows)))
        if any("size" in record for record in run["records"]):
            drawings.append((3.6, lambda axes, run=run: draw_sizes(axes, run)))
    if not drawings:
        sys.exit("nothing to draw: no workload has been measured for the peer, and none at several sizes")
    heights = [height for height, _ in drawings]
    size = (9, sum(heights) + 0.4 * len(heights))
    figure, grid = plt.subplots(
        len(drawings), 1, figsize=size, height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axes, (_, draw) in zip(grid[:, 0], drawings):
        draw(axes)
    if not path.endswith(".svg"):
        figure.savefig(path, dpi=110)
        return
    # Without the date, which would make each file another.
    figure.savefig(path, metadata={"Date": None})
    # matplotlib leaves blanks at the ends of lines, which a repository does not want.
    written = Path(path)
    written.write_text("".join(line.rstrip() + "\n" for line in written.read_text().splitlines()))


def times(better, worse, unit):
    """How many times `better` is ahead of `worse`, turn by turn."""
    pairs = zip(better["samples"], worse["samples"])
    if len(better["samples"]) != len(worse["samples"]):
        pairs = [(statistics.median(better["samples"]), statistics.median(worse["samples"]))]
    return statistics.median(own / other if unit == "/s" else other / own for own, other in pairs)


def bars_of(run):
    """A row for each contender of each workload that the peer takes part in: workload, contender, times."""
    workloads = defaultdict(dict)
    for record in run["records"]:
        if "size" not in record:
            workloads[record["workload"]][record["candidate"]] = record
    return [
        (workload, name, times(record, records["peer"], record["unit"]))
        for workload, records in workloads.items()
        if "peer" in records
        for name, record in records.items()
        if name != "peer"
    ]


def draw_bars(axes, run, rows):
    """Bars that start at the peer: to the right is faster or smaller than it is, to the left is worse."""
    goals = {
        (goal["workload"], goal["candidate"]): 1 / goal["bar"] for goal in run["goals"] if goal["of"] == "peer"
    }
    ours = defaultdict(list)
    ticks, place, last = [], 0.0, None
    for workload, name, ratio in rows:
        # A gap between workloads.
        place += 1.0 if workload == last else 1.7
        if workload != last:
            axes.axhline(place - 0.85, color="#e5e5e5", linewidth=0.6)
        if name in COLOURS:
            colour = COLOURS[name]
        else:
            ways = ours[workload]
            colour = OURS[min(len(ways), len(OURS) - 1)]
            ways.append(name)
        axes.barh(place, ratio - 1, left=1, height=0.8, color=colour)
        beside = max(ratio, 1)
        if (workload, name) in goals:
            goal = goals[workload, name]
            axes.plot([goal, goal], [place - 0.48, place + 0.48], color="#d62728", linewidth=1.8)
            if beside <= goal < 2 * beside:
                beside = goal
        axes.annotate(
            f"{ratio:.0f} x" if ratio >= 10 else f"{ratio:.2g} x", (beside, place), (3, 0), textcoords="offset points",
            va="center", fontsize=7,
        )  # fmt: skip
        label = LABELS.get(name, name.replace("_", " "))
        ticks.append((place, f"{workload}   {label}" if workload != last else label))
        last = workload
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(*zip(*ticks), fontsize=7.5)
    axes.set_ylim(place + 1, 0.5)
    axes.set_xlim(right=axes.get_xlim()[1] * 1.6)
    axes.set_xlabel(f"times better than {PEER}; red: the goal", fontsize=8)
    axes.set_title(title(run), fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def draw_sizes(axes, run):
    """What an item costs at each size, as a part of what it costs at the smallest: flat is good."""
    series = defaultdict(list)
    for record in run["records"]:
        if "size" in record and record["candidate"] not in ["peer", "python"]:
            series[record["workload"], record["candidate"]].append(record)
    for (workload, name), records in series.items():
        records.sort(key=lambda record: record["size"])
        ratios = [1 / times(record, records[0], record["unit"]) for record in records]
        label = f"{workload.removeprefix('W8 ')}, {name.replace('_', ' ')}"
        axes.plot([record["size"] for record in records], ratios, marker="o", markersize=3, label=label)
    flat = {goal["bar"] for goal in run["goals"] if goal["workload"].startswith("W8")}
    for bar in flat:
        axes.axhline(bar, color="#d62728", linewidth=1.2)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("how many at the same time", fontsize=8)
    axes.set_ylabel("cost of one, of that at the smallest", fontsize=8)
    axes.set_title(f"W8: {title(run)}", fontsize=9)
    axes.legend(fontsize=6.5, ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def title(run):
    stable = ", stable ABI" if run["abi3"] else ""
    return f"Python {run['python']}{stable}, {run['event_loop']}, cores: {run['cores']}"


if __name__ == "__main__":
    main(*sys.argv[1:])
