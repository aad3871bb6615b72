"""narae has Keras's names, and what has a name of Keras's takes Keras's arguments and defaults."""

import inspect
import os

import pytest

import narae

os.environ.setdefault("KERAS_BACKEND", "jax")
pytestmark = pytest.mark.keras

# What this version covers of the names that nearly every user needs.
NAMES = {
    "layers": """
        Activation ActivityRegularization Add AlphaDropout Attention AveragePooling1D
        AveragePooling2D AveragePooling3D BatchNormalization Bidirectional Concatenate Conv1D
        Conv2D Conv3D Conv2DTranspose Cropping1D Cropping2D Cropping3D Dense DepthwiseConv2D Dot
        Dropout ELU EinsumDense Embedding Flatten GRU GaussianDropout GaussianNoise
        GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D
        GroupNormalization Identity Input InputLayer InputSpec LSTM Lambda Layer
        LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum
        Minimum MultiHeadAttention Multiply Normalization PReLU Permute RMSNormalization RNN ReLU
        RepeatVector Rescaling Reshape SeparableConv2D SimpleRNN Softmax SpatialDropout1D
        SpatialDropout2D Subtract TimeDistributed UpSampling1D UpSampling2D UpSampling3D
        ZeroPadding1D ZeroPadding2D ZeroPadding3D add concatenate multiply MaxPool2D AvgPool2D
        GlobalAvgPool2D GlobalMaxPool2D Convolution2D""",
    "activations": """
        deserialize elu exponential gelu get hard_sigmoid leaky_relu linear log_softmax mish relu
        relu6 selu serialize sigmoid silu softmax softplus softsign swish tanh""",
    "losses": """
        BinaryCrossentropy CategoricalCrossentropy Huber KLDivergence Loss MeanAbsoluteError
        MeanSquaredError SparseCategoricalCrossentropy binary_crossentropy
        categorical_crossentropy deserialize get huber kl_divergence mean_absolute_error
        mean_squared_error serialize sparse_categorical_crossentropy""",
    "metrics": """
        AUC Accuracy BinaryAccuracy BinaryCrossentropy CategoricalAccuracy CategoricalCrossentropy
        F1Score KLDivergence Mean MeanAbsoluteError MeanIoU MeanSquaredError Metric Precision
        R2Score Recall RootMeanSquaredError SparseCategoricalAccuracy
        SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy TopKCategoricalAccuracy
        binary_accuracy binary_crossentropy categorical_accuracy categorical_crossentropy
        deserialize get mean_absolute_error mean_squared_error serialize
        sparse_categorical_accuracy sparse_categorical_crossentropy""",
    "optimizers": """
        Adadelta Adagrad Adam AdamW Adamax Ftrl Lion Nadam Optimizer RMSprop SGD deserialize get
        serialize""",
    "optimizers.schedules": """
        CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay LearningRateSchedule
        PiecewiseConstantDecay PolynomialDecay deserialize serialize""",
    "initializers": """
        Constant GlorotNormal GlorotUniform HeNormal HeUniform Initializer LecunNormal
        LecunUniform Ones Orthogonal RandomNormal RandomUniform TruncatedNormal VarianceScaling
        Zeros deserialize get serialize Identity""",
    "regularizers": "L1 L1L2 L2 Regularizer l1 l1_l2 l2 deserialize get serialize",
    "constraints": """
        Constraint MaxNorm max_norm deserialize get serialize MinMaxNorm NonNeg UnitNorm""",
    "callbacks": """
        BackupAndRestore CSVLogger Callback CallbackList EarlyStopping History LambdaCallback
        LearningRateScheduler ModelCheckpoint ProgbarLogger ReduceLROnPlateau TerminateOnNaN""",
    "models": "Model Sequential clone_model load_model model_from_json save_model",
    "saving": """
        CustomObjectScope custom_object_scope deserialize_keras_object get_custom_objects
        get_registered_name get_registered_object load_model load_weights
        register_keras_serializable save_model save_weights serialize_keras_object""",
    "utils": """
        CustomObjectScope Progbar PyDataset Sequence clear_session custom_object_scope
        get_custom_objects get_file normalize pack_x_y_sample_weight pad_sequences
        register_keras_serializable set_random_seed split_dataset timeseries_dataset_from_array
        to_categorical unpack_x_y_sample_weight""",
    "random": "SeedGenerator categorical dropout normal randint shuffle truncated_normal uniform",
    "ops": """
        abs add all any arange argmax argmin argsort array average average_pool
        batch_normalization binary_crossentropy broadcast_to cast categorical_crossentropy ceil
        clip concatenate conv conv_transpose convert_to_numpy convert_to_tensor copy cos cumsum
        custom_gradient depthwise_conv divide dot dot_product_attention dtype einsum elu equal erf
        exp expand_dims eye flip floor full gelu greater greater_equal heaviside hstack isfinite
        isnan layer_normalization leaky_relu less less_equal linspace log log1p log_softmax
        logical_and logical_not logical_or logsumexp matmul max max_pool maximum mean min minimum
        mod moments moveaxis multi_hot multiply ndim negative norm normalize not_equal one_hot
        ones ones_like pad power prod relu repeat reshape round rsqrt scatter selu separable_conv
        shape sigmoid sign silu sin size slice softmax softplus sort
        sparse_categorical_crossentropy split sqrt square squeeze stack std stop_gradient subtract
        sum swapaxes swish take take_along_axis tanh tensordot tile top_k transpose tril triu
        unstack var vstack where zeros zeros_like""",
    "config": """
        backend dtype_policy epsilon floatx image_data_format set_dtype_policy set_epsilon
        set_floatx set_image_data_format""",
    "dtype_policies": "DTypePolicy deserialize get serialize",
    "mixed_precision": """
        DTypePolicy Policy dtype_policy global_policy set_dtype_policy set_global_policy""",
    "datasets": "california_housing cifar10 fashion_mnist mnist",
}

