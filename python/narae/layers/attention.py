"""Attention layers: multi-head, grouped-query, and the single-head ones."""

import math

from narae import ops, random
from narae.engine.tensor import KerasTensor
from narae.layers.activation import Softmax
from narae.layers.arguments import (
    config_of,
    int_tuple,
    is_integer,
    one_of,
    parse,
    positive,
    rate_between_0_and_1,
    who,
)
from narae.layers.core import EinsumDense
from narae.layers.layer import Layer
from narae.layers.regularization import Dropout

_PARSED = (
    "kernel_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "bias_regularizer",
    "activity_regularizer",
    "kernel_constraint",
    "bias_constraint",
)


class _HeadAttention(Layer):
    """Attention with projections in and out: what multi-head and grouped-query share."""

    def __init__(self, dropout, use_bias, sliding_window, flash_attention, use_gate, seed, kwargs):
        parsed = {name: kwargs.pop(name) for name in _PARSED}
        super().__init__(**kwargs)
        parse(self, **parsed)
        self.dropout = rate_between_0_and_1(self, "dropout", dropout)
        self.use_bias = use_bias
        self.use_gate = use_gate
        self.seed = seed
        self.sliding_window = None
        if sliding_window is not None:
            self.sliding_window = positive(self, "sliding_window", sliding_window)
        if flash_attention and dropout:
            raise ValueError(
                f"{who(self)}: expected dropout to be 0 with flash_attention. "
                f"Received: dropout={dropout}"
            )
        self.supports_masking = True

    def _projection(self, name: str, equation: str, output_shape, bias_axes: str, **kwargs):
        config = {key: getattr(self, key) for key in _PARSED}
        for key in ("kernel_initializer", "bias_initializer"):
            # A fresh one each, or all projections would start from the same numbers.
            config[key] = type(config[key]).from_config(config[key].get_config())
        return EinsumDense(
            equation,
            output_shape=output_shape,
            bias_axes=bias_axes if self.use_bias else None,
            name=name,
            dtype=self.dtype_policy,
            **config,
            **kwargs,
        )

    def _merged_mask(self, query, value, masks, attention_mask, use_causal_mask):
        """All masks as one, broadcastable to (batch, query steps, value steps); None for none."""
        query_mask, value_mask, key_mask = masks
        found = [] if attention_mask is None else [ops.cast(attention_mask, "bool")]
        if query_mask is not None:
            found.append(ops.expand_dims(ops.cast(query_mask, "bool"), -1))
        for mask in (value_mask, key_mask):
            if mask is not None:
                found.append(ops.expand_dims(ops.cast(mask, "bool"), -2))
        if use_causal_mask or self.sliding_window is not None:
            rows = ops.expand_dims(ops.arange(query.shape[1]), 1)
            columns = ops.expand_dims(ops.arange(value.shape[1]), 0)
            if use_causal_mask:
                found.append(ops.expand_dims(rows >= columns, 0))
            if self.sliding_window is not None:
                near = ops.abs(rows - columns) < self.sliding_window
                found.append(ops.expand_dims(near, 0))
        merged = None
        for mask in found:
            merged = mask if merged is None else ops.logical_and(merged, mask)
        return merged

    def _fused(self, query, key, value, mask, causal, training):
        """Attention in one kernel; None where only weights that are stored will do.

        With dropout and a mask, rows that see nothing must give zeros, which the kernel's do not.
        """
        dropout = self.dropout if training else 0.0
        if len(query.shape) != 4 or dropout == 1 or (self.dropout and mask is not None):
            return None
        return ops.dot_product_attention(
            query,
            key,
            value,
            mask=mask,
            scale=1.0 / math.sqrt(query.shape[-1]),
            is_causal=causal,
            dropout=dropout,
            seed=self._dropout_layer.seed_generator if dropout else None,
        )

    def _call(self, query, value, key, masks, attention_mask, scores, training, causal):
        key = value if key is None else key
        unmasked = attention_mask is None and all(mask is None for mask in masks)
        only_causal = causal and unmasked and self.sliding_window is None
        mask = None
        if not only_causal or scores or len(query.shape) != 3:
            mask = self._merged_mask(query, value, masks, attention_mask, causal)
        gate = self._gate_dense(query) if self.use_gate else None
        output, weights = self._attend(
            self._query_dense(query),
            self._key_dense(key),
            self._value_dense(value),
            mask,
            causal and mask is None,
            scores,
            training,
        )
        output = self._output_dense(output if gate is None else output * gate)
        return (output, weights) if scores else output


