"""Helpers for users, public as `narae.utils`."""

from narae.engine.naming import clear_session as clear_session
from narae.engine.random import set_random_seed as set_random_seed
from narae.engine.tensor import is_keras_tensor as is_keras_tensor
from narae.saving.registry import CustomObjectScope as CustomObjectScope
from narae.saving.registry import custom_object_scope as custom_object_scope
from narae.saving.registry import deserialize_keras_object as deserialize_keras_object
from narae.saving.registry import get_custom_objects as get_custom_objects
from narae.saving.registry import get_registered_name as get_registered_name
from narae.saving.registry import get_registered_object as get_registered_object
from narae.saving.registry import register_keras_serializable as register_keras_serializable
from narae.saving.registry import serialize_keras_object as serialize_keras_object
from narae.training.arrays import pack_x_y_sample_weight as pack_x_y_sample_weight
from narae.training.arrays import unpack_x_y_sample_weight as unpack_x_y_sample_weight
from narae.training.data import PyDataset as PyDataset
from narae.training.progress import Progbar as Progbar
from narae.training.progress import disable_interactive_logging as disable_interactive_logging
from narae.training.progress import enable_interactive_logging as enable_interactive_logging
from narae.training.progress import is_interactive_logging_enabled as is_interactive_logging_enabled
from narae.utils.batches import split_dataset as split_dataset
from narae.utils.batches import timeseries_dataset_from_array as timeseries_dataset_from_array
from narae.utils.get_file import get_file as get_file
from narae.utils.image import array_to_img as array_to_img
from narae.utils.image import img_to_array as img_to_array
from narae.utils.image import load_img as load_img
from narae.utils.image import save_img as save_img
from narae.utils.numeric import normalize as normalize
from narae.utils.numeric import pad_sequences as pad_sequences
from narae.utils.numeric import to_categorical as to_categorical

Sequence = PyDataset
