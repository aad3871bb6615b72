"""Where the files of data sets are, and how they are read and checked."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from narae.utils.get_file import cache_folder, get_file

Split = tuple[np.ndarray, np.ndarray]
ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"


def folders() -> list[str]:
    """Returns the folders where data are looked for, the user's own first."""
    home = os.path.join(os.path.expanduser("~"), ".keras", "datasets")
    own = [os.environ["NARAE_DATA"]] if os.environ.get("NARAE_DATA") else []
    return [*own, os.path.join(cache_folder(), "datasets"), home]


def find(*names: str) -> str | None:
    """Returns the first of the files or folders `names` that exists, searched folder by folder."""
    for folder in folders():
        for name in names:
            path = os.path.join(folder, name)
            if os.path.exists(path):
                return path
    return None


def download(who: str, fname: str, origin: str, file_hash: str | None, needed: str) -> str:
    """Downloads a file of a data set.

    Args:
        who: the data set's module, for messages.
        fname: path below the cache.
        origin: address.
        file_hash: sha256 or md5.
        needed: what to put where, in words, for those without a connection.

    Raises:
        FileNotFoundError: the download failed.
    """
    try:
        return get_file(fname, origin=origin, file_hash=file_hash)
    except OSError as error:
        raise FileNotFoundError(
            f"narae.datasets.{who}: expected {needed} in one of {folders()}, or a connection to "
            f"download it ($NARAE_DATA may name another folder). Received: {error}"
        ) from error


def wrong_file(path: str, expected: str, received: Any) -> ValueError:
    """The error of a file that is not what it should be."""
    return ValueError(f"narae.datasets: expected {path} to be {expected}. Received: {received}.")


def read_idx(path: str) -> np.ndarray:
    """Reads unsigned bytes in the idx format, packed with gzip or not.

    Args:
        path: the file.

    Returns:
        uint8 array of the shape that the header gives.

    Raises:
        ValueError: a wrong magic number, or not as many bytes as the header says.
    """
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
            data = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise wrong_file(path, "a whole gzip file", error) from error
    axes = data[3] if len(data) >= 4 and data[:3] == b"\x00\x00\x08" else 0
    if not 1 <= axes <= 4 or len(data) < 4 + 4 * axes:
        raise wrong_file(path, "idx data of unsigned bytes", f"a file that begins {data[:8]!r}")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", axes, offset=4))
    values = np.frombuffer(data, "uint8", offset=4 + 4 * axes)
    if values.size != np.prod(shape, dtype=object):
        raise wrong_file(path, f"idx data of shape {shape}", f"{values.size} values")
    return values.reshape(shape).copy()


def read_npz(path: str, names: Sequence[str]) -> list[np.ndarray]:
    """Reads the arrays `names` of an .npz file, never objects.

    Raises:
        ValueError: a file that is broken or lacks one of them.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except (KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise wrong_file(path, f"an .npz file of {list(names)}", error) from error


def check_images(path: str, x: np.ndarray, y: np.ndarray, shape: tuple, classes: int) -> Split:
    """Checks that `x` are images of one `shape` with as many labels `y` below `classes`."""
    wanted = f"images of shape {shape} with as many labels below {classes}"
    if x.shape[1:] != shape or x.dtype != "uint8" or len(x) != len(y) or not len(x):
        got = f"images of shape {x.shape} ({x.dtype}) and labels of shape {y.shape}"
        raise wrong_file(path, wanted, got)
    if not 0 <= y.min() <= y.max() < classes:
        raise wrong_file(path, wanted, f"labels from {y.min()} to {y.max()}")
    return x, y


IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def load_idx_images(find_idx: Callable[[str], str]) -> tuple[Split, Split]:
    """Loads 28x28 images in ten classes from the four idx files that MNIST made usual."""
    paths = [find_idx(name) for name in IDX_NAMES]
    arrays = [read_idx(path) for path in paths]
    train = check_images(paths[0], arrays[0], arrays[1], (28, 28), 10)
    return train, check_images(paths[2], arrays[2], arrays[3], (28, 28), 10)
