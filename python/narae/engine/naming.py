"""Names: snake_case of a class, unique names, and scopes that give variables their paths."""

import collections
import contextlib
import re
import threading

_counts: collections.defaultdict = collections.defaultdict(int)
_clear_hooks: list = []
_scopes = threading.local()

_WORD_START = re.compile(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])")


def to_snake_case(name: str) -> str:
    """Returns a class name in snake_case, split as Keras splits it.

    >>> to_snake_case("MaxPooling2D"), to_snake_case("PReLU"), to_snake_case("RMSprop")
    ('max_pooling2d', 'p_re_lu', 'rm_sprop')
    """
    return _WORD_START.sub("_", re.sub(r"\W+", "", name)).lower()


def uniquify(name: str) -> str:
    """Returns `name`, or `name_1`, `name_2`, ... when it was given out before."""
    count = _counts[name]
    _counts[name] += 1
    return f"{name}_{count}" if count else name


def auto_name(prefix: str) -> str:
    """Returns a unique snake_case name for a class name or prefix."""
    return uniquify(to_snake_case(prefix))


def on_clear_session(hook) -> None:
    """Registers a function that `clear_session` calls (to reset other process-wide state)."""
    _clear_hooks.append(hook)


def clear_session(free_memory: bool = True) -> None:
    """Forgets the names given out so far: the next `Dense` is called `dense` again."""
    _counts.clear()
    for hook in _clear_hooks:
        hook()
    if free_memory:
        import gc

        gc.collect()


def _stack() -> list:
    try:
        return _scopes.stack
    except AttributeError:
        _scopes.stack = []
        return _scopes.stack


@contextlib.contextmanager
def name_scope(name: str, owner: object = None):
    """Puts `name/` in front of the paths of variables created inside the block.

    Args:
        name: one part of a path; `/` is not allowed.
        owner: the object that opens the scope. A scope opened again directly inside one of
            the same owner adds nothing.
    """
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError(
            "narae.name_scope: expected a name that is a non-empty string without '/'. "
            f"Received: name={name!r}"
        )
    stack = _stack()
    repeated = owner is not None and stack and stack[-1][1] is owner
    if repeated:
        yield
        return
    stack.append((name, owner))
    try:
        yield
    finally:
        stack.pop()


@contextlib.contextmanager
def absolute_scope(path: str, owner: object = None):
    """Like `name_scope`, but replaces the whole path (may hold `/` or be empty)."""
    saved = _stack()
    _scopes.stack = [(path, owner)] if path else []
    try:
        yield
    finally:
        _scopes.stack = saved


def current_path() -> str:
    """Returns the path of the open name scopes, joined by `/`; empty outside any."""
    return "/".join(name for name, _ in _stack())
