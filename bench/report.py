"""Runs every benchmark and writes docs/benchmarks.md, its picture and the README's summary.

    NARAE_DATA=... python bench/report.py [--folder bench_results] [--reuse]

Needs the peers installed: torch, jax, tensorflow (with keras), scikit-learn and onnxruntime (with
onnx and onnxscript). The JSON files of the runs stay in the folder; `--reuse` runs only what has no
file there, so a run that was made by hand, as the page says, is taken. Nothing else should run on
the machine meanwhile.
"""

import argparse
import datetime
import json
import pathlib
import platform
import subprocess
import sys
from importlib import metadata

from frame import geometric_mean

ROOT = pathlib.Path(__file__).resolve().parents[1]
STEPS = "bench_training_step"
# Name of the JSON file, script and options; the tables are in TABLES, kernels' in `kernel_table`.
MODELS = {
    STEPS: [STEPS, "--peers", "torch,jax,tf,sklearn", "--turns", "4"],
    "torch_compile": [STEPS, "--peers", "compile", "--turns", "2"],
    "two_threads": [STEPS, "--peers", "narae1", "--threads", "2", "--turns", "4"],
    "busy_neighbour": [STEPS, "--peers", "narae1", "--threads", "2", "--hog", "--turns", "4"],
    "mixed_bfloat16": [STEPS, "--peers", "narae_bf16", "--turns", "4"],
    "bench_fit": ["bench_fit", "--peers", "torch,jax,tf", "--turns", "3"],
    "bench_predict": ["bench_predict", "--peers", "ort,torch,jax", "--turns", "4"],
}
KERNELS = {
    name: [name, "--peers", "torch,jax,numpy", "--seconds", "0.2"]
    for name in sorted(path.stem for path in (ROOT / "bench").glob("bench_*.py"))
    if name not in MODELS
}
RUNS = MODELS | KERNELS
NAMES = {
    "torch": "PyTorch",
    "compile": "torch.compile",
    "jax": "JAX",
    "numpy": "NumPy",
    "tf": "Keras-TF",
    "sklearn": "scikit-learn",
    "ort": "ONNX Runtime",
}


def run_all(folder: pathlib.Path, reuse: bool) -> dict:
    """Returns the JSON of each run by name."""
    folder.mkdir(exist_ok=True)
    results = {}
    for name, (script, *options) in RUNS.items():
        file = folder / f"{name}.json"
        if not (reuse and file.exists()):
            command = [sys.executable, str(ROOT / "bench" / f"{script}.py"), *options]
            subprocess.run([*command, "--json", str(file)], check=True)
        results[name] = json.loads(file.read_text())
    return results


# ---- text ----------------------------------------------------------------------------------------


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _ratio(value) -> str:
    if value is None:
        return ""
    return f"**{value:.2f}**" if value < 1 else f"{value:.2f}"


def kernel_table(result: dict) -> str:
    """One family: a line for each case and pass."""
    peers = [p for p in ("torch", "jax", "numpy") if any(p in r["ratio"] for r in result["rows"])]
    rows = []
    for row in result["rows"]:
        kind = "" if row["pass"] == "forward" else " + backward"
        ratios = [_ratio(row["ratio"].get(peer)) for peer in peers]
        best, rate = row["best"]["narae"] * 1e3, f"{row['rate']:.1f} {row['unit']}"
        share = f"{row['share_of_peak']:.0%}"
        rows.append([row["case"] + kind, f"{best:.3f}", rate, share, *ratios])
    return _table(["case", "ms", "speed", "of peak", *(NAMES[p] for p in peers)], rows)


def training_table(steps: dict) -> str:
    """A line for each model: ms a step, ratios, megabytes."""
    peers = _peers(steps)
    rows = []
    for name, row in steps.items():
        ours = row["narae"]
        ratios = [_ratio(row[p]["best"] / ours["best"] if p in row else None) for p in peers]
        memory = [f"{row[p]['bytes'] / 1e6:.0f}" if p in row else "-" for p in ("narae", *peers)]
        rows.append([name, f"{ours['best'] * 1e3:.3f}", *ratios, " / ".join(memory)])
    means = [_ratio(geometric_mean(_training_ratios(steps, [p]))) for p in peers]
    rows.append(["geometric mean", "", *means, ""])
    return _table(["model", "ms a step", *(NAMES[p] for p in peers), "MB, in this order"], rows)


def _peers(steps: dict) -> list[str]:
    return [p for p in NAMES if any(p in row for row in steps.values())]


def _training_ratios(steps: dict, peers) -> list[float]:
    """For each model that some of `peers` have, the fastest of them over narae."""
    return [
        min(times) / row["narae"]["best"]
        for row in steps.values()
        if (times := [row[p]["best"] for p in peers if p in row])
    ]


def against(slow: str, fast: str, words: str, other: str):
    """A table of steps with narae twice: a line for each model."""

    def table(steps: dict) -> str:
        rows = [
            [name, *(f"{row[x]['best'] * 1e3:.3f}" for x in (slow, fast)),
             _ratio(row[slow]["best"] / row[fast]["best"])]
            for name, row in steps.items()
        ]  # fmt: skip
        return _table(["model", f"{words}, ms", f"{other}, ms", "times as fast"], rows)

    return table


def predict_table(predictions: dict) -> str:
    """A line for each case and way of calling narae or a peer: best microseconds and the ratio."""
    rows = [
        [case, NAMES.get(way, way), f"{best * 1e6:.1f}", f"{best / ways['function'][0]:.2f}"]
        for case, ways in predictions.items()
        for way, (best, _) in ways.items()
    ]
    return _table(["case", "way", "us", "over narae's function"], rows)


