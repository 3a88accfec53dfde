"""`make demo`'s command: the whole story, status 0, nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WEEKLY = {
    "ReportNotFound",
    "PermissionRefused",
    "Immutable",
    "AppendOnly",
    "PaymentTransition",
    "ReportExpired",
    "SignatureInvalid",
}
OTHERS = {"UserNotFound", "InvalidInput", "DecryptionFailed"}


@pytest.mark.parametrize(
    ("arguments", "refused"), [([], WEEKLY | OTHERS), (["--area", "weekly"], WEEKLY)], ids=["all", "weekly"]
)
def test_the_demo_tells_its_story_and_leaves_nothing(
    arguments: list[str], refused: set[str], tmp_path: Path
) -> None:
    # A directory of its own for temporary files shows what is left. The server's user must enter it.
    home = tmp_path / "t"
    home.mkdir(mode=0o755)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() == Path.home().owner() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    environment = {**os.environ, "TMPDIR": str(home), "COLUMNS": "200"}
    environment.pop("DATABASE_URL", None)
    told = subprocess.run(
        [Path(sys.executable).with_name("carnivore-db"), "demo", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert {error for error in WEEKLY | OTHERS if error in told.stdout} == refused
    assert "12 of 12 sections" in told.stdout
    assert "NOT" not in told.stdout
    assert list(home.iterdir()) == []
