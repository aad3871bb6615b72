"""The mean squared error over the last axis, and its gradients."""

from harness import Case, functional, jnp, main, randn
from narae import ops


def _case(*shape):
    p, t = randn(*shape), randn(*shape, seed=1)
    forms = {
        "narae": lambda p, t: ops.mean_squared_error(t, p),
        "torch": lambda p, t: functional.mse_loss(p, t, reduction="none").mean(-1),
        "jax": lambda p, t: jnp.mean((p - t) ** 2, -1),
    }
    both = p.nbytes + t.nbytes  # backward reads and writes both once more
    title = "x".join(map(str, shape))
    return Case(title, [p, t], forms, moved=both, backward_moved=3 * both)


def cases():
    yield _case(128, 784)
    yield _case(8192, 1024)
    yield _case(65536, 16)


if __name__ == "__main__":
    main(__doc__, cases)
