"""Transactions through PgBouncer in transaction mode: two server connections, many clients."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from sqlalchemy import URL, text

from carnivore_db import Database, errors, identity
from carnivore_db.weekly import access_log, calculator, reports, sessions
from tests.support.databases import TestDatabase

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@pytest.fixture
def proxy(plain_database: TestDatabase) -> Iterator[URL]:
    """A PgBouncer before the test's database."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    server = plain_database.shape.server
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        (directory / "users").write_text(f'"{plain_database.shape.login}" ""\n')
        (directory / "ini").write_text(
            f"[databases]\n* = host={server.host} port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {directory}/users\n"
            "pool_mode = transaction\ndefault_pool_size = 2\n"
        )
        # PgBouncer refuses root, as PostgreSQL does, and must get into the server's socket directory.
        user = pwd.getpwnam("postgres").pw_name if os.geteuid() == 0 else None
        if user is not None:
            shutil.chown(directory, user)
            for file in directory.iterdir():
                shutil.chown(file, user)
        process = subprocess.Popen([PGBOUNCER, directory / "ini"], user=user, stderr=subprocess.DEVNULL)
        url = URL.create(
            "postgresql+psycopg", plain_database.shape.login, None, "127.0.0.1", port, plain_database.name
        )
        try:
            _wait_for(url, process)
            yield url
        finally:
            process.terminate()
            process.wait()


def _wait_for(url: URL, process: "subprocess.Popen[bytes]") -> None:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    while process.poll() is None:
        with suppress(psycopg.OperationalError), psycopg.connect(plain):
            return
    pytest.fail("PgBouncer did not start")


def test_identities_never_leak_from_one_client_to_the_next(proxy: URL) -> None:
    """Anonymous clients and the service share two connections, and keep their roles and tokens apart."""
    db = Database(proxy)
    with db.transaction(identity.service()) as tx:
        session = sessions.start(tx, email="ada@example.com", path_choice="keto", macro_data={})
        issued = reports.issue(
            tx, session_id=session.id, html="<p>x</p>", questionnaire={}, valid_for=timedelta(days=1)
        )
        held = calculator.start(tx).session_token

    def client(number: int) -> None:
        for _ in range(20):
            if number % 3 == 0:
                with db.transaction(identity.token_holder(report_token=issued.access_token)) as tx:
                    found = tx.execute(text("SELECT id FROM public.generated_reports")).scalars().all()
                    assert found == [issued.id]
            elif number % 3 == 1:
                with db.transaction(identity.anonymous()) as tx:
                    assert tx.execute(text("SELECT id FROM public.generated_reports")).all() == []
                    assert tx.scalar(text("SELECT current_user")) == "anon"
                    calculator.save(tx, held, {f"key{number}": number})
            else:
                with db.transaction(identity.service()) as tx:
                    reports.open(tx, issued.access_token)

    with ThreadPoolExecutor(9) as pool:
        list(pool.map(client, range(9)))
    with db.transaction(identity.service()) as tx:
        assert access_log.count(tx, issued.id).access_count == 60
    with pytest.raises(errors.PermissionRefused), db.transaction(identity.anonymous()) as tx:
        tx.execute(text("SELECT access_token FROM public.generated_reports"))
    db.close()
