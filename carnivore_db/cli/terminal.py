"""What the commands share: the terminal, errors as one line, bars of progress."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import typer
from alembic.util import CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.exc import DBAPIError

from carnivore_db.errors import CarnivoreError, Unavailable

COULD_NOT_LOOK = 2

console = Console()
problems = Console(stderr=True)


@contextmanager
def explained() -> Iterator[None]:
    """Turn what an operator can mend into one line, or a list of rows to decide on, and exit status 2."""
    try:
        yield
    except Unavailable as error:
        problem = str(error.__cause__ or error).partition("\n")[0]
    except (CommandError, CarnivoreError) as error:
        problem = str(error)
    except DBAPIError as error:
        problem = _reason(error)
    else:
        return
    problems.print(problem, style="red", markup=False, soft_wrap=True)
    raise typer.Exit(COULD_NOT_LOOK)


def _reason(error: DBAPIError) -> str:
    """The driver's first line, which names host and reason: the rest may quote data.

    Where a revision stops for rows that a person must decide on, the list of their ids as well.
    """
    if isinstance(error.orig, psycopg.Error) and error.orig.diag.constraint_name == "needs_decision":
        diag = error.orig.diag
        return "\n".join(filter(None, (diag.message_primary, diag.message_detail, diag.message_hint)))
    return str(error.orig).partition("\n")[0]


def bars() -> Progress:
    """A bar for each task, with what was done of how much."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)
