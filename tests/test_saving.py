"""`.keras` and `.weights.h5` files: round trips, bad files, and Keras itself on the other side."""

import io
import json
import os
import pickle
import warnings
import zipfile
from copy import deepcopy

import h5py
import numpy as np
import pytest

import narae
from narae import Input, Model, Sequential, layers, ops, saving
from narae.models import load_model


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@saving.register_keras_serializable("tests")
class Blocks(Model):
    """Attributes on both sides of "layers" in sorted order, private ones, lists and dicts."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.a = layers.Dense(units)
        self.blocks = [layers.Dense(units), {"k": layers.Dense(units)}]
        self.out = layers.Dense(2)
        self._private = layers.Dense(2)

    def call(self, x):
        return self._private(self.out(self.blocks[1]["k"](self.blocks[0](self.a(x)))))


@saving.register_keras_serializable("tests")
def twice(x):
    return x * 2.0


def mlp():
    return Sequential([Input((4,)), layers.Dense(5, activation="relu"), layers.Dense(3)])


def graph():
    a, b = Input((4,), name="a"), Input((4,), name="b")
    shared = layers.Dense(5)
    h = ops.relu(shared(a) * 2.0 + shared(b))
    return Model({"a": a, "b": b}, [h, layers.Dense(1, name="head")(h[:, 1:])])


def convolutional():
    return Sequential(
        [
            Input((8, 8, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )


def recurrent():
    return Sequential(
        [
            Input((6,), dtype="int32"),
            layers.Embedding(10, 4, mask_zero=True),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.GRU(2),
        ]
    )


def attention():
    x = Input((5, 4))
    h = layers.MultiHeadAttention(2, 3)(x, x)
    h = layers.LayerNormalization()(layers.Add()([x, h]))
    return Model(x, layers.GlobalAveragePooling1D()(layers.TimeDistributed(layers.Dense(2))(h)))


MODELS = {
    "mlp": (mlp, (4,)),
    "graph": (graph, None),
    "convolutional": (convolutional, (8, 8, 3)),
    "recurrent": (recurrent, "tokens"),
    "attention": (attention, (5, 4)),
    "blocks": (Blocks, (4,)),
}


def data_for(shape):
    if shape is None:
        return {"a": numbers(3, 4), "b": numbers(3, 4, seed=1)}
    if shape == "tokens":
        return np.random.default_rng(0).integers(0, 10, size=(3, 6)).astype("int32")
    return numbers(3, *shape)


def outputs(model, x):
    return [np.asarray(y) for y in narae.tree.flatten(model(x))]


def assert_close(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def made(name):
    make, shape = MODELS[name]
    model, x = make(), data_for(shape)
    model(x)
    for w in model.weights:  # no zeros and ones that would hide a swap
        w.assign(w.numpy() + 0.1 * np.abs(numbers(*w.shape)))
    return model, x


# Round trips


@pytest.mark.parametrize("name", MODELS)
def test_keras_file_round_trip(name, tmp_path):
    model, x = made(name)
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    assert type(again).__name__ == type(model).__name__
    for a, b in zip(outputs(model, x), outputs(again, x), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", MODELS)
def test_weights_file_round_trip(name, tmp_path):
    model, x = made(name)
    other, _ = made(name)
    for w in other.weights:
        w.assign(w.numpy() * 0)
    model.save_weights(tmp_path / "m.weights.h5")
    other.load_weights(tmp_path / "m.weights.h5")
    for a, b in zip(outputs(model, x), outputs(other, x), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_compiled_model_goes_on_training_where_it_stopped(tmp_path):
    x, y = numbers(32, 4), np.arange(32) % 3
    model = mlp()
    loss = narae.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(narae.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    assert again.compiled and int(again.optimizer.iterations) == 1
    for m in (model, again):
        m.fit(x, y, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not load_model(tmp_path / "m.keras", compile=False).compiled


@pytest.mark.parametrize("make", [mlp, graph])
def test_frozen_layers_stay_frozen(make, tmp_path):
    model = make()
    layer = next(layer for layer in model.layers if layer.weights)
    layer.trainable = False
    model.compile("adam", "mse")
    model.save(tmp_path / "m.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an optimizer that has done no step has no state to miss
        again = load_model(tmp_path / "m.keras")
    assert not again.get_layer(layer.name).trainable
    assert len(again.trainable_weights) == len(model.trainable_weights)
    again.get_layer(layer.name).trainable = True
    assert len(again.trainable_weights) == len(model.weights)


def test_a_load_of_weights_from_a_keras_file(tmp_path):
    model, x = made("mlp")
    model.save(tmp_path / "m.keras")
    other = mlp()
    other.load_weights(tmp_path / "m.keras")
    assert_close(outputs(model, x), outputs(other, x))


def test_models_are_pickled_and_copied():
    model, x = made("blocks")
    for copy in (pickle.loads(pickle.dumps(model)), deepcopy(model)):
        assert type(copy) is Blocks and copy.a.kernel is not model.a.kernel
        assert_close(outputs(model, x), outputs(copy, x))


# What is in the files


def test_the_archive_is_laid_out_as_keras_does(tmp_path):
    model = mlp()
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        assert all(i.compress_type == zipfile.ZIP_STORED for i in archive.infolist())
        config = json.loads(archive.read("config.json"))
    assert config["module"] == "keras" and config["class_name"] == "Sequential"
    assert config["config"]["build_input_shape"] == [None, 4]
    dense = config["config"]["layers"][1]
    assert dense["module"] == "keras.layers" and dense["registered_name"] is None
    assert dense["build_config"] == {"input_shape": [None, 4]}


def test_weights_are_named_by_class_and_number(tmp_path):
    model = Sequential(
        [Input((4,)), layers.Dense(2, name="x"), layers.Dense(2), layers.Dropout(0.1)]
    )
    model.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as file:
        assert set(file["layers"]) == {"dense", "dense_1", "dropout"}
        assert file["layers/dense/vars"].attrs["name"] == "x"
        assert file["layers/dense/vars/0"].shape == (4, 2)
        assert file["vars"].attrs["name"] == model.name and not dict(file.attrs)


def test_a_subclassed_model_is_walked_in_sorted_order(tmp_path):
    model, _ = made("blocks")
    model.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as file:
        found = []
        file.visit(lambda name: found.append(name) if name.endswith("vars/0") else None)
    # "out" and "_private" sort after "layers", which reaches them first.
    assert sorted(found) == [
        "a/vars/0",
        "blocks/container/dense/vars/0",
        "blocks/dense/vars/0",
        "layers/dense_3/vars/0",
        "layers/dense_4/vars/0",
    ]


def test_a_file_is_replaced_at_once(tmp_path, monkeypatch):
    model = mlp()
    model.save(tmp_path / "m.keras")
    before = (tmp_path / "m.keras").read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        model.save(tmp_path / "m.keras")
    assert (tmp_path / "m.keras").read_bytes() == before
    assert os.listdir(tmp_path) == ["m.keras"]


# Bad files


def archive(**entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in entries.items():
            file.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


def saved(tmp_path):
    model = mlp()
    model.save(tmp_path / "good.keras")
    return (tmp_path / "good.keras").read_bytes()


@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_archives(part, tmp_path):
    data = saved(tmp_path)
    (tmp_path / "bad.keras").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ValueError, match="damaged"):
        load_model(tmp_path / "bad.keras")


def test_flipped_bytes_are_noticed(tmp_path):
    data = bytearray(saved(tmp_path))
    for position in range(200, len(data) - 300, max(len(data) // 20, 1)):
        bad = data.copy()
        bad[position] ^= 0xFF
        (tmp_path / "bad.keras").write_bytes(bad)
        with pytest.raises(ValueError):
            load_model(tmp_path / "bad.keras")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "expected a '.keras' archive"),
        (b"\x89HDF\r\n\x1a\n" + b"0" * 100, "expected an HDF5 file"),
        (archive(config__json="{}"), "expected the config of a model"),
        (archive(config__json="{"), "config.json is damaged"),
        (archive(metadata__json="{}"), "expected config.json"),
        (archive(config__json='{"class_name": "A", "config": {}}'), "expected model.weights.h5"),
    ],
)
def test_archives_of_something_else(content, message, tmp_path):
    (tmp_path / "bad.keras").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "bad.keras")


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_model(tmp_path / "none.keras")
    with pytest.raises(FileNotFoundError, match="no such file"):
        mlp().load_weights(tmp_path / "none.weights.h5")
    with pytest.raises(FileNotFoundError, match="no such directory"):
        mlp().save(tmp_path / "none" / "m.keras")


def test_wrong_endings_and_existing_files(tmp_path):
    model = mlp()
    with pytest.raises(ValueError, match=r"end in '\.keras'"):
        model.save(tmp_path / "m.h5")
    with pytest.raises(ValueError, match=r"end in '\.weights\.h5'"):
        model.save_weights(tmp_path / "m.h5")
    model.save(tmp_path / "m.keras")
    with pytest.raises(FileExistsError, match="overwrite is False"):
        model.save(tmp_path / "m.keras", overwrite=False)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x89HDF\r\n\x1a\n"])
def test_damaged_weights(content, tmp_path):
    (tmp_path / "bad.weights.h5").write_bytes(content)
    with pytest.raises(ValueError, match="expected an HDF5 file"):
        mlp().load_weights(tmp_path / "bad.weights.h5")


def test_weights_of_another_architecture(tmp_path):
    mlp().save_weights(tmp_path / "m.weights.h5")
    wider = Sequential([Input((4,)), layers.Dense(6), layers.Dense(3)])
    with pytest.raises(ValueError, match=r"another architecture:\n  layers/dense: .*\(4, 6\)"):
        wider.load_weights(tmp_path / "m.weights.h5")
    longer = Sequential([Input((4,)), layers.Dense(5), layers.Dense(3), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"layers/dense_2: .*expected 2 variables"):
        longer.load_weights(tmp_path / "m.weights.h5")
    shorter = Sequential([Input((4,)), layers.Dense(5)])
    with pytest.raises(ValueError, match="layers/dense_1, which the model lacks"):
        shorter.load_weights(tmp_path / "m.weights.h5")
    with pytest.warns(UserWarning, match="another architecture"):
        wider.load_weights(tmp_path / "m.weights.h5", skip_mismatch=True)


def test_weights_of_an_unbuilt_model(tmp_path):
    with pytest.raises(ValueError, match="not built yet"):
        Sequential([layers.Dense(1)]).save_weights(tmp_path / "m.weights.h5")


def test_links_out_of_the_file_are_refused(tmp_path):
    model = Sequential([Input((4,)), layers.Dense(3)])
    model.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5", "a") as file:
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(ValueError, match="points elsewhere"):
        model.load_weights(tmp_path / "m.weights.h5")


# The registry


def test_unknown_classes_are_named():
    with pytest.raises(ValueError, match="unknown class 'Evil'.*custom_objects"):
        saving.deserialize_keras_object({"class_name": "Evil", "config": {}, "module": "os"})


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": "system", "module": "os", "config": {}},
        {"class_name": "function", "module": "os", "config": "system"},
        {"class_name": "__lambda__", "config": {"value": ["4wEA"]}},
        {"class_name": "load_model", "module": "narae.models", "config": {}},
        {"class_name": "Popen", "module": "subprocess", "config": {"args": "true"}},
        {"class_name": "np", "module": "narae.layers", "config": {}},
        {"class_name": "_core.x", "module": "narae.layers", "config": {}},
    ],
)
def test_nothing_is_imported_or_run_from_a_config(config):
    with pytest.raises(ValueError):
        saving.deserialize_keras_object(config)


@pytest.mark.parametrize(
    "value",
    [None, 1, 2.5, "text", [1, [2]], {"a": [1]}, slice(1, None, 2), ..., b"bytes"],
)
def test_plain_values_round_trip(value):
    config = json.loads(json.dumps(saving.serialize_keras_object(value)))
    assert saving.deserialize_keras_object(config) == value


def test_arrays_round_trip():
    config = json.loads(json.dumps(saving.serialize_keras_object(np.arange(3, dtype="int64"))))
    array = saving.deserialize_keras_object(config)
    np.testing.assert_array_equal(array, [0, 1, 2])
    assert array.dtype == np.int64


def test_registered_names_and_scopes():
    assert saving.get_registered_name(Blocks) == "tests>Blocks"
    assert saving.get_registered_object("tests>Blocks") is Blocks
    config = saving.serialize_keras_object(twice)
    assert saving.deserialize_keras_object(config) is twice

    class Local(layers.Layer):
        def call(self, x):
            return x

    config = saving.serialize_keras_object(Local())
    with pytest.raises(ValueError, match="unknown class 'Local'"):
        saving.deserialize_keras_object(config)
    with saving.custom_object_scope({"Local": Local}):
        assert isinstance(saving.deserialize_keras_object(config), Local)
    assert isinstance(saving.deserialize_keras_object(config, {"Local": Local}), Local)


def test_lambdas_are_not_saved():
    with pytest.raises(ValueError, match="lambda cannot be saved"):
        saving.serialize_keras_object(lambda x: x)


def test_keys_of_other_versions_are_dropped():
    config = saving.serialize_keras_object(layers.Dense(3))
    config["config"]["quantization_config"] = None
    config["config"]["invented"] = {"a": 1}
    with pytest.warns(UserWarning, match="no use for.*invented"):
        assert saving.deserialize_keras_object(config).units == 3


# Keras on the other side


def keras_models(keras):
    """The same models in Keras, by name."""
    names = {"layers": keras.layers, "ops": keras.ops, "Input": keras.Input}
    names |= {"Sequential": keras.Sequential, "Model": keras.Model}
    module = dict(names)
    for make in (mlp, graph, convolutional, recurrent, attention):
        yield make.__name__, type(make)(make.__code__, module)


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    return pytest.importorskip("keras")


@pytest.mark.keras
@pytest.mark.parametrize("name", [n for n in MODELS if n != "blocks"])
def test_keras_reads_what_narae_writes(name, keras, tmp_path):
    model, x = made(name)
    model.save(tmp_path / "m.keras")
    other = keras.models.load_model(tmp_path / "m.keras")
    assert_close(outputs(model, x), [np.asarray(y) for y in keras.tree.flatten(other(x))])
    model.save_weights(tmp_path / "m.weights.h5")
    for w in other.weights:
        w.assign(w * 0)
    other.load_weights(tmp_path / "m.weights.h5")
    assert_close(outputs(model, x), [np.asarray(y) for y in keras.tree.flatten(other(x))])


@pytest.mark.keras
@pytest.mark.parametrize("name", [n for n in MODELS if n != "blocks"])
def test_narae_reads_what_keras_writes(name, keras, tmp_path):
    other, x = dict(keras_models(keras))[name](), data_for(MODELS[name][1])
    other.compile("adam", "mse")
    other.save(tmp_path / "k.keras")
    model = load_model(tmp_path / "k.keras")
    expected = [np.asarray(y) for y in keras.tree.flatten(other(x))]
    assert_close(outputs(model, x), expected)
    other.save_weights(tmp_path / "k.weights.h5")
    for w in model.weights:
        w.assign(w.numpy() * 0)
    model.load_weights(tmp_path / "k.weights.h5")
    assert_close(outputs(model, x), expected)


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["mlp", "convolutional", "recurrent"])
def test_h5_files_of_keras_2(name, keras, tmp_path):
    other, x = dict(keras_models(keras))[name](), data_for(MODELS[name][1])
    expected = [np.asarray(other(x))]
    other.compile("adam", "mse", metrics=["mae"])
    y = np.zeros(expected[0].shape)
    other.fit(x, y, verbose=0)
    expected = [np.asarray(other(x))]
    other.save(tmp_path / "k.h5")
    model = load_model(tmp_path / "k.h5")
    assert_close(outputs(model, x), expected)
    assert int(model.optimizer.iterations) == 1
    for w in model.weights:
        w.assign(w.numpy() * 0)
    model.load_weights(tmp_path / "k.h5")
    assert_close(outputs(model, x), expected)
    with pytest.raises(ValueError, match="another architecture"):
        Sequential([Input((4,)), layers.Dense(7)]).load_weights(tmp_path / "k.h5")


@pytest.mark.keras
@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "RMSprop", "Nadam"])
def test_training_goes_on_in_the_other_library(optimizer, keras, tmp_path):
    x, y = numbers(16, 4), numbers(16, 3)
    model = mlp()
    model.compile(getattr(narae.optimizers, optimizer)(0.01), "mse")
    model.fit(x, y, verbose=0, shuffle=False, batch_size=16)
    model.save(tmp_path / "m.keras")
    other = keras.models.load_model(tmp_path / "m.keras")
    for _ in range(2):
        model.fit(x, y, verbose=0, shuffle=False, batch_size=16)
        other.fit(x, y, verbose=0, shuffle=False, batch_size=16)
    assert_close(model.get_weights(), other.get_weights())
    other.save(tmp_path / "k.keras")
    back = load_model(tmp_path / "k.keras")
    assert int(back.optimizer.iterations) == 3
    back.fit(x, y, verbose=0, shuffle=False, batch_size=16)
    other.fit(x, y, verbose=0, shuffle=False, batch_size=16)
    assert_close(back.get_weights(), other.get_weights())


@pytest.mark.keras
def test_a_subclassed_model_moves_both_ways(keras, tmp_path):
    class Other(keras.Model):
        def __init__(self):
            super().__init__()
            self.a = keras.layers.Dense(3)
            self.blocks = [keras.layers.Dense(3), {"k": keras.layers.Dense(3)}]
            self.out = keras.layers.Dense(2)
            self._private = keras.layers.Dense(2)

        def call(self, x):
            return self._private(self.out(self.blocks[1]["k"](self.blocks[0](self.a(x)))))

    (model, x), other = made("blocks"), Other()
    other(x)
    model.save_weights(tmp_path / "m.weights.h5")
    other.load_weights(tmp_path / "m.weights.h5")
    assert_close(outputs(model, x), [np.asarray(other(x))])
    other.a.kernel.assign(other.a.kernel * 2)
    other.save_weights(tmp_path / "k.weights.h5")
    model.load_weights(tmp_path / "k.weights.h5")
    assert_close(outputs(model, x), [np.asarray(other(x))])
