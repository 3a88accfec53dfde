"""A signed event as the ledger can hold it: whatever it carries is kept, and what was cut is named."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from carnivore_db.schema.base import MAX_DEPTH, MAX_NUMBER

CUT = "carnivore_cut"
# What an effect is made of: short, and kept whatever else must go.
_LOOKED_AT = (
    *("id", "object", "account", "mode", "payment_intent", "payment_status", "currency", "amount"),
    *("amount_total", "amount_refunded", "refunded", "metadata", "client_reference_id", "charge", "status"),
)
_TOP = ("id", "object", "type", "livemode", "account", "created", "api_version")
_LONGEST = 500  # characters of a text that is kept of an event that is too large


def keepable(event: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """The event as a JSON object that PostgreSQL holds, of at most `limit` bytes.

    NUL characters and lone surrogates become U+FFFD, what nests too deep or is too large a number a text.
    Of an event that is too large the fields that are looked at stay. `carnivore_cut` lists what was changed.
    """
    cut: set[str] = set()
    kept: dict[str, Any] = _plain(event, MAX_DEPTH, "", cut)
    if _size(kept) > limit:
        cut.add("size")
        data = kept.get("data", {})
        found = data.get("object", {}) if isinstance(data, dict) else {}
        kept = {name: kept[name] for name in _TOP if name in kept}
        kept["data"] = {"object": {name: _short(found[name]) for name in _LOOKED_AT if name in found}}
    if cut:
        kept[CUT] = sorted(cut)[:20]
    return kept


def _plain(value: Any, levels: int, place: str, cut: set[str]) -> Any:
    if isinstance(value, str):
        return _text(value, place, cut)
    if isinstance(value, Mapping | list | tuple) and levels <= 1:
        cut.add(f"depth {place}"[:100])
        return "(cut)"
    if isinstance(value, Mapping):
        return {
            _text(str(key), place, cut): _plain(item, levels - 1, f"{place}.{key}".strip("."), cut)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, levels - 1, place, cut) for item in value]
    # Beyond a number, or none: NaN, an infinity.
    if isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) <= MAX_NUMBER:
        cut.add(f"number {place}"[:100])
        return "(cut)"
    return value


def _text(value: str, place: str, cut: set[str]) -> str:
    plain = "".join(_characters(value))
    if plain != value:
        cut.add(_plain_name(f"text {place}"))
    return plain


def _plain_name(name: str) -> str:
    return "".join(_characters(name))[:100]


def _characters(value: str) -> Iterator[str]:
    for character in value:
        yield "\ufffd" if character == "\0" or "\ud800" <= character <= "\udfff" else character


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_LONGEST]
    if isinstance(value, dict):
        return {key[:100]: _short(item) for key, item in list(value.items())[:50]}
    return value if isinstance(value, int | float | None) else None


def _size(value: dict[str, Any]) -> int:
    # As PostgreSQL writes jsonb, with a blank behind each colon and comma.
    return len(json.dumps(value, ensure_ascii=False).encode())
