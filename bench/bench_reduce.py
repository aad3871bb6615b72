"""Sums, means, maxima, variances, argmax and cumulative sums along each axis."""

from harness import Case, jax, jnp, main, np, randn, torch
from narae import ops


def _case(name, x, narae, numpy, torch_form, jax_form, moved=None, tolerance=1e-3):
    forms = {"narae": narae, "numpy": numpy, "torch": torch_form, "jax": jax_form}
    title = f"{name}, {'x'.join(map(str, x.shape))}"
    return Case(title, [x], forms, moved=moved or x.nbytes, tolerance=tolerance)


def _reduction(name, x, axis, numpy=None, torch_name=None):
    torch_name = torch_name or {"max": "amax"}.get(name, name)
    options = {"unbiased": False} if name == "var" else {}
    return _case(
        f"{name} over {axis}",
        x,
        lambda x: getattr(ops, name)(x, axis),
        lambda x: getattr(np, name)(x, axis),
        lambda x: getattr(torch, torch_name)(x, axis, **options),
        lambda x: getattr(jnp, name)(x, axis),
    )


def cases():
    large, tall = randn(4096, 4096), randn(65536, 64)
    for axis in (0, 1, (0, 1)):
        yield _reduction("sum", large, axis)
    for axis in (0, 1):
        yield _reduction("max", large, axis)
        yield _reduction("var", large, axis)
        yield _reduction("sum", tall, axis)
    yield _reduction("sum", randn(64, 512, 512), 1)
    yield _reduction("argmax", large, 1)
    yield _reduction("argmax", large, 0)
    yield _reduction("argmax", tall, 1)
    yield _case(
        "logsumexp over 1", large,
        lambda x: ops.logsumexp(x, 1),
        lambda x: np.log(np.exp(x - x.max(1, keepdims=True)).sum(1)) + x.max(1),
        lambda x: torch.logsumexp(x, 1),
        lambda x: jax.nn.logsumexp(x, 1),
    )  # fmt: skip
    for axis in (0, 1):
        yield _case(
            f"cumsum over {axis}", large,
            lambda x, axis=axis: ops.cumsum(x, axis),
            lambda x, axis=axis: np.cumsum(x, axis),
            lambda x, axis=axis: torch.cumsum(x, axis),
            lambda x, axis=axis: jnp.cumsum(x, axis),
            moved=2 * large.nbytes,
        )  # fmt: skip


if __name__ == "__main__":
    main(__doc__, cases)
