"""Sessions of the macro calculator (document 012). All of it is the service's."""

from typing import Annotated

from pydantic import Field
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from carnivore_db.errors import SessionNotFound
from carnivore_db.kit.inputs import Email, FilledText, Id, Limit, validated
from carnivore_db.kit.rows import FRESH, first, one
from carnivore_db.weekly.models import PathChoice, PaymentStatus, UserSession
from carnivore_db.weekly.payloads import MacroDataInput

PaymentId = Annotated[FilledText, Field(max_length=100)]


@validated
def start(
    tx: Session,
    *,
    email: Email,
    path_choice: PathChoice,
    macro_data: MacroDataInput,
    is_test: bool = False,
) -> UserSession:
    """A new, unpaid session. `macro_data` takes at most 64 KiB; `is_test` leaves it out of counts.

    Raises InvalidInput.
    """
    session = UserSession(email=email, path_choice=path_choice, macro_data=macro_data, is_test=is_test)
    tx.add(session)
    tx.flush()
    return session


@validated
def get(tx: Session, session_id: Id) -> UserSession:
    """The session of this id. Raises SessionNotFound."""
    return one(tx, select(UserSession).where(UserSession.id == session_id), SessionNotFound)


@validated
def list_by_email(tx: Session, email: Email, *, limit: Limit = 100) -> list[UserSession]:
    """The sessions of an address, upper or lower case, newest first; none is an empty list."""
    newest_first = (UserSession.created_at.desc(), UserSession.id.desc())
    found = select(UserSession).where(UserSession.email == email).order_by(*newest_first)
    return list(tx.scalars(found.limit(limit), execution_options=FRESH))


@validated
def find_by_payment(tx: Session, stripe_payment_id: FilledText) -> UserSession | None:
    """The session that a Stripe payment paid for, or None."""
    return first(tx, select(UserSession).where(UserSession.stripe_payment_id == stripe_payment_id))


@validated
def record_payment(
    tx: Session,
    session_id: Id,
    status: PaymentStatus,
    *,
    stripe_payment_id: PaymentId | None = None,
) -> UserSession:
    """Set the payment's state, and its Stripe id when one is given (needed for completed).

    Setting the state it has is no error. Raises SessionNotFound, PaymentTransition, AlreadyExists (the
    payment paid another session), InvalidInput. Stripe's webhook goes through `payments.apply_event`.
    """
    change = update(UserSession).where(UserSession.id == session_id).values(payment_status=status)
    if stripe_payment_id is not None:
        change = change.values(stripe_payment_id=stripe_payment_id)
    return one(tx, change.returning(UserSession), SessionNotFound)


@validated
def mark_test(tx: Session, session_id: Id, *, is_test: bool = True) -> UserSession:
    """Mark a session as test data, which every count leaves out, or take the mark back.

    Raises SessionNotFound.
    """
    change = update(UserSession).where(UserSession.id == session_id).values(is_test=is_test)
    return one(tx, change.returning(UserSession), SessionNotFound)
