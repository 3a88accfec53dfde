"""A month's rows as a Parquet file with a manifest beside it: written, read back, digested.

A bigint and a timestamptz keep their type; every other value is kept as PostgreSQL writes it, which it reads
again without loss.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, text

from carnivore_db.errors import ArchiveDamaged
from carnivore_db.kit import storage
from carnivore_db.kit.storage import Storage, explained

FORMAT = 1
_FETCH = 5_000  # rows
# A row group is held in memory, by whoever writes and by whoever reads.
_GROUP_ROWS, _GROUP_BYTES = 50_000, 16 * 2**20
_CHUNK = 2**20
# PostgreSQL's types that keep theirs.
TYPED = {"bigint": pa.int64(), "timestamp with time zone": pa.timestamp("us", tz="UTC")}
COLUMNS = text("""
    SELECT format('%I', attname) AS quoted, attname, format_type(atttypid, atttypmod) AS kind
    FROM pg_attribute
    WHERE attrelid = CAST(:relation AS regclass) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
""")
_KEY = text("""
    SELECT format('%I', attname) FROM pg_index, unnest(indkey) WITH ORDINALITY AS key (attnum, place)
    JOIN pg_attribute USING (attnum)
    WHERE indrelid = CAST(:relation AS regclass) AND indisprimary AND attrelid = indrelid ORDER BY place
""")
_encode = json.JSONEncoder(separators=(",", ":")).encode

# Called with the rows that are done and those there are.
OnRows = Callable[[int, int], Any]


@dataclass(frozen=True)
class Manifest:
    """What a file is: of which table and month, its columns with PostgreSQL's types, and how to tell that it
    is whole. `digest` is SHA-256 over the rows in the order of their key, each as a JSON array in ASCII
    without spaces and a newline, moments as microseconds since 1970 (UTC)."""

    format: int
    table: str
    month: str
    lower: str
    upper: str
    columns: list[list[str]]
    rows: int
    digest: str
    file: str
    bytes: int
    sha256: str
    written_at: str
    package: str


class Digest:
    """The digest of rows, batch by batch."""

    def __init__(self) -> None:
        self.rows = 0
        self._hash = hashlib.sha256()

    def add(self, batch: pa.RecordBatch) -> None:
        columns = [
            (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
            for column in batch.columns
        ]
        for row in zip(*columns, strict=True):
            self._hash.update(_encode(row).encode() + b"\n")
        self.rows += batch.num_rows

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


class _Counted(io.RawIOBase):
    """A file that is written once, from its begin to its end; its bytes are counted and hashed."""

    def __init__(self, target: BinaryIO) -> None:
        self.size = 0
        self.hash = hashlib.sha256()
        self._target = target

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, chunk: Any) -> int:
        content = bytes(chunk)
        self._target.write(content)
        self.hash.update(content)
        self.size += len(content)
        return len(content)


def manifest_url(file_url: str) -> str:
    """Where the manifest lies. The underscore keeps it out of what reads a folder as one table."""
    folder, _, name = file_url.rpartition("/")
    return f"{folder}/_{name.removesuffix('.parquet')}.json"


def write(
    connection: Connection, relation: str, file_url: str, facts: dict[str, str], on_rows: OnRows
) -> None:
    """Stream the rows of `relation` (a qualified name) into `file_url`, then write the manifest with `facts`
    (table, month, lower, upper, written_at). Call it in a transaction, whose snapshot is written.

    A file without a manifest is not finished. Raises StorageError.
    """
    folder, _, name = file_url.rpartition("/")
    place = Storage(folder)
    storage.delete(manifest_url(file_url))
    columns = [(name, kind) for _, name, kind in connection.execute(COLUMNS, {"relation": relation})]
    digest = Digest()
    with explained(), place.writing(name) as file:
        counted = _Counted(file)
        with pq.ParquetWriter(
            pa.PythonFile(counted, mode="w"), _schema(columns), compression="zstd"
        ) as writer:
            for group in _groups(batches(connection, relation, on_rows)):
                for batch in group.to_batches():
                    digest.add(batch)
                writer.write_table(group, row_group_size=_GROUP_ROWS)
    manifest = Manifest(
        format=FORMAT,
        columns=[list(column) for column in columns],
        rows=digest.rows,
        digest=digest.hexdigest(),
        file=name,
        bytes=counted.size,
        sha256=counted.hash.hexdigest(),
        package=version("carnivore-db"),
        **facts,
    )
    with explained(), place.writing(manifest_url(file_url).rpartition("/")[2]) as file:
        file.write(json.dumps(asdict(manifest), indent=2).encode())


def digest_of(connection: Connection, relation: str, on_rows: OnRows) -> str:
    """The digest of a table's rows, in the snapshot of the transaction."""
    digest = Digest()
    for batch in batches(connection, relation, on_rows):
        digest.add(batch)
    return digest.hexdigest()


