"""The picture-vocabulary app's part of the story: a learner's progress, key and export."""

import csv
import io
import json
import os
import sqlite3
import tempfile
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr
from rich.progress import Progress
from rich.table import Table

from carnivore_db import errors, identity
from carnivore_db.dev.demo.scene import Attempt, Scene, example, refuse, sql
from carnivore_db.kit.extras import extra
from carnivore_db.vocabulary import exports, progress, sessions, users
from carnivore_db.vocabulary.keys import api_keys
from carnivore_db.vocabulary.keys import jobs as key_jobs
from carnivore_db.vocabulary.keys.encryption import Keyring
from carnivore_db.vocabulary.models import UserProgress
from carnivore_db.vocabulary.payloads import Profile, Work

SHOWN = {
    "sessions": "total_sessions",
    "words": "total_vocabulary_learned",
    "accuracy": "average_accuracy",
    "minutes": "total_time_spent_minutes",
    "streak": "current_streak_days",
}


def play(scene: Scene) -> None:
    """A learner learns, stores a key and takes the data home; another learner tries to."""
    console = scene.console
    console.rule("A learner's sessions end, one is corrected, and progress follows")
    ada, bob = uuid4(), uuid4()
    _learn(scene, ada, bob)
    console.rule("Her key of another service is stored encrypted and read back")
    keyring, sealed = _keys(scene, ada)
    console.rule("Her data is exported, and the files are opened")
    _export(scene, ada)
    console.rule("What must fail, and does")
    _refuse(scene, ada, bob, keyring, sealed)


def _her(user_id: UUID) -> identity.Identity:
    return identity.user(user_id, "ada@example.com")


def _learn(scene: Scene, ada: UUID, bob: UUID) -> None:
    words = json.loads(example("session_data.json"))
    yesterday = datetime.now(UTC) - timedelta(days=1)
    seen = list[UserProgress]()
    with scene.db.transaction(_her(ada)) as tx:
        users.register(tx, ada, "Ada@Example.com", Profile(username="ada_l"))
        seen.append(progress.get(tx, ada))
        first = sessions.start(tx, "qa", user_id=ada, started_at=yesterday - timedelta(minutes=30))
        work = Work(qa_attempts=10, qa_correct=7)
        sessions.end(tx, first.id, work, ended_at=yesterday)
    with scene.db.transaction(_her(ada)) as tx:
        seen.append(progress.get(tx, ada))
        second = sessions.start(tx, "vocabulary", user_id=ada)
        sessions.save(tx, second.id, Work(vocabulary_learned=3), session_data=words)
        sessions.end(tx, second.id, duration_minutes=12)
    with scene.db.transaction(_her(ada)) as tx:
        seen.append(progress.get(tx, ada))
    with scene.db.transaction(_her(ada)) as tx:
        sessions.save(tx, first.id, Work(qa_correct=9))
        seen.append(progress.get(tx, ada))
    with scene.db.transaction(identity.service()) as tx:
        users.register(tx, bob, "bob@example.com")
        differences = progress.recompute(tx, ada)
    table = Table("", *SHOWN, title="user_progress")
    for name, row in zip(("new", "one ended", "two ended", "one corrected"), seen, strict=True):
        table.add_row(name, *(str(getattr(row, column)) for column in SHOWN.values()))
    scene.console.print(table)
    scene.say(f"Counted anew from the sessions: {len(differences)} differences.")
    last = seen[-1]
    counted = (last.total_sessions, last.total_questions_correct, last.current_streak_days)
    if differences or counted != (2, 9, 2):
        scene.unexpected.append("progress is not what the sessions add up to")


def _keys(scene: Scene, ada: UUID) -> tuple[Keyring, str]:
    plain = SecretStr("sk-demo-0123456789")
    old, new = os.urandom(32), os.urandom(32)
    keyring = Keyring({"2025": old}, "2025")
    with scene.db.transaction(_her(ada)) as tx:
        api_keys.set(tx, keyring, ada, "openai", plain)
    sealed = _sealed(scene, ada)
    scene.say(f"In the database: {sealed[:44]}...")
    rotated = Keyring({"2025": old, "2026": new}, "2026")
    done = key_jobs.reencrypt(scene.db, rotated).done
    with scene.db.transaction(_her(ada)) as tx:
        read = api_keys.get(tx, rotated, ada, "openai")
    moved = _sealed(scene, ada)
    scene.say(f"After a rotation ({done} key re-encrypted): {moved[:44]}...")
    same = read.get_secret_value() == plain.get_secret_value()
    how = "exactly what was stored" if same else "NOT what was stored"
    scene.say(f"Read back: {how}. In a log it shows as {read}.")
    if not same or plain.get_secret_value() in sealed + moved:
        scene.unexpected.append("the key came back changed, or lay there in plain text")
    return rotated, moved


