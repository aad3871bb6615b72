"""An epoch of MNIST with `fit`, against the loops that people write around their peers' steps.

NARAE_DATA=DIR python bench/bench_fit.py [--peers torch,jax,tf] [--threads N] [--json FILE]

55 000 samples, batches of 32 in an order of their own each epoch, accuracy on, the MLP
784-300-100-10 with SGD. `steps` is narae's recorded step run as often on one and the same batch:
what the epoch takes beyond it is data handling.
"""

import math
import os
import statistics

import numpy as np

from bench_training_step import _keras_loss
from frame import write_json
from training_models import KERAS, torch_models
from worker import arguments, take_turns

SAMPLES, BATCH = 55000, 32


def load():
    """Returns the images as rows of floats in [0, 1] and the labels."""
    from narae.datasets import mnist

    (x, y), _ = mnist.load_data()
    return x[:SAMPLES].reshape(SAMPLES, 784).astype("float32") / 255, y[:SAMPLES].astype("int32")


def _narae_model():
    import narae

    x, y = load()
    model, loss, optimizer = KERAS["mlp"](narae)
    model.compile(optimizer, _keras_loss(narae, loss), metrics=["accuracy"])
    model.fit(x[: 10 * BATCH], y[: 10 * BATCH], batch_size=BATCH, verbose=0)
    return model, x, y


def narae_epochs():
    model, x, y = _narae_model()

    def run(count):
        history = model.fit(x, y, batch_size=BATCH, epochs=count, verbose=0).history
        return history["accuracy"][-1]

    return run


def steps_epochs():
    model, x, y = _narae_model()
    slot = model._step("train").slot(x[:BATCH], y[:BATCH], None)

    def run(count):
        for _ in range(count * math.ceil(SAMPLES / BATCH)):
            slot.run()

    return run


def torch_epochs():
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    x, y = load()
    x, y = torch.from_numpy(x), torch.from_numpy(y).long()
    model, _, kind, values = torch_models("mlp")
    optimizer = kind(model.parameters(), **values)

    def run(count):
        for _ in range(count):
            correct = torch.zeros((), dtype=torch.long)
            for rows in torch.randperm(SAMPLES).split(BATCH):
                xs, ys = x[rows], y[rows]
                logits = model(xs)
                loss = torch.nn.functional.cross_entropy(logits, ys)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                correct += (logits.detach().argmax(1) == ys).sum()
        return correct.item() / SAMPLES

    return run


def jax_epochs():
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import jax.numpy as jnp

    x, y = load()
    keys = jax.random.split(jax.random.key(0), 3)
    sizes = (784, 300, 100, 10)
    state = [
        (jax.random.normal(key, (a, b)) * (2 / (a + b)) ** 0.5, jnp.zeros(b))
        for key, a, b in zip(keys, sizes, sizes[1:])
    ]

    def loss_of(state, x, y):
        for w, b in state[:-1]:
            x = jax.nn.relu(x @ w + b)
        logits = x @ state[-1][0] + state[-1][1]
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)
        return -chosen.mean(), (logits.argmax(1) == y).sum()

    @jax.jit
    def update(state, x, y, correct):
        (_, hits), gradients = jax.value_and_grad(loss_of, has_aux=True)(state, x, y)
        return jax.tree.map(lambda p, g: p - 0.01 * g, state, gradients), correct + hits

    def run(count):
        nonlocal state
        for _ in range(count):
            order, correct = np.random.permutation(SAMPLES), jnp.zeros((), jnp.int32)
            for i in range(0, SAMPLES, BATCH):
                rows = order[i : i + BATCH]
                state, correct = update(state, x[rows], y[rows], correct)
            correct = int(correct)
        return correct / SAMPLES

    return run


def tf_epochs():
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    x, y = load()
    model, loss, optimizer = KERAS["mlp"](keras)
    model.compile(optimizer, _keras_loss(keras, loss), metrics=["accuracy"])

    def run(count):
        history = model.fit(x, y, batch_size=BATCH, epochs=count, verbose=0).history
        return history["accuracy"][-1]

    return run


def prepare(library):
    """The job of a worker."""
    run = globals()[f"{library}_epochs"]()
    return {"accuracy": run(2)}, run


def check(told) -> None:
    """Raises when a library has not learned what narae has in two epochs."""
    expected = told["narae"]["accuracy"]
    for library, answer in told.items():
        if library != "steps" and not abs(answer["accuracy"] - expected) < 0.05:
            raise RuntimeError(f"accuracy {expected}, {library}: {answer['accuracy']}")


def main() -> None:
    options = arguments(__doc__, peers="torch,jax", seconds=0.1).parse_args()
    libraries = ["narae", "steps", *filter(None, options.peers.split(","))]
    jobs = {library: [library] for library in libraries}
    _, seconds = take_turns("bench_fit:prepare", jobs, options, check)
    ours = min(seconds["narae"])
    print(f"an epoch of MNIST with fit, threads: {options.threads}")
    for library, times in seconds.items():
        best, median = min(times), statistics.median(times)
        print(f"{library:8} best {best:.3f} s, median {median:.3f} s, {best / ours:.2f}x narae's")
    print(f"data handling: {1 - min(seconds['steps']) / ours:.1%} of narae's epoch")
    write_json(seconds, options)


if __name__ == "__main__":
    main()
