"""What `compile` was given, matched with the outputs of the model: losses and metrics."""

from typing import Any, NamedTuple

import numpy as np

from narae import losses as losses_module
from narae import metrics as metrics_module
from narae import ops
from narae.engine import tree
from narae.losses.loss import LossFunctionWrapper


def flatten_outputs(y_pred, output_names) -> tuple[list, list]:
    """Returns (names, flat outputs); a dict of outputs goes in the order of the model's names."""
    if isinstance(y_pred, dict) and not any(tree.is_nested(y) for y in y_pred.values()):
        if output_names and set(output_names) == set(y_pred):
            names = list(output_names)
        else:
            names = sorted(y_pred)
        return names, [y_pred[name] for name in names]
    flat = tree.flatten(y_pred)
    if output_names and len(output_names) == len(flat):
        return list(output_names), flat
    return [None] * len(flat), flat


def match_outputs(what: str, y, names: list, wanted: list | None = None) -> list:
    """Returns the parts of `y` (targets or weights) that belong to each output.

    Args:
        what: name of the argument, for messages.
        y: one array, a list or tuple, or a dict by output name.
        names: the names of the outputs.
        wanted: positions of the outputs that have a loss; targets may be given for them alone.
    """
    if y is None:
        return [None] * len(names)
    if not tree.is_nested(y):
        parts = [y]
    elif isinstance(y, dict) and (known := [n for n in names if n in y]):
        unknown = sorted(set(map(str, y)) - set(map(str, names)))
        if unknown:
            raise ValueError(
                f"narae.Model: expected the keys of {what} to be names of outputs, {names}. "
                f"Received: {', '.join(unknown)}"
            )
        return [y[name] if name in known else None for name in names]
    else:
        parts = tree.flatten(y)
    if len(parts) == len(names):
        return parts
    if wanted is not None and len(parts) == len(wanted):
        places = dict(zip(wanted, parts))
        return [places.get(i) for i in range(len(names))]
    raise ValueError(
        f"narae.Model: expected {what} for {len(names)} output(s){_named(names)}. "
        f"Received: {len(parts)}"
    )


def _named(names: list) -> str:
    return f" ({', '.join(names)})" if all(names) else ""


def _per_output(what: str, given, names: list, several: bool) -> list:
    """Spreads an argument of compile over the outputs: one for all, a list, or a dict by name."""
    count = len(names)
    if isinstance(given, dict):
        unknown = sorted(set(given) - set(names)) if all(names) else []
        if unknown and not (count == 1 and len(given) == 1):
            raise ValueError(
                f"narae.Model.compile: expected the keys of {what} to be names of outputs, "
                f"{names}. Received: {', '.join(map(str, unknown))}"
            )
        if count == 1:
            return list(given.values()) or [None]
        return [given.get(name) for name in names]
    if isinstance(given, (list, tuple)):
        if count == 1 and not several:
            return [given]
        flat = given if len(given) == count else tree.flatten(given)
        if len(flat) != count:
            raise ValueError(
                f"narae.Model.compile: expected {what} with one entry for each of the {count} "
                f"outputs{_named(names)}. Received: {len(flat)}"
            )
        return list(flat)
    return [given] * count


def _is_binary_or_sparse(y_true, y_pred) -> tuple[bool, bool]:
    true, pred = tuple(y_true.shape), tuple(y_pred.shape)
    binary = bool(pred) and pred[-1] == 1
    sparse = len(true) < len(pred) or (bool(true) and true[-1] == 1 and pred[-1] != 1)
    return binary, sparse


def _name_of(thing) -> str:
    return getattr(thing, "name", None) or getattr(thing, "__name__", type(thing).__name__)


