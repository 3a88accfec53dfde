"""The numbers of document 20251110150000, and the report that says which tests show each of them.

A test that shows a number is marked: `@pytest.mark.document(9, 10)`.
"""

from collections.abc import Iterable, Iterator

import pytest

# The issues of the review that the document numbers, and its change 33, which has no issue number.
NUMBERS: dict[str, str] = {
    "1": "completed_at is set by itself",
    "2": "weeks begin on Monday 00:00 UTC, also after an absence",
    "3": "no message enters a completed session",
    "4": "messages are truly immutable",
    "5": "sessions have one time of beginning",
    "6": "extensions are declared",
    "7": "messages have one time, sent_at",
    "8": "temporal and count checks",
    "9": "the total of completions never drifts",
    "10": "the week's completions never drift",
    "11": "a wrong chat type raises",
    "12": "durations are not negative",
    "13": "roles and chats are enums",
    "14": "role and chat go together",
    "15": "content has a limit",
    "16": "an emoji has a limit",
    "17": "scenes have titles of their own",
    "18": "row security asks the message's own user_id",
    "19": "index for logs of a session",
    "20": "indexes for history by scene",
    "21": "pages skip and repeat nothing",
    "22": "hot rows of sessions (deferred)",
    "23": "index for metadata",
    "24": "who reads and writes logs (deferred)",
    "25": "no profile without an e-mail address",
    "26": "functions lock their search path",
    "27": "nobody adds or forges a profile",
    "28": "visitors see scenes through a view (deferred)",
    "29": "event types grow by INSERT (deferred)",
    "30": "logs in partitions (deferred)",
    "31": "weekly reset in batches (deferred)",
    "32": "cleanups record what they did",
    "33": "messages are archived and read back (deferred)",
    "34": "scene ids and codes (deferred)",
    "35": "soft deletion and erasure (deferred)",
    "36": "plain names of roles (deferred)",
    "37": "immutability is the database's",
    "38": "scenes have updated_at and sort_order",
    "39": "names of times (deferred)",
    "40": "keys follow",
    "41": "index for scenes",
    "42": "addresses ignore case",
    "43": "rate limits (deferred)",
    "44": "migration strategy (deferred)",
    "45": "failures of cleanups are seen (deferred)",
    "46": "a message sent twice is stored once",
    "change 33": "rows that are wrong are repaired",
}
PROPERTY = "document"


def note(items: Iterable[pytest.Item]) -> None:
    """Put each test's numbers where its report carries them, from another process too."""
    for item in items:
        for marker in item.iter_markers(PROPERTY):
            for number in marker.args:
                assert str(number) in NUMBERS, f"{item.nodeid}: the document has no number {number}"
                item.user_properties.append((PROPERTY, str(number)))


def matrix(reports: Iterable[pytest.TestReport]) -> Iterator[str]:
    """A line for each number: which tests show it, and whether they pass."""
    passed: dict[str, dict[str, bool]] = {number: {} for number in NUMBERS}
    for report in reports:
        name = report.nodeid.partition("[")[0].removeprefix("tests/")
        for kind, number in report.user_properties:
            if kind == PROPERTY and (report.when == "call" or report.failed):
                before = passed[number].get(name, True)
                passed[number][name] = before and report.passed
    for number, tests in passed.items():
        verdict = "no test in this run" if not tests else "passes" if all(tests.values()) else "FAILS"
        shown = "".join(f"\n{'':14}{name}" for name in sorted(tests))
        yield f"{number:>9}  {verdict:6}  {NUMBERS[number]}{shown}"
