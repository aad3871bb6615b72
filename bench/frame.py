"""What every benchmark shares: options, a lock, a busy neighbour, the JSON file, the mean."""

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys


def arguments(doc: str | None, peers: str, seconds: float) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default=peers, help="libraries to compare with, by commas")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hog", action="store_true", help="keep the last of the CPUs busy")
    parser.add_argument("--seconds", type=float, default=seconds, help="length of a measurement")
    parser.add_argument("--cpus", help="CPUs to time on, such as 0,1; the first ones by default")
    parser.add_argument("--lock", metavar="FILE", help="hold a lock on FILE while timing")
    parser.add_argument("--json", metavar="FILE")
    return parser


def timing_cpus(options) -> list[int]:
    """The CPUs to time on: those asked for, or as many of the allowed ones as there are threads."""
    if options.cpus:
        return list(map(int, options.cpus.split(",")))
    return sorted(os.sched_getaffinity(0))[: options.threads]


@contextlib.contextmanager
def hog(cpu: int | None):
    """A process that keeps one CPU busy; none if `cpu` is None."""
    if cpu is None:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    os.sched_setaffinity(process.pid, [cpu])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def locked(path: str | None):
    """Holds a lock on a file, for timings that share CPUs with others; none if `path` is None."""
    if path is None:
        yield
        return
    import fcntl

    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_json(result, options) -> None:
    """Writes the result to `--json`, if that was given."""
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)


def geometric_mean(values) -> float:
    """exp(mean(log(values)))"""
    return math.exp(statistics.fmean(map(math.log, values)))
