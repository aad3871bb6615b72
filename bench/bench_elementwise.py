"""Elementwise functions: arithmetic with broadcasting, exp, log ..., and the activations."""

from harness import Case, functional, jax, jnp, main, np, randn, torch
from narae import ops

LARGE = (4096, 3072)  # 50 MB: nothing stays in a cache


def _case(name, forms, *inputs, backward_arrays=0, tolerance=1e-4):
    x = max(inputs, key=lambda i: i.nbytes)
    moved = sum(i.nbytes for i in inputs) + x.nbytes
    return Case(
        name, inputs, forms, moved=moved, backward_moved=backward_arrays * x.nbytes,
        tolerance=tolerance,
    )  # fmt: skip


def _arithmetic():
    a, b, row = randn(*LARGE), randn(*LARGE, seed=1), randn(LARGE[1])
    add = dict.fromkeys(("narae", "numpy", "torch", "jax"), lambda a, b: a + b)
    yield _case("add", add, a, b)
    yield _case("add a row", add, a, row)
    divide = dict.fromkeys(("narae", "numpy", "torch", "jax"), lambda a, b: a / (b * b + 1.0))
    yield _case("a / (b * b + 1), 1 MB", divide, randn(512, 512), randn(512, 512, seed=1))
    where = {
        "narae": lambda a, b: ops.where(ops.greater(a, 0.0), a, b),
        "numpy": lambda a, b: np.where(a > 0, a, b),
        "torch": lambda a, b: torch.where(a > 0, a, b),
        "jax": lambda a, b: jnp.where(a > 0, a, b),
    }
    yield _case("where", where, a, b)


def _functions():
    x = np.abs(randn(*LARGE)) + np.float32(0.1)
    for name in ("exp", "log", "sqrt", "tanh", "sin"):
        forms = {
            "narae": getattr(ops, name),
            "numpy": lambda x, name=name: getattr(np, name)(x),
            "torch": lambda x, name=name: getattr(torch, name)(x),
            "jax": lambda x, name=name: getattr(jnp, name)(x),
        }
        yield _case(name, forms, x)
    power = {
        "narae": lambda x: ops.power(x, 1.7),
        "numpy": lambda x: np.power(x, np.float32(1.7)),
        "torch": lambda x: torch.pow(x, 1.7),
        "jax": lambda x: jnp.power(x, 1.7),
    }
    yield _case("power 1.7", power, x)


def _activations():
    x = randn(*LARGE)
    peers = {
        "relu": (lambda x: functional.relu(x), lambda x: jax.nn.relu(x)),
        "sigmoid": (lambda x: torch.sigmoid(x), lambda x: jax.nn.sigmoid(x)),
        "tanh": (lambda x: torch.tanh(x), lambda x: jnp.tanh(x)),
        "silu": (lambda x: functional.silu(x), lambda x: jax.nn.silu(x)),
        "elu": (lambda x: functional.elu(x), lambda x: jax.nn.elu(x)),
        "softplus": (lambda x: functional.softplus(x), lambda x: jax.nn.softplus(x)),
    }
    for name, (torch_form, jax_form) in peers.items():
        forms = {"narae": getattr(ops, name), "torch": torch_form, "jax": jax_form}
        yield _case(f"activation {name}", forms, x, backward_arrays=5)
    for approximate, name in ((True, "gelu, tanh form"), (False, "gelu")):
        form = "tanh" if approximate else "none"
        forms = {
            "narae": lambda x, approximate=approximate: ops.gelu(x, approximate=approximate),
            "torch": lambda x, form=form: functional.gelu(x, approximate=form),
            "jax": lambda x, approximate=approximate: jax.nn.gelu(x, approximate=approximate),
        }
        yield _case(f"activation {name}", forms, x, backward_arrays=5)
        yield _case(f"activation {name}, 1 MB", forms, randn(512, 512), backward_arrays=5)


def cases():
    yield from _arithmetic()
    yield from _functions()
    yield from _activations()


if __name__ == "__main__":
    main(__doc__, cases)
