"""Ready-made optimizers whose steps need a whole variable at once: made of ops, not one kernel."""

from typing import Any

from narae import ops
from narae.engine.tensor import Tensor
from narae.engine.variable import Variable
from narae.optimizers.optimizer import Optimizer


class Lamb(Optimizer):
    """Adam whose step has, for each variable, the length of its weights times the learning rate.

    With `m` and `v` as in `Adam`, `d = m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)`
    and `w -= lr * |w| / |d| * d`.

    Source: You et al., 2019, arXiv:1904.00962.

    Args:
        learning_rate: a number, schedule or function.
        beta_1: decay of the mean of gradients.
        beta_2: decay of the mean of squares.
        epsilon: keeps the divisor from zero.
        **kwargs: those of `Optimizer`: `weight_decay`, `clipnorm`, ...
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables: list[Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        m.assign_add((gradient - m) * (1 - self.beta_1))
        v.assign_add((ops.square(gradient) - v) * (1 - self.beta_2))
        t = ops.cast(self.iterations + 1, variable.dtype)
        step = m / (1 - ops.power(self.beta_1, t))
        step = step / (ops.sqrt(v / (1 - ops.power(self.beta_2, t))) + self.epsilon)
        lengths = [ops.sqrt(ops.sum(ops.square(x))) for x in (variable, step)]
        both = ops.logical_and(ops.greater(lengths[0], 0), ops.greater(lengths[1], 0))
        ratio = ops.where(both, ops.divide_no_nan(*lengths), 1.0)
        variable.assign_sub(step * (ratio * learning_rate))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


class Adafactor(Optimizer):
    """Adam without a mean of gradients, whose mean of squares is kept as rows times columns.

    For matrices `v = r c^T / mean(r)`, r and c the running means of `g^2 + epsilon_1` over columns
    and rows, with the decay `1 - t^beta_2_decay`; then `u = g / sqrt(v)` and
    `w -= max(epsilon_2, rms(w)) * min(lr, 1 / sqrt(t)) * u / max(1, rms(u) / clip_threshold)`.

    Source: Shazeer and Stern, 2018, arXiv:1804.04235.

    Args:
        learning_rate: a number, schedule or function.
        beta_2_decay: how fast the running means slow down.
        epsilon_1: added to squares.
        epsilon_2: the smallest scale of a step.
        clip_threshold: the largest root mean square of `u`.
        relative_step: whether the rate is `1 / sqrt(t)` at most.
        **kwargs: those of `Optimizer`: `weight_decay`, `clipnorm`, ...
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
        weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.beta_2_decay = beta_2_decay
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2
        self.clip_threshold = clip_threshold
        self.relative_step = relative_step

    def build(self, variables: list[Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._rows: list[Variable] = []
        self._columns: list[Variable] = []
        self._velocities: list[Variable] = []
        for variable in variables:
            shape, dtype = variable.shape, variable.dtype
            shapes = [shape[:-1], (*shape[:-2], shape[-1])] if variable.ndim >= 2 else [(), ()]
            if variable.ndim < 2:
                dtype = "int32"  # without a use, but in Keras's files
            for slots, slot_shape in zip((self._rows, self._columns), shapes):
                slots.append(self.add_variable(slot_shape, dtype=dtype, name=variable.name))
            self._velocities.append(self.add_variable_from_reference(variable, "velocity"))

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        index = self._get_variable_index(variable)
        rows, columns, v = self._rows[index], self._columns[index], self._velocities[index]
        t = ops.cast(self.iterations + 1, variable.dtype)
        rest = ops.power(t, self.beta_2_decay)  # one minus the decay of the running means
        square = ops.square(gradient) + self.epsilon_1
        if variable.ndim < 2:
            v.assign_add((square - v) * rest)
        else:
            rows.assign_add((ops.mean(square, axis=-1) - rows) * rest)
            columns.assign_add((ops.mean(square, axis=-2) - columns) * rest)
            part = rows / ops.mean(rows, axis=-1, keepdims=True)
            v.assign(ops.expand_dims(part, -1) * ops.expand_dims(columns, -2))
        step = gradient / ops.sqrt(v)
        step = step / ops.maximum(1.0, _rms(step) / self.clip_threshold)
        rate = ops.minimum(learning_rate, 1.0 / ops.sqrt(t))
        variable.assign_sub(step * (ops.maximum(self.epsilon_2, _rms(variable)) * rate))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_2_decay": self.beta_2_decay,
            "epsilon_1": self.epsilon_1,
            "epsilon_2": self.epsilon_2,
            "clip_threshold": self.clip_threshold,
            "relative_step": self.relative_step,
        }


def _rms(x: Tensor) -> Tensor:
    return ops.sqrt(ops.mean(ops.square(x)))
