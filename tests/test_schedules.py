"""Learning rate schedules against the real Keras and their formulas."""

import os

import numpy as np
import pytest

from narae.optimizers import schedules

os.environ.setdefault("KERAS_BACKEND", "jax")

SCHEDULES = [
    ("ExponentialDecay", (0.1, 10, 0.5), {}),
    ("ExponentialDecay", (0.1, 10, 0.5), {"staircase": True}),
    ("InverseTimeDecay", (0.1, 10, 0.5), {}),
    ("InverseTimeDecay", (0.1, 10, 0.5), {"staircase": True}),
    ("PolynomialDecay", (0.1, 20), {}),
    ("PolynomialDecay", (0.1, 20), {"power": 2.0, "end_learning_rate": 0.01, "cycle": True}),
    ("CosineDecay", (0.1, 20), {"alpha": 0.1}),
    ("CosineDecay", (0.01, 20), {"warmup_target": 0.1, "warmup_steps": 5}),
    ("CosineDecayRestarts", (0.1, 7), {}),
    ("CosineDecayRestarts", (0.1, 7), {"t_mul": 1.0, "m_mul": 0.8, "alpha": 0.1}),
    ("PiecewiseConstantDecay", ([5, 20], [0.1, 0.05, 0.01]), {}),
]


@pytest.mark.keras
@pytest.mark.parametrize(("name", "args", "kwargs"), SCHEDULES)
def test_keras(name, args, kwargs):
    import keras

    theirs = getattr(keras.optimizers.schedules, name)(*args, **kwargs)
    ours = getattr(schedules, name)(*args, **kwargs)
    # 7, 21: steps at which a restart begins are a matter of rounding in Keras's float32.
    for step in (0, 1, 5, 6, 10, 19, 20, 22, 43, 1000):
        np.testing.assert_allclose(ours(step), float(theirs(step)), rtol=1e-4, atol=1e-6)
    assert ours.get_config() == theirs.get_config()
    assert type(ours).from_config(theirs.get_config()).get_config() == ours.get_config()


def test_power_decay():
    schedule = schedules.PowerDecay(0.1, decay_steps=20)
    assert [schedule(s) for s in (0, 20, 60)] == pytest.approx([0.1, 0.05, 0.025])
    schedule = schedules.PowerDecay(0.1, decay_steps=20, power=2.0)
    assert schedule(20) == pytest.approx(0.025)


def test_one_cycle():
    schedule = schedules.OneCycle(1.0, 100, warmup_part=0.2, start_factor=10.0, end_factor=1000.0)
    assert [schedule(s) for s in (0, 20, 100, 200)] == pytest.approx([0.1, 1.0, 0.001, 0.001])
    assert schedule(10) == pytest.approx(0.55) and schedule(60) == pytest.approx(0.5005)
    rates = [schedule(s) for s in range(101)]
    assert np.argmax(rates) == 20 and (np.diff(rates[20:]) < 0).all()
    assert schedules.OneCycle(1.0, 100, warmup_part=0.0)(0) == 1.0


@pytest.mark.parametrize("schedule", [schedules.PowerDecay(0.1, 5), schedules.OneCycle(0.1, 5)])
def test_config_round_trip(schedule):
    again = schedules.deserialize(schedules.serialize(schedule))
    assert type(again) is type(schedule) and again.get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), "ExponentialDecay: expected decay_steps"),
        (
            lambda: schedules.InverseTimeDecay(0.1, -1, 0.5),
            "InverseTimeDecay: expected decay_steps",
        ),
        (lambda: schedules.PolynomialDecay(0.1, 0), "expected decay_steps"),
        (lambda: schedules.CosineDecay(0.1, 0), "expected decay_steps"),
        (lambda: schedules.CosineDecayRestarts(0.1, 0), "expected first_decay_steps"),
        (lambda: schedules.PowerDecay(0.1, 0), "expected decay_steps"),
        (lambda: schedules.OneCycle(0.1, 0), "expected total_steps"),
        (lambda: schedules.OneCycle(0.1, 5, warmup_part=1.0), "expected warmup_part"),
        (lambda: schedules.PiecewiseConstantDecay([1], [1.0]), "one value more than"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_base_class():
    with pytest.raises(NotImplementedError):
        schedules.LearningRateSchedule()(0)
    with pytest.raises(NotImplementedError):
        schedules.LearningRateSchedule().get_config()
