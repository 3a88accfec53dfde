"""The deck of an export, in Anki's own hands."""

import html
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from anki.collection import Collection, ImportAnkiPackageOptions, ImportAnkiPackageRequest

from tests.vocabulary.export_support import Exporting, Folder, counted

pytest_plugins = ["tests.vocabulary.export_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:anki.*")

CAT = {"word": "el gato", "translation": "the cat", "example": "El gato duerme."}
DOG = {"word": "el perro", "translation": "the dog"}
ODD = "<b>&\"'</b> {{Word}} {{c1::x}} \x1f 漢字 Ωж \U0001f431 <img src=x onerror=alert(1)> [sound:a.mp3]"


class Anki:
    """A collection, empty at first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.collection = Collection(str(path / "collection.anki2"))

    def open(self, content: bytes) -> Any:
        """Import a package as a person does; returns what Anki says of it."""
        package = self.path / "export.apkg"
        package.write_bytes(content)
        request = ImportAnkiPackageRequest(
            package_path=str(package), options=ImportAnkiPackageOptions(with_scheduling=True)
        )
        return self.collection.import_anki_package(request).log

    def notes(self) -> list[list[str]]:
        """The fields of all notes, as a person reads them."""
        found = (self.collection.get_note(key) for key in self.collection.find_notes(""))
        return sorted([html.unescape(field) for field in note.fields] for note in found)


@pytest.fixture
def anki(tmp_path: Path) -> Iterator[Anki]:
    opened = Anki(tmp_path)
    yield opened
    opened.collection.close()


def deck(exporting: Exporting, folder: Folder, learner: UUID) -> bytes:
    """The file of a new export."""
    export = exporting.make(folder.location, learner, "anki")
    (content,) = (found for name, found in folder.files().items() if str(export.id) in name)
    return content


def test_a_deck_has_a_note_for_each_word_and_phrase(exporting: Exporting, folder: Folder, anki: Anki) -> None:
    ada, eve = exporting.learner(), exporting.learner()
    exporting.learn(eve, session_data={"vocabulary": [{"word": "secreto"}]})
    exporting.learn(ada, session_data={"vocabulary": [CAT], "phrases": [DOG]})
    log = anki.open(deck(exporting, folder, ada))
    assert (len(log.new), len(log.updated), len(log.duplicate)) == (2, 0, 0)
    assert anki.notes() == [list(CAT.values()), [*DOG.values(), ""]]
    cards = [anki.collection.get_card(key) for key in anki.collection.find_cards("")]
    assert {anki.collection.decks.name(card.did) for card in cards} == {"Spanish vocabulary"}
    shown = {(card.question().partition("</style>")[2], "the" in card.answer()) for card in cards}
    assert shown == {("el gato", True), ("el perro", True)}
    assert anki.collection.fix_integrity()[1]


def test_a_word_that_was_saved_often_is_one_note(exporting: Exporting, folder: Folder, anki: Anki) -> None:
    ada = exporting.learner()
    exporting.learn(ada, 3, session_data={"vocabulary": [CAT, DOG, CAT], "phrases": [CAT]})
    export = exporting.make(folder.location, ada, "anki")
    assert (export.records_count, counted(export)) == (2, {"done": 3, "total": 3})
    anki.open(*folder.files().values())
    assert [note[0] for note in anki.notes()] == ["el gato", "el perro"]


def test_any_text_is_shown_as_it_is(exporting: Exporting, folder: Folder, anki: Anki) -> None:
    ada = exporting.learner()
    entry = dict.fromkeys(("word", "translation", "example"), ODD)
    exporting.learn(ada, session_data={"vocabulary": [entry]})
    anki.open(deck(exporting, folder, ada))
    # \x1f stands between Anki's fields.
    assert anki.notes() == [[ODD.replace("\x1f", " ")] * 3]
    (key,) = anki.collection.find_cards("")
    assert "<img" not in anki.collection.get_card(key).answer()


def test_importing_a_deck_again_doubles_nothing(exporting: Exporting, folder: Folder, anki: Anki) -> None:
    ada = exporting.learner()
    exporting.learn(ada, session_data={"vocabulary": [CAT, DOG]})
    once = deck(exporting, folder, ada)
    for content in (once, once, deck(exporting, folder, ada)):
        anki.open(content)
        assert len(anki.notes()) == 2
    assert len(anki.collection.find_cards("")) == 2


def test_a_later_deck_updates_notes_and_keeps_their_schedule(
    exporting: Exporting, folder: Folder, anki: Anki, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = exporting.learner()
    exporting.learn(ada, session_data={"vocabulary": [CAT]})
    anki.open(deck(exporting, folder, ada))
    (card,) = anki.collection.find_cards("")
    anki.collection.sched.set_due_date([card], "30")
    due = anki.collection.get_card(card).due

    exporting.owner.execute("DELETE FROM vocabulary.sessions")
    exporting.learn(ada, session_data={"vocabulary": [{**CAT, "translation": "the tomcat"}, DOG]})
    # Anki takes the newer of two notes, by the second: this export is a later one.
    later = Clock(3600)
    monkeypatch.setattr("carnivore_db.vocabulary.exports.files.time", later)
    log = anki.open(deck(exporting, folder, ada))
    assert (len(log.new), len(log.updated)) == (1, 1)
    assert [note[1] for note in anki.notes()] == ["the tomcat", "the dog"]
    assert anki.collection.get_card(card).due == due


class Clock:
    """The time of day, so many seconds from now."""

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead

    def time(self) -> float:
        return time.time() + self.ahead


def test_a_corrected_translation_is_the_one_in_the_deck(
    exporting: Exporting, folder: Folder, anki: Anki
) -> None:
    ada = exporting.learner()
    exporting.learn(ada, session_data={"vocabulary": [{**CAT, "translation": "the dog"}]})
    later = {"started_at": "2026-06-01T00:00:00Z", "session_data": {"vocabulary": [CAT]}}
    exporting.learn(ada, **later)
    exporting.learn(ada, started_at="2026-01-01T00:00:00Z", session_data={"phrases": [{"word": CAT["word"]}]})
    anki.open(deck(exporting, folder, ada))
    assert anki.notes() == [list(CAT.values())]


def test_two_learners_decks_in_one_collection_do_not_mix_notes(
    exporting: Exporting, folder: Folder, anki: Anki
) -> None:
    for _ in range(2):
        learner = exporting.learner()
        exporting.learn(learner, session_data={"vocabulary": [CAT]})
        anki.open(deck(exporting, folder, learner))
    assert len(anki.notes()) == 2


@pytest.mark.parametrize(
    ("sessions", "data"), [(0, {}), (2, {"phrases": []}), (2, {"vocabulary": [{"word": " \x1f"}, 3, None]})]
)
def test_a_deck_without_any_word_opens(
    exporting: Exporting, folder: Folder, anki: Anki, sessions: int, data: dict[str, Any]
) -> None:
    ada = exporting.learner()
    exporting.learn(ada, sessions, session_data=data)
    export = exporting.make(folder.location, ada, "anki")
    assert (export.records_count, counted(export)) == (0, {"done": sessions, "total": sessions})
    log = anki.open(*folder.files().values())
    assert (len(log.new), anki.notes()) == (0, [])
