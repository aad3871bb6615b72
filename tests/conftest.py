"""Fixtures for all tests: every instruction set, poisoned memory, deselection of data tests."""

import os

import pytest

from narae import _core
from narae.engine.random import set_random_seed


def pytest_collection_modifyitems(config, items):
    """Without NARAE_DATA, tests marked `data` are deselected (pytest prints their count)."""
    if os.environ.get("NARAE_DATA"):
        return
    data = [item for item in items if item.get_closest_marker("data")]
    config.hook.pytest_deselected(items=data)
    items[:] = [item for item in items if item not in data]


@pytest.fixture(params=_core.isas_supported())
def isa(request):
    """Runs a test once on every instruction set that was built and that this CPU has."""
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Fresh arrays hold NaN, and a write past their end fails the test."""
    before = _core.guard_violations()
    _core.set_poison(True)
    yield
    _core.set_poison(False)
    assert _core.guard_violations() == before, "a kernel wrote past the end of an array"


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every test starts from the same random state."""
    set_random_seed(1234)
