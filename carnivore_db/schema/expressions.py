"""SQL as PostgreSQL prints it, in one form for every version and for a restored database.

A dump's text is parsed again, and the catalog then prints some of it differently: `(a OR b) OR c` becomes
`a OR b OR c`, and the casts of a list of varchars move inside. PostgreSQL 15 writes `SELECT t.a FROM t` in a
view where 16 and later write `SELECT a FROM t`. The meaning is the same.
"""

import re
from dataclasses import dataclass, field

# Strings, quoted names, parentheses, and what is between them.
_PIECE = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[()]|[^'\"()]+")
_VARCHAR = r"'(?:[^']|'')*'::character varying"
_CAST_LIST = re.compile(rf"\(ARRAY\[({_VARCHAR}(?:, {_VARCHAR})*)\]\)::text\[\]")
_CAST_VALUE = re.compile(rf"\(({_VARCHAR})\)::text\b")
_CONNECTIVE = re.compile(r"\s(AND|OR)\s")
_BEGINS, _ENDS = re.compile(r"^\s+(AND|OR)\s"), re.compile(r"\s(AND|OR)\s+$")
_QUERY = re.compile(r"\s*(?:SELECT|WITH|VALUES)\b")
_SET_OPERATION = re.compile(r"^(?:UNION|INTERSECT|EXCEPT)\b", re.MULTILINE)
_SOURCES = re.compile(r"^ {3}FROM (?:ONLY )?(.*?);?$(?!\n {3,})", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Group:
    """What stands between two parentheses: texts, and groups in turn."""

    parts: list["str | _Group"] = field(default_factory=list)

    def __str__(self) -> str:
        return "".join(f"({part})" if isinstance(part, _Group) else part for part in self.parts)

    def outline(self) -> str:
        """Its own text: without strings and quoted names, its groups empty."""
        return "".join(
            "()" if isinstance(part, _Group) else "" if part[0] in "'\"" else part for part in self.parts
        )

    def is_query(self) -> bool:
        return bool(_QUERY.match(self.outline()))

    def connectives(self) -> set[str]:
        return set() if self.is_query() else set(_CONNECTIVE.findall(self.outline()))


def plain(text: str) -> str:
    """An expression, or a statement with expressions, as a second parse of its text would print it."""
    return _shown(_flat(_parsed(_cast_inside(text))))


def plain_view(text: str) -> str:
    """A view's query, as `plain`; where it reads one relation, without that qualifier."""
    query = _parsed(_cast_inside(text))
    source = _only_source(query.outline())
    return _shown(_flat(_unqualified(query, source) if source else query))


def _shown(group: _Group) -> str:
    """Its text, without blanks at the ends of lines: they come and go with a parenthesis."""
    pieces = _PIECE.findall(str(group))
    return "".join(piece if piece[0] in "'\"" else re.sub(" +\n", "\n", piece) for piece in pieces)


def _cast_inside(text: str) -> str:
    def as_text(found: re.Match[str]) -> str:
        return found[1].replace("::character varying", "::text")

    return _CAST_VALUE.sub(as_text, _CAST_LIST.sub(lambda found: f"ARRAY[{as_text(found)}]", text))


def _parsed(text: str) -> _Group:
    stack = [_Group()]
    for piece in _PIECE.findall(text):
        if piece == "(":
            stack.append(_Group())
        elif piece == ")" and len(stack) > 1:
            closed = stack.pop()
            stack[-1].parts.append(closed)
        else:
            stack[-1].parts.append(piece)
    return stack[0]


def _flat(group: _Group) -> _Group:
    """`(a AND b) AND c` as `a AND b AND c`, and so with OR, at every depth."""
    own = group.connectives()
    flat: list[str | _Group] = []
    for at, part in enumerate(group.parts):
        if isinstance(part, str):
            flat.append(part)
            continue
        inner = _flat(part)
        before, after = group.parts[max(at - 1, 0) : at], group.parts[at + 1 : at + 2]
        is_operand = all(_ENDS.search(str(text)) for text in before) and all(
            _BEGINS.search(str(text)) for text in after
        )
        if len(own) == 1 and is_operand and inner.connectives() == own:
            flat += inner.parts
        else:
            flat.append(inner)
    return _Group(flat)


def _only_source(outline: str) -> str | None:
    """The name of the only relation that a query reads, None when there are several."""
    found = _SOURCES.findall(outline)
    if len(found) != 1 or "," in found[0] or "JOIN" in found[0] or _SET_OPERATION.search(outline):
        return None
    relation, _, alias = found[0].partition(" ")
    return (alias or relation.rpartition(".")[2]).removesuffix("()") or None


def _unqualified(group: _Group, source: str) -> _Group:
    """Without the qualifier, except in queries inside: there every version writes it."""
    qualifier = re.compile(rf"(?<![\w.$]){re.escape(source)}\.(?=\w|\Z)")
    parts: list[str | _Group] = []
    for part in group.parts:
        if isinstance(part, _Group):
            parts.append(part if part.is_query() else _unqualified(part, source))
        else:
            parts.append(part if part[0] in "'\"" else qualifier.sub("", part))
    return _Group(parts)
