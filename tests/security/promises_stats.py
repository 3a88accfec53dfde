"""Sizes: one sample a day and relation, noted in UTC, kept for 400 days, and the owner's alone to note."""

from tests.security.personas import OWNERS, Session
from tests.security.registry import promise
from tests.security.rows import insertion
from tests.security.rules import UNIQUE, good_rows, required

SIZES = "carnivore.partition_sizes"
RECORD = "SELECT carnivore.record_partition_sizes()"
# At any moment it is another day than in UTC in one of them.
ZONES = ("Etc/GMT-14", "Etc/GMT+12")
TODAY = "(now() AT TIME ZONE 'UTC')::date"

required({SIZES: "bytes"})
good_rows({SIZES: [{"rows": None}]})


@promise(f"{SIZES} partition_sizes_pkey")
def a_relation_has_one_sample_a_day(s: Session) -> None:
    asker = s.as_("superuser", triggers="origin")
    asker.allows(*insertion(SIZES), rows=1)
    asker.refused(*insertion(SIZES), sqlstate=UNIQUE, constraint="partition_sizes_pkey")
    asker.allows(*insertion(SIZES, relation="public.other"), rows=1)
    asker.allows(*insertion(SIZES, day="2026-03-03"), rows=1)


# Table by table and partition by partition; a partitioned table is as large as its parts.
SAMPLED = """
WITH parts AS (
    SELECT oid, relnamespace, relname, pg_total_relation_size(oid) AS bytes,
        CASE WHEN reltuples >= 0 THEN reltuples END::bigint AS rows FROM pg_class WHERE relkind = 'r'
), whole AS (
    SELECT * FROM parts UNION ALL
    SELECT p.oid, p.relnamespace, p.relname, sum(bytes), sum(rows)
    FROM pg_class AS p JOIN pg_inherits ON inhparent = p.oid JOIN parts ON parts.oid = inhrelid
    WHERE p.relkind = 'p' GROUP BY p.oid, p.relnamespace, p.relname
)
SELECT nspname || '.' || relname, bytes::bigint, rows::bigint
FROM whole JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE nspname IN ('analytics', 'carnivore', 'conversation', 'public', 'vocabulary') ORDER BY 1
"""


@promise(f"{SIZES} record_partition_sizes clause")
def todays_sample_is_what_is_there_today_in_utc(s: Session) -> None:
    # An empty table was looked at, too.
    s.superuser.allows("DELETE FROM vocabulary.abandoned_export_files")
    s.superuser.allows("ANALYZE vocabulary.abandoned_export_files, conversation.logs_default")
    for persona in OWNERS:
        for zone in ZONES:
            with s.undone():
                s.superuser.allows(f"DELETE FROM {SIZES}")
                asker = s.as_(persona, time_zone=zone)
                sampled = asker.value(RECORD)
                assert s.superuser.rows(f"SELECT DISTINCT day FROM {SIZES}") == s.superuser.rows(
                    f"SELECT {TODAY}"
                )
                for again in (False, True):
                    if again:
                        s.superuser.allows(f"UPDATE {SIZES} SET bytes = 0, rows = -1")
                        assert asker.value(RECORD) == sampled
                    there = s.superuser.rows(SAMPLED)
                    found = s.superuser.rows(f"SELECT relation, bytes, rows FROM {SIZES} ORDER BY 1")
                    # The samples themselves grow meanwhile.
                    assert [row for row in found if row[0] != SIZES] == [
                        row for row in there if row[0] != SIZES
                    ]
                    assert len(found) == sampled


@promise(f"{SIZES} record_partition_sizes clause")
def samples_go_after_400_days(s: Session) -> None:
    s.superuser.allows(
        f"INSERT INTO {SIZES} SELECT {TODAY} - age, 'public.gone', 1, 1"
        " FROM unnest(ARRAY[399, 400, 401, 800]) AS age"
    )
    for persona in OWNERS:
        for zone in ZONES:
            with s.undone():
                s.as_(persona, time_zone=zone).allows(RECORD)
                kept = f"SELECT {TODAY} - day FROM {SIZES} WHERE relation = 'public.gone' ORDER BY 1"
                assert s.superuser.rows(kept) == [(399,), (400,)]


@promise("record_partition_sizes search_path")
def no_sample_is_taken_by_what_the_owners_search_path_names(s: Session) -> None:
    s.superuser.allows(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;"
        " CREATE FUNCTION evil.pg_total_relation_size(oid) RETURNS bigint LANGUAGE sql AS 'SELECT -1::bigint'"
    )
    s.as_("owner", search_path="evil, pg_catalog").allows(RECORD)
    s.superuser.sees_nothing(f"SELECT FROM {SIZES} WHERE bytes < 0")
