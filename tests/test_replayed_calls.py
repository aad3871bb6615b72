"""Replays that nobody can tell from calls: `model(x)` and make_predict_function()."""

import threading

import numpy as np
import pytest

import narae
from narae import Input, Model, Sequential, layers, ops


def make_model():
    model = Sequential([Input((6,)), layers.Dense(5, activation="gelu"), layers.Dropout(0.5)])
    model.add(layers.Dense(3, activation="softmax"))
    return model


def batch(seed=0, rows=2):
    return np.random.default_rng(seed).normal(size=(rows, 6)).astype("float32")


def eager(model, x):
    with narae.GradientTape():  # under a tape nothing is replayed
        return model(x).numpy()


def is_replayed(model):
    return model.recording_status == "replayed: predict"


def test_the_third_call_is_a_replay_with_the_bits_of_the_first():
    model = make_model()
    for seed in range(4):
        x = batch(seed)
        np.testing.assert_array_equal(model(x).numpy(), eager(model, x))
        np.testing.assert_array_equal(model(x, training=False).numpy(), eager(model, x))
    assert is_replayed(model)


def test_results_are_not_overwritten_by_the_next_call():
    model, xs = make_model(), [batch(i) for i in range(4)]
    for function in (model, model.make_predict_function()):
        results = [function(x) for x in xs]
        for x, y in zip(xs, results):
            np.testing.assert_array_equal(y.numpy(), eager(model, x))


def test_new_weights_are_seen():
    model, x = make_model(), batch()
    before = [model(x).numpy() for _ in range(3)][-1]
    model.set_weights([2 * w + 1 for w in model.get_weights()])
    after = model(x).numpy()
    assert is_replayed(model) and not np.array_equal(before, after)
    np.testing.assert_array_equal(after, eager(model, x))


def test_tensors_other_dtypes_and_strides():
    model = make_model()
    for x in (batch().astype("float64"), np.asfortranarray(batch()), batch(rows=4)[::2]):
        for _ in range(3):
            np.testing.assert_array_equal(model(x).numpy(), eager(model, x))
            np.testing.assert_array_equal(model(ops.convert_to_tensor(x)).numpy(), eager(model, x))


def test_gradients_flow_through_a_model_that_was_replayed():
    model, x = make_model(), ops.convert_to_tensor(batch())
    for _ in range(3):
        model(x)
    with narae.GradientTape() as tape:
        tape.watch(x)
        y = ops.sum(model(x)[:, 0])
    assert np.any(tape.gradient(y, x).numpy() != 0)


def test_training_calls_are_not_replayed():
    model, x = make_model(), batch(rows=50)
    draws = [model(x, training=True).numpy() for _ in range(4)]
    assert all(not np.array_equal(draws[0], y) for y in draws[1:])
    assert not is_replayed(model)


def test_changing_or_large_batches_are_not_recorded():
    model = make_model()
    for rows in (1, 2, 3, 1, 2, 3):
        model(batch(rows=rows))
    large = np.zeros((4096, 6), "float32")
    for _ in range(3):
        model(large)
    assert model.recording_status == "to be recorded at the first step"


def test_added_losses_are_those_of_the_last_call():
    model = Sequential([Input((6,)), layers.Dense(3, activity_regularizer="l2")])
    for seed in range(4):
        x = batch(seed)
        y = model(x).numpy().astype("float64")
        (loss,) = model.losses
        np.testing.assert_allclose(float(loss), 0.01 * np.sum(y * y) / len(x), rtol=1e-5)


def test_masks_and_structures():
    inputs = Input((4,), dtype="int32")
    h = layers.Embedding(7, 3, mask_zero=True)(inputs)
    model = Model(inputs, {"all": h, "last": layers.LSTM(2)(h)})
    x = np.array([[1, 2, 0, 0], [3, 1, 2, 0]], "int32")
    for _ in range(4):
        y = model(x)
        np.testing.assert_array_equal(y["all"].mask.numpy(), x != 0)
        with narae.GradientTape():
            again = model(x)
        for name in y:
            np.testing.assert_array_equal(y[name].numpy(), again[name].numpy())


@pytest.mark.parametrize("how", ["call", "function", "predict"])
def test_several_threads(how):
    model = make_model()
    xs = [batch(i) for i in range(8)]
    expected = [eager(model, x) for x in xs]
    predict = model.make_predict_function()
    functions = {
        "call": lambda x: model(x).numpy(),
        "function": lambda x: predict(x).numpy(),
        "predict": lambda x: model.predict(x, verbose=0),
    }
    run, wrong = functions[how], []
    run(xs[0]), run(xs[0])

    def work(k):
        wrong.extend(k for _ in range(200) if not np.array_equal(run(xs[k]), expected[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(xs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_another_instruction_set_is_recorded_anew():
    model, x, before = make_model(), batch(), narae.config.isa()
    try:
        for isa in (*narae.config.isas(), *reversed(narae.config.isas())):
            narae.config.set_isa(isa)
            for _ in range(3):
                np.testing.assert_array_equal(model(x).numpy(), eager(model, x))
    finally:
        narae.config.set_isa(before)
