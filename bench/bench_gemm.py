"""Matrix products: squares, skinny, one row, transposed, batched, with bias and activation."""

from harness import Case, functional, in_bfloat16, jax, jnp, main, np, randn, torch
from narae import ops


def _product(name, a, b):
    flops = 2 * a.size * b.shape[-1] if a.ndim >= b.ndim else 2 * a.size * b.size
    forms = {
        "narae": ops.matmul,
        "numpy": lambda a, b: np.matmul(a, b),
        "torch": lambda a, b: torch.matmul(a, b),
        "jax": lambda a, b: jnp.matmul(a, b),
    }
    return Case(name, [a, b], forms, flops=flops, backward_flops=3 * flops)


def _transposed(name, a, b):
    """a^T b, the shape of a weight gradient."""
    forms = {
        "narae": lambda a, b: ops.matmul(ops.transpose(a), b),
        "numpy": lambda a, b: a.T @ b,
        "torch": lambda a, b: a.T @ b,
        "jax": lambda a, b: a.T @ b,
    }
    return Case(name, [a, b], forms, flops=2 * a.size * b.shape[1])


def _dense(name, rows, inputs, units):
    x, w, b = randn(rows, inputs), randn(inputs, units, scale=0.05), randn(units)
    forms = {
        "narae": lambda x, w, b: ops.relu(ops.add(ops.matmul(x, w), b)),
        "numpy": lambda x, w, b: np.maximum(x @ w + b, 0),
        "torch": lambda x, w, b: functional.relu(torch.addmm(b, x, w)),
        "jax": lambda x, w, b: jax.nn.relu(x @ w + b),
    }
    flops = 2 * rows * inputs * units
    return Case(name, [x, w, b], forms, flops=flops, backward_flops=3 * flops)


def cases():
    for n in (64, 128, 256, 512, 1024, 2048):
        yield _product(f"matmul {n}", randn(n, n), randn(n, n, seed=1))
    for m, k, n in ((1, 4096, 4096), (8, 1024, 1024), (32, 784, 300), (128, 784, 256)):
        yield _product(f"matmul {m}x{k}x{n}", randn(m, k), randn(k, n))
    for m, k, n in ((4096, 64, 64), (768, 384, 1536), (2048, 2048, 16), (4096, 16, 4096)):
        yield _product(f"matmul {m}x{k}x{n}", randn(m, k), randn(k, n))
    yield _product("matmul 48 of 64x64x64", randn(48, 64, 64), randn(48, 64, 64, seed=1))
    yield _product("matmul 48 of 512x64x512", randn(48, 512, 64), randn(48, 64, 512))
    yield _transposed("matmul a^T b 1024", randn(1024, 1024), randn(1024, 1024, seed=1))
    yield _transposed("matmul a^T b 784x32x300", randn(32, 784), randn(32, 300))
    yield _dense("dense relu 32x784 to 300", 32, 784, 300)
    for n in (256, 512, 1024, 2048):
        yield in_bfloat16(_product(f"matmul {n}", randn(n, n), randn(n, n, seed=1)))
    for m, k, n in ((1024, 384, 1536), (1024, 1536, 384), (32, 784, 300)):
        yield in_bfloat16(_product(f"matmul {m}x{k}x{n}", randn(m, k), randn(k, n)))


if __name__ == "__main__":
    main(__doc__, cases)
