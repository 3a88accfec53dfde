"""The story of `make demo`: a report sold, opened and refused, against a real PostgreSQL."""

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import create_engine, pool, text
from sqlalchemy.orm import Session

from carnivore_db import Database, errors, identity, local, local_persistent, migrations
from carnivore_db.catalog.verify import verify
from carnivore_db.local import Server
from carnivore_db.weekly import access_log, calculator, payments, reports, sessions

WEBHOOK_SECRET = "whsec_" + secrets.token_hex(16)  # as Stripe would issue one for an endpoint


@dataclass
class Scene:
    """What the steps of the story hand on."""

    console: Console
    db: Database  # the application's way in
    owner: Database  # the migrating role's, for the attempts that even it must fail at
    unexpected: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.console.print(f"  {line}", highlight=False)


def tell(console: Console, *, keep: bool) -> bool:
    """Tell the story on `console`. `keep` leaves the server running. Returns whether all went as it must."""
    with ExitStack() as stack:
        console.rule("A private PostgreSQL")
        server = local_persistent.start() if keep else stack.enter_context(local.server())
        dbname = stack.enter_context(scratch_database(server, keep=keep))
        where = "on a socket of its own" if server.host.startswith("/") else f"at {server.host}"
        console.print(f"  Up, {where}. Database {dbname}.")
        _migrate(console, server, dbname)
        login = stack.enter_context(_application_login(server, dbname, keep=keep))
        console.print(f"  The application logs in as {login.user}, which may do nothing by itself.")
        scene = Scene(
            console,
            Database(login.url(dbname)),
            Database(server.url(dbname)),
        )
        stack.callback(scene.db.close)
        stack.callback(scene.owner.close)
        _play(scene)
        if keep:
            console.rule("The server keeps running")
            console.print(f"psql '{server.dsn(dbname)}'", soft_wrap=True, highlight=False)
            console.print("Stop it and remove its data: carnivore-db local stop --remove")
    for line in scene.unexpected:
        console.print(f"NOT AS IT MUST BE: {line}", style="bold red")
    return not scene.unexpected


