"""The story of `make demo`, against a real PostgreSQL."""

import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import Progress
from sqlalchemy import create_engine, pool, text

from carnivore_db import Database
from carnivore_db.dev import local
from carnivore_db.dev import persistent as local_persistent
from carnivore_db.dev.demo import chat, learner, report
from carnivore_db.dev.demo.scene import Scene
from carnivore_db.dev.local import Server
from carnivore_db.dev.snapshots import scratch_database
from carnivore_db.operations.verify.checks import verify
from carnivore_db.schema import migrations
from carnivore_db.schema.areas import AREAS, Area

_CHAPTERS: dict[Area, Callable[[Scene], None]] = {
    "weekly": report.play,
    "vocabulary": learner.play,
    "conversation": chat.play,
}


def tell(console: Console, *, areas: Collection[Area] = AREAS, keep: bool = False) -> bool:
    """Walk through the chapters of `areas` on `console`. `keep` leaves the server running.

    Returns whether all went as it must.
    """
    with ExitStack() as stack:
        console.rule("A private PostgreSQL")
        server = local_persistent.start() if keep else stack.enter_context(local.server())
        dbname = stack.enter_context(scratch_database(server, keep=keep))
        where = "on a socket of its own" if server.host.startswith("/") else f"at {server.host}"
        console.print(f"  Up, {where}. Database {dbname}.")
        _migrate(console, server, dbname, areas)
        login = stack.enter_context(_application_login(server, dbname, keep=keep))
        console.print(f"  The application logs in as {login.user}, which may do nothing by itself.")
        scene = Scene(
            console,
            Database(login.url(dbname)),
            Database(server.url(dbname)),
        )
        stack.callback(scene.db.close)
        stack.callback(scene.owner.close)
        for area in (area for area in AREAS if area in areas):
            _CHAPTERS[area](scene)
        console.rule("verify")
        _verify(scene)
        if keep:
            console.rule("The server keeps running")
            console.print(f"psql '{server.dsn(dbname)}'", soft_wrap=True, highlight=False)
            console.print("Stop it and remove its data: carnivore-db local stop --remove")
    for line in scene.unexpected:
        console.print(f"NOT AS IT MUST BE: {line}", style="bold red")
    return not scene.unexpected


def _migrate(console: Console, server: Server, dbname: str, areas: Collection[Area]) -> None:
    console.rule("The migration, from nothing")
    url = server.url(dbname)
    title = "upgrade" if len(areas) == len(AREAS) else " ".join(f"upgrade --area {area}" for area in areas)
    with Progress(console=console) as progress:
        task = progress.add_task(f"carnivore-db {title}", total=migrations.missing(url, areas))
        migrations.upgrade_areas(url, areas, on_step=lambda name: progress.advance(task))


@contextmanager
def _application_login(server: Server, dbname: str, *, keep: bool) -> Iterator[Server]:
    """A login as the README makes it, named like the database; dropped at the end unless `keep`."""
    password = secrets.token_hex(16)
    admin = create_engine(server.url("postgres"), poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {dbname} LOGIN NOINHERIT PASSWORD '{password}'"))
        connection.execute(text(f"GRANT anon, authenticated, service_role TO {dbname}"))
    try:
        yield replace(server, user=dbname, password=password)
    finally:
        if not keep:
            with admin.connect() as connection:
                connection.execute(text(f"DROP ROLE {dbname}"))


def _verify(scene: Scene) -> None:
    with scene.owner.engine.connect() as connection:
        months_ahead = scene.owner.settings.partition_months_ahead
        found = verify(connection, now=datetime.now(UTC), months_ahead=months_ahead)
    skipped = sum(section.status == "skipped" for section in found.sections)
    passed = sum(section.status == "ok" for section in found.sections)
    scene.say(f"{passed} of {len(found.sections) - skipped} sections are as the package says.")
    if not found.ok:
        scene.unexpected.append("verify found differences")
