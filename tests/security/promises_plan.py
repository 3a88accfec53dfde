"""Which months are missing, and why: told once, and made one by one."""

from tests.security.personas import Session
from tests.security.registry import promise

THINGS, LEDGER = "public.things", "carnivore.archived_partitions"
AT = "2030-07-01 00:30+09"  # in UTC it is still June
# A partitioned table of its own, so that no month depends on the day of the test.
MADE = f"""
DELETE FROM carnivore.partitioned_tables; DELETE FROM {LEDGER};
CREATE TABLE {THINGS} (gone bigint, id bigint, at timestamptz NOT NULL) PARTITION BY RANGE (at);
ALTER TABLE {THINGS} DROP COLUMN gone;
CREATE TABLE {THINGS}_default PARTITION OF {THINGS} DEFAULT;
ALTER TABLE {THINGS}_default ENABLE ROW LEVEL SECURITY;
INSERT INTO carnivore.partitioned_tables (parent, area, holds) VALUES ('{THINGS}', 'weekly', 'Things');
"""
PLAN = (
    "SELECT to_char(month, 'YYYY-MM'), kind, reason, rows, rank"
    " FROM carnivore.partition_plan(%s, %s, %s) ORDER BY rank, month, parent"
)
THIS, NEXT = ("2030-06", "create", "this month", 0, 1), ("2030-07", "create", "next month", 0, 1)
HALF = ("2030-08-15", "2030-09-15")


def _made(
    s: Session, *parts: tuple[str, str], rows: dict[str, int] | None = None, archived: str = ""
) -> None:
    s.as_("owner").allows(MADE)
    for number, edges in enumerate(parts):
        lower, upper = (edge if edge.isalpha() else f"'{edge} 00:00+00'" for edge in edges)
        s.as_("owner").allows(
            f"CREATE TABLE {THINGS}_{number} PARTITION OF {THINGS} FOR VALUES FROM ({lower}) TO ({upper})"
        )
    for moment, count in (rows or {}).items():
        s.as_("owner").allows(
            f"INSERT INTO {THINGS} (at) SELECT %s::text::timestamptz FROM generate_series(1, %s)",
            [moment, count],
        )
    for month in archived.split():
        ledger = f"INSERT INTO {LEDGER} (parent, month, part, file_url) VALUES (%s, %s, 1, 'x')"
        s.as_("owner").allows(ledger, [THINGS, f"{month}-01"])
        # Another table's archive is none of its.
        s.as_("owner").allows(f"{ledger}, ('public.others', '2030-04-01', 1, 'x')", [THINGS, "2020-01-01"])


def _planned(s: Session, *arguments: object) -> list[tuple[object, ...]]:
    """The same in every time zone, and however dates are written."""
    found = []
    for zone, style in (("UTC", "ISO, MDY"), ("Asia/Tokyo", "German"), ("America/Los_Angeles", "SQL, DMY")):
        asker = s.as_("owner", time_zone=zone)
        asker.allows(f"SET LOCAL DateStyle = '{style}'")
        found.append(asker.rows(PLAN, [*arguments, AT]))
    asker.allows("SET LOCAL DateStyle = 'ISO, MDY'")
    assert found[0] == found[1] == found[2]
    return found[0]


def _conflict(month: str, reason: str, lower: str, upper: str, rows: int = 0) -> tuple[object, ...]:
    return month, "conflict", f"{reason}; a partition from {lower} to {upper} has a part of it", rows, 3


def _drain(month: str, rows: str, number: int = 1) -> tuple[object, ...]:
    return month, "drain", f"{rows} in the DEFAULT partition", number, 0


@promise("partition_plan clause")
def this_month_and_those_ahead_are_wanted_of_every_table(s: Session) -> None:
    _made(s)
    others = MADE[MADE.index("CREATE") :].replace("things", "others").replace("'Things'", "'Others'")
    s.as_("owner").allows(others)
    for table in (THINGS, "public.others"):
        ahead = [(table, *row) for row in (THIS, NEXT, ("2030-08", "create", "2 months ahead", 0, 1))]
        for number in range(3):
            rows = s.as_("owner").rows(PLAN.replace("SELECT", "SELECT parent,"), [number, False, AT])
            assert [row for row in rows if row[0] == table] == ahead[: number + 1]
    assert [row[0] for row in rows] == ["public.others", THINGS] * 3
    defaults = "SELECT * FROM carnivore.partition_plan({})"
    explicit = s.superuser.rows(defaults.format("3, false, now()"))
    assert len(explicit) == 8
    assert s.superuser.rows(defaults.format("3")) == explicit
    wrong = {"sqlstate": "23514", "constraint": "months_ahead_not_negative"}
    s.as_("owner").refused(PLAN, [-1, False, AT], **wrong)


