"""Record and replay of steps: the first run is eager and recorded, later ones are one native call.

A step is a function of tensors with fixed shapes that changes state in place (variables, optimizer
slots, metric accumulators, random counters). What changes from step to step must be memory: the
batch, copied into the recording's own input arrays, and the state.
"""

import collections
import contextlib
import threading

import numpy as np

from narae import _core
from narae.engine.tensor import Tensor
from narae.engine.tree import flatten, is_nested, map_structure

_generation = 0  # grows when recorded addresses or calls may no longer be right


def generation() -> int:
    """Returns a number that grows whenever variables move or change their role."""
    return _generation


def invalidate() -> None:
    """Makes every recording made so far be made again before its next use."""
    global _generation
    _generation += 1


def is_recording() -> bool:
    """Returns whether this thread is recording a step."""
    return _core.is_recording()


@contextlib.contextmanager
def paused():
    """Leaves a recording under way for work that belongs to no step, such as making a variable."""
    token = _core.pause_recording()
    try:
        yield
    finally:
        _core.resume_recording(token)


class Slot:
    """One input signature of a step: its input arrays, its recording, its outputs.

    Attributes:
        inputs: structure of NumPy arrays to be filled with the batch before `run`.
        outputs: what the function returned. Tensors in it hold the values of the last run.
    """

    def __init__(self, function, signature):
        self._function = function
        self.inputs = map_structure(_empty, signature)
        self._leaves = flatten(self.inputs)
        self._is_flat = not any(map(is_nested, signature))
        self._tensors = map_structure(lambda x: None if x is None else Tensor(x), self.inputs)
        self._recording = None
        self._generation = -1
        self.outputs = None
        self.reason = ""  # why the step runs eagerly; empty when it is replayed

    def fill(self, arguments) -> None:
        """Copies the values of arguments into `inputs`."""
        for target, source in zip(self._leaves, arguments if self._is_flat else flatten(arguments)):
            if target is not None:
                target[...] = source.array if isinstance(source, Tensor) else source

    def run(self):
        """Runs the step on what is in `inputs` and returns `outputs`."""
        if self._recording is not None and self._generation == _generation:
            self._recording.replay()
        elif self.reason and self._generation == _generation:
            self.outputs = self._function(*self._tensors)
        else:
            self._record()
        return self.outputs

    def _record(self):
        self._recording = None
        self.reason = ""
        self._generation = _generation
        recording = _core.Recording()
        recording.begin()
        try:
            self.outputs = self._function(*self._tensors)
        finally:
            recording.end()
        if recording.reason:
            self.reason = recording.reason
        elif self._generation == _generation:  # else: variables were made or moved on the way
            self._recording = recording


class RecordedStep:
    """A function of tensors that is recorded once per input signature and then replayed.

    Args:
        function: takes structures of Tensors (None where there is none).
        max_slots: signatures kept; the one unused for longest goes first, so that varying shapes
            do not grow memory.
    """

    def __init__(self, function, max_slots: int = 8):
        self._function = function
        self._slots = collections.OrderedDict()
        self._latest = None, None  # key and slot: comparing is quicker than a look-up
        self._max_slots = max_slots
        self.lock = threading.RLock()  # held by who needs the outputs before the next run

    def slot(self, *arguments) -> Slot:
        """Returns the slot for arguments of these shapes and dtypes.

        Args:
            arguments: structures of arrays, Tensors or `(shape, dtype)`-like objects with
                `.shape` and `.dtype`; None stands for itself.
        """
        key = tuple([None if a is None else _key(a) for a in arguments])
        if key == self._latest[0]:
            return self._latest[1]
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = Slot(self._function, arguments)
            if len(self._slots) > self._max_slots:
                self._slots.popitem(last=False)
        else:
            self._slots.move_to_end(key)
        self._latest = key, slot
        return slot

    def __call__(self, *arguments):
        """Copies the arguments' values into their slot and runs the step."""
        slot = self.slot(*arguments)
        slot.fill(arguments)
        return slot.run()

    def fresh(self, *arguments):
        """As a call, but returns copies of the outputs, and may be used by several threads."""
        with self.lock:
            outputs = self(*arguments)
            return _copy(outputs) if isinstance(outputs, Tensor) else map_structure(_copy, outputs)

    @property
    def reason(self) -> str:
        """Why the step runs eagerly, or the empty string."""
        return next((slot.reason for slot in self._slots.values() if slot.reason), "")

    @property
    def recorded(self) -> bool:
        """Whether any signature is replayed."""
        return any(slot._recording is not None for slot in self._slots.values())


def _copy(y):
    if not isinstance(y, Tensor):
        return y
    copied = Tensor(y.array.copy())
    if y.mask is not None:
        copied.mask = Tensor(y.mask.array.copy())
    return copied


def _empty(x):
    return None if x is None else _core.empty(tuple(x.shape), np.dtype(x.dtype))


def _key(structure):
    if isinstance(structure, np.ndarray):  # the usual one first
        return structure.shape, structure.dtype
    if structure is None:
        return None
    if isinstance(structure, dict):
        return ("dict", *((name, _key(structure[name])) for name in sorted(structure)))
    if isinstance(structure, (list, tuple)):
        return (type(structure).__name__, *map(_key, structure))
    return tuple(structure.shape), np.dtype(structure.dtype)