def get_loss(identifier, y_true, y_pred):
    """Returns the Loss object for one output; "crossentropy" picks by the shapes."""
    if identifier is None:
        return None
    loss = identifier
    if str(identifier).lower() in ("crossentropy", "ce"):
        binary, sparse = _is_binary_or_sparse(y_true, y_pred)
        kind = "binary" if binary else "sparse_categorical" if sparse else "categorical"
        loss = getattr(losses_module, f"{kind}_crossentropy")
    else:
        loss = losses_module.get(identifier)
    if not isinstance(loss, losses_module.Loss):
        name = identifier if isinstance(identifier, str) else _name_of(loss)
        loss = LossFunctionWrapper(loss, name=name)
    return loss


def get_metric(identifier, y_true, y_pred):
    """Returns the Metric object for one output, named as the user named it."""
    if identifier is None:
        return None
    if str(identifier).lower() in ("accuracy", "acc"):
        binary, sparse = _is_binary_or_sparse(y_true, y_pred)
        kind = "Binary" if binary else "SparseCategorical" if sparse else "Categorical"
        return getattr(metrics_module, f"{kind}Accuracy")(name=str(identifier))
    if str(identifier).lower() in ("crossentropy", "ce"):
        binary, sparse = _is_binary_or_sparse(y_true, y_pred)
        kind = "Binary" if binary else "SparseCategorical" if sparse else "Categorical"
        return getattr(metrics_module, f"{kind}Crossentropy")(name=str(identifier))
    metric = metrics_module.get(identifier)
    name = identifier if isinstance(identifier, str) else _name_of(metric)
    if not isinstance(metric, metrics_module.Metric):
        metric = metrics_module.MeanMetricWrapper(metric, name=name)
    metric.name = name
    return metric


class _Entry(NamedTuple):
    """The loss of one output."""

    output: int
    loss: Any
    weight: Any
    tracker: Any  # the mean of this loss alone, when there are several


