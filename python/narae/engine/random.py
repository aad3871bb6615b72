"""Random state. A stream is (seed, counter): Philox turns it into numbers (see core/philox.h).

A `SeedGenerator` keeps its state in memory, so that a replayed step draws fresh numbers, the same
ones as an eager step would.
"""

import random as python_random

import numpy as np

from narae import _core
from narae.engine import naming
from narae.engine.tensor import Tensor
from narae.engine.variable import Variable

_global = np.random.Generator(np.random.Philox())


def _is_seed(seed) -> bool:
    is_int = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
    return is_int and 0 <= seed < 2**32


def set_random_seed(seed: int) -> None:
    """Fixes initializers, shuffling, dropout and augmentation, and Python's and NumPy's generators.

    Args:
        seed: 0 <= seed < 2**32.

    >>> narae.utils.set_random_seed(42)
    """
    if not _is_seed(seed):
        raise ValueError(
            f"narae.utils.set_random_seed: expected an integer in [0, 2**32). Received: {seed!r}"
        )
    global _global
    _global = np.random.Generator(np.random.Philox(int(seed)))
    _default.clear()
    python_random.seed(int(seed))
    np.random.seed(int(seed))


def draw_seed() -> int:
    """Returns a fresh seed in [0, 2**31) from the global generator."""
    return int(_global.integers(2**31))


def global_state() -> dict:
    """Returns the state of the global generators, for checkpoints."""
    default = _default[0].state.numpy() if _default else None
    return {"seeds": _global.bit_generator.state, "default": default}


def set_global_state(state: dict) -> None:
    """Restores what `global_state` gave."""
    _global.bit_generator.state = state["seeds"]
    if state["default"] is None:
        _default.clear()
    else:
        default_generator().state.assign(state["default"])
        _global.bit_generator.state = state["seeds"]  # making the generator drew a seed


class SeedGenerator:
    """A source of random keys: every `next()` gives another one, the same ones for the same seed.

    Args:
        seed: an integer in [0, 2**32), or None to draw it from the global generator, which
            `narae.utils.set_random_seed` fixes.
        name: name of its state variable's scope.
    """

    def __init__(self, seed: int | None = None, name: str | None = None, **_):
        if seed is None:
            seed = draw_seed()
        if not _is_seed(seed):
            raise ValueError(
                "narae.random.SeedGenerator: expected seed to be None or an integer in [0, 2**32). "
                f"Received: seed={seed!r}"
            )
        self.name = name or naming.auto_name("seed_generator")
        self._seed = int(seed)
        with naming.name_scope(self.name):
            self.state = Variable(
                np.array([self._seed, 0], "int64"), dtype="int64", trainable=False,
                name="seed_generator_state",
            )  # fmt: skip

    @property
    def seed(self) -> int:
        """The seed that the stream began with."""
        return self._seed

    def next(self) -> Tensor:
        """Returns the key (seed, counter) of the next draw, an int64 Tensor, and advances."""
        return Tensor(_core.random_next(self.state.array))

    def get_config(self) -> dict:
        """Returns the constructor's arguments, as plain values."""
        return {"seed": self._seed}

    @classmethod
    def from_config(cls, config: dict) -> "SeedGenerator":
        """Makes the object that `get_config` described."""
        return cls(**config)


_default: list = []


def default_generator() -> SeedGenerator:
    """Returns the generator for draws that name neither a seed nor a generator."""
    if not _default:
        _default.append(SeedGenerator(name="default"))
    return _default[0]


def next_key(seed=None) -> Tensor:
    """Returns a key: the next of a SeedGenerator (None: the default one), or that of an int."""
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if seed is None:
        return default_generator().next()
    if not _is_seed(seed):
        raise ValueError(
            "narae.random: expected seed to be an integer in [0, 2**32), a SeedGenerator or None. "
            f"Received: {seed!r}"
        )
    return Tensor(np.array([int(seed), 0], "int64"))
