"""Months that are attached: moved rows stay as they are, are counted once and lie in a closed partition."""

from tests.security.evil import PATH, evil_is_untouched, prepare_evil
from tests.security.objects import partitions
from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.promises_log import APPEND_ONLY, the_law
from tests.security.registry import promise

LOG, LOGS = "public.report_access_log", "conversation.logs"
MONTHS = "prepare_partition attach_partition lock_partitioned partition"
CREATING = "create_partition close_partition"
PREPARE, ATTACH = (
    f"SELECT carnivore.{name}_partition(%s::text::regclass, '2031-05-17')" for name in ("prepare", "attach")
)
# The month's edges lie within; the moments beside them do not.
WITHIN = ("2031-05-01 00:00:00+00", "2031-05-31 23:59:59.999999+00")
BESIDE = ("2031-04-30 23:59:59.999999+00", "2031-06-01 00:00:00+00")
INSERT = {
    LOG: "INSERT INTO public.report_access_log (report_id, accessed_at) VALUES (9001, %s)",
    LOGS: "INSERT INTO conversation.logs (level, event_type, created_at) VALUES ('info', 'user_logout', %s)",
}
KEY = {LOG: "accessed_at", LOGS: "created_at"}


def _straight(insert: str, table: str) -> str:
    """Into the month itself, which gives no row its number."""
    straight = insert.replace(table, f"{table}_2031_05")
    return straight.replace("(report_id", "(id, report_id").replace("(9001", "(1, 9001")


def _rows(s: Session, table: str) -> list[tuple[object, ...]]:
    return s.superuser.rows(f"SELECT t::text FROM {table} AS t ORDER BY 1")


@promise(f"{LOG} {LOGS} {MONTHS} {CREATING} clause increment_report_access trg_increment_report_access")
def rows_of_no_month_move_into_theirs_and_are_counted_once(s: Session) -> None:
    for persona in OWNERS:
        for table, insert in INSERT.items():
            with s.undone():
                asker = s.as_(persona, time_zone="Asia/Tokyo")
                for moment in (*WITHIN, *BESIDE):
                    s.as_("service").allows(insert, [moment], rows=1)
                assert asker.value(PREPARE, [table]) == 2
                s.as_("service").allows(insert, [WITHIN[0]], rows=1)
                before, month = _rows(s, table), f"{table}_2031_05"
                assert asker.value(ATTACH, [table]) == 3
                assert month in partitions(s, table)
                assert _rows(s, table) == before
                assert len(_rows(s, month)) == 3
                s.superuser.sees_nothing(
                    f"SELECT FROM {table}_default WHERE {KEY[table]} >= %s AND {KEY[table]} <= %s",
                    list(WITHIN),
                )
                for moment in BESIDE:
                    assert s.superuser.value(
                        f"SELECT count(*) FROM {table}_default WHERE {KEY[table]} = %s", [moment]
                    )
                the_law(s)
                s.superuser.sees_nothing(
                    f"SELECT FROM pg_constraint WHERE conrelid = '{month}'::regclass AND conname = 'prepared'"
                )
                # It is there, and what was off for the move is on again.
                assert asker.value(PREPARE, [table]) is None
                s.as_("service").allows(insert, [WITHIN[0]], rows=1)
                asker.allows(_straight(insert, table), [WITHIN[0]], rows=1)
                the_law(s)
                if table == LOG:
                    for place in (month, f"{LOG}_default"):
                        s.as_(persona).refused(f"DELETE FROM {place}", **APPEND_ONLY)
                        s.as_(persona).refused(f"TRUNCATE {place}", **APPEND_ONLY)


@promise(f"{LOG} {LOGS} {MONTHS} clause")
def what_went_or_changed_since_the_copy_is_not_brought_back(s: Session) -> None:
    for table, insert in INSERT.items():
        with s.undone():
            for moment in (*WITHIN, *BESIDE):
                s.as_("service").allows(insert, [moment], rows=1)
            s.as_("owner").value(PREPARE, [table])
            if table == LOG:
                s.superuser.allows("DELETE FROM public.generated_reports WHERE id = 9001", rows=1)
            else:
                s.superuser.allows(
                    f"UPDATE {LOGS} SET metadata = '[]' WHERE created_at = %s", [WITHIN[0]], rows=1
                )
            before = _rows(s, table)
            assert s.as_("owner").value(ATTACH, [table]) == (0 if table == LOG else 2)
            assert _rows(s, table) == before
            the_law(s)


@promise(f"{MONTHS} clause")
def rows_that_get_lost_on_the_way_stop_the_move(s: Session) -> None:
    s.as_("service").allows(INSERT[LOGS], [WITHIN[0]], rows=1)
    s.as_("owner").value(PREPARE, [LOGS])
    s.as_("service").allows(INSERT[LOGS], [WITHIN[1]], rows=1)
    s.as_("owner").allows("CREATE RULE swallow AS ON INSERT TO conversation.logs_2031_05 DO INSTEAD NOTHING")
    s.as_("owner").refused(ATTACH, [LOGS], sqlstate="XX000", constraint="rows_moved")


