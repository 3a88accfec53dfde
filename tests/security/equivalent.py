"""Damages that no promise can notice: what is left says the same, or only others at work would meet it."""

import re

# A regular expression that finds the damages, "name: operator: before [left] -> [instead]", and why.
EQUIVALENT: tuple[tuple[str, str], ...] = ()
_ANY = re.compile("|".join(pattern for pattern, _ in EQUIVALENT) or r"(?!)")


def is_equivalent(label: str) -> bool:
    return _ANY.search(label) is not None
