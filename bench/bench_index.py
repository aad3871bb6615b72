"""Reading and writing by index: embeddings with their dense gradient, take, scatter, one-hot."""

from harness import Case, functional, jax, jnp, main, np, randn, torch
from narae import ops


def _embedding(words, width, *shape):
    """Backward writes the whole gradient, words x width, and adds a row for each index."""
    forms = {
        "narae": lambda w, i: ops.embedding(w, i),
        "torch": lambda w, i: functional.embedding(i, w),
        "jax": lambda w, i: w[i],
    }
    w, i = randn(words, width), np.random.default_rng(0).integers(0, words, shape)
    read = i.size * width * 4
    name = f"embedding {words}x{width}, {i.size} ids"
    return Case(name, [w, i], forms, moved=2 * read, backward_moved=4 * read + w.nbytes)


def _take():
    forms = {
        "narae": lambda x, i: ops.take(x, i, axis=1),
        "numpy": lambda x, i: np.take(x, i, axis=1),
        "torch": lambda x, i: torch.index_select(x, 1, i),
        "jax": lambda x, i: jnp.take(x, i, axis=1),
    }
    x, i = randn(64, 4096, 32), np.random.default_rng(0).integers(0, 4096, 2048)
    return Case("take 2048 of 64x4096x32", [x, i], forms, moved=2 * 64 * 2048 * 32 * 4)


def _take_along():
    forms = {
        "narae": lambda x, i: ops.take_along_axis(x, i, axis=-1),
        "numpy": lambda x, i: np.take_along_axis(x, i, axis=-1),
        "torch": lambda x, i: torch.gather(x, -1, i),
        "jax": lambda x, i: jnp.take_along_axis(x, i, axis=-1),
    }
    x, i = randn(4096, 1024), np.random.default_rng(0).integers(0, 1024, (4096, 256))
    return Case("take_along_axis 4096x256 of 1024", [x, i], forms, moved=16 * i.size)


def _one_hot():
    forms = {
        "narae": lambda i: ops.one_hot(i, 1000),
        "torch": lambda i: functional.one_hot(i, 1000).float(),
        "jax": lambda i: jax.nn.one_hot(i, 1000),
    }
    i = np.random.default_rng(0).integers(0, 1000, 8192)
    return Case("one_hot 8192x1000", [i], forms, moved=8192 * 1000 * 4)


def cases():
    yield _embedding(50000, 256, 8192)
    yield _embedding(10000, 64, 32, 100)
    yield _embedding(65, 128, 12, 64)
    yield _take()
    yield _take_along()
    yield _one_hot()


if __name__ == "__main__":
    main(__doc__, cases)
