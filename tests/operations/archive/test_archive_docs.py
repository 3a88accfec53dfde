"""What docs/archive.md shows is so: its query runs as it is printed there, and its way to erase erases."""

import contextlib
import io
import re
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.operations.archive.archiving import MONTH, NAME, NOW, ODD, Archiving

pytest_plugins = ["tests.operations.archive.archive_fixtures"]
PAGE = (Path(__file__).parents[3] / "docs" / "archive.md").read_text(encoding="utf-8")


def test_the_query_runs_as_it_is_printed(
    archiving: Archiving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = archiving.odd_month(50)
    archiving.archive()
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code.replace("2025_03", "2024_02"), {})  # noqa: S102 - the page's own
    opened = Counter({made[0]: 50 + len(ODD) // 2, made[1]: len(ODD) // 2})
    assert printed.getvalue().strip() == str(
        [{"report_id": report, "report_id_count": count} for report, count in opened.most_common()]
    )


def test_a_deleted_report_leaves_the_archive_by_the_way_that_is_described(archiving: Archiving) -> None:
    gone, kept = archiving.odd_month()
    archiving.archive()
    archiving.owner.execute("DELETE FROM public.generated_reports WHERE id = %s", [gone])
    archiving.restore()
    (update,) = re.findall(r"`(UPDATE carnivore.archived_partitions SET keep_until .*?)`", PAGE)
    with archiving.engine.begin() as connection:
        assert connection.execute(text(update.replace("2025-03-01", str(MONTH)))).rowcount == 1
    (done,) = archiving.archive(now=archiving.one("SELECT now()")).done
    assert (done.name, {row[1] for row in archiving.file(done.file_url)}) == (NAME, {str(kept)})
    files = [path.name for path in Path(archiving.location).rglob("*.parquet")]
    assert files == ["part-0002.parquet"]


def test_an_archive_that_moved_is_found_again(archiving: Archiving, tmp_path: Path) -> None:
    archiving.odd_month()
    before = archiving.everything()
    archiving.archive()
    moved = tmp_path / "moved"
    Path(archiving.location).rename(moved)
    (update,) = re.findall(r"`(UPDATE carnivore.archived_partitions SET file_url .*?)`", PAGE)
    update = update.replace("s3://old/", Path(archiving.location).as_uri()).replace(
        "s3://new/", moved.as_uri()
    )
    archiving.owner.execute(update)
    assert archiving.everything() == before
    assert archiving.restore(now=NOW).rows == len(ODD)
