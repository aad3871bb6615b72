"""Moving elements: NumPy in one line is the reference, `rearrange_backward` that of gradients."""

import numpy as np
import pytest

from helpers import assert_close, randn
from narae import ops
from narae.engine import GradientTape, Tensor, convert_to_tensor
from reference import shape as reference


def gradient(f, x):
    x = convert_to_tensor(x)
    with GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    dy = randn(y.shape, y.dtype, seed=99)
    return y.numpy(), tape.gradient(y, x, output_gradients=Tensor(dy)).numpy(), dy


X = (3, 4, 5)
MOVES = {
    "reshape": (X, lambda o, x: o.reshape(x, (5, -1))),
    "ravel": (X, lambda o, x: o.ravel(x)),
    "expand_dims": (X, lambda o, x: o.expand_dims(x, (0, -1))),
    "squeeze": ((1, 3, 1), lambda o, x: o.squeeze(x, 0)),
    "squeeze_all": ((1, 3, 1), lambda o, x: o.squeeze(x)),
    "transpose": (X, lambda o, x: o.transpose(x)),
    "transpose_axes": ((2, 3, 4, 5), lambda o, x: o.transpose(x, (2, 0, 3, 1))),
    "transpose_large": ((65, 70), lambda o, x: o.transpose(x)),
    "transpose_inner": ((4, 33, 47), lambda o, x: o.transpose(x, (0, 2, 1))),
    "transpose_heads": ((2, 9, 4, 8), lambda o, x: o.transpose(x, (0, 2, 1, 3))),
    "transpose_small": ((40, 40, 3), lambda o, x: o.transpose(x, (2, 0, 1))),
    "moveaxis": ((2, 3, 4, 5), lambda o, x: o.moveaxis(x, (0, 2), (-1, 0))),
    "swapaxes": (X, lambda o, x: o.swapaxes(x, 0, -1)),
    "flip": (X, lambda o, x: o.flip(x)),
    "flip_axis": (X, lambda o, x: o.flip(x, -1)),
    "fliplr": (X, lambda o, x: o.fliplr(x)),
    "flipud": (X, lambda o, x: o.flipud(x)),
    "rot90": (X, lambda o, x: o.rot90(x)),
    "rot90_thrice": (X, lambda o, x: o.rot90(x, 3, (1, 2))),
    "tile": (X, lambda o, x: o.tile(x, (2, 1, 3))),
    "tile_more": ((2, 3), lambda o, x: o.tile(x, (2, 2, 1))),
    "repeat": (X, lambda o, x: o.repeat(x, 2, 1)),
    "repeat_flat": (X, lambda o, x: o.repeat(x, 3)),
    "roll": (X, lambda o, x: o.roll(x, 2, 1)),
    "roll_flat": (X, lambda o, x: o.roll(x, -7)),
    "roll_axes": (X, lambda o, x: o.roll(x, (1, -2), (0, 2))),
    "broadcast_to": ((3, 1), lambda o, x: o.broadcast_to(x, (2, 3, 7))),
    "pad": (X, lambda o, x: o.pad(x, ((1, 2), (0, 0), (3, 1)))),
    "pad_one": (X, lambda o, x: o.pad(x, 2)),
    "tril": (X, lambda o, x: o.tril(x, 1)),
    "triu": (X, lambda o, x: o.triu(x, -1)),
    "diag": ((4,), lambda o, x: o.diag(x, -1)),
    "diag_of": ((4, 5), lambda o, x: o.diag(x, 1)),
    "diagflat": ((2, 2), lambda o, x: o.diagflat(x)),
    "diagonal": (X, lambda o, x: o.diagonal(x, 1, 0, 2)),
    "index": (X, lambda o, x: x[1]),
    "index_last": (X, lambda o, x: x[-1, :, 2]),
    "index_steps": (X, lambda o, x: x[::2, 3:0:-1, ::-2]),
    "index_new": (X, lambda o, x: x[:, None, ..., 1:]),
    "index_all": (X, lambda o, x: x[1, 2, 3]),
    "index_none": (X, lambda o, x: x[2:1]),
}


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moves(isa, name, dtype):
    shape, f = MOVES[name]
    x = randn(shape, dtype)
    y, dx, dy = gradient(lambda x: f(ops, x), x)
    np.testing.assert_array_equal(y, f(np, x))
    assert y.flags.c_contiguous
    expected = reference.rearrange_backward(dy.astype("f8"), x, lambda x: f(np, x))
    assert_close(dx, expected, scale=2 * np.abs(expected) + 8)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64"])