@promise("partition_plan clause")
def rows_of_no_month_and_gaps_are_wanted_unless_they_are_archived_or_deleted_soon(s: Session) -> None:
    rows = {
        "2029-11-30 23:59:59.999999+00": 1,
        "2030-05-01 00:00+00": 1001,
        "2030-12-31 23:59:59+00": 2,
        "1999-12-31 23:59:59.999999+00": 1,
        "2100-01-01 00:00+00": 1,
        "infinity": 1,
    }
    months = (("2029-12-01", "2030-01-01"), ("2030-03-01", "2030-04-01"), ("2030-07-01", "2030-08-01"))
    _made(s, *months, HALF, rows=rows, archived="2030-02")
    old, waiting = (
        _drain("2029-11", "1 row"),
        [_drain("2030-05", "1,001 rows", 1001), _drain("2030-12", "2 rows", 2)],
    )
    april = ("2030-04", "create", "gap between 2030-03 and 2030-05", 0, 2)
    january = ("2030-01", "create", "gap between 2029-12 and 2030-03", 0, 2)
    never = (None, "left", "3 rows of no month from 2000 to 2099", 3, 5)
    assert _planned(s, 3, False) == [old, *waiting, THIS, january, april, *_ahead(2, 3), never]
    left = ("2029-11", "left", "1 row older than the table's are kept: deleted where they are", 1, 4)
    for kept, gaps in (("30 days", []), ("60 days", []), ("61 days", [april]), ("92 days", [april])):
        s.as_("owner").allows("UPDATE carnivore.partitioned_tables SET kept = %s", [kept])
        assert _planned(s, 1, False) == [*waiting, THIS, *gaps, left, never]
        assert _planned(s, 1, True) == [old, *waiting, THIS, *gaps, never]


def _ahead(*numbers: int) -> list[tuple[object, ...]]:
    return [_conflict(f"2030-0{6 + number}", f"{number} months ahead", *HALF) for number in numbers]


@promise("partition_plan clause")
def a_month_that_a_partition_has_a_part_of_is_for_a_person_to_settle(s: Session) -> None:
    with s.undone():
        rows = {"2030-03-20 00:00+00": 1, "2030-06-10 00:00+00": 1}
        _made(s, ("MINVALUE", "2030-03-15"), ("2030-08-15", "MAXVALUE"), rows=rows)
        assert _planned(s, 2, False) == [
            _drain("2030-06", "1 row"),
            NEXT,
            *((f"2030-0{month}", "create", "gap between 2030-03 and 2030-06", 0, 2) for month in (4, 5)),
            _conflict("2030-03", "1 row in the DEFAULT partition", "the beginning", "2030-03-15", 1),
            _conflict("2030-08", "2 months ahead", "2030-08-15", "the end"),
        ]
    _made(s, ("2030-03-15", "2030-05-10"), ("2030-07-01", "2030-07-15"), ("2030-07-15", "2030-08-01"))
    edges = ("gap before 2030-07", "2030-03-15", "2030-05-10")
    assert _planned(s, 2, False) == [
        THIS,
        ("2030-08", "create", "2 months ahead", 0, 1),
        _conflict("2030-03", *edges),
        _conflict("2030-05", *edges),
    ]


@promise("partition_plan clause")
def gaps_of_the_last_twelve_months_are_closed(s: Session) -> None:
    _made(s, ("2029-02-01", "2029-03-01"), ("2029-08-01", "2030-08-01"))
    gap = ("create", "gap between 2029-02 and 2029-08", 0, 2)
    assert _planned(s, 1, False) == [("2029-06", *gap), ("2029-07", *gap)]


