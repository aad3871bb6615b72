"""Convolutions: 3 x 3, 1 x 1, first layers, strided, depthwise, one axis; alone and with gradients.

Every library gets its own best layout, in memory of its own, before the clock starts: PyTorch
channels_last images and filters, JAX images channels last and filters (height, width, channels,
filters), as narae. In training nobody needs a first layer's dx: its gradients are timed without it
and, as of a layer inside of a network, with it.
"""

import copy

from harness import Case, functional, in_bfloat16, jax, jnp, main, np, randn, torch
from narae import GradientTape, ops


class Convolution:
    """x (N, *size, C) with F filters of the kernel; `first`: nobody needs dx but an extra case."""

    def __init__(self, N, size, C, F, kernel, strides=1, depthwise=False, first=False):
        self.strides, self.depthwise, self.first = strides, depthwise, first
        self.pads = [((k - 1) // 2, k // 2) for k in kernel]
        self.groups = C if depthwise else 1
        self.x = randn(N, *size, C)
        self.w = randn(*kernel, C // self.groups, F, scale=(np.prod(kernel) * C) ** -0.5)
        self.out = [(s + sum(p) - k) // strides + 1 for s, p, k in zip(size, self.pads, kernel)]
        self.flops = 2 * N * np.prod(self.out) * self.w.size
        self.dy = randn(N, *self.out, F, seed=3)

    def narae(self, x, w):
        op, options = ops.conv, {"strides": self.strides, "padding": self.pads}
        if self.depthwise:
            op, w = ops.depthwise_conv, ops.reshape(w, (*w.shape[:-2], w.shape[-1], 1))
        x = ops.multiply(x, 1)
        dy, watched = ops.cast(self.dy, x.dtype), [w] if self.first else [x, w]

        def gradients():
            with GradientTape() as tape:
                tape.watch(watched)
                y = op(x, w, **options)
            dw = tape.gradient(y, watched, output_gradients=dy)
            return [y, *dw[:-1], dw[-1].numpy().reshape(self.w.shape)]

        return lambda: op(x, w, **options), gradients

    def torch(self, x, w):
        rank = x.ndim - 2
        conv = functional.conv2d if rank == 2 else functional.conv1d
        layout = torch.channels_last if rank == 2 else torch.contiguous_format
        x, dy = x.movedim(-1, 1), torch.from_numpy(self.dy).to(x.dtype).movedim(-1, 1)
        w = w.movedim((-1, -2), (0, 1)).contiguous(memory_format=layout).requires_grad_()
        if rank == 1:
            x, dy = x.contiguous(), dy.contiguous()
        x = x.clone().requires_grad_(not self.first)
        before = [p[0] for p in self.pads]
        watched = [w] if self.first else [x, w]

        def call():
            return conv(x, w, None, self.strides, before, 1, self.groups)

        def forward():
            with torch.inference_mode():
                return call().movedim(1, -1)

        def gradients():
            y = call()
            *dx, dw = torch.autograd.grad(y, watched, dy)
            return [
                y.detach().movedim(1, -1),
                *(d.movedim(1, -1) for d in dx),
                dw.movedim((0, 1), (-1, -2)),
            ]

        return forward, gradients

    def jax(self, x, w):
        axes = "HW"[2 - (x.ndim - 2) :]
        layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")

        @jax.jit
        def forward(x, w):
            return jax.lax.conv_general_dilated(
                x, w, (self.strides,) * len(axes), self.pads,
                dimension_numbers=layout, feature_group_count=self.groups,
            )  # fmt: skip

        @jax.jit
        def gradients(x, w, dy):
            f, of = (lambda w: forward(x, w), (w,)) if self.first else (forward, (x, w))
            y, pull = jax.vjp(f, *of)
            return y, *pull(dy)

        dy = jnp.asarray(self.dy, x.dtype)
        return (
            lambda: jax.block_until_ready(forward(x, w)),
            lambda: jax.block_until_ready(gradients(x, w, dy)),
        )

    def cases(self, name):
        forms = {"narae": self.narae, "torch": self.torch, "jax": self.jax}
        gradients = (", dw alone", 2) if self.first else (", gradients", 3)
        for index, (suffix, times) in enumerate([("", 1), gradients]):
            yield Case(
                name + suffix, [self.x, self.w],
                {key: (lambda x, w, f=f, i=index: f(x, w)[i]) for key, f in forms.items()},
                flops=times * self.flops, prepared=True,
            )  # fmt: skip
        if self.first:
            both = copy.copy(self)
            both.first = False
            yield list(both.cases(name))[1]


def cases():
    for n, c, size in ((32, 64, 32), (32, 128, 16), (32, 256, 8), (32, 512, 4), (8, 64, 56)):
        yield from Convolution(n, (size, size), c, c, (3, 3)).cases(f"3x3 n{n} c{c} {size}x{size}")
    for c, size in ((64, 56), (128, 28), (256, 14), (512, 7), (512, 4)):
        yield from Convolution(1, (size, size), c, c, (3, 3)).cases(f"3x3 n1 c{c} {size}x{size}")
    yield from Convolution(64, (13, 13), 32, 64, (3, 3)).cases("3x3 n64 c32 13x13 to 64")
    yield from Convolution(32, (16, 16), 64, 128, (5, 5)).cases("5x5 n32 c64 16x16 to 128")
    first = {"first": True}
    yield from Convolution(8, (224, 224), 3, 64, (7, 7), 2, **first).cases(
        "7x7 s2 n8 c3 224x224 to 64"
    )
    yield from Convolution(32, (32, 32), 3, 64, (3, 3), **first).cases("3x3 n32 c3 32x32 to 64")
    yield from Convolution(32, (28, 28), 1, 32, (3, 3), **first).cases("3x3 n32 c1 28x28 to 32")
    yield from Convolution(32, (32, 32), 64, 3, (3, 3)).cases("3x3 n32 c64 32x32 to 3")
    yield from Convolution(32, (32, 32), 64, 128, (3, 3), 2).cases("3x3 s2 n32 c64 32x32 to 128")
    yield from Convolution(32, (32, 32), 64, 128, (1, 1), 2).cases("1x1 s2 n32 c64 32x32 to 128")
    yield from Convolution(8, (56, 56), 256, 64, (1, 1)).cases("1x1 n8 c256 56x56 to 64")
    yield from Convolution(8, (56, 56), 64, 256, (1, 1)).cases("1x1 n8 c64 56x56 to 256")
    for n, c, size, s in ((8, 128, 56, 1), (32, 128, 8, 1), (32, 64, 32, 2)):
        name = f"depthwise 3x3 s{s} n{n} c{c} {size}x{size}"
        yield from Convolution(n, (size, size), c, c, (3, 3), s, depthwise=True).cases(name)
    for k in (3, 5):
        yield from Convolution(32, (100,), 64, 128, (k,)).cases(f"{k} taps n32 c64 100 to 128")
    for n, c, size in ((32, 64, 32), (32, 128, 16), (32, 256, 8), (32, 512, 4)):
        plain = Convolution(n, (size, size), c, c, (3, 3)).cases(f"3x3 n{n} c{c} {size}x{size}")
        yield from map(in_bfloat16, plain)
    strided = Convolution(32, (32, 32), 64, 128, (3, 3), 2)
    yield from map(in_bfloat16, strided.cases("3x3 s2 n32 c64 32x32 to 128"))


if __name__ == "__main__":
    main(__doc__, cases, peers="torch,jax")
