"""`carnivore-db stats` for a machine: JSON, Prometheus text and exit status; a cause planted, and mended."""

import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from carnivore_db.operations.stats.alerts import CODES
from tests.cli.running import run
from tests.operations.partitions.months import month, name
from tests.operations.stats.looking import CHAT, LOG, look
from tests.support import reports
from tests.support.databases import TestDatabase
from tests.support.rows import fill

ACCESSES = """
INSERT INTO public.report_access_log (report_id, accessed_at, ip_address)
SELECT (SELECT min(id) FROM public.generated_reports), now() - number * interval '{gap}',
    '10.0.0.1'::inet + {addresses}
FROM generate_series(1, {number}) AS number
"""
FORGET = "SET session_replication_role = replica; DELETE FROM public.report_access_log"
JOBS = "UPDATE carnivore.jobs SET "
STRAY = (
    "INSERT INTO conversation.logs (level, event_type, created_at)"
    " SELECT 'error', 'database_error', '2001-01-01 00:00+00' FROM generate_series(1, {})"
)
ENDED = (
    "SET session_replication_role = replica; UPDATE public.generated_reports"
    " SET created_at = now() - interval '1 day', expires_at = now() - interval '30 minutes';"
)


@dataclass(frozen=True)
class Case:
    """SQL that makes an alert and SQL that mends it, and the metric's labels, meanwhile and afterwards."""

    alert: tuple[str, str]
    cause: str
    remedy: str
    metric: tuple[str, ...]
    meanwhile: float = 1
    afterwards: float = 0


def missing(table: str, number: int, ahead: int) -> Case:
    """A month that has no partition; so many months ahead are left."""
    made = f"SELECT carnivore.create_partition('{table}', '{month(number)}')"
    lost = f"DROP TABLE {name(table, month(number))}"
    return Case(("month_missing", table), lost, made, ("months_ahead", table), ahead, 3)


def job(what: str, cause: str, remedy: str, metric: str) -> Case:
    return Case((what, "fold"), JOBS + cause, JOBS + remedy, (metric, "fold"))


def unusual(what: str, cause: str) -> Case:
    return Case(("unusual_access", what), cause, FORGET, ("unusual_reports", what))


def cases() -> dict[str, Case]:
    """Made when they are needed: their months are those of that moment."""
    return {
        "accesses without month": Case(
            ("default_partition_rows", f"{LOG}_default"),
            "INSERT INTO public.report_access_log (report_id, accessed_at)"
            " SELECT min(id), '2001-01-01 00:00+00' FROM public.generated_reports",
            FORGET,
            ("default_partition_rows", LOG),
        ),
        "events without month": Case(
            ("default_partition_rows", f"{CHAT}_default"),
            STRAY.format(2),
            "DELETE FROM conversation.logs",
            ("default_partition_rows", CHAT),
            2,
        ),
        "the last month is missing": missing(LOG, 3, 2),
        "a month between is missing": missing(CHAT, 2, 1),
        "this month is missing": missing(LOG, 0, -1),
        "a job is late": job(
            "job_overdue",
            "last_succeeded_at = now() - every - interval '1 minute'",
            "last_succeeded_at = now() - every + interval '10 minutes'",
            "job_overdue",
        ),
        "a job never ran": job(
            "job_overdue",
            "created_at = now() - interval '3 days'",
            "last_succeeded_at = now()",
            "job_overdue",
        ),
        "a job failed": job(
            "job_failed", "last_error = '55P03', last_succeeded_at = now()", "last_error = NULL", "job_failed"
        ),
        "many addresses": unusual(
            "addresses", ACCESSES.format(gap="2 minutes", number=6, addresses="number % 5")
        ),
        "a burst": unusual("burst", ACCESSES.format(gap="1 second", number=20, addresses="0")),
        "opened after its end": unusual(
            "after_end", ENDED + ACCESSES.format(gap="20 minutes", number=2, addresses="0")
        ),
    }


@pytest.mark.parametrize("which", cases())
def test_an_alert_comes_with_its_cause_and_goes_with_it(
    which: str, plain_database: TestDatabase, tmp_path: Path
) -> None:
    case = cases()[which]

    def do(script: str) -> None:
        with plain_database.connect() as connection:
            connection.execute(script)

    with plain_database.connect() as connection:
        reports.make(connection, 2)
        connection.execute("DELETE FROM carnivore.jobs WHERE job <> 'fold'")
    before = look(plain_database, tmp_path)
    assert (before.status, before.report["ok"], before.alerts) == (0, True, [])
    do(case.cause)
    meanwhile = look(plain_database, tmp_path)
    assert (meanwhile.status, meanwhile.report["ok"], meanwhile.alerts) == (1, False, [case.alert])
    assert meanwhile.metric(*case.metric) == case.meanwhile
    counted = {code: meanwhile.metric("alerts", code) for code in CODES}
    assert counted == {**dict.fromkeys(CODES, 0), case.alert[0]: 1}
    do(case.remedy)
    afterwards = look(plain_database, tmp_path)
    assert (afterwards.status, afterwards.alerts) == (0, [])
    assert afterwards.metric(*case.metric) == case.afterwards
    assert {code: afterwards.metric("alerts", code) for code in CODES} == dict.fromkeys(CODES, 0)


