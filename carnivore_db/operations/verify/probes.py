"""What the catalog does not say: does an insert work, how large are the tables, who answers."""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from carnivore_db.errors import ConfigurationError
from carnivore_db.schema import areas as areas_of
from carnivore_db.schema import files
from carnivore_db.schema.areas import AREAS, Area
from carnivore_db.schema.migrations import AreaState, read_states
from carnivore_db.schema.session import undone
from carnivore_db.schema.snapshot import INSTANCES, Snapshot

T = TypeVar("T")

COUNT_LIMIT = 10_000
_LISTED = 20

_MAY_INSERT = """
    SELECT bool_and(has_table_privilege(c.oid, 'INSERT') AND NOT row_security_active(c.oid))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public'
      AND c.relname IN ('user_sessions', 'generated_reports', 'report_access_log')
"""

# Ids are given, and negative: no sequence moves, and no real row is in the way.
_INSERTS = (
    """
    INSERT INTO public.user_sessions (id, email, path_choice, macro_data, is_test)
    VALUES (-1, 'verify@example.com', 'carnivore', '{"verify"\\:true}', true)
    """,
    """
    INSERT INTO public.generated_reports (id, session_id, email, access_token, report_html,
                                          questionnaire_data, expires_at)
    VALUES (-1, -1, 'verify@example.com', :token, '<p>verify</p>', '{"verify"\\:true}',
            now() + interval '1 hour')
    """,
    """
    INSERT INTO public.report_access_log (id, report_id) VALUES (-1, -1)
    """,
)

_STATISTICS = """
    SELECT format('%s.%s', n.nspname, c.relname) AS table,
           CASE WHEN bool_or(leaf.reltuples >= 0)
               THEN sum(greatest(leaf.reltuples, 0))::bigint END AS rows_estimated,
           sum(pg_total_relation_size(leaf.oid))::bigint AS bytes,
           sum(s.n_dead_tup)::bigint AS dead_rows_estimated,
           max(greatest(s.last_analyze, s.last_autoanalyze))::text AS last_analyze
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (
        SELECT c.oid WHERE c.relkind = 'r'
        UNION ALL
        SELECT t.relid FROM pg_partition_tree(c.oid) t WHERE c.relkind = 'p' AND t.isleaf
    ) AS tree
    JOIN pg_class leaf ON leaf.oid = tree.oid
    LEFT JOIN pg_stat_all_tables s ON s.relid = leaf.oid
    WHERE format('%s.%s', n.nspname, c.relname) = ANY(:tables)
        AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    GROUP BY n.nspname, c.relname ORDER BY 1
"""

_TABLES = """
    SELECT format('%s.%s', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p')
"""

_SERVER = """
    SELECT current_setting('server_version') AS server_version,
           current_database() AS database,
           current_user AS role,
           pg_is_in_recovery() AS standby,
           current_setting('transaction_read_only')::boolean AS read_only
"""

# A job of the database that never ran is overdue from the time that it is known. The package's own have to
# run only where files are archived or exported.
_JOBS = """
    SELECT job, last_finished_at, last_succeeded_at, last_error, every::text AS every,
        coalesce(last_succeeded_at, created_at) + every < now() AS overdue
    FROM carnivore.jobs WHERE call IS NOT NULL OR last_started_at IS NOT NULL ORDER BY job
"""

_ARCHIVED = text("SELECT parent, month FROM carnivore.archived_partitions WHERE detached_at IS NOT NULL")


# A library that sorts otherwise than when an index was built finds rows no more, and takes doubles.
_COLLATIONS = text("""
    SELECT format('the database''s collation was version %s and is %s: REINDEX DATABASE %I;'
            ' ALTER DATABASE %3$I REFRESH COLLATION VERSION',
            datcollversion, pg_database_collation_actual_version(oid), datname)
    FROM pg_database WHERE datname = current_database()
        AND datcollversion <> pg_database_collation_actual_version(oid)
    UNION ALL
    SELECT format('collation %s was version %s and is %s: %sALTER COLLATION %1$s REFRESH VERSION',
            CAST(c.oid AS regcollation), c.collversion, pg_collation_actual_version(c.oid),
            (SELECT string_agg(format('REINDEX INDEX CONCURRENTLY %s; ', CAST(indexrelid AS regclass)), '')
            FROM pg_index WHERE c.oid = ANY (indcollation)))
    FROM pg_collation AS c JOIN pg_namespace AS n ON n.oid = collnamespace
    WHERE nspname = ANY(:schemas) AND c.collversion <> pg_collation_actual_version(c.oid)
""")


@dataclass(frozen=True, slots=True)
class Refused:
    """The database said no: why."""

    reason: str


def attempt(connection: Connection, action: Callable[[], T]) -> T | Refused:
    """Do something that the database may refuse, and undo whatever it did."""
    try:
        with undone(connection):
            return action()
    except DBAPIError as error:
        return Refused(reason(error))


def reason(error: DBAPIError) -> str:
    """SQLSTATE and the first line of what the server said."""
    state = getattr(error.orig, "sqlstate", None) or "no SQLSTATE"
    lines = str(error.orig).strip().splitlines() or ["no message"]
    return f"{lines[0]} ({state})"


