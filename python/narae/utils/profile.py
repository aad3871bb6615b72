"""Where a model's time goes: the table and the picture of `model.profile()`.

A forward and a backward pass are recorded as in training, and the recording is replayed call by
call with a clock beside it. Each call belongs to a layer: in the forward pass to the innermost one
whose `call` is running, in the backward pass to the one that made the tape's node.
"""

from __future__ import annotations

import contextlib
import functools
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from narae import _core, ops
from narae.engine import config, tape, tree
from narae.engine.recording import paused
from narae.engine.tape import GradientTape
from narae.engine.tensor import Tensor, convert_to_tensor
from narae.training.progress import print_message

_BETWEEN = "(between the layers)"


def profile_model(
    model: Any,
    x: Any,
    repeats: int = 10,
    filename: str | None = None,
    expand_nested: bool = False,
    print_fn: Callable[[str], Any] | None = None,
) -> list[dict[str, Any]]:
    """Measures, prints and draws; see `Model.profile`."""
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise ValueError(
            "narae.Model.profile: expected repeats to be a positive integer. "
            f"Received: repeats={repeats!r}"
        )
    x = tree.map_structure(convert_to_tensor, x)
    if not model.built:
        model(x)
    with _unchanged(model):
        ledger = _record(model, x, expand_nested)
        rows = _rows(ledger, repeats)
    (print_message if print_fn is None else print_fn)(_render(model.name, rows))
    if filename is not None:
        _draw(model.name, rows, filename)
    return rows


# ---- which layer made which call --------------------------------------------------------------


class _Ledger:
    """The owner, a layer (or None) and a pass, of each call of a recording under way."""

    def __init__(self, recording: Any, layers: Iterable[Any]):
        self.recording = recording
        self.layers = list(layers)
        self.owners: list[tuple[Any, str]] = []
        self._current: tuple[Any, str] = (None, "forward")
        self._spans: list[tuple[int, int, Any]] = []  # serials of the nodes of a layer's call

    @contextlib.contextmanager
    def under(self, layer: Any, phase: str) -> Iterator[None]:
        """Gives the calls made in a `with` block to `layer`, but for those of blocks inside."""
        self.settle()
        outer, self._current = self._current, (layer, phase)
        try:
            yield
        finally:
            self.settle()
            self._current = outer

    def settle(self) -> None:
        """Gives the calls made since the last time to the current owner."""
        self.owners += [self._current] * (len(self.recording) - len(self.owners))

    def forward(self, layer: Any, call: Callable, *args: Any, **kwargs: Any) -> Any:
        first = tape.next_serial()
        with self.under(layer, "forward"):
            outputs = call(*args, **kwargs)
        self._spans.append((first, tape.next_serial(), layer))
        return outputs

    def backward(self, layer: Any, backward: Callable, *gradients: Tensor) -> Any:
        with self.under(layer, "backward"):
            return backward(*gradients)

    def layer_of(self, node: Any) -> Any:
        """The layer that made a node; inner calls ended, and are listed, before outer ones."""
        return next((x for a, b, x in self._spans if a < node.serial < b), None)


@contextlib.contextmanager
def _watched(ledger: _Ledger) -> Iterator[None]:
    """Sends the calls of the ledger's layers through it."""
    for layer in ledger.layers:
        layer.__dict__["call"] = functools.partial(ledger.forward, layer, layer.call)
    try:
        yield
    finally:
        for layer in ledger.layers:
            del layer.__dict__["call"]


