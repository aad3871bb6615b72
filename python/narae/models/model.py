"""The base class of all models: a layer that can be trained, inspected and saved."""

import inspect
import json
import warnings

from narae.engine import tree
from narae.engine.operation import infer_output_spec
from narae.engine.tensor import KerasTensor
from narae.layers.layer import Layer, _default, is_default
from narae.training.trainer import Trainer


def _is_functional_call(args: tuple, kwargs: dict) -> bool:
    """Returns whether these are the arguments (inputs, outputs) of a functional model."""
    return (
        len(args) >= 2
        or (len(args) == 1 and "outputs" in kwargs)
        or ("inputs" in kwargs and "outputs" in kwargs)
    )


def _with_functional_base(cls):
    """Puts `Functional` in the place of `Model` among the bases of a user's class."""
    from narae.models.functional import Functional

    if cls is Model:
        return Functional
    if not issubclass(cls, Model) or issubclass(cls, Functional):
        return cls
    cls.__bases__ = tuple(_with_functional_base(base) for base in cls.__bases__)
    return cls


class Model(Trainer, Layer):
    """Layers joined into something that can be trained.

    There are three ways to make one: `Model(inputs, outputs)` from symbolic tensors, a subclass
    with a `call` method, and `Sequential`.

    Args:
        inputs: a `KerasTensor`, or a list, tuple or dict of them.
        outputs: likewise.
        name: name of the model.

    >>> x = Input((3,))
    >>> model = Model(x, layers.Dense(2)(x))
    >>> model(narae.ops.ones((4, 3))).shape
    (4, 2)
    """

    def __new__(cls, *args, **kwargs):
        if cls is Model and _is_functional_call(args, kwargs):
            from narae.models.functional import Functional

            cls = Functional
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args, **kwargs):
        if _is_functional_call(args, kwargs):
            from narae.models.functional import Functional

            _with_functional_base(type(self))
            Functional.__init__(self, *args, **kwargs)
            return
        if args:
            raise TypeError(
                f"{type(self).__name__}: expected keyword arguments, or (inputs, outputs). "
                f"Received: {len(args)} positional argument(s)"
            )
        Layer.__init__(self, **kwargs)
        Trainer.__init__(self)

    def call(self, *args, **kwargs):
        """Computes the outputs; to be implemented by a subclass.

        Args:
            *args, **kwargs: the inputs, and optionally `training` and `mask`.
        """
        raise NotImplementedError(
            f"{self._who()}: expected the class to implement call(self, inputs)."
        )

    def __call__(self, *args, **kwargs):
        """Runs the model on tensors, or adds it to the graph when given `KerasTensor`s."""
        inference = not kwargs or kwargs == {"training": False}
        step = self._replayed_step(args[0]) if len(args) == 1 and inference else None
        return step.fresh(args[0], None, None) if step else super().__call__(*args, **kwargs)

    @_default
    def build(self, input_shape):
        """Makes the weights by running `call` on zeros of `input_shape`."""
        if not _is_overridden_call(self) or input_shape is None:
            self.built = True
            return
        inputs = tree.map_shape_structure(lambda s: KerasTensor(s, self.compute_dtype), input_shape)
        with self._reopened_scope():
            infer_output_spec(self.call, (inputs,), {}, who=self._who(), variables=self.variables)
        self._build_shapes = {"input_shape": input_shape}
        self.built = True

    def _maybe_build(self, args, kwargs):
        # A subclass without build() makes its weights while call() runs.
        if not self.built and is_default(self.build):
            shapes = self._shapes(args, kwargs)
            self._path = self._path or self.name
            if self._build_shapes is None and shapes:
                self._build_shapes = {
                    key: tree.map_shape_structure(lambda s: (None, *s[1:]), shape)
                    for key, shape in shapes.items()
                }
            return
        super()._maybe_build(args, kwargs)

    def build_from_config(self, config: dict) -> None:
        """Makes the weights from the dict that `get_build_config` gave."""
        try:
            super().build_from_config(config)
        except Exception as error:
            warnings.warn(
                f"{self._who()}: the weights could not be made from the build config "
                f"({error}). Implement build_from_config(), or call the model on data.",
                stacklevel=2,
            )

    @property
    def layers(self) -> list:
        """The model's layers, without those inside them."""
        return self._flatten_layers(include_self=False, recursive=False)

    @layers.setter
    def layers(self, _):
        raise AttributeError("Model.layers is reserved: use another name for the attribute.")

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Returns the layer of the given name, or at the given position of `layers`.

        Args:
            name: name of a layer.
            index: position in `layers`; either this or `name`.

        Raises:
            ValueError: there is no such layer, or not just one of the arguments.
        """
        if (name is None) == (index is None):
            raise ValueError(
                f"{self._who()}.get_layer: expected either name or index. "
                f"Received: name={name!r}, index={index}"
            )
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(
                    f"{self._who()}.get_layer: expected an index below {len(layers)}. "
                    f"Received: index={index}"
                )
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        raise ValueError(
            f"{self._who()}.get_layer: expected one of {[layer.name for layer in layers]}. "
            f"Received: name={name!r}"
        )

    def summary(
        self,
        line_length=None,
        positions=None,
        print_fn=None,
        expand_nested=False,
        show_trainable=False,
        layer_range=None,
    ) -> None:
        """Prints the table of the layers with their output shapes and numbers of weights.

        Args:
            line_length: characters in a line; by default what suits the model and the terminal.
            positions: where the columns end, as shares of the line or in characters.
            print_fn: called once with the whole text, instead of printing it.
            expand_nested: show the layers of models inside the model.
            show_trainable: show a column that says which layers are trained.
            layer_range: names, or regular expressions, of the first and last layer to show.

        Raises:
            ValueError: a `layer_range` that names no layers, or columns that do not fit.
        """
        from narae.utils.summary import print_summary

        print_summary(
            self,
            line_length=line_length,
            positions=positions,
            print_fn=print_fn,
            expand_nested=expand_nested,
            show_trainable=show_trainable,
            layer_range=layer_range,
        )

    def profile(
        self, x, repeats: int = 10, filename=None, expand_nested: bool = False, print_fn=None
    ) -> list:
        """Prints where the time of a training step goes, layer by layer.

        A pass forward and back (without loss and optimizer) is recorded and replayed call by call.
        For each layer the table has the time of both, the floating-point operations and bytes
        that its kernels need at least, and the share of the machine's peak: the time that those
        would take at the measured speed of multiply-adds or of a copy, divided by the time taken.
        The model is not changed.

        Args:
            x: a batch of inputs, arrays or a structure of them.
            repeats: number of replays; each call counts with its least time.
            filename: where to draw the times as bars, such as `"profile.png"`; needs matplotlib.
            expand_nested: one row for each layer inside other layers and models too.
            print_fn: called once with the whole text, instead of printing it.

        Returns:
            A dict for each layer: `name`, `class_name`, `forward` and `backward` in seconds,
            `flops`, `bytes`, `share_of_peak`.

        Raises:
            ValueError: a model whose steps cannot be replayed, or `repeats` below 1.

        >>> rows = model.profile(x, print_fn=lambda text: None)
        >>> rows[0]["class_name"], rows[0]["flops"] > 0
        ('Dense', True)
        """
        from narae.utils.profile import profile_model

        return profile_model(self, x, repeats, filename, expand_nested, print_fn)

    # Files

    def save(self, filepath, overwrite: bool = True, zipped: bool | None = None, **kwargs) -> None:
        """Saves architecture, weights, compile arguments and optimizer state as a `.keras` file.

        Args:
            filepath: ends in `.keras`.
            overwrite: whether an existing file may be replaced.
            zipped: must not be False; only archives are written.

        Raises:
            ValueError: another ending, or something in the model that has no config.
            FileExistsError: the file exists and `overwrite` is False.

        >>> model.save("model.keras")
        >>> narae.models.load_model("model.keras").count_params()
        4
        """
        from narae.saving import save_model

        save_model(self, filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def save_weights(self, filepath, overwrite: bool = True, max_shard_size=None) -> None:
        """Saves the weights (and the optimizer's state) as a `.weights.h5` file.

        Args:
            filepath: ends in `.weights.h5`.
            overwrite: whether an existing file may be replaced.
            max_shard_size: not supported; must be None.

        Raises:
            ValueError: another ending, an unbuilt model, or shards.
            FileExistsError: the file exists and `overwrite` is False.
        """
        from narae.saving import save_weights

        save_weights(self, filepath, overwrite=overwrite, max_shard_size=max_shard_size)

    def load_weights(self, filepath, skip_mismatch: bool = False, **kwargs) -> None:
        """Loads the weights of a `.weights.h5` or `.keras` file into this model.

        Args:
            filepath: the file; of a model of the same architecture.
            skip_mismatch: warn about layers that do not fit, and leave them as they are.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: not a weights file, a damaged one, or one of another architecture.

        >>> model.save_weights("model.weights.h5")
        >>> model.load_weights("model.weights.h5")
        """
        from narae.saving import load_weights

        load_weights(self, filepath, skip_mismatch=skip_mismatch, **kwargs)

    def get_config(self) -> dict:
        """Returns what `from_config` needs to make the model again."""
        return Layer.get_config(self)

    get_config._is_default = True

    def to_json(self, **kwargs) -> str:
        """Returns the architecture as a JSON string, for `model_from_json`."""
        from narae.saving.registry import serialize_keras_object

        return json.dumps(serialize_keras_object(self), **kwargs)

    def __reduce__(self):
        """Pickles the model as a `.keras` file; classes of the user's own go by reference."""
        from narae.saving.archive import model_from_bytes, model_to_bytes

        classes = {type(layer) for layer in self._flatten_layers()}
        own = {cls.__name__: cls for cls in classes if cls.__module__.split(".")[0] != "narae"}
        return model_from_bytes, (model_to_bytes(self), own)

    def __deepcopy__(self, memo):
        make, arguments = self.__reduce__()
        return make(*arguments)

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "Model":
        """Returns a model made from the dict that `get_config` gave."""
        from narae.models.functional import Functional, functional_from_config

        keys = ("name", "layers", "input_layers", "output_layers")
        parameters = inspect.signature(cls.__init__).parameters.values()
        kinds = {p.kind for p in parameters}
        open_signature = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds
        own_init = cls.__init__ not in (Model.__init__, Functional.__init__)
        if all(key in config for key in keys) and (not own_init or open_signature):
            return functional_from_config(cls, config, custom_objects)
        return super().from_config(config)


def _is_overridden_call(model) -> bool:
    return type(model).call is not Model.call


def model_from_json(json_string: str, custom_objects: dict | None = None) -> Model:
    """Returns the model whose architecture `Model.to_json` gave; its weights are new.

    Args:
        json_string: what `to_json` returned.
        custom_objects: from name to class or function, for what is not narae's own.

    >>> narae.models.model_from_json(model.to_json()).count_params()
    4
    """
    from narae.saving.registry import deserialize_keras_object

    return deserialize_keras_object(json.loads(json_string), custom_objects=custom_objects)
