"""A replayed step gives the bits of an eager one, for every layer, forward and backward."""

import warnings

import numpy as np
import pytest

from layer_cases import CASES, arguments_of, inputs_of, make, name_of
from narae import layers, ops
from narae.engine.recording import RecordedStep
from narae.engine.tape import GradientTape
from narae.engine.tree import flatten, map_structure


def step_of(layer, name, call):
    """The outputs of the layer while training, and the gradients of their sum of squares."""
    if "training" in layer._call_info.names:
        call = {**call, "training": True}

    def step(x):
        sources = [v for v in flatten(x) if v.dtype == "float32"]
        with GradientTape() as tape:
            tape.watch(sources)
            y = flatten(layer(*arguments_of(name, x), **call))
            total = sum(ops.sum(v * v) for v in y)
        gradients = tape.gradient(
            total, [*sources, *layer.trainable_variables], unconnected_gradients="zero"
        )
        return [*y, *gradients]

    return step


def batches(shapes):
    x = inputs_of(shapes)
    for i in range(3):
        yield map_structure(lambda v: v if v.dtype != np.float32 else v * (1 + i) + i, x)  # noqa: B023


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_replay(case):
    name, arguments, shapes, call = case
    first = next(batches(shapes))
    eager, recorded = make(layers, name, arguments), make(layers, name, arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for layer in (eager, recorded):
            layer(*arguments_of(name, first), **call)
    for a, b in zip(recorded.variables, eager.variables):  # weights, and the states of generators
        a.assign(b)
    step = RecordedStep(step_of(recorded, name, call))
    eager_step = step_of(eager, name, call)
    for x in batches(shapes):
        expected = [v.numpy().copy() for v in eager_step(map_structure(ops.convert_to_tensor, x))]
        found = step(x)
        assert len(found) == len(expected)
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(a.numpy(), b)
    assert step.recorded and step.reason == ""
    for a, b in zip(recorded.variables, eager.variables):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
