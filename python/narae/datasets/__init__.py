"""Small data sets, public as `narae.datasets`.

`digits` is part of the package. The others are looked for in the folder `$NARAE_DATA`, then in the
caches `~/.narae/datasets` and `~/.keras/datasets`, and are downloaded at last.

The modules are imported when they are first named, as most programs use one or none.
"""

import importlib

__all__ = ["california_housing", "cifar10", "digits", "fashion_mnist", "mnist"]


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
