"""Matrix products, and what reduces to them: dense, dot, tensordot, einsum, outer, inner."""

import math
from typing import Any

import numpy as np

from narae import _core
from narae.engine import Tensor, config, convert_to_tensor, dtypes, is_tracked, op, record
from narae.engine.tape import product_slots
from narae.ops.activation import activation_backward
from narae.ops.elementwise import cast, multiply, operands, sum_to_shape
from narae.ops.shape import reshape, transpose

__all__ = ["dense", "dot", "einsum", "inner", "matmul", "outer", "tensordot", "vdot"]

_FUSED = ("relu", "sigmoid", "tanh")  # activations whose derivative follows from the output


def _float_operands(x1, x2):
    """Returns both in their common float dtype, and the dtype that the product is to have."""
    a, b = operands(x1, x2)
    dtype = a.dtype
    if dtypes.is_float(dtype):
        return a, b, dtype
    wanted = "int32" if dtype in ("bool", "uint8") else dtype
    return cast(a, "float64"), cast(b, "float64"), wanted  # exact below 2**53


def _rows(x: Tensor) -> Tensor:
    """Returns (..., N) as a matrix."""
    return x if x.ndim == 2 else reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


class Product(Tensor):
    """The gradient `x^T dy` of a dense kernel, multiplied out once somebody reads `array`.

    An optimizer takes its factors instead and updates the weights tile by tile, while the
    product is in the cache. Made only in a backward pass whose gradients such an optimizer is the
    only one to read (`products_kept`), so that nobody changes the factors before it does.
    """

    __slots__ = ("_array", "factors")

    def __init__(self, x: Tensor, dy: Tensor) -> None:
        self.mask = self.node = self._array = None
        self.factors = x.array, dy.array  # None once multiplied out

    @property
    def array(self) -> np.ndarray:
        """The values."""
        if self.factors is not None:
            self._array = _core.matmul(*self.factors, True, False)
            self.factors = None
        return self._array

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.array.shape if self.factors is None else tuple(f.shape[1] for f in self.factors)

    @property
    def dtype(self) -> str:
        """Name of the dtype."""
        return dtypes.name_of((self._array if self.factors is None else self.factors[0]).dtype)

    ndim = property(lambda self: 2, doc="Number of axes.")
    size = property(lambda self: math.prod(self.shape), doc="Number of elements.")


def _kernel_gradient(x: Tensor, dy: Tensor) -> Tensor:
    """Returns x^T dy: a Product where its factors are smaller than it and the optimizer gains."""
    slots = product_slots()
    if slots is not None:
        (b, k), n = x.shape, dy.shape[1]
        if b * (k + n) <= k * n and _core.takes_factors(x.array, dy.array, slots):
            return Product(x, dy)
    return _product(x, dy, True, False)


def _product(a: Tensor, b: Tensor, ta: bool = False, tb: bool = False) -> Tensor:
    """c = op(a) op(b) for (..., M, K) and (..., K, N); op transposes the last two axes."""
    c = Tensor(_core.matmul(a.array, b.array, ta, tb))
    wanted = is_tracked(a), is_tracked(b)
    if not any(wanted):
        return record(c, (a, b), None)

    def backward(dc):
        da = db = None
        if wanted[0]:
            da = _product(b, dc, tb, True) if ta else _product(dc, b, False, not tb)
            da = sum_to_shape(da, a.shape)
        if wanted[1]:
            if b.ndim == 2 and a.ndim > 2 and not ta:  # sum over the batch inside the product
                rows = _rows(a), _rows(dc)
                db = _product(*(rows[::-1] if tb else rows), True, False)
            else:
                db = _product(dc, a, True, ta) if tb else _product(a, dc, not ta, False)
                db = sum_to_shape(db, b.shape)
        return da, db

    return record(c, (a, b), backward)


