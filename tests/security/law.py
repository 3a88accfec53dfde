"""The law of progress, told a second time: what a learner's ended sessions add up to, counted in Python."""

from collections.abc import Sequence
from datetime import UTC, date, timedelta
from typing import Any

from tests.security.personas import Session
from tests.security.seed import ADA

COUNTED = {
    "total_descriptions": "descriptions_generated",
    "total_images": "images_processed",
    "total_questions_answered": "qa_attempts",
    "total_questions_correct": "qa_correct",
    "total_vocabulary_learned": "vocabulary_learned",
    "total_phrases_saved": "phrases_saved",
    "total_time_spent_minutes": "duration_minutes",
}
# The latest session of this type, or that counted one of these.
LATEST = {
    "last_description_at": ("description", "descriptions_generated"),
    "last_qa_session_at": ("qa", "qa_attempts"),
    "last_vocabulary_practice_at": ("vocabulary", "vocabulary_learned"),
}
COLUMNS = (
    *COUNTED,
    *LATEST,
    "total_sessions",
    "last_activity_at",
    "current_streak_days",
    "longest_streak_days",
    "last_streak_date",
)
Found = dict[str, Any]


def _streaks(days: Sequence[date]) -> list[int]:
    """The lengths of the rows of days that follow each other, the latest last."""
    lengths: list[int] = []
    for number, day in enumerate(days):
        if number and day - days[number - 1] == timedelta(days=1):
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths


def counted(sessions: Sequence[Found]) -> Found:
    days = sorted({session["ended_at"].astimezone(UTC).date() for session in sessions})
    lengths = _streaks(days)
    found: Found = {
        total: sum(session[counter] for session in sessions) for total, counter in COUNTED.items()
    }
    for latest, (kind, counter) in LATEST.items():
        moments = [one["ended_at"] for one in sessions if one["session_type"] == kind or one[counter]]
        found[latest] = max(moments, default=None)
    return found | {
        "total_sessions": len(sessions),
        "last_activity_at": max((session["ended_at"] for session in sessions), default=None),
        "current_streak_days": lengths[-1] if lengths else 0,
        "longest_streak_days": max(lengths, default=0),
        "last_streak_date": days[-1] if days else None,
    }


def the_law(s: Session) -> None:
    """Every learner has one row of progress, and it is what their ended sessions add up to."""
    names = ("session_type", "ended_at", *COUNTED.values())
    sessions: dict[Any, list[Found]] = {
        key: [] for (key,) in s.superuser.rows("SELECT id FROM vocabulary.users")
    }
    these = "FROM vocabulary.sessions WHERE user_id IS NOT NULL AND ended_at IS NOT NULL"
    for key, *row in s.superuser.rows(f"SELECT user_id, {', '.join(names)} {these}"):
        sessions[key].append(dict(zip(names, row, strict=True)))
    rows = s.superuser.rows(f"SELECT user_id, {', '.join(COLUMNS)} FROM vocabulary.user_progress")
    assert sorted(key for key, *_ in rows) == sorted(sessions), "not one row of progress for each learner"
    for key, *row in rows:
        stored, wanted = dict(zip(COLUMNS, row, strict=True)), counted(sessions[key])
        wrong = {name: (stored[name], wanted[name]) for name in COLUMNS if stored[name] != wanted[name]}
        assert not wrong, f"stored and counted differ: {wrong}"


def ended(*moments: str, whose: str = ADA, kind: str = "mixed", counts: str = "0, 0, 0") -> str:
    """A statement that adds sessions which ended then (UTC), with descriptions, answers and words."""
    rows = [f"('{kind}', '{whose}', '2026-02-01', '{moment}+00', {counts})" for moment in moments]
    return (
        "INSERT INTO vocabulary.sessions (session_type, user_id, started_at, ended_at,"
        " descriptions_generated, qa_attempts, vocabulary_learned)"
        f" VALUES {', '.join(rows)}"
    )
