"""Finds a loss, metric, optimizer, ... by name, class, config or instance."""

import inspect
from typing import Any


def find(
    module: str,
    identifier: Any,
    objects: dict[str, Any],
    base: type | None = None,
    custom_objects: dict | None = None,
) -> Any:
    """Returns the object that `identifier` stands for.

    Args:
        module: the name of the asking module, for messages (`"losses"`).
        identifier: `None` (given back), a name, a config dict, a class (it is made without
            arguments), or the object itself.
        objects: the names that the module knows, aliases included.
        base: the result must be an instance of it; without it, the result must be callable.
        custom_objects: further names for this call.

    Raises:
        ValueError: if the name is unknown or the object is of the wrong kind.
    """
    if identifier is None:
        return None
    if isinstance(identifier, dict):
        found = from_config(identifier, objects, custom_objects)
    elif isinstance(identifier, str):
        found = objects.get(identifier) or _registered(identifier, custom_objects)
    else:
        found = identifier
    if inspect.isclass(found):
        found = found()
    if isinstance(found, base) if base else callable(found):
        return found
    hint = ""
    if isinstance(identifier, str):
        from difflib import get_close_matches

        close = get_close_matches(identifier, objects, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else f" Known names: {sorted(objects)}."
    raise ValueError(
        f"narae.{module}.get: expected a name, a config, "
        f"{'an instance of ' + base.__name__ if base else 'a callable'} or a class. "
        f"Received: {identifier!r}.{hint}"
    )


def from_config(config: dict, objects: dict[str, Any], custom_objects: dict | None = None) -> Any:
    """Makes the object of a `{"class_name", "config"}` dict, with or without the `"module"` key."""
    known = objects.get(config.get("class_name"))
    if config.get("module") is None and inspect.isclass(known):
        return known.from_config(dict(config.get("config") or {}))
    if config.get("class_name") == "function" and config.get("config") in objects:
        return objects[config["config"]]
    from narae.saving.registry import deserialize_keras_object

    return deserialize_keras_object(config, custom_objects=custom_objects)


def _registered(name: str, custom_objects: dict | None) -> Any:
    from narae.saving.registry import get_registered_object

    return get_registered_object(name, custom_objects=custom_objects)


def to_config(thing: Any) -> Any:
    """The config of an object or function, as `narae.saving.serialize_keras_object` writes it."""
    from narae.saving.registry import serialize_keras_object

    return serialize_keras_object(thing)
