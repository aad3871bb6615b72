"""The bar's text, byte for byte, on a clock that the tests set."""

import io
import logging
import sys

import pytest

from narae.training import progress
from narae.training.callback import CallbackList
from narae.training.progress import Progbar


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(progress.time, "time", lambda: Clock.now)
    return Clock


def bar_text(done, width=20):
    green = f"\x1b[32m{'━' * done}\x1b[0m" if done else ""
    return f"{green}\x1b[37m{'━' * (width - done)}\x1b[0m"


def test_a_run_of_two_steps(clock, capsys):
    bar = Progbar(2)
    clock.now += 1.5
    bar.update(1, [("loss", 0.5)])
    clock.now += 0.004
    bar.update(2, [("loss", 0.25), ("mae", 0.0005)], finalize=True)
    first = "1/2 " + "━" * 20 + " 1s 2s/step - loss: 0.5000"
    assert capsys.readouterr().out == (
        f"\r\x1b[1m1/2\x1b[0m {bar_text(10)} \x1b[1m1s\x1b[0m 2s/step - loss: 0.5000"
        + "\b" * len(first)
        + f"\r\x1b[1m2/2\x1b[0m {bar_text(20)} \x1b[1m2s\x1b[0m 4ms/step"
        " - loss: 0.2500 - mae: 5.0000e-04\n"
    )


@pytest.mark.keras
def test_same_bytes_as_keras(clock, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    import keras

    def run(bar_class, **kwargs):
        clock.now = 1000.0
        bar = bar_class(kwargs.pop("target", 12), **kwargs)
        for step, seconds in enumerate([0.2, 0.01, 0.06, 70.0, 0.1], 1):
            clock.now += seconds
            bar.update(step, [("loss", 10.0 / step), ("small", 1e-4 / step)])
        clock.now += 4000
        bar.update(12, [("loss", 0.5), ("val_loss", 0.75)], finalize=True)
        return capsys.readouterr().out

    for kwargs in [{}, {"verbose": 2}, {"verbose": 0}, {"width": 7}, {"unit_name": "sample"}]:
        assert run(Progbar, **kwargs) == run(keras.utils.Progbar, **kwargs), kwargs
    assert run(Progbar, target=None) == run(keras.utils.Progbar, target=None)


@pytest.mark.parametrize(
    "seconds, text",
    [(59, "59s"), (61.9, "1:01"), (3600, "60:00"), (3725, "1:02:05")],
)
def test_time_left(seconds, text):
    assert progress._clock_text(seconds) == text


@pytest.mark.parametrize(
    "seconds, text", [(0, "0s/step"), (2.4, "2s/step"), (0.0123, "12ms/step"), (5e-5, "50us/step")]
)
def test_time_per_step(seconds, text):
    assert Progbar(1)._step_text(seconds) == f" {text}"


def test_averages_are_over_steps(clock, capsys):
    bar = Progbar(4, verbose=2, stateful_metrics=["lr"])
    bar.update(1, [("loss", 1.0), ("lr", 8.0)])
    bar.add(3, [("loss", 2.0), ("lr", 4.0)])
    assert capsys.readouterr().out == "4/4 - 0s - 0s/step - loss: 1.7500 - lr: 4.0000\n"


def test_drawn_at_most_every_interval(clock, capsys):
    bar = Progbar(100)
    for step in range(100):
        clock.now += 0.02
        bar.update(step + 1)
    assert capsys.readouterr().out.count("\r") == 34


def test_shorter_lines_leave_nothing_behind(clock, capsys):
    bar = Progbar(None, interval=0)
    bar.update(1, [("loss", 1e-5)])
    bar.update(2, [("loss", 1.0)], finalize=True)
    long, short = "- loss: 1.0000e-05", "- loss: 1.0000"
    assert capsys.readouterr().out.endswith(short + " " * (len(long) - len(short)) + "\n")


def test_terminals_without_the_character(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Progbar(1).update(1)
    assert b"1/1" in raw.getvalue() and b"??" in raw.getvalue()


def test_interactive_logging_can_be_turned_off(capsys, caplog):
    progress.disable_interactive_logging()
    try:
        assert not progress.is_interactive_logging_enabled()
        with caplog.at_level(logging.INFO, "narae"):
            progress.print_message("hello\n")
    finally:
        progress.enable_interactive_logging()
    assert caplog.messages == ["hello"] and capsys.readouterr().out == ""


def train(verbose, epochs=2, steps=3):
    hooks = CallbackList(add_progbar=True, verbose=verbose, epochs=epochs, steps=steps)
    made = []

    def logs():
        made.append(1)
        return {"loss": 0.5}

    hooks.on_train_begin()
    for epoch in range(epochs):
        hooks.on_epoch_begin(epoch)
        for batch in range(3):
            hooks.on_train_batch_end(batch, logs)
        hooks.on_test_begin()
        hooks.on_test_batch_end(0, logs)
        hooks.on_test_end({"val_loss": 9.0})
        hooks.on_epoch_end(epoch, {"loss": 0.25, "val_loss": 0.75})
    hooks.on_train_end()
    return len(made)


def test_logger_in_fit(clock, capsys):
    assert train(verbose=2) == 0
    line = "3/3 - 0s - 0s/step - loss: 0.2500 - val_loss: 0.7500\n"
    assert capsys.readouterr().out == f"Epoch 1/2\n{line}Epoch 2/2\n{line}"
    assert train(verbose=1) == 2  # only the first step of each epoch is drawn: the clock stands
    assert capsys.readouterr().out.count("0.2500 - val_loss: 0.7500\n") == 2
    assert train(verbose=0) == 0
    assert capsys.readouterr().out == ""
    train(verbose=2, epochs=1, steps=None)
    assert capsys.readouterr().out == line


def test_time_per_step_is_that_of_the_steps(clock, capsys):
    hooks = CallbackList(add_progbar=True, verbose=2, epochs=1, steps=3)
    hooks.on_epoch_begin(0)
    for batch in range(3):
        clock.now += 0.5 if batch == 0 else 0.004
        hooks.on_train_batch_end(batch, {})
    clock.now += 10  # validation
    hooks.on_epoch_end(0, {})
    assert capsys.readouterr().out == "3/3 - 11s - 4ms/step\n"


def test_logger_in_evaluate_and_predict(clock, capsys):
    hooks = CallbackList(add_progbar=True, verbose=2, steps=2)
    hooks.on_test_begin()
    hooks.on_test_batch_end(0, {"loss": 1.0})
    hooks.on_test_end({"loss": 0.5})
    hooks.on_predict_begin()
    hooks.on_predict_batch_end(0, {"outputs": object()})
    hooks.on_predict_end()
    assert capsys.readouterr().out == "2/2 - 0s - 0s/step - loss: 0.5000\n2/2 - 0s - 0s/step\n"