class MultiHeadAttention(_HeadAttention):
    """Multi-head attention, Vaswani et al. 2017.

    Each head projects query, key and value, weighs the values by
    `softmax(query @ key^T / sqrt(key_dim))`, and the heads' outputs are projected together.

    Args:
        num_heads: number of heads.
        key_dim: size of query and key per head.
        value_dim: size of value per head, None for key_dim.
        dropout: fraction of the attention weights to drop while training.
        use_bias: whether the projections have biases.
        output_shape: size of the output, None for the query's.
        attention_axes: axes to attend over, None for all between batch and features.
        sliding_window: how many steps away a position sees, None for all.
        flash_attention: accepted for Keras's sake: the kernel never stores the weights unless
            they are asked for.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint: of each projection.
        activity_regularizer: penalty on each projection's output.
        use_gate: whether the heads' outputs are multiplied by a sigmoid gate of the query.
        seed: integer for repeatable dropout.

    Call arguments:
        query: (batch, T, features).
        value: (batch, S, features).
        key: (batch, S, features); value by default.
        attention_mask: boolean (batch, T, S); True lets attend. Masks that query, value and key
            carry are added.
        return_attention_scores: whether to return (output, weights (batch, heads, T, S)).
        use_causal_mask: whether no position sees later ones.

    >>> layer = narae.layers.MultiHeadAttention(num_heads=2, key_dim=8)
    >>> x = narae.ops.ones((4, 10, 16))
    >>> layer(x, x).shape
    (4, 10, 16)
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape=None,
        attention_axes=None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs,
    ):
        kwargs.update(
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )
        super().__init__(dropout, use_bias, sliding_window, flash_attention, use_gate, seed, kwargs)
        self.num_heads = positive(self, "num_heads", num_heads)
        self.key_dim = positive(self, "key_dim", key_dim)
        self.value_dim = (
            self.key_dim if value_dim is None else positive(self, "value_dim", value_dim)
        )
        if output_shape is not None:
            output_shape = (output_shape,) if is_integer(output_shape) else tuple(output_shape)
        self._output_shape = output_shape
        if attention_axes is not None and not isinstance(attention_axes, (list, tuple)):
            attention_axes = int_tuple(self, "attention_axes", attention_axes, 1, minimum=-99)
        self.attention_axes = attention_axes

    def build(self, query_shape, value_shape, key_shape=None):
        key_shape = value_shape if key_shape is None else key_shape
        if tuple(value_shape[1:-1]) != tuple(key_shape[1:-1]):
            raise ValueError(
                f"{who(self)}: expected value and key to have the same steps. Received: "
                f"value.shape={tuple(value_shape)}, key.shape={tuple(key_shape)}"
            )
        rank = len(query_shape)
        free = "abcdefghijklmnopqrstuv"[: rank - 1]

        def into_heads(name, size, **kwargs):
            equation = f"{free}x,xyz->{free}yz"
            shape = (*[None] * (rank - 2), self.num_heads, size)
            return self._projection(name, equation, shape, "yz", **kwargs)

        self._query_dense = into_heads("query", self.key_dim)
        self._query_dense.build(query_shape)
        self._key_dense = into_heads("key", self.key_dim)
        self._key_dense.build(key_shape)
        if self.use_gate:
            self._gate_dense = into_heads("gate", self.value_dim, activation="sigmoid")
            self._gate_dense.build(query_shape)
        self._value_dense = into_heads("value", self.value_dim)
        self._value_dense.build(value_shape)
        self._build_attention(rank)
        output = self._output_shape or (query_shape[-1],)
        letters = "ABCDEFGH"[: len(output)]
        self._output_dense = self._projection(
            "attention_output",
            f"{free}yz,yz{letters}->{free}{letters}",
            (*[None] * (rank - 2), *output),
            letters,
        )
        self._output_dense.build((*query_shape[:-1], self.num_heads, self.value_dim))

    @property
    def query_dense(self) -> EinsumDense:
        """The projection of the query."""
        return self._query_dense

    @property
    def key_dense(self) -> EinsumDense:
        """The projection of the key."""
        return self._key_dense

    @property
    def value_dense(self) -> EinsumDense:
        """The projection of the value."""
        return self._value_dense

    @property
    def output_dense(self) -> EinsumDense:
        """The projection of the heads together."""
        return self._output_dense

    def _build_attention(self, rank: int) -> None:
        """Equations of the general case: attention over some axes, the others are batch."""
        axes = self.attention_axes or range(1, rank - 1)
        axes = sorted(axis % rank for axis in axes)
        batch = "".join(c for i, c in enumerate("abcdefghijkl"[: rank - 1]) if i not in axes)
        query = "".join("abcdefghijkl"[i] for i in axes)
        value = query.upper()
        full = {"q": "", "v": ""}
        for i in range(rank - 1):
            letter = "abcdefghijkl"[i]
            full["q"] += letter
            full["v"] += letter.upper() if i in axes else letter
        scores = f"{batch}n{query}{value}"
        self._score_equation = f"{full['q']}nz,{full['v']}nz->{scores}"
        self._combine_equation = f"{scores},{full['v']}nz->{full['q']}nz"
        self._attended = len(axes)
        self._softmax = Softmax(axis=list(range(-len(axes), 0)), dtype=self.dtype_policy)
        self._dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy, seed=self.seed)

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        masks = (query_mask, value_mask, key_mask)
        return self._call(
            query,
            value,
            key,
            masks,
            attention_mask,
            return_attention_scores,
            training,
            use_causal_mask,
        )

    def _attend(self, query, key, value, mask, causal, return_scores, training):
        if mask is not None:
            # The heads' axis stands before the attended ones.
            while len(mask.shape) < len(query.shape) - 1 + self._attended:
                mask = ops.expand_dims(mask, -1 - 2 * self._attended)
        if not return_scores:
            output = self._fused(query, key, value, mask, causal, training)
            if output is not None:
                return output, None
        scores = ops.einsum(self._score_equation, query / math.sqrt(self.key_dim), key)
        weights = self._softmax(scores, mask=mask)
        dropped = self._dropout_layer(weights, training=training)
        return ops.einsum(self._combine_equation, dropped, value), weights

    def compute_output_shape(self, query_shape, value_shape, key_shape=None):
        key_shape = value_shape if key_shape is None else key_shape
        if tuple(value_shape[1:-1]) != tuple(key_shape[1:-1]):
            raise ValueError(
                f"{who(self)}: expected value and key to have the same steps. Received: "
                f"value.shape={tuple(value_shape)}, key.shape={tuple(key_shape)}"
            )
        return (*query_shape[:-1], *(self._output_shape or query_shape[-1:]))

    def compute_output_spec(self, query, value, key=None, return_attention_scores=False, **kwargs):
        shape = self.compute_output_shape(query.shape, value.shape)
        output = KerasTensor(shape, self.compute_dtype)
        if not return_attention_scores:
            return output
        rank = len(query.shape)
        axes = sorted(axis % rank for axis in self.attention_axes or range(1, rank - 1))
        batch = [n for i, n in enumerate(query.shape[:-1]) if i not in axes]
        ends = [x.shape[i] for x in (query, value) for i in axes]
        return output, KerasTensor((*batch, self.num_heads, *ends), self.compute_dtype)

    def get_config(self):
        names = (
            "num_heads",
            "key_dim",
            "value_dim",
            "dropout",
            "use_bias",
            "use_gate",
            "attention_axes",
            "sliding_window",
            *_PARSED,
            "seed",
        )
        return {
            **super().get_config(),
            "output_shape": self._output_shape,
            **config_of(self, *names),
        }


class GroupedQueryAttention(_HeadAttention):
    """Multi-head attention whose query heads share fewer key and value heads, Ainslie et al. 2023.

    Args:
        head_dim: size of each head.
        num_query_heads: number of query heads.
        num_key_value_heads: number of key and value heads, a divisor of num_query_heads.
        dropout: fraction of the attention weights to drop while training.
        use_bias: whether the projections have biases.
        sliding_window, flash_attention, use_gate, seed: as `MultiHeadAttention`'s.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint: of each projection.
        activity_regularizer: penalty on each projection's output.

    Call arguments: as `MultiHeadAttention`'s.
    """

    _keras_name = "GroupQueryAttention"  # in configs; other names follow the class

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs,
    ):
        kwargs.update(
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )
        super().__init__(dropout, use_bias, sliding_window, flash_attention, use_gate, seed, kwargs)
        self.head_dim = positive(self, "head_dim", head_dim)
        self.num_query_heads = positive(self, "num_query_heads", num_query_heads)
        self.num_key_value_heads = positive(self, "num_key_value_heads", num_key_value_heads)
        if num_query_heads % num_key_value_heads:
            raise ValueError(
                f"{who(self)}: expected num_query_heads to be a multiple of num_key_value_heads. "
                f"Received: num_query_heads={num_query_heads}, "
                f"num_key_value_heads={num_key_value_heads}"
            )

    def build(self, query_shape, value_shape, key_shape=None):
        key_shape = value_shape if key_shape is None else key_shape

        def into_heads(name, heads, shape, **kwargs):
            sizes = (None, heads, self.head_dim)
            layer = self._projection(name, "abx,xyz->abyz", sizes, "yz", **kwargs)
            layer.build(shape)
            return layer

        self._query_dense = into_heads("query", self.num_query_heads, query_shape)
        self._key_dense = into_heads("key", self.num_key_value_heads, key_shape)
        if self.use_gate:
            self._gate_dense = into_heads(
                "gate", self.num_query_heads, query_shape, activation="sigmoid"
            )
        self._value_dense = into_heads("value", self.num_key_value_heads, value_shape)
        self._softmax = Softmax(axis=-1, dtype=self.dtype_policy)
        self._dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy, seed=self.seed)
        self._output_dense = self._projection(
            "attention_output", "abyz,yzx->abx", (None, query_shape[-1]), "x"
        )
        self._output_dense.build((*query_shape[:-1], self.num_query_heads, self.head_dim))

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        masks = (query_mask, value_mask, key_mask)
        return self._call(
            query,
            value,
            key,
            masks,
            attention_mask,
            return_attention_scores,
            training,
            use_causal_mask,
        )

    def _attend(self, query, key, value, mask, causal, return_scores, training):
        if mask is not None and len(mask.shape) == 3:
            mask = ops.expand_dims(mask, 1)
        if not return_scores:
            output = self._fused(query, key, value, mask, causal, training)
            if output is not None:
                return output, None
        repeats = self.num_query_heads // self.num_key_value_heads
        key, value = ops.repeat(key, repeats, axis=2), ops.repeat(value, repeats, axis=2)
        scores = ops.einsum("atnh,asnh->ants", query / math.sqrt(self.head_dim), key)
        weights = self._softmax(scores, mask=mask)
        dropped = self._dropout_layer(weights, training=training)
        return ops.einsum("ants,asnh->atnh", dropped, value), weights

    def compute_output_shape(self, query_shape, value_shape, key_shape=None):
        return tuple(query_shape)

    def compute_output_spec(self, query, value, key=None, return_attention_scores=False, **kwargs):
        output = KerasTensor(query.shape, self.compute_dtype)
        if not return_attention_scores:
            return output
        shape = (query.shape[0], self.num_query_heads, query.shape[1], value.shape[1])
        return output, KerasTensor(shape, self.compute_dtype)

    def get_config(self):
        names = (
            "head_dim",
            "num_query_heads",
            "num_key_value_heads",
            "use_bias",
            "use_gate",
            "sliding_window",
            "dropout",
            *_PARSED,
            "seed",
        )
        return {**super().get_config(), **config_of(self, *names)}


class Attention(Layer):
    """Dot-product (Luong) attention: `softmax(query @ key^T) @ value`.

    Source: Luong et al., 2015, arXiv:1508.04025.

    Args:
        use_scale: whether the scores are multiplied by a learned scalar.
        score_mode: "dot", or "concat" for `sum(tanh(query + key))` times a learned scalar.
        dropout: fraction of the attention weights to drop while training.
        seed: integer for repeatable dropout.

    Call arguments:
        inputs: list [query (batch, T, features), value (batch, S, features)] or
            [query, value, key].
        mask: list [query mask (batch, T), value mask (batch, S)], each may be None.
        return_attention_scores: whether to return (output, weights (batch, T, S)).
        use_causal_mask: whether no position sees later ones.
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.use_scale = use_scale
        self.score_mode = one_of(self, "score_mode", score_mode, ("dot", "concat"))
        self.dropout = rate_between_0_and_1(self, "dropout", dropout)
        self.seed = seed
        if self.dropout > 0:
            self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True

    def _check(self, inputs, mask=None) -> None:
        for name, value in (("inputs", inputs), ("mask", mask)):
            if value is None and name == "mask":
                continue
            if not isinstance(value, (list, tuple)) or not 2 <= len(value) <= 3:
                raise ValueError(
                    f"{who(self)}: expected {name} to be a list of 2 or 3, for query, value and "
                    f"key. Received: {name}={value!r}"
                )

    def build(self, input_shape):
        self._check(input_shape)
        self.scale = self.concat_score_weight = None
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=(), initializer="ones")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight(
                name="concat_score_weight", shape=(), initializer="ones"
            )

    def _scores(self, query, key):
        if self.score_mode == "dot":
            scores = ops.matmul(query, ops.swapaxes(key, -2, -1))
            return scores if self.scale is None else scores * self.scale
        total = ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
        total = total if self.scale is None else total * self.scale
        return self.concat_score_weight * ops.sum(ops.tanh(total), axis=-1)

    def call(
        self,
        inputs,
        mask=None,
        training=False,
        return_attention_scores=False,
        use_causal_mask=False,
    ):
        self._check(inputs, mask)
        query, value = inputs[:2]
        key = inputs[2] if len(inputs) > 2 else value
        query_mask, value_mask = mask[:2] if mask else (None, None)
        scores = self._scores(query, key)
        kept = None if value_mask is None else ops.expand_dims(ops.cast(value_mask, "bool"), -2)
        if use_causal_mask:
            rows = ops.expand_dims(ops.arange(scores.shape[-2]), 1)
            causal = rows >= ops.expand_dims(ops.arange(scores.shape[-1]), 0)
            kept = causal if kept is None else ops.logical_and(kept, causal)
        if kept is not None:
            lowest = 65504.0 if scores.dtype == "float16" else 1e9
            scores = ops.where(kept, scores, scores - lowest)
        weights = ops.softmax(scores, axis=-1)
        if training and self.dropout > 0:
            weights = random.dropout(weights, self.dropout, seed=self.seed_generator)
        output = ops.matmul(weights, value)
        if query_mask is not None:
            query_mask = ops.expand_dims(ops.cast(query_mask, "bool"), -1)
            output = ops.where(query_mask, output, ops.zeros_like(output))
        return (output, weights) if return_attention_scores else output

    def compute_mask(self, inputs, mask=None):
        return None if mask is None else mask[0]

    def compute_output_shape(self, input_shape):
        self._check(input_shape)
        return (*input_shape[0][:-1], input_shape[1][-1])

    def compute_output_spec(self, inputs, return_attention_scores=False, **kwargs):
        self._check(inputs)
        shapes = [x.shape for x in inputs]
        output = KerasTensor(self.compute_output_shape(shapes), self.compute_dtype)
        if not return_attention_scores:
            return output
        return output, KerasTensor((*shapes[0][:-1], shapes[-1][-2]), self.compute_dtype)

    def get_config(self):
        names = ("use_scale", "score_mode", "dropout", "seed")
        return {**super().get_config(), **config_of(self, *names)}


class AdditiveAttention(Attention):
    """Additive (Bahdanau) attention: scores are `sum(scale * tanh(query + key))`.

    Source: Bahdanau et al., 2014, arXiv:1409.0473.

    Args:
        use_scale: whether there is a learned scale (features,).
        dropout: fraction of the attention weights to drop while training.

    Call arguments: as `Attention`'s.
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape):
        self._check(input_shape)
        self.scale = None
        if self.use_scale:
            self.scale = self.add_weight(
                name="scale", shape=(input_shape[0][-1],), initializer="glorot_uniform"
            )

    def _scores(self, query, key):
        total = ops.tanh(ops.expand_dims(query, -2) + ops.expand_dims(key, -3))
        return ops.sum(total if self.scale is None else total * self.scale, axis=-1)

    def get_config(self):
        config = super().get_config()
        del config["score_mode"]
        return config
