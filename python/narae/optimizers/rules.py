"""The ready-made optimizers: each names its kernel, its slots and its hyperparameters."""

from typing import Any

from narae.engine.variable import Variable
from narae.initializers import Constant
from narae.optimizers.optimizer import Optimizer


def _check_part(who: str, **arguments: float) -> None:
    for name, value in arguments.items():
        if not 0 <= value <= 1:
            raise ValueError(
                f"narae.optimizers.{who}: expected {name} in [0, 1]. Received: {name}={value!r}"
            )


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted.

    `w -= lr * g`; with momentum `m = momentum * m - lr * g; w += m`, and with Nesterov's
    `w += momentum * m - lr * g`.

    Source: for Nesterov's momentum, Sutskever et al., 2013.

    Args:
        learning_rate: a number, schedule or function.
        momentum: part of the last step that is kept, in [0, 1].
        nesterov: whether to look one step ahead.
        **kwargs: those of `Optimizer`: `weight_decay`, `clipnorm`, ...

    >>> w = narae.Variable([1.0])
    >>> narae.optimizers.SGD(learning_rate=0.1).apply([[2.0]], [w])
    >>> w.numpy()
    array([0.8], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        _check_part("SGD", momentum=momentum)
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.momentum = momentum
        self.nesterov = nesterov

    @property
    def _rule(self) -> str:
        if not self.momentum:
            return "sgd"
        return "nesterov" if self.nesterov else "momentum"

    def _make_slots(self, variables: list[Variable]) -> list[list[Variable] | None]:
        if not self.momentum:
            return []
        return [self.add_optimizer_variables(variables, "momentum")]

    def _rule_hyper(self) -> tuple[float, ...]:
        return (self.momentum,)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}


class Adam(Optimizer):
    """Adam: steps of the running mean of gradients over the root of that of their squares.

    `m += (1 - beta_1) * (g - m); v += (1 - beta_2) * (g^2 - v)`
    `w -= lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)`

    Source: Kingma and Ba, 2014, arXiv:1412.6980; `amsgrad`: Reddi et al., 2018, arXiv:1904.09237.

    Args:
        learning_rate: a number, schedule or function.
        beta_1: decay of the mean of gradients.
        beta_2: decay of the mean of squares.
        epsilon: keeps the divisor from zero; as in Keras it is added after the bias correction.
        amsgrad: whether the largest `v` so far divides.
        **kwargs: those of `Optimizer`: `weight_decay`, `clipnorm`, ...

    >>> w = narae.Variable([1.0])
    >>> narae.optimizers.Adam(learning_rate=0.1).apply([[2.0]], [w])
    >>> w.numpy().round(3)
    array([0.9], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        _check_part(type(self).__name__, beta_1=beta_1, beta_2=beta_2)
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad

    @property
    def _rule(self) -> str:
        return "amsgrad" if self.amsgrad else "adam"

    def _make_slots(self, variables: list[Variable]) -> list[list[Variable] | None]:
        slots = list(self.add_optimizer_variables(variables, ["momentum", "velocity"]))
        if self.amsgrad:
            slots.append(self.add_optimizer_variables(variables, "velocity_hat"))
        return slots

    def _rule_hyper(self) -> tuple[float, ...]:
        return (self.beta_1, self.beta_2, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "amsgrad": self.amsgrad,
        }


class AdamW(Adam):
    """Adam with decoupled weight decay: `w -= lr * weight_decay * w` before each step.

    Source: Loshchilov and Hutter, 2017, arXiv:1711.05101.

    Args:
        learning_rate: a number, schedule or function.
        weight_decay: part of a weight, times the learning rate, that each step takes away.
        beta_1: decay of the mean of gradients.
        beta_2: decay of the mean of squares.
        epsilon: keeps the divisor from zero.
        amsgrad: whether the largest `v` so far divides.
        **kwargs: those of `Optimizer`: `clipnorm`, `use_ema`, ...
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **kwargs: Any,
    ) -> None:
        if weight_decay is None:
            raise ValueError(
                "narae.optimizers.AdamW: expected weight_decay to be a number. "
                "Received: weight_decay=None"
            )
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, **kwargs)


