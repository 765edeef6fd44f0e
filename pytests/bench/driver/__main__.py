"""Measures what it is told to, and prints one JSON object a line: what was measured, and the samples."""

import argparse
import json
import os
import sys

import load
import memory
import scale
import timing
import workloads


def parse():
    parser = argparse.ArgumentParser(prog="driver", description=__doc__)
    parser.add_argument("--event-loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--cores", choices=["one", "all"], default="one", help="pin the process to one core, or not")
    parser.add_argument("--runtime", action="append", choices=workloads.RUNTIMES, help="may be given more than once")
    parser.add_argument("--workload", action="append", help="may be given more than once; all if not given")
    parser.add_argument("--workers", type=int, help="tokio's worker threads")
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.05, help="about how long one sample takes")
    parser.add_argument("--scale", action="store_true", help="the cost of an item as the work grows, instead")
    parser.add_argument("--abi3", action="store_true", help="the contenders are built for the stable ABI")
    # For the driver's own children, and for valgrind.
    parser.add_argument("--keep-states", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--pending", nargs=3, metavar=("CONTENDER", "FORM", "COUNT"), help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=3, metavar=("WORKLOAD", "CONTENDER", "COUNT"), help=argparse.SUPPRESS)
    return parser.parse_args()


def emit(record):
    print(json.dumps(record), flush=True)


def main():
    arguments = parse()
    if arguments.cores == "one":
        # Before there is any other thread, so that all have it.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    contenders = workloads.start(arguments.workers, arguments.keep_states, arguments.abi3)
    event_loop = timing.new_event_loop(arguments.event_loop)
    runtimes = arguments.runtime or ["tokio"]
    if arguments.pending:
        contender, form, count = arguments.pending
        print(memory.measure(event_loop, contenders[contender], form, int(count)))
    elif arguments.run:
        workload, contender, count = arguments.run
        run = workloads.find(workload).candidates(contenders, runtimes)[contender].run
        event_loop.run_until_complete(run(int(count)))
    elif arguments.scale:
        scale.measure(event_loop, contenders, runtimes, arguments, emit)
    else:
        for workload in workloads.choose(arguments.workload):
            workload.measure(event_loop, contenders, runtimes, arguments, emit)
        for other in [load, memory]:
            if not arguments.workload or other.NAME in arguments.workload:
                other.measure_all(event_loop, contenders, runtimes, arguments, emit)


if __name__ == "__main__":
    status = 0
    try:
        main()
    except BaseException:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # A peer's threads may still run, and are no part of what is measured.
    os._exit(status)
