"""`carnivore-db upgrade` shows which rows of the chat need a decision, and nothing of what they hold."""

from carnivore_db.schema import migrations
from tests.cli.running import run
from tests.migrations import undecided
from tests.migrations.conftest import plain_empty  # noqa: F401 - a fixture
from tests.migrations.undecided import EVERYTHING
from tests.support.databases import TestDatabase


def test_an_operator_sees_the_rows_corrects_them_and_upgrades(plain_empty: TestDatabase) -> None:  # noqa: F811
    url = plain_empty.migrator_url
    undecided.prepare(plain_empty)
    with plain_empty.connect() as connection:
        connection.execute(EVERYTHING.spoil)

    outcome = run("upgrade", url=url)
    assert outcome.exit_code == 2
    problem, *lines, hint = outcome.stderr.strip().split("\n")
    assert problem == "rows of the schema conversation need a person's decision; nothing was changed"
    assert tuple(lines) == EVERYTHING.lines
    assert hint == "Correct these rows, then run the migration again."
    assert not [secret for secret in undecided.SECRETS if secret in outcome.output + outcome.stderr]
    assert migrations.states(url)["conversation"].revision == undecided.BASELINE

    with plain_empty.connect() as connection:
        connection.execute(EVERYTHING.correct)
    assert run("upgrade", url=url).exit_code == 0
    assert migrations.applied(url)[0] == migrations.history()[-1]


def test_no_other_error_shows_its_detail(plain_empty: TestDatabase) -> None:  # noqa: F811
    """Details quote rows: here the baseline stops on a person whose two logins have one id."""
    url = plain_empty.migrator_url
    migrations.upgrade(url, "001_user_data")
    with plain_empty.connect() as connection:
        connection.execute("ALTER TABLE auth.users DROP CONSTRAINT users_pkey CASCADE")
        connection.execute(
            "INSERT INTO auth.users (id, email) VALUES"
            " ('00000000-0000-4000-8000-000000000001', 'ada@example.com'),"
            " ('00000000-0000-4000-8000-000000000001', 'bob@example.com')"
        )
    outcome = run("upgrade", url=url)
    assert outcome.exit_code == 2
    assert "\n" not in outcome.stderr.strip()
    assert "00000000-0000" not in outcome.output + outcome.stderr
