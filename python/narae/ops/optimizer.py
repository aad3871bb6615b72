"""Optimizer updates: the variables of one dtype in flat memory, and their kernels.

Of bfloat16 variables only the weights are bfloat16. An update computes in float32, with gradients
and slots of float32, and rounds the weights.
"""

import contextlib

import numpy as np

from narae import _core
from narae.engine.tensor import Tensor
from narae.engine.variable import Variable
from narae.ops.gemm import Product

_ALIGNMENT = 64  # bytes: a segment starts where a SIMD register may start
HYPER_SIZE = 9  # see cpp/kernels/optimizer.h


class FlatGroup:
    """The variables of one dtype as segments of one flat array.

    Args:
        variables: at least one. They move into the flat array, unless they lie in one already
            in this order (a second optimizer of the same model).
        hyper: float64 array of `HYPER_SIZE` numbers that every update reads.
        learning_rate: float32 scalar variable.
        iteration: int64 scalar variable, the steps done.
        every: gradients of so many steps make one update.
    """

    def __init__(
        self,
        variables: list[Variable],
        hyper: np.ndarray,
        learning_rate: Variable,
        iteration: Variable,
        every: int = 1,
    ) -> None:
        self.variables = list(variables)
        self.dtype = self.variables[0].array.dtype
        step = _ALIGNMENT // self.dtype.itemsize
        sizes = [v.size for v in self.variables]
        lengths = [-(-size // step) * step for size in sizes]
        begins = np.cumsum([0, *lengths[:-1]])
        # Per variable: first element, size, whether its weights decay.
        self.layout = np.stack([begins, sizes, np.ones_like(sizes)], axis=1).astype("int64")
        self.layout = np.ascontiguousarray(self.layout)
        self.size = int(sum(lengths))
        self.w = self._lying_flat()
        if self.w is None:
            self.w = self.gather(self.variables)
        self._homes = [v.array for v in self.variables]
        self.slots: list[np.ndarray | None] = []
        self.accumulated: list[np.ndarray] = []
        self.average: np.ndarray | None = None
        self.product: Variable | None = None  # nadam's
        self._shared = (hyper, learning_rate.array, iteration.array, every)

    def gather(self, variables: list[Variable]) -> np.ndarray:
        """Moves variables of the group's shapes into a fresh flat array and returns it."""
        flat = _core.empty((self.size,), variables[0].array.dtype)
        flat.fill(0)
        for variable, (begin, size, _) in zip(variables, self.layout):
            variable.move_to(flat[begin : begin + size].reshape(variable.shape))
        return flat

    def _lying_flat(self) -> np.ndarray | None:
        """Returns the part of a flat array that the variables are the segments of, if they are."""
        flat = self.variables[0].array.base
        if not isinstance(flat, np.ndarray) or flat.dtype != self.dtype or flat.ndim != 1:
            return None
        start = (_address(self.variables[0].array) - _address(flat)) // self.dtype.itemsize
        part = flat[start : start + self.size]
        if part.size != self.size:
            return None
        for variable, (begin, _, _) in zip(self.variables, self.layout):
            there = _address(part) + begin * self.dtype.itemsize
            if variable.array.base is not flat or _address(variable.array) != there:
                return None
        return part

    def settle(self) -> None:
        """Takes the variables back, should they have moved since."""
        if any(v.array is not home for v, home in zip(self.variables, self._homes)):
            for variable, home in zip(self.variables, self._homes):
                if variable.array is not home:
                    variable.move_to(home)

    @contextlib.contextmanager
    def _weights(self):
        """The flat weights as kernels take them."""
        if self.dtype.name != "bfloat16":
            yield self.w
        else:
            w = _core.cast(self.w, np.dtype("float32"))
            yield w
            _core.assign(self.w, _core.cast(w, self.dtype))

    def for_kernels(self, gradients: list[Tensor | None]) -> list:
        """Returns gradients, one per variable, as kernels take them: an array, factors, or None.

        A product of which a variable itself is a factor is multiplied out: updates would change it.
        """

        def form(gradient):
            factors = gradient.factors if isinstance(gradient, Product) else None
            if factors and not any(np.may_share_memory(self.w, factor) for factor in factors):
                return factors
            return None if gradient is None else gradient.array

        return [form(gradient) for gradient in gradients]

    def clip(self, gradients: list, limit: float, together: bool) -> np.ndarray:
        """Returns a factor per gradient that brings its norm, or that of all, down to `limit`."""
        with self._weights() as w:
            return _core.clip_gradients(
                w, self.layout, gradients, [], *self._shared, None, None, limit, together
            )

    def accumulate(self, gradients: list) -> list:
        """Adds gradients to the accumulators and returns these, None where there is none."""
        if not self.accumulated:
            return gradients
        _core.accumulate_gradients(
            self.accumulated[0].base, self.layout, gradients, [], *self._shared, None, None
        )
        return [None if g is None else total for g, total in zip(gradients, self.accumulated)]

    def update(self, rule: str, gradients: list, scale: np.ndarray | None = None) -> None:
        """Updates weights and slots.

        Args:
            rule: `"adam"`, ...: the name of a kernel in cpp/kernels/optimizer.h.
            gradients: per variable an array, two factors `x` and `dy` of `x^T dy`, or None to
                leave that variable as it is.
            scale: what `clip` gave.
        """
        product = None if self.product is None else self.product.array
        with self._weights() as w:
            arguments = w, self.layout, gradients, self.slots, *self._shared, scale, product
            if product is not None:
                _core.nadam_product(*arguments)
            getattr(_core, f"{rule}_update")(*arguments)

    def update_average(self, overwrite_every: int) -> None:
        """Advances the weights' average; each overwrite_every-th time (0: never) copies it."""
        none = [None] * len(self.variables)
        with self._weights() as w:
            _core.average_weights(
                w, self.layout, none, [], *self._shared, None, None, self.average, overwrite_every
            )


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
