"""Where files lie: a local folder or any other place that fsspec reaches (document 001).

A file is there whole or not at all. Files belong to the database that wrote them, whose identity lies at the
top of each location: addresses in rows go along into a restored copy, which must not delete what they name.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from uuid import uuid4

import fsspec
from fsspec.core import split_protocol, url_to_fs
from sqlalchemy import Connection, text

from carnivore_db.errors import CarnivoreError, ConfigurationError, FilesOfAnother, StorageError

OWNER = ".carnivore-db"
# A dump that is restored is another database, on the same server too; a copy of the server's files is not.
DATABASE = """
    SELECT format('%s/%s', system_identifier, oid) FROM pg_control_system(), pg_database
    WHERE datname = current_database()
"""


def database_of(connection: Connection) -> str:
    """The identity of a database, for `Storage.claim`."""
    return str(connection.execute(text(DATABASE)).scalar_one())


class Storage:
    """One location. Not for several threads at once: each takes a Storage of its own."""

    def __init__(self, location: str) -> None:
        """`location`: a folder, made when missing, or an fsspec URL such as s3://bucket/folder; credentials
        are that storage's own (for S3: AWS_*, FSSPEC_S3_*). Raises ConfigurationError where fsspec has
        no way, or for a password in the URL: files' addresses are written down. StorageError where it
        cannot be reached."""
        self._fs, self._root = _reach(location)
        if urlsplit(location).password is not None:
            raise ConfigurationError(
                "a location must not hold a password; give it by the storage's own settings"
            )
        # fsspec's own address of a path lacks the host where the location had one.
        whole = self._fs.unstrip_protocol(self._root) if _is_local(self._fs) else location
        self._address = str(whole).rstrip("/")

    def check(self) -> None:
        """Write and delete a file, so that a wrong setting shows before any work. Raises StorageError."""
        path = f".check-{uuid4()}"
        with explained(), self.writing(path) as file:
            file.write(b"")
        delete(self.url(path))

    def claim(self, database: str) -> None:
        """Note whose files lie here (`database_of`), unless that is known.

        Raises FilesOfAnother, StorageError.
        """
        if not self.exists(OWNER):
            self.adopt(database)
        refuse_others(self._address, database)

    def adopt(self, database: str) -> None:
        """Make the files that lie here this database's, whoever wrote them. Raises StorageError."""
        with explained(), self.writing(OWNER) as file:
            file.write(database.encode())

    @contextmanager
    def writing(self, path: str) -> Iterator[BinaryIO]:
        """A new file at `path` below the location; an exception leaves nothing behind.

        Raises StorageError when it cannot be begun or finished. What the block raises, a refused `write`
        among it, is raised as it is.
        """
        target = f"{self._root}/{path}"
        with ExitStack() as stack:
            with explained():
                if _is_local(self._fs):
                    file = stack.enter_context(_beside(Path(target)))
                else:
                    stack.enter_context(self._fs.transaction)
                    file = stack.enter_context(self._fs.open(target, "wb"))
            yield file
            with explained():
                stack.close()

    def url(self, path: str) -> str:
        """The whole address of `path`."""
        return f"{self._address}/{path}"

    def exists(self, path: str) -> bool:
        """Whether there is a file. Raises StorageError."""
        with explained():
            return bool(self._fs.exists(f"{self._root}/{path}"))

    def size(self, path: str) -> int:
        """Bytes of a file. Raises StorageError."""
        with explained():
            return int(self._fs.size(f"{self._root}/{path}"))


def refuse_others(location: str, database: str) -> None:
    """Raise FilesOfAnother unless the files at a location are this database's; StorageError."""
    fs, path = _reach(location)
    with explained():
        try:
            found = fs.cat_file(f"{path}/{OWNER}").decode(errors="replace")
        except FileNotFoundError:
            found = None
    if found != database:
        raise FilesOfAnother


def delete_own(url: str, database: str, *, below: int) -> None:
    """`delete` a file that lies so many folders and its name below its location, if it is this database's.

    Raises FilesOfAnother, StorageError.
    """
    refuse_others(url.rsplit("/", below)[0], database)
    delete(url)


def delete(url: str) -> None:
    """Delete a file, and what a killed writer left of it; none there is no error. Raises StorageError."""
    fs, path = _reach(url)
    with explained():
        for each in (path, _part(path)) if _is_local(fs) else (path,):
            with suppress(FileNotFoundError):
                fs.rm_file(each)


def elsewhere(url: str) -> bool:
    """Whether a local file may lie on another machine: neither its folder nor the one above is here.

    Raises ConfigurationError, StorageError.
    """
    fs, path = _reach(url)
    return _is_local(fs) and not any(folder.is_dir() for folder in list(Path(path).parents)[:2])


def read(url: str) -> BinaryIO:
    """Open a file. Raises StorageError."""
    fs, path = _reach(url)
    with explained():
        file: BinaryIO = fs.open(path, "rb")
    return file


def download_url(url: str, *, seconds: int = 3600) -> str:
    """An address that a browser can download from for `seconds`; `url` itself where none is signed."""
    fs, path = _reach(url)
    try:
        return str(fs.sign(path, expiration=seconds))
    except NotImplementedError:
        return url


def _part(path: str) -> str:
    return f"{path}.part"


@contextmanager
def _beside(target: Path) -> Iterator[BinaryIO]:
    """Write beside the target, on the same device, for nobody else to read; rename it when it is whole."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = Path(_part(str(target)))
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        _sync(target.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    """Have the names in a folder outlive a power failure: rows are dropped once their file is there."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def explained() -> Iterator[None]:
    """What a storage's library raises, as StorageError."""
    try:
        yield
    except CarnivoreError:
        raise
    except Exception as error:
        raise StorageError(reason(error)) from error


def reason(error: Exception) -> str:
    """An error's kind and its system's words for it; other text could name a path, a row or a credential."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else ""
    return (f"{type(error).__name__}: {words}" if words else type(error).__name__)[:200]


def _is_local(fs: fsspec.AbstractFileSystem) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def _reach(location: str) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        # An instance of its own: files of one transaction must not be another's.
        fs, path = url_to_fs(location, skip_instance_cache=True)
    except (ImportError, ValueError):
        raise ConfigurationError(
            f"no storage for {split_protocol(location)[0]}:// is installed; fsspec's documentation lists them"
        ) from None
    except Exception as error:
        raise StorageError(reason(error)) from error
    return fs, str(path)
