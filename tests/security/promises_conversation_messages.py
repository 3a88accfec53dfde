"""Messages: they enter open sessions of the sender's, know their person, and never change or go alone."""

from functools import partial

from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.promises_conversation_counting import COMPLETE, SESSIONS, the_law
from tests.security.registry import add, promise
from tests.security.seed import (
    ADA,
    BOB,
    CLIENT_A,
    EVE,
    MESSAGE_A,
    NO_ONE,
    SCENE_A,
    SCENE_B,
    SCENE_B_OPEN,
    SCENE_OPEN,
)

MESSAGES, ARCHIVE = "conversation.messages", "conversation.messages_archive"
EVERYBODY = ("ada", *SERVICES, "owner")
SAY = f"INSERT INTO {MESSAGES} (session_id, role, chat_type, content) VALUES (%s, 'user', 'main', 'Hm.')"
RETRY = (
    f"INSERT INTO {MESSAGES} (session_id, role, chat_type, content, client_message_id)"
    " VALUES (%s, 'user', 'main', 'Hallo!', %s)"
)
IMMUTABLE = {"sqlstate": "23000", "constraint": "messages_immutable"}
APPEND_ONLY = {"sqlstate": "23000", "constraint": "append_only"}
COMPLETED = {"sqlstate": "23000", "constraint": "conversation_completed"}
NOT_FOUND = {"sqlstate": "PT404", "constraint": "conversation_not_found"}
NEVER = "prevent_message_updates messages_immutable messages_archive_immutable check_erasure"
KEPT = "keep_message messages_kept messages_archive_kept"
ENTERING = f"{MESSAGES} check_session_not_completed prevent_messages_in_completed_sessions"
WHOSE = f"{MESSAGES} populate_user_id_on_insert populate_message_user_id"
COUNTED = f"{MESSAGES} {SESSIONS} increment_message_count"
# Another value for each column.
CHANGES = {
    "id": "gen_random_uuid()",
    "session_id": f"'{SCENE_B}'",
    "user_id": f"'{BOB}'",
    "role": "CASE role WHEN 'user' THEN 'helper_assistant' ELSE 'user' END::conversation.message_role",
    "chat_type": "CASE chat_type WHEN 'main' THEN 'helper' ELSE 'main' END::conversation.chat_type_enum",
    "content": "content || '!'",
    "sent_at": "sent_at + interval '1 second'",
    "created_at": "created_at + interval '1 second'",
    "client_message_id": "gen_random_uuid()",
}
TABLES = {MESSAGES: CHANGES, ARCHIVE: {**CHANGES, "archived_at": "archived_at + interval '1 second'"}}


@promise(f"{ENTERING} clause")
def no_message_enters_a_completed_session(s: Session) -> None:
    for persona in EVERYBODY:
        for role, chat in (("user", "main"), ("user", "helper"), ("main_assistant", "main")):
            said = f"INSERT INTO {MESSAGES} (session_id, role, chat_type, content) VALUES (%s, %s, %s, 'Hm.')"
            error = s.as_(persona).refused(said, [SCENE_A, role, chat], **COMPLETED)
            assert (error.diag.schema_name, error.diag.table_name) == ("conversation", "messages")
        with s.undone():
            s.as_(persona).allows(SAY, [SCENE_OPEN], rows=1)
            s.as_(persona).allows(COMPLETE, rows=1)
            s.as_(persona).refused(SAY, [SCENE_OPEN], **COMPLETED)
            s.as_(persona).refused(RETRY, [SCENE_OPEN, NO_ONE], **COMPLETED)


@promise(f"{ENTERING} clause")
def no_message_enters_a_session_that_is_not_there_or_a_strangers(s: Session) -> None:
    for persona in EVERYBODY:
        error = s.as_(persona).refused(SAY, [NO_ONE], **NOT_FOUND)
        assert error.diag.column_name == "session_id"
        s.as_(persona).refused(SAY, [None], **NOT_FOUND)
    for persona, session in (
        ("ada", SCENE_B_OPEN),
        ("ada", SCENE_B),
        ("bob", SCENE_OPEN),
        ("eve", SCENE_OPEN),
        ("stranger", SCENE_OPEN),
        ("stranger", SCENE_A),
    ):
        s.as_(persona).refused(SAY, [session], **NOT_FOUND)


@promise(f"{WHOSE} clause")
def a_message_is_its_sessions_persons_whoever_writes_whatever(s: Session) -> None:
    s.superuser.allows(f"GRANT INSERT (user_id) ON {MESSAGES} TO authenticated, service_role")
    said = (
        f"INSERT INTO {MESSAGES} (session_id, user_id, role, chat_type, content)"
        " VALUES (%s, %s, 'user', 'main', 'Hm.')"
    )
    for persona in EVERYBODY:
        for session, whose in ((SCENE_OPEN, ADA), (SCENE_B_OPEN, BOB)):
            for given in (ADA, BOB, EVE, NO_ONE, None):
                if persona != "ada" or whose == ADA:
                    with s.undone():
                        s.as_(persona).allows(said, [session, given], rows=1)
                        newest = f"SELECT user_id::text FROM {MESSAGES} WHERE content = 'Hm.'"
                        assert s.superuser.rows(newest) == [(whose,)]


