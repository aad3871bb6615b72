"""Layer, RMS, batch and group normalization; batch normalization as in training."""

from harness import Case, functional, jax, main, randn
from narae import ops

EPSILON = 1e-3


def _standard(x, axes):
    """(x - mean) / sqrt(variance + EPSILON) in JAX."""
    mean = x.mean(axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axes, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + EPSILON)


def _layer(rows, columns):
    forms = {
        "narae": lambda x, g, b: ops.layer_normalization(x, g, b, epsilon=EPSILON),
        "torch": lambda x, g, b: functional.layer_norm(x, (columns,), g, b, EPSILON),
        "jax": lambda x, g, b: _standard(x, -1) * g + b,
    }
    x = randn(rows, columns)
    return Case(
        f"layer norm {rows}x{columns}", [x, randn(columns, seed=1), randn(columns, seed=2)], forms,
        moved=2 * x.nbytes, backward_moved=5 * x.nbytes, tolerance=1e-3,
    )  # fmt: skip


def _rms(rows, columns):
    forms = {
        "narae": lambda x, g: ops.rms_normalization(x, g, epsilon=EPSILON),
        "torch": lambda x, g: functional.rms_norm(x, (columns,), g, EPSILON),
        "jax": lambda x, g: x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + EPSILON) * g,
    }
    x = randn(rows, columns)
    return Case(
        f"rms norm {rows}x{columns}", [x, randn(columns, seed=1)], forms,
        moved=2 * x.nbytes, backward_moved=5 * x.nbytes, tolerance=1e-3,
    )  # fmt: skip


def _of_images(name, forms, shape):
    """Moments over positions: forward reads x twice at least."""
    x, channels = randn(*shape), shape[-1]
    return Case(
        f"{name} {'x'.join(map(str, shape))}",
        [x, randn(channels, seed=1), randn(channels, seed=2)], forms,
        moved=3 * x.nbytes, backward_moved=8 * x.nbytes, tolerance=1e-3,
    )  # fmt: skip


def _batch(*shape):

    def of_torch(x, g, b):
        y = functional.batch_norm(
            x.movedim(-1, 1), None, None, g, b, training=True, eps=EPSILON
        )  # channels_last memory: what PyTorch's convolutions give
        return y.movedim(1, -1)

    forms = {
        "narae": lambda x, g, b: ops.batch_normalization_training(
            x, g, b, axis=-1, epsilon=EPSILON
        )[0],
        "torch": of_torch,
        "jax": lambda x, g, b: _standard(x, tuple(range(x.ndim - 1))) * g + b,
    }
    return _of_images("batch norm", forms, shape)


def _group(groups, *shape):
    def of_torch(x, g, b):
        y = functional.group_norm(x.movedim(-1, 1), groups, g, b, EPSILON)
        return y.movedim(1, -1)

    def of_jax(x, g, b):
        y = _standard(x.reshape(*shape[:-1], groups, -1), (1, 2, 4))
        return y.reshape(shape) * g + b

    forms = {
        "narae": lambda x, g, b: ops.group_normalization(
            x, g, b, groups=groups, axis=-1, epsilon=EPSILON
        ),
        "torch": of_torch,
        "jax": of_jax,
    }
    return _of_images("group norm", forms, shape)


def cases():
    yield _layer(4096, 768)
    yield _layer(768, 128)
    yield _rms(4096, 768)
    yield _batch(32, 32, 32, 64)
    yield _batch(32, 8, 8, 256)
    yield _batch(32, 56, 56, 64)
    yield _group(8, 32, 32, 32, 64)


if __name__ == "__main__":
    main(__doc__, cases)
