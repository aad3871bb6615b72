"""Process-wide settings; see `narae.engine.config`."""

from narae.dtype_policies import dtype_policy, set_dtype_policy  # noqa: F401
from narae.engine.config import *  # noqa: F403