@op
def matmul(x1: Any, x2: Any) -> Tensor:
    """Computes the matrix product of the last two axes; leading axes broadcast.

    Args:
        x1: (..., M, K), or a vector (K,).
        x2: (..., K, N), or a vector (K,).

    Returns:
        (..., M, N), without the axis of a vector.

    >>> narae.ops.matmul([[1.0, 2.0]], [[3.0], [4.0]]).numpy()
    array([[11.]], dtype=float32)
    """
    a, b, wanted = _float_operands(x1, x2)
    matrices = a.array.ndim > 1 and b.array.ndim > 1
    c = _product(a, b) if matrices else _product_with_vector(a, b)
    return c if c.dtype == wanted else cast(c, wanted)


def _product_with_vector(a: Tensor, b: Tensor) -> Tensor:
    """A product in which a vector stands for a matrix of one row, or of one column."""
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(
            "narae.ops.matmul: expected inner dimensions that agree. "
            f"Received: x1.shape={a.shape}, x2.shape={b.shape}"
        )
    rows = () if a.ndim == 1 else a.shape[-2:-1]
    columns = () if b.ndim == 1 else b.shape[-1:]
    a = a if rows else reshape(a, (1, *a.shape))
    b = b if columns else reshape(b, (*b.shape, 1))
    c = _product(a, b)
    return reshape(c, (*c.shape[:-2], *rows, *columns))


@op
def dense(x: Any, kernel: Any, bias: Any = None, activation: str | None = None) -> Tensor:
    """Computes `activation(x @ kernel + bias)` in one kernel.

    Args:
        x: (..., K).
        kernel: (K, N).
        bias: (N,) or None.
        activation: None, or one that the kernel applies: `"relu"`, `"sigmoid"` or `"tanh"`.

    Returns:
        (..., N).
    """
    x, w = operands(x, kernel)
    if not dtypes.is_float(x.dtype):
        x, w = cast(x, config.floatx()), cast(w, config.floatx())
    b = None if bias is None else convert_to_tensor(bias, x.dtype)
    if activation not in (None, *_FUSED):
        raise ValueError(
            f"narae.ops.dense: expected activation to be None or one of {_FUSED}. "
            f"Received: activation={activation!r}"
        )
    if w.ndim != 2 or x.ndim == 0 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            "narae.ops.dense: expected kernel of shape (K, N), K the size of x's last axis. "
            f"Received: x.shape={x.shape}, kernel.shape={w.shape}"
        )
    rows = x if x.ndim > 1 else _rows(x)
    y = _dense(rows, w, b, activation)
    return y if x.ndim > 1 else reshape(y, (-1,))


def _dense(x, w, b, activation):
    y = _core.matmul(x.array, w.array, False, False, None if b is None else b.array, activation)
    wanted = is_tracked(x), is_tracked(w), b is not None and is_tracked(b)
    inputs = (x, w) if b is None else (x, w, b)

    def backward(dy):
        dz = dy
        if activation:
            if is_tracked(dy) or any(is_tracked(t) for t in inputs):  # a second derivative
                z = _dense(x, w, b, None)
                dz = activation_backward(activation, dy, z, y)
            else:
                dz = Tensor(getattr(_core, f"{activation}_backward")(dy.array, y))
        dx = _product(dz, w, False, True) if wanted[0] else None
        flat = _rows(dz)
        dw = _kernel_gradient(_rows(x), flat) if wanted[1] else None
        if b is None:
            return dx, dw
        return dx, dw, sum_to_shape(flat, b.shape) if wanted[2] else None

    return record(Tensor(y), inputs, backward)


@op
def dot(x1: Any, x2: Any) -> Tensor:
    """Sums products over the last axis of `x1` and the second to last of `x2`, as NumPy's dot."""
    a, b = operands(x1, x2)
    if a.ndim == 0 or b.ndim == 0:
        return multiply(a, b)
    if b.ndim <= 2:
        return matmul(a, b)
    return tensordot(a, b, axes=((a.ndim - 1,), (b.ndim - 2,)))


@op
def inner(x1: Any, x2: Any) -> Tensor:
    """Sums products over the last axes of both."""
    a, b = operands(x1, x2)
    if a.ndim == 0 or b.ndim == 0:
        return multiply(a, b)
    return tensordot(a, b, axes=((a.ndim - 1,), (b.ndim - 1,)))