@promise("partition_plan clause")
def gaps_begin_with_the_first_month_of_this_century_that_is_kept(s: Session) -> None:
    with s.undone():
        rows = {"2000-01-01 00:00+00": 1, "1999-12-31 00:00+00": 1}
        _made(s, ("1999-01-01", "1999-02-01"), ("2030-04-01", "2030-05-01"), rows=rows)
        never = (None, "left", "1 row of no month from 2000 to 2099", 1, 5)
        may = ("2030-05", "create", "gap between 2030-04 and 2030-06", 0, 2)
        months = [
            "2029-06",
            "2029-07",
            "2029-08",
            "2029-09",
            "2029-10",
            "2029-11",
            "2029-12",
            "2030-01",
            "2030-02",
            "2030-03",
        ]
        between = [(month, "create", "gap between 2000-01 and 2030-04", 0, 2) for month in months]
        assert _planned(s, 1, False) == [_drain("2000-01", "1 row"), THIS, NEXT, *between, may, never]
    with s.undone():
        _made(s, ("1999-01-01", "1999-02-01"))
        assert _planned(s, 1, False) == [THIS, NEXT]
    _made(s, rows={"2030-02-28 23:59:59+00": 1, "2030-05-01 00:00+00": 1})
    february, may = _drain("2030-02", "1 row"), _drain("2030-05", "1 row")
    gaps = [(month, "create", "gap between 2030-02 and 2030-05", 0, 2) for month in ("2030-03", "2030-04")]
    old = ("2030-02", "left", "1 row older than the table's are kept: deleted where they are", 1, 4)
    plan = "SELECT kind FROM carnivore.partition_plan(1, at => %s) ORDER BY rank, month"
    for kept, keep, wanted in (
        (None, False, [february, may, THIS, NEXT, *gaps]),
        ("122 days", False, [february, may, THIS, NEXT, *gaps]),
        ("121 days", False, [may, THIS, NEXT, old]),
        ("121 days", True, [february, may, THIS, NEXT, *gaps]),
    ):
        s.as_("owner").allows("UPDATE carnivore.partitioned_tables SET kept = %s", [kept])
        assert _planned(s, 1, keep) == wanted
        if not keep:
            assert [kind for (kind,) in s.as_("owner").rows(plan, [AT])] == [row[1] for row in wanted]


@promise("create_next_partition create_partition clause")
def the_first_month_that_can_be_made_is_made_and_what_cannot_is_told_last(s: Session) -> None:
    call = "SELECT carnivore.create_next_partition(%s, %s)"
    months = "SELECT count(*) FROM pg_inherits WHERE inhparent = %s::text::regclass"
    rows = {"2001-01-15 00:00+00": 1, "2003-04-01 00:00+00": 1}
    left = f"SELECT count(*)::int FROM {THINGS}_default"
    for keep, kept in ((False, None), (False, "1 year"), (True, "1 year")):
        with s.undone():
            _made(s, rows=rows)
            s.as_("owner").allows("UPDATE carnivore.partitioned_tables SET kept = %s", [kept])
            # Those that rows wait for, three months from this one on, and the gaps of a year.
            old = 2 if keep or kept is None else 0
            for number in range(1, 1 + (old + 3 + 12 if old else 3)):
                assert s.as_("owner").value(call, [2, keep]) == 1
                assert s.superuser.value(months, [THINGS]) == 1 + number
                assert s.superuser.value(left) == 2 - min(number, old)
            assert s.as_("owner").value(call, [2, keep]) == 0
    wrong = {"sqlstate": "23514"}
    for parts, rule in (((("2001-01-20", "2001-02-01"),), "month_overlaps"), ((), "partition_valid")):
        with s.undone():
            _made(s, *parts, rows=rows)
            if not parts:
                s.as_("owner").allows(f"CREATE TABLE {THINGS}_2001_01 (id bigint)")
            for _ in range(1 + 1 + 12):
                assert s.as_("owner").value(call, [0, False]) == 1
            s.as_("owner").refused(call, [0, False], constraint=rule, **wrong)
    for state in ("55P03", "40P01"):
        with s.undone():
            _made(s, rows=rows)
            s.superuser.allows(
                "CREATE OR REPLACE FUNCTION carnivore.create_partition(parent regclass, month date)"
                " RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN IF month < '2003-01-01'"
                f" THEN RAISE 'x' USING ERRCODE = '{state}'; END IF; RETURN true; END $$"
            )
            s.as_("owner").refused(call, [0, False], sqlstate=state)
