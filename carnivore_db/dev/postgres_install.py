"""Finding a PostgreSQL that is installed here and will do."""

import os
import re
import subprocess
from pathlib import Path

from carnivore_db.errors import PostgreSQLNotFound

OLDEST = 15
EXTENSIONS = ("citext", "pgcrypto")
_PLACES = (
    "usr/lib/postgresql/*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "opt/homebrew/bin",
    "usr/local/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)


def find_postgres() -> Path:
    """Return the directory of an installed server's programs; PostgreSQLNotFound without one."""
    unfit = []
    for bindir in _candidates():
        # Unlike is_file(), access() also takes a directory of PATH that we may not enter.
        if all(os.access(bindir / name, os.X_OK) for name in ("initdb", "postgres", "pg_ctl")):
            reason = _why_unfit(bindir)
            if reason is None:
                return bindir
            unfit.append(f"{bindir} {reason}")
    raise PostgreSQLNotFound(
        f"No PostgreSQL {OLDEST} or newer with {' and '.join(EXTENSIONS)} is installed"
        + (f" ({'; '.join(unfit)})" if unfit else "")
        + ": run `apt-get install postgresql` (Debian) or `brew install postgresql@17` (macOS),"
        " then `make setup` again."
    )


def _candidates() -> list[Path]:
    """Return the directories that may hold a server, each once, the preferred ones first."""
    places = [Path(entry) for entry in os.get_exec_path()]
    for pattern in _PLACES:
        places += sorted(Path("/").glob(pattern), key=_numbers, reverse=True)
    # PATH often holds links; the programs find their siblings beside the real file.
    return list(dict.fromkeys((place / "initdb").resolve().parent for place in places))


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def _why_unfit(bindir: Path) -> str | None:
    """Return why the server in `bindir` will not do, or None when it will."""
    number = re.search(r"\d+", _output(bindir / "postgres", "--version"))
    if number is None:
        return "does not run"
    version = int(number[0])
    if version < OLDEST:
        return f"is version {version}"
    reported = _output(bindir / "pg_config", "--sharedir")
    shares = [
        Path(reported or "/nonexistent"),
        Path(f"/usr/share/postgresql/{version}"),
        *(bindir.parent / "share" / name for name in (".", "postgresql", f"postgresql@{version}")),
    ]
    missing = [
        name
        for name in EXTENSIONS
        if not any(os.access(share / "extension" / f"{name}.control", os.R_OK) for share in shares)
    ]
    return f"lacks {' and '.join(missing)}" if missing else None


def _output(program: Path, option: str) -> str:
    """Return what a program prints, or nothing when it cannot be run."""
    try:
        return subprocess.run(  # noqa: S603 - a program of the PostgreSQL found, fixed arguments
            [program, option], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        ).stdout.strip()
    except OSError:
        return ""
