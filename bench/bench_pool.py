"""Max and average pooling, channels last; PyTorch gets the same memory as channels_last."""

from harness import Case, functional, jax, jnp, main, randn
from narae import ops


def _of_torch(pool, **options):
    return lambda x: pool(x.movedim(-1, 1), **options).movedim(1, -1)


def _of_jax(kind, window, stride, padding):
    sizes, steps = (1, window, window, 1), (1, stride, stride, 1)
    pads = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    if kind == "max":
        return lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, sizes, steps, pads)

    def average(x):
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, sizes, steps, pads) / window**2

    return average


def _pool(kind, window, stride, padding, *shape):
    x = randn(*shape)
    pool = ops.max_pool if kind == "max" else ops.average_pool
    torch_pool = functional.max_pool2d if kind == "max" else functional.avg_pool2d
    name = "same" if padding else "valid"
    forms = {
        "narae": lambda x: pool(x, window, stride, name),
        "torch": _of_torch(torch_pool, kernel_size=window, stride=stride, padding=padding),
        "jax": _of_jax(kind, window, stride, padding),
    }
    outputs = x.nbytes // stride**2
    # backward of max reads x, y and dy and writes dx, that of average reads dy and writes dx
    backward = 2 * x.nbytes + (2 if kind == "max" else 1) * outputs
    title = f"{kind} {window} by {stride}, {'x'.join(map(str, shape))}"
    forward = x.nbytes + outputs
    return Case(title, [x], forms, moved=forward, backward_moved=forward + backward)


def cases():
    yield _pool("max", 2, 2, 0, 32, 32, 32, 64)
    yield _pool("average", 2, 2, 0, 32, 32, 32, 64)
    yield _pool("max", 2, 2, 0, 64, 28, 28, 32)
    yield _pool("max", 3, 2, 0, 8, 113, 113, 64)
    yield _pool("max", 3, 1, 1, 32, 16, 16, 128)
    yield _pool("average", 3, 1, 0, 32, 16, 16, 128)


if __name__ == "__main__":
    main(__doc__, cases)
