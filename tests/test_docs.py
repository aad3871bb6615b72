"""Documentation runs: the examples of docstrings, and the code blocks of the README."""

import doctest
import importlib
import pathlib
import pkgutil
import re

import numpy as np
import pytest

import narae

ROOT = pathlib.Path(__file__).parents[1]
MODULES = [narae.__name__] + [
    info.name
    for info in pkgutil.walk_packages(narae.__path__, "narae.")
    if not info.name.endswith(("__main__", "_core"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    names = {
        "narae": narae,
        "np": np,
        "layers": narae.layers,
        "ops": narae.ops,
        "Input": narae.Input,
    }
    result = doctest.testmod(
        module,
        extraglobs={key: value for key, value in names.items() if not hasattr(module, key)},
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    assert result.failed == 0


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
