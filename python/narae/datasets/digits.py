"""Digits: small handwritten digits, part of the package."""

from __future__ import annotations

import os

import numpy as np

from narae.datasets import files
from narae.datasets.files import Split


def load_data() -> tuple[Split, Split]:
    """Loads the 1797 handwritten digits of 8x8 pixels of the UCI repository.

    The split is fixed and stratified: of each digit every fifth image, in the order of the
    original file, is for the test, 355 in all; the other 1442 are for training. The order is kept.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, the test part, UCI
    Machine Learning Repository, 1998 (CC BY 4.0).

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images (N, 8, 8) uint8, 0 (paper) to 16 (ink);
        digits (N,) uint8.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = narae.datasets.digits.load_data()
    >>> x_train.shape, x_test.shape
    ((1442, 8, 8), (355, 8, 8))
    """
    path = os.path.join(os.path.dirname(__file__), "digits.npz")
    x, y = files.read_npz(path, ["x", "y"])
    test = np.zeros(len(y), bool)
    for digit in range(10):
        test[np.flatnonzero(y == digit)[4::5]] = True
    return (x[~test], y[~test]), (x[test], y[test])