def fit_table(seconds: dict) -> str:
    ours = min(seconds["narae"])
    rows = [
        [NAMES.get(name, name), f"{min(times):.3f}", f"{min(times) / ours:.2f}"]
        for name, times in seconds.items()
    ]
    return _table(["library", "s an epoch", "over narae's fit"], rows)


def machine() -> str:
    """The processor's name, as the system tells it; some say no more than the maker's."""
    information = pathlib.Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor() or platform.machine()
    lines = [line.partition(":") for line in information.read_text().splitlines()]
    values = {name.strip(): value.strip() for name, _, value in lines}
    if "model name" not in values:
        return platform.machine()
    numbers = ", ".join(f"{n} {values[n]}" for n in ("cpu family", "model") if n in values)
    return f"{values['model name']} ({numbers})"


def _versions() -> str:
    packages = ("narae", "numpy", "torch", "jax", "tensorflow-cpu", "keras")
    packages += ("scikit-learn", "onnxruntime")
    found = []
    for package in packages:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


TWO_THREADS = against("narae1", "narae", "one thread", "two threads")
TABLES = {
    STEPS: ("Training steps", training_table),
    "torch_compile": ("Training steps against torch.compile", training_table),
    "two_threads": ("Training steps with two threads", TWO_THREADS),
    "busy_neighbour": ("The same with a busy neighbour on the second CPU", TWO_THREADS),
    "mixed_bfloat16": (
        "Training steps under mixed_bfloat16",
        against("narae", "narae_bf16", "float32", "mixed_bfloat16"),
    ),
    "bench_fit": ("An epoch of MNIST with fit", fit_table),
    "bench_predict": ("Predictions", predict_table),
}


def page(results: dict) -> str:
    """docs/benchmarks.md."""
    first = results["bench_gemm"]
    peaks = first["peaks"]
    parts = [
        "# Benchmarks\n\nWritten by `python bench/report.py`; above each table stands the run that "
        "gave its figures. Ratios are the peer's best time divided by narae's: above 1, narae is "
        "faster; **bold**: the peer is. All libraries take turns in one run and their results are "
        "compared before anything is timed. [An older page](benchmarks_zen5.md) has another "
        "machine.\n",
        f"- {datetime.date.today()}, {machine()}, {platform.system()} {platform.machine()}, "
        f"instruction set {first['isa']}, one thread unless said",
        f"- Python {platform.python_version()}, {_versions()}",
        f"- measured peaks: {peaks['float32'] / 1e9:.0f} GFLOP/s (multiply-adds in registers; of "
        f"bfloat16 {peaks['bfloat16'] / 1e9:.0f}), "
        f"{peaks['copy'] / 1e9:.1f} GB/s (copy of large buffers, read and write). Cases that fit "
        "in a cache pass 100 % of the copy; Winograd's convolutions that of the multiply-adds.",
    ]
    for name, result in results.items():
        script, *options = RUNS[name]
        title, table = TABLES.get(name, (name.removeprefix("bench_"), kernel_table))
        command = " ".join(["python", f"bench/{script}.py", *options])
        parts.append(f"\n## {title}\n\n`{command}`\n\n{table(result)}")
        if name == STEPS:
            parts.append("\n![training steps](benchmarks.png)")
    return "\n".join(parts) + "\n"


def summary(results: dict) -> str:
    """The README's lines."""
    steps = results[STEPS]
    peers = _peers(steps)
    rows = [
        [NAMES[p], f"{geometric_mean(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"]
        for p in peers
        for ratios in [_training_ratios(steps, [p])]
    ]
    ratios = _training_ratios(steps, peers)
    span = f"{min(ratios):.2f} to {max(ratios):.2f}"
    rows.append(["the fastest of them", f"{geometric_mean(ratios):.2f}", span])
    head = [f"training steps of {len(steps)} models, narae is faster than", "mean", "from, to"]
    return _table(head, rows)


def picture(steps: dict, file: pathlib.Path) -> None:
    """Bars: how many times narae's time each peer needs for a training step."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    peers = _peers(steps)
    figure, axes = plt.subplots(figsize=(10, 4.5), layout="constrained")
    width = 0.8 / len(peers)
    for i, peer in enumerate(peers):
        has = [(j, row) for j, row in enumerate(steps.values()) if peer in row]
        ratios = [row[peer]["best"] / row["narae"]["best"] for _, row in has]
        axes.bar([j + i * width for j, _ in has], ratios, width, label=NAMES[peer])
    axes.axhline(1, color="black", linewidth=1)
    axes.set_xticks([j + width * (len(peers) - 1) / 2 for j in range(len(steps))], list(steps))
    axes.tick_params(axis="x", rotation=30)
    axes.set(yscale="log", ylabel="time of a step / narae's", title="One training step, one CPU")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(frameon=False)
    figure.savefig(file, dpi=110)


def write_between(file: pathlib.Path, mark: str, text: str) -> None:
    """Replaces what stands between `<!-- mark -->` and `<!-- end of mark -->`."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, rest = file.read_text().split(begin)
    file.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("bench_results"))
    parser.add_argument("--reuse", action="store_true", help="run only what has no file there")
    options = parser.parse_args()
    results = run_all(options.folder, options.reuse)
    (ROOT / "docs" / "benchmarks.md").write_text(page(results))
    picture(results[STEPS], ROOT / "docs" / "benchmarks.png")
    write_between(ROOT / "README.md", "benchmarks", summary(results))


if __name__ == "__main__":
    main()
