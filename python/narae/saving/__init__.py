"""Saving and loading: `.keras` archives, `.weights.h5` files and the registry of classes."""

from narae.saving.registry import CustomObjectScope as CustomObjectScope
from narae.saving.registry import custom_object_scope as custom_object_scope
from narae.saving.registry import deserialize_keras_object as deserialize_keras_object
from narae.saving.registry import get_custom_objects as get_custom_objects
from narae.saving.registry import get_registered_name as get_registered_name
from narae.saving.registry import get_registered_object as get_registered_object
from narae.saving.registry import register_keras_serializable as register_keras_serializable
from narae.saving.registry import serialize_keras_object as serialize_keras_object

_LAZY = {
    "load_model": "archive",
    "save_model": "archive",
    "load_weights": "weights",
    "save_weights": "weights",
}


def __getattr__(name):
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
