"""Run Squawk over the SQL of each revision, as `alembic upgrade --sql` prints it."""

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory

from carnivore_db.schema import migrations


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        config = migrations.config()
        for script in ScriptDirectory.from_config(config).walk_revisions():
            if script.is_merge_point:
                continue  # it has no SQL of its own
            config.output_buffer = io.StringIO()
            command.upgrade(config, f"{script.down_revision or 'base'}:{script.revision}", sql=True)
            Path(directory, f"{script.revision}.sql").write_text(config.output_buffer.getvalue())
        squawk = Path(sys.executable).with_name("squawk")
        files = sorted(Path(directory).glob("*.sql"))
        return subprocess.run([squawk, *files], check=False).returncode  # noqa: S603 - our own files


if __name__ == "__main__":
    sys.exit(main())