@promise(f"{ENTERING} default clause")
def a_message_has_the_moment_of_its_coming_unless_the_service_gives_an_earlier_one(s: Session) -> None:
    said = f"{SAY} RETURNING sent_at"
    dated = said.replace("content)", "content, sent_at)").replace("'Hm.')", "'Hm.', {})")
    for persona in EVERYBODY:
        with s.undone():
            before = s.superuser.value("SELECT clock_timestamp()")
            sent = s.as_(persona).value(said, [SCENE_OPEN])
            assert before <= sent <= s.superuser.value("SELECT clock_timestamp()")
            if persona == "ada":
                continue
            for moment in ("now() + interval '1 day'", "statement_timestamp()", "'infinity'"):
                before = s.superuser.value("SELECT clock_timestamp()")
                sent = s.as_(persona).value(dated.format(moment), [SCENE_OPEN])
                assert before <= sent <= s.superuser.value("SELECT clock_timestamp()")
            earlier = "'2026-02-03 04:05:06+00'"
            sent = s.as_(persona).value(dated.format(earlier), [SCENE_OPEN])
            assert sent == s.superuser.value(f"SELECT timestamptz {earlier}")


@promise(f"{ENTERING} idx_messages_client_message_id clause")
def a_message_that_is_sent_twice_is_stored_once(s: Session) -> None:
    twice = {"sqlstate": "23505", "constraint": "idx_messages_client_message_id"}
    for persona in EVERYBODY:
        with s.undone():
            asker = s.as_(persona)
            asker.refused(RETRY, [SCENE_OPEN, CLIENT_A], **twice)
            asker.allows(f"{RETRY} ON CONFLICT DO NOTHING", [SCENE_OPEN, CLIENT_A], rows=0)
            s.as_("service").allows(RETRY, [SCENE_B_OPEN, CLIENT_A], rows=1)
            # Another's message of this name, in another session, is no retry.
            asker.refused(RETRY, [SCENE_A, CLIENT_A], **COMPLETED)
            asker.allows(COMPLETE, rows=1)
            asker.allows(RETRY, [SCENE_OPEN, CLIENT_A], rows=0)
            asker.allows(f"{RETRY} ON CONFLICT DO NOTHING", [SCENE_OPEN, CLIENT_A], rows=0)
            asker.refused(RETRY, [SCENE_OPEN, NO_ONE], **COMPLETED)
            asker.refused(RETRY, [SCENE_OPEN, None], **COMPLETED)
            assert s.superuser.value(
                f"SELECT count(*) FROM {MESSAGES} WHERE client_message_id = %s AND session_id = %s",
                [CLIENT_A, SCENE_OPEN],
            ) == 1  # fmt: skip
            the_law(s)


def _no_message_ever_changes(s: Session, *, table: str) -> None:
    known = {name for (name,) in s.superuser.rows(
        f"SELECT attname::text FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0"
        " AND NOT attisdropped"
    )}  # fmt: skip
    assert known == set(TABLES[table])
    whose = f"WHERE user_id = '{ADA}'"
    for column, value in TABLES[table].items():
        for change in (f"{column} = {value}", f"{column} = {column}"):
            for persona in OWNERS:
                error = s.as_(persona).refused(f"UPDATE {table} SET {change} {whose}", **IMMUTABLE)
                assert error.diag.table_name == table.removeprefix("conversation.")
            for persona in ("ada", *SERVICES):
                s.as_(persona).refused(f"UPDATE {table} SET {change}")
    s.superuser.allows(f"GRANT UPDATE ON {table} TO authenticated, service_role")
    s.as_("ada").allows(f"UPDATE {table} SET content = 'x'", rows=0)
    s.as_("service").refused(f"UPDATE {table} SET content = content", **IMMUTABLE)
    s.as_("service").refused(f"UPDATE {table} SET content = '[erased]'", **IMMUTABLE)
    s.superuser.allows(f"CREATE POLICY mistake ON {table} TO authenticated USING (true)")
    for persona in ("ada", "stranger"):
        for column, value in TABLES[table].items():
            s.as_(persona).refused(f"UPDATE {table} SET {column} = {value} {whose}", **IMMUTABLE)


