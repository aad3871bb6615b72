"""CIFAR-10: small photographs in ten classes."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile
from typing import Any

import numpy as np

from narae.datasets import files
from narae.datasets.files import Split

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_BINARY = "cifar-10-binary.tar.gz"
_PYTHON = "cifar-10-python.tar.gz"
_SUBSET = "cifar10-jpeg-subset.zip"
_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")


def load_data() -> tuple[Split, Split]:
    """Loads CIFAR-10: 50 000 training and 10 000 test photographs.

    Looked for in `$NARAE_DATA`, `~/.narae/datasets` and `~/.keras/datasets`, as
    `cifar-10-binary.tar.gz`, `cifar-10-python.tar.gz`, the folder `cifar-10-batches-py`, or as
    `cifar10-jpeg-subset.zip`, 1000 training and 200 test photographs a class, which takes Pillow
    (in turn one of each class, so that the last rows hold every class); downloaded otherwise.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images (N, 32, 32, 3) uint8, 0 to 255; classes
        (N, 1) uint8, in the order of `CLASS_NAMES`.

    Raises:
        ValueError: a broken file.
        ImportError: the subset without Pillow.
        FileNotFoundError: neither a file nor a connection.
    """
    folders = ["cifar-10-batches-py", "cifar-10-batches-py-target/cifar-10-batches-py"]
    path = files.find(_BINARY, _PYTHON, *folders, _SUBSET)
    if path is None:
        origin = f"https://www.cs.toronto.edu/~kriz/{_BINARY}"
        needed = f"{_BINARY}, {_PYTHON} or {_SUBSET}"
        path = files.download("cifar10", _BINARY, origin, _MD5, needed)
    if path.endswith(_SUBSET):
        return _load_subset(path)
    train = [_load_batch(path, name) for name in _BATCHES]
    x, y = (np.concatenate(parts) for parts in zip(*train))
    return (x, y), _load_batch(path, "test_batch")


def _load_batch(path: str, name: str) -> Split:
    """One of the files of CIFAR-10: rows of 3072 bytes, each colour as a plane of 32x32."""
    try:
        if os.path.isdir(path):
            with open(os.path.join(path, name), "rb") as file:
                data = file.read()
        else:
            member = f"cifar-10-batches-bin/{name}.bin"
            member = member if path.endswith(_BINARY) else f"cifar-10-batches-py/{name}"
            with tarfile.open(path) as archive:
                data = archive.extractfile(member).read()
    except (EOFError, KeyError, tarfile.TarError, OSError) as error:
        raise files.wrong_file(path, f"the archive of CIFAR-10 with {name}", error) from error
    if path.endswith(_BINARY):
        if len(data) % 3073:
            raise files.wrong_file(path, "rows of 3073 bytes", f"{len(data)} bytes in {name}")
        rows = np.frombuffer(data, "uint8").reshape(-1, 3073)
        labels, pixels = rows[:, 0], rows[:, 1:]
    else:
        batch = _load_pickle(path, data)
        labels, pixels = np.array(batch[b"labels"], "uint8"), batch[b"data"]
    if pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise files.wrong_file(path, "rows of 3072 pixels", f"shape {pixels.shape} in {name}")
    images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return files.check_images(path, images, labels.reshape(-1, 1), (32, 32, 3), 10)


class _ArraysOnly(pickle.Unpickler):
    """Reads arrays, numbers, strings, lists and dicts; anything else is refused."""

    _allowed = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _load_pickle(path: str, data: bytes) -> dict[bytes, Any]:
    try:
        batch = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
        return {b"labels": batch[b"labels"], b"data": np.asarray(batch[b"data"])}
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise files.wrong_file(path, "a batch of CIFAR-10", error) from error


def _load_subset(path: str) -> tuple[Split, Split]:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f"narae.datasets.cifar10: {path} holds JPEG files, which take Pillow to read: "
            "pip install pillow."
        ) from error

    def load(archive: zipfile.ZipFile, part: str) -> Split:
        named = []
        for name in archive.namelist():
            folder, _, file = name.removeprefix("cifar10/").partition(f"{part}/")[2].partition("/")
            if folder in CLASS_NAMES and file.endswith(".jpg"):
                named.append((file, CLASS_NAMES.index(folder), name))
        named.sort()  # by number, then class
        images = [np.asarray(Image.open(archive.open(name))) for _, _, name in named]
        if not images or any(image.shape != (32, 32, 3) for image in images):
            raise files.wrong_file(path, f"images of 32x32 pixels in {part}", "others, or none")
        labels = np.array([label for _, label, _ in named], "uint8").reshape(-1, 1)
        return files.check_images(path, np.stack(images), labels, (32, 32, 3), 10)

    try:
        with zipfile.ZipFile(path) as archive:
            return load(archive, "train"), load(archive, "test")
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise files.wrong_file(path, "a zip file of JPEG images", error) from error
