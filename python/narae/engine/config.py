"""Process-wide settings: default float type, fuzz factor, image layout, instruction set, threads.

Public as `narae.config`.
"""

import os
import platform

from narae import _core

_FLOATS = ("bfloat16", "float32", "float64")
_LAYOUTS = ("channels_last", "channels_first")
_settings = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}


def floatx() -> str:
    """Returns the default float dtype, `"float32"` unless changed."""
    return _settings["floatx"]


def set_floatx(value: str) -> None:
    """Sets the default float dtype: `"float32"`, `"float64"` or `"bfloat16"`."""
    if value not in _FLOATS:
        raise ValueError(f"narae.config.set_floatx: expected one of {_FLOATS}. Received: {value!r}")
    if value == "bfloat16":  # NumPy learns the name
        import ml_dtypes  # noqa: F401
    _settings["floatx"] = value


def epsilon() -> float:
    """Returns the fuzz factor that keeps divisions and logarithms finite, 1e-7 unless changed."""
    return _settings["epsilon"]


def set_epsilon(value: float) -> None:
    """Sets the fuzz factor."""
    if not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"narae.config.set_epsilon: expected 0 <= value < 1. Received: {value!r}")
    _settings["epsilon"] = float(value)


def image_data_format() -> str:
    """Returns the default layout of images: `"channels_last"` unless changed."""
    return _settings["image_data_format"]


def set_image_data_format(data_format: str) -> None:
    """Sets the default layout of images: `"channels_last"` or `"channels_first"`."""
    if data_format not in _LAYOUTS:
        raise ValueError(
            "narae.config.set_image_data_format: expected one of "
            f"{_LAYOUTS}. Received: {data_format!r}"
        )
    _settings["image_data_format"] = data_format


def backend() -> str:
    """Returns `"narae"`, where Keras would return the name of the framework below it."""
    return "narae"


def isa() -> str:
    """Returns the instruction set in use.

    `"base"`, `"avx2"`, `"avx512"`, `"avx512_bf16"` (AVX-512 with products of bfloat16 pairs) or
    `"neon"`.
    """
    return _core.isa()


def set_isa(name: str) -> None:
    """Chooses the instruction set of the kernels (also `$NARAE_ISA` at import).

    Raises:
        ValueError: the set was not built, or this CPU lacks it.
    """
    from narae.engine import recording

    _core.set_isa(name)
    recording.invalidate()  # recorded calls are those of the set before


def isas() -> tuple[str, ...]:
    """Returns the instruction sets that were built and that this CPU runs, narrow to wide."""
    return tuple(_core.isas_supported())


def num_threads() -> int:
    """Returns the number of threads that kernels use, the caller's included."""
    return _core.num_threads()


def set_num_threads(threads: int) -> None:
    """Sets the number of threads (also `$NARAE_NUM_THREADS` at import).

    The default is the number of CPUs that the affinity mask and the control group allow. Results
    have the same bits for every number.
    """
    _core.set_num_threads(threads)


def list_devices() -> dict[str, str]:
    """Returns the devices and what is known of each; for one that is absent, why."""
    cpu = f"{platform.machine()}, {isa()}, {num_threads()} of {os.cpu_count()} CPUs"
    return {"cpu": cpu, "cuda": "absent: this version of narae has no CUDA kernels yet"}


def memory_stats() -> dict[str, int]:
    """Returns the bytes of live arrays, their peak, and the bytes kept for reuse."""
    return _core.memory_stats()


def empty_cache() -> None:
    """Gives memory that is kept for reuse back to the system."""
    _core.empty_cache()


def _read_environment() -> None:
    """Applies $NARAE_ISA and $NARAE_NUM_THREADS; a wrong value is an error, not a default."""
    if name := os.environ.get("NARAE_ISA"):
        _core.set_isa(name)
    if threads := os.environ.get("NARAE_NUM_THREADS"):
        if not threads.isdecimal():
            raise ValueError(
                "narae: expected NARAE_NUM_THREADS to be a positive integer. "
                f"Received: NARAE_NUM_THREADS={threads!r}"
            )
        set_num_threads(int(threads))


_read_environment()
