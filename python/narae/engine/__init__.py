"""Tensors, gradients, recordings, random state: what ops are made with."""

from narae.engine.operation import KerasTensor, Node, Operation, op
from narae.engine.random import SeedGenerator
from narae.engine.tape import (
    GradientTape,
    custom_gradient,
    grad,
    is_tracked,
    no_gradients,
    record,
    stop_gradient,
    value_and_grad,
)
from narae.engine.tensor import Tensor, convert_to_tensor, is_keras_tensor, is_tensor
from narae.engine.variable import Variable
