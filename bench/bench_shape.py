"""Transposes, concatenation, slices, padding: elements that move and nothing else."""

from harness import Case, jax, jnp, main, np, randn, torch
from narae import ops


def _transpose(axes, *shape):
    """PyTorch and JAX are asked for the moved elements, not for a view."""
    forms = {
        "narae": lambda x: ops.transpose(x, axes),
        "numpy": lambda x: np.ascontiguousarray(x.transpose(axes)),
        "torch": lambda x: x.permute(axes).contiguous(),
        "jax": lambda x: jnp.transpose(x, axes),
    }
    x = randn(*shape)
    name = f"transpose {'x'.join(map(str, shape))} to {''.join(map(str, axes))}"
    return Case(name, [x], forms, moved=2 * x.nbytes)


def _concatenate(axis, *shape):
    forms = {
        "narae": lambda a, b: ops.concatenate([a, b], axis),
        "numpy": lambda a, b: np.concatenate([a, b], axis),
        "torch": lambda a, b: torch.cat([a, b], axis),
        "jax": lambda a, b: jnp.concatenate([a, b], axis),
    }
    a, b = randn(*shape), randn(*shape, seed=1)
    name = f"concatenate {'x'.join(map(str, shape))} along {axis}"
    return Case(name, [a, b], forms, moved=4 * a.nbytes)


def _pad(*shape):
    width = [(0, 0), (1, 1), (1, 1), (0, 0)]
    forms = {
        "narae": lambda x: ops.pad(x, width),
        "numpy": lambda x: np.pad(x, width),
        "torch": lambda x: torch.nn.functional.pad(x, (0, 0, 1, 1, 1, 1)),
        "jax": lambda x: jnp.pad(x, width),
    }
    x = randn(*shape)
    return Case(f"pad {'x'.join(map(str, shape))}", [x], forms, moved=2 * x.nbytes)


def _slice():
    forms = {
        "narae": lambda x: x[:, 1:-1, 1:-1],
        "numpy": lambda x: np.ascontiguousarray(x[:, 1:-1, 1:-1]),
        "torch": lambda x: x[:, 1:-1, 1:-1].contiguous(),
        "jax": lambda x: jax.lax.slice(x, (0, 1, 1, 0), (32, 33, 33, 64)),
    }
    x = randn(32, 34, 34, 64)
    return Case("slice 32x34x34x64", [x], forms, moved=2 * 4 * 32 * 32 * 32 * 64)


def cases():
    for shape in ((512, 512), (2048, 2048), (4096, 4096), (1000, 3001)):
        yield _transpose((1, 0), *shape)
    yield _transpose((0, 2, 1, 3), 32, 256, 8, 64)  # attention heads
    yield _transpose((0, 3, 1, 2), 32, 56, 56, 64)  # to channels first
    yield _transpose((0, 2, 3, 1), 32, 64, 56, 56)  # to channels last
    yield _concatenate(-1, 32, 32, 32, 64)
    yield _concatenate(0, 1024, 1024)
    yield _pad(32, 32, 32, 64)
    yield _slice()


if __name__ == "__main__":
    main(__doc__, cases)
