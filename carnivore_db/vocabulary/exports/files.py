"""The files of exports: CSV, JSON, Anki and PDF, each written while the sessions stream by (document 001).

Each function takes an open file and the sessions, and yields after each session how many records the file
holds so far: sessions, or an Anki deck's notes.
"""

import csv
import html
import io
import itertools
import json
import sqlite3
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import genanki
from fpdf import FPDF
from sqlalchemy import Row

from carnivore_db.vocabulary.models import LearningSession

COLUMNS = (
    "id",
    "session_type",
    "started_at",
    "ended_at",
    "duration_minutes",
    "images_processed",
    "descriptions_generated",
    "qa_attempts",
    "qa_correct",
    "vocabulary_learned",
    "phrases_saved",
    "engagement_score",
    "completion_rate",
    "device_type",
    "session_data",
)
SELECTED = tuple(getattr(LearningSession, column) for column in COLUMNS)
Sessions = Iterable[Row[Any]]


def write_csv(file: BinaryIO, user_id: UUID, sessions: Sessions) -> Iterator[int]:
    """A line a session under a line of names, UTF-8; `session_data` is JSON."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        lines = csv.DictWriter(text, COLUMNS)
        lines.writeheader()
        for number, session in enumerate(sessions, 1):
            given = _plain(session)
            lines.writerow({**given, "session_data": json.dumps(given["session_data"], ensure_ascii=False)})
            yield number
    finally:
        text.detach()


def write_json(file: BinaryIO, user_id: UUID, sessions: Sessions) -> Iterator[int]:
    """One object: `user_id` and the list `sessions`."""
    file.write(f'{{"user_id": "{user_id}", "sessions": ['.encode())
    for number, session in enumerate(sessions, 1):
        file.write(b",\n" if number > 1 else b"\n")
        file.write(json.dumps(_plain(session), ensure_ascii=False).encode())
        yield number
    file.write(b"\n]}\n")


def _plain(session: Row[Any]) -> dict[str, Any]:
    """A session as JSON has it: moments as ISO 8601 in UTC, shares as numbers."""
    given = session._asdict()
    for column in ("started_at", "ended_at"):
        given[column] = given[column] and given[column].astimezone(UTC).isoformat()
    for column in ("engagement_score", "completion_rate"):
        given[column] = float(given[column])
    return {**given, "id": str(given["id"])}


_CARD = genanki.Model(
    1_606_012_001,  # any number that stays: Anki knows a kind of note by it
    "Carnivore vocabulary",
    fields=[{"name": "Word"}, {"name": "Translation"}, {"name": "Example"}],
    templates=[
        {
            "name": "Card 1",
            "qfmt": "{{Word}}",
            "afmt": "{{FrontSide}}<hr id=answer>{{Translation}}<br><i>{{Example}}</i>",
        }
    ],
)


def write_anki(file: BinaryIO, user_id: UUID, sessions: Sessions) -> Iterator[int]:
    """A deck with a note for each word and phrase in `session_data`, as the first of the sessions has it.

    A note keeps its identity: importing a later export updates notes, and their schedule stays.
    """
    # Within 2**53, which JavaScript can hold: Anki's own limit.
    deck_id = int.from_bytes(sha256(user_id.bytes).digest()[:6])
    deck = genanki.Deck(deck_id, "Spanish vocabulary")
    deck.add_model(_CARD)
    with tempfile.TemporaryDirectory() as folder:
        collection = Path(folder, "collection.anki2")
        with closing(sqlite3.connect(collection)) as database:
            cursor = database.cursor()
            now = time.time()
            ids = itertools.count(int(now * 1000))
            genanki.Package(deck).write_to_db(cursor, now, ids)
            # Notes go in one by one: genanki's own list of them would hold them all in memory.
            cursor.execute("CREATE TEMPORARY TABLE seen (guid text PRIMARY KEY) WITHOUT ROWID")
            notes = 0
            for session in sessions:
                for fields in _words(session.session_data):
                    guid = genanki.guid_for(user_id, fields[0])
                    if cursor.execute("INSERT OR IGNORE INTO seen VALUES (?)", [guid]).rowcount:
                        genanki.Note(_CARD, fields, guid=guid).write_to_db(cursor, now, deck_id, ids)
                        notes += 1
                yield notes
            database.commit()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
            package.write(collection, collection.name)
            package.writestr("media", "{}")


def _words(data: dict[str, Any]) -> Iterator[list[str]]:
    """Word, translation and example of all entries that have a word; others were never ours to check."""
    for key in ("vocabulary", "phrases"):
        entries = data.get(key)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and isinstance(entry.get("word"), str) and entry["word"].strip():
                yield [_field(entry.get(name)) for name in ("word", "translation", "example")]


def _field(value: object) -> str:
    # \x1f stands between Anki's fields.
    return html.escape(value.replace("\x1f", " ")) if isinstance(value, str) else ""


_TABLE = (
    ("Started (UTC)", 32),
    ("Type", 24),
    ("Minutes", 18),
    ("Images", 18),
    ("Descriptions", 24),
    ("Correct", 24),
    ("Words", 18),
    ("Phrases", 18),
)
_LINES = 50  # a page


def write_pdf(file: BinaryIO, user_id: UUID, sessions: Sessions) -> Iterator[int]:
    """A table of dates and numbers, 50 sessions a page. It holds no free text: its font has no letters
    beyond Latin-1."""
    pdf = FPDF()
    pdf.set_title("Sessions")
    pdf.set_font("Helvetica", size=8)
    number = 0
    for number, session in enumerate(sessions, 1):
        if number % _LINES == 1:
            _page(pdf)
        started = session.started_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
        for (_, width), value in zip(
            _TABLE,
            (
                started,
                session.session_type,
                session.duration_minutes,
                session.images_processed,
                session.descriptions_generated,
                f"{session.qa_correct} of {session.qa_attempts}",
                session.vocabulary_learned,
                session.phrases_saved,
            ),
            strict=True,
        ):
            pdf.cell(width, 5, "" if value is None else str(value))
        pdf.ln()
        yield number
    if number == 0:
        _page(pdf)
    pdf.output(file)


def _page(pdf: FPDF) -> None:
    pdf.add_page()
    pdf.set_font(style="B")
    for title, width in _TABLE:
        pdf.cell(width, 6, title)
    pdf.ln()
    pdf.set_font(style="")


WRITERS: dict[str, Callable[[BinaryIO, UUID, Sessions], Iterator[int]]] = {
    "csv": write_csv,
    "json": write_json,
    "anki": write_anki,
    "pdf": write_pdf,
}
