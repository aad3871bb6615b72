"""The base of every optimizer: flat memory, clipping, weight decay, averages, accumulation."""

import re
import warnings
from typing import Any

import numpy as np

from narae import initializers, ops
from narae.engine import lookup, naming, recording
from narae.engine.tape import no_gradients
from narae.engine.tensor import Tensor, convert_to_tensor
from narae.engine.variable import Variable
from narae.ops.optimizer import HYPER_SIZE, FlatGroup
from narae.optimizers.schedules import LearningRateSchedule


class Optimizer:
    """The base class of optimizers.

    Before an update, gradients are divided by `loss_scale_factor`, clipped, and weights shrink by
    `weight_decay * learning_rate` of themselves (decoupled weight decay).

    Args:
        learning_rate: a number, a `schedules.LearningRateSchedule`, or a function without
            arguments.
        weight_decay: part of a weight, times the learning rate, that each update takes away.
        clipnorm: the largest norm of each variable's gradient.
        clipvalue: the largest absolute value in a gradient.
        global_clipnorm: the largest norm of all gradients together.
        use_ema: whether an exponential moving average of the weights is kept.
        ema_momentum: `average = ema_momentum * average + (1 - ema_momentum) * weight`.
        ema_overwrite_frequency: every so many updates the weights become their average; otherwise
            only at the end of `fit`.
        loss_scale_factor: what the loss was multiplied by (see `scale_loss`).
        gradient_accumulation_steps: the mean gradient of so many steps makes one update.
        name: the optimizer's name.

    A subclass of one's own writes `build`, which adds slots, and `update_step`:

    >>> class SignDescent(narae.optimizers.Optimizer):
    ...     def update_step(self, gradient, variable, learning_rate):
    ...         variable.assign_sub(learning_rate * narae.ops.sign(gradient))
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        who = f"narae.optimizers.{type(self).__name__}"
        kwargs.pop("decay", None)  # Keras 2's, ignored
        if kwargs:
            raise ValueError(f"{who}: unknown arguments. Received: {kwargs}")
        clips = {
            "clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm
        }  # fmt: skip
        given = {key: value for key, value in clips.items() if value is not None}
        if len(given) > 1:
            raise ValueError(
                f"{who}: expected one of clipnorm, clipvalue and global_clipnorm. Received: {given}"
            )
        for key, value in given.items():
            if not value > 0:
                raise ValueError(f"{who}: expected {key} to be positive. Received: {key}={value!r}")
        if gradient_accumulation_steps is not None and gradient_accumulation_steps < 2:
            raise ValueError(
                f"{who}: expected gradient_accumulation_steps to be an integer from 2 on. "
                f"Received: gradient_accumulation_steps={gradient_accumulation_steps!r}"
            )
        if not 0 <= ema_momentum <= 1:
            raise ValueError(
                f"{who}: expected ema_momentum in [0, 1]. Received: ema_momentum={ema_momentum!r}"
            )
        if ema_overwrite_frequency is not None and (
            not isinstance(ema_overwrite_frequency, int) or ema_overwrite_frequency < 1
        ):
            raise ValueError(
                f"{who}: expected ema_overwrite_frequency to be a positive integer or None. "
                f"Received: ema_overwrite_frequency={ema_overwrite_frequency!r}"
            )
        self.name = name or naming.auto_name(type(self).__name__)
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.built = False
        self._variables: list[Variable] = []
        self._trainable_variables: list[Variable] = []
        self._groups: list[FlatGroup] = []
        self._averages: list[Variable] = []
        self._no_decay: tuple[set[int], str | None] = (set(), None)
        self._hyper = np.zeros(HYPER_SIZE)
        self._iterations = self.add_variable((), dtype="int64", name="iteration")
        is_schedule = isinstance(learning_rate, LearningRateSchedule) or callable(learning_rate)
        if not is_schedule and (
            isinstance(learning_rate, bool)
            or not isinstance(learning_rate, (int, float, np.number))
        ):
            raise ValueError(
                f"{who}: expected learning_rate to be a number, a LearningRateSchedule or a "
                f"function. Received: learning_rate={learning_rate!r}"
            )
        with naming.name_scope(self.name):
            self._rate = Variable(
                0.0 if is_schedule else float(learning_rate),
                dtype="float32",
                trainable=False,
                name="learning_rate",
            )
        # As in Keras: the schedule or function if there is one, else the variable.
        self._learning_rate = learning_rate if is_schedule else self._rate
        if not is_schedule:
            self._variables.append(self._rate)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if self.__dict__.get("built") and name[0] != "_" and name != "learning_rate":
            # A hyperparameter changed: recorded steps read it from memory or have it built in.
            self._write_hyper()
            recording.invalidate()

    # ---- state ----

    @property
    def variables(self) -> list[Variable]:
        """The state: iteration, learning rate, averages, accumulators, slots."""
        return list(self._variables)

    @property
    def iterations(self) -> Tensor:
        """The number of updates done."""
        if self.gradient_accumulation_steps:
            return ops.floor_divide(self._iterations, self.gradient_accumulation_steps)
        return self._iterations

    @property
    def learning_rate(self) -> Variable:
        """The learning rate of the next step; a number, schedule or function may be set."""
        if not recording.is_recording():
            self.update_learning_rate()
        return self._rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(value, LearningRateSchedule) or callable(value):
            self._learning_rate = value
            self._variables = [v for v in self._variables if v is not self._rate]
        elif isinstance(self._learning_rate, LearningRateSchedule):
            raise TypeError(
                f"narae.optimizers.{type(self).__name__}: the learning rate follows "
                f"{type(self._learning_rate).__name__} and cannot be set. Make the optimizer with "
                "a number as learning_rate to set it later."
            )
        else:
            self._rate.assign(value)

    def update_learning_rate(self) -> None:
        """Writes the learning rate that a schedule or function gives for the next step.

        `apply` does it by itself; a recorded step, which runs no Python, needs it beforehand.
        """
        if isinstance(self._learning_rate, LearningRateSchedule):
            self._rate.assign(self._learning_rate(int(self._iterations)))
        elif self._learning_rate is not self._rate:
            self._rate.assign(self._learning_rate())

    def _write_hyper(self) -> None:
        every = self.gradient_accumulation_steps or 1
        values = (
            self.weight_decay or 0.0,
            1.0 / ((self.loss_scale_factor or 1.0) * every),
            self.clipvalue or np.inf,
            self.ema_momentum,
            *self._rule_hyper(),
        )
        self._hyper[: len(values)] = values

    def add_variable(
        self,
        shape: tuple[int, ...],
        initializer: Any = "zeros",
        dtype: Any = None,
        aggregation: str = "none",
        name: str | None = None,
    ) -> Variable:
        """Adds a state variable."""
        with naming.name_scope(self.name):
            variable = Variable(
                initializers.get(initializer),
                shape=tuple(shape),
                dtype=dtype,
                trainable=False,
                aggregation=aggregation,
                name=name,
            )
        self._variables.append(variable)
        return variable

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str | None = None, initializer: Any = "zeros"
    ) -> Variable:
        """Adds a state variable of the shape and dtype of another one, named after it.

        Beside a bfloat16 variable it is float32.
        """
        return self.add_variable(
            reference_variable.shape,
            initializer=initializer,
            dtype=_slot_dtype(reference_variable),
            name=f"{reference_variable.path.replace('/', '_')}_{name or 'var'}",
        )

    def add_optimizer_variables(
        self, trainable_variables: list[Variable], name: Any, initializer: Any = "zeros"
    ) -> Any:
        """Adds one slot, or one for each of several names, for every variable.

        Returns:
            A list of slots; a tuple of lists, if `name` is a list.
        """
        names = [name] if isinstance(name, str) else list(name)
        several = isinstance(initializer, (list, tuple))
        starts = list(initializer) if several else [initializer] * len(names)
        if len(starts) != len(names):
            raise ValueError(
                f"narae.optimizers.{type(self).__name__}: expected one initializer per name. "
                f"Received: name={name!r}, initializer={initializer!r}"
            )
        slots: tuple[list[Variable], ...] = tuple([] for _ in names)
        for variable in trainable_variables:
            for slot, slot_name, start in zip(slots, names, starts):
                slot.append(self.add_variable_from_reference(variable, slot_name, start))
        return slots[0] if isinstance(name, str) else slots

    def build(self, variables: list[Variable]) -> None:
        """Adds the slots and lays variables and slots out flat, one array each per dtype."""
        if self.built:
            return
        variables = list(variables)
        with recording.paused():
            accumulators: list[Variable] = []
            if self.use_ema:
                self._averages = self.add_optimizer_variables(variables, "average")
            if self.gradient_accumulation_steps:
                accumulators = self.add_optimizer_variables(variables, "gradient_accumulator")
            slots = self._make_slots(variables)
            self._trainable_variables = variables
            self._index = {id(v): i for i, v in enumerate(variables)}
            for dtype in dict.fromkeys(v.dtype for v in variables):
                members = [i for i, v in enumerate(variables) if v.dtype == dtype]
                self._add_group(members, slots, accumulators)
            self._write_hyper()
        if self.global_clipnorm is not None and len(self._groups) > 1:
            raise ValueError(
                f"narae.optimizers.{type(self).__name__}: global_clipnorm needs variables of one "
                f"dtype. Received: {[str(g.dtype) for g in self._groups]}"
            )
        self.built = True

    def _add_group(
        self, members: list[int], slots: list[list[Variable] | None], accumulators: list[Variable]
    ) -> None:
        group = FlatGroup(
            [self._trainable_variables[i] for i in members],
            self._hyper,
            self._rate,
            self._iterations,
            self.gradient_accumulation_steps or 1,
        )
        group.layout[:, 2] = [self._decays(v) for v in group.variables]

        def gather(all_of_them: list[Variable]) -> np.ndarray:
            return group.gather([all_of_them[i] for i in members])

        group.slots = [slot and gather(slot) for slot in slots]
        if accumulators:
            gather(accumulators)
            group.accumulated = [accumulators[i].array for i in members]
        if self._averages:
            group.average = gather(self._averages)
        self._groups.append(group)

    # ---- what the ready-made optimizers fill in ----

    _rule: str | None = None  # the kernel's name; without one, update_step is called

    def _make_slots(self, variables: list[Variable]) -> list[list[Variable] | None]:
        """Adds the slots and returns them in the kernel's order."""
        return []

    def _rule_hyper(self) -> tuple[float, ...]:
        """The rule's own hyperparameters in the kernel's order."""
        return ()

    # ---- updates ----

    @property
    def product_slots(self) -> int | None:
        """The slots beside each weight, if kernels' gradients may stay products (`products_kept`).

        None if something other than the update of the ready-made rules reads gradients.
        """
        reads_once = (
            self._rule is not None
            and type(self).apply is Optimizer.apply
            and self.clipnorm is None
            and self.global_clipnorm is None
            and not self.gradient_accumulation_steps
        )
        if not (reads_once and self.built):
            return None
        return sum(slot is not None for slot in self._groups[0].slots)

    def apply_gradients(self, grads_and_vars: Any) -> Tensor:
        """Updates variables by `(gradient, variable)` pairs; returns the number of steps done."""
        grads, variables = zip(*grads_and_vars)
        self.apply(grads, variables)
        return self._iterations

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Updates the variables by their gradients.

        Args:
            grads: one Tensor per variable, of its shape, or `None` to leave it as it is.
            trainable_variables: the variables; by default those that the optimizer was built with.
                The first call builds it.

        Raises:
            ValueError: if there is no gradient at all, a wrong number or shape, or a variable that
                the optimizer was not built with.
        """
        grads = list(grads)
        if not grads:
            return
        who = f"narae.optimizers.{type(self).__name__}.apply"
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not self.built:
                self.build(trainable_variables)
        elif not self.built:
            raise ValueError(f"{who}: expected variables, or build(variables) called before.")
        else:
            trainable_variables = self._trainable_variables
        if len(grads) != len(trainable_variables):
            raise ValueError(
                f"{who}: expected one gradient per variable. Received: {len(grads)} gradients, "
                f"{len(trainable_variables)} variables"
            )
        gradients = self._sort_gradients(grads, trainable_variables, who)
        if not recording.is_recording():
            self.update_learning_rate()
        with no_gradients():
            for group in self._groups:
                group.settle()
            if self._rule is None:
                self._update_by_steps(gradients)
            else:
                self._update_by_kernel(gradients)
            for group in self._groups if self.use_ema else ():
                group.update_average(self.ema_overwrite_frequency or 0)
            for variable, gradient in zip(self._trainable_variables, gradients):
                if variable.constraint is not None and gradient is not None:
                    variable.assign(variable.constraint(variable))
            self._iterations.assign_add(1)

    def _sort_gradients(self, grads: list, variables: list, who: str) -> list[Tensor | None]:
        """Returns the gradients in the order of the variables that the optimizer was built with."""
        gradients: list[Tensor | None] = [None] * len(self._trainable_variables)
        missing = []
        for gradient, variable in zip(grads, variables):
            index = self._index.get(id(variable))
            if index is None:
                raise ValueError(
                    f"{who}: expected variables that the optimizer was built with. Received: "
                    f"'{variable.path}'. Make a new optimizer for other variables."
                )
            if gradient is None:
                missing.append(variable.path)
                continue
            gradient = convert_to_tensor(gradient, dtype=_slot_dtype(variable))
            if gradient.shape != variable.shape:
                raise ValueError(
                    f"{who}: expected a gradient of shape {variable.shape} for '{variable.path}'. "
                    f"Received: gradient.shape={gradient.shape}"
                )
            gradients[index] = gradient
        if len(missing) == len(grads):
            raise ValueError(f"{who}: expected a gradient for some variable. Received: None only")
        if missing:
            warnings.warn(
                f"{who}: no gradients for {missing}. The loss does not depend on them.",
                stacklevel=3,
            )
        return gradients

    def _update_by_kernel(self, gradients: list[Tensor | None]) -> None:
        for group in self._groups:
            own = [gradients[self._index[id(v)]] for v in group.variables]
            arrays = group.accumulate(group.for_kernels(own))
            scale = None
            if self.clipnorm is not None:
                scale = group.clip(arrays, self.clipnorm, together=False)
            elif self.global_clipnorm is not None:
                scale = group.clip(arrays, self.global_clipnorm, together=True)
            group.update(self._rule, arrays, scale)

    def _update_by_steps(self, gradients: list[Tensor | None]) -> None:
        """Updates by the subclass's `update_step`, made of ops."""
        if self.gradient_accumulation_steps:
            raise NotImplementedError(
                f"narae.optimizers.{type(self).__name__}: gradient_accumulation_steps works for "
                "the ready-made optimizers only."
            )
        pairs = [(g, v) for g, v in zip(gradients, self._trainable_variables) if g is not None]
        grads = [g / self.loss_scale_factor if self.loss_scale_factor else g for g, _ in pairs]
        if self.clipvalue is not None:
            grads = [ops.clip(g, -self.clipvalue, self.clipvalue) for g in grads]
        elif self.clipnorm is not None or self.global_clipnorm is not None:
            limit = self.clipnorm or self.global_clipnorm
            squares = [ops.sum(ops.square(g)) for g in grads]
            if self.global_clipnorm is not None:
                squares = [sum(squares[1:], squares[0])] * len(squares)
            norms = [ops.maximum(ops.sqrt(square), limit) for square in squares]
            grads = [g * (limit / norm) for g, norm in zip(grads, norms)]
        for gradient, (_, variable) in zip(grads, pairs):
            rate = ops.cast(self._rate, variable.dtype)
            if self.weight_decay and self._decays(variable):
                variable.assign_sub(variable * (rate * self.weight_decay))
            self.update_step(gradient, variable, rate)

    def _get_variable_index(self, variable: Variable) -> int:
        """The place of a variable among those that the optimizer was built with."""
        return self._index[id(variable)]

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        """Updates one variable; optimizers of one's own write it, made of ops."""
        raise NotImplementedError(f"{type(self).__name__} must implement update_step(...).")

    def assign(self, variable: Variable, value: Any) -> None:
        """Sets a variable, in an `update_step` of one's own."""
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Any) -> None:
        """Adds to a variable, in an `update_step` of one's own."""
        variable.assign_add(value)

    def assign_sub(self, variable: Variable, value: Any) -> None:
        """Subtracts from a variable, in an `update_step` of one's own."""
        variable.assign_sub(value)

    def scale_loss(self, loss: Any) -> Any:
        """Multiplies a loss by `loss_scale_factor`, before its gradients are taken."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    def exclude_from_weight_decay(
        self, var_list: Any = None, var_names: list[str] | None = None
    ) -> None:
        """Keeps variables from weight decay; to be called before the optimizer is built.

        Args:
            var_list: variables.
            var_names: patterns (regular expressions) looked for in variables' names.
        """
        if self.built:
            raise ValueError(
                f"narae.optimizers.{type(self).__name__}.exclude_from_weight_decay: expected a "
                "call before the optimizer is built."
            )
        pattern = "|".join(sorted(set(var_names))) if var_names else None
        self._no_decay = ({id(v) for v in var_list or ()}, pattern)

    def _decays(self, variable: Variable) -> bool:
        excluded, pattern = self._no_decay
        return id(variable) not in excluded and not (pattern and re.search(pattern, variable.name))

    def finalize_variable_values(self, var_list: Any = None) -> None:
        """With `use_ema`, sets the weights to their averages (`fit` does it at its end)."""
        for variable, average in zip(self._trainable_variables, self._averages):
            variable.assign(average)

    # ---- saving ----

    def save_own_variables(self, store: Any) -> None:
        """Writes the state to `store["0"]`, `store["1"]`, ..."""
        for i, variable in enumerate(self._variables):
            value = variable.numpy()
            # Keras's iteration is an int32.
            store[str(i)] = value.astype("int32") if variable is self._iterations else value

    def load_own_variables(self, store: Any) -> None:
        """Reads what `save_own_variables` (or Keras) wrote."""
        if len(store.keys()) != len(self._variables):
            warnings.warn(
                f"narae.optimizers.{type(self).__name__}: the state is not loaded. Expected "
                f"{len(self._variables)} variables. Received: {len(store.keys())}",
                stacklevel=2,
            )
            return
        for i, variable in enumerate(self._variables):
            variable.assign(np.asarray(store[str(i)]))

    def __reduce__(self) -> tuple:
        """Copies and pickles are made anew, in flat memory of their own."""
        places = [i for i, v in enumerate(self._trainable_variables) if not self._decays(v)]
        state = [v.numpy() for v in self._variables]
        variables = self._trainable_variables if self.built else None
        return _restore, (type(self), self.get_config(), variables, places, state)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, as plain values."""
        if self._learning_rate is self._rate:
            learning_rate: Any = float(self._rate)
        else:
            learning_rate = lookup.to_config(self._learning_rate)
        return {
            "name": self.name,
            "learning_rate": learning_rate,
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "loss_scale_factor": self.loss_scale_factor,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "Optimizer":
        """Makes the object that `get_config` described."""
        if isinstance(config.get("learning_rate"), dict):
            from narae.optimizers import schedules

            rate = schedules.deserialize(config["learning_rate"], custom_objects)
            config = {**config, "learning_rate": rate}
        return cls(**config)


def _restore(
    cls: type[Optimizer],
    config: dict[str, Any],
    variables: list[Variable] | None,
    without_decay: list[int],
    state: list[np.ndarray],
) -> Optimizer:
    optimizer = cls.from_config(config)
    if variables is not None:
        optimizer.exclude_from_weight_decay([variables[i] for i in without_decay])
        optimizer.build(variables)
    for variable, value in zip(optimizer._variables, state):
        variable.assign(value)
    return optimizer


def _slot_dtype(variable: Variable) -> str:
    return "float32" if variable.dtype == "bfloat16" else variable.dtype
