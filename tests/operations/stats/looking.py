"""Ways to look: the command as an operator types it, and what it leaves in a file."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, create_engine, pool

from carnivore_db.operations.stats.read import Growth, Months, Partition, Stats, Table, read
from carnivore_db.settings import Settings
from tests.cli.running import run
from tests.support.databases import TestDatabase

LOG, CHAT = "public.report_access_log", "conversation.logs"
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
Metrics = dict[tuple[str, frozenset[str]], float]


@dataclass(frozen=True)
class Seen:
    """What one look showed: exit status, JSON, and the metrics by name and label values."""

    status: int
    report: dict[str, Any]
    metrics: Metrics

    @property
    def alerts(self) -> list[tuple[str, str]]:
        return [(alert["code"], alert["subject"]) for alert in self.report["alerts"]]

    def metric(self, name: str, *labels: str) -> float | None:
        return self.metrics.get((f"carnivore_db_{name}", frozenset(labels)))


def look(database: TestDatabase, folder: Path, **environment: str) -> Seen:
    """Run `carnivore-db stats --json --prometheus`."""
    file = folder / "carnivore.prom"
    outcome = run("stats", "--json", "--prometheus", str(file), url=database.migrator_url, **environment)
    assert outcome.exit_code in {0, 1}, outcome.output
    return Seen(outcome.exit_code, json.loads(outcome.output), parsed(file))


def parsed(file: Path) -> Metrics:
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(file.read_text(encoding="utf-8"))
        for sample in family.samples
    }


@contextmanager
def opened(database: TestDatabase) -> Iterator[Connection]:
    engine = create_engine(database.migrator_url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        yield connection


def read_at(database: TestDatabase, now: datetime = NOON) -> Stats:
    with opened(database) as connection:
        return read(connection, Settings(), now=now)


def made(
    months: int,
    *,
    default_rows: int = 0,
    growth: Growth | None = None,
    samples: Sequence[tuple[date, int]] = (),
) -> Stats:
    """Statistics of a database with so many months of accesses from January 2017 on, each a MiB larger."""
    labels = [f"{2017 + number // 12}-{number % 12 + 1:02d}" for number in range(months)]
    parts = [
        Partition(LOG, f"{LOG}_{label.replace('-', '_')}", label, (number + 1) * 2**20, 1000 * number, None)
        for number, label in enumerate(labels)
    ]
    parts.append(Partition(LOG, f"{LOG}_default", "default", 24576, None, default_rows))
    size = sum(part.bytes for part in parts)
    tables = [Table(LOG, 1000, size, growth, list(samples)), Table(CHAT, None, 2**10, None, [])]
    nothing = {"addresses": 0, "burst": 0, "after_end": 0}
    known = [Months(CHAT, -1, []), Months(LOG, 3, [])]
    return Stats(NOON, "shop[red]$x$", tables, parts, known, 0, [], nothing, 7)
