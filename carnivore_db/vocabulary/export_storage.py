"""Where exports' files lie: a local folder or any other place that fsspec reaches (document 001).

A file is there whole or not at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import fsspec
from fsspec.core import split_protocol, url_to_fs


class Storage:
    """One location. Not for several threads at once: each takes a Storage of its own."""

    def __init__(self, location: str) -> None:
        """`location`: a folder, made when missing, or an fsspec URL such as s3://bucket/folder; credentials
        are that storage's own (for S3: AWS_*, FSSPEC_S3_*). Raises LookupError where fsspec has no way."""
        self._fs, self._root = _reach(location)

    @contextmanager
    def writing(self, path: str) -> Iterator[BinaryIO]:
        """A new file at `path` below the location; an exception leaves nothing behind."""
        with self._fs.transaction, self._fs.open(f"{self._root}/{path}", "wb") as file:
            yield file

    def url(self, path: str) -> str:
        """The whole address of `path`."""
        return str(self._fs.unstrip_protocol(f"{self._root}/{path}"))

    def size(self, path: str) -> int:
        """Bytes of a file."""
        return int(self._fs.size(f"{self._root}/{path}"))

    def urls(self) -> list[str]:
        """The addresses of all files."""
        with suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            return [str(self._fs.unstrip_protocol(path)) for path in self._fs.find(self._root)]
        return []


def delete(url: str) -> None:
    """Delete a file; one that is not there is no error. Raises OSError."""
    fs, path = _reach(url)
    with suppress(FileNotFoundError):
        fs.rm_file(path)


def read(url: str) -> BinaryIO:
    """Open an export's file. Raises FileNotFoundError, OSError."""
    fs, path = _reach(url)
    file: BinaryIO = fs.open(path, "rb")
    return file


def download_url(url: str, *, seconds: int = 3600) -> str:
    """An address that a browser can download from for `seconds`; `url` itself where none is signed."""
    fs, path = _reach(url)
    try:
        return str(fs.sign(path, expiration=seconds))
    except NotImplementedError:
        return url


def _reach(location: str) -> tuple[fsspec.AbstractFileSystem, str]:
    local = split_protocol(location)[0] in {None, "file", "local"}
    options: dict[str, Any] = {"auto_mkdir": True} if local else {}
    try:
        # An instance of its own: files of one transaction must not be another's.
        fs, path = url_to_fs(location, skip_instance_cache=True, **options)
    except (ImportError, ValueError):
        raise LookupError(
            f"no storage for {split_protocol(location)[0]}:// is installed; fsspec's documentation lists them"
        ) from None
    return fs, str(path)
