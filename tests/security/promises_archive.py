"""The archive's ledger: one row a file, its facts whole, nobody's but the owner's; restored logs stay."""

from datetime import date

from tests.security.objects import partitions
from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.registry import promise
from tests.security.rows import GOOD, NOW, insertion
from tests.security.rules import CHECK, UNIQUE, counter_examples, defaults, good_rows, required

LEDGER, LOGS = "carnivore.archived_partitions", "conversation.logs"
BEGUN = ("parent", "month", "part", "file_url")
FACTS = ("rows", "sha256", "bytes_before", "bytes_after", "detached_at")

required({LEDGER: "parent month part file_url begun_at"})
defaults({LEDGER: (BEGUN, "begun_at = now() AND detached_at IS NULL AND dropped_at IS NULL")})
counter_examples({(LEDGER, "facts_with_dropped", CHECK): [{fact: None} for fact in FACTS]})
good_rows(
    {
        LEDGER: [
            {"dropped_at": None},
            {"dropped_at": None, **dict.fromkeys(FACTS)},
            {"dropped_at": None, "rows": None},
            {"restored_as": "public.report_access_log", "keep_until": NOW},
        ]
    }
)


@promise(f"{LEDGER} archived_partitions_pkey")
def a_file_of_a_month_is_in_the_ledger_once(s: Session) -> None:
    s.as_("owner").allows(*insertion(LEDGER), rows=1)
    s.as_("owner").refused(*insertion(LEDGER), sqlstate=UNIQUE, constraint="archived_partitions_pkey")
    for change in ({"parent": LOGS}, {"month": date(2020, 2, 1)}, {"part": 2}):
        s.as_("owner").allows(*insertion(LEDGER, **change), rows=1)


@promise(f"{LEDGER} {LOGS} delete_old_logs carnivore.due_log_months clause partition")
def restored_logs_stay_until_their_time_is_over(s: Session) -> None:
    months = {"kept": "2021-03-01", "over": "2021-04-01", "other": "2021-05-01", "never": "2021-06-01"}
    names = {what: f"conversation.logs_{month[:7].replace('-', '_')}" for what, month in months.items()}
    for month in months.values():
        s.as_("owner").allows(f"SELECT carnivore.create_partition('{LOGS}', '{month}')")
    for what, until in (("kept", "interval '1 hour'"), ("over", "interval '0'")):
        row = {**GOOD[LEDGER], "parent": LOGS, "month": months[what], "restored_as": names[what]}
        s.as_("owner").allows(*insertion(LEDGER, **row), rows=1)
        s.as_("owner").allows(
            f"UPDATE {LEDGER} SET keep_until = now() + {until} WHERE month = '{months[what]}'", rows=1
        )
    # In the archive, and not restored: a partition of late rows is what any other is.
    s.as_("owner").allows(*insertion(LEDGER, parent=LOGS, month=months["other"]), rows=1)
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            s.as_(persona).allows("SELECT conversation.delete_old_logs()")
            assert set(partitions(s, LOGS)) & set(names.values()) == {names["kept"]}
            gone = f"SELECT metadata -> 'partitions' FROM {LOGS} WHERE event_type = 'cleanup_job_executed'"
            assert s.superuser.value(gone) == ["logs_2021_04", "logs_2021_05", "logs_2021_06"]


@promise(f"{LEDGER} refuse_archived clause")
def months_in_cold_storage_are_not_taken_back_with_their_table(s: Session) -> None:
    call = "SELECT carnivore.refuse_archived(%s)"
    needs = {"sqlstate": "23000", "constraint": "needs_decision"}
    for persona in OWNERS:
        with s.undone():
            s.as_("owner").allows(f"DELETE FROM {LEDGER}")
            s.as_("owner").allows(*insertion(LEDGER, parent=LOGS, dropped_at=None, detached_at=None), rows=1)
            s.as_("owner").allows(*insertion(LEDGER), rows=1)
            s.as_(persona).refused(call, [GOOD[LEDGER]["parent"]], **needs)
            s.as_(persona).allows(call, [LOGS], rows=1)
            s.as_(persona).refused(call, [GOOD[LEDGER]["parent"]], **needs)
