"""Assessments and their payment (document 020). All of it is the service's."""

from typing import Annotated
from uuid import UUID, uuid4

from pydantic import Field
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from carnivore_db.errors import AlreadyExists, SessionNotFound
from carnivore_db.kit.inputs import Email, FilledText, validated
from carnivore_db.kit.rows import FRESH, first, one
from carnivore_db.weekly.models import AssessmentSession
from carnivore_db.weekly.payloads import FormDataInput

StripeId = Annotated[FilledText, Field(max_length=255)]


@validated
def submit(
    tx: Session,
    *,
    email: Email,
    first_name: Annotated[FilledText, Field(max_length=100)],
    form_data: FormDataInput,
    assessment_id: UUID | None = None,
    is_test: bool = False,
) -> AssessmentSession:
    """A submitted assessment, unpaid. `form_data` takes at most 256 KiB.

    A client that chooses `assessment_id` may repeat the call: the same submission is stored once and
    given back. Raises AlreadyExists when another submission has the id, InvalidInput.
    """
    key = assessment_id or uuid4()
    tx.execute(
        insert(AssessmentSession)
        .values(id=key, email=email, first_name=first_name, form_data=form_data, is_test=is_test)
        .on_conflict_do_nothing(index_elements=[AssessmentSession.id])
    )
    # Compared by the database, as JSON: 1.0 is 1, the order of keys says nothing, and a form that was merged
    # into since still holds what was submitted.
    same = tx.scalars(
        select(AssessmentSession).where(
            AssessmentSession.id == key,
            AssessmentSession.email == email,
            AssessmentSession.first_name == first_name,
            AssessmentSession.form_data.contains(form_data),
        ),
        execution_options=FRESH,
    ).one_or_none()
    if same is None:
        raise AlreadyExists("cw_assessment_sessions_pkey")
    return same


@validated
def get(tx: Session, assessment_id: UUID) -> AssessmentSession:
    """The assessment of this id. Raises SessionNotFound."""
    return one(tx, select(AssessmentSession).where(AssessmentSession.id == assessment_id), SessionNotFound)


@validated
def find_by_checkout(tx: Session, stripe_session_id: StripeId) -> AssessmentSession | None:
    """The assessment that a Stripe checkout pays, or None."""
    paid_by = AssessmentSession.stripe_session_id == stripe_session_id
    return first(tx, select(AssessmentSession).where(paid_by))


@validated
def merge_form(tx: Session, assessment_id: UUID, form_data: FormDataInput) -> AssessmentSession:
    """Save the form's keys over those that are there; the whole takes at most 256 KiB.

    Raises SessionNotFound, InvalidInput.
    """
    return _change(tx, assessment_id, form_data=AssessmentSession.form_data.op("||")(form_data))


@validated
def attach_checkout(
    tx: Session,
    assessment_id: UUID,
    stripe_session_id: StripeId,
    *,
    stripe_payment_intent_id: StripeId | None = None,
) -> AssessmentSession:
    """Note the Stripe checkout that pays an assessment, and its payment intent when known.

    Raises SessionNotFound, AlreadyExists (the checkout pays another assessment), InvalidInput.
    """
    known = {} if stripe_payment_intent_id is None else {"stripe_payment_intent_id": stripe_payment_intent_id}
    return _change(tx, assessment_id, stripe_session_id=stripe_session_id, **known)


@validated
def complete(tx: Session, assessment_id: UUID) -> AssessmentSession:
    """Mark an assessment as paid; the database sets `completed_at`. Twice is no error.

    Raises SessionNotFound, PaymentTransition. Stripe's webhook goes through `payments.apply_event`.
    """
    return _change(tx, assessment_id, payment_status="completed")


def _change(tx: Session, assessment_id: UUID, **values: object) -> AssessmentSession:
    change = update(AssessmentSession).where(AssessmentSession.id == assessment_id).values(**values)
    return one(tx, change.returning(AssessmentSession), SessionNotFound)