def batches(connection: Connection, relation: str, on_rows: OnRows) -> Iterator[pa.RecordBatch]:
    """The rows of a table in the order of its primary key, a few thousand at a time."""
    given = {"relation": relation}
    found = connection.execute(COLUMNS, given).all()
    wanted = [quoted if kind in TYPED else f"CAST({quoted} AS text)" for quoted, _, kind in found]
    order = ", ".join(f"t.{quoted}" for quoted in connection.scalars(_KEY, given))
    schema = _schema([(name, kind) for _, name, kind in found])
    total = connection.scalar(text(f"SELECT count(*) FROM ONLY {relation}")) or 0
    done = 0
    on_rows(done, total)
    rows = connection.execute(
        text(f"SELECT {', '.join(wanted)} FROM ONLY {relation} AS t ORDER BY {order}"),
        execution_options={"stream_results": True, "max_row_buffer": _FETCH},
    )
    with closing(rows):
        for some in rows.partitions(_FETCH):
            columns = zip(*some, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
            done += len(some)
            on_rows(done, total)


def _schema(columns: list[tuple[str, str]]) -> pa.Schema:
    return pa.schema([(name, TYPED.get(kind, pa.string())) for name, kind in columns])


def _groups(found: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches put together to row groups, none of them larger than memory should hold."""
    held: list[pa.RecordBatch] = []
    for batch in found:
        held.append(batch)
        rows, size = sum(one.num_rows for one in held), sum(one.nbytes for one in held)
        if rows + _FETCH > _GROUP_ROWS or size > _GROUP_BYTES:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def read_manifest(file_url: str) -> Manifest:
    """The manifest beside a file. Raises ArchiveDamaged when it is none, StorageError."""
    with explained(), storage.read(manifest_url(file_url)) as file:
        content = file.read()
    try:
        manifest = Manifest(**json.loads(content))
    except (ValueError, TypeError):
        raise ArchiveDamaged("manifest") from None
    if manifest.format != FORMAT or manifest.file != file_url.rpartition("/")[2]:
        raise ArchiveDamaged("manifest")
    return manifest


def check(
    file_url: str, *, sha256: str | None = None, on_rows: OnRows = lambda done, total: None
) -> Manifest:
    """Read a file back, byte by byte and row by row, and compare it with its manifest, and with `sha256`
    where it is known otherwise. Raises ArchiveDamaged, StorageError."""
    manifest = read_manifest(file_url)
    if sha256 not in {None, manifest.sha256}:
        raise ArchiveDamaged("manifest")
    found, size = hashlib.sha256(), 0
    with explained(), storage.read(file_url) as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            size += len(chunk)
    if (found.hexdigest(), size) != (manifest.sha256, manifest.bytes):
        raise ArchiveDamaged("file")
    digest = Digest()
    for batch in read(file_url, manifest):
        digest.add(batch)
        on_rows(digest.rows, manifest.rows)
    if (digest.hexdigest(), digest.rows) != (manifest.digest, manifest.rows):
        raise ArchiveDamaged("rows")
    return manifest


def read(file_url: str, manifest: Manifest) -> Iterator[pa.RecordBatch]:
    """The rows of a file, a few thousand at a time. Raises ArchiveDamaged, StorageError."""
    with explained(), _readable(), storage.read(file_url) as file:
        found = pq.ParquetFile(file)
        if not found.schema_arrow.equals(_schema([(name, kind) for name, kind in manifest.columns])):
            raise ArchiveDamaged("columns")
        yield from found.iter_batches(batch_size=_FETCH)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise ArchiveDamaged("file") from error