class CompiledLoss:
    """The losses of all outputs and their weighted sum.

    Args:
        loss: a loss, or a list or dict of losses, one per output; None for no loss.
        loss_weights: factors of the losses, in the same form.
        output_names: names of the model's outputs, if it has any.
    """

    def __init__(self, loss, loss_weights=None, output_names=None):
        if loss_weights is not None and not isinstance(
            loss_weights, (list, tuple, dict, float, int)
        ):
            raise ValueError(
                "narae.Model.compile: expected loss_weights to be a number, a list or a dict. "
                f"Received: loss_weights={loss_weights!r}"
            )
        self._loss = loss
        self._loss_weights = loss_weights
        self._output_names = output_names
        self.entries: list[_Entry] = []
        self.built = False

    @property
    def metrics(self) -> list:
        return [entry.tracker for entry in self.entries if entry.tracker is not None]

    def build(self, y_true, y_pred) -> None:
        """Finds the losses for outputs and targets of these shapes."""
        names, outputs = flatten_outputs(y_pred, self._output_names)
        losses = _per_output("loss", self._loss, names, several=True)
        wanted = [i for i, loss in enumerate(losses) if loss is not None]
        targets = match_outputs("y", y_true, names, wanted)
        weights = _per_output("loss_weights", self._loss_weights, names, several=True)
        entries = []
        for i, (loss, weight) in enumerate(zip(losses, weights)):
            if loss is not None and targets[i] is None:
                about = f"output '{names[i]}'" if names[i] else f"output {i}"
                raise ValueError(
                    f"narae.Model: expected targets for {about}, which has the loss "
                    f"{_name_of(loss) if not isinstance(loss, str) else loss!r}. Received: y=None"
                )
            found = get_loss(loss, targets[i], outputs[i])
            if found is not None:
                entries.append(_Entry(i, found, weight, None))
        if len(entries) > 1:
            entries = [
                e._replace(
                    tracker=metrics_module.Mean(name=f"{names[e.output] or e.loss.name}_loss")
                )
                for e in entries
            ]
        self.entries = entries
        self._wanted = wanted
        self.built = True

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Returns the weighted sum of the losses, or None when there are none."""
        if not self.built:
            self.build(y_true, y_pred)
        names, outputs = flatten_outputs(y_pred, self._output_names)
        targets = match_outputs("y", y_true, names, self._wanted)
        if sample_weight is not None and not tree.is_nested(sample_weight):
            weights = [sample_weight] * len(outputs)
        else:
            weights = match_outputs("sample_weight", sample_weight, names, self._wanted)
        total = None
        for output, loss, factor, tracker in self.entries:
            value = loss(targets[output], outputs[output], weights[output])
            if tracker is not None:
                add_to_mean(tracker, value, outputs[output].shape[0])
            if factor is not None:
                value = value * float(factor)
            total = value if total is None else total + value
        return total

    def check_labels(self, y_true, y_pred) -> None:
        """Raises ValueError when class labels do not fit the loss or the number of classes.

        Args:
            y_true: all the targets, as arrays.
            y_pred: the outputs, symbolic.
        """
        names, outputs = flatten_outputs(y_pred, self._output_names)
        targets = match_outputs("y", y_true, names, self._wanted)
        for entry in self.entries:
            kind = _crossentropy_kind(entry.loss)
            y, shape = targets[entry.output], tuple(outputs[entry.output].shape)
            if kind and y is not None and shape and shape[-1] is not None:
                about = f" of output '{names[entry.output]}'" if len(names) > 1 else ""
                _check_labels(kind, entry.loss, np.asarray(y), shape, about)


def _crossentropy_kind(loss) -> str:
    name = type(loss).__name__
    if isinstance(loss, LossFunctionWrapper) and name == "LossFunctionWrapper":
        name = "".join(part.title() for part in getattr(loss.fn, "__name__", "").split("_"))
    known = ("SparseCategoricalCrossentropy", "CategoricalCrossentropy")
    return name if name in known else ""


def _check_labels(kind: str, loss, y: np.ndarray, shape: tuple, about: str) -> None:
    classes = shape[-1]
    if kind == "CategoricalCrossentropy":
        squeezed = y.shape[:-1] if y.ndim == len(shape) and y.shape[-1] == 1 else y.shape
        if classes > 1 and len(squeezed) == len(shape) - 1:
            raise ValueError(
                f"narae.losses.CategoricalCrossentropy: expected one-hot labels{about} of shape "
                f"{('batch', *shape[1:])}. Received: y.shape={y.shape} (class numbers). Use "
                'loss="sparse_categorical_crossentropy", or turn the labels into one-hot rows with '
                f"narae.utils.to_categorical(y, {classes})."
            )
        return
    if getattr(loss, "axis", -1) not in (-1, len(shape) - 1) or not y.size:
        return
    if y.ndim == len(shape) and y.shape[-1] != 1 and y.shape[-1] == classes:
        raise ValueError(
            "narae.losses.SparseCategoricalCrossentropy: expected class numbers"
            f"{about}, one integer per sample. Received: y.shape={y.shape} (one-hot rows). Use "
            'loss="categorical_crossentropy", or y.argmax(-1).'
        )
    low, high = y.min(), y.max()
    ignored = getattr(loss, "ignore_class", None)
    if ignored is not None and (low < 0 or high >= classes):
        rest = y[y != ignored]
        if not rest.size:
            return
        low, high = rest.min(), rest.max()
    if low < 0 or high >= classes:
        raise ValueError(
            "narae.losses.SparseCategoricalCrossentropy: expected labels"
            f"{about} from 0 to {classes - 1}, because the output has {classes} unit(s). "
            f"Received: labels from {low} to {high}. "
            + (
                f"Number the classes from 0 (y - {low})."
                if low > 0 and high - low < classes
                else f"Give the last layer {int(high) + 1} units, or correct the labels."
                if low >= 0
                else "Labels must not be negative."
            )
        )


def add_to_mean(mean, value, count: int) -> None:
    """Adds a batch's mean `value` over `count` samples to a Mean metric."""
    mean.total.assign_add(value * float(count))
    mean.count.assign_add(float(count))


