"""Process-wide settings; see `narae.engine.config`."""

from narae.engine.config import *  # noqa: F403
from narae.dtype_policies import dtype_policy, set_dtype_policy  # noqa: F401
