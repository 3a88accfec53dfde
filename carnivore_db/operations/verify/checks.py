"""Is this database what the package says it is? The twelve checks of `carnivore-db verify`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection

from carnivore_db.operations.partitions.findings import Finding, partition_findings
from carnivore_db.operations.verify import probes, roles
from carnivore_db.operations.verify.probes import COUNT_LIMIT, Refused
from carnivore_db.schema import files
from carnivore_db.schema.diff import Difference, compare, ignored
from carnivore_db.schema.migrations import AreaState
from carnivore_db.schema.session import set_local, undone
from carnivore_db.schema.snapshot import INSTANCES, PARTITIONS, Snapshot, take

Status = Literal["ok", "differs", "skipped"]

_LIMITS = {"statement_timeout": "30s", "lock_timeout": "2s"}
_TITLES = {
    1: "Tables",
    2: "Columns",
    3: "Partitions",
    4: "Indexes",
    5: "Triggers",
    6: "Functions",
    7: "Row security and grants",
    8: "Constraints",
    9: "Foreign keys",
    10: "Insert test",
    11: "Statistics",
    12: "Status",
}
_SECTION_OF = {
    "schemas": 1,
    "tables": 1,
    "columns": 2,
    "types": 2,
    "sequences": 2,
    PARTITIONS: 3,
    INSTANCES: 3,
    "indexes": 4,
    "statistics": 4,
    "triggers": 5,
    "rules": 5,
    "functions": 6,
    "policies": 7,
    "grants": 7,
    "constraints": 8,
    "foreign_keys": 9,
}
# Who may do what is one question, wherever the catalog keeps the answer.
_ACCESS_FIELDS = {
    "schemas": ("acl",),
    "sequences": ("acl",),
    "tables": ("row_security", "row_security_forced"),
}


@dataclass(frozen=True, slots=True)
class Section:
    """One check: what it found wrong, and facts worth knowing when nothing is."""

    number: int
    title: str
    status: Status
    differences: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """The twelve sections, in order."""

    taken_at: datetime
    sections: list[Section]

    @property
    def ok(self) -> bool:
        """No section differs. A skipped one says why in its facts."""
        return all(s.status != "differs" for s in self.sections)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "ok": self.ok,
            "taken_at": self.taken_at.astimezone(UTC).isoformat(),
            "sections": [
                {
                    "number": s.number,
                    "title": s.title,
                    "status": s.status,
                    "differences": s.differences,
                    "facts": s.facts,
                }
                for s in self.sections
            ],
        }


def verify(
    connection: Connection,
    *,
    now: datetime,
    months_ahead: int,
    ignore: Sequence[str] = (),
    expected: Snapshot | None = None,
) -> Report:
    """Compare a live database with the snapshots of what is installed, and try an insert that is undone.

    In: `now` with a time zone; how many months beyond the current one need a partition; fnmatch
    patterns of objects that are none of ours (`public.my_table`); another snapshot than the
    package's, if need be.
    Safe on production: one transaction, rolled back, no statement over 30 seconds, no wait for a
    lock over 2. No table is read in full, no sequence moves, nothing stays.

    Raises ValueError for a `now` without time zone, RuntimeError on a connection in autocommit
    mode, FileNotFoundError without a snapshot, sqlalchemy.exc.OperationalError when reading the
    catalog hits one of the limits.
    """
    with undone(connection, one_view=True):
        set_local(connection, _LIMITS)
        areas = probes.areas(connection)
        installed = (
            probes.apparent(connection) if isinstance(areas, Refused) else [state.area for state in areas]
        )
        model = files.expected(*installed) if expected is None else expected
        live = take(connection, probes.schemas(connection, model))
        server = probes.server(connection)
        sections = _compared(compare(model, live, ignore=ignore), live)
        sections[6] = _roles(sections[6], connection, ignore)
        ours = _our_partitions(model, live, ignore)
        archived = probes.archived_months(connection)
        sections[2] = _partitions(
            sections[2],
            [f for f in partition_findings(ours, now, months_ahead) if (f.table, f.month) not in archived],
            probes.default_partition_rows(connection, ours),
        )
        sections += [_insert(connection, server, model), _statistics(connection, model, live)]
        changed = probes.collations(connection, list(live["schemas"]))
        if "conversation" in installed:
            without = probes.logins_without_profile(connection)
            server["logins_without_profile"] = without.reason if isinstance(without, Refused) else without
        sections.append(_status(sections, server, areas, probes.jobs(connection), changed))
    return Report(now, sections)


def _our_partitions(model: Snapshot, live: Snapshot, ignore: Sequence[str]) -> Snapshot:
    """Only the partitioned tables that are the package's: how others are kept is not our say."""
    tables = {
        name: partitioning
        for name, partitioning in live[PARTITIONS].items()
        if name in model.get(PARTITIONS, {}) and not ignored(name, ignore)
    }
    instances = {name: i for name, i in live[INSTANCES].items() if i["parent"] in tables}
    return {PARTITIONS: tables, INSTANCES: instances}


