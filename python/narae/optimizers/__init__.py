"""Optimizers: how gradients change weights."""

from typing import Any

from narae.engine import lookup
from narae.optimizers import schedules
from narae.optimizers.composed import Adafactor, Lamb
from narae.optimizers.optimizer import Optimizer
from narae.optimizers.rules import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Ftrl,
    Lion,
    Nadam,
    RMSprop,
)

_CLASSES = (
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    AdamW,
    Adamax,
    Ftrl,
    Lamb,
    Lion,
    Nadam,
    RMSprop,
)
_OBJECTS: dict[str, Any] = {cls.__name__.lower(): cls for cls in _CLASSES}

__all__ = ["Optimizer", "deserialize", "get", "schedules", "serialize"]
__all__ += [cls.__name__ for cls in _CLASSES]


def get(identifier: Any) -> Optimizer | None:
    """Finds an optimizer by name (`"adam"`, in any case), config, class or instance.

    >>> narae.optimizers.get("Adam").name
    'adam'
    """
    return deserialize(identifier)


def serialize(optimizer: Optimizer) -> Any:
    """Gives the config of an optimizer."""
    return lookup.to_config(optimizer)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Optimizer | None:
    """Makes an optimizer from what `serialize` gave, or from a name."""
    if isinstance(config, str) and config.lower() in _OBJECTS:
        config = config.lower()
    elif isinstance(config, dict) and str(config.get("class_name")).lower() in _OBJECTS:
        config = {**config, "class_name": config["class_name"].lower(), "module": None}
    return lookup.find("optimizers", config, _OBJECTS, Optimizer, custom_objects)
