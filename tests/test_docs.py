"""Documentation runs: the examples of docstrings, and the code blocks of the README."""

import doctest
import importlib
import inspect
import pathlib
import pkgutil
import re

import numpy as np
import pytest

import narae
from narae import layers, ops

ROOT = pathlib.Path(__file__).parents[1]
MODULES = [narae.__name__] + [
    info.name
    for info in pkgutil.walk_packages(narae.__path__, "narae.")
    if not info.name.endswith(("__main__", "_core"))
]


class Finder(doctest.DocTestFinder):
    """Finds the examples of functions that a decorator wraps too."""

    def _from_module(self, module, thing):
        if inspect.isfunction(thing):
            return thing.__module__ == module.__name__
        return super()._from_module(module, thing)


def small_model():
    """A compiled model and four samples for it: in examples, `model`, `x` and `y`."""
    model = narae.Sequential([layers.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1]], "float32")
    narae.utils.clear_session()  # names in examples count from the start
    return {"model": model, "x": x, "y": x.sum(axis=1, keepdims=True)}


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    names = {"narae": narae, "np": np, "layers": layers, "ops": ops, "Input": narae.Input}
    names = {key: value for key, value in names.items() if not hasattr(module, key)}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in Finder().find(module, extraglobs=names):
        if test.examples:
            test.globs.update(small_model())
            narae.utils.set_random_seed(0)
            runner.run(test)
    assert runner.failures == 0


NAMESPACES = [
    "activations",
    "callbacks",
    "config",
    "constraints",
    "datasets",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "optimizers.schedules",
    "random",
    "regularizers",
    "saving",
    "utils",
]


def undocumented(path, thing):
    """The names at and below a public thing that have no docstring, neither own nor inherited."""
    if inspect.getdoc(thing) is None:
        yield path
    if inspect.isclass(thing):
        for name in vars(thing):
            member = getattr(thing, name)
            is_public = not name.startswith("_")
            if is_public and (inspect.isroutine(member) or isinstance(member, property)):
                yield from undocumented(f"{path}.{name}", member)


@pytest.mark.parametrize("namespace", ["", *NAMESPACES])
def test_everything_public_has_a_docstring(namespace):
    module = importlib.import_module(f"narae.{namespace}".rstrip("."))
    public = getattr(module, "__all__", None) or [n for n in dir(module) if n[0] != "_"]
    found = {name: getattr(module, name) for name in public}
    own = {
        name: thing
        for name, thing in found.items()
        if getattr(thing, "__module__", "").startswith("narae")
        and (inspect.isclass(thing) or inspect.isroutine(thing))
    }
    missing = [p for name, thing in own.items() for p in undocumented(name, thing)]
    assert module.__doc__ and not missing


@pytest.mark.parametrize("file", ["README.md"])
def test_python_blocks(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / file).read_text(), re.DOTALL | re.MULTILINE
    )
    assert blocks
    for block in blocks:
        exec(compile(block, file, "exec"), {"__name__": "readme"})


def test_links_of_the_readme():
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    missing = [link for link in links if not (ROOT / link).exists()]
    assert links and not missing