def server(connection: Connection) -> dict[str, Any]:
    """Version, database, role, and whether this server takes writes."""
    return dict(connection.execute(text(_SERVER)).mappings().one())


def areas(connection: Connection) -> list[AreaState] | Refused:
    """The installed areas, each with the revision it is at."""

    def read() -> list[AreaState]:
        return [state for state in read_states(connection).values() if state.revision is not None]

    try:
        return attempt(connection, read)
    except ConfigurationError as error:
        return Refused(str(error))


def apparent(connection: Connection) -> list[Area]:
    """The areas of which a table is there: the catalog tells everyone, the package's own tables do not."""
    present = set(connection.scalars(text(_TABLES)))
    platform = files.expected()["tables"].keys()
    return [area for area in AREAS if present & (files.expected(area)["tables"].keys() - platform)]


def schemas(connection: Connection, model: Snapshot) -> list[str]:
    """The schemas of what is installed; the model's where that cannot be read."""
    found = attempt(connection, lambda: areas_of.schemas(connection))
    return list(model["schemas"]) if isinstance(found, Refused) else found


def jobs(connection: Connection) -> list[dict[str, Any]] | Refused:
    """The scheduled jobs by name: when each last ended well, its last error, and whether it is overdue."""
    return attempt(connection, lambda: [dict(row) for row in connection.execute(text(_JOBS)).mappings()])


def logins_without_profile(connection: Connection) -> list[str] | Refused:
    """Ids of logins without a person in the chat, 20 at most: by telephone, or of an unusable address."""
    query = text(
        "SELECT CAST(u.id AS text) FROM auth.users AS u WHERE NOT EXISTS"
        " (SELECT FROM conversation.profiles AS p WHERE p.id = u.id) ORDER BY 1 LIMIT :limit"
    )
    return attempt(connection, lambda: list(connection.scalars(query, {"limit": _LISTED})))


def collations(connection: Connection, schemas: list[str]) -> list[str]:
    """Collations whose library changed since their indexes were built, and what to do."""
    found = attempt(connection, lambda: list(connection.scalars(_COLLATIONS, {"schemas": schemas})))
    return [] if isinstance(found, Refused) else found


def archived_months(connection: Connection) -> set[tuple[str, date]]:
    """The partitioned tables and months (first days, UTC) in cold storage; none where that cannot be read."""
    found = attempt(connection, lambda: {(row.parent, row.month) for row in connection.execute(_ARCHIVED)})
    return set() if isinstance(found, Refused) else found


def may_insert(connection: Connection) -> bool:
    """Whether the connected role may do what `insert_test` does: give the rows their ids."""
    return connection.scalar(text(_MAY_INSERT)) is not False


def insert_test(connection: Connection) -> dict[str, Any] | Refused:
    """Start a session, issue a report, log an access, look at the counter; nothing stays.

    Out: `access_count` as the trigger left it, and the `partition` the log row went to.
    """

    def act() -> dict[str, Any]:
        for statement in _INSERTS:
            values = {"token": secrets.token_hex(32)} if ":token" in statement else {}
            connection.execute(text(statement), values)
        query = text(
            "SELECT r.access_count, format('%s.%s', n.nspname, c.relname) AS partition"
            " FROM public.generated_reports r"
            " JOIN public.report_access_log l ON l.report_id = r.id"
            " JOIN pg_class c ON c.oid = l.tableoid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE r.id = -1"
        )
        # What a commit would still check or count is due now: there will be no commit.
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        row = connection.execute(query).mappings().one_or_none()
        return dict(row) if row is not None else {"access_count": None}

    return attempt(connection, act)


def statistics(connection: Connection, known: Iterable[str]) -> list[dict[str, Any]] | Refused:
    """Estimated rows, bytes and last ANALYZE of these tables, partitions added up; no counting."""
    wanted = list(known)

    def read() -> list[dict[str, Any]]:
        rows = connection.execute(text(_STATISTICS), {"tables": wanted}).mappings()
        return [dict(row) for row in rows]

    return attempt(connection, read)


def default_partition_rows(connection: Connection, live: Snapshot) -> dict[str, int | Refused]:
    """How many rows each DEFAULT partition holds, counted up to one more than COUNT_LIMIT."""
    return {
        name: counted(connection, name)
        for name, instance in live.get(INSTANCES, {}).items()
        if instance["bounds"] == "DEFAULT"
    }


def pending_deltas(connection: Connection, live: Snapshot) -> dict[str, int | Refused]:
    """Access counts not yet folded into the reports, where that table exists."""
    return {
        name: counted(connection, name)
        for name in live.get("tables", {})
        if name.endswith(".report_access_pending")
    }


def counted(connection: Connection, table: str) -> int | Refused:
    """The rows of a table, at most one more than COUNT_LIMIT: a full count could take minutes."""
    schema, _, name = table.partition(".")
    quote = connection.dialect.identifier_preparer.quote_identifier
    query = f"SELECT count(*) FROM (SELECT FROM {quote(schema)}.{quote(name)} LIMIT :limit) AS r"

    def count() -> int:
        # Row security would hide rows from a role it applies to; an error is better than a zero.
        connection.execute(text("SET LOCAL row_security = off"))
        found: int = connection.execute(text(query), {"limit": COUNT_LIMIT + 1}).scalar_one()
        return found

    return attempt(connection, count)