# Arguments that belong to frameworks below Keras or to features of later versions.
LEFT_OUT = {
    "lora_rank", "lora_alpha", "quantization_config", "gptq_unpacked_column_size", "use_cudnn",
    "flash_attention", "synchronized", "renorm", "renorm_clipping", "renorm_momentum", "use_gate",
    "sliding_window", "sparse", "ragged", "loss_scale_factor", "preferred_backend",
    "attn_logits_soft_cap", "sharding", "optional", "kwargs", "args", "stateless_metrics",
}  # fmt: skip


def look_up(module, path):
    for part in path.split("."):
        module = getattr(module, part)
    return module


@pytest.mark.parametrize("path", NAMES)
def test_names(path):
    module = look_up(narae, path)
    missing = [name for name in NAMES[path].split() if not hasattr(module, name)]
    assert not missing, f"narae.{path} lacks {missing}"


def parameters(thing):
    found = inspect.signature(thing).parameters.values()
    return {p.name: p.default for p in found if p.name != "self"}


def same(own, default) -> bool:
    """Returns whether two defaults mean the same: (2, 2) is 2, None may stand for any."""
    spread = (
        (own,) * len(default) if isinstance(default, tuple) and not isinstance(own, tuple) else own
    )
    return own is None or default is None or own == default or spread == default


@pytest.mark.parametrize("path", [path for path in NAMES if path != "datasets"])
def test_arguments_and_defaults(path):
    import keras

    ours, theirs, problems = look_up(narae, path), look_up(keras, path), []
    for name in dir(theirs):
        if name.startswith("_") or not callable(getattr(theirs, name)) or not hasattr(ours, name):
            continue
        expected, received = parameters(getattr(theirs, name)), parameters(getattr(ours, name))
        if "kwargs" in received:  # handed on to the base class
            base = {"optimizers": narae.Optimizer, "layers": narae.Layer}.get(path)
            received = {**(parameters(base) if base else {}), **received}
        for argument in set(expected) - LEFT_OUT - {"name", "dtype", "trainable"}:
            default = expected[argument]
            if argument not in received:
                problems.append(f"{name}: no argument {argument}")
            elif isinstance(default, (str, int, float, bool, tuple)) and not same(
                received[argument], default
            ):
                problems.append(f"{name}: {argument}={received[argument]!r}, Keras {default!r}")
    assert not problems, "\n".join(problems)
