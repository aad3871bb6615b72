"""Data in every form that users have, turned into batches."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import narae
from narae.engine import config
from narae.engine import random as engine_random
from narae.engine.tensor import Tensor
from narae.training import arrays
from narae.training.arrays import train_validation_split
from narae.training.data import PyDataset, make_dataset

X = np.arange(30, dtype="float32").reshape(10, 3)
Y = np.arange(10) % 3
SHUFFLES = [False, True, "batch"]


def batches(*args, seed=None, **kwargs):
    return list(make_dataset(*args, **kwargs).epoch(seed))


def rows_of(x_batches):
    return np.concatenate([x for x, _, _ in x_batches])


# --- dtypes and layouts


@pytest.mark.parametrize(
    "given, held",
    [("float64", "float32"), ("float16", "float32"), ("float32", "float32"),
     (">f8", "float32"),
     ("int64", "int64"), ("int32", "int32"), (">i4", "int32"), ("int8", "int32"),
     ("uint16", "int32"),
     ("uint32", "int64"), ("uint8", "uint8"), ("bool", "bool")],
)  # fmt: skip
def test_dtypes(given, held):
    [(x, y, _)] = batches(X.astype(given), Y.astype(given), batch_size=10)
    assert x.dtype == y.dtype == held and x.dtype.isnative
    np.testing.assert_array_equal(x, X.astype(given).astype(held))


def test_floatx_decides_the_float_dtype():
    config.set_floatx("float64")
    try:
        assert batches(X)[0][0].dtype == "float64"
    finally:
        config.set_floatx("float32")


def misaligned(a):
    raw = np.empty(a.nbytes + 1, "uint8")[1:].view(a.dtype).reshape(a.shape)
    raw[:] = a
    return raw


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize(
    "make",
    [lambda a: np.repeat(a, 2, axis=0)[::2], lambda a: a[::-1].copy()[::-1], np.asfortranarray,
     read_only, misaligned, lambda a: a.astype(">f4"), lambda a: np.stack([a, a], 1)[:, 0]],
)  # fmt: skip
def test_layouts(make, shuffle):
    x = make(X)
    before = x.copy()
    dataset = make_dataset(x, Y, batch_size=4, shuffle=shuffle)
    rows = []
    for x_batch, y_batch, _ in dataset.epoch(3):
        assert x_batch.flags.c_contiguous and x_batch.flags.aligned and x_batch.dtype == "float32"
        np.testing.assert_array_equal(x_batch[:, 0] // 3 % 3, y_batch)
        rows += x_batch.tolist()
    assert sorted(rows) == X.tolist()
    np.testing.assert_array_equal(x, before)


def test_fitting_arrays_are_not_copied():
    assert np.shares_memory(batches(X)[0][0], X)


# --- forms of data


def test_trees_keep_their_structure():
    (x, y, w), *_ = batches({"a": X, "b": [X, X]}, (Y, Y), batch_size=4, sample_weight=np.ones(10))
    assert x["a"].shape == x["b"][1].shape == (4, 3)
    assert isinstance(x["b"], list) and isinstance(y, tuple)
    assert [v.shape for v in w] == [(4,), (4,)]  # one sample_weight serves every output


@pytest.mark.parametrize("make", [list, tuple])
def test_nested_lists_of_numbers_are_one_array(make):
    [(x, y, _)] = batches(make(make(row) for row in X.tolist()), make(Y.tolist()))
    assert x.shape == (10, 3) and x.dtype == "float32" and y.dtype == "int64"


def test_tensors_and_array_likes():
    class Duck:
        def __array__(self, dtype=None, copy=None):
            return X

    assert batches(Tensor(X))[0][0].shape == (10, 3)
    assert batches(Duck())[0][0].shape == (10, 3)
    assert type(batches(X.view(np.matrix))[0][0]) is np.ndarray


def test_pandas():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, np.nan], "c": [True, False, True]})
    [(x, y, _)] = batches(frame, frame["a"])
    np.testing.assert_array_equal(x, np.float32([[1, 0.5, 1], [2, 1.5, 0], [3, np.nan, 1]]))
    assert y.shape == (3, 1) and y.dtype == "int64"  # as Keras
    frame["d"] = ["x", "y", "z"]
    with pytest.raises(ValueError, match="every column of x to be numeric.*'d'.*get_dummies"):
        make_dataset(frame)
    missing = pandas.Series([1, None, 3], dtype="Int64")
    assert np.isnan(batches(pandas.DataFrame({"m": missing}))[0][0][1, 0])
    with pytest.raises(ValueError, match="y with NaN in 1 of 3 rows, the first at row 1"):
        make_dataset(frame[["a"]], missing)


def test_generators():
    def generate(count):
        for i in range(count):
            yield X[i : i + 2].astype("float64"), Y[i : i + 2]

    dataset = make_dataset(generate(5), steps=2)
    assert dataset.num_batches == 2
    first, second = list(dataset.epoch()), list(dataset.epoch())
    assert first[0][0].dtype == "float32"
    assert [x[0, 0] for x, _, _ in first + second] == [0, 3, 6, 9]  # goes on where it stopped
    with pytest.warns(UserWarning, match="ran out of data after 5 batches"):
        assert len(list(dataset.epoch())) == 1

    dataset = make_dataset(generate(3))
    assert dataset.num_batches is None and dataset.num_samples is None
    assert len(list(dataset.epoch())) == 3
    with pytest.raises(ValueError, match="yields nothing"):
        list(make_dataset(iter([])).epoch())
    with pytest.raises(ValueError, match="expected y=None"):
        make_dataset(generate(3), Y)
    [(_, _, w)] = make_dataset(generate(1), class_weight={0: 1, 1: 5, 2: 1}).epoch()
    np.testing.assert_array_equal(w, [1, 5])


def test_iterables_start_over_each_epoch():
    class Loader:
        def __iter__(self):
            return iter([[X[:4], Y[:4]], [X[4:], Y[4:]]])

        def __len__(self):
            return 2

    dataset = make_dataset(Loader())
    assert dataset.num_batches == 2
    assert [len(list(dataset.epoch())) for _ in range(3)] == [2, 2, 2]
    dataset = make_dataset(Loader(), steps=1)
    assert [[x[0, 0] for x, _, _ in dataset.epoch()] for _ in range(3)] == [[0], [12], [0]]


class Squares(PyDataset):
    begun = ended = 0
    threads = set()

    def __len__(self):
        return 6

    def __getitem__(self, index):
        self.threads.add(threading.get_ident())
        x = np.full((2, 1), index, "float64")
        return x, x**2

    def on_epoch_begin(self):
        self.begun += 1

    def on_epoch_end(self):
        self.ended += 1


@pytest.mark.parametrize(
    "how", [{}, {"workers": 3}, {"workers": 2, "use_multiprocessing": True, "max_queue_size": 3}]
)
def test_py_dataset(how):
    source = Squares(**how)
    dataset = make_dataset(source)
    assert dataset.num_batches == 6
    epoch = list(dataset.epoch())
    dataset.on_epoch_end()
    assert [x[0, 0] for x, _, _ in epoch] == [0, 1, 2, 3, 4, 5] and epoch[0][0].dtype == "float32"
    assert (source.begun, source.ended) == (1, 1)
    shuffled = make_dataset(source, shuffle=True)
    order = [x[0, 0] for x, _, _ in shuffled.epoch(1)]
    assert order == [x[0, 0] for x, _, _ in shuffled.epoch(1)]
    assert sorted(order) == [0, 1, 2, 3, 4, 5] != order
    dataset = make_dataset(source, steps=4)
    assert [x[0, 0] for x, _, _ in dataset.epoch()] == [0, 1, 2, 3]
    assert [x[0, 0] for x, _, _ in dataset.epoch()] == [4, 5, 0, 1]


def test_py_dataset_workers_stop_when_the_loop_does():
    epoch = make_dataset(Squares(workers=2)).epoch()
    next(epoch)
    epoch.close()

    class Broken(Squares):
        def __getitem__(self, index):
            raise RuntimeError("no such file")

    with pytest.raises(RuntimeError, match="no such file"):
        list(make_dataset(Broken(workers=2)).epoch())


def test_py_dataset_without_end():
    class Endless(PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return np.full((1, 1), index)

    dataset = make_dataset(Endless(workers=2, max_queue_size=2), steps=3)
    assert [int(x[0, 0]) for x, _, _ in dataset.epoch()] == [0, 1, 2]
    assert [int(x[0, 0]) for x, _, _ in dataset.epoch()] == [3, 4, 5]


# --- batches and orders


@pytest.mark.parametrize(
    "batch_size, sizes", [(None, [10]), (4, [4, 4, 2]), (5, [5, 5]), (1, [1] * 10)]
)
def test_batch_sizes(batch_size, sizes):
    dataset = make_dataset(X, batch_size=batch_size)
    assert dataset.num_batches == len(sizes) and dataset.num_samples == 10
    assert [len(x) for x, _, _ in dataset.epoch()] == sizes


@given(st.integers(1, 70), st.integers(1, 80), st.integers(0, 2**63), st.sampled_from(SHUFFLES))
def test_every_row_once(count, batch_size, seed, shuffle):
    x = np.arange(count)
    dataset = make_dataset(x, batch_size=batch_size, shuffle=shuffle)
    rows = np.concatenate([batch for batch, _, _ in dataset.epoch(seed)])
    np.testing.assert_array_equal(np.sort(rows), x)
    np.testing.assert_array_equal(np.concatenate(dataset.epoch_indices(seed)), rows)


def test_order_depends_on_the_seed_alone():
    a, b = make_dataset(X, shuffle=True, batch_size=4), make_dataset(X, shuffle=True, batch_size=3)
    one = rows_of(a.epoch(7))
    np.testing.assert_array_equal(one, rows_of(b.epoch(7)))
    np.testing.assert_array_equal(one, rows_of(a.epoch(7)))
    assert not np.array_equal(one, rows_of(a.epoch(8)))
    assert not np.array_equal(rows_of(a.epoch((7, 1))), rows_of(a.epoch((7, 2))))
    np.testing.assert_array_equal(np.sort(one, axis=0), X)


def test_set_random_seed_fixes_the_order():
    def order():
        engine_random.set_random_seed(5)
        dataset = make_dataset(X, shuffle=True)
        return np.stack([rows_of(dataset.epoch()), rows_of(dataset.epoch())])

    one = order()
    np.testing.assert_array_equal(one, order())
    assert not np.array_equal(one[0], one[1])
    with_rng = [rows_of(make_dataset(X, shuffle=True, rng=3).epoch()) for _ in range(2)]
    np.testing.assert_array_equal(*with_rng)


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_fill_gives_the_batches_of_epoch(shuffle):
    dataset = make_dataset({"a": X, "b": X + 1}, Y, batch_size=4, shuffle=shuffle)
    indices = dataset.epoch_indices(3)
    assert [len(i) for i in indices] == [len(y) for _, y, _ in dataset.epoch(3)]
    for rows, (x, y, _) in zip(indices, dataset.epoch(3)):
        out = {"b": np.empty_like(x["b"]), "a": np.empty_like(x["a"])}, np.empty_like(y), None
        dataset.fill(rows, out)
        np.testing.assert_array_equal(out[0]["a"], x["a"])
        np.testing.assert_array_equal(out[0]["b"], x["b"])
        np.testing.assert_array_equal(out[1], y)


def test_whole_batches_shuffle():
    firsts = [x[0, 0] for x, _, _ in make_dataset(X, batch_size=2, shuffle="batch").epoch(1)]
    assert sorted(firsts) == [0, 6, 12, 18, 24] != firsts


def test_steps_go_round_the_rows():
    dataset = make_dataset(X, batch_size=4, steps=2)
    assert [[x[0, 0] for x, _, _ in dataset.epoch()] for _ in range(2)] == [[0, 12], [24, 0]]
    dataset.reset()
    assert next(dataset.epoch())[0][0, 0] == 0
    with pytest.warns(UserWarning, match="3 batches of 4, fewer than the 5 steps"):
        assert make_dataset(X, batch_size=4, steps=5).num_batches == 3


# --- weights


@pytest.mark.parametrize("y", [Y, Y[:, None], Y.astype("float32"), np.eye(3)[Y]])
def test_class_weight(y):
    [(_, _, w)] = batches(X, y, class_weight={0: 1.0, 1: 2, 2: 0.5})
    np.testing.assert_array_equal(w, np.float32([1, 2, 0.5])[Y])
    assert w.dtype == "float32"


@pytest.mark.parametrize(
    "kwargs, message",
    [({"class_weight": {0: 1, 2: 1}}, "no weight for class 1;"),
     ({"class_weight": {0: 1, 1: 1, 2: 1}, "sample_weight": np.ones(10)}, "Received: both"),
     ({"class_weight": [1, 2, 3]}, "class_weight to be a dict"),
     ({"sample_weight": np.ones(9)}, "sample_weight: 9"),
     ({"sample_weight": np.ones((10, 4))}, "labels of shape"),
     ({"sample_weight": 1.0}, "sample_weight to have a first axis"),
     ({"sample_weight": {"a": np.ones(10)}}, "structure of y")],
)  # fmt: skip
def test_wrong_weights(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(X, Y, **kwargs)


def test_sample_weights_of_some_outputs():
    [(_, y, w)] = batches(X, {"a": Y, "b": Y}, sample_weight={"b": np.ones(10)})
    assert w["a"] is None and w["b"].shape == (10,)


def test_sample_weight_shapes():
    y = np.zeros((10, 4, 2))
    for shape in [(10,), (10, 1), (10, 4), (10, 4, 2)]:
        assert batches(X, y, sample_weight=np.ones(shape, int))[0][2].dtype == "float32"
    with pytest.raises(ValueError, match=r"sample_weight of shape \(samples,\) for all outputs"):
        make_dataset(X, [y, y], sample_weight=np.ones((10, 4)))
    with pytest.raises(ValueError, match="expected y when sample_weight"):
        make_dataset(X, sample_weight=np.ones(10))


# --- what cannot be trained on


@pytest.mark.parametrize(
    "x, y, message",
    [(X, Y[:9], "same number of samples. Received: x: 10, y: 9"),
     ({"a": X, "b": X[:4]}, Y, r"x\['a'\]: 10, x\['b'\]: 4, y: 10"),
     (X[:0], Y[:0], r"at least one sample. Received: x.shape=\(0, 3\), y.shape=\(0,\)"),
     ([], None, "at least one sample"),
     (None, None, "expected data"),
     (X, ["cat"] * 10, "y to hold numbers. Received: strings.*numpy.unique"),
     (np.array([["a", "b"]]), None, "x to hold numbers. Received: strings"),
     (np.array([1, None]), None, "x to hold numbers. Received: Python objects"),
     ([[1, 2], [3]], None, "rectangular.*pad_sequences"),
     (X.astype(complex), None, "real numbers"),
     (np.float32(3), None, "first axis of samples"),
     (3.0, None, "first axis of samples"),
     (np.array(3), None, "first axis of samples"),
     (X, np.where(Y == 1, np.nan, Y), "y with NaN in 3 of 10 rows, the first at row 1"),
     (X, {"a": Y, "b": np.full((10, 2), np.nan)}, r"y\['b'\] with NaN in 10 of 10 rows"),
     (np.ma.masked_greater(X, 5), None, "without masked entries"),
     (np.uint64([2**63]), None, "fit int64"),
     (object(), None, "arrays, a PyDataset, a generator")],
)  # fmt: skip
def test_wrong_data(x, y, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(x, y)


@pytest.mark.parametrize("name", ["batch_size", "steps"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "8", True])
def test_wrong_counts(name, value):
    with pytest.raises(ValueError, match=f"{name} to be a positive integer. Received: {name}="):
        make_dataset(X, Y, **{name: value})


def test_wrong_shuffle():
    with pytest.raises(ValueError, match="shuffle to be True, False or 'batch'"):
        make_dataset(X, shuffle="rows")


def test_infinite_labels_are_not_nan():
    assert batches(X, np.where(Y == 1, np.inf, -np.inf))


def test_sparse_matrices_are_named():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(ValueError, match="to be dense"):
        make_dataset(sparse.csr_matrix(X))


# --- splits, packing


def test_validation_split_takes_the_last_rows():
    (x, y, w), (x_val, y_val, w_val) = train_validation_split(({"a": X}, Y.tolist(), None), 0.25)
    np.testing.assert_array_equal(x["a"], X[:7])
    np.testing.assert_array_equal(x_val["a"], X[7:])
    assert len(y) == 7 and len(y_val) == 3 and w is None and w_val is None


@pytest.mark.parametrize(
    "arrays, split, message",
    [((X, Y), 0, r"in \(0, 1\)"), ((X, Y), 1.5, r"in \(0, 1\)"),
     ((X[:1], Y[:1]), 0.5, "both sides"),
     ((X, Y[:5]), 0.5, "x: 10, y: 5"), ((iter([]), None), 0.5, "cannot be split"),
     ((Squares(), None), 0.5, "cannot be split")],
)  # fmt: skip
def test_wrong_validation_split(arrays, split, message):
    with pytest.raises(ValueError, match=message):
        train_validation_split(arrays, split)


def test_pack_and_unpack():
    pack, unpack = arrays.pack_x_y_sample_weight, arrays.unpack_x_y_sample_weight
    assert [pack(1), pack(1, 2), pack(1, 2, 3), pack([1])] == [1, (1, 2), (1, 2, 3), ([1],)]
    for parts in [(1, None, None), (1, 2, None), (1, 2, 3)]:
        assert unpack(pack(*parts)) == parts
    assert unpack({"a": 1}) == ({"a": 1}, None, None)
    with pytest.raises(ValueError, match="a tuple of 4 parts"):
        unpack((1, 2, 3, 4))


# --- with a model: every form of the same data trains alike


def generate_endlessly(x, y):
    while True:
        yield from zip(np.split(x, 5), np.split(y, 5))


class Halves(PyDataset):
    def __init__(self, x, y, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y = x, y

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return self.x[2 * index : 2 * index + 2], self.y[2 * index : 2 * index + 2]


def frames(x, y):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(x), pandas.Series(y)


@pytest.mark.parametrize(
    "form, kwargs",
    [(lambda x, y: (x.tolist(), y.tolist()), {}), (lambda x, y: (x.astype(">f8"), y), {}),
     (lambda x, y: (Tensor(x), Tensor(y)), {}), (frames, {}),
     (lambda x, y: (generate_endlessly(x, y),), {"steps_per_epoch": 5, "batch_size": None}),
     (lambda x, y: (Halves(x, y),), {"batch_size": None}),
     (lambda x, y: (Halves(x, y, workers=2),), {"batch_size": None}),
     (lambda x, y: (x, y), {"validation_data": (X, X[:, 0])}),
     (lambda x, y: (x, y), {"sample_weight": [1] * 10})],
)  # fmt: skip
def test_every_form_trains_alike(form, kwargs):
    def losses(*data, **kwargs):
        engine_random.set_random_seed(1)
        model = narae.Sequential([narae.Input((3,)), narae.layers.Dense(1)])
        model.compile("sgd", "mse")
        arguments = {"batch_size": 2, "epochs": 2, "shuffle": False, "verbose": 0, **kwargs}
        return model.fit(*data, **arguments).history["loss"]

    x, y = X / 30, X.sum(1) / 30
    assert losses(*form(x, y), **kwargs) == losses(x, y)
