"""`.keras` archives: a zip with the architecture as JSON, the weights as HDF5, and assets."""

import datetime
import io
import json
import os
import tempfile
import warnings
import zipfile
from pathlib import Path

from narae.saving.registry import deserialize_keras_object, serialize_keras_object
from narae.saving.weights import (
    check_overwrite,
    children,
    load_from_bytes,
    open_h5,
    weights_to_bytes,
    write_atomically,
)

_KERAS_VERSION = "3.15.1"  # whose format this is
_CONFIG, _METADATA, _WEIGHTS, _ASSETS = (
    "config.json", "metadata.json", "model.weights.h5", "assets",
)  # fmt: skip
_MAX_RATIO = 1000  # an entry that unpacks to more than this many times its size is refused


def save_model(model, filepath, overwrite: bool = True, zipped: bool | None = None, **kwargs):
    """Saves a model's architecture, weights, compile arguments and optimizer state.

    Args:
        model: the model.
        filepath: ends in `.keras`.
        overwrite: whether an existing file may be replaced.
        zipped: must not be False; only archives are written.

    Raises:
        ValueError: another ending, or something in the model that has no config.
        FileExistsError: the file exists and `overwrite` is False.

    >>> narae.models.save_model(model, "model.keras")
    """
    who = "narae.models.save_model"
    if kwargs:
        raise ValueError(f"{who}: unexpected arguments {sorted(kwargs)}.")
    filepath = os.fspath(filepath)
    if not filepath.endswith(".keras") or zipped is False:
        raise ValueError(
            f"{who}: expected filepath to end in '.keras' (for weights alone, use "
            f"model.save_weights('name.weights.h5')). Received: filepath={filepath!r}"
        )
    check_overwrite(filepath, overwrite, who)
    if not model.built:
        warnings.warn(
            f"{who}: the model is not built yet, so the file will hold no weights.", stacklevel=3
        )
    data = model_to_bytes(model)
    write_atomically(filepath, lambda file: file.write(data))


def model_to_bytes(model) -> bytes:
    """Returns the content of a `.keras` file."""
    now = datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        metadata = {"keras_version": _KERAS_VERSION, "date_saved": now}
        archive.writestr(_METADATA, json.dumps(metadata))
        archive.writestr(_CONFIG, json.dumps(serialize_keras_object(model)))
        archive.writestr(_WEIGHTS, weights_to_bytes(model))
        _write_assets(model, archive)
    return buffer.getvalue()


def model_from_bytes(data: bytes, custom_objects: dict | None = None):
    """Returns the model of the content of a `.keras` file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return _load(archive, "the archive", custom_objects, compile=True)


def load_model(filepath, custom_objects: dict | None = None, compile: bool = True, safe_mode=True):
    """Loads a model from a `.keras` file, of narae or of Keras 3, or a `.h5` file of Keras 2.

    No code from the file is run, whatever `safe_mode` says.

    Args:
        filepath: the file.
        custom_objects: from name to class or function, for what is not narae's own.
        compile: whether the model is compiled as it was when saved.
        safe_mode: accepted for Keras's sake.

    Returns:
        The model with its weights and, if compiled, its optimizer's state.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a `.keras` file, a damaged one, or one with unknown classes.

    >>> model.save("model.keras")
    >>> same = narae.models.load_model("model.keras")
    >>> bool((same.predict(x, verbose=0) == model.predict(x, verbose=0)).all())
    True
    """
    filepath = os.fspath(filepath)
    if not os.path.exists(filepath):
        raise FileNotFoundError(f"narae.models.load_model: no such file: {filepath}")
    if _is_h5(filepath):
        from narae.saving import legacy

        with open_h5(filepath, filepath) as file:
            if "model_config" not in file.attrs:
                raise ValueError(
                    f"narae.models.load_model: {filepath} holds weights only: make the model and "
                    "call its load_weights()."
                )
            return legacy.load_model(file, filepath, custom_objects, compile)
    with _opened(filepath) as archive:
        return _load(archive, filepath, custom_objects, compile)


def _load(archive: zipfile.ZipFile, filepath: str, custom_objects: dict | None, compile: bool):
    config = _parse(archive, filepath)
    weights = _read(archive, _WEIGHTS, filepath)
    if not compile:
        config.pop("compile_config", None)
    model = deserialize_keras_object(config, custom_objects)
    if not hasattr(model, "load_weights"):
        raise ValueError(
            f"narae.models.load_model: expected a model in {filepath}. "
            f"Received: {type(model).__name__}"
        )
    load_from_bytes(model, weights, filepath)
    _read_assets(model, archive, filepath)
    return model


def read_entry(filepath: str, name: str) -> bytes:
    """Returns one entry of an archive."""
    with _opened(filepath) as archive:
        return _read(archive, name, filepath)


def _opened(filepath: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(filepath)
    except (zipfile.BadZipFile, IsADirectoryError) as error:
        raise ValueError(
            f"narae.saving: expected a '.keras' archive. {filepath} is not one, or is damaged "
            f"({error})"
        ) from None


def _is_h5(filepath: str) -> bool:
    if not os.path.isfile(filepath):
        return False
    with open(filepath, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _read(archive: zipfile.ZipFile, name: str, filepath: str) -> bytes:
    try:
        info = archive.getinfo(name)
        if info.file_size > _MAX_RATIO * max(info.compress_size, 1024):
            raise ValueError(f"narae.saving: {filepath}: {name} unpacks to an absurd size.")
        return archive.read(info)
    except KeyError:
        raise ValueError(
            f"narae.saving: expected {name} in {filepath}. It holds: {archive.namelist()}"
        ) from None
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"narae.saving: {filepath} is damaged at {name} ({error})") from None


def _parse(archive: zipfile.ZipFile, filepath: str) -> dict:
    try:
        config = json.loads(_read(archive, _CONFIG, filepath))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"narae.saving: {filepath}: {_CONFIG} is damaged ({error})") from None
    if not isinstance(config, dict) or "class_name" not in config:
        raise ValueError(f"narae.saving: {filepath}: expected the config of a model.")
    return config


# Assets: files of layers with a vocabulary


def _with_assets(obj, path: str = "", visited: set | None = None):
    """Yields (layer, path) of the layers that keep assets."""
    visited = set() if visited is None else visited
    if id(obj) in visited:
        return
    visited.add(id(obj))
    if hasattr(obj, "save_assets") and hasattr(obj, "load_assets"):
        yield obj, path
    for child, child_path in children(obj, path):
        yield from _with_assets(child, child_path, visited)


def _write_assets(model, archive: zipfile.ZipFile) -> None:
    for layer, path in _with_assets(model):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            for file in sorted(Path(folder).rglob("*")):
                if file.is_file():
                    archive.write(file, f"{_ASSETS}/{path}/{file.relative_to(folder).as_posix()}")


def _read_assets(model, archive: zipfile.ZipFile, filepath: str) -> None:
    names = [name for name in archive.namelist() if name.startswith(f"{_ASSETS}/")]
    if not names:
        return
    for layer, path in _with_assets(model):
        prefix = f"{_ASSETS}/{path}/"
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                relative = Path(name.removeprefix(prefix))
                if not name.startswith(prefix) or name.endswith("/"):
                    continue
                if relative.is_absolute() or ".." in relative.parts:
                    raise ValueError(f"narae.saving: {filepath}: unsafe path {name!r}.")
                target = Path(folder, relative)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(_read(archive, name, filepath))
            layer.load_assets(folder)
