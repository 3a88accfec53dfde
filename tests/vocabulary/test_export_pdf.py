"""The PDF of an export, as another library reads it."""

import io
from datetime import timedelta

import pytest
from pypdf import PdfReader

from tests.vocabulary.export_support import NOON, Exporting, Folder

pytest_plugins = ["tests.vocabulary.export_fixtures"]

HEADINGS = "Started (UTC) Type Minutes Images Descriptions Correct Words Phrases"


def lines(folder: Folder) -> list[list[str]]:
    """The lines of each page of the only file, cells separated by a blank."""
    (content,) = folder.files().values()
    reader = PdfReader(io.BytesIO(content), strict=True)
    assert reader.metadata is not None
    assert reader.metadata.title == "Sessions"
    pages = (page.extract_text() for page in reader.pages)
    return [[" ".join(line.split()) for line in page.splitlines() if line.strip()] for page in pages]


@pytest.mark.parametrize(("number", "pages"), [(0, 1), (50, 1), (51, 2)])
def test_every_session_has_a_line_and_fifty_a_page(
    exporting: Exporting, folder: Folder, number: int, pages: int
) -> None:
    ada, eve = exporting.learner(), exporting.learner()
    exporting.learn(eve, 60)
    exporting.learn(ada, number)
    assert exporting.make(folder.location, ada, "pdf").records_count == number
    found = lines(folder)
    assert len(found) == pages
    rows = []
    for page in found:
        text = " ".join(page)
        assert text.startswith(HEADINGS)
        rows += [word for word in text.removeprefix(HEADINGS).split() if ":" in word]
    assert rows == [f"{session['started_at']:%H:%M}" for session in exporting.sessions(ada)]


def test_a_line_says_what_was_done(exporting: Exporting, folder: Folder) -> None:
    ada = exporting.learner()
    exporting.learn(
        ada,
        session_type="mixed",
        ended_at=NOON + timedelta(minutes=90),
        duration_minutes=75,
        images_processed=11,
        descriptions_generated=12,
        qa_attempts=14,
        qa_correct=13,
        vocabulary_learned=15,
        phrases_saved=1_000,
    )
    exporting.make(folder.location, ada, "pdf")
    (page,) = lines(folder)
    assert " ".join(page) == f"{HEADINGS} 2026-05-01 12:01 mixed 75 11 12 13 of 14 15 1000"


def test_moments_are_utc_whatever_the_connections_zone(exporting: Exporting, folder: Folder) -> None:
    ada = exporting.learner()
    exporting.learn(ada)
    exporting.ask(ada, "pdf")
    with exporting.far_east() as elsewhere:
        assert [outcome.status for outcome in elsewhere.work(folder.location)] == ["completed"]
    assert "2026-05-01 12:01 qa" in " ".join(lines(folder)[0])


@pytest.mark.parametrize("text", ["漢字 Ωж \U0001f431 \u202eright to left", "\\)Tj ("])
def test_a_learners_text_does_no_harm(exporting: Exporting, folder: Folder, text: str) -> None:
    ada = exporting.learner()
    exporting.learn(ada, device_type=text, session_data={text: text, "vocabulary": [{"word": text}]})
    exporting.make(folder.location, ada, "pdf")
    (page,) = lines(folder)
    assert " ".join(page) == f"{HEADINGS} 2026-05-01 12:01 qa 0 0 0 of 0 0 0"
