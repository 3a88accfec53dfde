"""The two chats of a session: each message is counted once, and the last activity never goes back."""

from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.promises_conversation_counting import SESSIONS, the_law
from tests.security.registry import promise
from tests.security.seed import SCENE_B_OPEN, SCENE_OPEN

MESSAGES = "conversation.messages"
EVERYBODY = ("ada", *SERVICES, "owner")
COUNTING = f"increment_message_count {MESSAGES} {SESSIONS}"
COUNTS = f"SELECT message_count_main, message_count_helper FROM {SESSIONS} WHERE id = %s"
ACTIVE = f"SELECT last_activity_at FROM {SESSIONS} WHERE id = %s"
# Who speaks in which chat.
SPEAKERS = (("user", "main"), ("user", "helper"), ("main_assistant", "main"), ("helper_assistant", "helper"))


def said(*rows: tuple[str, str, str], sent_at: str | None = None) -> str:
    """A statement that adds messages: session, role and chat; at a moment, or at several in turn."""
    moments = [moment.strip() for moment in (sent_at or "").split(",")]
    values = [
        f"('{session}', '{role}', '{chat}', 'x'"
        + (f", {moments[number % len(moments)]})" if sent_at else ")")
        for number, (session, role, chat) in enumerate(rows)
    ]
    given = "session_id, role, chat_type, content" + (", sent_at" if sent_at else "")
    return f"INSERT INTO {MESSAGES} ({given}) VALUES {', '.join(values)}"


@promise(f"{COUNTING} clause")
def each_message_is_counted_in_its_chat_and_session(s: Session) -> None:
    for persona in EVERYBODY:
        with s.undone():
            main, helper = s.superuser.row(COUNTS, [SCENE_OPEN])
            for role, chat in SPEAKERS:
                s.as_(persona).allows(said((SCENE_OPEN, role, chat)), rows=1)
                main, helper = main + (chat == "main"), helper + (chat == "helper")
                assert s.superuser.row(COUNTS, [SCENE_OPEN]) == (main, helper)
                the_law(s)
            s.as_(persona).allows(said(*((SCENE_OPEN, *one) for one in SPEAKERS)), rows=4)
            assert s.superuser.row(COUNTS, [SCENE_OPEN]) == (main + 2, helper + 2)
            the_law(s)


@promise(f"{COUNTING} clause")
def one_statement_may_bring_messages_to_many_sessions(s: Session) -> None:
    many = [(session, *one) for session in (SCENE_OPEN, SCENE_B_OPEN) for one in SPEAKERS]
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            s.as_(persona).allows(said(*many, *many[:3], *many[5:]), rows=14)
            the_law(s)
            with_nothing = f"{said(many[0])[:-1]} || 'x') ON CONFLICT DO NOTHING"
            s.as_(persona).allows(with_nothing, rows=1)
            s.as_(persona).allows(
                f"INSERT INTO {MESSAGES} (session_id, role, chat_type, content)"
                f" SELECT id, 'user', 'main', 'x' FROM {SESSIONS} WHERE false",
                rows=0,
            )
            the_law(s)


@promise(f"{COUNTING} COPY")
def messages_that_the_service_copies_in_are_counted(s: Session) -> None:
    lines = [
        f"{session}\t{role}\t{chat}\tx\n" for session in (SCENE_OPEN, SCENE_B_OPEN) for role, chat in SPEAKERS
    ]
    copy = f"COPY {MESSAGES} (session_id, role, chat_type, content) FROM STDIN"
    s.as_("service").allows(copy, lines, rows=8)
    the_law(s)


@promise(f"{COUNTING} clause")
def the_last_activity_is_the_latest_message_and_never_goes_back(s: Session) -> None:
    two = ((SCENE_OPEN, "user", "main"), (SCENE_OPEN, "main_assistant", "main"))
    for persona in EVERYBODY:
        with s.undone():
            before = s.superuser.value("SELECT clock_timestamp()")
            s.as_(persona).allows(said(two[0]), rows=1)
            assert before <= s.superuser.value(ACTIVE, [SCENE_OPEN])
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            asker = s.as_(persona)
            asker.allows(f"UPDATE {SESSIONS} SET last_activity_at = now() - interval '9 hours'")
            other = s.superuser.value(ACTIVE, [SCENE_B_OPEN])
            for moments, hours in (
                ("now() - interval '6 hours'", 6),
                ("now() - interval '8 hours'", 6),
                ("now() - interval '4 hours', now() - interval '5 hours'", 4),
                ("now() - interval '3 hours', now() - interval '2 hours'", 2),
            ):
                asker.allows(said(*two, sent_at=moments), rows=2)
                active = s.superuser.value(
                    f"SELECT now() - last_activity_at FROM {SESSIONS} WHERE id = %s", [SCENE_OPEN]
                )
                assert active.total_seconds() == hours * 3600, moments
            assert s.superuser.value(ACTIVE, [SCENE_B_OPEN]) == other


@promise(f"{COUNTING} chat_type_valid clause")
def a_message_of_a_chat_that_nobody_counts_is_refused(s: Session) -> None:
    """As if somebody had added a third chat and forgotten to count it."""
    wrong = {"sqlstate": "23514", "constraint": "chat_type_valid"}
    s.superuser.allows("ALTER TYPE conversation.chat_type_enum RENAME VALUE 'helper' TO 'third'")
    for persona in EVERYBODY:
        error = s.as_(persona).refused(said((SCENE_OPEN, "user", "third")), **wrong)
        found = (error.diag.schema_name, error.diag.table_name, error.diag.column_name)
        assert found == ("conversation", "messages", "chat_type")
        s.as_(persona).refused(said((SCENE_OPEN, "user", "main"), (SCENE_OPEN, "user", "third")), **wrong)
