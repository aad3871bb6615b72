"""Libraries in processes of their own, taking turns: the frame of the benchmarks of models.

A library's threads, allocator and compiled code cannot disturb another's measurement this way, and
the growth of the resident set is its own. Each process prepares one job, a function `run(n)` that
does the work n times, and then answers requests, one line of JSON each.
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import time

import frame
from frame import hog, locked, timing_cpus


class Worker:
    """The driver's end.

    Args:
        job: `"module:function"`; the function takes `arguments` and returns the answer to "what is
            it" as a dict, and `run(n)`.
        arguments: list of plain values.
        cpus: the CPUs that the process may use, from before it imports anything.
    """

    def __init__(self, job: str, arguments: list, cpus):
        threads = str(len(cpus))
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NARAE_NUM_THREADS")
        names += ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        environment = os.environ | {name: threads for name in names}
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
        environment.pop("OPENBLAS_CORETYPE", None)  # every library at its best
        self.process = subprocess.Popen(
            [sys.executable, __file__, job, json.dumps(arguments), json.dumps(sorted(cpus))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def _answer(self):
        for line in self.process.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise RuntimeError(f"the worker ended: {self.process.wait()}")

    def prepared(self) -> dict:
        """Waits until the job is prepared and returns what it says of itself."""
        return self._answer()

    def run(self, count: int, cpus) -> float:
        """Returns the seconds that `count` runs took on these CPUs."""
        print(json.dumps([count, sorted(cpus)]), file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


# The driver


def arguments(doc: str, peers: str, seconds: float) -> argparse.ArgumentParser:
    """The options of a benchmark of models; `--seconds` is about a turn's length."""
    parser = frame.arguments(doc, peers, seconds)
    parser.add_argument("--turns", type=int, default=7, help="turns of each library")
    return parser


def take_turns(job: str, arguments: dict, options, check=lambda told: None) -> tuple[dict, dict]:
    """Prepares a job in each library, then lets them take turns.

    Args:
        job: as for `Worker`.
        arguments: by library, those of the job. A library whose name ends in 1 gets one CPU.
        options: parsed `arguments` of this module.
        check: called with what the prepared jobs told, before anything is timed.

    Returns:
        By library, what was told, and the seconds of one run in each turn.
    """
    allowed = sorted(os.sched_getaffinity(0))
    prepare_on = allowed[-options.threads :]
    time_on = timing_cpus(options)
    workers, told = {}, {}
    try:
        for name, values in arguments.items():
            workers[name] = Worker(job, values, prepare_on[: _cpus_of(name, options)])
            told[name] = workers[name].prepared()
        check(told)
        return told, _time(workers, time_on, options)
    finally:
        for worker in workers.values():
            worker.close()


def _cpus_of(name: str, options) -> int:
    return 1 if name.endswith("1") else options.threads


def _time(workers: dict, cpus: list, options) -> dict:
    seconds, counts = {name: [] for name in workers}, {}
    for turn in range(options.turns + 1):
        with locked(options.lock), hog(cpus[-1] if options.hog else None):
            for name, worker in workers.items():
                count = counts.get(name, 1)
                time = worker.run(count, cpus[: _cpus_of(name, options)]) / count
                if turn:
                    seconds[name].append(time)
                else:  # how many runs a turn has
                    counts[name] = max(1, round(options.seconds / time))
    return seconds


# The worker's end


def set_affinity(cpus) -> None:
    """Moves every thread of this process."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cpus)


def peak_bytes() -> int:
    """Returns the largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(job: str, arguments: list, cpus: list) -> None:
    os.sched_setaffinity(0, cpus)
    module, function = job.split(":")
    answer, run = getattr(importlib.import_module(module), function)(*arguments)
    print("answer", json.dumps(answer), flush=True)
    for line in sys.stdin:
        count, cpus = json.loads(line)
        set_affinity(cpus)
        start = time.perf_counter()
        run(count)
        print("answer", time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(json.loads, sys.argv[2:]))
