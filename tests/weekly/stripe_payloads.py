"""Stripe's events, as its API sends them, and the three kinds of sessions that they pay for."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from carnivore_db.weekly import calculator, payments
from carnivore_db.weekly.payments import Applied, Target
from tests.support.callers import Caller
from tests.support.databases import one
from tests.weekly.samples import (
    SERVICE,
    issue_report,
    start_calculator,
    start_session,
    submit_assessment,
)

TABLES = ["user_sessions", "calculator2_sessions", "cw_assessment_sessions"]
JsonObject = dict[str, Any]
_numbers = itertools.count(1)


def event(kind: str, stripe_object: JsonObject, *, livemode: bool = True) -> JsonObject:
    """An event about an object."""
    return {
        "id": f"evt_1Q{next(_numbers):022d}",
        "object": "event",
        "api_version": "2025-10-29.clover",
        "created": 1_795_200_000,
        "data": {"object": stripe_object},
        "livemode": livemode,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }


def checkout(
    kind: str,
    metadata: Mapping[str, str] | None,
    payment: str | None,
    *,
    livemode: bool = True,
    **changes: Any,
) -> JsonObject:
    """The event checkout.session.`kind` of a checkout of 49.00 dollars."""
    paid = {"completed": "paid", "async_payment_succeeded": "paid"}.get(kind, "unpaid")
    session = {
        "id": f"cs_live_a1{next(_numbers):020d}",
        "object": "checkout.session",
        "amount_subtotal": 4900,
        "amount_total": 4900,
        "client_reference_id": None,
        "currency": "usd",
        "customer_details": {"address": None, "email": "ada@example.com", "name": "Ada"},
        "livemode": livemode,
        "metadata": None if metadata is None else dict(metadata),
        "mode": "payment",
        "payment_intent": payment,
        "payment_method_types": ["card", "sepa_debit"],
        "payment_status": paid,
        "status": "expired" if kind == "expired" else "complete",
        **changes,
    }
    return event(f"checkout.session.{kind}", session, livemode=livemode)


def refund(
    payment: str | None,
    refunded: int = 4900,
    *,
    metadata: Mapping[str, str] | None = None,
    livemode: bool = True,
    **changes: Any,
) -> JsonObject:
    """The event charge.refunded of a charge of 49.00 dollars, of which `refunded` cents went back so far."""
    charge = {
        "id": f"ch_3Q{next(_numbers):020d}",
        "object": "charge",
        "amount": 4900,
        "amount_captured": 4900,
        "amount_refunded": refunded,
        "billing_details": {"email": "ada@example.com", "name": "Ada"},
        "currency": "usd",
        "livemode": livemode,
        "metadata": dict(metadata or {}),
        "paid": True,
        "payment_intent": payment,
        "refunded": refunded == 4900,
        "status": "succeeded",
        **changes,
    }
    return event("charge.refunded", charge, livemode=livemode)


def new_payment() -> str:
    """A payment intent's id."""
    return f"pi_3Q{next(_numbers):020d}"


@dataclass(frozen=True)
class Bought:
    """A session to pay for, with a report where the documents tie one to it."""

    target: Target
    metadata: dict[str, str]
    report_id: int | None

    def row(self, owner: psycopg.Connection) -> Any:
        """The session as stored."""
        return owner.execute(
            f"SELECT * FROM public.{self.target.table} WHERE id::text = %s", [self.target.key]
        ).fetchone()

    def state(self, owner: psycopg.Connection) -> str:
        return str(self.row(owner)["payment_status"])

    def open_reports(self, owner: psycopg.Connection) -> int:
        """How many of its reports can be read."""
        where = "id = %s AND expires_at > clock_timestamp()"
        return int(one(owner, f"SELECT count(*) FROM public.generated_reports WHERE {where}", self.report_id))

    def endings(self, owner: psycopg.Connection) -> int:
        """How often the end of its report was changed."""
        where = "report_id = %s AND reason = 'refund'"
        return int(
            one(owner, f"SELECT count(*) FROM public.report_expiry_changes WHERE {where}", self.report_id)
        )


def buy(caller: Caller, table: str, amount: int = 4900, currency: str = "usd") -> Bought:
    """A session of `table` with a checkout that was begun for so much, its report issued."""
    if table == "user_sessions":
        key: Any = start_session(caller).id
        report_id = issue_report(caller, key).id
    elif table == "calculator2_sessions":
        key = start_calculator(caller).id
        report = issue_report(caller)
        report_id = report.id
        caller.call(SERVICE, calculator.link_report, key, report.access_token)
    else:
        key, report_id = submit_assessment(caller).id, None
    return Bought(Target(table, str(key)), begin(caller, table, key, amount, currency), report_id)


def begin(caller: Caller, table: str, key: Any, amount: int = 4900, currency: str = "usd") -> dict[str, str]:
    """Begin a checkout of 49.00 dollars. Returns its metadata."""
    return caller.call(SERVICE, payments.begin_checkout, table, key, amount=amount, currency=currency)


def deliver(caller: Caller, *events: JsonObject, **options: Any) -> list[Applied]:
    """Apply events, each in a transaction of its own."""
    return [caller.call(SERVICE, payments.apply_event, given, **options) for given in events]


def outcomes(caller: Caller, *events: JsonObject, **options: Any) -> list[str]:
    return [applied.outcome for applied in deliver(caller, *events, **options)]


def entry(owner: psycopg.Connection, given: JsonObject) -> Any:
    """The ledger's row of an event, with its version; None when there is none."""
    query = "SELECT *, xmin::text AS version FROM public.stripe_events WHERE id = %s"
    return owner.execute(query, [given["id"]]).fetchone()