def _sealed(scene: Scene, ada: UUID) -> str:
    with scene.db.transaction(identity.service()) as tx:
        return str(sql(tx, "SELECT openai_api_key FROM vocabulary.user_api_keys WHERE user_id = :id", id=ada))


def _export(scene: Scene, ada: UUID) -> None:
    with extra("exports"):
        from carnivore_db.kit import storage as files  # noqa: PLC0415
        from carnivore_db.vocabulary.exports import worker as export_worker  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        storage = files.Storage(folder)
        with scene.db.transaction(_her(ada)) as tx:
            for wanted in exports.FORMATS:
                exports.request(tx, ada, wanted)
        with Progress(console=scene.console) as bars:
            task = bars.add_task("exports work", total=len(exports.FORMATS))
            made = {}
            for outcome in export_worker.work(scene.db, storage):
                made[outcome.export.export_type] = outcome.export
                bars.advance(task)
        table = Table("type", "status", "records", "bytes", "file", title="export_history")
        for kind, export in made.items():
            name = Path(export.file_url or "").name
            table.add_row(kind, export.status, str(export.records_count), str(export.file_size_bytes), name)
        scene.console.print(table)
        with files.read(made["csv"].file_url or "") as file:
            lines = list(csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline="")))
        scene.say(f"The CSV, opened: {len(lines)} sessions, {[line['session_type'] for line in lines]}.")
        words = _words(files.read(made["anki"].file_url or ""), folder)
        scene.say(f"The Anki deck, opened: {words}.")
        left = len(export_worker.expire(scene.db).failed)
        if len(lines) != 2 or words != ["el gato", "el perro", "¿Dónde está?"] or left:
            scene.unexpected.append("an export does not hold what was learned")


def _words(package: Any, folder: str) -> list[str]:
    """The words of a deck, as a program that knows the format reads them."""
    with package, zipfile.ZipFile(package) as files:
        collection = files.extract("collection.anki2", folder)
    database = sqlite3.connect(collection)
    found = [fields.split("\x1f")[0] for (fields,) in database.execute("SELECT flds FROM notes ORDER BY id")]
    database.close()
    return found


def _refuse(scene: Scene, ada: UUID, bob: UUID, keyring: Keyring, sealed: str) -> None:
    app, owner = scene.db, scene.owner
    his = identity.user(bob, "bob@example.com")
    service = identity.service()
    attempts: list[Attempt] = [
        ("another learner's progress", app, his, lambda tx: progress.get(tx, ada), errors.UserNotFound),
        (
            "another learner's export",
            app,
            his,
            lambda tx: exports.request(tx, ada, "csv"),
            errors.PermissionRefused,
        ),
        (
            "totals written by the learner",
            app,
            _her(ada),
            lambda tx: sql(tx, "UPDATE vocabulary.user_progress SET total_sessions = 99 RETURNING id"),
            errors.PermissionRefused,
        ),
        (
            "a key in plain text, as the owner",
            owner,
            None,
            lambda tx: sql(
                tx, "UPDATE vocabulary.user_api_keys SET openai_api_key = 'sk-plain' RETURNING id"
            ),
            errors.InvalidInput,
        ),
        (
            "a ciphertext moved to another learner",
            app,
            service,
            lambda tx: keyring.decrypt(sealed, user_id=bob, provider="openai"),
            errors.DecryptionFailed,
        ),
        (
            "a finished export rewritten, as the owner",
            owner,
            None,
            lambda tx: sql(tx, "UPDATE vocabulary.export_history SET records_count = 0 RETURNING id"),
            errors.Immutable,
        ),
    ]
    refuse(scene, attempts)