@op
def vdot(x1: Any, x2: Any) -> Tensor:
    """Sums the products of all elements."""
    return matmul(reshape(x1, (-1,)), reshape(x2, (-1,)))


@op
def outer(x1: Any, x2: Any) -> Tensor:
    """Computes all products of an element of `x1` and one of `x2`: (M,), (N,) -> (M, N)."""
    return multiply(reshape(x1, (-1, 1)), reshape(x2, (1, -1)))


@op
def tensordot(x1: Any, x2: Any, axes: Any = 2) -> Tensor:
    """Sums products over pairs of axes.

    Args:
        x1, x2: any shapes.
        axes: how many: the last of `x1` and the first of `x2`; or two sequences of axes.

    Returns:
        The other axes of `x1`, then those of `x2`.
    """
    a, b = operands(x1, x2)
    if isinstance(axes, int):
        axes = tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    of_a, of_b = ((i,) if isinstance(i, int) else tuple(i) for i in axes)
    of_a, of_b = tuple(i % a.ndim for i in of_a), tuple(i % b.ndim for i in of_b)
    if [a.shape[i] for i in of_a] != [b.shape[i] for i in of_b]:
        raise ValueError(
            "narae.ops.tensordot: expected axes of equal sizes. "
            f"Received: x1.shape={a.shape}, x2.shape={b.shape}, axes={axes}"
        )
    free_a = tuple(i for i in range(a.ndim) if i not in of_a)
    free_b = tuple(i for i in range(b.ndim) if i not in of_b)
    summed = math.prod(a.shape[i] for i in of_a)
    m, n = (math.prod(t.shape[i] for i in free) for t, free in ((a, free_a), (b, free_b)))
    left = reshape(transpose(a, free_a + of_a), (m, summed))
    right = reshape(transpose(b, of_b + free_b), (summed, n))
    shape = tuple(a.shape[i] for i in free_a) + tuple(b.shape[i] for i in free_b)
    return reshape(matmul(left, right), shape)


@op
def einsum(subscripts: str, *operands: Any, **kwargs) -> Tensor:
    """Sums products by Einstein's convention: indices missing in the result are summed over.

    Args:
        subscripts: such as `"bij,bjk->bik"`; `...` stands for the axes not named. Without `->`
            the result has the indices that occur once, in alphabetical order.
        operands: one or more tensors, one for each part.

    >>> narae.ops.einsum("ij,j->i", [[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0]).numpy()
    array([3., 7.], dtype=float32)
    """
    xs = [convert_to_tensor(x) for x in operands]
    parts, result = _parse(subscripts, [x.ndim for x in xs])
    sizes = {}
    for part, x in zip(parts, xs):
        for letter, n in zip(part, x.shape):
            if sizes.setdefault(letter, n) != n and 1 not in (n, sizes[letter]):
                raise ValueError(
                    f"narae.ops.einsum: expected one size for each index of {subscripts!r}. "
                    f"Received: {letter!r} of sizes {sizes[letter]} and {n}, shapes "
                    f"{[x.shape for x in xs]}"
                )
            sizes[letter] = max(sizes[letter], n)
    x, letters = _one(xs[0], parts[0], set(result).union(*parts[1:]))
    for i in range(1, len(xs)):
        later = set(result).union(*parts[i + 1 :])
        y, other = _one(xs[i], parts[i], set(letters) | later)
        x, letters = _two(x, letters, y, other, later)
    x, letters = _one(x, letters, set(result))
    return transpose(x, [letters.index(i) for i in result])


