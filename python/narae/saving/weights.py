"""`.weights.h5` files in the layout of Keras 3.

Every layer is a group with a sub-group `vars` of datasets `0`, `1`, ... A layer's place is the
path of attributes that leads to it; in lists it is snake_case of its class, numbered by repeats.
"""

import os
import warnings
from pathlib import Path

import numpy as np

from narae.engine.naming import to_snake_case
from narae.engine.tensor import Tensor
from narae.layers.layer import Layer
from narae.utils.files import atomic_path

_FIRST = "layers"  # Sequential and functional models are walked through `layers` first
_skipped: dict = {}


def save_weights(model, filepath, overwrite: bool = True, max_shard_size=None) -> None:
    """Saves the weights (and the optimizer's state) of a model as a `.weights.h5` file.

    Args:
        model: a built model.
        filepath: ends in `.weights.h5`.
        overwrite: whether an existing file may be replaced.
        max_shard_size: not supported; must be None.

    Raises:
        ValueError: another ending, an unbuilt model, or shards.
        FileExistsError: the file exists and `overwrite` is False.
    """
    filepath = str(filepath)
    who = "narae.Model.save_weights"
    if not filepath.endswith(".weights.h5"):
        raise ValueError(
            f"{who}: expected filepath to end in '.weights.h5'. Received: filepath={filepath!r}"
        )
    if max_shard_size is not None:
        raise ValueError(f"{who}: expected max_shard_size=None; files are not split.")
    if not model.built:
        raise ValueError(
            f"{who}: expected a model with weights. It is not built yet: call it on data, or "
            "build(input_shape), first."
        )
    check_overwrite(filepath, overwrite, who)
    data = weights_to_bytes(model)
    write_atomically(filepath, lambda file: file.write(data))


def load_weights(model, filepath, skip_mismatch: bool = False, **kwargs) -> None:
    """Loads the weights of a `.weights.h5` or `.keras` file into a model of the same architecture.

    Args:
        model: a built model.
        filepath: the file.
        skip_mismatch: warn about layers that do not fit, and leave them as they are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a weights file, a damaged one, or one of another architecture.
    """
    filepath = str(filepath)
    who = "narae.Model.load_weights"
    if kwargs:
        raise ValueError(f"{who}: unexpected arguments {sorted(kwargs)}.")
    if not os.path.exists(filepath):
        raise FileNotFoundError(f"{who}: no such file: {filepath}")
    if not model.built:
        raise ValueError(
            f"{who}: expected a model with weights. It is not built yet: call it on data, or "
            "build(input_shape), first."
        )
    if filepath.endswith(".keras"):
        from narae.saving.archive import read_entry

        load_from_bytes(model, read_entry(filepath, "model.weights.h5"), filepath, skip_mismatch)
        return
    with open_h5(filepath, filepath) as file:
        load_from_file(model, file, filepath, skip_mismatch)


# Files


def check_overwrite(filepath: str, overwrite: bool, who: str) -> None:
    if not overwrite and os.path.exists(filepath):
        raise FileExistsError(
            f"{who}: the file exists and overwrite is False. Received: filepath={filepath!r}"
        )


def write_atomically(filepath: str, write) -> None:
    """Writes a file under another name and moves it into place: a kill leaves old or new."""
    path = Path(filepath).absolute()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"narae.saving: no such directory: {path.parent}")
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        write(file)


def open_h5(source, name: str):
    """Opens an HDF5 file or file object for reading; a damaged one gives a ValueError."""
    import h5py

    try:
        return h5py.File(source, "r")
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"narae.saving: expected an HDF5 file of weights. {name} is not one, or is damaged "
            f"({error})"
        ) from None


# Saving


def weights_to_bytes(model) -> bytes:
    """Returns the content of a `.weights.h5` file."""
    import io

    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _save(model, file, "", set())
    return buffer.getvalue()


class _Writer:
    """The dict that a layer's `save_own_variables` writes into: a `vars` group."""

    def __init__(self, file, path: str, name):
        self._group = file.create_group(f"{path}/vars" if path else "vars")
        if isinstance(name, str):
            self._group.attrs["name"] = name

    def __setitem__(self, key, value):
        value = value.array if isinstance(value, Tensor) else np.asarray(value)
        dataset = self._group.create_dataset(str(key), data=value)
        if value.dtype.name == "bfloat16":  # HDF5 has no name for it: Keras's mark
            dataset.attrs["dtype"] = "bfloat16"

    def __getitem__(self, key):
        return self._group[key][()]

    def __contains__(self, key):
        return key in self._group

    def keys(self):
        return self._group.keys()


