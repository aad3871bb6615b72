"""Data sets, from small files made here and, marked `data`, from the real ones."""

import gzip
import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

from narae.datasets import california_housing, cifar10, digits, fashion_mnist, files, mnist


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty $NARAE_DATA, with empty caches and no way to the net."""
    monkeypatch.setenv("NARAE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NARAE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))

    def offline(*args, **kwargs):
        raise OSError("no connection")

    monkeypatch.setattr(files, "get_file", offline)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def idx(array):
    header = b"\x00\x00\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()


def write_idx_files(folder, count=3, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    images = np.arange(count * 784, dtype="uint8").reshape(count, 28, 28)
    labels = np.arange(count, dtype="uint8")
    for name, array in zip(files.IDX_NAMES, [images, labels, images[:2], labels[:2]]):
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))
    return images, labels


# --- digits


def test_digits_are_part_of_the_package():
    (x, y), (x_test, y_test) = digits.load_data()
    assert x.shape == (1442, 8, 8) and x_test.shape == (355, 8, 8)
    assert x.dtype == y.dtype == x_test.dtype == y_test.dtype == "uint8"
    assert x.min() == 0 and x.max() == 16
    counts = np.bincount(np.concatenate([y, y_test]))
    np.testing.assert_array_equal(np.bincount(y_test), counts // 5)
    x[:] = 0  # each call gives fresh arrays
    assert digits.load_data()[0][0].max() == 16


def test_digits_are_those_of_scikit_learn():
    original = pytest.importorskip("sklearn.datasets").load_digits()
    (x, y), (x_test, y_test) = digits.load_data()
    rows = {(*image.ravel(), label) for image, label in zip(original.images, original.target)}
    assert rows == {(*i.ravel(), k) for i, k in zip([*x, *x_test], [*y, *y_test])}


# --- MNIST and Fashion-MNIST


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_from_idx_files(folder, packed):
    images, labels = write_idx_files(folder / "mnist", packed=packed)
    (x, y), (x_test, y_test) = mnist.load_data()
    np.testing.assert_array_equal(x, images)
    np.testing.assert_array_equal(y, labels)
    assert x_test.shape == (2, 28, 28) and y_test.shape == (2,) and x.flags.writeable


@pytest.mark.parametrize("cache", ["home/datasets", "user/.keras/datasets"])
def test_mnist_from_a_cache(folder, cache):
    cache = folder.parent / cache
    cache.mkdir(parents=True)
    x, y = np.zeros((2, 28, 28), "uint8"), np.array([3, 4], "uint8")
    np.savez(cache / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert mnist.load_data()[1][1].tolist() == [3, 4]
    np.savez(cache / "mnist.npz", x_train=x, y_train=y)
    with pytest.raises(ValueError, match="to be an .npz file of"):
        mnist.load_data()
    (cache / "mnist.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(ValueError, match="to be an .npz file of"):
        mnist.load_data()


def test_npz_files_with_objects_are_refused(folder):
    array = np.array([print], dtype=object)
    np.savez(folder / "mnist.npz", x_train=array, y_train=array, x_test=array, y_test=array)
    with pytest.raises(ValueError, match="to be an .npz file"):
        mnist.load_data()


@pytest.mark.parametrize(
    "change, message",
    [(lambda data: data[:-1], "idx data of shape"), (lambda data: data + b"0", "idx data of shape"),
     (lambda data: b"\x00\x00\x0d" + data[3:], "idx data of unsigned bytes"),
     (lambda data: data[:9], "idx data of unsigned bytes"), (lambda data: b"", "unsigned bytes"),
     (lambda data: idx(np.zeros((3, 28, 27), "uint8")), r"images of shape \(28, 28\)"),
     (lambda data: idx(np.zeros((4, 28, 28), "uint8")), "with as many labels below 10")],
)  # fmt: skip
def test_broken_idx_files(folder, change, message):
    write_idx_files(folder / "mnist")
    path = folder / "mnist" / f"{files.IDX_NAMES[0]}.gz"
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))
    with pytest.raises(ValueError, match=message):
        mnist.load_data()


@pytest.mark.parametrize("change", [lambda data: data[:-9], lambda data: b"no" + data[2:]])
def test_broken_gzip_files(folder, change):
    write_idx_files(folder / "mnist")
    path = folder / "mnist" / f"{files.IDX_NAMES[2]}.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path.name} to be a whole gzip file"):
        mnist.load_data()


def test_labels_out_of_range(folder):
    write_idx_files(folder / "mnist", count=11)
    with pytest.raises(ValueError, match="labels from 0 to 10"):
        mnist.load_data()


def test_fashion_mnist(folder):
    images, _ = write_idx_files(folder / "fashion-mnist")
    np.testing.assert_array_equal(fashion_mnist.load_data()[0][0], images)
    (folder / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="fashion-mnist with t10k-labels-idx1-ubyte.gz"):
        fashion_mnist.load_data()


@pytest.mark.parametrize(
    "module, needed",
    [(mnist, "mnist.npz, or the folder mnist"), (fashion_mnist, "the folder fashion-mnist"),
     (cifar10, "cifar-10-binary.tar.gz"), (california_housing, "housing.csv or california")],
)  # fmt: skip
def test_offline_says_what_to_put_where(folder, module, needed):
    with pytest.raises(FileNotFoundError, match=needed) as error:
        module.load_data()
    assert str(folder) in str(error.value) and "no connection" in str(error.value)


# --- CIFAR-10


def planes():
    images = np.arange(2 * 3072).astype("uint8").reshape(2, 3, 32, 32)
    return images, np.array([3, 9], "uint8")


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def write_cifar(path, make):
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            binary = "binary" in path.name
            folder = "cifar-10-batches-bin" if binary else "cifar-10-batches-py"
            add(archive, f"{folder}/{name}{'.bin' if binary else ''}", make())


def binary_rows():
    images, labels = planes()
    return np.concatenate([labels[:, None], images.reshape(2, -1)], axis=1).tobytes()


def pickled():
    images, labels = planes()
    return pickle.dumps({b"labels": labels.tolist(), b"data": images.reshape(2, -1)}, protocol=2)


@pytest.mark.parametrize(
    "name, make", [("cifar-10-binary.tar.gz", binary_rows), ("cifar-10-python.tar.gz", pickled)]
)
def test_cifar10_archives(folder, name, make):
    write_cifar(folder / name, make)
    (x, y), (x_test, y_test) = cifar10.load_data()
    assert x.shape == (10, 32, 32, 3) and y.shape == (10, 1) and x.dtype == y.dtype == "uint8"
    images, labels = planes()
    np.testing.assert_array_equal(x_test, images.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(y_test[:, 0], labels)
    with tarfile.open(folder / name) as archive:
        archive.extractall(folder, filter="data")
    (folder / name).write_bytes((folder / name).read_bytes()[:500])
    with pytest.raises(ValueError, match="to be the archive of CIFAR-10"):
        cifar10.load_data()
    if name == "cifar-10-python.tar.gz":
        (folder / name).unlink()
        assert len(cifar10.load_data()[0][0]) == 10  # from the folder


class Attack:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize("make", [lambda: pickle.dumps(Attack()), lambda: b"", lambda: b"x" * 99])
def test_pickles_hold_arrays_only(folder, make):
    write_cifar(folder / "cifar-10-python.tar.gz", make)
    with pytest.raises(ValueError, match="to be a batch of CIFAR-10"):
        cifar10.load_data()


def test_cifar10_rows_are_counted(folder):
    write_cifar(folder / "cifar-10-binary.tar.gz", lambda: binary_rows()[:-1])
    with pytest.raises(ValueError, match="rows of 3073 bytes"):
        cifar10.load_data()


def test_cifar10_subset(folder, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    with zipfile.ZipFile(folder / "cifar10-jpeg-subset.zip", "w") as archive:
        for part, count in (("train", 2), ("test", 1)):
            for label, name in enumerate(cifar10.CLASS_NAMES):
                for i in range(count):
                    file = io.BytesIO()
                    image.new("RGB", (32, 32), (label * 20, 0, 0)).save(file, "jpeg")
                    archive.writestr(f"cifar10/{part}/{name}/{i:04d}.jpg", file.getvalue())
    (x, y), (x_test, y_test) = cifar10.load_data()
    assert x.shape == (20, 32, 32, 3) and y[:, 0].tolist() == [*range(10)] * 2
    assert abs(int(x_test[9, 0, 0, 0]) - 180) < 5
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        cifar10.load_data()


# --- California housing


def write_housing(folder, rows=10, missing=()):
    names = [*california_housing.FEATURE_NAMES, "median_house_value", "ocean_proximity"]
    lines = [",".join(names)]
    for i in range(rows):
        values = [f"{10 * i + j}.0" for j in range(9)]
        values[4] = "" if i in missing else values[4]
        lines.append(",".join([*values, "NEAR BAY"]))
    (folder / "housing.csv").write_text("\n".join(lines) + "\n")


def test_california_housing(folder):
    write_housing(folder, missing=[0])
    (x, y), (x_test, y_test) = california_housing.load_data()
    assert x.shape == (8, 8) and x_test.shape == (2, 8) and x.dtype == y.dtype == "float32"
    x, y = np.concatenate([x, x_test]), np.concatenate([y, y_test])
    order = np.argsort(y)
    assert not np.array_equal(order, np.arange(10))
    np.testing.assert_array_equal(x[order][:, 0], np.arange(10) * 10)
    assert x[order][0, 4] == np.median(np.arange(1, 10) * 10 + 4)  # what was missing
    again = california_housing.load_data(seed=113, test_split=0.5)
    np.testing.assert_array_equal(again[0][1], y[:5])
    assert not np.array_equal(california_housing.load_data(seed=1)[0][1], y[:8])


def test_california_housing_small_and_npz(folder):
    x, y = np.zeros((700, 8)), np.arange(700.0)
    np.savez(folder / "california_housing.npz", x=x, y=y)
    (_, y_train), (_, y_test) = california_housing.load_data("small", test_split=0.1)
    assert len(y_train) == 540 and len(y_test) == 60 and max(*y_train, *y_test) == 599


@pytest.mark.parametrize(
    "kwargs, message", [({"version": "big"}, "version='big'"), ({"test_split": 1}, "test_split=1")]
)
def test_california_housing_arguments(folder, kwargs, message):
    with pytest.raises(ValueError, match=message):
        california_housing.load_data(**kwargs)


@pytest.mark.parametrize(
    "text, message",
    [("", "the columns"), ("a,b\n1,2\n", "the columns"),
     (lambda t: t.replace("13.0", "many"), "table of numbers"),
     (lambda t: t.split("\n")[0], "in 0 rows"),
     (lambda t: t.replace("13.0", ""), "without gaps"), (lambda t: t[:-30], "table")],
)  # fmt: skip
def test_broken_housing_tables(folder, text, message):
    write_housing(folder)
    path = folder / "housing.csv"
    path.write_text(text if isinstance(text, str) else text(path.read_text()))
    with pytest.raises(ValueError, match=message):
        california_housing.load_data()


# --- the real files


@pytest.mark.data
def test_real_mnist():
    (x, y), (x_test, y_test) = mnist.load_data()
    assert x.shape == (60000, 28, 28) and x_test.shape == (10000, 28, 28)
    assert y[:5].tolist() == [5, 0, 4, 1, 9] and y_test[:4].tolist() == [7, 2, 1, 0]
    assert abs(x.mean() - 33.318) < 0.001  # the mean that is known of MNIST
    assert np.bincount(y).tolist()[:3] == [5923, 6742, 5958]


@pytest.mark.data
def test_real_cifar10_subset():
    pytest.importorskip("PIL")
    (x, y), (x_test, y_test) = cifar10.load_data()
    assert x.shape == (10000, 32, 32, 3) and x_test.shape == (2000, 32, 32, 3)
    assert np.bincount(y[:, 0]).tolist() == [1000] * 10 and y[:12, 0].tolist() == [*range(10), 0, 1]


@pytest.mark.data
def test_real_california_housing():
    (x, y), (x_test, y_test) = california_housing.load_data()
    assert x.shape == (16512, 8) and x_test.shape == (4128, 8)
    assert not np.isnan(x).any() and not np.isnan(x_test).any()
    assert -125 < x[:, 0].min() < x[:, 0].max() < -114 and 32 < x[:, 1].min() < 43
    assert y.min() >= 14999 and y.max() == 500001
