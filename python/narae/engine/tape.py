"""Reverse-mode differentiation.

Each op calls `record(outputs, inputs, backward)`. Under a `GradientTape` that hangs a `Node` on
the outputs, which keeps the inputs and the function that turns gradients of the outputs into
gradients of the inputs (the chain rule, one op at a time). `gradient` walks the nodes back from the
target, the latest first.
"""

import contextlib
import functools
import itertools

import numpy as np

from narae.engine.tensor import Tensor, convert_to_tensor, function
from narae.engine.tree import flatten, pack_sequence_as
from narae.engine.variable import Variable

_tapes: list = []  # open tapes, outermost first
_open = frozenset()  # the same as a set
_serial = itertools.count()
_product_slots = None  # see products_kept


class Node:
    """How one or more tensors were computed."""

    __slots__ = ("inputs", "outputs", "backward", "tapes", "serial")

    def __init__(self, inputs, outputs, backward):
        self.inputs = inputs
        self.outputs = [(y.shape, y.array.dtype) for y in outputs]
        self.backward = backward
        self.tapes = _open
        self.serial = next(_serial)

    def release(self):
        """Lets go of what the backward pass has needed: its memory serves the rest of the pass."""
        self.inputs, self.backward = (), None


def next_serial() -> int:
    """Returns a number between those of the nodes made before and after this call."""
    return next(_serial)


_CONSTANT = (None, 0)  # came out of an op, under a tape, from inputs that no tape follows


def is_open() -> bool:
    """Returns whether a tape follows what is computed."""
    return bool(_open)


def is_tracked(x: Tensor) -> bool:
    """Returns whether an open tape wants gradients with respect to `x`."""
    if not _open:
        return False
    if isinstance(x, Variable):
        return x.trainable and any(t.watch_accessed_variables or id(x) in t.watched for t in _tapes)
    if x.node is not None and x.node[0] is not None and not _open.isdisjoint(x.node[0].tapes):
        return True
    return any(id(x) in tape.watched for tape in _tapes)


def record(outputs, inputs, backward):
    """Notes how `outputs` were computed, if a tape is open that follows any of `inputs`.

    Args:
        outputs: a Tensor or a tuple of Tensors, fresh from a kernel.
        inputs: tuple of Tensors.
        backward: takes one gradient Tensor for each output (zeros for an output that the target
            does not depend on), returns one Tensor or None for each input.

    Returns:
        `outputs`.
    """
    if not _open:
        return outputs
    listed = outputs if isinstance(outputs, tuple) else (outputs,)
    if any(is_tracked(x) for x in inputs):
        node = Node(inputs, listed, backward)
        for index, y in enumerate(listed):
            y.node = (node, index)
    else:
        for y in listed:
            y.node = _CONSTANT
    return outputs


class _Paused:
    """Closes all tapes for the length of a `with` block."""

    def __enter__(self):
        global _tapes, _open
        self.saved = _tapes, _open
        _tapes, _open = [], frozenset()

    def __exit__(self, *_):
        global _tapes, _open
        _tapes, _open = self.saved


def no_gradients() -> _Paused:
    """Returns a context in which nothing is recorded on any tape."""
    return _Paused()


@contextlib.contextmanager
def products_kept(slots: int | None):
    """A context for a backward pass whose gradients go straight to an optimizer.

    In it the gradient of a kernel may be a product that is not multiplied out yet
    (`ops.gemm.Product`).

    Args:
        slots: arrays that the optimizer updates beside the weights; None if it does not take such
            products.
    """
    global _product_slots
    before, _product_slots = _product_slots, slots
    try:
        yield
    finally:
        _product_slots = before


def product_slots() -> int | None:
    """Returns what `products_kept` was given, None outside of it."""
    return _product_slots


