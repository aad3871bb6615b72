"""Random numbers by counter: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011), vectorized."""

import numpy as np

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = np.array([0x9E3779B9, 0xBB67AE85], np.uint32)  # what a round adds to the key


def philox4x32(counter, key, rounds=10):
    """Four random words a counter: counter (..., 4), key (..., 2) -> (..., 4), all uint32."""
    counter, key = np.asarray(counter, np.uint32), np.asarray(key, np.uint32)
    c0, c1, c2, c3 = np.moveaxis(counter, -1, 0)
    for _ in range(rounds):
        k0, k1 = np.moveaxis(key, -1, 0)
        high_0, low_0 = _words(c0.astype(np.uint64) * MULTIPLIERS[0])
        high_1, low_1 = _words(c2.astype(np.uint64) * MULTIPLIERS[1])
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        key = key + WEYL
    return np.stack([c0, c1, c2, c3], -1)


def _words(x):
    x = np.asarray(x, np.uint64)
    return (x >> np.uint64(32)).astype(np.uint32), x.astype(np.uint32)


def bits(seed, counter, size):
    """size random words of the stream (seed, counter), both of 64 bits.

    Word i is lane i % 4 of block j = i // 4: the key is seed, the counter's lower half j and its
    upper half counter, low words first.
    """
    blocks = np.zeros((-(-size // 4), 4), np.uint32)
    blocks[:, 1], blocks[:, 0] = _words(np.arange(len(blocks), dtype=np.uint64))
    blocks[:, 3], blocks[:, 2] = _words(counter)
    high, low = _words(seed)
    return philox4x32(blocks, np.stack([low, high])).reshape(-1)[:size]


def uniform(words):
    """u = (word >> 8) * 2^-24 in [0, 1): exact in float32."""
    return (np.asarray(words, np.uint32) >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def normal(words):
    """Box-Muller: each pair of words, as u and v, gives r * cos(2 pi v) and r * sin(2 pi v).

    r = sqrt(-2 * log(1 - u))
    """
    u, v = np.moveaxis(uniform(words).astype(np.float64).reshape(-1, 2), -1, 0)
    r = np.sqrt(-2 * np.log(1 - u))
    return np.stack([r * np.cos(2 * np.pi * v), r * np.sin(2 * np.pi * v)], -1).reshape(-1)
