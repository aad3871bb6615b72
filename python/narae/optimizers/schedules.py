"""Learning rate schedules: plain functions of the step, computed in Python floats."""

import math
from typing import Any

from narae.engine import lookup


class LearningRateSchedule:
    """The base class of schedules: called with the number of steps done, it gives the rate.

    >>> class Halving(narae.optimizers.schedules.LearningRateSchedule):
    ...     def __call__(self, step):
    ...         return 0.1 * 0.5 ** (int(step) // 1000)
    ...     def get_config(self):
    ...         return {}
    """

    def __call__(self, step: Any) -> float:
        """Gives the learning rate after `step` steps."""
        raise NotImplementedError(f"{type(self).__name__} must implement __call__(step).")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, as plain values."""
        raise NotImplementedError(f"{type(self).__name__} must implement get_config().")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LearningRateSchedule":
        """Makes the object that `get_config` described."""
        return cls(**config)

    def _check_positive(self, **arguments: float) -> None:
        for name, value in arguments.items():
            if not value > 0:
                raise ValueError(
                    f"narae.optimizers.schedules.{type(self).__name__}: expected {name} to be "
                    f"positive. Received: {name}={value!r}"
                )


class ExponentialDecay(LearningRateSchedule):
    """`initial_learning_rate * decay_rate^(step / decay_steps)`.

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: steps per factor `decay_rate`.
        decay_rate: the factor.
        staircase: whether the exponent is rounded down, which gives steps.
        name: a name, kept in the config.

    >>> narae.optimizers.schedules.ExponentialDecay(0.1, decay_steps=100, decay_rate=0.5)(100)
    0.05
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self._check_positive(decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name

    def _turns(self, step: Any) -> float:
        turns = float(step) / self.decay_steps
        return math.floor(turns) if self.staircase else turns

    def __call__(self, step: Any) -> float:
        return self.initial_learning_rate * self.decay_rate ** self._turns(step)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class InverseTimeDecay(ExponentialDecay):
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`.

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: steps per growth of the divisor by `decay_rate`.
        decay_rate: the growth of the divisor.
        staircase: whether `step / decay_steps` is rounded down, which gives steps.
        name: a name, kept in the config.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def __call__(self, step: Any) -> float:
        return self.initial_learning_rate / (1.0 + self.decay_rate * self._turns(step))


class PowerDecay(LearningRateSchedule):
    """`initial_learning_rate / (1 + step / decay_steps)^power`.

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: steps after which the divisor's base is 2, then 3, ...
        power: the exponent; 1 halves the rate after `decay_steps`.
        name: a name, kept in the config.

    >>> narae.optimizers.schedules.PowerDecay(0.1, decay_steps=100)(100)
    0.05
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        power: float = 1.0,
        name: str = "PowerDecay",
    ) -> None:
        self._check_positive(decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.power = power
        self.name = name

    def __call__(self, step: Any) -> float:
        return self.initial_learning_rate / (1.0 + float(step) / self.decay_steps) ** self.power

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "power": self.power,
            "name": self.name,
        }


class PiecewiseConstantDecay(LearningRateSchedule):
    """`values[0]` up to `boundaries[0]` (inclusive), then `values[1]` up to `boundaries[1]`, ...

    Args:
        boundaries: rising step numbers.
        values: rates, one more than boundaries.
        name: a name, kept in the config.

    >>> schedule = narae.optimizers.schedules.PiecewiseConstantDecay([100], [0.1, 0.01])
    >>> schedule(100), schedule(101)
    (0.1, 0.01)
    """

    def __init__(
        self, boundaries: list[float], values: list[float], name: str = "PiecewiseConstant"
    ) -> None:
        if len(values) != len(boundaries) + 1:
            raise ValueError(
                "narae.optimizers.schedules.PiecewiseConstantDecay: expected one value more than "
                f"boundaries. Received: boundaries={boundaries}, values={values}"
            )
        self.boundaries = list(boundaries)
        self.values = list(values)
        self.name = name

    def __call__(self, step: Any) -> float:
        return float(self.values[sum(float(step) > limit for limit in self.boundaries)])

    def get_config(self) -> dict[str, Any]:
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


class PolynomialDecay(LearningRateSchedule):
    """`(initial - end) * (1 - step / decay_steps)^power + end`, the rates at both ends.

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: the step from which the rate stays at the end.
        end_learning_rate: the last rate.
        power: 1 for a straight line.
        cycle: whether the rate rises again after `decay_steps` and falls until the next multiple.
        name: a name, kept in the config.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self._check_positive(decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.name = name

    def __call__(self, step: Any) -> float:
        step, steps = float(step), float(self.decay_steps)
        if self.cycle:
            steps *= max(1.0, math.ceil(step / steps))
        left = (1.0 - min(step, steps) / steps) ** self.power
        return (self.initial_learning_rate - self.end_learning_rate) * left + self.end_learning_rate

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "end_learning_rate": self.end_learning_rate,
            "power": self.power,
            "cycle": self.cycle,
            "name": self.name,
        }


class CosineDecay(LearningRateSchedule):
    """Half a cosine wave down to `alpha * initial_learning_rate`, after an optional linear warmup.

    Warmup goes from `initial_learning_rate` to `warmup_target` in `warmup_steps`; the decay then
    takes `decay_steps` more: `(1 - alpha) * (1 + cos(pi * step / decay_steps)) / 2 + alpha` times
    the target.

    Source: Loshchilov and Hutter, 2016, arXiv:1608.03983.

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: length of the decay.
        alpha: the last rate as a part of the highest.
        name: a name, kept in the config.
        warmup_target: the rate at the end of the warmup; none, no warmup.
        warmup_steps: length of the warmup.

    >>> narae.optimizers.schedules.CosineDecay(0.1, decay_steps=100)(50)
    0.05
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ) -> None:
        self._check_positive(decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.alpha = alpha
        self.name = name
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> float:
        step, start = float(step), self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return start + (self.warmup_target - start) * step / self.warmup_steps
            step, start = step - self.warmup_steps, self.warmup_target
        return start * _half_wave(min(step / self.decay_steps, 1.0), self.alpha)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "alpha": self.alpha,
            "name": self.name,
            "warmup_target": self.warmup_target,
            "warmup_steps": self.warmup_steps,
        }


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decays that start again, each `t_mul` times as long and `m_mul` times as high.

    Source: Loshchilov and Hutter, 2016, arXiv:1608.03983.

    Args:
        initial_learning_rate: the rate at step 0.
        first_decay_steps: length of the first decay.
        t_mul: growth of the length.
        m_mul: growth of the height.
        alpha: the last rate as a part of the highest.
        name: a name, kept in the config.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        self._check_positive(first_decay_steps=first_decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = first_decay_steps
        self.t_mul = t_mul
        self.m_mul = m_mul
        self.alpha = alpha
        self.name = name

    def __call__(self, step: Any) -> float:
        part = float(step) / self.first_decay_steps
        if self.t_mul == 1.0:
            restarts = math.floor(part)
            part -= restarts
        else:
            # The decays end at (t^i - 1) / (t - 1); solved for i.
            restarts = math.floor(math.log(1.0 + part * (self.t_mul - 1.0), self.t_mul))
            length = self.t_mul**restarts
            part = (part - (length - 1.0) / (self.t_mul - 1.0)) / length
        height = self.m_mul**restarts
        wave = 0.5 * height * (1.0 + math.cos(math.pi * part))
        return self.initial_learning_rate * ((1.0 - self.alpha) * wave + self.alpha)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "first_decay_steps": self.first_decay_steps,
            "t_mul": self.t_mul,
            "m_mul": self.m_mul,
            "alpha": self.alpha,
            "name": self.name,
        }


class OneCycle(LearningRateSchedule):
    """One rise to `max_learning_rate` and one long fall far below the start, both half cosines.

    The rate starts at `max_learning_rate / start_factor`, peaks after `warmup_part * total_steps`
    and ends at `max_learning_rate / end_factor`.

    Source: Smith and Topin, 2017, arXiv:1708.07120.

    Args:
        max_learning_rate: the highest rate.
        total_steps: length of the cycle; afterwards the rate stays at the end.
        warmup_part: part of the steps spent rising.
        start_factor: what the highest rate is divided by at the start.
        end_factor: what the highest rate is divided by at the end.
        name: a name, kept in the config.

    >>> schedule = narae.optimizers.schedules.OneCycle(0.1, total_steps=100, start_factor=10.0)
    >>> round(schedule(0), 6), round(schedule(30), 6)
    (0.01, 0.1)
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: float,
        warmup_part: float = 0.3,
        start_factor: float = 25.0,
        end_factor: float = 250000.0,
        name: str = "OneCycle",
    ) -> None:
        self._check_positive(
            total_steps=total_steps, start_factor=start_factor, end_factor=end_factor
        )
        if not 0 <= warmup_part < 1:
            raise ValueError(
                "narae.optimizers.schedules.OneCycle: expected warmup_part in [0, 1). "
                f"Received: warmup_part={warmup_part!r}"
            )
        self.max_learning_rate = max_learning_rate
        self.total_steps = total_steps
        self.warmup_part = warmup_part
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.name = name

    def __call__(self, step: Any) -> float:
        step, peak = float(step), self.warmup_part * self.total_steps
        if step < peak:
            return self.max_learning_rate * _half_wave(1.0 - step / peak, 1.0 / self.start_factor)
        part = min((step - peak) / (self.total_steps - peak), 1.0)
        return self.max_learning_rate * _half_wave(part, 1.0 / self.end_factor)

    def get_config(self) -> dict[str, Any]:
        return {
            "max_learning_rate": self.max_learning_rate,
            "total_steps": self.total_steps,
            "warmup_part": self.warmup_part,
            "start_factor": self.start_factor,
            "end_factor": self.end_factor,
            "name": self.name,
        }


def _half_wave(part: float, floor: float) -> float:
    """Falls from 1 at `part` 0 to `floor` at `part` 1 along half a cosine wave."""
    return (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * part)) + floor


_OBJECTS: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        CosineDecay,
        CosineDecayRestarts,
        ExponentialDecay,
        InverseTimeDecay,
        OneCycle,
        PiecewiseConstantDecay,
        PolynomialDecay,
        PowerDecay,
    )
}

__all__ = ["LearningRateSchedule", "deserialize", "serialize", *_OBJECTS]


def serialize(learning_rate_schedule: LearningRateSchedule) -> Any:
    """Gives the config of a schedule."""
    return lookup.to_config(learning_rate_schedule)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> LearningRateSchedule:
    """Makes a schedule from what `serialize` gave."""
    return lookup.from_config(config, _OBJECTS, custom_objects)
