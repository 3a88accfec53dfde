"""Learners: a person signs up as themselves, and their rows are theirs alone; guests' are the service's."""

from functools import partial

from tests.security.people import CHANGES, a_visitor_does_nothing, nobody_reads_anothers_rows, others
from tests.security.personas import OTHERS, OWNERS, SERVICES, Session, logged_in
from tests.security.registry import add, promise
from tests.security.rights import DELETES, INSERTS, LEARNERS, columns
from tests.security.rows import insert, insertion, of_ada, owner
from tests.security.seed import ADA, BOB, EVE, MALLORY, NO_ONE, SITTING_A, SITTING_B, SITTING_GUEST

USERS, SESSIONS, EXPORTS = "vocabulary.users", "vocabulary.sessions", "vocabulary.export_history"


def _nobody_inserts_for_another(s: Session, *, table: str) -> None:
    given = columns(INSERTS, "authenticated", table)
    for persona in ("ada", *OTHERS):
        for whose in (BOB if persona == "ada" else ADA, None):
            statement, params = insertion(table, only=given, **{owner(table): whose})
            s.as_(persona).refused(statement, params)
            s.as_(persona).refused(f"{statement} ON CONFLICT DO NOTHING", params)


def _nobody_changes_anothers_rows(s: Session, *, table: str) -> None:
    before = others(s, table)
    s.as_("ada").allows(f"UPDATE {table} SET {CHANGES[table]}")
    assert others(s, table) == before
    for strength in ("KEY SHARE", "UPDATE"):
        s.as_("ada").sees_nothing(f"SELECT FROM {table} WHERE {owner(table)} = '{BOB}' FOR {strength}")
    for persona in OTHERS:
        s.as_(persona).allows(f"UPDATE {table} SET {CHANGES[table]} WHERE {of_ada(table)}", rows=0)


def _nobody_deletes_anothers_rows(s: Session, *, table: str) -> None:
    before = others(s, table)
    if table in DELETES["authenticated"]:
        s.as_("ada").allows(f"DELETE FROM {table}")
    for persona in ("ada", *OTHERS):
        if table in DELETES["authenticated"]:
            s.as_(persona).allows(f"DELETE FROM {table} WHERE {owner(table)} <> auth.uid()", rows=0)
        else:
            s.as_(persona).refused(f"DELETE FROM {table}")
    assert others(s, table) == before


def _no_row_is_given_away_or_taken(s: Session, *, table: str) -> None:
    """Neither by the grants nor, with every grant and no trigger, by row security."""
    change = f"UPDATE {table} SET {CHANGES[table]}, {owner(table)} = %s"
    for grant in (False, True):
        if grant:
            s.superuser.allows(f"GRANT ALL ON {table} TO authenticated")
        for persona, whose in (("ada", BOB), ("ada", NO_ONE), ("ada", None), ("bob", ADA)):
            s.as_(persona, triggers="replica").refused(change, [whose])
    taken = f"{change} WHERE {of_ada(table)}"
    s.as_("bob", triggers="replica").allows(taken, [BOB], rows=0)


for _table in sorted(LEARNERS):
    for _sentence, _check, _verb in (
        ("nobody reads anothers rows of {}", nobody_reads_anothers_rows, "SELECT"),
        ("a visitor does nothing in {}", a_visitor_does_nothing, "anon"),
        ("nobody inserts into {} for another", _nobody_inserts_for_another, "INSERT"),
        ("nobody changes anothers rows of {}", _nobody_changes_anothers_rows, "UPDATE"),
        ("nobody deletes anothers rows of {}", _nobody_deletes_anothers_rows, "DELETE"),
        ("no row of {} is given away or taken", _no_row_is_given_away_or_taken, "UPDATE"),
    ):
        _policy = f"{_verb.lower()}_own_{_table.split('.')[1]}"
        _about = f"{_table} {_verb} authenticated policy {_policy}"
        add(_sentence.format(_table), partial(_check, table=_table), _about)


