"""What a layer demands of its inputs."""


class InputSpec:
    """What a layer demands of one input.

    Args:
        dtype: the dtype, or None for any.
        shape: the full shape with None for any size.
        ndim, max_ndim, min_ndim: number of axes.
        axes: dict from axis to size.
        allow_last_axis_squeeze: also accept inputs that lack or add a last axis of size one.
        optional: whether None may be passed.

    >>> InputSpec(min_ndim=2, axes={-1: 3})
    InputSpec(min_ndim=2, axes={-1: 3})
    """

    def __init__(
        self,
        dtype=None,
        shape=None,
        ndim=None,
        max_ndim=None,
        min_ndim=None,
        axes=None,
        allow_last_axis_squeeze=False,
        name=None,
        optional=False,
    ):
        self.dtype = dtype
        self.shape = None if shape is None else tuple(shape)
        self.ndim = ndim if shape is None else len(self.shape)
        self.max_ndim = max_ndim
        self.min_ndim = min_ndim
        self.axes = {int(axis): size for axis, size in (axes or {}).items()}
        self.allow_last_axis_squeeze = allow_last_axis_squeeze
        self.name = name
        self.optional = optional

    def check(self, x, who: str, position: int) -> None:
        """Raises ValueError when tensor `x`, input number `position` of `who`, does not fit."""
        if x is None and self.optional:
            return
        shape = getattr(x, "shape", None)
        if shape is None:
            raise ValueError(f"{who}: expected input {position} to be a tensor. Received: {x!r}")
        shape = tuple(shape)
        problem = self._problem(shape, x.dtype)
        if problem:
            raise ValueError(
                f"{who}: input {position} is incompatible with the layer: expected {problem}. "
                f"Received: shape={shape}"
            )

    def _problem(self, shape: tuple, dtype) -> str | None:
        ndim = len(shape)
        expected = self.shape
        if expected is not None and self.allow_last_axis_squeeze and ndim != len(expected):
            if expected and expected[-1] == 1 and ndim == len(expected) - 1:
                expected = expected[:-1]
            elif shape and shape[-1] == 1 and ndim == len(expected) + 1:
                shape, ndim = shape[:-1], ndim - 1
        wanted = self.ndim if expected is None else len(expected)
        if wanted is not None and ndim != wanted:
            return f"ndim={wanted}, found ndim={ndim}"
        if self.max_ndim is not None and ndim > self.max_ndim:
            return f"max_ndim={self.max_ndim}, found ndim={ndim}"
        if self.min_ndim is not None and ndim < self.min_ndim:
            return f"min_ndim={self.min_ndim}, found ndim={ndim}"
        if self.dtype is not None and str(dtype) != str(self.dtype):
            return f"dtype={self.dtype}, found dtype={dtype}"
        for axis, size in self.axes.items():
            if size is None:
                continue
            found = shape[axis] if -ndim <= axis < ndim else "no such axis"
            if found not in (size, None):
                return f"axis {axis} of input shape to have value {size}, found {found}"
        for want, found in zip(expected or (), shape):
            if want is not None and found is not None and want != found:
                return f"shape={expected}"
        return None

    def get_config(self) -> dict:
        """Returns the constructor's arguments, as plain values."""
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes", "optional")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: dict) -> "InputSpec":
        """Makes the object that `get_config` described."""
        return cls(**config)

    def __repr__(self):
        parts = [f"{k}={v}" for k, v in self.get_config().items() if v]
        return f"InputSpec({', '.join(parts)})"