def test_moves_of_integers(isa, dtype):
    x = np.arange(3 * 37 * 5).reshape(3, 37, 5).astype(dtype)
    for f in (lambda o, x: o.transpose(x, (2, 1, 0)), lambda o, x: o.pad(x, 1),
              lambda o, x: o.concatenate([x, x], 1), lambda o, x: o.stack([x, x], -1)):  # fmt: skip
        y = f(ops, x)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.numpy(), f(np, x))


@pytest.mark.parametrize("shape", [(300, 500), (7, 300, 200), (1_000, 3), (3, 40_000), (70_000,)])
def test_large_moves(isa, shape):
    x = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    np.testing.assert_array_equal(ops.transpose(x).numpy(), x.T)
    np.testing.assert_array_equal(ops.flip(x).numpy(), np.flip(x))
    np.testing.assert_array_equal(ops.roll(x, 5, -1).numpy(), np.roll(x, 5, -1))


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_large_outputs_are_streamed(isa, dtype):
    """More than 16 MB, with rows that start on a register's boundary (2064 elements) or do not."""
    for n in (2064, 2067):
        x = (np.arange(n * 2100) % 251).astype(dtype).reshape(n, 2100)
        y = ops.transpose(x)
        np.testing.assert_array_equal(y.numpy(), x.T)
        np.testing.assert_array_equal(ops.concatenate([y, y], -1).numpy(), np.hstack([x.T, x.T]))


def test_second_derivative_goes_through_moves():
    x = convert_to_tensor(randn((3, 4), "float64"))
    with GradientTape() as outer:
        outer.watch(x)
        with GradientTape() as inner:
            inner.watch(x)
            y = ops.sum_to_shape(ops.pad(ops.transpose(x)[1:, ::2], 1) ** 3, ())
        dx = inner.gradient(y, x)
    expected = np.zeros((3, 4))
    expected[::2, 1:] = 6 * x.numpy()[::2, 1:]
    np.testing.assert_allclose(outer.gradient(dx, x).numpy(), expected)


def test_a_view_shares_memory():
    x = convert_to_tensor(randn((4, 6)))
    for y in (
        ops.reshape(x, (6, 4)),
        ops.expand_dims(x, 0),
        x[...],
        ops.transpose(x[None], (1, 0, 2)),
    ):
        assert np.shares_memory(y.array, x.array)
    for y in (ops.copy(x), ops.transpose(x), x[1:]):
        assert not np.shares_memory(y.array, x.array)


def test_concatenate(isa):
    xs = [randn((2, n, 3), seed=n) for n in (1, 0, 4, 2)]
    tensors = [convert_to_tensor(x) for x in xs]
    with GradientTape() as tape:
        tape.watch(tensors)
        y = ops.concatenate(tensors, 1)
    np.testing.assert_array_equal(y.numpy(), np.concatenate(xs, 1))
    dy = randn(y.shape, seed=9)
    got = tape.gradient(y, tensors, output_gradients=Tensor(dy))
    for dx, expected in zip(got, reference.concatenate_backward(dy, *xs, axis=1)):
        np.testing.assert_array_equal(dx.numpy(), expected)
    assert ops.concatenate([np.int32([1]), np.float32([2])]).dtype == "float32"