def _save(obj, file, path: str, visited: set) -> None:
    if id(obj) in visited:
        return
    visited.add(id(obj))
    if hasattr(obj, "save_own_variables"):
        obj.save_own_variables(_Writer(file, path, getattr(obj, "name", None)))
    for child, child_path in children(obj, path):
        _save(child, file, child_path, visited)


# The walk


def children(obj, path: str):
    """Yields (object, path) of what an object holds, in the order in which Keras walks.

    Attributes in sorted order, private ones last; each is taken at the first path that leads to
    it, so callers keep track of what they have seen.
    """
    prefix = f"{path}/" if path else ""
    if _FIRST in dir(type(obj)) and not _is_subclassed(obj):
        yield from _in_container(obj.layers, f"{prefix}{_FIRST}", set())
    names = set(dir(obj)) - _base_names(obj)
    for name in sorted(names, key=lambda n: f"~{n}" if n.startswith("_") else n):
        if name.startswith("__"):
            continue
        try:
            value = getattr(obj, name)
        except Exception:
            continue  # a property that is not ready
        if _is_saveable(value):
            yield value, prefix + name
        elif isinstance(value, (list, tuple, dict)):
            yield from _in_container(value, prefix + name, set())


def _in_container(container, path: str, seen: set):
    if id(container) in seen:
        return
    seen.add(id(container))
    counts: dict = {}
    for item in container.values() if isinstance(container, dict) else container:
        if _is_saveable(item):
            yield item, f"{path}/{_numbered(to_snake_case(type(item).__name__), counts)}"
        elif isinstance(item, (list, tuple, dict)):
            yield from _in_container(item, f"{path}/{_numbered('container', counts)}", seen)


def _numbered(name: str, counts: dict) -> str:
    counts[name] = counts.get(name, -1) + 1
    return f"{name}_{counts[name]}" if counts[name] else name


def _is_saveable(value) -> bool:
    return isinstance(value, Layer) or (
        hasattr(value, "save_own_variables")
        and hasattr(value, "variables")
        and not isinstance(value, type)
    )


def _is_subclassed(obj) -> bool:
    from narae.models import Functional, Sequential

    return not isinstance(obj, (Functional, Sequential))


def _base_names(obj) -> frozenset:
    """Attribute names of the base classes, which hold no layers of their own."""
    from narae.models import Functional, Model, Sequential

    kind = next((c for c in (Sequential, Functional, Model) if isinstance(obj, c)), None)
    if kind is None:
        kind = Layer if isinstance(obj, Layer) else object
    if kind not in _skipped:
        names = set(dir(Layer)) | set(vars(Layer(name="reference"))) | {"_held"}
        if issubclass(kind, Model):
            names |= set(dir(kind)) | set(vars(Model(name="reference")))
            names |= {
                "_functional", "_stack", "_operations", "_nodes", "_plan", "_inputs", "_outputs",
                "_inputs_struct", "_outputs_struct", "_input_specs", "input_names", "output_names",
                "_compile_arguments", "_steps", "history",
            }  # fmt: skip
            names -= {"optimizer"}
            if kind is Model:
                names -= {_FIRST}
        if kind is object:
            names = set(dir(object)) | {"variables"}
        _skipped[kind] = frozenset(names)
    return _skipped[kind]


# Loading


class _Reader:
    """The dict that a layer's `load_own_variables` reads: a `vars` group, or nothing."""

    def __init__(self, group):
        self._group = group

    def keys(self):
        return [] if self._group is None else list(self._group.keys())

    def __len__(self):
        return len(self.keys())

    def __contains__(self, key):
        return self._group is not None and key in self._group

    def __getitem__(self, key):
        return _dataset(self._group, str(key))

    def items(self):
        return [(key, self[key]) for key in self.keys()]