class GradientTape:
    """Records operations for differentiation, as TensorFlow's.

    Args:
        persistent: whether `gradient` may be called more than once.
        watch_accessed_variables: whether trainable variables are followed without `watch`.

    >>> x = narae.ops.convert_to_tensor(3.0)
    >>> with narae.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = x * x
    >>> float(tape.gradient(y, x))
    6.0
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True):
        self.persistent = persistent
        self.watch_accessed_variables = watch_accessed_variables
        self.watched = {}  # id -> tensor
        self._used = False

    def __enter__(self):
        global _open
        _tapes.append(self)
        _open = frozenset(_tapes)
        return self

    def __exit__(self, *_):
        global _open
        if self in _tapes:
            _tapes.remove(self)
        _open = frozenset(_tapes)

    def watch(self, tensors) -> None:
        """Follows tensors (or nested structures of them) that are not trainable variables."""
        for x in flatten(tensors):
            if not isinstance(x, Tensor):
                raise TypeError(f"narae.GradientTape.watch: expected Tensors. Received: {x!r}")
            self.watched[id(x)] = x

    def gradient(self, target, sources, output_gradients=None, unconnected_gradients="none"):
        """Returns d target / d source for every source.

        Args:
            target: a Tensor, or several whose gradients are added.
            sources: a Tensor or Variable, or a nested structure of them.
            output_gradients: a Tensor for each target to start from; ones by default.
            unconnected_gradients: `"none"` or `"zero"`: what a source gives that the target does
                not depend on.

        Raises:
            RuntimeError: a second call without `persistent=True`.
        """
        if self._used and not self.persistent:
            raise RuntimeError(
                "narae.GradientTape.gradient: a tape that is not persistent gives gradients once. "
                "Use GradientTape(persistent=True)."
            )
        if unconnected_gradients not in ("none", "zero"):
            raise ValueError(
                "narae.GradientTape.gradient: expected unconnected_gradients 'none' or 'zero'. "
                f"Received: {unconnected_gradients!r}"
            )
        self._used = True
        targets = flatten(target)
        for y in targets:
            if not isinstance(y, Tensor):
                raise TypeError(
                    f"narae.GradientTape.gradient: expected Tensors as target. Received: {y!r}"
                )
        starts = (
            flatten(output_gradients) if output_gradients is not None else [None] * len(targets)
        )
        inside = self in _tapes and not self.persistent
        if inside:  # called within its own block: the backward pass is not recorded on this tape
            self.__exit__()
        try:
            found = self._backpropagate(targets, starts, flatten(sources))
        finally:
            if inside:
                self.__enter__()
        if unconnected_gradients == "zero":
            found = [
                Tensor(np.zeros(x.shape, x.array.dtype)) if g is None else g
                for g, x in zip(found, flatten(sources))
            ]
        return pack_sequence_as(sources, found)

    def _backpropagate(self, targets, starts, sources):
        leaves = {}  # id of a tensor without a node -> gradient
        wanted = {id(x) for x in sources}
        pending = {}  # node -> gradients of its outputs
        for y, start in zip(targets, starts):
            dy = function("ones_like")(y) if start is None else convert_to_tensor(start)
            if dy.shape != y.shape:
                raise ValueError(
                    "narae.GradientTape.gradient: expected output_gradients of the target's shape "
                    f"{y.shape}. Received: shape {dy.shape}"
                )
            self._add(y, dy, leaves, wanted, pending)
        intermediate = {id(x): x.node for x in sources if x.node is not None and x.node[0]}
        kept = {node: None for node, _ in intermediate.values()}
        for node in self.nodes_behind(targets):
            gradients = pending.pop(node, None)
            if gradients is None:
                continue
            gradients = [
                Tensor(np.zeros(*spec)) if g is None else g
                for g, spec in zip(gradients, node.outputs)
            ]
            if node in kept:
                kept[node] = gradients
            results = node.backward(*gradients)
            for x, dx in zip(node.inputs, results):
                if dx is not None:
                    if _open:
                        _mark_opaque(dx, node, gradients)
                    self._add(x, dx, leaves, wanted, pending)
            if not self.persistent and len(node.tapes) == 1:
                node.release()
        found = []
        for x in sources:
            gradient = leaves.get(id(x))
            if gradient is None and id(x) in intermediate:
                node, index = intermediate[id(x)]
                gradient = kept[node][index] if kept[node] is not None else None
            found.append(gradient)
        return found

    def _add(self, x, dx, leaves, wanted, pending):
        if id(x) in wanted and (x.node is None or x.node[0] is None or id(x) in self.watched):
            old = leaves.get(id(x))
            leaves[id(x)] = dx if old is None else function("add")(old, dx)
        if x.node is not None and x.node[0] is not None and self in x.node[0].tapes:
            node, index = x.node
            gradients = pending.setdefault(node, [None] * len(node.outputs))
            old = gradients[index]
            gradients[index] = dx if old is None else function("add")(old, dx)

    def nodes_behind(self, targets):
        """Returns the tape's nodes that the targets depend on, the latest first."""
        seen = {}
        stack = [y.node for y in targets]
        while stack:
            link = stack.pop()
            if link is None or link[0] is None:
                continue
            node = link[0]
            if node.serial not in seen and self in node.tapes:
                seen[node.serial] = node
                stack.extend(x.node for x in node.inputs)
        return [seen[serial] for serial in sorted(seen, reverse=True)]