def test_just_below_the_thresholds_all_is_well(plain_database: TestDatabase, tmp_path: Path) -> None:
    with plain_database.connect(autocommit=True) as connection:
        reports.make(connection, 1)
        connection.execute(ACCESSES.format(gap="1 second", number=19, addresses="number % 4"))
        # Eight days ago is not of late.
        connection.execute(ACCESSES.format(gap="8 days", number=1, addresses="9"))
        usual = {"addresses": 0, "burst": 0, "after_end": 0}
        assert look(plain_database, tmp_path).report["unusual"] == usual
        lower = {
            "CARNIVORE_DB_UNUSUAL_ADDRESSES": "4",
            "CARNIVORE_DB_UNUSUAL_BURST": "19",
            "CARNIVORE_DB_UNUSUAL_AFTER_END": "2",
        }
        seen = look(plain_database, tmp_path, **lower)
        assert seen.report["unusual"] == {"addresses": 1, "burst": 1, "after_end": 0}
        days = look(plain_database, tmp_path, CARNIVORE_DB_UNUSUAL_DAYS="9", **lower)
        assert days.report["unusual_days"] == 9
        connection.execute("UPDATE public.user_sessions SET is_test = true")
        assert look(plain_database, tmp_path, **lower).alerts == []


def test_more_months_ahead_are_wanted_where_the_setting_says_so(
    plain_database: TestDatabase, tmp_path: Path
) -> None:
    seen = look(plain_database, tmp_path, CARNIVORE_DB_PARTITION_MONTHS_AHEAD="4")
    assert seen.alerts == [("month_missing", CHAT), ("month_missing", LOG)]
    missing = {months["table"]: months["missing"] for months in seen.report["months"]}
    assert missing == {CHAT: [month(4).isoformat()], LOG: [month(4).isoformat()]}
    assert (seen.metric("months_missing", LOG), seen.metric("months_ahead", LOG)) == (1, 3)


def test_what_is_shown_is_what_is_there(plain_database: TestDatabase, tmp_path: Path) -> None:
    def sizes(connection: psycopg.Connection, names: list[str]) -> dict[str, int]:
        query = (
            "SELECT name, pg_total_relation_size(name::regclass) FROM unnest(%s::text[]) AS name"
            " WHERE NOT EXISTS (SELECT FROM pg_partition_tree(name::regclass) WHERE NOT isleaf)"
        )
        return dict(connection.execute(query, [names]).fetchall())

    with plain_database.connect(autocommit=True) as connection:
        fill(connection)
        connection.execute("ANALYZE conversation.messages")
        seen = look(plain_database, tmp_path)
        partitions = {part["name"]: part["bytes"] for part in seen.report["partitions"]}
        tables = {table["name"]: table for table in seen.report["tables"]}
        assert partitions == sizes(connection, list(partitions))
        plain = sizes(connection, list(tables))
        assert {name: tables[name]["bytes"] for name in plain} == plain
        messages = connection.execute("SELECT count(*) FROM conversation.messages").fetchone()
        inherited = "SELECT count(*) FROM pg_inherits WHERE inhparent IN (%s::regclass, %s::regclass)"
        assert connection.execute(inherited, [LOG, CHAT]).fetchone() == (len(partitions),)
        pending = connection.execute("SELECT count(*) FROM public.report_access_pending").fetchone()
    for parent in (LOG, CHAT):
        own = [part["bytes"] for part in seen.report["partitions"] if part["table"] == parent]
        assert tables[parent]["bytes"] == sum(own)
        assert seen.metric("table_bytes", parent) == sum(own)
    assert set(tables) - set(plain) == {LOG, CHAT}
    assert (tables["conversation.messages"]["rows_estimated"],) == messages
    assert (seen.metric("table_rows_estimated", "conversation.messages"),) == messages
    assert tables["vocabulary.sessions"]["rows_estimated"] is None
    assert seen.metric("table_rows_estimated", "vocabulary.sessions") is None
    assert {name: seen.metric("table_bytes", name) for name in plain} == plain
    for part in seen.report["partitions"]:
        assert seen.metric("partition_bytes", part["table"], part["name"]) == part["bytes"]
    assert pending is not None
    assert pending[0] > 0
    assert seen.report["pending"] == seen.metric("pending_deltas") == pending[0]
    assert seen.alerts == [
        ("default_partition_rows", f"{CHAT}_default"),
        ("default_partition_rows", f"{LOG}_default"),
        ("unusual_access", "after_end"),  # the access of 2077
    ]
    taken = datetime.fromisoformat(seen.report["taken_at"])
    assert abs(datetime.now(UTC) - taken) < timedelta(minutes=5)
    assert seen.metric("stats_timestamp_seconds") == pytest.approx(taken.timestamp())


