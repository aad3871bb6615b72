"""Fashion-MNIST: pictures of clothes."""

from __future__ import annotations

import os

from narae.datasets import files
from narae.datasets.files import Split

_MD5 = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def load_data() -> tuple[Split, Split]:
    """Loads Fashion-MNIST: 60 000 training and 10 000 test images of ten kinds of clothes.

    Read from the folder `fashion-mnist` with four `*-ubyte.gz` files in `$NARAE_DATA`,
    `~/.narae/datasets` or `~/.keras/datasets`; downloaded otherwise.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images (N, 28, 28) uint8, 0 to 255; classes (N,)
        uint8, in the order of `CLASS_NAMES`.

    Raises:
        ValueError: a broken file.
        FileNotFoundError: neither the files nor a connection.
    """

    def find(name: str) -> str:
        path = os.path.join("fashion-mnist", f"{name}.gz")
        needed = f"the folder fashion-mnist with {name}.gz"
        return files.find(path) or files.download(
            "fashion_mnist", path, f"{files.ORIGIN}{name}.gz", _MD5[name], needed
        )

    return files.load_idx_images(find)
