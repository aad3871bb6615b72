"""Small data sets, public as `narae.datasets`.

`digits` is part of the package. The others are looked for in the folder `$NARAE_DATA`, then in the
caches `~/.narae/datasets` and `~/.keras/datasets`, and are downloaded at last.
"""

from narae.datasets import california_housing as california_housing
from narae.datasets import cifar10 as cifar10
from narae.datasets import digits as digits
from narae.datasets import fashion_mnist as fashion_mnist
from narae.datasets import mnist as mnist