class Nadam(Optimizer):
    """Adam with Nesterov's look ahead.

    With `m` and `v` as in `Adam`, `u(t) = beta_1 * (1 - 0.96^t / 2)` and `p = u(1) * ... * u(t)`:
    `w -= lr * (u(t+1) * m / (1 - p * u(t+1)) + (1 - u(t)) * g / (1 - p))`
    `/ (sqrt(v / (1 - beta_2^t)) + epsilon)`.

    Source: Dozat, 2016, "Incorporating Nesterov momentum into Adam".

    Args:
        learning_rate: a number, schedule or function.
        beta_1: decay of the mean of gradients.
        beta_2: decay of the mean of squares.
        epsilon: keeps the divisor from zero.
        **kwargs: those of `Optimizer`: `weight_decay`, `clipnorm`, ...
    """

    _rule = "nadam"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        _check_part("Nadam", beta_1=beta_1, beta_2=beta_2)
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables: list[Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        # The product of all u(t), see the kernel; each group of one dtype advances its own.
        for group in self._groups:
            group.product = self.add_variable((), "ones", dtype="float64", name="u_product")
        del self._variables[len(self._variables) - len(self._groups) + 1 :]

    def _make_slots(self, variables: list[Variable]) -> list[list[Variable] | None]:
        return list(self.add_optimizer_variables(variables, ["momentum", "velocity"]))

    def _rule_hyper(self) -> tuple[float, ...]:
        return (self.beta_1, self.beta_2, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


class Adamax(Optimizer):
    """Adam with the largest gradient in place of the mean of squares.

    `m += (1 - beta_1) * (g - m); u = max(beta_2 * u, |g|)`
    `w -= lr / (1 - beta_1^t) * m / (u + epsilon)`

    Source: Kingma and Ba, 2014, arXiv:1412.6980, section 7.1.

    Args:
        learning_rate: a number, schedule or function.
        beta_1: decay of the mean of gradients.
        beta_2: decay of the largest gradient.
        epsilon: keeps the divisor from zero.
        **kwargs: those of `Optimizer`: `weight_decay`, `clipnorm`, ...
    """

    _rule = "adamax"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        _check_part("Adamax", beta_1=beta_1, beta_2=beta_2)
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def _make_slots(self, variables: list[Variable]) -> list[list[Variable] | None]:
        return list(self.add_optimizer_variables(variables, ["momentum", "norm"]))

    def _rule_hyper(self) -> tuple[float, ...]:
        return (self.beta_1, self.beta_2, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


class RMSprop(Optimizer):
    """Gradients over the root of the running mean of their squares.

    `v = rho * v + (1 - rho) * g^2; w -= lr * g / sqrt(v + epsilon)`; with momentum the step is
    added to `momentum * m` first, and `centered` takes the squared mean gradient from `v`.

    Source: Tieleman and Hinton, 2012, lecture 6.5.

    Args:
        learning_rate: a number, schedule or function.
        rho: decay of the mean of squares.
        momentum: part of the last step that is kept.
        epsilon: keeps the divisor from zero, inside the root.
        centered: whether the variance of the gradients divides.
        **kwargs: those of `Optimizer`: `weight_decay`, `clipnorm`, ...
    """

    _rule = "rmsprop"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        _check_part("RMSprop", rho=rho, momentum=momentum)
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered

    def _make_slots(self, variables: list[Variable]) -> list[list[Variable] | None]:
        add = self.add_optimizer_variables
        velocities = add(variables, "velocity")
        momentums = add(variables, "momentum") if self.momentum > 0 else None
        means = add(variables, "average_gradient") if self.centered else None
        return [velocities, momentums, means]

    def _rule_hyper(self) -> tuple[float, ...]:
        return (self.rho, self.momentum, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "centered": self.centered,
        }


class Adagrad(Optimizer):
    """Gradients over the root of the sum of all their squares.

    `v += g^2; w -= lr * g / sqrt(v + epsilon)`

    Source: Duchi, Hazan and Singer, 2011, JMLR 12.

    Args:
        learning_rate: a number, schedule or function.
        initial_accumulator_value: where `v` starts.
        epsilon: keeps the divisor from zero, inside the root.
        **kwargs: those of `Optimizer`: `weight_decay`, `clipnorm`, ...
    """

    _rule = "adagrad"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def _make_slots(self, variables: list[Variable]) -> list[list[Variable] | None]:
        start = Constant(self.initial_accumulator_value)
        return [self.add_optimizer_variables(variables, "accumulator", start)]

    def _rule_hyper(self) -> tuple[float, ...]:
        return (self.epsilon,)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }


class Adadelta(Optimizer):
    """Gradients scaled by the running size of past steps over that of past gradients.

    `v = rho * v + (1 - rho) * g^2; d = -sqrt(u + epsilon) / sqrt(v + epsilon) * g`
    `u = rho * u + (1 - rho) * d^2; w += lr * d`

    Source: Zeiler, 2012, arXiv:1212.5701.

    Args:
        learning_rate: a number, schedule or function; the original paper has 1.
        rho: decay of both running means.
        epsilon: keeps the roots from zero.
        **kwargs: those of `Optimizer`: `weight_decay`, `clipnorm`, ...
    """

    _rule = "adadelta"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        _check_part("Adadelta", rho=rho)
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.rho = rho
        self.epsilon = epsilon

    def _make_slots(self, variables: list[Variable]) -> list[list[Variable] | None]:
        names = ["accumulated_grad", "accumulated_delta_var"]
        return list(self.add_optimizer_variables(variables, names))

    def _rule_hyper(self) -> tuple[float, ...]:
        return (self.rho, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rho": self.rho, "epsilon": self.epsilon}


class Ftrl(Optimizer):
    """Follow the regularized leader: sparse weights for large linear models.

    `n = v + g^2; z += g + 2 * l2_shrinkage * w - (n^p - v^p) / lr * w; v = n`
    `w = (clip(z, -l1, l1) - z) / (n^p / lr + 2 * l2 + beta / lr)`, p = -learning_rate_power.

    Source: McMahan et al., 2013, "Ad click prediction".

    Args:
        learning_rate: a number, schedule or function.
        learning_rate_power: zero or less; how the steps shrink.
        initial_accumulator_value: where `v` starts.
        l1_regularization_strength: l1, zero or more; makes weights exactly zero.
        l2_regularization_strength: l2, zero or more.
        l2_shrinkage_regularization_strength: l2 on the gradient's side, zero or more.
        beta: zero or more.
        **kwargs: those of `Optimizer`: `weight_decay`, `clipnorm`, ...
    """

    _rule = "ftrl"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value in (
            ("initial_accumulator_value", initial_accumulator_value),
            ("l1_regularization_strength", l1_regularization_strength),
            ("l2_regularization_strength", l2_regularization_strength),
            ("l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength),
            ("-learning_rate_power", -learning_rate_power),
        ):
            if value < 0:
                raise ValueError(
                    f"narae.optimizers.Ftrl: expected {name} to be zero or more. "
                    f"Received: {name}={value!r}"
                )
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator_value = initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta

    def _make_slots(self, variables: list[Variable]) -> list[list[Variable] | None]:
        starts = [Constant(self.initial_accumulator_value), "zeros"]
        return list(self.add_optimizer_variables(variables, ["accumulator", "linear"], starts))

    def _rule_hyper(self) -> tuple[float, ...]:
        return (
            -self.learning_rate_power,
            self.l1_regularization_strength,
            self.l2_regularization_strength,
            self.l2_shrinkage_regularization_strength,
            self.beta,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "learning_rate_power": self.learning_rate_power,
            "initial_accumulator_value": self.initial_accumulator_value,
            "l1_regularization_strength": self.l1_regularization_strength,
            "l2_regularization_strength": self.l2_regularization_strength,
            "l2_shrinkage_regularization_strength": self.l2_shrinkage_regularization_strength,
            "beta": self.beta,
        }


class Lion(Optimizer):
    """Steps of one size along the sign of a mean gradient.

    `w -= lr * sign(beta_1 * m + (1 - beta_1) * g); m = beta_2 * m + (1 - beta_2) * g`

    Source: Chen et al., 2023, arXiv:2302.06675.

    Args:
        learning_rate: a number, schedule or function; about a tenth of Adam's.
        beta_1: weight of the mean in the step, in (0, 1].
        beta_2: decay of the mean.
        **kwargs: those of `Optimizer`: `weight_decay`, `clipnorm`, ...
    """

    _rule = "lion"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        _check_part("Lion", beta_2=beta_2)
        if not 0 < beta_1 <= 1:
            raise ValueError(
                f"narae.optimizers.Lion: expected beta_1 in (0, 1]. Received: beta_1={beta_1!r}"
            )
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2

    def _make_slots(self, variables: list[Variable]) -> list[list[Variable] | None]:
        return [self.add_optimizer_variables(variables, "momentum")]

    def _rule_hyper(self) -> tuple[float, ...]:
        return (self.beta_1, self.beta_2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2}
