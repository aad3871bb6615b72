"""Files that are either whole or absent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[str]:
    """Gives the name of a temporary file, which takes the name `path` when the block ends well.

    The file is flushed to the disk before it is renamed, so a kill leaves the old file or the new.

    Args:
        path: the name that the file is to have.

    Example:

    >>> with atomic_path("log.json") as temporary, open(temporary, "w") as file:
    ...     print("{}", file=file)
    """
    import tempfile

    path = os.fspath(path)
    folder, name = os.path.split(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
    os.close(handle)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if not os.path.exists(path):
            os.chmod(temporary, 0o666 & ~_umask())
        else:
            os.chmod(temporary, os.stat(path).st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
