"""The same bits: eager or replayed, with any number of threads, in every run with one seed."""

import numpy as np
import pytest

import narae
import zoo
from narae import config, layers


def noisy(k):
    """Dropout, noise, batch normalization: state and random numbers that replays must advance."""
    x, y = zoo.images(96, 10, 10, 2)
    m = k.Sequential(
        [
            layers.Input((10, 10, 2)),
            layers.GaussianNoise(0.1),
            layers.Conv2D(16, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(4, activation="softmax"),
        ]
    )
    m.compile(
        k.optimizers.Adam(k.optimizers.schedules.ExponentialDecay(0.01, 4, 0.9)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return m, x, y


def wide(k):
    """Large enough for every product to be split over threads."""
    x, y = zoo.images(256, 300, k=4)
    m = k.Sequential(
        [
            layers.Input((300,)),
            layers.Dense(700, activation="relu"),
            layers.Dense(500, activation="relu"),
            layers.Dense(4, activation="softmax"),
        ]
    )
    m.compile(k.optimizers.Adam(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return m, x, y


def mixed(k):
    k.config.set_dtype_policy("mixed_bfloat16")
    try:
        return noisy(k)
    finally:
        k.config.set_dtype_policy(None)


MODELS = {**zoo.MODELS, "noisy": noisy, "wide": wide, "mixed": mixed}


def bits_after_training(name, run_eagerly=False, epochs=2):
    """Returns every weight and the history of a short training run, as bytes."""
    narae.utils.clear_session()
    narae.utils.set_random_seed(99)
    model, x, y = MODELS[name](narae)
    model.run_eagerly = run_eagerly
    history = model.fit(
        x, y, epochs=epochs, batch_size=24, verbose=0
    ).history  # a ragged last batch
    predictions = narae.tree.flatten(model.predict(x, batch_size=24, verbose=0))
    values = [*model.get_weights(), *predictions, *map(np.asarray, history.values())]
    return [value.tobytes() for value in values], model


@pytest.mark.parametrize("name", MODELS)
def test_eager_and_replayed_steps_give_the_same_bits(name):
    replayed, model = bits_after_training(name)
    assert "replay" in model.recording_status, model.recording_status
    eager, model = bits_after_training(name, run_eagerly=True)
    assert "replay" not in model.recording_status
    assert eager == replayed


@pytest.mark.parametrize("name", MODELS)
def test_threads_do_not_change_bits(name):
    before = config.num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 4):
            config.set_num_threads(threads)
            results.append(bits_after_training(name)[0])
    finally:
        config.set_num_threads(before)
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("name", MODELS)
def test_one_seed_gives_one_result(name):
    assert bits_after_training(name)[0] == bits_after_training(name)[0]


def test_another_seed_gives_another_result():
    first, _ = bits_after_training("noisy")
    narae.utils.clear_session()
    narae.utils.set_random_seed(100)
    model, x, y = noisy(narae)
    model.fit(x, y, epochs=2, batch_size=24, verbose=0)
    assert model.get_weights()[0].tobytes() != first[0]
