"""The cost of one training step of small models: where frameworks spend their time on overhead.

python bench/bench_training_step.py [--threads 1] [--peers keras,torch] [--json FILE]
"""

import argparse
import json
import time

import numpy as np

import narae
from narae import layers

BATCH = 32


def mlp_tabular():
    """8-50-50-50-1, Adam: the California housing network."""
    model = narae.Sequential(
        [
            layers.Input((8,)),
            *[layers.Dense(50, activation="relu") for _ in range(3)],
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(BATCH, 8)).astype("float32"), rng.normal(size=(BATCH, 1))


def mlp_mnist():
    """784-300-100-10, SGD: the notes' MNIST network."""
    model = narae.Sequential(
        [
            layers.Input((784,)),
            layers.Dense(300, activation="relu"),
            layers.Dense(100, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(BATCH, 784)).astype("float32"), rng.integers(0, 10, BATCH)


def step_seconds(model, x, y, steps: int = 2000, repeats: int = 7) -> tuple[float, float]:
    """Returns (best, median) seconds for a step of `fit`, over several runs of `steps` steps."""
    x, y = np.tile(x, (steps, 1)), np.concatenate([y] * steps)
    model.fit(x[: 4 * BATCH], y[: 4 * BATCH], batch_size=BATCH, verbose=0)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        model.fit(x, y, batch_size=BATCH, verbose=0)
        times.append((time.perf_counter() - start) / steps)
    return min(times), float(np.median(times))


def torch_step_seconds(steps: int = 500, repeats: int = 5) -> tuple[float, float]:
    """The tabular network's step in PyTorch, eager, one thread."""
    import torch

    torch.set_num_threads(1)
    sizes = (8, 50, 50, 50, 1)
    parts = []
    for a, b in zip(sizes, sizes[1:]):
        parts += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model = torch.nn.Sequential(*parts[:-1])
    optimizer = torch.optim.Adam(model.parameters())
    x, y = torch.randn(BATCH, 8), torch.randn(BATCH, 1)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
        times.append((time.perf_counter() - start) / steps)
    return min(times), float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peers", default="", help="torch, where it is installed")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    narae.config.set_num_threads(arguments.threads)

    rows = []
    for build in (mlp_tabular, mlp_mnist):
        rows.append((build.__name__, "narae", *step_seconds(*build())))
    if "torch" in arguments.peers:
        rows.append(("mlp_tabular", "torch", *torch_step_seconds()))
    print(f"one training step, batch {BATCH}, {narae.config.isa()}, threads: {arguments.threads}")
    for model, library, best, median in rows:
        print(f"{model:14}{library:8} best {best * 1e6:8.1f} us   median {median * 1e6:8.1f} us")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file)


if __name__ == "__main__":
    main()
