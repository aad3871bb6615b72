"""The native core: instruction sets, threads, fork, memory, what bindings refuse."""

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import narae
from narae import _core, config, ops


def python(code: str, **environment) -> str:
    """Runs code in a fresh interpreter and returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", _core.isas_supported())
def test_instruction_set_from_the_environment(name):
    assert python("import narae; print(narae.config.isa())", NARAE_ISA=name) == name


def test_the_widest_instruction_set_is_the_default():
    environment = {k: v for k, v in os.environ.items() if k != "NARAE_ISA"}
    code = "import narae; print(narae.config.isa())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == _core.isas_supported()[-1]


def test_unknown_instruction_set():
    with pytest.raises(ValueError, match="sse9"):
        config.set_isa("sse9")


@pytest.mark.parametrize(
    "name, value",
    [("NARAE_ISA", "sse9"), ("NARAE_NUM_THREADS", "many"), ("NARAE_NUM_THREADS", "0")],
)
def test_wrong_environment(name, value):
    """A typing error in a script must not go unnoticed."""
    code = """
try:
    import narae
except ValueError as error:
    print(error)
"""
    assert value in python(code, **{name: value})


def test_number_of_threads():
    assert python("import narae; print(narae.config.num_threads())", NARAE_NUM_THREADS="3") == "3"
    before = config.num_threads()
    config.set_num_threads(4)
    assert config.num_threads() == 4
    config.set_num_threads(before)
    for bad in (0, -1, 10**6):
        with pytest.raises(ValueError, match="set_num_threads"):
            config.set_num_threads(bad)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks on this system")
def test_threads_follow_the_affinity_mask():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "import narae; print(narae.config.num_threads())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NARAE_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "1"


def big_product(seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(300, 400)).astype("float32")
    return ops.matmul(x, x.T).numpy()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_computes():
    code = """
import os, numpy as np, narae
narae.config.set_num_threads(3)
x = np.random.default_rng(0).normal(size=(400, 400)).astype("float32")
before = narae.ops.matmul(x, x).numpy()
child = os.fork()
if child == 0:
    same = np.array_equal(narae.ops.matmul(x, x).numpy(), before)
    os._exit(0 if same else 1)
print(os.waitpid(child, 0)[1])
"""
    assert python(code) == "0"


def test_several_python_threads_at_once():
    expected = {seed: big_product(seed) for seed in range(4)}
    wrong = []

    def work(seed):
        for _ in range(20):
            if not np.array_equal(big_product(seed), expected[seed]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_memory_is_counted_and_reused():
    gc.collect()  # recordings of other tests
    config.empty_cache()
    start = config.memory_stats()
    x = _core.empty((1 << 20,), np.dtype("float32"))
    assert config.memory_stats()["allocated_bytes"] - start["allocated_bytes"] >= 4 << 20
    assert x.ctypes.data % 64 == 0
    address = x.ctypes.data
    del x
    assert config.memory_stats()["allocated_bytes"] == start["allocated_bytes"]
    assert _core.empty((1 << 20,), np.dtype("float32")).ctypes.data == address
    config.empty_cache()
    assert config.memory_stats()["cached_bytes"] == start["cached_bytes"]


def test_memory_of_many_shapes_does_not_grow():
    """Blocks come in size classes: a new shape each time finds an old block."""

    def pass_over_shapes():
        for n in range(1000, 1100):
            ops.add(np.zeros(n, "float32"), 1.0)
        stats = config.memory_stats()
        return stats["allocated_bytes"] + stats["cached_bytes"]

    first = pass_over_shapes()
    assert pass_over_shapes() == first


@pytest.mark.parametrize("shape", [(-1,), (2**62, 4), (2**40, 2**40)])
def test_impossible_sizes(shape):
    with pytest.raises((ValueError, MemoryError)):
        _core.empty(shape, np.dtype("float32"))


def test_kernels_refuse_layouts_that_tensors_never_have():
    x = np.zeros((4, 4), "float32")
    for bad in (x[:, ::2], x[::-1], x.astype(">f4"), x.astype("int32")):
        with pytest.raises(TypeError, match="narae.ops.matmul"):
            _core.matmul(bad, x)


def test_gemm_is_the_same_for_a_row_alone_or_among_others(isa):
    """The order of a sum depends on its length only: batch size does not change predictions."""
    rng = np.random.default_rng(0)
    x, w = (
        rng.normal(size=(400, 900)).astype("float32"),
        rng.normal(size=(900, 300)).astype("float32"),
    )
    whole = ops.matmul(x, w).numpy()
    for rows in (slice(0, 1), slice(17, 50), slice(100, 399)):
        np.testing.assert_array_equal(ops.matmul(x[rows], w).numpy(), whole[rows])


def test_import_is_quick_and_light(tmp_path, monkeypatch):
    """`import narae` costs at most 60 ms more than `import numpy`, and loads nothing heavy.

    Measured with compiled bytecode, as after an install, and in time of the own thread, which a
    busy machine does not stretch.
    """
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path))
    code = (
        "import time; import numpy; start = time.thread_time(); import narae;"
        "import sys; heavy = {'h5py', 'ml_dtypes', 'rich', 'pandas', 'matplotlib', 'sklearn'};"
        "heavy |= {'PIL', 'keras'};"
        "print(time.thread_time() - start, *(heavy & set(sys.modules)))"
    )
    results = [python(code).split() for _ in range(8)]
    assert all(len(result) == 1 for result in results), results
    assert min(float(seconds) for (seconds,) in results) < 0.060


def test_version_is_that_of_the_package():
    from importlib.metadata import PackageNotFoundError, version

    try:
        assert version("narae") == narae.__version__
    except PackageNotFoundError:
        pytest.skip("run from the sources without an install")


def test_large_blocks_are_split_and_merged():
    _core.empty_cache()
    before = _core.memory_stats()["cached_bytes"]
    MiB = 1 << 20
    whole = _core.empty((64 * MiB,), np.dtype("uint8"))
    start = whole.ctypes.data
    del whole
    parts = [_core.empty((n * MiB,), np.dtype("uint8")) for n in (30, 20, 10)]
    assert all(start <= part.ctypes.data < start + 64 * MiB for part in parts)
    assert len({part.ctypes.data for part in parts}) == 3
    for part, value in zip(parts, (1, 2, 3)):
        part[...] = value
    assert [int(part.sum()) for part in parts] == [30 * MiB, 40 * MiB, 30 * MiB]
    for k in (1, 0, 0):  # the middle one first
        del parts[k]
    del part
    again = _core.empty((64 * MiB,), np.dtype("uint8"))
    assert again.ctypes.data == start
    del again
    _core.empty_cache()
    assert _core.memory_stats()["cached_bytes"] == before


def test_many_blocks_of_random_sizes_hold_their_values():
    random, live = np.random.default_rng(0), {}
    for step in range(400):
        if live and random.random() < 0.5:
            key = random.choice(list(live))
            array = live.pop(key)
            assert (array == key % 251).all()
        else:
            size = int(2 ** random.uniform(4, 23))
            live[step] = _core.empty((size,), np.dtype("uint8"))
            live[step][...] = step % 251
            assert live[step].ctypes.data % 64 == 0
    assert all((array == key % 251).all() for key, array in live.items())
