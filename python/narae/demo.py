"""`narae demo`: the whole way on real data, in less than a minute.

Trains a small CNN on handwritten digits, evaluates, saves, reloads, and draws a report.
"""

import pathlib
import time

import numpy as np

import narae
from narae import layers

_EPOCHS = {"digits": 30, "mnist": 3}


def run(data: str = "digits", epochs: int | None = None, folder: str = "demo") -> dict:
    """Trains, checks and reports; returns what it measured.

    Args:
        data: `"digits"` (bundled, 8x8) or `"mnist"` (28x28).
        epochs: passes over the training images; a default for each data set.
        folder: where `model.keras` and `report.png` are written.

    Raises:
        RuntimeError: the reloaded model predicts other bits than the saved one.
    """
    epochs = epochs or _EPOCHS[data]
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    narae.utils.set_random_seed(42)
    (x_train, y_train), (x_test, y_test) = _load(data)

    model = build_model(x_train.shape[1:])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.summary()
    start = time.perf_counter()
    history = model.fit(
        x_train, y_train, epochs=epochs, batch_size=32, validation_data=(x_test, y_test)
    )
    seconds = time.perf_counter() - start
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)

    file = folder / "model.keras"
    model.save(file)
    predictions = model.predict(x_test, verbose=0)
    reloaded = narae.models.load_model(file).predict(x_test, verbose=0)
    if not np.array_equal(predictions, reloaded):
        raise RuntimeError(f"narae demo: {file} gives other predictions than the trained model")
    report = _draw(folder / "report.png", history.history, x_test, y_test, predictions)

    results = {
        "test accuracy": f"{accuracy:.4f}",
        "training": f"{epochs * len(x_train) / seconds:,.0f} samples/s ({seconds:.1f} s)",
        "instruction set": narae.config.isa(),
        "threads": narae.config.num_threads(),
        "model": f"{file} (reloaded: predictions are bit-equal)",
        "report": report,
    }
    print()
    for name, value in results.items():
        print(f"{name:16} {value}")
    return results


def build_model(input_shape: tuple[int, ...]):
    """Returns the demo's CNN: two convolutions, a pooling, two dense layers with dropout."""
    return narae.Sequential(
        [
            layers.Input(shape=input_shape),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def _load(data: str):
    (x_train, y_train), (x_test, y_test) = getattr(narae.datasets, data).load_data()
    top = float(x_train.max())

    def images(x):
        return (x[..., None] / top).astype("float32")

    return (images(x_train), y_train), (images(x_test), y_test)


def _draw(file, history, x_test, y_test, predictions):
    """Writes learning curves, confusion matrix and sample predictions to a PNG."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return "not drawn: matplotlib is missing (pip install 'narae[demo]')"

    figure = Figure(figsize=(13, 9), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subfigures(2, 1, height_ratios=[3, 2])
    loss, accuracy, confusion = top.subplots(1, 3, width_ratios=[1, 1, 1.2])
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        axes.plot(epochs, history[name], label="training")
        axes.plot(epochs, history[f"val_{name}"], label="test")
        axes.set(title=name, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend()

    predicted = predictions.argmax(axis=1)
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (y_test, predicted), 1)
    confusion.imshow(np.log1p(counts), cmap="Blues")
    for (i, j), count in np.ndenumerate(counts):
        if count:
            color = "white" if i == j else "black"
            confusion.text(j, i, count, ha="center", va="center", fontsize=8, color=color)
    confusion.set(
        title="confusion", xlabel="predicted", ylabel="true", xticks=range(10), yticks=range(10)
    )

    wrong = np.flatnonzero(predicted != y_test)
    shown = np.concatenate([wrong, np.flatnonzero(predicted == y_test)])[:20]
    bottom.suptitle("samples: the wrong ones first (red)")
    for axes, index in zip(bottom.subplots(2, 10).flat, shown):
        axes.imshow(x_test[index, ..., 0], cmap="gray_r")
        color = "black" if predicted[index] == y_test[index] else "red"
        title = f"{predicted[index]} ({predictions[index].max():.0%})"
        axes.set_title(title, fontsize=9, color=color)
        axes.axis("off")
    figure.savefig(file, dpi=110)
    return str(file)
