"""LSTM and GRU over whole sequences, with the gradients of inputs and weights.

Every library gets the weights as it lays them out, so that no call turns them.
"""

from harness import Case, jax, jnp, main, np, randn, torch
from narae import GradientTape, ops


def _narae(name, gradients):
    def prepared(x, w, u, b, dy):
        def forward():
            states = (None, None) if name == "lstm" else (None,)
            return getattr(ops, name)(x, *states, w, u, b)[0]

        def both():
            with GradientTape() as tape:
                tape.watch([x, w, u, b])
                y = forward()
            return [y, *tape.gradient(y, [x, w, u, b], output_gradients=dy)[:3]]

        return both if gradients else forward

    return prepared


def _torch(name, gradients):
    def prepared(x, w, u, b, dy):
        layer = getattr(torch.nn, name.upper())(x.shape[2], dy.shape[2], batch_first=True)
        # (gates * units, features), and update before reset where Keras has it after
        order = [1, 0, 2] if name == "gru" else [0, 1, 2, 3]
        w, u = (torch.cat([m.chunk(len(order), 1)[i] for i in order], 1).T for m in (w, u))
        values = dict(layer.named_parameters())
        with torch.no_grad():
            for key, value in {"weight_ih_l0": w, "weight_hh_l0": u}.items():
                values[key].copy_(value)
            for key in ("bias_ih_l0", "bias_hh_l0"):
                values[key].zero_()
        x = x.clone().requires_grad_()

        def forward():
            with torch.inference_mode():
                return layer(x)[0]

        def both():
            y = layer(x)[0]
            dx, dw, du, *_ = torch.autograd.grad(y, [x, *values.values()], dy)
            turned = (torch.cat([m.chunk(len(order))[i] for i in order]).T for m in (dw, du))
            return [y.detach(), dx, *turned]

        return both if gradients else forward

    return prepared


def _jax(name, gradients):
    def lstm(u, b, state, a):
        h, c = state
        i, f, g, o = jnp.split(a + b + h @ u, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def gru(u, b, h, a):
        x_z, x_r, x_g = jnp.split(a + b[0], 3, -1)
        h_z, h_r, h_g = jnp.split(h @ u + b[1], 3, -1)
        z, r = jax.nn.sigmoid(x_z + h_z), jax.nn.sigmoid(x_r + h_r)
        h = z * h + (1 - z) * jnp.tanh(x_g + r * h_g)
        return h, h

    def prepared(x, w, u, b, dy):
        def forward(x, w, u):
            zeros = jnp.zeros(dy[:, 0].shape)
            step, state = (lstm, (zeros, zeros)) if name == "lstm" else (gru, zeros)
            a = jnp.swapaxes(x @ w, 0, 1)
            y = jax.lax.scan(lambda s, a: step(u, b, s, a), state, a)[1]
            return jnp.swapaxes(y, 0, 1)

        def both(x, w, u):
            y, pull = jax.vjp(forward, x, w, u)
            return [y, *pull(dy)]

        call = jax.jit(both if gradients else forward)
        return lambda: jax.block_until_ready(call(x, w, u))

    return prepared


def _recurrent(name, B, T, features, U):
    gates = {"lstm": 4, "gru": 3}[name]
    bias = np.zeros((2, gates * U) if name == "gru" else gates * U, "float32")
    inputs = [
        randn(B, T, features), randn(features, gates * U, scale=features**-0.5),
        randn(U, gates * U, scale=U**-0.5), bias, randn(B, T, U),
    ]  # fmt: skip
    flops = 2 * B * T * (features + U) * gates * U
    for gradients in (False, True):
        forms = {"narae": _narae, "torch": _torch, "jax": _jax}
        forms = {library: form(name, gradients) for library, form in forms.items()}
        kind = " and gradients" if gradients else ""
        case = f"{name} b{B} t{T} {features} to {U}{kind}"
        yield Case(case, inputs, forms, flops=flops * (3 if gradients else 1), prepared=True)


def cases():
    yield from _recurrent("lstm", 32, 64, 128, 256)
    yield from _recurrent("gru", 32, 64, 128, 256)
    yield from _recurrent("lstm", 32, 50, 64, 128)
    yield from _recurrent("gru", 32, 64, 64, 256)


if __name__ == "__main__":
    main(__doc__, cases)