def _dataset(group, key: str) -> np.ndarray:
    """Reads a dataset that lies in the file itself."""
    import h5py

    if group is None or key not in group:
        raise KeyError(key)
    link = group.get(key, getlink=True)
    item = group[key] if isinstance(link, h5py.HardLink) else None
    if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
        raise ValueError(
            f"narae.saving: expected a dataset inside the file. Received: {group.name}/{key}, "
            "which points elsewhere"
        )
    value = item[()]
    if item.attrs.get("dtype") == "bfloat16":
        bits = np.frombuffer(np.ascontiguousarray(value).tobytes(), "uint16").astype("uint32")
        return (bits << 16).view("float32").reshape(item.shape)
    return np.asarray(value)


def _group(file, path: str):
    """Returns the group at `path` in the file itself, or None."""
    import h5py

    group = file
    for part in path.split("/"):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            return None
        group = group[part]
    return group if isinstance(group, h5py.Group) else None


def _vars(file, path: str):
    if not path:
        return _group(file, "vars")
    found = _group(file, f"{path}/vars")
    if found is None and "_layer_checkpoint_dependencies" in file:  # Keras 2.13
        old = path.replace("layers", "_layer_checkpoint_dependencies")
        found = _group(file, f"{old}/vars")
    return found


def load_from_bytes(model, data: bytes, name: str, skip_mismatch: bool = False) -> None:
    import io

    with open_h5(io.BytesIO(data), name) as file:
        load_from_file(model, file, name, skip_mismatch)


def load_from_file(model, file, name: str, skip_mismatch: bool = False) -> None:
    """Loads the weights of an open HDF5 file; layers that do not fit raise or warn."""
    if "layer_names" in file.attrs or "model_config" in file.attrs:
        from narae.saving import legacy

        legacy.load_weights(model, file.get("model_weights", file), name, skip_mismatch)
        return
    problems: list = []
    seen_paths: set = set()
    _load(model, file, "", set(), seen_paths, problems)
    extra = sorted(_unseen_layers(file, seen_paths))
    if extra:
        problems.append(f"the file has weights for {', '.join(extra)}, which the model lacks")
    if not problems:
        return
    listed = "\n  ".join(problems)
    message = (
        f"narae.saving: {name} does not fit the model '{model.name}'; it was probably saved from "
        f"another architecture:\n  {listed}"
    )
    if not skip_mismatch:
        raise ValueError(message)
    warnings.warn(message, stacklevel=3)


def _load(obj, file, path: str, visited: set, seen_paths: set, problems: list) -> None:
    if id(obj) in visited:
        return
    visited.add(id(obj))
    seen_paths.add(path)
    if hasattr(obj, "load_own_variables"):
        reader = _Reader(_vars(file, path))
        if isinstance(obj, Layer):
            try:
                obj.load_own_variables(reader)
            except (ValueError, KeyError, TypeError) as error:
                problems.append(f"{path or 'the model'}: {error}")
        else:
            _load_optimizer(obj, reader)
    for child, child_path in children(obj, path):
        _load(child, file, child_path, visited, seen_paths, problems)


def _load_optimizer(optimizer, reader: _Reader) -> None:
    """An optimizer's state may be missing: files of weights alone, or saved before training."""
    if not len(reader) or not getattr(optimizer, "built", True):
        return
    if len(reader) <= 2 < len(optimizer.variables) and not np.any(reader["0"]):
        return  # saved before the first step, with no more than iteration and learning rate
    try:
        optimizer.load_own_variables(reader)
    except (ValueError, KeyError) as error:
        warnings.warn(
            f"narae.saving: the state of the optimizer was not loaded; it starts afresh ({error})",
            stacklevel=2,
        )


def _unseen_layers(file, seen_paths: set) -> set:
    """Entries of `layers` in the file that no layer of the model was loaded from."""
    group = _group(file, _FIRST)
    if group is None:
        return set()

    def holds_weights(node) -> bool:
        return any(
            key.isdigit()
            or (hasattr(child, "keys") and key != "seed_generator" and holds_weights(child))
            for key, child in node.items()
        )

    seen = {path.split("/")[1] for path in seen_paths if path.startswith(f"{_FIRST}/")}
    return {
        f"{_FIRST}/{key}"
        for key, node in group.items()
        if key not in seen and hasattr(node, "keys") and holds_weights(node)
    }
