"""`narae bench`: each kernel family's speed, next to the machine's measured peak and to NumPy.

Compute-bound rows give GFLOP/s and the share of the peak of a register-only multiply-add loop;
memory-bound rows give GB/s and the share of a copy between large buffers. Both are measured in the
same run. Operations are those of the definition: Winograd's convolution needs fewer and may pass
100 %. The ratio is NumPy's best time divided by narae's: above 1, narae is faster. NumPy runs
with its own threads.
"""

import json
import time

import numpy as np

from narae import _core, config, ops, random


def best_time(function, seconds: float = 0.3) -> float:
    """Returns the least time of one call, over about `seconds` of calls."""
    function()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def _tensor(*shape):
    return random.normal(shape, seed=1)


# A family yields (name, operations, bytes, narae's call, NumPy's call or None). Operations count a
# function such as exp as one; bytes are what has to be read and written at least.


def _gemm():
    for n in (256, 512, 1024, 2048):
        x, w = _tensor(n, n), _tensor(n, n)
        a, b = x.numpy(), w.numpy()
        ours, reference = (lambda x=x, w=w: ops.matmul(x, w)), (lambda a=a, b=b: a @ b)
        yield f"matmul {n}", 2 * n**3, 12 * n * n, ours, reference


def _conv():
    x, w = _tensor(32, 32, 32, 64), _tensor(3, 3, 64, 64)
    flops = 2 * 32 * 32 * 32 * 64 * 64 * 9
    moved = x.size * 8 + w.size * 4
    yield "conv 3x3 n32 32x32 c64", flops, moved, lambda: ops.conv(x, w, padding="same"), None


def _pool():
    x = _tensor(32, 32, 32, 64)
    a = x.numpy()

    def reference():
        return a.reshape(32, 16, 2, 16, 2, 64).max(axis=(2, 4))

    yield "max_pool 2 n32 32x32 c64", x.size, x.size * 5, lambda: ops.max_pool(x, 2), reference


