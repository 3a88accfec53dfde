"""The law of progress as a promise: what a learner's ended sessions add up to, counted in Python."""

from tests.security.personas import Session
from tests.security.seed import ADA
from tests.support import progress_law


def the_law(s: Session) -> None:
    """Every learner has one row of progress, and it is what their ended sessions add up to."""
    s.become(s.superuser)
    broken = progress_law.broken(s.connection)
    assert not broken, "\n".join(broken)


def ended(*moments: str, whose: str = ADA, kind: str = "mixed", counts: str = "0, 0, 0") -> str:
    """A statement that adds sessions which ended then (UTC), with descriptions, answers and words."""
    rows = [f"('{kind}', '{whose}', '2026-02-01', '{moment}+00', {counts})" for moment in moments]
    return (
        "INSERT INTO vocabulary.sessions (session_type, user_id, started_at, ended_at,"
        " descriptions_generated, qa_attempts, vocabulary_learned)"
        f" VALUES {', '.join(rows)}"
    )
