"""The table that `model.summary()` prints."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from narae.engine import tree
from narae.engine.operation import node_of
from narae.training.progress import print_message


def print_summary(
    model: Any,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> None:
    """Prints the layers of a model with their output shapes and numbers of parameters.

    Args:
        model: the model.
        line_length: characters in a line; by default what suits the model and the terminal.
        positions: where the columns end, as shares of the line (the last one 1) or in characters.
        print_fn: called once with the whole text, instead of printing it.
        expand_nested: show the layers of models inside the model.
        show_trainable: show a column that says which layers are trained.
        layer_range: names, or regular expressions, of the first and last layer to show.

    Raises:
        ValueError: a `layer_range` that names no layers, or columns that do not fit.
    """
    nodes = _graph(model)
    chain = _is_chain(nodes)
    header = ["Layer (type)", "Output Shape", "Param #"]
    if not chain:
        header.append("Connected to")
    if show_trainable:
        header.append("Trainable")
    if line_length is None:
        line_length = (88 if chain else 108) + (12 if show_trainable else 0)
        line_length = min(line_length, shutil.get_terminal_size().columns - 4)
    if positions is None:
        positions = [0.45, 0.80, 1.0] if chain else [0.3, 0.56, 0.74, 1.0]
        if show_trainable:
            positions = [*(p * 0.9 for p in positions), 1.0]
    widths = _column_widths(positions, line_length, len(header))
    rows = []
    for layer in _layers_in_range(model, layer_range):
        rows += _rows(layer, nodes, not chain, expand_nested, show_trainable)
    text = _render(model.name, header, widths, line_length, rows, _totals(model))
    if print_fn is None:
        print_message(text, end="")
    else:
        print_fn(text)


def _graph(model: Any) -> list[Any]:
    """The nodes of a functional model; none for one that is not, or that is sequential."""
    from narae.models import Sequential

    outputs = getattr(model, "outputs", None)
    if isinstance(model, Sequential) or not outputs:
        return []
    inputs = {id(tensor) for tensor in tree.flatten(model.inputs)}
    nodes: dict[int, Any] = {}
    waiting = tree.flatten(outputs)
    while waiting:
        tensor = waiting.pop()
        node = node_of(tensor)
        if id(node) not in nodes:
            nodes[id(node)] = node
            if id(tensor) not in inputs:
                waiting.extend(node.input_tensors)
    return list(nodes.values())


def _is_chain(nodes: list[Any]) -> bool:
    """Whether every operation is called once and feeds at most one other."""
    operations = [id(node.operation) for node in nodes]
    fed = [id(parent) for node in nodes for parent in node.parent_nodes]
    branches = any(len(node.parent_nodes) > 1 for node in nodes)
    return not branches and len(set(operations)) == len(operations) and len(set(fed)) == len(fed)


def _layers_in_range(model: Any, layer_range: Sequence[str] | None) -> list[Any]:
    layers = model.layers
    if layer_range is None:
        return layers
    if len(layer_range) != 2:
        raise ValueError(
            f"narae.{type(model).__name__}.summary: expected layer_range to be two names. "
            f"Received: layer_range={layer_range!r}."
        )
    first, last = (
        [i for i, layer in enumerate(layers) if layer.name == name or re.match(name, layer.name)]
        for name in layer_range
    )
    if not first or not last:
        raise ValueError(
            f"narae.{type(model).__name__}.summary: expected layer_range to name layers of the "
            f"model, {[layer.name for layer in layers]}. Received: layer_range={layer_range!r}."
        )
    low, high = min(*first, *last), max(*first, *last)
    return layers[low : high + 1]


def _column_widths(positions: Sequence[float], line_length: int, columns: int) -> list[int]:
    if len(positions) < columns:
        raise ValueError(
            f"narae.Model.summary: expected positions of {columns} columns. "
            f"Received: positions={list(positions)!r}."
        )
    scale = line_length if positions[-1] <= 1 else 1
    ends = [0, *(int(p * scale) for p in positions[:columns])]
    widths = [end - start for start, end in zip(ends, ends[1:])]
    if min(widths) < 4:
        raise ValueError(
            "narae.Model.summary: expected every column to have 4 characters or more. Received: "
            f"columns of {widths}, line_length={line_length}; widen the terminal or the line."
        )
    return widths


def _rows(
    layer: Any, nodes: list[Any], connections: bool, expand: bool, trainable: bool, depth: int = 0
) -> list[list[str]]:
    prefix = "   " * depth + "└ " if depth else ""
    row = [f"{prefix}{layer.name} ({type(layer).__name__})", _output_shape(layer), _params(layer)]
    if connections:
        row.append(_connections(layer, nodes))
    if trainable:
        row.append(("Y" if layer.trainable else "N") if getattr(layer, "weights", None) else "-")
    rows = [row]
    if expand:
        for inner in getattr(layer, "layers", None) or []:
            rows += _rows(inner, nodes, connections, expand, trainable, depth + 1)
    return rows


def _output_shape(layer: Any) -> str:
    shapes = None
    if layer._inbound_nodes:
        shapes = [str(tuple(x.shape)) for x in layer._inbound_nodes[-1].output_tensors]
    elif getattr(layer, "_build_shapes", None):
        try:
            shapes = layer.compute_output_shape(*layer._build_shapes.values())
        except Exception:  # a user's layer may not be able to tell
            return "?"
        shapes = tree.map_shape_structure(str, shapes)
    if shapes is None:
        return "?"
    if isinstance(shapes, (list, tuple)) and len(shapes) == 1:
        shapes = shapes[0]
    return str(shapes).replace("'", "")


def _params(layer: Any) -> str:
    from narae.layers.layer import is_default

    if not hasattr(layer, "count_params"):
        return "0"
    inner = getattr(layer, "_layers", [])
    makes_weights = not is_default(layer.build) or any(not x.built for x in inner)
    if not layer.built:
        return "0 (unbuilt)" if makes_weights else "0"
    return f"{layer.count_params():,}"


def _connections(layer: Any, nodes: list[Any]) -> str:
    inside = {id(node) for node in nodes}
    names = []
    for node in layer._inbound_nodes:
        for tensor in node.input_tensors if id(node) in inside else ():
            operation, index, position = tensor.history
            names.append(f"{operation.name}[{index}][{position}]")
    return ", ".join(names) or "-"


def _totals(model: Any) -> list[str]:
    optimizer = getattr(model, "optimizer", None)
    parts = [
        ("Trainable", model.trainable_weights),
        ("Non-trainable", model.non_trainable_weights),
    ]
    if optimizer is not None and getattr(optimizer, "built", False):
        parts.append(("Optimizer", optimizer.variables))
    everything = [variable for _, variables in parts for variable in variables]
    return [f" {kind} params: {_count(v)}" for kind, v in [("Total", everything), *parts]]


def _count(variables: list[Any]) -> str:
    sizes = [(int(v.size), np.dtype(v.dtype).itemsize) for v in variables]
    bytes_left, unit = float(sum(count * width for count, width in sizes)), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if bytes_left < 1024:
            break
        bytes_left, unit = bytes_left / 1024, larger
    return f"{sum(count for count, _ in sizes):,} ({bytes_left:.2f} {unit})"


def _render(
    name: str,
    header: list[str],
    widths: list[int],
    line_length: int,
    rows: list[list[str]],
    totals: list[str],
) -> str:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    justify = {"Param #": "right", "Trainable": "center"}
    styles = {"Output Shape": "cyan", "Param #": "green"}
    columns = [
        Column(Text(h), justify=justify.get(h, "left"), style=styles.get(h), width=w)
        for h, w in zip(header, widths)
    ]
    table = Table(*columns, width=line_length, show_lines=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    terminal = sys.stdout.isatty()
    console = Console(
        file=io.StringIO(),
        width=max(line_length, 80),
        force_terminal=terminal,
        color_system="standard" if terminal else None,
        highlight=False,
    )
    console.print(Text(f'Model: "{name}"', style="bold"))
    console.print(table)
    for line in totals:
        console.print(Text(line), overflow="ignore", no_wrap=True)
    return console.file.getvalue()
