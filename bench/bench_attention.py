"""Scaled dot-product attention, causal and full, with its gradients."""

from harness import Case, functional, in_bfloat16, jax, main, randn
from narae import ops


def _attention(B, H, T, D, causal):
    def by_torch(q, k, v):  # heads before time, as views
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return functional.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)

    forms = {
        "narae": lambda q, k, v: ops.dot_product_attention(q, k, v, is_causal=causal),
        "torch": by_torch,
        "jax": lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=causal),
    }
    flops = 4 * B * H * T * T * D // (2 if causal else 1)  # q k^T and p v
    name = f"b{B} h{H} t{T} d{D} {'causal' if causal else 'full'}"
    # Backward: q k^T once more, dy v^T, and the products for dq, dk and dv.
    inputs = [randn(B, T, H, D, seed=i) for i in range(3)]
    return Case(name, inputs, forms, flops=flops, backward_flops=3.5 * flops)


def cases():
    yield _attention(4, 12, 512, 64, causal=True)
    yield _attention(4, 12, 512, 64, causal=False)
    yield _attention(1, 8, 2048, 64, causal=True)
    yield _attention(12, 4, 64, 32, causal=True)
    yield in_bfloat16(_attention(4, 12, 512, 64, causal=True))


if __name__ == "__main__":
    main(__doc__, cases)
