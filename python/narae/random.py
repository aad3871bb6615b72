"""Random numbers, with the names and signatures of `keras.random`."""

from narae.engine.random import SeedGenerator
from narae.ops.random import (
    bernoulli,
    categorical,
    dropout,
    normal,
    permutation,
    randint,
    shuffle,
    truncated_normal,
    uniform,
)

__all__ = [
    "SeedGenerator", "bernoulli", "categorical", "dropout", "normal", "permutation", "randint",
    "shuffle", "truncated_normal", "uniform",
]  # fmt: skip
