"""Nested structures: lists, tuples, named tuples and dicts, with anything else as a leaf.

Dicts are walked in sorted key order (an `OrderedDict` in its own), as Keras does.
"""

import collections


def is_nested(structure) -> bool:
    """Returns whether `structure` is a list, tuple or dict."""
    return isinstance(structure, (list, tuple, dict))


def _keys(structure: dict):
    if isinstance(structure, collections.OrderedDict):
        return list(structure)
    try:
        return sorted(structure)
    except TypeError:
        return list(structure)


def _children(structure):
    if isinstance(structure, dict):
        return [structure[key] for key in _keys(structure)]
    return structure


def _rebuild(like, children):
    """Returns `children` in a container of the type of `like`."""
    if type(like) is tuple:  # the usual one first
        return tuple(children)
    if isinstance(like, dict):
        values = dict(zip(_keys(like), children))
        ordered = [(key, values[key]) for key in like]
        return collections.OrderedDict(ordered) if type(like) is not dict else dict(ordered)
    if hasattr(like, "_fields"):
        return type(like)(*children)
    return list(children) if isinstance(like, list) else tuple(children)


def flatten(structure) -> list:
    """Returns the leaves of `structure` in order.

    >>> flatten({"b": 2, "a": [0, (1,)]})
    [0, 1, 2]
    """
    if not isinstance(structure, (list, tuple, dict)):
        return [structure]
    leaves = []
    for child in _children(structure) if isinstance(structure, dict) else structure:
        if isinstance(child, (list, tuple, dict)):
            leaves.extend(flatten(child))
        else:
            leaves.append(child)
    return leaves


def flatten_with_path(structure, path=()) -> list:
    """Returns pairs (path, leaf); a path is a tuple of keys and positions."""
    if not is_nested(structure):
        return [(path, structure)]
    keys = _keys(structure) if isinstance(structure, dict) else range(len(structure))
    return [pair for key in keys for pair in flatten_with_path(structure[key], (*path, key))]


def map_structure(function, *structures):
    """Applies `function` to the leaves of equal structures and returns the same structure."""
    first = structures[0]
    if not isinstance(first, (list, tuple, dict)):
        return function(*structures)
    if len(structures) == 1:
        return _rebuild(first, [map_structure(function, child) for child in _children(first)])
    for other in structures[1:]:
        _check_same(first, other)
    children = zip(*map(_children, structures))
    return _rebuild(first, [map_structure(function, *group) for group in children])


def map_structure_up_to(shallow, function, *structures):
    """Like `map_structure`, but goes only as deep as `shallow`."""
    if not is_nested(shallow):
        return function(*structures)
    for other in structures:
        _check_same(shallow, other)
    groups = zip(_children(shallow), *map(_children, structures))
    return _rebuild(shallow, [map_structure_up_to(head, function, *rest) for head, *rest in groups])


def map_shape_structure(function, structure):
    """Like `map_structure` where a shape (a list or tuple of ints and Nones) is a leaf."""
    if is_shape(structure):
        return function(tuple(structure))
    if not is_nested(structure):
        raise ValueError(
            "narae.tree.map_shape_structure: expected shapes (tuples of ints and Nones). "
            f"Received: {structure!r}"
        )
    children = [map_shape_structure(function, child) for child in _children(structure)]
    return _rebuild(structure, children)


def is_shape(structure) -> bool:
    """Returns whether `structure` is a list or tuple of integers and Nones only."""
    return isinstance(structure, (list, tuple)) and all(
        x is None or (hasattr(x, "__index__") and not isinstance(x, bool)) for x in structure
    )


def pack_sequence_as(structure, flat_sequence):
    """Returns the leaves of `flat_sequence` arranged as `structure`."""
    leaves = list(flat_sequence)
    count = len(flatten(structure))
    if len(leaves) != count:
        raise ValueError(
            f"narae.tree.pack_sequence_as: expected {count} leaves, as many as the structure has. "
            f"Received: {len(leaves)}"
        )
    iterator = iter(leaves)
    return map_structure(lambda _: next(iterator), structure)


def traverse(function, structure, top_down: bool = True):
    """Applies `function` to every node; a result other than None replaces the node."""
    if top_down:
        result = function(structure)
        if result is not None:
            return result
    if is_nested(structure):
        children = [traverse(function, child, top_down) for child in _children(structure)]
        structure = _rebuild(structure, children)
    if not top_down:
        result = function(structure)
        if result is not None:
            return result
    return structure


def lists_to_tuples(structure):
    """Returns `structure` with every list turned into a tuple."""
    if isinstance(structure, (list, tuple)):
        children = [lists_to_tuples(child) for child in structure]
        return tuple(children) if isinstance(structure, list) else _rebuild(structure, children)
    if isinstance(structure, dict):
        return _rebuild(structure, [lists_to_tuples(child) for child in _children(structure)])
    return structure


def assert_same_structure(a, b) -> None:
    """Raises ValueError when the two structures differ in nesting, length or keys."""
    if is_nested(a) or is_nested(b):
        _check_same(a, b)
        for x, y in zip(_children(a), _children(b)):
            assert_same_structure(x, y)


def _check_same(a, b):
    same = (
        is_nested(b)
        and isinstance(a, dict) == isinstance(b, dict)
        and isinstance(a, list) == isinstance(b, list)
        and len(a) == len(b)
        and (not isinstance(a, dict) or set(a) == set(b))
    )
    if not same:
        raise ValueError(
            "narae.tree: expected two structures with the same nesting, lengths and keys. "
            f"Received: {a!r} and {b!r}"
        )
