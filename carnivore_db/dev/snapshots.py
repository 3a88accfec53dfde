"""Take the committed snapshots anew: each area's from a database that has nothing but the platform and it."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, pool, text

from carnivore_db.dev.local import Server
from carnivore_db.schema import areas as areas_of
from carnivore_db.schema import files, migrations, reference
from carnivore_db.schema.areas import AREAS, PLATFORM
from carnivore_db.schema.snapshot import Snapshot, take


@contextmanager
def scratch_database(server: Server, *, keep: bool = False) -> Iterator[str]:
    """An empty database of its own on `server`, dropped at the end unless `keep`."""
    name = f"carnivore_demo_{secrets.token_hex(4)}"
    admin = create_engine(server.url("postgres"), poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield name
    finally:
        if not keep:
            with admin.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def take_all(server: Server) -> dict[str, Snapshot]:
    """The platform's snapshot and what each area adds to it, by name, from fresh databases on `server`."""
    platform = _taken(server, PLATFORM)
    return {PLATFORM: platform} | {
        area: files.own(_taken(server, migrations.tip(area)), platform) for area in AREAS
    }


def _taken(server: Server, revision: str) -> Snapshot:
    with scratch_database(server) as dbname:
        url = server.url(dbname)
        migrations.upgrade(url, revision)
        with create_engine(url, poolclass=pool.NullPool).connect() as connection:
            return take(connection, areas_of.schemas(connection))


def write(snapshots: dict[str, Snapshot], docs: Path) -> None:
    """Write `expected/<area>.json` and the reference below `docs`, and delete pages of what is gone."""
    folder = Path(files.__file__).with_name(files.FOLDER)
    folder.mkdir(exist_ok=True)
    for name, snapshot in snapshots.items():
        (folder / f"{name}.json").write_text(files.rendered(snapshot), encoding="utf-8")
    pages = reference.pages(whole(snapshots))
    for old in docs.rglob("*.md"):
        if str(old.relative_to(docs)) not in pages:
            old.unlink()
    for path, text_ in pages.items():
        (docs / path).parent.mkdir(parents=True, exist_ok=True)
        (docs / path).write_text(text_, encoding="utf-8")


def whole(snapshots: dict[str, Snapshot]) -> Snapshot:
    """All of them as one, sorted."""
    kinds = sorted({kind for snapshot in snapshots.values() for kind in snapshot})
    return {
        kind: dict(
            sorted(
                (name, found)
                for snapshot in snapshots.values()
                for name, found in snapshot.get(kind, {}).items()
            )
        )
        for kind in kinds
    }