def test_split_and_its_like(isa):
    x = randn((6, 4, 2))
    for f in (lambda o: o.split(x, 3), lambda o: o.split(x, [1, 3], 1),
              lambda o: o.split(x, [1, 9]),
              lambda o: o.array_split(x, 4), lambda o: o.hsplit(x, 2), lambda o: o.vsplit(x, 2),
              lambda o: o.dsplit(x, 2)):  # fmt: skip
        for a, b in zip(f(ops), f(np), strict=True):
            np.testing.assert_array_equal(a.numpy(), b)
    for axis in (0, 1, -1):
        parts = ops.unstack(x, axis=axis)
        assert len(parts) == x.shape[axis]
        np.testing.assert_array_equal(ops.stack(parts, axis).numpy(), x)
    t = convert_to_tensor(x)
    with GradientTape() as tape:
        tape.watch(t)
        a, _, c = ops.split(t, 3)
        y = a * 2 + c
    dx = tape.gradient(y, t).numpy()
    assert (dx[:2] == 2).all() and (dx[2:4] == 0).all() and (dx[4:] == 1).all()


def test_stacks():
    a, b = randn((3,)), randn((3,), seed=1)
    for name in ("hstack", "vstack", "dstack"):
        for pair in ([a, b], [a[:, None], b[:, None]], [a[:, None, None], b[:, None, None]]):
            np.testing.assert_array_equal(getattr(ops, name)(pair).numpy(), getattr(np, name)(pair))
    np.testing.assert_array_equal(ops.append(a, b).numpy(), np.append(a, b))


@pytest.mark.parametrize("mode", ["constant", "reflect", "symmetric", "edge", "wrap"])
def test_pad_modes(isa, mode):
    x = randn((4, 5))
    widths = ((2, 1), (0, 3))
    y, dx, dy = gradient(lambda x: ops.pad(x, widths, mode), x)
    np.testing.assert_array_equal(y, np.pad(x, widths, mode))
    expected = reference.rearrange_backward(dy.astype("f8"), x, lambda x: np.pad(x, widths, mode))
    assert_close(dx, expected, scale=np.full(x.shape, 16.0))
    if mode == "constant":
        np.testing.assert_array_equal(
            ops.pad(x, 1, constant_values=2.5).numpy(), np.pad(x, 1, constant_values=2.5)
        )


def test_slice_and_slice_update(isa):
    x, values = randn((4, 5, 6)), randn((2, 3, 1), seed=1)
    y = ops.slice(x, (1, 0, 2), (2, -1, 3))
    np.testing.assert_array_equal(y.numpy(), x[1:3, :, 2:5])
    tensors = [convert_to_tensor(x), convert_to_tensor(values)]
    with GradientTape() as tape:
        tape.watch(tensors)
        y = ops.slice_update(tensors[0], (1, 2, 5), tensors[1])
    np.testing.assert_array_equal(y.numpy(), reference_update(x, values))
    dy = randn(y.shape, seed=9)
    dx, dvalues = tape.gradient(y, tensors, output_gradients=Tensor(dy))
    np.testing.assert_array_equal(dx.numpy(), reference_update(dy, 0))
    np.testing.assert_array_equal(dvalues.numpy(), dy[1:3, 2:5, 5:6])


def reference_update(x, values):
    y = x.copy()
    y[1:3, 2:5, 5:6] = values
    return y


@pytest.mark.parametrize("key", [
    [2, 0, 2], np.array([[1, -1], [0, 0]]), (slice(None), [3, 1]), (..., [0, 4, 4]),
    ([0, 1], [2, 3]), (slice(1), [0, 1], slice(None, None, 2)), (1, [0, 0]), (None, [1]),
    np.arange(60).reshape(3, 4, 5) % 7 == 0, (slice(None), np.array([True, False, True, False])),
])  # fmt: skip
def test_index_arrays(key):
    x = randn(X)
    y, dx, dy = gradient(lambda x: x[key], x)
    np.testing.assert_array_equal(y, x[key])
    expected = reference.rearrange_backward(dy.astype("f8"), x, lambda x: x[key])
    assert_close(dx, expected, scale=np.full(X, 8.0))
    tensor = ops.array(x)[ops.array([1, 0])]
    np.testing.assert_array_equal(tensor.numpy(), x[[1, 0]])


