"""California housing: prices of houses by district, from the census of 1990."""

from __future__ import annotations

import csv

import numpy as np

from narae.datasets import files
from narae.datasets.files import Split

FEATURE_NAMES = (
    "longitude",
    "latitude",
    "housing_median_age",
    "total_rooms",
    "total_bedrooms",
    "population",
    "households",
    "median_income",
)
_TARGET = "median_house_value"
_SHA256 = "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f"


def load_data(
    version: str = "large",
    path: str = "california_housing.npz",
    test_split: float = 0.2,
    seed: int = 113,
) -> tuple[Split, Split]:
    """Loads California housing: 20 640 districts, 8 features, and the median price of a house.

    The features are, in this order: longitude and latitude (degrees), median age of the houses
    (years), rooms, bedrooms, people and households in the district (counts), median income (tens of
    thousands of dollars). They are as in `FEATURE_NAMES` and as in Keras's file, not the
    averages per household that scikit-learn gives.

    Read from `housing.csv` or `california_housing.npz` in `$NARAE_DATA`, `~/.narae/datasets` or
    `~/.keras/datasets`; downloaded otherwise. `housing.csv` lacks the number of bedrooms in 207
    rows: they get the median of the others. Its last column, the nearness of the ocean, is not
    returned.

    Args:
        version: `"large"`, or `"small"` for the first 600 districts.
        path: another name for `california_housing.npz`.
        test_split: share of the rows for the test.
        seed: fixes the order of the rows, which are shuffled before the split.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: features (N, 8) float32; prices (N,) float32 in
        dollars.

    Raises:
        ValueError: an unknown version, a split outside [0, 1), or a broken file.
        FileNotFoundError: neither a file nor a connection.
    """
    if version not in ("large", "small"):
        raise ValueError(
            "narae.datasets.california_housing: expected version to be 'large' or 'small'. "
            f"Received: version={version!r}."
        )
    if not 0 <= test_split < 1:
        raise ValueError(
            "narae.datasets.california_housing: expected test_split to be in [0, 1). "
            f"Received: test_split={test_split!r}."
        )
    found = files.find("housing.csv", path)
    if found is None:
        origin = files.ORIGIN + "california_housing.npz"
        needed = f"housing.csv or {path}"
        found = files.download("california_housing", path, origin, _SHA256, needed)
    x, y = _read_csv(found) if found.endswith(".csv") else files.read_npz(found, ["x", "y"])
    if x.ndim != 2 or x.shape[1] != len(FEATURE_NAMES) or y.shape != (len(x),):
        raise files.wrong_file(found, "8 features and one price a row", f"{x.shape} and {y.shape}")
    if version == "small":
        x, y = x[:600], y[:600]
    order = np.arange(len(x))
    np.random.RandomState(seed).shuffle(order)
    x, y = x[order].astype("float32"), y[order].astype("float32")
    split = int(len(x) * (1 - test_split))
    return (x[:split], y[:split]), (x[split:], y[split:])


def _read_csv(path: str) -> Split:
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        wanted = [*FEATURE_NAMES, _TARGET]
        if missing := [name for name in wanted if name not in names]:
            raise files.wrong_file(path, f"a table with the columns {missing}", names)
        try:
            rows = [[float(row[name] or "nan") for name in wanted] for row in reader]
        except (TypeError, ValueError) as error:
            raise files.wrong_file(path, "a table of numbers", error) from error
    table = np.array(rows).reshape(-1, len(wanted))
    bedrooms = table[:, FEATURE_NAMES.index("total_bedrooms")]
    if len(table):
        bedrooms[np.isnan(bedrooms)] = np.nanmedian(bedrooms)
    if not len(table) or np.isnan(table).any():
        what = f"{np.isnan(table).sum()} missing numbers in {len(table)} rows"
        raise files.wrong_file(path, "a table without gaps but in total_bedrooms", what)
    return table[:, :-1], table[:, -1]
