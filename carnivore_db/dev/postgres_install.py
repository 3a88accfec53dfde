"""Finding a PostgreSQL that is installed here and will do."""

import os
import re
import subprocess
from pathlib import Path

from carnivore_db.connection.requirements import OLDEST
from carnivore_db.dev import postgres_npm
from carnivore_db.dev.postgres_process import account, as_server_user
from carnivore_db.errors import PostgreSQLNotFound

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
    """Return the directory of an installed server's programs; PostgreSQLNotFound without one.

    The environment variable CARNIVORE_DB_LOCAL_MAJOR asks for a major version; else the first that will do is
    taken, those of npm last.
    """
    wanted = wanted_major()
    unfit = []
    for bindir in _candidates():
        # Unlike is_file(), access() also takes a directory of PATH that we may not enter.
        if all(os.access(bindir / name, os.X_OK) for name in ("initdb", "postgres", "pg_ctl")):
            reason = _why_unfit(bindir, wanted)
            if reason is None:
                return bindir
            unfit.append(f"{bindir} {reason}")
    which = f"PostgreSQL {wanted}" if wanted else f"PostgreSQL {OLDEST} or newer"
    raise PostgreSQLNotFound(
        f"No {which} with {' and '.join(EXTENSIONS)} is installed"
        + (f" ({'; '.join(unfit)})" if unfit else "")
        + f": run `apt-get install postgresql{f'-{wanted}' if wanted else ''}` (Debian) or"
        f" `brew install postgresql@{wanted or 17}` (macOS), then `make setup` again; or, where npm is there,"
        f" `make postgres{f' PG={wanted}' if wanted else ''}`."
    )


def wanted_major() -> int | None:
    """The major version that CARNIVORE_DB_LOCAL_MAJOR asks for. Raises PostgreSQLNotFound for no number."""
    given = os.environ.get("CARNIVORE_DB_LOCAL_MAJOR", "")
    if given and not given.isdecimal():
        raise PostgreSQLNotFound("CARNIVORE_DB_LOCAL_MAJOR must be a major version, such as 17")
    return int(given) if given else None


def major(bindir: Path) -> int | None:
    """The major version of the server in `bindir`, run as the server's account; None if it does not run."""
    found = re.search(r"\d+", _output(bindir / "postgres", "--version"))
    return int(found[0]) if found else None


def _candidates() -> list[Path]:
    """Return the directories that may hold a server, each once, the preferred ones first."""
    places = [Path(entry) for entry in os.get_exec_path()]
    for pattern in _PLACES:
        places += sorted(Path("/").glob(pattern), key=_numbers, reverse=True)
    places += [postgres_npm.bindir(version) for version in sorted(postgres_npm.VERSIONS, reverse=True)]
    # PATH often holds links; the programs find their siblings beside the real file.
    return list(dict.fromkeys((place / "initdb").resolve().parent for place in places))


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def _why_unfit(bindir: Path, wanted: int | None) -> str | None:
    """Return why the server in `bindir` will not do, or None when it will."""
    version = major(bindir)
    if version is None:
        user = account()
        return f"does not run as {user.pw_name}" if user else "does not run"
    if version < OLDEST or wanted not in (None, version):
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
    """Return what a program prints for the server's account, or nothing when it cannot be run."""
    try:
        done = subprocess.run(  # noqa: S603 - a program of the PostgreSQL found, fixed arguments
            [program, option],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            **as_server_user(Path("/")),
        )
    except OSError:
        return ""
    return str(done.stdout).strip()
