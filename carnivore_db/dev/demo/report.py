"""Carnivore Weekly's part of the story: a report sold, opened and refused."""

import hashlib
import hmac
import json
import secrets
import time
from datetime import timedelta

from rich.table import Table

from carnivore_db import errors, identity
from carnivore_db.dev.demo.scene import Attempt, Scene, example, refuse, sql
from carnivore_db.weekly import access_log, calculator, payments, reports, sessions

WEBHOOK_SECRET = "whsec_" + secrets.token_hex(16)  # as Stripe would issue one for an endpoint


def play(scene: Scene) -> None:
    """A visitor calculates, pays, and reads the report; others try to."""
    console = scene.console
    console.rule("A visitor fills the calculator, reloads, and finds the form again")
    _calculator(scene)
    console.rule("The visitor pays: Stripe's webhook, twice")
    session_id = _pay(scene)
    console.rule("The report is issued and opened three times by its token")
    issued = _open(scene, session_id)
    console.rule("What must fail, and does")
    _refuse(scene, session_id, issued)


def _calculator(scene: Scene) -> None:
    form = json.loads(example("form_state.json"))
    with scene.db.transaction(identity.service()) as tx:
        token = calculator.start(tx).session_token
    with scene.db.transaction(identity.anonymous()) as tx:
        calculator.save(tx, token, form, pricing_tier="bundle")
    with scene.db.transaction(identity.anonymous()) as tx:
        state = calculator.resume(tx, token)
    scene.say(f"Saved {len(form)} answers under a secret token; resumed: tier {state.pricing_tier}.")
    same = "exactly what was saved" if state.form_state == form else "NOT what was saved"
    scene.say(f"The form came back {same}, until {state.expires_at:%Y-%m-%d %H:%M} UTC and no longer.")
    if state.form_state != form:
        scene.unexpected.append("the form came back changed")


def _pay(scene: Scene) -> int:
    with scene.db.transaction(identity.service()) as tx:
        session = sessions.start(
            tx,
            email="Ada@Example.com",
            path_choice="carnivore",
            macro_data={"protein": 150, "fat": 100, "carbs": 0},
        )
        metadata = payments.begin_checkout(tx, "user_sessions", session.id, amount=2900, currency="usd")
    scene.say(
        f"Session {session.id} of {session.email}: {session.payment_status}; a checkout of 29.00 begun."
    )
    body = _stripe_event(metadata)
    signature = _signature(body)
    for delivery in ("first", "second"):
        event = payments.verify(body, signature, WEBHOOK_SECRET)
        with scene.db.transaction(identity.service()) as tx:
            applied = payments.apply_event(tx, event)
            paid = sessions.get(tx, session.id)
            repeated = ", seen before: nothing changes" if applied.repeated else ""
            scene.say(
                f"{delivery.capitalize()} delivery, signature verified: {applied.outcome}{repeated}."
                f" Payment {paid.payment_status}."
            )
    try:
        payments.verify(body.replace(b"2900", b"1"), signature, WEBHOOK_SECRET)
        scene.unexpected.append("a changed webhook body was accepted")
    except errors.SignatureInvalid as error:
        scene.say(f"A changed body: {type(error).__name__}.")
    return session.id


def _stripe_event(metadata: dict[str, str]) -> bytes:
    checkout = {
        "id": "cs_test_demo",
        "object": "checkout.session",
        "mode": "payment",
        "payment_intent": "pi_demo",
        "payment_status": "paid",
        "amount_total": 2900,
        "currency": "usd",
        "metadata": metadata,
    }
    event = {
        "id": "evt_demo",
        "object": "event",
        "type": "checkout.session.completed",
        "livemode": True,
        "created": int(time.time()),
        "data": {"object": checkout},
    }
    return json.dumps(event).encode()