@promise(f"{USERS} insert_own_users INSERT authenticated policy fold_email")
def a_person_signs_up_under_their_own_id_and_address(s: Session) -> None:
    for address in ("mallory@example.com", "Mallory@Example.COM"):
        for claimed in ("mallory@example.com", "MALLORY@example.com"):
            with s.undone():
                claims = logged_in(MALLORY, claimed)["claims"]
                statement = f"INSERT INTO {USERS} (id, email) VALUES (%s, %s) RETURNING email"
                asker = s.as_("stranger", claims=claims)
                assert asker.rows(statement, [MALLORY, address]) == [("mallory@example.com",)]
                assert asker.value(f"SELECT count(*) FROM {USERS}") == 1


@promise(f"{USERS} insert_own_users INSERT authenticated policy")
def nobody_signs_up_under_anothers_address_or_without_one(s: Session) -> None:
    statement = f"INSERT INTO {USERS} (id, email) VALUES (%s, %s)"
    for email in ("ada@example.com", "ADA@example.com", "kim@example.com", "mallory@example.co", "", None):
        s.as_("stranger").refused(statement, [MALLORY, email])
    claims = logged_in(MALLORY, "\u212aim@example.com")["claims"]
    s.as_("stranger", claims=claims).refused(statement, [MALLORY, "kim@example.com"])
    for claimed in (None, "", "%", "ada@example.com "):
        claims = logged_in(MALLORY, claimed)["claims"]
        s.as_("stranger", claims=claims).refused(statement, [MALLORY, "ada@example.com"])
    for email in ("guest@example.com", None):
        s.as_("anonymous").refused(statement, [NO_ONE, email])


@promise(f"{USERS} users_pkey users_email_key")
def nobody_signs_up_twice(s: Session) -> None:
    statement = f"INSERT INTO {USERS} (id, email) VALUES (%s, 'ada@example.com')"
    s.as_("ada").refused(statement, [ADA], sqlstate="23505")
    # Their address is a learner's already: another login does not take it over.
    claims = logged_in(MALLORY, "ada@example.com")["claims"]
    taken = {"sqlstate": "23505", "constraint": "users_email_key"}
    s.as_("stranger", claims=claims).refused(statement, [MALLORY], **taken)


@promise(f"{USERS} {SESSIONS} UPDATE policy")
def nobody_takes_over_a_row_through_a_conflict(s: Session) -> None:
    statement = (
        f"INSERT INTO {SESSIONS} (id, user_id, session_type) VALUES (%s, %s, 'qa')"
        " ON CONFLICT (id) DO UPDATE SET session_type = 'mixed'"
    )
    for key in (SITTING_B, SITTING_GUEST):
        s.as_("ada").refused(statement, [key, ADA])
    s.as_("ada").allows(statement, [SITTING_A, ADA], rows=1)
    signing_up = (
        f"INSERT INTO {USERS} (id, email, username) VALUES ('{MALLORY}', 'mallory@example.com', 'ada')"
    )
    s.as_("stranger").refused(f"{signing_up} ON CONFLICT (username) DO UPDATE SET theme = 'dark'")
    s.as_("stranger").allows(f"{signing_up} ON CONFLICT DO NOTHING", rows=0)


@promise(f"{SESSIONS} policy service_role SELECT INSERT UPDATE DELETE")
def guests_sessions_are_the_services_alone(s: Session) -> None:
    guests = "user_id IS NULL"
    for persona in SERVICES:
        with s.undone():
            insert(s.as_(persona), SESSIONS, "id", user_id=None)
            assert s.as_(persona).value(f"SELECT count(*) FROM {SESSIONS} WHERE {guests}") == 2
            s.as_(persona).allows(f"UPDATE {SESSIONS} SET user_id = '{EVE}' WHERE {guests}", rows=2)
            s.as_(persona).allows(f"UPDATE {SESSIONS} SET user_id = NULL WHERE user_id = '{EVE}'", rows=2)
            s.as_(persona).allows(f"DELETE FROM {SESSIONS} WHERE {guests}", rows=2)
    for persona in ("ada", *OTHERS):
        s.as_(persona).sees_nothing(f"SELECT FROM {SESSIONS} WHERE {guests}")
        s.as_(persona).allows(f"UPDATE {SESSIONS} SET session_type = 'qa' WHERE {guests}", rows=0)
        s.as_(persona).allows(f"DELETE FROM {SESSIONS} WHERE {guests}", rows=0)
        s.as_(persona).refused(f"INSERT INTO {SESSIONS} (session_type) VALUES ('qa')")


