"""One update of 10 million parameters, in 20 variables; PyTorch in its fused form."""

import narae
from harness import Case, jax, jnp, main, np, randn, torch

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


if __name__ == "__main__":
    main(__doc__, cases)