def _mark_opaque(dx, node, gradients):
    """Under an outer tape: a gradient that a kernel made has no known derivative of its own.

    It gets a node that says so, rather than passing for a constant.
    """
    if dx.node is not None or isinstance(dx, Variable):
        return
    sources = (*node.inputs, *gradients)
    if any(dx is x for x in sources) or not any(is_tracked(x) for x in sources):
        return

    def backward(_):
        raise NotImplementedError(
            "narae.GradientTape: the second derivative of this operation is not available: its "
            "first one is a single kernel. Compose it of operations of narae.ops instead."
        )

    record(dx, sources, backward)


def stop_gradient(x) -> Tensor:
    """Returns the values of `x` with no way back for gradients."""
    y = Tensor(convert_to_tensor(x).array)
    y.node = _CONSTANT
    return y


def value_and_grad(f):
    """Returns a function that gives `(f(*tensors), gradients)`, one gradient per argument.

    >>> narae.value_and_grad(lambda x: narae.ops.sum(x * x))([1.0, 2.0])[1].numpy()
    array([2., 4.], dtype=float32)
    """

    @functools.wraps(f)
    def wrapper(*tensors):
        tensors = [_fresh(convert_to_tensor(x)) for x in tensors]
        with GradientTape() as tape:
            tape.watch(tensors)
            value = f(*tensors)
        gradients = tape.gradient(value, tensors, unconnected_gradients="zero")
        return value, gradients[0] if len(gradients) == 1 else tuple(gradients)

    return wrapper


def _fresh(x: Tensor) -> Tensor:
    """Returns another Tensor of the same values: one argument may be given twice."""
    return record(Tensor(x.array), (x,), lambda dy: (dy,))


def grad(f):
    """Returns a function that gives the gradient of `f`, one for each argument.

    >>> float(narae.grad(lambda x: x**3)(2.0))
    12.0
    """
    with_value = value_and_grad(f)

    @functools.wraps(f)
    def wrapper(*tensors):
        return with_value(*tensors)[1]

    return wrapper


def custom_gradient(f):
    """Gives a function its own gradient: `f(*args)` returns `(y, backward)`.

    `backward(dy)` returns the gradient for each argument (a single one, or a tuple). Nothing inside
    `f` is recorded.

    >>> @narae.ops.custom_gradient
    ... def clipped_identity(x):
    ...     return x, lambda dy: narae.ops.clip(dy, -1.0, 1.0)
    """

    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        inputs = tuple(convert_to_tensor(x) for x in args)
        with no_gradients():
            y, backward = f(*inputs, **kwargs)
        outputs = tuple(Tensor(t.array) for t in y) if isinstance(y, tuple) else Tensor(y.array)

        def all_inputs(*dys):
            gradients = backward(*dys)
            return tuple(gradients) if isinstance(gradients, (tuple, list)) else (gradients,)

        return record(outputs, inputs, all_inputs)

    return wrapper