def _softmax():
    x = _tensor(4096, 1024)
    a = x.numpy()

    def reference():
        e = np.exp(a - a.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    yield "softmax 4096x1024", x.size * 5, x.size * 8, lambda: ops.softmax(x), reference


def _norm():
    x, gamma, beta = _tensor(4096, 768), _tensor(768), _tensor(768)
    a, g, b = x.numpy(), gamma.numpy(), beta.numpy()

    def reference():
        centered = a - a.mean(axis=1, keepdims=True)
        variance = (centered * centered).mean(axis=1, keepdims=True)
        return centered / np.sqrt(variance + 1e-3) * g + b

    def ours():
        return ops.layer_normalization(x, gamma, beta)

    yield "layer_normalization 4096x768", x.size * 8, x.size * 8, ours, reference


def _attention():
    q, k, v = (_tensor(4, 512, 12, 64) for _ in range(3))
    flops = 4 * 4 * 12 * 512 * 512 * 64

    def full():
        return ops.dot_product_attention(q, k, v)

    def causal():
        return ops.dot_product_attention(q, k, v, is_causal=True)

    yield "attention b4 h12 t512 d64", flops, q.size * 16, full, None
    yield "attention causal", flops // 2, q.size * 16, causal, None


def _elementwise():
    x, y = _tensor(1 << 22), _tensor(1 << 22)
    a, b, n = x.numpy(), y.numpy(), x.size
    yield "add 4M", n, n * 12, lambda: ops.add(x, y), lambda: a + b
    yield "exp 4M", n, n * 8, lambda: ops.exp(x), lambda: np.exp(a)
    yield "tanh 4M", n, n * 8, lambda: ops.tanh(x), lambda: np.tanh(a)
    yield "gelu 4M", n * 8, n * 8, lambda: ops.gelu(x, approximate=True), None


def _reduce():
    x = _tensor(4096, 1024)
    a, n = x.numpy(), x.size
    yield "sum 4096x1024 axis 1", n, n * 4, lambda: ops.sum(x, axis=1), lambda: a.sum(axis=1)
    yield "sum 4096x1024 axis 0", n, n * 4, lambda: ops.sum(x, axis=0), lambda: a.sum(axis=0)


def _index():
    table = _tensor(50000, 256)
    ids = ops.convert_to_tensor(np.random.default_rng(0).integers(50000, size=8192))
    a, i = table.numpy(), ids.numpy()
    moved = 8192 * 256 * 8
    yield "take 8192 of 50000x256", 0, moved, lambda: ops.take(table, ids, axis=0), lambda: a[i]


def _shape():
    x = _tensor(2048, 2048)
    a = x.numpy()

    def reference():
        return np.ascontiguousarray(a.T)

    yield "transpose 2048x2048", 0, x.size * 8, lambda: ops.transpose(x), reference


def _recurrent():
    x, h, c = _tensor(32, 64, 128), _tensor(32, 256), _tensor(32, 256)
    w, u, b = _tensor(128, 1024), _tensor(256, 1024), _tensor(1024)
    flops = 2 * 32 * 64 * (128 + 256) * 1024
    moved = (w.size + u.size + 3 * x.size) * 4
    yield "lstm b32 t64 128 to 256", flops, moved, lambda: ops.lstm(x, h, c, w, u, b), None


def _random():
    generator = np.random.default_rng(0)

    def reference():
        return generator.standard_normal(1 << 22, dtype="float32")

    yield "normal 4M", 0, 4 << 22, lambda: random.normal((1 << 22,)), reference


FAMILIES = {
    "gemm": _gemm,
    "conv": _conv,
    "pool": _pool,
    "softmax": _softmax,
    "norm": _norm,
    "attention": _attention,
    "elementwise": _elementwise,
    "reduce": _reduce,
    "index": _index,
    "shape": _shape,
    "recurrent": _recurrent,
    "random": _random,
}


def run(
    threads: int = 1, families=None, json_file: str | None = None, plot: str | None = None
) -> list[dict]:
    """Prints the table and returns its rows.

    Args:
        threads: for narae's kernels.
        families: names of families; all by default.
        json_file: where to write the rows too.
        plot: a PNG, PDF or SVG file for the roofline and the shares of the peak. Needs matplotlib.

    Raises:
        ValueError: an unknown family.
    """
    unknown = set(families or ()) - set(FAMILIES)
    if unknown:
        raise ValueError(f"expected families out of {', '.join(FAMILIES)}. Received: {unknown}")
    before = config.num_threads()
    config.set_num_threads(threads)
    try:
        peaks = _core.peak_flops() * threads, _core.peak_copy()
        rows = _measure(threads, families or FAMILIES, *peaks)
    finally:
        config.set_num_threads(before)
    if json_file:
        with open(json_file, "w") as file:
            json.dump(rows, file, indent=2)
    if plot:
        draw(rows, *peaks, plot)
    return rows


def _measure(threads, families, flops, copy):
    print(
        f"narae on {config.isa()}, threads: {threads}. "
        f"Measured peaks: {flops / 1e9:.0f} GFLOP/s, copy {copy / 1e9:.1f} GB/s (read and write)\n"
    )
    print(f"{'family':12}{'case':32}{'time':>11}{'speed':>16}{'of peak':>9}{'vs NumPy':>10}")
    rows = []
    for family in families:
        for name, work, moved, ours, reference in FAMILIES[family]():
            seconds = best_time(ours)
            computes = work / flops > moved / copy  # what takes longer at the peaks bounds the case
            amount, unit, peak = (work, "GFLOP/s", flops) if computes else (moved, "GB/s", copy)
            rate = amount / seconds
            rows.append(
                {
                    "family": family,
                    "case": name,
                    "seconds": seconds,
                    "operations": work,
                    "bytes": moved,
                    "rate": rate,
                    "unit": unit,
                    "share_of_peak": rate / peak,
                    "ratio_to_numpy": best_time(reference) / seconds if reference else None,
                    "threads": threads,
                }  # fmt: skip
            )
            print(_line(rows[-1]))
    print("\nShares of the copy above 100 %: the case fits in a cache, the copy does not.")
    return rows


def _line(row) -> str:
    ratio = row["ratio_to_numpy"]
    against = "" if ratio is None else f"{ratio:9.2f}x"
    rate, share = f"{row['rate'] / 1e9:8.1f} {row['unit']}", f"{row['share_of_peak']:8.0%}"
    time_ms = f"{row['seconds'] * 1e3:8.3f} ms"
    return f"{row['family']:12}{row['case']:32}{time_ms}{rate:>16}{share:>9}{against:>10}"


def draw(rows: list[dict], flops: float, copy: float, file: str) -> None:
    """Draws the roofline (operations a second over operations a byte) and each case's share.

    Args:
        rows: as `run` returns them.
        flops, copy: the machine's peaks, in operations and bytes a second.
        file: PNG, PDF or SVG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.5), layout="constrained")
    roof, bars = figure.subplots(1, 2, width_ratios=(1.2, 1))
    intensity = np.geomspace(1 / 32, 1024, 200)
    roof.loglog(intensity, np.minimum(flops, intensity * copy) / 1e9, color="black")
    for i, row in enumerate(row for row in rows if row["operations"]):
        x, y = row["operations"] / row["bytes"], row["operations"] / row["seconds"] / 1e9
        roof.loglog(x, y, "os^Dv"[i % 5], color=f"C{i % 10}", label=row["case"])
    roof.legend(fontsize=7, frameon=False, loc="lower right")
    roof.set(xlabel="operations a byte", ylabel="GFLOP/s", title="Roofline")
    shares = [100 * row["share_of_peak"] for row in rows]
    colors = ["tab:blue" if row["unit"] == "GFLOP/s" else "tab:orange" for row in rows]
    bars.barh([row["case"] for row in rows], shares, color=colors)
    bars.axvline(100, color="black", linewidth=1)
    bars.invert_yaxis()
    bars.tick_params(axis="y", labelsize=7)
    bars.set(xlabel="% of the peak (blue: multiply-adds, orange: copy)", title="Shares of the peak")
    figure.savefig(file, dpi=120)