def test_growth_is_that_of_the_planted_samples(plain_database: TestDatabase, tmp_path: Path) -> None:
    table = "public.stripe_events"
    first = {row["name"]: row for row in look(plain_database, tmp_path).report["tables"]}
    assert first[table]["growth"] is None
    today = datetime.now(UTC).date()
    with plain_database.connect() as connection:
        for age, before in ((60, 1), (32, 1000), (7, 5)):
            connection.execute(
                "INSERT INTO carnivore.partition_sizes VALUES (%s, %s, %s, NULL)",
                [today - timedelta(days=age), table, before],
            )
    seen = {row["name"]: row for row in look(plain_database, tmp_path).report["tables"]}
    size = seen[table]["bytes"]
    assert seen[table]["growth"] == {
        "since": (today - timedelta(days=32)).isoformat(),
        "days": 32,
        "bytes": size - 1000,
        "bytes_per_day": round((size - 1000) / 32),
    }
    assert [name for name, row in seen.items() if row["growth"]] == [table]


def test_the_last_run_of_a_job_is_shown(plain_database: TestDatabase, tmp_path: Path) -> None:
    with plain_database.connect() as connection:
        connection.execute("DELETE FROM carnivore.jobs WHERE job NOT IN ('fold', 'reports')")
        connection.execute(
            "UPDATE carnivore.jobs SET every = '1 day', last_succeeded_at = now() - interval '1 hour'"
            " WHERE job = 'fold'"
        )
    seen = look(plain_database, tmp_path)
    fold, reports_ = seen.report["jobs"]
    assert (fold["name"], fold["every"]) == ("fold", "1 day")
    last = datetime.fromisoformat(fold["last_succeeded_at"])
    assert seen.metric("job_last_success_timestamp_seconds", "fold") == pytest.approx(last.timestamp())
    assert abs(datetime.now(UTC) - timedelta(hours=1) - last) < timedelta(minutes=5)
    # Known since now, and not yet due.
    assert (reports_["last_succeeded_at"], reports_["overdue"]) == (None, False)
    assert seen.metric("job_last_success_timestamp_seconds", "reports") is None
    assert seen.metric("job_overdue", "reports") == 0


def test_a_count_stops_and_says_so(plain_database: TestDatabase, tmp_path: Path) -> None:
    with plain_database.connect() as connection:
        connection.execute(STRAY.format(10_050))
    seen = look(plain_database, tmp_path)
    assert seen.report["alerts"][0]["detail"] == "rows that belong to a month: more than 10,000"
    assert seen.metric("default_partition_rows", CHAT) == 10_001


def test_the_file_is_replaced_whole_and_readable_for_others(
    plain_database: TestDatabase, tmp_path: Path
) -> None:
    file = tmp_path / "carnivore.prom"
    file.write_text("old\n")
    with file.open() as reader:
        look(plain_database, tmp_path)
        assert reader.read() == "old\n"  # whoever has it open goes on reading the old one
    assert [path.name for path in tmp_path.iterdir()] == ["carnivore.prom"]
    assert stat.S_IMODE(file.stat().st_mode) & 0o400


@pytest.mark.parametrize("option", ["--prometheus", "--plot"])
def test_a_file_that_cannot_be_written_is_one_line(
    plain_database: TestDatabase, tmp_path: Path, option: str
) -> None:
    file = tmp_path / "nowhere" / "stats.png"
    outcome = run("stats", option, str(file), url=plain_database.migrator_url)
    assert outcome.exit_code == 2
    assert outcome.output.strip() == f"{file}: No such file or directory"


def test_the_application_may_not_look(plain_database: TestDatabase) -> None:
    outcome = run("stats", "--json", url=plain_database.app_url)
    assert outcome.exit_code == 2
    assert "permission denied" in outcome.output
    assert len(outcome.output.strip().splitlines()) == 1


def test_looking_writes_nothing_and_needs_no_right_to_write(plain_database: TestDatabase) -> None:
    url = plain_database.migrator_url.update_query_dict({"options": "-c default_transaction_read_only=on"})
    assert run("stats", "--json", url=url).exit_code == 0