def test_creation():
    assert ops.zeros((2, 3)).dtype == "float32" and not ops.zeros((2, 3)).numpy().any()
    assert ops.ones(3, "int32").numpy().tolist() == [1, 1, 1]
    assert ops.full((2,), 7, "uint8").numpy().tolist() == [7, 7]
    assert ops.full((2, 2), [1.0, 2.0]).numpy().tolist() == [[1, 2], [1, 2]]
    assert ops.zeros((0, 3)).shape == (0, 3) and ops.ones(()).shape == ()
    assert (
        ops.ones_like([True]).dtype == "bool" and ops.zeros_like([1], "float64").dtype == "float64"
    )
    assert ops.full_like(np.int64([1, 2]), 5).dtype == "int64"
    assert ops.arange(3).dtype == "int32" and ops.arange(3.0).dtype == "float32"
    np.testing.assert_array_equal(ops.arange(2, 11, 3).numpy(), [2, 5, 8])
    np.testing.assert_allclose(ops.arange(0, 1, 0.25).numpy(), [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(ops.linspace(0, 1, 5).numpy(), np.linspace(0, 1, 5))
    values, step = ops.linspace(0.0, 3.0, 3, endpoint=False, retstep=True)
    assert values.numpy().tolist() == [0, 1, 2] and float(step) == 1
    np.testing.assert_allclose(ops.logspace(0, 2, 3).numpy(), [1, 10, 100], rtol=1e-6)
    np.testing.assert_array_equal(ops.eye(3, 4, 1).numpy(), np.eye(3, 4, 1))
    np.testing.assert_array_equal(ops.identity(2, "int32").numpy(), np.eye(2))
    np.testing.assert_array_equal(ops.tri(3, 4, -1).numpy(), np.tri(3, 4, -1))
    for indexing in ("xy", "ij"):
        vectors = [1, 2], [3, 4, 5], [6]
        got = ops.meshgrid(*vectors, indexing=indexing)
        for a, b in zip(got, np.meshgrid(*vectors, indexing=indexing), strict=True):
            np.testing.assert_array_equal(a.numpy(), b)
    x = ops.array([[1, 2, 3]])
    assert ops.shape(x) == (1, 3) and ops.ndim(x) == 2 and ops.size(x) == 3
    assert ops.dtype(x) == "int32" and ops.is_tensor(x) and not ops.is_tensor(3)
    copy = ops.convert_to_numpy(x)
    copy[0, 0] = 9
    assert x.numpy()[0, 0] == 1


def test_errors():
    x = randn((3, 4))
    for call, message in [
        (lambda: ops.reshape(x, (5, 2)), "reshape: expected a shape of as many elements"),
        (lambda: ops.transpose(x, (0,)), "transpose: expected all axes"),
        (lambda: ops.transpose(x, (0, 0)), "transpose: expected different axes"),
        (lambda: ops.expand_dims(x, 5), "expand_dims: expected different axes"),
        (lambda: ops.squeeze(x, 0), "squeeze: expected axes of size 1"),
        (lambda: ops.concatenate([x, x[:, :2]], 0), "concatenate: expected shapes that agree"),
        (lambda: ops.concatenate([]), "concatenate: expected one or more"),
        (lambda: ops.stack([x, x[:2]]), "stack: expected tensors of one shape"),
        (lambda: ops.split(x, 2), "split: expected a number of parts"),
        (lambda: ops.unstack(x, 2), "unstack: expected num"),
        (lambda: ops.pad(x, -1), "pad: expected widths >= 0"),
        (lambda: ops.pad(x, 1, "mirror"), "pad: expected mode"),
        (lambda: ops.pad(x, 1, "edge", 3), "pad: expected constant_values only"),
        (lambda: ops.slice(x, (2, 0), (2, 4)), "slice: expected a block inside"),
        (lambda: ops.slice_update(x, (0,), x), "slice_update: expected a start"),
        (lambda: ops.zeros((-1,)), "zeros: expected sizes that are >= 0"),
        (lambda: ops.arange(0, 1, 0), "arange: expected step to be nonzero"),
        (lambda: ops.diag(randn((2, 2, 2))), "diag: expected a vector or a matrix"),
        (lambda: ops.diagonal(randn((2,))), "diagonal: expected two or more axes"),
        (lambda: ops.meshgrid([1], indexing="yx"), "meshgrid: expected indexing"),
    ]:
        with pytest.raises(ValueError, match=f"narae.ops.{message}"):
            call()
    with pytest.raises(IndexError):
        convert_to_tensor(x)[3]
