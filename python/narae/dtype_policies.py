"""Dtype policies: which dtype a layer computes in and which it keeps its weights in."""

import warnings

from narae.engine import config as _config
from narae.engine.dtypes import standardize_dtype

_global_policy = None


class DTypePolicy:
    """A pair of dtypes: `compute_dtype` for the work, `variable_dtype` for the weights.

    Args:
        name: a dtype such as `"float32"`, or `"mixed_bfloat16"`: float32 weights, which a layer
            casts to bfloat16 together with its inputs. `"mixed_float16"` is accepted, so that
            Keras's models load; it computes in float32 here.

    >>> policy = DTypePolicy("mixed_bfloat16")
    >>> policy.compute_dtype, policy.variable_dtype
    ('bfloat16', 'float32')
    """

    def __init__(self, name: str | None = None):
        name = _config.floatx() if name is None else name
        if not isinstance(name, str):
            raise TypeError(
                f"narae.DTypePolicy: expected name to be a string. Received: name={name!r}"
            )
        self._name = name
        if name == "mixed_float16":
            warnings.warn(
                f"narae.DTypePolicy: {name} computes in float32: there are no kernels for its "
                "short floats yet.",
                stacklevel=2,
            )
        if name in ("mixed_float16", "mixed_bfloat16"):
            compute = "bfloat16" if name == "mixed_bfloat16" else "float32"
            self._compute_dtype, self._variable_dtype = standardize_dtype(compute), "float32"
        else:
            self._compute_dtype = self._variable_dtype = standardize_dtype(name)

    name = property(lambda self: self._name)
    compute_dtype = property(lambda self: self._compute_dtype)
    variable_dtype = property(lambda self: self._variable_dtype)
    quantization_mode = property(lambda self: None)

    def get_config(self) -> dict:
        """Returns the constructor's arguments, as plain values."""
        return {"name": self._name}

    @classmethod
    def from_config(cls, config: dict) -> "DTypePolicy":
        """Makes the object that `get_config` described."""
        return cls(config["name"])

    def __eq__(self, other):
        return isinstance(other, DTypePolicy) and self._name == other._name

    def __hash__(self):
        return hash(self._name)

    def __repr__(self):
        return f'<DTypePolicy "{self._name}">'


FloatDTypePolicy = DTypePolicy


def dtype_policy() -> DTypePolicy:
    """Returns the policy that new layers use when none is given."""
    return _global_policy or DTypePolicy()


def set_dtype_policy(policy: str | DTypePolicy | None) -> None:
    """Sets the policy that new layers use when none is given; None means `floatx()`."""
    global _global_policy
    _global_policy = None if policy is None else get(policy)


def get(identifier) -> DTypePolicy:
    """Returns the policy named by a string, a dtype, a config dict or None (the global one)."""
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        return DTypePolicy(identifier)
    try:
        import numpy as np

        return DTypePolicy(np.dtype(identifier).name)
    except TypeError:
        raise ValueError(
            "narae.dtype_policies.get: expected a dtype, a policy or a config. "
            f"Received: {identifier!r}"
        ) from None


def serialize(dtype_policy: DTypePolicy) -> dict:
    """Returns the config of a policy as it stands in a saved model."""
    return {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": dtype_policy.get_config(),
        "registered_name": None,
    }


def deserialize(config: dict, custom_objects: dict | None = None) -> DTypePolicy:
    """Returns the policy of a saved config; `custom_objects` may name other classes."""
    made = (custom_objects or {}).get(config.get("class_name"))
    if made is not None:
        return made.from_config(config["config"])
    if config.get("class_name", "DTypePolicy") not in ("DTypePolicy", "FloatDTypePolicy"):
        raise ValueError(
            "narae.dtype_policies.deserialize: expected a DTypePolicy; quantized policies are not "
            f"supported. Received: {config}"
        )
    return DTypePolicy(config.get("config", config)["name"])
