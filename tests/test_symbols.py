"""No inline function is shared between instruction sets.

The linker keeps one copy of an inline function. Had an AVX-512 object and a base object the same
one, the base kernels could run AVX-512 code and crash on an older CPU. So every weak symbol that a
kernel object defines must carry its instruction set in its name.
"""

import pathlib
import re
import shutil
import subprocess

import pytest

from narae import _core

ROOT = pathlib.Path(__file__).parents[1]
OBJECTS = sorted(
    path
    for path in ROOT.glob("build/**/*")
    if path.suffix in (".o", ".obj") and re.search(r"kernels_(\w+)\.dir", str(path))
)


@pytest.mark.skipif(
    not OBJECTS or shutil.which("nm") is None, reason="no build folder beside the tests, or no nm"
)
@pytest.mark.parametrize("name", _core.isas_built())
def test_weak_symbols_carry_the_instruction_set(name):
    objects = [path for path in OBJECTS if f"kernels_{name}.dir" in str(path)]
    assert objects, f"no objects of {name} in {ROOT / 'build'}"
    listing = subprocess.run(
        ["nm", "-A", *map(str, objects)], capture_output=True, text=True, check=True
    ).stdout
    weak = re.findall(r"^(\S+):\S* [WVu] (\S+)$", listing, flags=re.MULTILINE)
    own = f"{len(name)}{name}"  # as it is mangled within narae::<name>
    stray = [(path, symbol) for path, symbol in weak if own not in symbol]
    assert not stray, f"{len(stray)} symbols shared between instruction sets: {stray[:10]}"
