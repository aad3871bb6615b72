"""One update of 10 million parameters, in 20 variables; PyTorch in its fused form.

And a dense kernel's forward product, gradient and update, where narae does the last two at once.
"""

import narae
from harness import Case, jax, jnp, main, np, randn, torch
from narae.engine.tape import products_kept

SHAPE, COUNT = (500, 1000), 20


def _narae(rule):
    def prepare(w, g):
        variables = [narae.Variable(w) for _ in range(COUNT)]
        optimizer = rule()
        optimizer.build(variables)
        gradients = [g] * COUNT

        def update():
            optimizer.apply(gradients, variables)
            return variables[0]

        return update

    return prepare


def _torch(rule):
    def prepare(w, g):
        variables = [w.clone().requires_grad_() for _ in range(COUNT)]
        for v in variables:
            v.grad = g.clone()
        optimizer = rule(variables)

        def update():
            optimizer.step()
            return variables[0].detach()

        return update

    return prepare


def _jax_adam(w, g):
    @jax.jit
    def step(w, m, v, g, t):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        alpha = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        return w - alpha * m / (jnp.sqrt(v) + 1e-7), m, v

    step = jax.jit(step, donate_argnums=(0, 1, 2))
    # copies: the step takes its inputs' memory
    states = [(w + 0, jnp.zeros_like(w), jnp.zeros_like(w)) for _ in range(COUNT)]
    steps = [0]

    def update():
        steps[0] += 1
        for i in range(COUNT):
            states[i] = step(*states[i], g, float(steps[0]))
        return jax.block_until_ready(states)[0][0]

    return update


def _case(name, arrays, **forms):
    w, g = randn(*SHAPE, scale=0.05), randn(*SHAPE, seed=1)
    g += np.copysign(np.float32(0.1), g)  # libraries add epsilon at different places
    return Case(
        name, [w, g], forms, moved=arrays * w.nbytes * COUNT, prepared=True
    )  # fmt: skip


def _narae_kernel(x, w, dy):
    variable, optimizer = narae.Variable(w), narae.optimizers.SGD(1e-3)
    optimizer.build([variable])

    def update():
        with narae.GradientTape() as tape:
            y = narae.ops.dense(x, variable)
        with products_kept(optimizer.product_slots):  # as in a model's training step
            gradients = tape.gradient(y, [variable], output_gradients=dy)
        optimizer.apply(gradients)
        return variable

    return update


def _torch_kernel(x, w, dy):
    w = w.clone().requires_grad_()
    optimizer = torch.optim.SGD([w], 1e-3, fused=True)

    def update():
        optimizer.zero_grad()
        torch.matmul(x, w).backward(dy)
        optimizer.step()
        return w.detach()

    return update


def _jax_kernel(x, w, dy):
    def step(w, x, dy):
        y, pull = jax.vjp(lambda w: x @ w, w)
        return w - 1e-3 * pull(dy)[0], y

    step = jax.jit(step, donate_argnums=0)
    state = [w + 0]

    def update():
        state[0], y = step(state[0], x, dy)
        jax.block_until_ready(y)
        return jax.block_until_ready(state[0])

    return update


def _kernel(samples, inputs, units):
    forms = {"narae": _narae_kernel, "torch": _torch_kernel, "jax": _jax_kernel}
    arrays = [randn(samples, inputs), randn(inputs, units, scale=0.05), randn(samples, units)]
    name, flops = f"sgd, dense {samples}x{inputs} to {units}", 4 * samples * inputs * units
    return Case(name, arrays, forms, flops=flops, prepared=True)


def cases():
    optimizers = narae.optimizers
    yield _case(
        "adam", 7, narae=_narae(lambda: optimizers.Adam(1e-3, epsilon=1e-7)),
        torch=_torch(lambda v: torch.optim.Adam(v, 1e-3, eps=1e-7, fused=True)), jax=_jax_adam,
    )  # fmt: skip
    yield _case(
        "sgd", 3, narae=_narae(lambda: optimizers.SGD(1e-3)),
        torch=_torch(lambda v: torch.optim.SGD(v, 1e-3, fused=True)),
    )  # fmt: skip
    yield _case(
        "sgd, momentum", 5, narae=_narae(lambda: optimizers.SGD(1e-3, momentum=0.9)),
        torch=_torch(lambda v: torch.optim.SGD(v, 1e-3, momentum=0.9, fused=True)),
    )  # fmt: skip
    yield _kernel(32, 784, 300)
    yield _kernel(64, 4096, 4096)


if __name__ == "__main__":
    main(__doc__, cases)
