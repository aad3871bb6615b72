"""One library in a process of its own, driven over a pipe by `Worker`.

A library's threads, allocator and compiled code cannot disturb another's measurement this way, and
the growth of the resident set is its own. The process prepares one job, a function `run(n)` that
does the work n times, and then answers requests, one line of JSON each.
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import time


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
