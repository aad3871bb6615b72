"""narae: a small deep-learning library with hand-written kernels and the manners of Keras."""

__version__ = "0.1.0"
