"""Run Squawk over the SQL of each revision, as `alembic upgrade --sql` prints it."""

import io
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from alembic import command

from carnivore_db.schema import migrations


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        for before, revision in pairwise(["base", *migrations.history()]):
            config = migrations.config()
            config.output_buffer = io.StringIO()
            command.upgrade(config, f"{before}:{revision}", sql=True)
            Path(directory, f"{revision}.sql").write_text(config.output_buffer.getvalue())
        squawk = Path(sys.executable).with_name("squawk")
        files = sorted(Path(directory).glob("*.sql"))
        return subprocess.run([squawk, *files], check=False).returncode  # noqa: S603 - our own files


if __name__ == "__main__":
    sys.exit(main())