def _parse(subscripts: str, ranks: list[int]) -> tuple[list[str], str]:
    """Returns the letters of each operand and of the result, with `...` spelled out."""

    def fail(reason):
        raise ValueError(
            f"narae.ops.einsum: {reason}. Received: subscripts={subscripts!r}, operands with "
            f"{ranks} dimensions"
        )

    text = subscripts.replace(" ", "")
    left, arrow, result = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        fail(f"expected {len(parts)} operands")
    used = set(text)
    spare = [c for c in map(chr, range(0x100, 0x140)) if c not in used]
    most = 0
    for i, (part, rank) in enumerate(zip(parts, ranks)):
        named = len(part.replace("...", ""))
        extra = rank - named
        if extra < 0 or (extra and "..." not in part):
            fail(f"expected operand {i} to have {named} dimensions")
        parts[i] = part.replace("...", "".join(spare[-extra:] if extra else ""))
        most = max(most, extra)
    batch = "".join(spare[-most:] if most else "")
    if arrow:
        result = result.replace("...", batch)
    else:
        letters = "".join(parts)
        result = batch + "".join(
            sorted(c for c in set(letters) if letters.count(c) == 1 and c not in batch)
        )
    if len(set(result)) != len(result) or not set(result) <= set("".join(parts)):
        fail("expected every index of the result once, and to occur among the operands")
    if not all(c.isalpha() for c in "".join(parts)):
        fail("expected letters, commas, '...' and '->'")
    return parts, result


def _one(x, letters: str, keep: set) -> tuple[Tensor, str]:
    """Takes diagonals of repeated letters, and sums over the letters that nobody else needs."""
    from narae.ops.shape import diagonal

    for letter in sorted(set(letters), key=letters.index):
        while letters.count(letter) > 1:
            i = letters.index(letter)
            j = letters.index(letter, i + 1)
            x = diagonal(x, 0, i, j)
            letters = letters[:i] + letters[i + 1 : j] + letters[j + 1 :] + letter
    gone = [i for i, letter in enumerate(letters) if letter not in keep]
    if gone:
        shape = [1 if i in gone else n for i, n in enumerate(x.shape)]
        kept = [n for i, n in enumerate(x.shape) if i not in gone]
        dtype = x.dtype
        x = x if dtypes.is_float(dtype) else cast(x, "float64")
        x = cast(reshape(sum_to_shape(x, shape), kept), dtype)
        letters = "".join(letter for i, letter in enumerate(letters) if i not in gone)
    return x, letters


def _two(a, of_a: str, b, of_b: str, keep: set) -> tuple[Tensor, str]:
    """One product: shared letters are batch when kept, else summed over."""
    for letter in of_a:  # a broadcast axis of size 1 is no partner in a sum
        if letter in of_b:
            i, j = of_a.index(letter), of_b.index(letter)
            if a.shape[i] != b.shape[j]:
                a, of_a = _squeezed(a, of_a, i) if a.shape[i] == 1 else (a, of_a)
                b, of_b = _squeezed(b, of_b, j) if b.shape[j] == 1 else (b, of_b)
    batch = [c for c in of_a if c in of_b and c in keep]
    summed = [c for c in of_a if c in of_b and c not in keep]
    free_a = [c for c in of_a if c not in of_b]
    free_b = [c for c in of_b if c not in of_a]
    size = dict(zip(of_a, a.shape)) | dict(zip(of_b, b.shape))

    def matrices(x, letters, *groups):
        order = [letters.index(c) for group in groups for c in group]
        x = transpose(x, order)
        return reshape(x, [math.prod(size[c] for c in group) for group in groups])

    if not summed:  # a product of elements, no sum
        full = batch + free_a + free_b
        left = _aligned(a, of_a, full, size)
        right = _aligned(b, of_b, full, size)
        return multiply(left, right), "".join(full)
    c = matmul(matrices(a, of_a, batch, free_a, summed), matrices(b, of_b, batch, summed, free_b))
    letters = batch + free_a + free_b
    return reshape(c, [size[c] for c in letters]), "".join(letters)


def _aligned(x, letters: str, full: list, size: dict) -> Tensor:
    """Returns x with the axes of `full`, those it lacks of size 1."""
    x = transpose(x, [letters.index(c) for c in full if c in letters])
    return reshape(x, [size[c] if c in letters else 1 for c in full])


def _squeezed(x, letters: str, axis: int):
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    return reshape(x, shape), letters[:axis] + letters[axis + 1 :]
