"""Functional, Sequential and subclassed models; cloning."""

import re

import numpy as np
import pytest

import narae
from narae import Input, Model, Sequential, layers, ops
from narae.models import clone_model, model_from_json


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def assert_same(a, b):
    for x, y in zip(narae.tree.flatten(a), narae.tree.flatten(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def two_towers():
    a, b = Input((4,), name="a"), Input((4,), name="b")
    shared = layers.Dense(5, name="shared")
    both = layers.Add(name="both")([shared(a), shared(b)])
    return Model({"a": a, "b": b}, [both, layers.Dense(1, name="head")(both)])


# Functional


def test_layers_are_ordered_by_depth_and_shared_ones_appear_once():
    model = two_towers()
    assert [layer.name for layer in model.layers] == ["a", "b", "shared", "both", "head"]
    assert [w.path for w in model.weights] == [
        "shared/kernel", "shared/bias", "head/kernel", "head/bias",
    ]  # fmt: skip
    assert model.output_names == ["both", "head"]
    assert model.input_shape == {"a": (None, 4), "b": (None, 4)}


@pytest.mark.parametrize("form", ["dict", "reversed dict", "list"])
def test_inputs_by_name_or_order(form):
    model, a, b = two_towers(), numbers(3, 4), numbers(3, 4, seed=1)
    forms = {"dict": {"a": a, "b": b}, "reversed dict": {"b": b, "a": a}, "list": [a, b]}
    both, head = model(forms[form])
    assert both.shape == (3, 5) and head.shape == (3, 1)
    assert_same([both, head], model.predict({"a": a, "b": b}, verbose=0))


def test_calls_agree_with_the_layers():
    x = Input((3,))
    dense = layers.Dense(2)
    model = Model(x, ops.relu(dense(x)) * 2.0 + 1.0)
    data = numbers(5, 3)
    assert_same(model(data), ops.relu(dense(data)) * 2.0 + 1.0)


def test_models_nest_and_share_weights():
    x = Input((3,))
    inner = Model(x, layers.Dense(3, name="inner_dense")(x), name="inner")
    y = Input((3,))
    outer = Model(y, inner(inner(y)))
    data = numbers(2, 3)
    assert_same(outer(data), inner(inner(data)))
    assert len(outer.weights) == 2
    assert [layer.name for layer in outer.layers][1:] == ["inner"]


def test_a_model_of_intermediate_tensors_shares_layers():
    x = Input((3,))
    hidden = layers.Dense(4)(x)
    y = layers.Dense(2)(hidden)
    full, head, features = Model(x, y), Model(hidden, y), Model(x, hidden)
    data = numbers(2, 3)
    assert_same(full(data), head(features(data)))
    assert head.weights[0] is full.weights[2]


def test_outputs_keep_their_structure():
    x = Input((3,))
    model = Model(x, {"double": x * 2.0, "both": (x, x + 1.0)})
    result = model(numbers(2, 3))
    assert set(result) == {"double", "both"} and isinstance(result["both"], tuple)


def test_training_and_mask_flow_through_a_graph():
    x = Input((None,), dtype="int32")
    h = layers.Embedding(10, 4, mask_zero=True)(x)
    model = Model(x, layers.LSTM(3)(h))
    padded = np.array([[1, 2, 0, 0], [3, 4, 5, 6]], "int32")
    assert_same(np.round(model(padded)[:1].numpy(), 5), np.round(model(padded[:1, :2]).numpy(), 5))


def test_an_explicit_training_argument_in_the_graph_wins():
    x = Input((50,))
    model = Model(x, layers.Dropout(0.5)(x, training=True))
    assert (model(np.ones((1, 50), "float32"), training=False).numpy() == 0).any()


def test_input_rank_is_adjusted_where_the_last_axis_is_one():
    x = Input((3, 1))
    model = Model(x, layers.Flatten()(x))
    assert model(numbers(2, 3)).shape == (2, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, y: Model(x, layers.Add()([x, y])), "which is not among the inputs"),
        (lambda x, y: Model(np.ones(3), x), "expected inputs to be symbolic"),
        (lambda x, y: Model(x, 3.0), "expected outputs to be symbolic"),
        (lambda x, y: Model([], x), "at least one tensor in inputs"),
        (
            lambda x, y: Model(x, layers.Dense(1, name="d")(layers.Dense(2, name="d")(x))),
            "more than one layer named d",
        ),
    ],
)
def test_bad_graphs(make, message):
    with pytest.raises(ValueError, match=message):
        make(Input((3,)), Input((3,)))


def test_bad_inputs():
    model = two_towers()
    with pytest.raises(ValueError, match=r"expected 2 input\(s\)"):
        model(numbers(2, 4))
    with pytest.raises(ValueError, match=r"with the keys \['a', 'b'\]"):
        model({"a": numbers(2, 4), "c": numbers(2, 4)})
    with pytest.raises(ValueError, match="input 1 is incompatible"):
        model([numbers(2, 4), numbers(2, 5)])


def test_get_layer():
    model = two_towers()
    assert model.get_layer("head") is model.get_layer(index=4)
    with pytest.raises(ValueError, match="expected one of"):
        model.get_layer("tail")
    with pytest.raises(ValueError, match="either name or index"):
        model.get_layer()


def test_a_subclass_may_be_functional():
    class Custom(Model):
        def __init__(self, units, **kwargs):
            x = Input((3,))
            super().__init__(x, layers.Dense(units)(x), **kwargs)
            self.units = units

    model = Custom(2, name="custom")
    assert isinstance(model, narae.models.Functional) and model.output_shape == (None, 2)
    assert type(model).__name__ == "Custom" and model.units == 2