def _compared(differences: Iterable[Difference], live: Snapshot) -> list[Section]:
    """Sections 1 to 9: each difference where a reader would look for it."""
    sorted_out: dict[int, list[str]] = {number: [] for number in range(1, 10)}
    for difference in differences:
        access = difference.field in _ACCESS_FIELDS.get(difference.kind, ())
        number = 7 if access else _SECTION_OF.get(difference.kind, 1)
        sorted_out[number].append(difference.describe())
    counts = dict.fromkeys(sorted_out, 0)
    for kind, number in _SECTION_OF.items():
        counts[number] += len(live[kind])
    return [
        Section(n, _TITLES[n], "differs" if found else "ok", found, {"objects": counts[n]})
        for n, found in sorted_out.items()
    ]


def _roles(section: Section, connection: Connection, ignore: Sequence[str]) -> Section:
    found = [line for line in roles.problems(connection) if not ignored(line.partition(":")[0], ignore)]
    differences = [*section.differences, *found]
    return Section(
        section.number, section.title, "differs" if differences else "ok", differences, section.facts
    )


def _partitions(
    section: Section, findings: Sequence[Finding], default_rows: Mapping[str, int | Refused]
) -> Section:
    problems = [*section.differences, *(f.describe() for f in findings if not f.past)]
    facts = dict(section.facts)
    # Past months take no new rows; a history that starts late, or has a hole, is told as a fact.
    if past := [f"{f.table} {f.month:%Y-%m}" for f in findings if f.past]:
        facts["past_months_without_partition"] = past
    facts["default_rows"] = _counts(default_rows)
    for name, rows in default_rows.items():
        if isinstance(rows, int) and rows:
            shown = f"more than {COUNT_LIMIT}" if rows > COUNT_LIMIT else str(rows)
            problems.append(f"partition {name}: {shown} rows that belong to a month")
    return Section(section.number, section.title, "differs" if problems else "ok", problems, facts)


def _counts(counts: Mapping[str, int | Refused]) -> dict[str, int | str]:
    return {
        table: f"not counted: {rows.reason}" if isinstance(rows, Refused) else rows
        for table, rows in counts.items()
    }


def _insert(connection: Connection, server: Mapping[str, Any], model: Snapshot) -> Section:
    number = 10
    if "public.report_access_log" not in model.get("tables", {}):
        return Section(
            number, _TITLES[number], "skipped", facts={"reason": "the area weekly is not installed"}
        )
    if server["standby"] or server["read_only"]:
        reason = "the server is a standby" if server["standby"] else "transactions are read-only"
        return Section(number, _TITLES[number], "skipped", facts={"reason": reason})
    if not probes.may_insert(connection):
        reason = "the connected role may not insert"
        return Section(number, _TITLES[number], "skipped", facts={"reason": reason})
    outcome = probes.insert_test(connection)
    if isinstance(outcome, Refused):
        return Section(number, _TITLES[number], "differs", [f"refused: {outcome.reason}"])
    problems = []
    if outcome["access_count"] != 1:
        problems.append(f"one access was logged, and access_count is {outcome['access_count']}")
    return Section(number, _TITLES[number], "differs" if problems else "ok", problems, outcome)


def _statistics(connection: Connection, model: Snapshot, live: Snapshot) -> Section:
    number = 11
    tables = probes.statistics(connection, model.get("tables", {}))
    if isinstance(tables, Refused):
        return Section(number, _TITLES[number], "skipped", facts={"reason": tables.reason})
    facts: dict[str, Any] = {"tables": tables, "bytes": sum(t["bytes"] for t in tables)}
    facts["pending"] = _counts(probes.pending_deltas(connection, live))
    return Section(number, _TITLES[number], "ok", facts=facts)


def _status(
    sections: Sequence[Section],
    server: Mapping[str, Any],
    areas: list[AreaState] | Refused,
    jobs: list[dict[str, Any]] | Refused,
    collations: Sequence[str],
) -> Section:
    differing = [s for s in sections if s.status == "differs"]
    summary = [f"section {s.number} ({s.title}): {len(s.differences)}" for s in differing]
    if isinstance(areas, Refused):
        summary.append(f"what is installed is unknown: {areas.reason}")
        shown: list[str] = []
    else:
        shown = [f"{state.area} at {state.revision}" for state in areas]
        summary += [
            f"area {state.area} is at revision {state.revision}, this package's is {state.latest}"
            for state in areas
            if not state.current
        ]
    summary += collations
    summary += [_overdue(job) for job in jobs if job["overdue"]] if isinstance(jobs, list) else []
    facts = {
        **server,
        "areas": shown,
        "differences": sum(len(s.differences) for s in differing),
        "skipped": [s.number for s in sections if s.status == "skipped"],
        "jobs": f"not read: {jobs.reason}" if isinstance(jobs, Refused) else [_last_run(j) for j in jobs],
    }
    return Section(12, _TITLES[12], "differs" if summary else "ok", summary, facts)


def _last_run(job: Mapping[str, Any]) -> str:
    """When a job last ran, and what came of it."""
    if job["last_finished_at"] is None:
        return f"{job['job']} never"
    moment = f"{job['job']} {job['last_finished_at'].astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return moment if job["last_error"] is None else f"{moment} failed ({job['last_error']})"


def _overdue(job: Mapping[str, Any]) -> str:
    """A job that has not ended well for too long."""
    moment = job["last_succeeded_at"]
    last = "it never succeeded" if moment is None else f"it last succeeded at {moment.astimezone(UTC):%F %T}"
    error = "" if job["last_error"] is None else f", the last error is {job['last_error']}"
    return f"job {job['job']} is overdue: {last}, expected every {job['every']}{error}"
