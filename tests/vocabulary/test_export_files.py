"""CSV and JSON hold what the database holds: the learner's own sessions that were chosen, and no others."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from carnivore_db.vocabulary.exports import worker as export_worker
from carnivore_db.vocabulary.models import Export, ExportType, LearningSession
from tests.vocabulary.export_support import NOON, SERVICE, Exporting, Folder, Row, read_csv, read_json

pytest_plugins = ["tests.vocabulary.export_fixtures"]

READERS: dict[ExportType, Callable[[bytes], list[Row]]] = {"csv": read_csv, "json": read_json}
HOUR = timedelta(hours=1)
# What breaks a careless CSV or JSON file.
ODD = 'a,"b"\n;\r\n\t\\ \x1f \u2028 Ωß漢字 \U0001f431 </script> =1+1'

EACH = pytest.mark.parametrize("export_type", list(READERS))


def contents(
    exporting: Exporting, folder: Folder, learner: UUID, kind: ExportType, **chosen: Any
) -> list[Row]:
    """The sessions in the file of a new export."""
    export = exporting.make(folder.location, learner, kind, **chosen)
    (content,) = (found for name, found in folder.files().items() if str(export.id) in name)
    assert export.file_size_bytes == len(content)
    sessions = READERS[kind](content)
    assert export.records_count == len(sessions)
    return sessions


@EACH
def test_a_file_holds_every_session_as_it_is(
    exporting: Exporting, folder: Folder, export_type: ExportType
) -> None:
    ada = exporting.learner()
    exporting.learn(ada, 50)  # more than are fetched at a time
    exporting.learn(
        ada,
        2,
        session_type="mixed",
        started_at=NOON + timedelta(days=1, microseconds=1),
        ended_at=NOON + timedelta(days=2),
        images_processed=1,
        descriptions_generated=2,
        qa_attempts=4,
        qa_correct=3,
        vocabulary_learned=5,
        phrases_saved=6,
        engagement_score=0.07,
        completion_rate=1,
        device_type=ODD[:50],
        session_data={ODD: [ODD, None, 1.5, True, {"deep": [[]]}], "vocabulary": "no list"},
    )
    in_the_database = exporting.sessions(ada)
    assert len(in_the_database) == 52
    assert contents(exporting, folder, ada, export_type) == in_the_database


@EACH
def test_moments_are_utc_whatever_the_connections_zone(
    exporting: Exporting, folder: Folder, export_type: ExportType
) -> None:
    ada = exporting.learner()
    exporting.learn(ada, ended_at=NOON + HOUR)
    exporting.ask(ada, export_type)
    with exporting.far_east() as elsewhere:
        assert [outcome.status for outcome in elsewhere.work(folder.location)] == ["completed"]
    (content,) = folder.files().values()
    assert b"2026-05-01T12:01:00+00:00" in content
    assert b"2026-05-01T13:00:00+00:00" in content


@EACH
def test_a_file_has_names_for_what_it_holds(
    exporting: Exporting, folder: Folder, export_type: ExportType
) -> None:
    ada = exporting.learner()
    exporting.learn(ada, 2, ended_at=NOON + HOUR, engagement_score=0.25)
    export = exporting.make(folder.location, ada, export_type)
    (content,) = folder.files().values()
    if export_type == "csv":
        assert content.decode().splitlines()[0].split(",")[:2] == ["id", "session_type"]
        return
    whole = json.loads(content)
    assert set(whole) == {"user_id", "sessions"}
    assert whole["user_id"] == str(ada) == str(export.user_id)
    assert whole["sessions"][0]["engagement_score"] == 0.25
    assert whole["sessions"][0]["session_data"] == {}


@EACH
@pytest.mark.parametrize("number", [0, 1, 40])
def test_a_file_of_any_length_is_whole(
    exporting: Exporting, folder: Folder, export_type: ExportType, number: int
) -> None:
    ada = exporting.learner()
    exporting.learn(ada, number)
    assert contents(exporting, folder, ada, export_type) == exporting.sessions(ada)


@pytest.mark.parametrize("zone", [UTC, timezone(-timedelta(hours=11, minutes=30))])
def test_since_and_until_are_half_open_in_any_zone(
    exporting: Exporting, folder: Folder, zone: timezone
) -> None:
    ada = exporting.learner()
    instants = [NOON + timedelta(microseconds=number) for number in range(-1, 3)]
    for instant in instants:
        exporting.learn(ada, started_at=instant - timedelta(minutes=1))
    first, *_, last = (instant.astimezone(zone) for instant in instants)

    def started(**chosen: datetime) -> list[datetime]:
        found = contents(exporting, folder, ada, "csv", **chosen)
        return [session["started_at"] for session in found]

    assert started() == instants
    assert started(since=first) == instants
    assert started(since=first + timedelta(microseconds=1)) == instants[1:]
    assert started(until=last) == instants[:-1]
    assert started(since=instants[1].astimezone(zone), until=instants[2].astimezone(zone)) == instants[1:2]
    assert started(since=last, until=first) == []


def test_types_and_ended_sessions_can_be_chosen(exporting: Exporting, folder: Folder) -> None:
    ada = exporting.learner()
    for session_type in ("description", "qa", "vocabulary", "mixed"):
        exporting.learn(ada, session_type=session_type)
        exporting.learn(ada, session_type=session_type, ended_at=NOON + HOUR)
    for chosen, where in (
        ({}, "true"),
        ({"session_types": None, "ended_only": False}, "true"),
        ({"session_types": ["qa"]}, "session_type = 'qa'"),
        ({"session_types": ["qa", "mixed", "qa"]}, "session_type IN ('qa', 'mixed')"),
        ({"session_types": []}, "false"),
        ({"ended_only": True}, "ended_at IS NOT NULL"),
        (
            {"ended_only": True, "session_types": ["description"], "since": NOON},
            "ended_at IS NOT NULL AND session_type = 'description'",
        ),
    ):
        found = contents(exporting, folder, ada, "csv", **chosen)
        assert found == exporting.sessions(ada, where), chosen


def test_nobody_elses_sessions_are_in_a_file(exporting: Exporting, folder: Folder) -> None:
    ada, eve = exporting.learner(), exporting.learner()
    for who in (eve, ada, None, eve):
        exporting.learn(who, 3, session_data={"mine": str(who)})
    found = contents(exporting, folder, ada, "csv")
    assert [session["session_data"] for session in found] == [{"mine": str(ada)}] * 3


def test_row_security_itself_keeps_others_sessions_out(
    exporting: Exporting, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, eve = exporting.learner(), exporting.learner()
    for who in (eve, ada, None):
        exporting.learn(who, 3)

    def everything(export: Export | None, *what: Any) -> Any:
        return select(*what).select_from(LearningSession)

    monkeypatch.setattr(export_worker, "_chosen", everything)
    with exporting.db.transaction(SERVICE) as tx:
        assert tx.scalar(everything(None, func.count())) == 9
    assert contents(exporting, folder, ada, "csv") == exporting.sessions(ada)


@pytest.mark.parametrize(
    "filters",
    [
        '{"user_id": null}',
        '{"since": "soon"}',
        '{"session_types": ["qa\' OR true --"]}',
        '{"ended_only": []}',
    ],
)
def test_an_export_with_tampered_filters_fails_and_shows_nothing(
    exporting: Exporting, folder: Folder, filters: str
) -> None:
    ada, eve = exporting.learner(), exporting.learner()
    exporting.learn(eve, 3)
    tampered, sound = exporting.ask(ada), exporting.ask(ada)
    exporting.tamper(tampered, filters=filters)
    assert [outcome.status for outcome in exporting.work(folder.location)] == ["failed", "completed"]
    assert exporting.row(tampered)["error_message"] == "ValidationError"
    (name,) = folder.files()
    assert str(sound) in name


def test_an_export_that_was_handed_over_meanwhile_shows_the_asking_learners_sessions(
    exporting: Exporting, folder: Folder
) -> None:
    ada, eve = exporting.learner(), exporting.learner()
    exporting.learn(ada, 2)
    exporting.learn(eve, 3)
    key = exporting.ask(ada)
    exporting.work(folder.location, on_progress=lambda *_: exporting.tamper(key, user_id=eve))
    (content,) = folder.files().values()
    assert read_csv(content) == exporting.sessions(ada)
