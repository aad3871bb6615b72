"""narae: a small deep-learning library with hand-written kernels and the manners of Keras.

>>> import narae
>>> from narae import layers
>>> model = narae.Sequential([layers.Input((4,)), layers.Dense(1)])
"""

__version__ = "0.1.0"

from narae import (
    activations,
    callbacks,
    config,
    constraints,
    datasets,
    dtype_policies,
    initializers,
    layers,
    losses,
    metrics,
    mixed_precision,
    models,
    ops,
    optimizers,
    random,
    regularizers,
    saving,
    utils,
)
from narae.engine import GradientTape, Operation, Variable, grad, tree, value_and_grad
from narae.engine.naming import name_scope
from narae.engine.random import SeedGenerator
from narae.engine.tensor import KerasTensor, Tensor
from narae.initializers import Initializer
from narae.layers.input import Input
from narae.layers.input_spec import InputSpec
from narae.layers.layer import Layer
from narae.losses import Loss
from narae.metrics import Metric
from narae.models import Model, Sequential
from narae.optimizers import Optimizer
from narae.regularizers import Regularizer
