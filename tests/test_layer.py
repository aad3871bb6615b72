"""The Layer base: weights, building, calls, masks, losses, config, and the graph under it."""

import numpy as np
import pytest

import narae
from narae import layers, ops
from narae.engine import naming, tree
from narae.layers import InputSpec, Layer


class Scale(Layer):
    """y = x * scale, with everything left to the base class."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale * self.factor


class Recorder(Layer):
    """Notes what its call receives."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.seen = []

    def call(self, x, training=None, mask=None):
        self.seen.append((training, None if mask is None else mask.numpy().tolist()))
        return x * 1.0


class Outer(Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = Recorder()

    def call(self, x):
        return self.inner(x)


def ones(*shape):
    return np.ones(shape, "float32")


# Names and trees


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("Conv2D", "conv2d"),
        ("MaxPooling2D", "max_pooling2d"),
        ("BatchNormalization", "batch_normalization"),
        ("PReLU", "p_re_lu"),
        ("LeakyReLU", "leaky_re_lu"),
        ("RMSprop", "rm_sprop"),
        ("ConvLSTM2D", "conv_lstm2d"),
    ],
)
def test_snake_case(name, snake):
    assert naming.to_snake_case(name) == snake


def test_names_are_numbered_until_the_session_is_cleared():
    naming.clear_session()
    assert [Scale().name for _ in range(3)] == ["scale", "scale_1", "scale_2"]
    naming.clear_session()
    assert Scale().name == "scale"


def test_tree_walks_dicts_in_sorted_order():
    structure = {"b": 2, "a": [0, (1,)]}
    assert tree.flatten(structure) == [0, 1, 2]
    assert tree.map_structure(lambda x: x + 1, structure) == {"b": 3, "a": [1, (2,)]}
    assert tree.pack_sequence_as(structure, [7, 8, 9]) == {"b": 9, "a": [7, (8,)]}
    with pytest.raises(ValueError, match="expected 3 leaves"):
        tree.pack_sequence_as(structure, [1])
    with pytest.raises(ValueError, match="same nesting"):
        tree.assert_same_structure([1, 2], (1, 2))


# Weights


def test_build_runs_once_and_gives_paths():
    layer = Scale(name="s")
    assert not layer.built and layer.weights == []
    assert layer(ones(2, 3)).shape == (2, 3)
    layer(ones(5, 3))
    assert [w.path for w in layer.weights] == ["s/scale"]
    assert layer.count_params() == 3
    assert layer.get_build_config() == {"input_shape": (2, 3)}


def test_weights_are_own_trainable_then_own_frozen_then_those_of_sublayers():
    class Block(Layer):
        def build(self, input_shape):
            self.moving = self.add_weight((1,), "zeros", trainable=False, name="moving")
            self.gain = self.add_weight((2,), "zeros", name="gain")
            self.parts = [Scale(name="one"), {"key": Scale(name="two")}]
            self.parts[0].build(input_shape)
            self.parts[1]["key"].build(input_shape)

        def call(self, x):
            return self.parts[1]["key"](self.parts[0](x))

    block = Block(name="block")
    block(ones(1, 4))
    paths = ["block/gain", "block/moving", "block/one/scale", "block/two/scale"]
    assert [w.path for w in block.weights] == paths
    assert [w.name for w in block.non_trainable_weights] == ["moving"]
    block.trainable = False
    assert block.trainable_weights == [] and not block.parts[0].trainable
    block.trainable = True
    assert len(block.trainable_weights) == 3


def test_variables_assigned_as_attributes_belong_to_the_layer():
    class Holder(Layer):
        def __init__(self):
            super().__init__()
            self.first = narae.Variable([1.0], name="first")
            self.added = self.add_weight((2,), "zeros", name="added")

    assert [w.name for w in Holder().weights] == ["first", "added"]


def test_a_shared_sublayer_counts_once():
    class Twice(Layer):
        def __init__(self):
            super().__init__()
            self.a = Scale()
            self.b = self.a

        def call(self, x):
            return self.b(self.a(x))

    layer = Twice()
    layer(ones(1, 2))
    assert len(layer.weights) == 1


def test_set_weights_checks_number_and_shape():
    layer = Scale(name="s")
    layer(ones(2, 3))
    layer.set_weights([np.arange(3)])
    np.testing.assert_array_equal(layer.get_weights()[0], [0, 1, 2])
    with pytest.raises(ValueError, match="expected 1 arrays"):
        layer.set_weights([])
    with pytest.raises(ValueError, match=r"shape \(3,\) for 's/scale'"):
        layer.set_weights([np.zeros(4)])


# Calls


def test_arrays_become_tensors_of_the_compute_dtype():
    assert Scale()(np.ones((2, 3))).dtype == "float32"
    assert Scale(dtype="float64")(ones(2, 3)).dtype == "float64"


@pytest.mark.parametrize(("outer", "inner"), [(True, True), (False, False), (None, None)])
def test_training_reaches_nested_layers(outer, inner):
    layer = Outer()
    layer(ones(1, 2), training=outer)
    assert layer.inner.seen[-1][0] is inner


def test_an_explicit_training_argument_wins():
    class Fixed(Outer):
        def call(self, x):
            return self.inner(x, training=False)

    layer = Fixed()
    layer(ones(1, 2), training=True)
    assert layer.inner.seen == [(False, None)]


