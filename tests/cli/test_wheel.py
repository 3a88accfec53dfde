"""The wheel carries the migrations: `carnivore-db upgrade` works without a checkout."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from carnivore_db.schema import migrations
from tests.support.databases import Shape

ROOT = Path(__file__).parents[2]
COMMAND = "from carnivore_db.cli import app; app()"


@pytest.mark.slow
def test_the_wheel_installs_the_schema(plain_shape: Shape, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("carnivore_db-*.whl")
    installed = tmp_path / "site"
    with ZipFile(wheel) as archive:
        archive.extractall(installed)

    with plain_shape.clone(None) as database:
        url = database.migrator_url.render_as_string(hide_password=False)
        environment = {**os.environ, "PYTHONPATH": str(installed), "DATABASE_URL": url}
        for arguments in (["upgrade"], ["verify"]):
            done = subprocess.run(
                [sys.executable, "-c", COMMAND, *arguments],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        assert migrations.applied(database.migrator_url)[0] == migrations.history()[-1]
    used = subprocess.run(
        [sys.executable, "-c", "from carnivore_db.schema import migrations; print(migrations.ini_file())"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(used.stdout.strip()).is_relative_to(installed)
