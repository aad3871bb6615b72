"""Reading whole models and weights from `.h5` files of Keras 2 (and of Keras 3 in that form)."""

import json
import warnings

import numpy as np

from narae.saving.registry import deserialize_keras_object
from narae.saving.weights import _dataset, _group


def load_model(file, name: str, custom_objects: dict | None, compile: bool):
    """Returns the model of an open HDF5 file with the attribute `model_config`.

    Args:
        file: the open file.
        name: what to call it in messages.
        custom_objects: from name to class or function.
        compile: whether to compile the model as it was when saved.
    """
    model = deserialize_keras_object(_json(file.attrs["model_config"], name), custom_objects)
    if not model.built:
        raise ValueError(
            f"narae.saving: {name} holds no input shape, so the weights cannot be made. Build the "
            "model in code and use load_weights()."
        )
    load_weights(model, file["model_weights"], name)
    if compile and "training_config" in file.attrs:
        config = _json(file.attrs["training_config"], name)
        config["optimizer"] = config.pop("optimizer_config", "rmsprop")
        try:
            model.compile_from_config(config)
            _load_optimizer(model, file)
        except (ValueError, TypeError, KeyError) as error:
            warnings.warn(
                f"narae.saving: {name}: the model was loaded without compiling it ({error}).",
                stacklevel=4,
            )
    return model


def load_weights(model, group, name: str, skip_mismatch: bool = False) -> None:
    """Loads weights from a group with the attribute `layer_names`, layer by layer in order."""
    saved = [(layer, _arrays(group, layer)) for layer in _names(group, "layer_names")]
    saved = [(layer, arrays) for layer, arrays in saved if arrays]
    layers = [layer for layer in model.layers if layer.weights]
    problems = []
    if len(saved) != len(layers):
        problems.append(f"the file has {len(saved)} layers with weights, the model {len(layers)}")
    pairs = []
    for layer, (saved_name, arrays) in zip(layers, saved):
        variables = layer.trainable_weights + layer.non_trainable_weights
        shapes = [tuple(v.shape) for v in variables]
        found = [a.shape for a in arrays]
        if shapes == found:
            pairs.extend(zip(variables, arrays))
        else:
            problems.append(
                f"layer '{layer.name}': expected {shapes}. Received: {found} of '{saved_name}'"
            )
    if problems:
        message = (
            f"narae.saving: {name} does not fit the model '{model.name}'; it was probably saved "
            "from another architecture:\n  " + "\n  ".join(problems)
        )
        if not skip_mismatch:
            raise ValueError(message)
        warnings.warn(message, stacklevel=4)
    for variable, value in pairs:
        variable.assign(value)


def _json(text, name: str) -> dict:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise ValueError(f"narae.saving: {name}: its config is damaged ({error})") from None


def _names(group, attribute: str) -> list:
    """An attribute that lists names; long lists are split into numbered attributes."""
    if attribute in group.attrs:
        values = list(group.attrs[attribute])
    else:
        values, part = [], 0
        while f"{attribute}{part}" in group.attrs:
            values.extend(group.attrs[f"{attribute}{part}"])
            part += 1
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


def _arrays(group, path: str) -> list[np.ndarray]:
    """The arrays that `weight_names` of the group at `path` lists."""
    inner = _group(group, path)
    if inner is None:
        return []
    arrays = []
    for name in _names(inner, "weight_names"):
        folder, _, key = name.rpartition("/")
        arrays.append(_dataset(_group(inner, folder) if folder else inner, key))
    return arrays


def _load_optimizer(model, file) -> None:
    if "optimizer_weights" not in file or not model.optimizer.built:
        return
    arrays = _arrays(file, "optimizer_weights")
    if arrays:
        model.optimizer.load_own_variables({str(i): a for i, a in enumerate(arrays)})
