"""What may come into a Tensor, what comes out, and Variables."""

import copy
import pickle

import numpy as np
import pytest

import narae
from narae import ops
from narae.engine import dtypes


@pytest.mark.parametrize(
    "value, dtype",
    [
        (1, "int32"), (1.5, "float32"), (True, "bool"), ([1, 2], "int32"), ([1.0, 2], "float32"),
        ([[True], [False]], "bool"), (2**40, "int64"), (np.float64(1), "float64"),
        (np.zeros(2), "float64"), (np.zeros(2, "float16"), "float32"), (np.int8(1), "int32"),
        (np.zeros(2, "uint16"), "int32"), (np.zeros(2, ">f4"), "float32"), ([], "float32"),
        (np.zeros(2, "uint8"), "uint8"), (np.zeros(1, "uint64"), "int64"),
    ],
)  # fmt: skip
def test_dtype_of_what_comes_in(value, dtype):
    assert ops.convert_to_tensor(value).dtype == dtype


LAYOUTS = {
    "contiguous": lambda x: x,
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "fortran": np.asfortranarray,
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "misaligned": lambda x: (
        np.frombuffer(b"\0" + x.tobytes(), "u1")[1:].view(x.dtype).reshape(x.shape)
    ),
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_gives_the_same_numbers_and_is_not_changed(layout):
    x = np.arange(12, dtype="float32").reshape(3, 4)
    given = LAYOUTS[layout](x)
    before = given.copy()
    np.testing.assert_array_equal((ops.convert_to_tensor(given) * 2.0).numpy(), x * 2)
    np.testing.assert_array_equal(ops.matmul(given, np.eye(4, dtype="float32")).numpy(), x)
    np.testing.assert_array_equal(given, before)


def test_a_fitting_array_is_not_copied():
    x = np.zeros((2, 3), "float32")
    assert np.shares_memory(ops.convert_to_tensor(x).numpy(), x)
    assert np.shares_memory(np.from_dlpack(ops.convert_to_tensor(x)), x)


@pytest.mark.parametrize(
    "value", ["text", ["a", "b"], [[1], [1, 2]], 1j, np.zeros(2, "complex64"), object(), None,
              np.array([object()]), np.array(["2020-01-01"], "datetime64[D]")],
)  # fmt: skip
def test_what_is_no_number_raises(value):
    with pytest.raises(TypeError, match="expected"):
        ops.convert_to_tensor(value)


def test_too_large_unsigned_integers_raise():
    with pytest.raises(OverflowError, match="2\\*\\*63"):
        ops.convert_to_tensor(np.array([2**63], "uint64"))


@pytest.mark.parametrize(
    "given, result",
    [
        (("int32", "float32"), "float32"), (("float32", "float64"), "float64"),
        (("uint8", int), "uint8"), (("int32", float), "float32"), (("bool", int), "int32"),
        (("int64", "float32"), "float32"), (("bool", "uint8"), "uint8"), ((int, int), "int32"),
        (("float64", float), "float64"),
    ],
)  # fmt: skip
def test_result_type(given, result):
    assert dtypes.result_type(*given) == result


def test_unknown_dtype_raises():
    with pytest.raises(ValueError, match="float33"):
        ops.convert_to_tensor(1, "float33")


def test_python_protocols():
    x = ops.convert_to_tensor([[1.0, 2.0], [3.0, 4.0]])
    assert (len(x), x.ndim, x.size, x.shape) == (2, 2, 4, (2, 2))
    assert [float(row[1]) for row in x] == [2.0, 4.0]
    assert f"{x[0, 1]:.1f}" == "2.0" and int(x[1, 0]) == 3 and bool(x[0, 0])
    np.testing.assert_array_equal((1 - x / 2).numpy(), [[0.5, 0.0], [-0.5, -1.0]])
    np.testing.assert_array_equal((x > 2).numpy(), [[False, False], [True, True]])
    np.testing.assert_array_equal((x @ x.T).numpy(), [[5, 11], [11, 25]])
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(x))), x.numpy())
    assert copy.deepcopy(x).array is not x.array
    assert "shape=(2, 2)" in repr(x) and hash(x) == hash(x)
    with pytest.raises(TypeError):
        len(x[0, 0])


def test_symbolic_tensors_have_no_values():
    x = narae.Input((3,))
    for use in (float, bool, len, np.asarray, list):
        with pytest.raises(TypeError, match="symbolic"):
            use(x)


def test_variable_does_not_share_its_initial_value():
    start = np.zeros(3, "float32")
    v = narae.Variable(start)
    v.assign([1.0, 2.0, 3.0])
    assert not start.any()
    copied = v.numpy()
    copied[:] = 9
    np.testing.assert_array_equal(v.numpy(), [1, 2, 3])


def test_variable_assignments():
    v = narae.Variable(lambda shape, dtype: np.ones(shape, dtype), shape=(2,), name="v")
    address = v.array.ctypes.data
    v.assign_add([1.0, 2.0])
    v.assign_sub(1)
    np.testing.assert_array_equal(v.numpy(), [1, 2])
    assert v.array.ctypes.data == address and v.path == "v" and v.dtype == "float32"
    with pytest.raises(ValueError, match=r"expected shape \(2,\)"):
        v.assign([1.0])


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda: narae.Variable(np.ones), "shape"),
        (lambda: narae.Variable(1.0, name="a/b"), "name"),
        (lambda: narae.Variable(lambda shape, dtype: np.ones(5), shape=(2,)), "shape"),
    ],
)
def test_bad_variables(make, error):
    with pytest.raises(ValueError, match=error):
        make()
