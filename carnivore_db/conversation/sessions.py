"""Sessions: a scene as one person plays it (document 20251110150000), one open session a person."""

from uuid import UUID

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from carnivore_db.conversation import scenarios
from carnivore_db.conversation.models import OPEN, RolePlay, Scenario
from carnivore_db.conversation.payloads import Code
from carnivore_db.errors import Busy, SessionCompleted, SessionNotFound
from carnivore_db.kit.inputs import Limit, validated
from carnivore_db.kit.paging import Page, UuidCursor, page_of
from carnivore_db.kit.rows import FRESH, first, one

_ATTEMPTS = 3


@validated
def start(tx: Session, user_id: UUID, scenario: Code) -> RolePlay:
    """Start a session of the scene with this code, or return the person's open one, whichever scene it plays.

    Two starts at once give the same session. Raises ScenarioNotFound, ProfileNotFound, ProfileDeleted,
    WeeklyLimitReached, PermissionRefused (somebody else's).
    """
    scene = scenarios.get(tx, scenario)
    row = {"user_id": user_id, "scenario_id": scene.id}
    begin = insert(RolePlay).values(row)
    begin = begin.on_conflict_do_nothing(index_elements=[RolePlay.user_id], index_where=OPEN)
    for _ in range(_ATTEMPTS):
        found = find_open(tx, user_id) or tx.scalars(begin.returning(RolePlay)).one_or_none()
        if found is not None:
            return found
        # Another start came between; its session may have ended since.
    raise Busy("sessions of this person begin and end all the while")


@validated
def get(tx: Session, session_id: UUID) -> RolePlay:
    """The session of this id. Raises SessionNotFound, also for a row that the caller may not see."""
    return one(tx, select(RolePlay).where(RolePlay.id == session_id), SessionNotFound)


@validated
def find_open(tx: Session, user_id: UUID) -> RolePlay | None:
    """The person's open session, or None."""
    return first(tx, select(RolePlay).where(RolePlay.user_id == user_id, ~RolePlay.is_completed))


@validated
def complete(tx: Session, session_id: UUID) -> RolePlay:
    """Complete an open session now; the person's counts follow in the same transaction.

    Raises SessionNotFound, SessionCompleted (before, by this call or another one at the same time),
    WeeklyLimitReached.
    """
    still_open = (RolePlay.id == session_id, ~RolePlay.is_completed)
    change = update(RolePlay).where(*still_open).values(is_completed=True).returning(RolePlay)
    done = tx.scalars(change, execution_options=FRESH).one_or_none()
    if done is None:
        get(tx, session_id)
        raise SessionCompleted
    return done


@validated
def abandon(tx: Session, session_id: UUID) -> None:
    """Delete an open session with its messages. Raises SessionNotFound, SessionCompleted."""
    mine = delete(RolePlay).where(RolePlay.id == session_id, ~RolePlay.is_completed).returning(RolePlay.id)
    if tx.scalars(mine).one_or_none() is None:
        get(tx, session_id)
        raise SessionCompleted


@validated
def reopen(tx: Session, session_id: UUID) -> RolePlay:
    """Let a completed session go on, uncounted, as the service.

    Raises SessionNotFound, AlreadyExists (the person has another open one).
    """
    change = update(RolePlay).where(RolePlay.id == session_id).values(is_completed=False)
    return one(tx, change.returning(RolePlay), SessionNotFound)


@validated
def history(
    tx: Session,
    user_id: UUID,
    *,
    scenario: Code | None = None,
    limit: Limit = 50,
    after: UuidCursor | None = None,
) -> Page[RolePlay]:
    """A person's completed sessions, newest first; of all scenes, or of the one with this code.

    Pass the last page's `next` as `after`. An unknown scene has no history.
    """
    newest = select(RolePlay).where(RolePlay.user_id == user_id, RolePlay.is_completed)
    if scenario is not None:
        scene = select(Scenario.id).where(Scenario.code == scenario).scalar_subquery()
        newest = newest.where(RolePlay.scenario_id == scene)
    if after is not None:
        newest = newest.where(tuple_(RolePlay.completed_at, RolePlay.id) < tuple_(*after))
    newest = newest.order_by(RolePlay.completed_at.desc(), RolePlay.id.desc()).limit(limit + 1)
    found = tx.scalars(newest, execution_options=FRESH).all()
    return page_of(found, limit, lambda session: (session.completed_at, session.id))