@promise(f"{USERS} fold_email trigger_users_fold_email")
def a_learners_address_is_stored_in_lower_case(s: Session) -> None:
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            stored = insert(s.as_(persona), USERS, "email", email="New.Person@EXAMPLE.com")
            assert stored == "new.person@example.com"
            s.as_(persona).allows(f"UPDATE {USERS} SET email = 'EVE@Other.COM' WHERE id = '{EVE}'", rows=1)
            assert s.superuser.value(f"SELECT email FROM {USERS} WHERE id = '{EVE}'") == "eve@other.com"


@promise(" ".join(sorted(LEARNERS)) + " DELETE service_role")
def deleting_a_learner_takes_everything_of_theirs_and_nothing_else(s: Session) -> None:
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            kept = {table: others(s, table) for table in LEARNERS}
            s.as_(persona).allows(f"DELETE FROM {USERS} WHERE id = '{ADA}'", rows=1)
            for table in LEARNERS:
                s.superuser.sees_nothing(f"SELECT FROM {table} WHERE {of_ada(table)}")
                assert others(s, table) == kept[table]


@promise(f"{SESSIONS} derive_duration trigger_sessions_derive_duration clause")
def the_duration_of_a_session_follows_its_moments_until_somebody_gives_it(s: Session) -> None:
    statement = (
        f"INSERT INTO {SESSIONS} (user_id, session_type, started_at, ended_at, duration_minutes)"
        " VALUES (%s, 'qa', '2026-05-01 10:00+00', %s, %s) RETURNING id, duration_minutes"
    )
    ended = "2026-05-01 10:20:40+00"  # rounded, not cut
    for persona in ("ada", *SERVICES, "owner"):
        with s.undone():
            asker = s.as_(persona)
            assert asker.row(statement, [ADA, None, None])[1] is None
            assert asker.row(statement, [ADA, ended, 5])[1] == 5
            assert asker.row(statement, [ADA, "2026-05-01 10:00+00", None])[1] == 0
            key, derived = asker.row(statement, [ADA, ended, None])
            assert derived == 21
            for change, minutes in (
                ("ended_at = '2026-05-01 10:30+00'", 30),
                ("started_at = '2026-05-01 10:05+00'", 25),
                ("user_agent = 'x'", 25),
                ("ended_at = NULL", None),
                ("ended_at = '2026-05-01 10:15+00'", 10),
                ("duration_minutes = 7", 7),
                ("ended_at = '2026-05-01 10:45+00'", 7),
                ("ended_at = NULL", 7),
                ("ended_at = '2026-05-01 10:25+00'", 7),
                ("duration_minutes = NULL", 20),
                ("ended_at = '2026-05-01 10:35+00', duration_minutes = 3", 3),
                # Nobody ended it for years: as much as fits, and no less right when it is corrected.
                ("ended_at = '2029-05-01 10:00+00', duration_minutes = NULL", 100_000),
                ("ended_at = '2026-05-01 10:15+00'", 10),
            ):
                changed = f"UPDATE {SESSIONS} SET {change} WHERE id = %s RETURNING duration_minutes"
                assert asker.value(changed, [key]) == minutes, change


@promise(f"{SESSIONS} derive_duration trigger_sessions_derive_duration clause")
def moments_that_no_session_has_derive_nothing_and_are_refused_for_themselves(s: Session) -> None:
    statement = f"UPDATE {SESSIONS} SET duration_minutes = NULL, {{}} WHERE id = '{SITTING_A}'"
    for column, moment in (
        ("ended_at", "'2026-03-02 09:59+00'"),
        ("ended_at", "'infinity'"),
        ("ended_at", "'-infinity'"),
        ("started_at", "'-infinity'"),
    ):
        wrong = {"sqlstate": "23514", "constraint": f"{column}_in_range"}
        for persona in ("ada", *SERVICES, *OWNERS):
            s.as_(persona).refused(statement.format(f"{column} = {moment}"), **wrong)