@promise(f"{MONTHS} clause")
def a_table_of_a_persons_is_no_month(s: Session) -> None:
    for table in INSERT:
        s.as_("owner").allows(f"CREATE TABLE {table}_2031_05 (LIKE {table} INCLUDING ALL EXCLUDING IDENTITY)")
        s.as_("owner").refused(PREPARE, [table], sqlstate="23514", constraint="partition_valid")
        s.as_("owner").refused(ATTACH, [table], sqlstate="42704")
    for other in ("public.generated_reports", "conversation.messages", None):
        s.as_("owner").refused(PREPARE, [other], sqlstate="23514", constraint="parent_valid")


@promise(f"{MONTHS} clause")
def what_a_month_needs_is_locked_and_no_more(s: Session) -> None:
    referenced = {LOG: ["public.generated_reports"]}
    referenced[LOGS] = [f"conversation.{name}" for name in ("event_types", "profiles", "sessions")]
    locks = (
        "SELECT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid()"
        " AND relation IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'p')) AND mode = %s"
    )
    for table, others in referenced.items():
        for dropping in (False, True):
            with s.undone():
                look = s.as_("superuser", search_path="pg_catalog")
                modes = {
                    mode: {n for (n,) in look.rows(locks, [mode])}
                    for mode in ("ShareRowExclusiveLock", "AccessExclusiveLock")
                }
                s.as_("owner").allows(
                    "SELECT carnivore.lock_partitioned(%s::text::regclass, %s)", [table, dropping]
                )
                now = {mode: {n for (n,) in look.rows(locks, [mode])} - modes[mode] for mode in modes}
                wanted = {
                    "ShareRowExclusiveLock": {table, *others},
                    "AccessExclusiveLock": {f"{table}_default"},
                }
                if dropping:
                    wanted = {
                        "ShareRowExclusiveLock": set(),
                        "AccessExclusiveLock": {table, *others, f"{table}_default"},
                    }
                assert now == wanted


@promise(f"{MONTHS} clause")
def no_row_comes_while_a_month_is_attached(s: Session) -> None:
    """One that had chosen the DEFAULT partition would be refused there; reading the table goes on."""
    held = (
        "SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND relation = %s::text::regclass"
        " AND mode = 'ShareRowExclusiveLock'"
    )
    for table in INSERT:
        s.as_("owner").allows(PREPARE, [table])
        s.superuser.sees_nothing(held, [table])
        s.as_("owner").allows(ATTACH, [table])
        s.superuser.allows(held, [table], rows=1)


@promise(f"{MONTHS} search_path")
def no_month_is_made_by_what_the_owners_search_path_names(s: Session) -> None:
    s.as_("service").allows(INSERT[LOG], [WITHIN[0]], rows=1)
    prepare_evil(s)
    asker = s.as_("owner", search_path=PATH)
    for table in INSERT:
        asker.allows(PREPARE, [table])
        asker.allows(ATTACH, [table])
        for dropping in (False, True):
            asker.allows(
                "SELECT carnivore.lock_partitioned(%s::pg_catalog.text::pg_catalog.regclass, %s)",
                [table, dropping],
            )
    evil_is_untouched(s)


@promise(f"{LOG} {LOGS} {CREATING} rowsecurity search_path")
def a_month_to_come_is_as_closed_as_the_others(s: Session) -> None:
    for table, insert in INSERT.items():
        with s.undone():
            month = f"{table}_2031_05"
            make = f"SELECT carnivore.create_partition('{table}', '2031-05-17')"
            straight = _straight(insert, table)
            given = "GRANT ALL ON TABLES TO anon, authenticated, service_role"
            s.as_("owner").allows(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {table.split('.')[0]} {given}")
            assert s.as_("owner", time_zone="Asia/Tokyo").value(make) is True
            for zone in ("UTC", "America/Los_Angeles"):
                assert s.as_("owner", time_zone=zone).value(make) is False
            for persona in ("anon", "ada", *SERVICES):
                for attempt in ("SELECT FROM {}", "UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {}"):
                    s.as_(persona).refused(attempt.format(month))
                s.as_(persona).refused(straight, [WITHIN[0]])
            for moment in WITHIN:
                s.as_("service").allows(insert, [moment], rows=1)
            assert s.superuser.value(f"SELECT count(*) FROM {month}") == len(WITHIN)
            for moment in BESIDE:
                s.as_("owner").refused(straight, [moment], sqlstate="23514")
            named = {LOG: "Accesses", LOGS: "Events"}[table]
            comment = f"SELECT obj_description('{month}'::regclass)"
            assert s.superuser.value(comment) == f"{named} of 2031-05 (UTC)."
            s.superuser.allows(f"GRANT ALL ON {month} TO anon, authenticated")
            for persona in ("anon", "ada"):
                s.as_(persona).sees_nothing(f"SELECT FROM {month}")