# Config


@pytest.mark.parametrize("name", ["two_towers", "ops", "nested", "kwargs"])
def test_config_round_trip(name):
    x = Input((4,))
    if name == "two_towers":
        model, data = two_towers(), {"a": numbers(3, 4), "b": numbers(3, 4)}
    elif name == "ops":
        y = ops.sum((x + 2.0) * x, axis=-1, keepdims=True)
        y = ops.concatenate([y, x[:, 1:3]], axis=-1)
        model, data = Model(x, ops.softmax(ops.reshape(y, (-1, 3)))), numbers(3, 4)
    elif name == "nested":
        inner = Sequential([Input((4,)), layers.Dense(4)], name="inner")
        z = Input((4,))
        deep = Model(z, layers.Dense(4)(z), name="deep")
        model, data = Model(x, {"o": deep(inner(deep(x)))}), numbers(3, 4)
    else:
        model, data = (
            Model(x, layers.Dropout(0.5)(layers.Dense(2)(x), training=False)),
            numbers(3, 4),
        )
    copy = Model.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    copy.set_weights(model.get_weights())
    assert_same(copy(data), model(data))
    again = model_from_json(model.to_json())
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]


# Sequential


def test_sequential_builds_at_once_with_an_input():
    model = Sequential([Input((4,)), layers.Dense(3), layers.Dense(2)], name="s")
    assert model.built and model.output_shape == (None, 2)
    assert all(re.fullmatch(r"s/dense(_\d+)?/(kernel|bias)", w.path) for w in model.weights)
    assert len(model.layers) == 2


def test_sequential_builds_at_the_first_call_otherwise():
    model = Sequential([layers.Dense(3), layers.Dense(2)])
    assert not model.built and model.weights == []
    with pytest.raises(AttributeError, match="no output shape yet"):
        _ = model.output_shape
    assert model(numbers(5, 4)).shape == (5, 2)
    assert model.built and model.input_shape == (None, 4) and len(model.weights) == 4


def test_sequential_add_and_pop():
    model = Sequential()
    model.add(Input((4,)))
    model.add(layers.Dense(3))
    model.add(layers.Dense(2))
    assert model.output_shape == (None, 2)
    assert model.pop().units == 2 and model.output_shape == (None, 3)
    assert model(numbers(2, 4)).shape == (2, 3)


def test_sequential_takes_a_legacy_input_shape():
    with pytest.warns(UserWarning, match="prefer an `Input"):
        model = Sequential([layers.Dense(3, input_shape=(4,))])
    assert model(numbers(2, 4)).shape == (2, 3)


def test_sequential_refuses_what_is_no_layer():
    with pytest.raises(ValueError, match="expected a layer"):
        Sequential([3])
    with pytest.raises(ValueError, match="a name of its own"):
        Sequential([layers.Dense(1, name="d"), layers.Dense(1, name="d")])
    with pytest.raises(ValueError, match="only as the first layer"):
        Sequential([layers.Dense(1), Input((3,))])


def test_sequential_config_round_trip():
    model = Sequential([Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(2)])
    copy = Sequential.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    copy.set_weights(model.get_weights())
    assert_same(copy(numbers(2, 4)), model(numbers(2, 4)))


# Subclassed


class Blocks(Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(units)
        self.rest = [layers.Dense(units), {"last": layers.Dense(2)}]
        self.drop = layers.Dropout(0.5)

    def call(self, x, training=None):
        return self.rest[1]["last"](self.rest[0](self.drop(self.first(x))))


def test_subclassed_models_build_at_the_first_call():
    model = Blocks(name="blocks")
    assert model.weights == []
    model(numbers(2, 4))
    assert len(model.weights) == 6 and len(model.layers) == 4
    assert all(w.path.startswith("blocks/") for w in model.weights)


def test_subclassed_models_build_from_a_shape():
    model = Blocks()
    model.build((None, 4))
    assert len(model.weights) == 6 and model.first.kernel.shape == (4, 3)


def test_a_model_without_call_says_so():
    class Empty(Model):
        pass

    with pytest.raises(NotImplementedError, match="implement call"):
        Empty()(numbers(1, 1))


# Cloning


def test_clone_has_weights_of_its_own():
    model = two_towers()
    copy = clone_model(model)
    assert copy.get_config() == model.get_config()
    assert all(a is not b for a, b in zip(copy.weights, model.weights))


def test_clone_function_and_call_function():
    model = Sequential([Input((4,)), layers.Dense(3), layers.Dense(2)])
    wide = clone_model(model, clone_function=lambda layer: layers.Dense(7))
    assert wide.output_shape == (None, 7)

    def with_dropout(layer, *args, **kwargs):
        return layers.Dropout(0.5)(layer(*args, **kwargs))

    x = Input((4,))
    model = Model(x, layers.Dense(3)(x))
    assert any("dropout" in n.name for n in clone_model(model, call_function=with_dropout).layers)


def test_clone_keeps_what_compile_was_given():
    model = Sequential([Input((4,)), layers.Dense(1)])
    model.compile(narae.optimizers.SGD(0.5), "mse", metrics=["mae"])
    copy = clone_model(model)
    assert copy.compiled and float(copy.optimizer.learning_rate) == 0.5
    assert copy.optimizer is not model.optimizer