def _no_message_goes_alone(s: Session, *, table: str) -> None:
    for persona in OWNERS:
        for whose in ("true", f"user_id = '{ADA}'", f"session_id = '{SCENE_A}'"):
            error = s.as_(persona).refused(f"DELETE FROM {table} WHERE {whose}", **APPEND_ONLY)
            assert error.diag.table_name == table.removeprefix("conversation.")
        s.as_(persona).refused(f"TRUNCATE {table}", **APPEND_ONLY)
        s.as_(persona).refused(f"TRUNCATE {SESSIONS} CASCADE", **APPEND_ONLY)
    for persona in ("ada", *SERVICES):
        s.as_(persona).refused(f"DELETE FROM {table}")
        s.as_(persona).refused(f"TRUNCATE {table}")
    s.superuser.allows(f"GRANT DELETE, TRUNCATE ON {table} TO authenticated, service_role")
    s.superuser.allows(f"CREATE POLICY mistake ON {table} TO authenticated USING (true)")
    # A session that row security hides is not taken for one that is gone.
    for persona in ("ada", "stranger", "service"):
        s.as_(persona).refused(f"DELETE FROM {table}", **APPEND_ONLY)
        s.as_(persona).refused(f"TRUNCATE {table}", **APPEND_ONLY)


for _table in TABLES:
    _name = _table.removeprefix("conversation.")
    add(
        f"no row of {_table} ever changes",
        partial(_no_message_ever_changes, table=_table),
        f"{_table} {NEVER}",
    )
    _about = f"{_table} {KEPT} {_name}_no_truncate refuse_rewriting"
    add(f"no row of {_table} goes alone", partial(_no_message_goes_alone, table=_table), _about)


@promise(f"{MESSAGES} {ARCHIVE} {KEPT} clause")
def messages_go_with_their_session_and_with_their_person(s: Session) -> None:
    count = f"SELECT count(*) FROM {MESSAGES} UNION ALL SELECT count(*) FROM {ARCHIVE} ORDER BY 1"
    for persona, statement in (
        ("ada", f"DELETE FROM {SESSIONS} WHERE id = '{SCENE_OPEN}'"),
        ("service", f"DELETE FROM {SESSIONS} WHERE id = '{SCENE_A}'"),
        ("bound service", f"DELETE FROM {SESSIONS} WHERE id = '{SCENE_A}'"),
        ("owner", f"DELETE FROM {SESSIONS}"),
        ("owner", f"DELETE FROM conversation.profiles WHERE id = '{ADA}'"),
        ("owner", "DELETE FROM conversation.profiles"),
        ("superuser", f"DELETE FROM auth.users WHERE id = '{ADA}'"),
    ):
        with s.undone():
            before = s.superuser.rows(count)
            s.as_(persona).allows(statement)
            assert s.superuser.rows(count) != before
            the_law(s)
    with s.undone():
        # In the archive it is kept, too.
        s.as_("owner").allows(
            f"INSERT INTO {ARCHIVE} SELECT id, session_id, user_id, role, chat_type, content, sent_at,"
            f" created_at, client_message_id FROM {MESSAGES} WHERE id = '{MESSAGE_A}'"
        )
        s.as_("owner").refused(f"DELETE FROM {MESSAGES}", **APPEND_ONLY)
        s.as_("owner").allows(f"DELETE FROM {MESSAGES} WHERE id = '{MESSAGE_A}'", rows=1)
        s.as_("owner").refused(f"DELETE FROM {ARCHIVE} WHERE id = '{MESSAGE_A}'", **APPEND_ONLY)


@promise(f"{MESSAGES} {ARCHIVE} {NEVER} clause")
def a_key_follows_one_that_is_gone_and_nothing_else_goes_with_it(s: Session) -> None:
    for table in TABLES:
        with s.undone():
            # Nothing is in the way but the rule itself.
            for name in ("session_id", "user_id"):
                key = f"{table.removeprefix('conversation.')}_{name}_fkey"
                s.superuser.allows(f"ALTER TABLE {table} DROP CONSTRAINT {key}")
            for key, other, gone in (
                ("session_id", "user_id", f"DELETE FROM {SESSIONS} WHERE id = '{SCENE_A}'"),
                ("user_id", "session_id", f"DELETE FROM conversation.profiles WHERE id = '{ADA}'"),
            ):
                with s.undone():
                    s.as_("superuser", triggers="replica").allows(gone, rows=1)
                    change = f"UPDATE {table} SET {key} = {{}} WHERE session_id = '{SCENE_A}'"
                    for more in (
                        "content = 'x'",
                        "content = '[erased]'",
                        "sent_at = now()",
                        f"{other} = '{BOB}'",
                    ):
                        s.as_("owner").refused(change.format(f"'{NO_ONE}', {more}"), **IMMUTABLE)
                    s.as_("owner").refused(change.format(key), **IMMUTABLE)
                    s.as_("owner").allows(change.format(f"'{NO_ONE}'"))
                    assert s.superuser.rows(f"SELECT FROM {table} WHERE {key} = '{NO_ONE}'")