class CompiledMetrics:
    """The metrics of all outputs.

    Args:
        metrics: a list, or lists or a dict of lists by output; not affected by sample weights.
        weighted_metrics: likewise, weighted by the sample weights.
        output_names: names of the model's outputs, if it has any.
    """

    name = "compile_metrics"

    def __init__(self, metrics, weighted_metrics, output_names=None):
        for what, given in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if given and not isinstance(given, (list, tuple, dict)):
                raise ValueError(
                    f"narae.Model.compile: expected {what} to be a list or dict. "
                    f"Received: {what}={given!r}"
                )
        self._given = (metrics, weighted_metrics)
        self._output_names = output_names
        self._plain: list[list] = []  # one list of metrics per output
        self._weighted: list[list] = []
        self._named: dict[str, Any] = {}
        self.built = False

    @property
    def metrics(self) -> list:
        return [m for group in (*self._plain, *self._weighted) for m in group]

    @property
    def variables(self) -> list:
        return [v for metric in self.metrics for v in metric.variables]

    def build(self, y_true, y_pred) -> None:
        """Makes the metrics for outputs and targets of these shapes, and gives them names."""
        names, outputs = flatten_outputs(y_pred, self._output_names)
        targets = match_outputs("y", y_true, names, None if y_true is None else self._wanted(names))
        sets = []
        for what, given in zip(("metrics", "weighted_metrics"), self._given):
            groups = self._groups(what, given, names)
            sets.append(
                [
                    [get_metric(m, y, p) for m in tree.flatten(group) if m is not None]
                    for group, y, p in zip(groups, targets, outputs)
                ]
            )
        self._plain, self._weighted = sets
        self._named = self._names(names)
        self.built = True

    def _groups(self, what: str, given, names: list) -> list:
        if not given:
            return [[]] * len(names)
        if len(names) == 1:
            return [tree.flatten(given)]
        return _per_output(what, given, names, several=True)

    def _wanted(self, names: list) -> list:
        """Positions of the outputs that have metrics."""
        pairs = zip(*(self._groups(w, g, names) for w, g in zip("mw", self._given)))
        return [
            i for i, (a, b) in enumerate(pairs) if tree.flatten(a or []) or tree.flatten(b or [])
        ]

    def _names(self, output_names: list) -> dict:
        named, counts = {}, {}
        several = len(output_names) > 1
        for prefix, groups in (("", self._plain), ("weighted_", self._weighted)):
            for output, group in zip(output_names, groups):
                start = f"{output}_" if several and output else ""
                for metric in group:
                    name = start + metric.name
                    if name in counts and prefix:
                        name = f"{start}{prefix}{metric.name}"
                    if name in counts:
                        counts[name] += 1
                        name = f"{name}_{counts[name] - 1}"
                    else:
                        counts[name] = 1
                    named[name] = metric
        return named

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:
        """Adds a batch to every metric."""
        if not self.built:
            self.build(y_true, y_pred)
        names, outputs = flatten_outputs(y_pred, self._output_names)
        targets = match_outputs("y", y_true, names, None if y_true is None else self._wanted(names))
        for group, y, p in zip(self._plain, targets, outputs):
            for metric in group:
                metric.update_state(y, p)
        if not any(self._weighted):
            return
        if sample_weight is not None and not tree.is_nested(sample_weight):
            weights = [sample_weight] * len(outputs)
        else:
            weights = match_outputs("sample_weight", sample_weight, names, self._wanted(names))
        for group, y, p, w in zip(self._weighted, targets, outputs, weights):
            for metric in group:
                metric.update_state(y, p, sample_weight=w)

    def reset_state(self) -> None:
        for metric in self.metrics:
            metric.reset_state()

    def result(self) -> dict:
        """Returns the values so far by name."""
        return {name: metric.result() for name, metric in self._named.items()}


def total_loss(losses: list):
    """Returns the sum of scalar losses, or zero."""
    total = None
    for loss in losses:
        loss = ops.sum(loss) if loss.ndim else loss
        total = loss if total is None else total + loss
    return ops.zeros(()) if total is None else total
