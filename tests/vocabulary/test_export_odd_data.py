"""Whatever JSON object a session holds, its learner gets an export of every kind."""

import html
import io
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from tests.vocabulary.export_support import TYPES, Exporting, Folder, read_csv, read_json

pytest_plugins = ["tests.vocabulary.export_fixtures"]

# What PostgreSQL's JSON cannot hold is no session's.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
HARD = st.sampled_from(
    ["\x1f", " ", "<b>", "&amp;", '"', "'", "{{Word}}", "\r\n", "\u2028", "=1+1", "x" * 1500]
)
WORDS = TEXT | HARD
NUMBERS = st.integers(-(10**300), 10**300) | st.floats(-1e300, 1e300)
LEAVES = st.none() | st.booleans() | NUMBERS | WORDS
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3)
)
FIELDS = ("word", "translation", "example", "other")
ENTRIES = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, WORDS | LEAVES))
LISTS = st.lists(ENTRIES | ANYTHING, max_size=4) | ANYTHING
DATA = st.fixed_dictionaries({}, optional={"vocabulary": LISTS, "phrases": LISTS, "more": ANYTHING})


def words(data: dict[str, Any]) -> set[str]:
    """The words that a deck has a note for."""
    lists = [data.get(name) for name in ("vocabulary", "phrases")]
    entries = [entry for entries in lists if isinstance(entries, list) for entry in entries]
    given = [entry.get("word") for entry in entries if isinstance(entry, dict)]
    return {word.replace("\x1f", " ") for word in given if isinstance(word, str) and word.strip()}


def notes(content: bytes, folder: Path) -> set[str]:
    """The words in a deck's own database."""
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        path = package.extract("collection.anki2", folder)
    database = sqlite3.connect(path)
    fields = [row[0].split("\x1f") for row in database.execute("SELECT flds FROM notes")]
    cards = database.execute("SELECT count(DISTINCT nid) FROM cards").fetchone()
    database.close()
    assert cards == (len(fields),)
    assert {len(of_note) for of_note in fields} <= {3}
    found = {html.unescape(of_note[0]) for of_note in fields}
    assert len(found) == len(fields)
    return found


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.lists(DATA, max_size=3))
def test_every_export_succeeds_and_holds_what_was_saved(
    exporting: Exporting, folder: Folder, data: list[dict[str, Any]]
) -> None:
    ada = exporting.learner()
    for session_data in data:
        exporting.learn(ada, session_data=session_data)
    asked = {exporting.ask(ada, kind): kind for kind in TYPES}
    outcomes = exporting.work(folder.location)
    assert [outcome.export.error_message for outcome in outcomes] == [None] * len(TYPES)
    files = {asked[outcome.export.id]: _file(folder, outcome.export.id) for outcome in outcomes}
    sessions = exporting.sessions(ada)
    assert len(sessions) == len(data)
    assert read_csv(files["csv"]) == sessions
    assert read_json(files["json"]) == sessions
    saved = [words(session["session_data"]) for session in sessions]
    assert notes(files["anki"], folder.root.parent) == set().union(*saved)
    assert len(PdfReader(io.BytesIO(files["pdf"]), strict=True).pages) == 1


def _file(folder: Folder, key: object) -> bytes:
    (path,) = folder.root.rglob(f"{key}-*")
    return path.read_bytes()
