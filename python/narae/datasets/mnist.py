"""MNIST: handwritten digits."""

from __future__ import annotations

import os

from narae.datasets import files
from narae.datasets.files import Split

_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


def load_data(path: str = "mnist.npz") -> tuple[Split, Split]:
    """Loads MNIST: 60 000 training and 10 000 test images of handwritten digits.

    Read from the folder `mnist` with the four original `*-ubyte.gz` files, or from `mnist.npz`, in
    `$NARAE_DATA`, `~/.narae/datasets` or `~/.keras/datasets`; downloaded otherwise.

    Args:
        path: another name for `mnist.npz`; an absolute one is read as it is.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images (N, 28, 28) uint8, 0 to 255; digits (N,)
        uint8.

    Raises:
        ValueError: a broken file.
        FileNotFoundError: neither a file nor a connection.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = narae.datasets.mnist.load_data()  # doctest: +SKIP
    >>> x_train.shape  # doctest: +SKIP
    (60000, 28, 28)
    """
    first = os.path.join("mnist", files.IDX_NAMES[0])
    found = files.find(f"{first}.gz", first, path)
    if found is not None and not found.endswith(path):
        folder, packed = os.path.dirname(found), found.endswith(".gz")
        return files.load_idx_images(
            lambda name: os.path.join(folder, f"{name}.gz" if packed else name)
        )
    if found is None:
        needed = "mnist.npz, or the folder mnist with *-images-idx3-ubyte.gz and the like"
        found = files.download("mnist", path, files.ORIGIN + "mnist.npz", _SHA256, needed)
    arrays = files.read_npz(found, ["x_train", "y_train", "x_test", "y_test"])
    train = files.check_images(found, arrays[0], arrays[1], (28, 28), 10)
    return train, files.check_images(found, arrays[2], arrays[3], (28, 28), 10)
