"""The frame of the kernel benchmarks: cases, peers, interleaved timing, a table.

    python bench/bench_softmax.py [--peers numpy,torch,jax] [--threads 1] [--hog] [--only TEXT]
                                  [--seconds 1] [--cpus 0] [--json FILE]

Every library gets the same inputs, as its own arrays, and its results (gradients too) are compared
with narae's before anything is timed. Calls are timed one by one, in short turns library after
library, so that a noisy moment meets all of them. Ratios are the peer's best time divided by
narae's: above 1, narae is faster. GFLOP/s and GB/s count the work that the operation needs, not
what a library does; the peaks (a loop of multiply-adds in registers, a copy between large buffers)
are measured in the same run.
"""

import dataclasses
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace

from frame import arguments, hog, locked, timing_cpus, write_json

TURN = 0.03  # seconds that a library keeps the floor
PAUSE = 0.05  # seconds before: threads of the last one may still spin, waiting for more work


class Lazy:
    """A module that is imported when it is first used: peers not asked for cost nothing."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(importlib.import_module(self._name), attribute)


jax, jnp, np, torch = Lazy("jax"), Lazy("jax.numpy"), Lazy("numpy"), Lazy("torch")
functional = Lazy("torch.nn.functional")


@dataclasses.dataclass
class Case:
    """One operation with its forms in each library.

    Args:
        name: what is measured, with its sizes.
        inputs: NumPy arrays; float arrays get gradients.
        forms: `{"narae": function of the inputs, "torch": ..., "jax": ..., "numpy": ...}`.
        flops, moved: floating-point operations and bytes that forward needs at least; the one that
            is given decides the unit.
        backward_flops, backward_moved: likewise for forward and backward together; both 0: forward
            only.
        prepared: the forms return the function to time, for work with a state.
        tolerance: largest difference from narae, relative to the largest magnitude of a result.
        dtype: what the inputs are cast to.
    """

    name: str
    inputs: Sequence
    forms: dict[str, Callable]
    flops: float = 0
    moved: float = 0
    backward_flops: float = 0
    backward_moved: float = 0
    prepared: bool = False
    tolerance: float = 1e-4
    dtype: str = "float32"


def in_bfloat16(case: Case) -> Case:
    """The same case in bfloat16. Eight bits: a peer may round a result, or a sum, once more."""
    return dataclasses.replace(case, name=f"{case.name} bfloat16", dtype="bfloat16", tolerance=0.05)


def randn(*shape: int, seed: int = 0, scale: float = 1.0):
    """Standard normal float32 numbers, times `scale`."""
    values = np.random.default_rng((seed, *shape)).standard_normal(shape, dtype="float32")
    return values * np.float32(scale)


# ---- libraries: how each turns arrays into its own, and a form into a call -----------------------


def _floats(inputs):
    return [i for i, x in enumerate(inputs) if x.dtype.kind == "f"]


def _narae():
    import narae

    def backward(form, inputs, wanted, dy):
        def call():
            with narae.GradientTape() as tape:
                for i in wanted:
                    tape.watch(inputs[i])
                y = form(*inputs)
            return [y, *tape.gradient(y, [inputs[i] for i in wanted], output_gradients=dy)]

        return call

    return SimpleNamespace(
        convert=narae.ops.convert_to_tensor,
        cast=narae.ops.cast,
        forward=lambda form, inputs: lambda: form(*inputs),
        backward=backward,
    )


def _numpy():
    return SimpleNamespace(
        convert=lambda x: x,
        cast=None,
        forward=lambda form, inputs: lambda: form(*inputs),
        backward=None,
    )


def _torch():
    torch.set_num_threads(int(os.environ["NARAE_NUM_THREADS"]))

    def forward(form, inputs):
        def call():
            with torch.inference_mode():
                return form(*inputs)

        return call

    def backward(form, inputs, wanted, dy):
        inputs = [x.clone().requires_grad_() if i in wanted else x for i, x in enumerate(inputs)]

        def call():
            y = form(*inputs)
            return [y.detach(), *torch.autograd.grad(y, [inputs[i] for i in wanted], dy)]

        return call

    return SimpleNamespace(
        convert=torch.from_numpy,
        cast=lambda x, dtype: x.to(getattr(torch, dtype)),
        forward=forward,
        backward=backward,
    )


def _jax():
    def forward(form, inputs):
        jitted = jax.jit(form)
        return lambda: jax.block_until_ready(jitted(*inputs))

    def backward(form, inputs, wanted, dy):
        def step(inputs, dy):
            def of_floats(*floats):
                values = dict(zip(wanted, floats))
                return form(*(values.get(i, x) for i, x in enumerate(inputs)))

            y, pull = jax.vjp(of_floats, *(inputs[i] for i in wanted))
            return y, *pull(dy)

        jitted = jax.jit(step)
        return lambda: jax.block_until_ready(jitted(inputs, dy))

    return SimpleNamespace(
        convert=jnp.asarray,
        cast=lambda x, dtype: x.astype(dtype),
        forward=forward,
        backward=backward,
    )


LIBRARIES = {"narae": _narae, "numpy": _numpy, "torch": _torch, "jax": _jax}


# ---- measuring -----------------------------------------------------------------------------------


def _array(result):
    if str(getattr(result, "dtype", "")) == "torch.bfloat16":
        result = result.float()
    array = np.asarray(result)
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def _arrays(result) -> list:
    return [_array(r) for r in (result if isinstance(result, (list, tuple)) else [result])]


def _check(case: Case, calls: dict[str, Callable]) -> None:
    expected = [np.array(r) for r in _arrays(calls["narae"]())]  # copies, should it be a state
    for library, call in calls.items():
        if library == "narae":
            continue
        for i, (ours, theirs) in enumerate(zip(expected, _arrays(call()), strict=True)):
            scale = max(float(np.abs(theirs).max(initial=0)), 1e-30)
            error = float(np.abs(ours.reshape(theirs.shape) - theirs).max(initial=0)) / scale
            if not error <= case.tolerance:
                raise SystemExit(f"{case.name}: result {i} is {error:.1e} off {library}'s")


def _calls(case: Case, libraries: dict, backward: bool) -> dict[str, Callable]:
    wanted, calls = _floats(case.inputs), {}

    def convert(library, x):
        x = library.convert(x)
        return x if case.dtype == "float32" else library.cast(x, case.dtype)

    if backward:
        y = case.forms["narae"](*(convert(libraries["narae"], x) for x in case.inputs))
        dy = randn(*y.shape, seed=7)
    for name, library in libraries.items():
        if name not in case.forms or (backward and library.backward is None):
            continue
        if case.dtype != "float32" and library.cast is None:
            continue
        inputs = [convert(library, x) for x in case.inputs]
        if case.prepared:
            calls[name] = case.forms[name](*inputs)
        elif not backward:
            calls[name] = library.forward(case.forms[name], inputs)
        else:
            dy_there = convert(library, dy)
            calls[name] = library.backward(case.forms[name], inputs, wanted, dy_there)
    return calls


def interleave(calls: dict[str, Callable], seconds: float) -> dict[str, list[float]]:
    """Times single calls in turns of TURN seconds; returns every call's seconds by name."""
    times = {name: [] for name in calls}
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or min(map(len, times.values())) < 3:
        for name, call in calls.items():
            time.sleep(PAUSE)
            turn = time.perf_counter() + TURN
            while True:
                start = time.perf_counter()
                call()
                now = time.perf_counter()
                times[name].append(now - start)
                if now > turn:
                    break
    return times