def _signature(body: bytes) -> str:
    """Sign as Stripe does, so that its library has something real to verify."""
    now = int(time.time())
    signed = hmac.new(WEBHOOK_SECRET.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={now},v1={signed}"


def _open(scene: Scene, session_id: int) -> reports.IssuedReport:
    page = example("report.html")
    with scene.db.transaction(identity.service()) as tx:
        issued = reports.issue(
            tx,
            session_id=session_id,
            html=page,
            questionnaire=json.loads(example("questionnaire.json")),
            valid_for=timedelta(days=30),
        )
    scene.say(
        f"Issued: {len(page.encode()) / 1024:.0f} KB of HTML, valid until {issued.expires_at:%Y-%m-%d}."
    )
    clients = (
        ("203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0"),
        ("2001:db8::17", "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X)"),
        ("unknown", ""),
    )
    for address, agent in clients:
        opened = reports.open(scene.db.autocommit, issued.access_token, ip_address=address, user_agent=agent)
        if opened.html != page:
            scene.unexpected.append("the page came back changed")
    with scene.db.transaction(identity.service()) as tx:
        counted = access_log.count(tx, issued.id)
        log = access_log.history(tx, issued.id)
    table = Table("accessed_at (UTC)", "ip_address", "user_agent", title="report_access_log")
    for access in log.rows:
        table.add_row(
            f"{access.accessed_at:%Y-%m-%d %H:%M:%S.%f}", str(access.ip_address), str(access.user_agent)
        )
    scene.console.print(table)
    scene.say(f"access_count {counted.access_count}; a client's bad metadata became NULL, not an error.")
    if counted.access_count != len(clients) or len(log.rows) != len(clients):
        scene.unexpected.append("accesses were lost")
    return issued


def _refuse(scene: Scene, session_id: int, issued: reports.IssuedReport) -> None:
    with scene.db.transaction(identity.service()) as tx:
        grace = sessions.start(tx, email="grace@example.com", path_choice="keto", macro_data={})
        hers = reports.issue(
            tx, session_id=grace.id, html="<p>Grace</p>", questionnaire={}, valid_for=timedelta(days=1)
        )
        old = reports.issue(
            tx,
            session_id=grace.id,
            html="<p>Old</p>",
            questionnaire={},
            valid_for=timedelta(microseconds=1),
        )
    app, owner = scene.db, scene.owner
    anyone, service = identity.anonymous(), identity.service()
    holder = identity.token_holder(report_token=hers.access_token)
    attempts: list[Attempt] = [
        ("a wrong token", app, anyone, lambda tx: reports.open(tx, "0" * 64), errors.ReportNotFound),
        (
            "another visitor's token",
            app,
            holder,
            lambda tx: sql(
                tx, "SELECT report_html FROM public.generated_reports WHERE id = :id", id=issued.id
            ),
            LookupError,
        ),
        (
            "listing tokens as anonymous",
            app,
            anyone,
            lambda tx: sql(tx, "SELECT email, access_token FROM public.generated_reports"),
            errors.PermissionRefused,
        ),
        (
            "listing reports as anonymous",
            app,
            anyone,
            lambda tx: sql(tx, "SELECT id, report_html FROM public.generated_reports"),
            LookupError,
        ),
        (
            "changing the HTML, as the owner",
            owner,
            None,
            lambda tx: sql(tx, "UPDATE public.generated_reports SET report_html = 'x' RETURNING id"),
            errors.Immutable,
        ),
        (
            "changing the audit log, as the owner",
            owner,
            None,
            lambda tx: sql(tx, "UPDATE public.report_access_log SET ip_address = NULL RETURNING id"),
            errors.AppendOnly,
        ),
        (
            "deleting from the audit log, as the owner",
            owner,
            None,
            lambda tx: sql(tx, "DELETE FROM public.report_access_log RETURNING id"),
            errors.AppendOnly,
        ),
        (
            "a paid session back to pending",
            app,
            service,
            lambda tx: sessions.record_payment(tx, session_id, "pending"),
            errors.PaymentTransition,
        ),
        (
            "an expired report",
            app,
            anyone,
            lambda tx: reports.open(tx, old.access_token),
            errors.ReportExpired,
        ),
    ]
    refuse(scene, attempts)
