"""Draws what `cargo xtask bench` has measured: how many times the peers' time each way takes."""

import json
import statistics
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

LABELS = {"peer": "pyo3-async-runtimes", "native": "PyO3's experimental-async", "python": "pure Python"}


def main(samples, path):
    with open(samples) as file:
        runs = json.load(file)
    figure, grid = plt.subplots(len(runs), 1, figsize=(11, 4.2 * len(runs)), squeeze=False, layout="constrained")
    for axes, run in zip(grid[:, 0], runs):
        draw(axes, run)
    figure.savefig(path)


def draw(axes, run):
    """A group of bars for each workload; shorter is faster."""
    records = [record for record in run["records"] if record["unit"] == "s"]
    workloads = list(dict.fromkeys(record["workload"] for record in records))
    candidates = list(dict.fromkeys(record["candidate"] for record in records))
    width = 0.85 / len(candidates)
    for place, candidate in enumerate(candidates):
        of_candidate = [record for record in records if record["candidate"] == candidate]
        positions = [workloads.index(record["workload"]) + place * width for record in of_candidate]
        heights = [1e6 * statistics.median(record["samples"]) for record in of_candidate]
        axes.bar(positions, heights, width, label=LABELS.get(candidate, candidate.replace("_", " ")))
    axes.set_yscale("log")
    axes.set_ylabel("µs per operation")
    axes.set_xticks([place + 0.4 for place in range(len(workloads))], workloads, rotation=20, ha="right")
    axes.set_title(f"Python {run['python']}, {run['event_loop']}, cores: {run['cores']}")
    axes.legend(fontsize="small", ncols=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
