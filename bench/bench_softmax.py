"""Softmax and the cross-entropies of logits."""

from harness import Case, functional, jax, jnp, main, np, randn, torch
from narae import ops


def _numpy_softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


SOFTMAX = {
    "narae": ops.softmax,
    "numpy": _numpy_softmax,
    "torch": lambda x: torch.softmax(x, -1),
    "jax": lambda x: jax.nn.softmax(x),
}
LOG_SOFTMAX = {
    "narae": ops.log_softmax,
    "torch": lambda x: torch.log_softmax(x, -1),
    "jax": lambda x: jax.nn.log_softmax(x),
}


def _of_rows(name, forms, rows, columns):
    x = randn(rows, columns)
    return Case(
        f"{name} {rows}x{columns}", [x], forms, moved=2 * x.nbytes, backward_moved=5 * x.nbytes
    )


def _sparse(rows, columns):
    """Integer labels, from logits; the gradient reads the logits once more."""

    def picked(x, t):
        return jnp.take_along_axis(jax.nn.log_softmax(x), t[:, None], 1)[:, 0]

    forms = {
        "narae": ops.softmax_crossentropy,
        "torch": lambda x, t: functional.cross_entropy(x, t, reduction="none"),
        "jax": lambda x, t: -picked(x, t),
    }
    x, t = randn(rows, columns), np.random.default_rng(1).integers(0, columns, rows)
    return Case(
        f"sparse crossentropy {rows}x{columns}", [x, t], forms,
        moved=x.nbytes, backward_moved=3 * x.nbytes,
    )  # fmt: skip


def cases():
    for shape in ((4096, 1024), (65536, 64), (32, 10)):
        yield _of_rows("softmax", SOFTMAX, *shape)
    yield _of_rows("log_softmax", LOG_SOFTMAX, 4096, 1024)
    for shape in ((1024, 10000), (8192, 100), (32, 10)):
        yield _sparse(*shape)


if __name__ == "__main__":
    main(__doc__, cases)