def _row(family, case, kind, times, peaks) -> dict:
    work = (case.flops, case.moved) if kind == "forward" else (
        case.backward_flops, case.backward_moved)  # fmt: skip
    unit, amount, peak = (
        ("GFLOP/s", work[0], peaks[case.dtype]) if work[0] else ("GB/s", work[1], peaks["copy"])
    )
    best = {name: min(t) for name, t in times.items()}
    median = {name: sorted(t)[len(t) // 2] for name, t in times.items()}
    ours = best["narae"]
    return {
        "family": family, "case": case.name, "pass": kind, "best": best, "median": median,
        "rate": amount / ours / 1e9, "unit": unit, "share_of_peak": amount / ours / peak,
        "ratio": {name: t / ours for name, t in best.items() if name != "narae"},
    }  # fmt: skip


def _line(row, peers) -> str:
    ratios = "".join(
        f"{row['ratio'][p]:8.2f}x" if p in row["ratio"] else f"{'-':>9}" for p in peers
    )
    ours = f"{row['best']['narae'] * 1e3:9.3f} ms{row['rate']:9.1f} {row['unit']:8}"
    return f"{row['case']:44}{row['pass']:9}{ours}{row['share_of_peak']:6.0%}{ratios}"


def measure(family: str, cases: Iterable[Case], options) -> dict:
    """Runs the cases and returns the rows with what they were measured on."""
    import narae
    from narae import _core

    peers = [p for p in options.peers.split(",") if p]
    libraries = {name: LIBRARIES[name]() for name in ("narae", *peers)}
    peaks = {d: _core.peak_flops(d) * options.threads for d in ("float32", "bfloat16")}
    peaks["copy"] = _core.peak_copy()
    print(
        f"{family}: {narae.config.isa()}, threads {options.threads}; measured peaks "
        f"{peaks['float32'] / 1e9:.0f} GFLOP/s (bfloat16 {peaks['bfloat16'] / 1e9:.0f}), "
        f"copy {peaks['copy'] / 1e9:.1f} GB/s"
    )
    print(f"{'':88}" + "".join(f"{p:>9}" for p in peers))
    rows = []
    for case in cases:
        if options.only not in case.name:
            continue
        for kind in ("forward", "both"):
            backward = kind == "both"
            if backward and not (case.backward_flops or case.backward_moved):
                continue
            calls = _calls(case, libraries, backward)
            _check(case, calls)
            with locked(options.lock):
                times = interleave(calls, options.seconds)
            rows.append(_row(family, case, kind, times, peaks))
            print(_line(rows[-1], peers), flush=True)
    return {
        "family": family, "isa": narae.config.isa(), "threads": options.threads,
        "hog": options.hog, "peaks": peaks, "rows": rows,
        "versions": {p: importlib.import_module(p).__version__ for p in ("narae", *peers)},
    }  # fmt: skip


# ---- the process: pinned, with as many threads as asked for --------------------------------------


def settle(options) -> None:
    """Pins the process to the CPUs to time on and sets every library's number of threads.

    Libraries read these when they are imported, so the process starts anew with them.
    """
    if os.environ.get("NARAE_BENCH") == "settled":
        return
    os.sched_setaffinity(0, timing_cpus(options))
    os.environ.pop("OPENBLAS_CORETYPE", None)  # NumPy's best, not what an environment holds it to
    count = str(options.threads)
    os.environ.update(
        NARAE_BENCH="settled", NARAE_NUM_THREADS=count, OPENBLAS_NUM_THREADS=count,
        OMP_NUM_THREADS=count, MKL_NUM_THREADS=count, JAX_PLATFORMS="cpu",
        TF_CPP_MIN_LOG_LEVEL="3",
    )  # fmt: skip
    os.execv(sys.executable, [sys.executable, *sys.argv])


def main(doc: str | None, cases: Callable[[], Iterable[Case]], peers: str = "") -> None:
    """The command line of a kernel benchmark: `doc` describes it, `cases()` gives its cases."""
    parser = arguments(doc, peers, seconds=1.0)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    settle(options)
    family = os.path.basename(sys.argv[0]).removeprefix("bench_").removesuffix(".py")
    with hog(timing_cpus(options)[-1] if options.hog else None):
        write_json(measure(family, cases(), options), options)
