"""What rights.py lists is allowed: to the service for every row, to a person for their own."""

from functools import partial

from tests.security.objects import functions
from tests.security.personas import SERVICES, Asker, Session
from tests.security.registry import add
from tests.security.rights import (
    CALLS,
    DELETES,
    INSERTS,
    LEARNERS,
    OFFERED,
    READS,
    READS_WHOLE,
    SPEAKERS,
    UPDATES,
    columns,
)
from tests.security.rows import GOOD, insertion, of_ada, owner, triggers
from tests.security.seed import ADA, EVE, MALLORY

# What stands where a column cannot keep its value: a learner only asks again, a session is only completed.
NEW_VALUES = {"status": "'pending'", "is_completed": "true"}
# Which rows of their own, where not all.
CHANGEABLE = {"vocabulary.export_history": "status = 'failed'"}
DELETABLE = {"conversation.sessions": "NOT is_completed"}
# COPY takes no view, and no rows from a partitioned table's partitions.
NOT_COPIED = {"conversation.message_history", "conversation.logs"}


def _the_service_reads(s: Session, *, table: str) -> None:
    for persona in SERVICES:
        assert s.as_(persona).rows(f"SELECT * FROM {table}"), f"{persona} sees no row of {table}"


def _the_service_inserts(s: Session, *, table: str) -> None:
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
    if table not in NOT_COPIED:
        assert len(s.as_("ada").rows(f"COPY {table} TO STDOUT")) == len(own)


def _everybody_reads(s: Session, *, table: str, role: str) -> None:
    names = ", ".join(columns(READS, role, table)) or "*"
    everything = f"SELECT {names} FROM {table}"
    offered = s.superuser.rows(f"{everything} WHERE {OFFERED[role][table]} ORDER BY 1")
    assert offered, f"nothing of {table} is offered"
    for persona in {"anon": ("anon", "guest"), "authenticated": ("ada", "stranger", "nameless")}[role]:
        assert s.as_(persona).rows(f"{everything} ORDER BY 1") == offered


def _a_learner_inserts(s: Session, *, table: str) -> None:
    # A message is of whoever has its session.
    persona = {EVE: "eve", MALLORY: "stranger", ADA: "ada"}[GOOD[table].get(owner(table), ADA)]
    asker = s.as_(persona, triggers=triggers(table))
    asker.allows(*insertion(table, only=columns(INSERTS, "authenticated", table)), rows=1)


def _a_learner_updates(s: Session, *, table: str) -> None:
    changeable = f"{of_ada(table)} AND {CHANGEABLE.get(table, 'true')}"
    own = s.superuser.value(f"SELECT count(*) FROM {table} WHERE {changeable}")
    assert own
    for column in columns(UPDATES, "authenticated", table):
        with s.undone():
            value = NEW_VALUES.get(column, column)
            s.as_("ada").allows(f"UPDATE {table} SET {column} = {value}", rows=own)


def _a_learner_deletes(s: Session, *, table: str) -> None:
    deletable = f"{of_ada(table)} AND {DELETABLE.get(table, 'true')}"
    own = s.superuser.value(f"SELECT count(*) FROM {table} WHERE {deletable}")
    assert own
    s.as_("ada").allows(f"DELETE FROM {table}", rows=own)


def _refusal(asker: Asker, call: str) -> str:
    try:
        asker.allows(call)
    except AssertionError as error:
        return str(error.__cause__)
    return ""


def _calls(s: Session, *, personas: tuple[str, ...], role: str) -> None:
    """Whatever comes of it, with NULLs: not that the call itself is refused."""
    s.superuser.allows("SET LOCAL lc_messages TO 'C'; GRANT USAGE ON SCHEMA carnivore TO PUBLIC")
    for function in functions(s):
        for persona in personas if function.name in CALLS[role] else ():
            with s.undone():
                refusal = _refusal(s.as_(persona), function.call)
                assert not refusal.startswith("permission denied for"), f"{persona}: {refusal}"


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
        (
            sorted(READS_WHOLE[_role] if _role == "service_role" else LEARNERS | SPEAKERS),
            INSERTS[_role],
            UPDATES[_role],
            sorted(DELETES[_role]),
        ),
        _checks,
        strict=True,
    ):
        for _table in _tables:
            add(
                f"{_who} {_sentence.format(_table)}",
                partial(_check, table=_table),
                f"{_table} {_role} {_verb} policy",
            )
for _role, _tables in OFFERED.items():
    for _table in _tables:
        add(
            f"{_role} reads {_table} as it is offered",
            partial(_everybody_reads, table=_table, role=_role),
            f"{_table} {_role} SELECT policy view",
        )
for _role, _personas in (
    ("anon", ("anon", "guest")),
    ("authenticated", ("ada", "stranger")),
    ("service_role", SERVICES),
    ("reporting", ("reporting",)),
):
    add(
        f"{_role} calls what it is promised",
        partial(_calls, personas=_personas, role=_role),
        " ".join([_role, "EXECUTE", *sorted(CALLS[_role])]),
    )
