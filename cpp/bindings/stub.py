"""Writes narae/_core.pyi from the built extension: python stub.py FOLDER_OF_THE_EXTENSION OUTPUT.

pybind11 puts the signature of every function in its docstring; the build collects them.
"""

import inspect
import pathlib
import re
import sys

HEADER = '''"""narae's native core. Written by the build from the bindings' signatures."""

import collections.abc
import typing

import numpy

'''


def signatures(function) -> list[str]:
    """Returns the Python signatures in a binding's docstring, overloads included."""
    name = function.__name__
    lines = (function.__doc__ or "").splitlines()
    found = [re.sub(r"^\d+\. ", "", line) for line in lines]
    found = [line for line in found if line.startswith(f"{name}(") and "->" in line]
    found = [line for line in found if "*args, **kwargs" not in line] or found
    return [re.sub(r"= <[^>]*>", "= ...", line) for line in found]


def declare(function, indent: str = "") -> str:
    lines = signatures(function)
    overload = f"{indent}@typing.overload\n" if len(lines) > 1 else ""
    return "".join(f"{overload}{indent}def {line}: ...\n" for line in lines)


def main(folder: str, output: str) -> None:
    sys.path.insert(0, folder)
    import _core

    text = HEADER
    for name, value in sorted(vars(_core).items()):
        if inspect.isclass(value):
            text += f"class {name}:\n"
            for member, function in sorted(vars(value).items()):
                if isinstance(function, property):
                    text += f"    @property\n    def {member}(self) -> typing.Any: ...\n"
                elif callable(function) and not member.startswith("__") or member == "__init__":
                    text += declare(function, "    ")
        elif callable(value):
            text += declare(value)
    pathlib.Path(output).write_text(text.replace("_core.", ""))


if __name__ == "__main__":
    main(*sys.argv[1:])
