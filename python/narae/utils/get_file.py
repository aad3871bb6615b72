"""Files from the net, kept on disk."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from narae.training.progress import Progbar, print_message
from narae.utils.files import atomic_path

if TYPE_CHECKING:
    import tarfile

_TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 1 << 16
_ARCHIVE_ENDINGS = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tar", ".zip")


def cache_folder() -> str:
    """Returns the folder of downloaded files: `$NARAE_HOME`, else `~/.narae`."""
    return os.environ.get("NARAE_HOME") or os.path.join(os.path.expanduser("~"), ".narae")


def get_file(
    fname: str | None = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: str | None = "auto",
    cache_dir: str | os.PathLike | None = None,
    force_download: bool = False,
) -> str:
    """Downloads a file unless it is in the cache, `~/.narae/datasets` by default.

    The file takes its name only when it is whole and its hash is right.

    Args:
        fname: name of the file; by default the last part of `origin`. An absolute path is used as
            it is.
        origin: address of the file, `https://...`.
        untar: the same as `extract`.
        md5_hash: the same as `file_hash` with md5.
        file_hash: expected hash, in hexadecimal.
        cache_subdir: folder below the cache.
        hash_algorithm: `"md5"`, `"sha256"`, or `"auto"` to tell from the hash's length.
        extract: unpack the file, a tar or zip archive, into `<name>_extracted` beside it.
        archive_format: `"auto"`, `"tar"`, `"zip"` or None, which unpacks nothing.
        cache_dir: the cache; by default `$NARAE_HOME`, else `~/.narae`.
        force_download: download even if the file is there.

    Returns:
        Path of the file, or of the folder with what was unpacked.

    Raises:
        ValueError: no address, or a hash that does not match.
        OSError: the download failed.
    """
    import urllib.parse

    if origin is None:
        raise ValueError("narae.utils.get_file: expected an address. Received: origin=None.")
    name = os.fspath(fname) if fname else os.path.basename(urllib.parse.urlsplit(origin).path)
    folder = os.path.join(os.fspath(cache_dir or cache_folder()), cache_subdir)
    path = os.path.join(folder, name)
    inside = os.path.abspath(path).startswith(os.path.abspath(folder) + os.sep)
    if not name or not (inside or os.path.isabs(name)):
        raise ValueError(
            "narae.utils.get_file: expected fname to be a path inside the cache. "
            f"Received: fname={fname!r}, origin={origin!r}."
        )
    expected = file_hash or md5_hash
    if md5_hash and not file_hash:
        hash_algorithm = "md5"
    if force_download or not _is_cached(path, expected, hash_algorithm):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _download(origin, path, expected, hash_algorithm)
    if (extract or untar) and archive_format is not None:
        return _extract(path, "tar" if untar and archive_format == "auto" else archive_format)
    return path


def hash_file(path: str | os.PathLike, algorithm: str = "sha256") -> str:
    """Returns the hash of a file's bytes, in hexadecimal.

    Args:
        path: the file.
        algorithm: `"sha256"` or `"md5"`.
    """
    import hashlib

    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _matches(path: str, expected: str, algorithm: str) -> bool:
    if algorithm == "auto":
        algorithm = "sha256" if len(expected) == 64 else "md5"
    return hash_file(path, algorithm) == expected.lower()


def _is_cached(path: str, expected: str | None, algorithm: str) -> bool:
    if not os.path.exists(path):
        return False
    if expected is None or _matches(path, expected, algorithm):
        return True
    warnings.warn(
        f"narae.utils.get_file: {path} does not have the expected hash; it is downloaded again.",
        stacklevel=3,
    )
    return False


def _download(origin: str, path: str, expected: str | None, algorithm: str) -> None:
    import urllib.error
    import urllib.request

    print_message(f"Downloading data from {origin}")
    try:
        with atomic_path(path) as temporary:
            with (
                urllib.request.urlopen(origin, timeout=_TIMEOUT_SECONDS) as response,
                open(temporary, "wb") as file,
            ):
                _copy(response, file)
            if expected is not None and not _matches(temporary, expected, algorithm):
                raise ValueError(
                    f"narae.utils.get_file: expected {origin} to have the hash {expected}. "
                    "Received: a file with another one."
                )
    except urllib.error.HTTPError as error:
        raise OSError(
            f"narae.utils.get_file: could not download {origin}: {error.code} {error.reason}."
        ) from error
    except urllib.error.URLError as error:
        raise OSError(
            f"narae.utils.get_file: could not download {origin}: {error.reason}."
        ) from error


def _copy(response: Any, file: Any) -> None:
    length = response.headers.get("Content-Length")
    total = int(length) if length else None
    bar = Progbar(total)
    done = 0
    while chunk := response.read(_CHUNK_BYTES):
        file.write(chunk)
        done += len(chunk)
        if total is None or done < total:
            bar.update(done, finalize=False)
    if total is not None and done != total:
        raise OSError(
            f"narae.utils.get_file: expected {total} bytes of {response.url}. Received: {done}."
        )
    bar.update(done, finalize=True)


def _extract(path: str, archive_format: str) -> str:
    """Unpacks into a temporary folder that is renamed when everything is there."""
    import shutil
    import tarfile
    import tempfile
    import zipfile

    ending = next((e for e in _ARCHIVE_ENDINGS if path.endswith(e)), "")
    target = path.removesuffix(ending) + "_extracted"
    if os.path.isdir(target):
        return target
    temporary = tempfile.mkdtemp(prefix=".extract.", dir=os.path.dirname(path))
    try:
        if archive_format in ("auto", "tar") and tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                _extract_tar(archive, temporary)
        elif archive_format in ("auto", "zip") and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(temporary)  # drops absolute names and ".."
        else:
            raise ValueError(
                "narae.utils.get_file: expected a tar or zip archive. "
                f"Received: {path}, archive_format={archive_format!r}."
            )
        os.chmod(temporary, 0o755)
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _extract_tar(archive: tarfile.TarFile, folder: str) -> None:
    import tarfile

    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")  # refuses what would leave the folder
        return
    root = os.path.realpath(folder) + os.sep
    for member in archive.getmembers():
        inside = os.path.realpath(os.path.join(folder, member.name)).startswith(root)
        if not (member.isfile() or member.isdir()) or not inside:
            raise ValueError(
                "narae.utils.get_file: expected files and folders inside the archive. "
                f"Received: {member.name!r}."
            )
        archive.extract(member, folder)