@contextlib.contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Puts back what passes change: moving statistics, random counters, added losses."""
    state = [(v, v.numpy().copy()) for v in model.variables if not v.trainable]
    try:
        yield
    finally:
        for variable, value in state:
            variable.assign(value)
        model._clear_losses()


def _record(model: Any, x: Any, expand_nested: bool) -> _Ledger:
    """Records a pass forward and back."""
    recording = _core.Recording()
    layers = model._flatten_layers(include_self=False) if expand_nested else model.layers
    ledger = _Ledger(recording, [layer for layer in layers if "call" not in layer.__dict__])
    recording.begin()
    try:
        with _watched(ledger), GradientTape() as gradient_tape:
            outputs = model(x, training=True)
        _backward(gradient_tape, outputs, model.trainable_variables, ledger)
        ledger.settle()
    finally:
        recording.end()
    if recording.reason:
        raise ValueError(
            "narae.Model.profile: expected a model whose steps can be replayed. Received: "
            f"{model.name}, where {recording.reason}"
        )
    return ledger


def _backward(gradient_tape: GradientTape, outputs: Any, variables: list, ledger: _Ledger) -> None:
    targets = [y for y in tree.flatten(outputs) if isinstance(y, Tensor) and "float" in y.dtype]
    if not variables:
        return
    for node in gradient_tape.nodes_behind(targets):
        node.backward = functools.partial(ledger.backward, ledger.layer_of(node), node.backward)
    with paused():  # what training begins with is the gradient of a loss
        starts = [ops.ones_like(y) for y in targets]
    with ledger.under(None, "backward"):
        gradient_tape.gradient(targets, variables, output_gradients=starts)


# ---- the rows ---------------------------------------------------------------------------------


def _rows(ledger: _Ledger, repeats: int) -> list[dict[str, Any]]:
    rows = {}
    for layer in (*ledger.layers, None):
        rows[id(layer)] = {
            "name": _BETWEEN if layer is None else layer.name,
            "class_name": "" if layer is None else type(layer).__name__,
            **dict.fromkeys(("forward", "backward", "flops", "bytes"), 0.0),
        }
    calls = zip(ledger.recording.time(repeats), ledger.recording.work(), strict=True)
    for (layer, phase), (seconds, (flops, moved)) in zip(ledger.owners, calls, strict=True):
        row = rows[id(layer)]
        row[phase] += seconds
        row["flops"] += flops
        row["bytes"] += moved
    if not _time(rows[id(None)]):
        del rows[id(None)]
    peak, copy = _core.peak_flops() * config.num_threads(), _core.peak_copy()
    for row in rows.values():
        least = max(row["flops"] / peak, row["bytes"] / copy)
        row["share_of_peak"] = least / _time(row) if _time(row) else 0.0
    return list(rows.values())


def _time(row: dict[str, Any]) -> float:
    return row["forward"] + row["backward"]


# ---- the table and the picture ----------------------------------------------------------------


def _render(name: str, rows: list[dict[str, Any]]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    whole = sum(map(_time, rows)) or 1.0
    table = Table(width=100)
    table.add_column("Layer (type)", overflow="fold")
    for header in ("Forward ms", "Backward ms", "Of time", "MFLOP", "MB", "Of peak"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        kind = f" ({row['class_name']})" if row["class_name"] else ""
        table.add_row(Text(row["name"] + kind), *_cells(row, whole), f"{row['share_of_peak']:.0%}")
    total = {
        key: sum(row[key] for row in rows) for key in ("forward", "backward", "flops", "bytes")
    }
    table.add_section()
    table.add_row("total", *_cells(total, whole), "")
    terminal = sys.stdout.isatty()
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal, highlight=False)
    console.print(Text(f'Profile of "{name}"', style="bold"))
    console.print(table)
    console.print(
        "Of peak: the time that the machine's measured multiply-adds or copy would need, by the "
        "time taken;\nabove 100 % where arrays stay in a cache."
    )
    return console.file.getvalue()


def _cells(row: dict[str, Any], whole: float) -> list[str]:
    times = [f"{row[phase] * 1e3:.3f}" for phase in ("forward", "backward")]
    sizes = [f"{row[what] / 1e6:.2f}" for what in ("flops", "bytes")]
    return [*times, f"{_time(row) / whole:.1%}", *sizes]


def _draw(name: str, rows: list[dict[str, Any]], filename: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.3 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    labels, places = [row["name"] for row in rows], range(len(rows))
    forward = [row["forward"] * 1e3 for row in rows]
    backward = [row["backward"] * 1e3 for row in rows]
    axes.barh(places, forward, label="forward", color="#3b6fb6")
    bars = axes.barh(places, backward, left=forward, label="backward", color="#e08a3c")
    axes.bar_label(bars, [f" {row['share_of_peak']:.0%}" for row in rows], fontsize=8)
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("ms; beside the bars the share of the machine's peak")
    axes.set_title(f'Time of "{name}"')
    axes.legend()
    figure.savefig(filename)
