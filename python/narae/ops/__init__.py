"""The functions that everything else is made of, with the names and signatures of `keras.ops`.

One file for each family: the forward, its gradient, the checks. Each lists its public names in
`__all__`.
"""

from narae.engine.tape import custom_gradient  # noqa: F401
from narae.engine.tensor import install_operators
from narae.ops.activation import *  # noqa: F403
from narae.ops.attention import *  # noqa: F403
from narae.ops.composed import *  # noqa: F403
from narae.ops.conv import *  # noqa: F403
from narae.ops.creation import *  # noqa: F403
from narae.ops.elementwise import *  # noqa: F403
from narae.ops.gemm import *  # noqa: F403
from narae.ops.index import *  # noqa: F403
from narae.ops.norm import *  # noqa: F403
from narae.ops.pool import *  # noqa: F403
from narae.ops.random import *  # noqa: F403
from narae.ops.recurrent import *  # noqa: F403
from narae.ops.reduce import *  # noqa: F403
from narae.ops.shape import *  # noqa: F403
from narae.ops.softmax import *  # noqa: F403
from narae.ops.sort import *  # noqa: F403
from narae.ops.squared_error import *  # noqa: F403
from narae.ops.unary import *  # noqa: F403

install_operators(globals())
