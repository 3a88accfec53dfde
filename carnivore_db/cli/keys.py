"""Commands about the encryption of learners' API keys."""

from contextlib import closing
from typing import Annotated

import typer

from carnivore_db.cli.terminal import bars, console, explained, problems
from carnivore_db.database import Database
from carnivore_db.vocabulary.keys import encryption
from carnivore_db.vocabulary.keys import jobs as key_jobs
from carnivore_db.vocabulary.keys.encryption import Keyring

app = typer.Typer(help="Encryption of learners' API keys.", no_args_is_help=True)


@app.command()
def generate() -> None:
    """Print a new key for CARNIVORE_DB_ENCRYPTION_KEYS."""
    typer.echo(encryption.new_key())


@app.command()
def reencrypt(
    batch: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Rows a transaction."),
    ] = None,
) -> None:
    """Encrypt with the key that writes what older keys encrypted; keys stay in use meanwhile.

    Exit status: 0 all done, 1 some could not be decrypted, 2 could not look.
    """
    with explained(), closing(Database()) as db:
        keyring = Keyring.from_settings(db.settings)
        with bars() as progress:
            task = progress.add_task(f"Re-encrypt with {keyring.current}", total=None)
            result = key_jobs.reencrypt(
                db,
                keyring,
                batch=batch or db.settings.key_batch,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
            progress.update(task, total=progress.tasks[task].completed)
    console.print(f"Keys re-encrypted: {result.done}. Not possible: {len(result.failed)}.")
    for (learner, provider), why in result.failed.items():
        problems.print(f"{learner} {provider}: {why}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(1 if result.failed else 0)