@contextmanager
def scratch_database(server: Server, *, keep: bool = False) -> Iterator[str]:
    """An empty database of its own on `server`, dropped at the end unless `keep`."""
    name = f"carnivore_demo_{secrets.token_hex(4)}"
    admin = create_engine(server.url("postgres"), poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield name
    finally:
        if not keep:
            with admin.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def _migrate(console: Console, server: Server, dbname: str) -> None:
    console.rule("The migration, from nothing")
    url = server.url(dbname)
    with Progress(console=console) as progress:
        task = progress.add_task("alembic upgrade head", total=len(migrations.history()))
        migrations.upgrade(url, on_step=lambda name: progress.advance(task))


@contextmanager
def _application_login(server: Server, dbname: str, *, keep: bool) -> Iterator[Server]:
    """A login as the README makes it, named like the database; dropped at the end unless `keep`."""
    password = secrets.token_hex(16)
    admin = create_engine(server.url("postgres"), poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {dbname} LOGIN NOINHERIT PASSWORD '{password}'"))
        connection.execute(text(f"GRANT anon, authenticated, service_role TO {dbname}"))
    try:
        yield replace(server, user=dbname, password=password)
    finally:
        if not keep:
            with admin.connect() as connection:
                connection.execute(text(f"DROP ROLE {dbname}"))


def _play(scene: Scene) -> None:
    console = scene.console
    console.rule("A visitor fills the calculator, reloads, and finds the form again")
    _calculator(scene)
    console.rule("The visitor pays: Stripe's webhook, twice")
    session_id = _pay(scene)
    console.rule("The report is issued and opened three times by its token")
    issued = _open(scene, session_id)
    console.rule("What must fail, and does")
    _refuse(scene, session_id, issued)
    console.rule("verify")
    _verify(scene)


def _example(name: str) -> str:
    return files("carnivore_db.demo").joinpath(name).read_text(encoding="utf-8")


def _calculator(scene: Scene) -> None:
    form = json.loads(_example("form_state.json"))
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
    scene.say(f"Session {session.id} of {session.email}: {session.payment_status}.")
    body = _stripe_event(session.id)
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
    except payments.SignatureInvalid as error:
        scene.say(f"A changed body: {type(error).__name__}.")
    return session.id


def _stripe_event(session_id: int) -> bytes:
    checkout = {
        "id": "cs_test_demo",
        "object": "checkout.session",
        "payment_intent": "pi_demo",
        "payment_status": "paid",
        "amount_total": 2900,
        "currency": "usd",
        "metadata": payments.checkout_metadata("user_sessions", session_id),
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
    page = _example("report.html")
    with scene.db.transaction(identity.service()) as tx:
        issued = reports.issue(
            tx,
            session_id=session_id,
            html=page,
            questionnaire=json.loads(_example("questionnaire.json")),
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
        with scene.db.transaction(identity.anonymous()) as tx:
            opened = reports.open(tx, issued.access_token, ip_address=address, user_agent=agent)
            if opened.html != page:
                scene.unexpected.append("the page came back changed")
    with scene.db.transaction(identity.service()) as tx:
        counted = access_log.count(tx, issued.id)
        log = access_log.history(tx, issued.id)
    table = Table("accessed_at (UTC)", "ip_address", "user_agent", title="report_access_log")
    for access in log.accesses:
        table.add_row(
            f"{access.accessed_at:%Y-%m-%d %H:%M:%S.%f}", str(access.ip_address), str(access.user_agent)
        )
    scene.console.print(table)
    scene.say(f"access_count {counted.access_count}; a client's bad metadata became NULL, not an error.")
    if counted.access_count != len(clients) or len(log.accesses) != len(clients):
        scene.unexpected.append("accesses were lost")
    return issued


Attempt = tuple[str, Database, identity.Identity | None, Callable[[Session], Any], type[Exception]]


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
            lambda tx: _sql(
                tx, "SELECT report_html FROM public.generated_reports WHERE id = :id", id=issued.id
            ),
            LookupError,
        ),
        (
            "listing tokens as anonymous",
            app,
            anyone,
            lambda tx: _sql(tx, "SELECT email, access_token FROM public.generated_reports"),
            errors.PermissionRefused,
        ),
        (
            "listing reports as anonymous",
            app,
            anyone,
            lambda tx: _sql(tx, "SELECT id, report_html FROM public.generated_reports"),
            LookupError,
        ),
        (
            "changing the HTML, as the owner",
            owner,
            None,
            lambda tx: _sql(tx, "UPDATE public.generated_reports SET report_html = 'x' RETURNING id"),
            errors.Immutable,
        ),
        (
            "changing the audit log, as the owner",
            owner,
            None,
            lambda tx: _sql(tx, "UPDATE public.report_access_log SET ip_address = NULL RETURNING id"),
            errors.AppendOnly,
        ),
        (
            "deleting from the audit log, as the owner",
            owner,
            None,
            lambda tx: _sql(tx, "DELETE FROM public.report_access_log RETURNING id"),
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
    table = Table("attempt", "answer", title=f"{len(attempts)} attempts")
    for name, way_in, who, attempt, wanted in attempts:
        table.add_row(name, _answer(scene, name, way_in, who, attempt, wanted))
    scene.console.print(table)


def _answer(
    scene: Scene,
    name: str,
    way_in: Database,
    who: identity.Identity | None,
    attempt: Callable[[Session], Any],
    wanted: type[Exception],
) -> str:
    try:
        # None: the owner itself, who is bound by no policy and by no grant.
        with way_in.transaction(who) if who else Session(way_in.engine) as tx:
            attempt(tx)
    except wanted as error:
        return f"{type(error).__name__}: {error}" if wanted is not LookupError else "no row"
    scene.unexpected.append(f"{name} was not refused")
    return "[bold red]NOT REFUSED[/]"


def _sql(tx: Session, statement: str, **values: Any) -> None:
    """Run raw SQL; finding nothing is a refusal too."""
    if not tx.execute(text(statement), values).all():
        raise LookupError


def _verify(scene: Scene) -> None:
    with scene.owner.engine.connect() as connection:
        report = verify(connection, now=datetime.now(UTC))
    passed = sum(section.status == "ok" for section in report.sections)
    scene.say(f"{passed} of {len(report.sections)} sections are as the package says.")
    if not report.ok:
        scene.unexpected.append("verify found differences")
