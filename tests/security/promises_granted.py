"""What rights.py lists is allowed: to the service for every row, to a learner for their own."""

from functools import partial

from tests.security.personas import SERVICES, Session
from tests.security.registry import add
from tests.security.rights import DELETES, INSERTS, READS_WHOLE, UPDATES, columns
from tests.security.rows import GOOD, insertion, of_ada, owner, triggers
from tests.security.seed import EVE, MALLORY

# What stands where a column cannot keep its value: a learner only asks again.
NEW_VALUES = {"status": "'pending'"}


def _the_service_reads(s: Session, *, table: str) -> None:
    for persona in SERVICES:
        assert s.as_(persona).rows(f"SELECT * FROM {table}"), f"{persona} sees no row of {table}"


def _the_service_inserts(s: Session, *, table: str) -> None:
    assert set(GOOD[table]) == set(columns(INSERTS, "service_role", table))
    for persona in SERVICES:
        with s.undone():
            s.as_(persona, triggers=triggers(table)).allows(*insertion(table), rows=1)


def _the_service_updates(s: Session, *, table: str) -> None:
    """With every trigger off: which change a guard refuses is another promise."""
    total = s.superuser.value(f"SELECT count(*) FROM {table}")
    for column in columns(UPDATES, "service_role", table):
        for persona in SERVICES:
            asker = s.as_(persona, triggers="replica")
            asker.allows(f"UPDATE {table} SET {column} = {column}", rows=total)


def _the_service_deletes(s: Session, *, table: str) -> None:
    total = s.superuser.value(f"SELECT count(*) FROM {table}")
    for persona in SERVICES:
        with s.undone():
            s.as_(persona).allows(f"DELETE FROM {table}", rows=total)


def _a_learner_reads(s: Session, *, table: str) -> None:
    everything = f"SELECT * FROM {table}"
    own = s.superuser.rows(f"{everything} WHERE {of_ada(table)} ORDER BY id")
    assert own, f"nothing of ada's was planted in {table}"
    assert s.as_("ada").rows(f"{everything} ORDER BY id") == own
    assert len(s.as_("ada").rows(f"COPY {table} TO STDOUT")) == len(own)


def _a_learner_inserts(s: Session, *, table: str) -> None:
    persona = {EVE: "eve", MALLORY: "stranger"}[GOOD[table][owner(table)]]
    asker = s.as_(persona, triggers=triggers(table))
    asker.allows(*insertion(table, only=columns(INSERTS, "authenticated", table)), rows=1)


def _a_learner_updates(s: Session, *, table: str) -> None:
    changeable = " AND status = 'failed'" if table == "vocabulary.export_history" else ""
    own = s.superuser.value(f"SELECT count(*) FROM {table} WHERE {of_ada(table)}{changeable}")
    assert own
    for column in columns(UPDATES, "authenticated", table):
        with s.undone():
            value = NEW_VALUES.get(column, column)
            s.as_("ada").allows(f"UPDATE {table} SET {column} = {value}", rows=own)


def _a_learner_deletes(s: Session, *, table: str) -> None:
    own = s.superuser.value(f"SELECT count(*) FROM {table} WHERE {of_ada(table)}")
    s.as_("ada").allows(f"DELETE FROM {table}", rows=own)


for _who, _role, _checks in (
    (
        "the service",
        "service_role",
        (_the_service_reads, _the_service_inserts, _the_service_updates, _the_service_deletes),
    ),
    (
        "a learner",
        "authenticated",
        (_a_learner_reads, _a_learner_inserts, _a_learner_updates, _a_learner_deletes),
    ),
):
    for _sentence, _verb, _tables, _check in zip(
        ("reads {}", "inserts into {}", "updates {}", "deletes from {}"),
        ("SELECT", "INSERT", "UPDATE", "DELETE"),
        (sorted(READS_WHOLE[_role]), INSERTS[_role], UPDATES[_role], sorted(DELETES[_role])),
        _checks,
        strict=True,
    ):
        for _table in _tables:
            add(
                f"{_who} {_sentence.format(_table)}",
                partial(_check, table=_table),
                f"{_table} {_role} {_verb} policy",
            )
