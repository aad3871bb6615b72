"""Process-wide settings; see `narae.engine.config`."""

from narae.engine.config import *  # noqa: F403
