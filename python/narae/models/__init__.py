"""Models: `Sequential`, functional and subclassed."""

from .cloning import clone_model as clone_model
from .functional import Functional as Functional
from .model import Model as Model
from .model import model_from_json as model_from_json
from .sequential import Sequential as Sequential


def __getattr__(name):
    if name in ("load_model", "save_model"):
        from .. import saving

        return getattr(saving, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
