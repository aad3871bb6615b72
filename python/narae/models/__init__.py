"""Models: `Sequential`, functional and subclassed."""

from narae.models.cloning import clone_model as clone_model
from narae.models.functional import Functional as Functional
from narae.models.model import Model as Model
from narae.models.model import model_from_json as model_from_json
from narae.models.sequential import Sequential as Sequential


def __getattr__(name):
    if name in ("load_model", "save_model"):
        from narae import saving

        return getattr(saving, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