def test_input_spec_names_the_layer_and_the_size():
    layer = layers.Dense(2, name="d")
    layer(ones(2, 3))
    with pytest.raises(ValueError, match=r"Dense 'd'.*axis -1 .*value 3.*\(2, 7\)"):
        layer(ones(2, 7))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"ndim": 3}, "ndim=3"),
        ({"min_ndim": 3}, "min_ndim=3"),
        ({"max_ndim": 1}, "max_ndim=1"),
        ({"shape": (None, 4)}, "shape="),
        ({"axes": {1: 5}}, "axis 1"),
        ({"dtype": "int32"}, "dtype=int32"),
    ],
)
def test_input_specs(spec, message):
    layer = Scale()
    layer.input_spec = InputSpec(**spec)
    with pytest.raises(ValueError, match=message):
        layer(ones(2, 3))


def test_forgetting_super_init_is_explained():
    class Broken(Layer):
        def __init__(self):
            self.units = 3

    with pytest.raises(RuntimeError, match="super\\(\\).__init__"):
        Broken()(ones(1, 1))


def test_unknown_arguments_are_refused():
    with pytest.raises(ValueError, match="unrecognized keyword arguments.*colour"):
        Scale(colour="red")


def test_legacy_input_shape_warns():
    with pytest.warns(UserWarning, match="prefer an `Input"):
        layers.Dense(2, input_shape=(3,))


# Masks


def test_masks_travel_with_tensors():
    x = ops.convert_to_tensor(ones(2, 3))
    x.mask = ops.convert_to_tensor(np.array([[True, False, True]] * 2))
    layer = Recorder()
    y = layer(x)
    assert layer.seen[-1][1] == [[True, False, True]] * 2
    assert y.mask is not None


def test_a_layer_without_masking_says_that_it_drops_the_mask():
    x = ops.convert_to_tensor(ones(2, 3))
    x.mask = ops.convert_to_tensor(np.array([True, False]))
    with pytest.warns(UserWarning, match="has a mask, which this layer does not pass on"):
        assert Scale()(x).mask is None


# Losses


def test_losses_hold_the_last_call_and_the_regularizers():
    class Penalty(Layer):
        def build(self, input_shape):
            self.w = self.add_weight((2,), "ones", regularizer="l2")

        def call(self, x):
            self.add_loss(ops.sum(x))
            return x

    layer = Penalty()
    for _ in range(2):
        layer(ones(1, 4))
    assert [float(loss) for loss in layer.losses] == pytest.approx([4.0, 0.02])


def test_activity_regularizer_is_divided_by_the_batch():
    layer = Scale(activity_regularizer=narae.regularizers.L1(0.5))
    layer(ones(4, 3))
    assert [float(loss) for loss in layer.losses] == pytest.approx([1.5])


# Symbolic calls


def test_shapes_are_inferred_by_running_on_zeros():
    x = layers.Input((None, 3))
    assert Scale()(x).shape == (None, None, 3)
    assert ops.sum(x, axis=1).shape == (None, 3)
    assert ops.concatenate([x, x], axis=-1).shape == (None, None, 6)
    assert (x[:, :1] + 1.0).shape == (None, 1, 3)
    assert Scale().compute_output_shape((None, 5)) == (None, 5)


def test_inference_leaves_state_as_it_was():
    layer = layers.BatchNormalization()
    layer.build((None, 3))
    before = layer.get_weights()

    class Wrapper(Layer):
        def __init__(self):
            super().__init__()
            self.norm = layer
            self.drop = layers.Dropout(0.5, seed=1)

        def call(self, x):
            return self.drop(self.norm(x, training=True), training=True)

    wrapper = Wrapper()
    state = wrapper.drop.seed_generator.state.numpy()
    wrapper(layers.Input((3,)))
    for a, b in zip(before, layer.get_weights()):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(state, wrapper.drop.seed_generator.state.numpy())


def test_errors_of_symbolic_calls_name_the_op_and_the_shapes():
    with pytest.raises(ValueError, match=r"inferring the output shape of narae.ops.matmul"):
        ops.matmul(layers.Input((3,)), layers.Input((4,)))


def test_symbolic_tensors_have_no_values():
    with pytest.raises(TypeError, match="symbolic"):
        float(layers.Input((3,)))


# Config


def test_config_is_made_from_plain_constructor_arguments():
    layer = Scale(2.0, name="s")
    config = layer.get_config()
    assert config["factor"] == 2.0 and config["name"] == "s"
    assert Scale.from_config(config).factor == 2.0


def test_config_must_be_written_when_arguments_are_objects():
    class Odd(Layer):
        def __init__(self, thing):
            super().__init__()
            self.thing = thing

    with pytest.raises(NotImplementedError, match=r"expected get_config\(\)"):
        Odd(object()).get_config()


def test_stateless_call_leaves_the_layer_alone():
    layer = Scale()
    layer(ones(1, 2))
    y, frozen = layer.stateless_call([np.array([2.0, 3.0], "float32")], [], ones(1, 2))
    np.testing.assert_array_equal(y.numpy(), [[2.0, 3.0]])
    np.testing.assert_array_equal(layer.get_weights()[0], [1.0, 1.0])
    assert frozen == []
