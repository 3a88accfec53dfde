"""Small damages to the text of a function, view or trigger.

An operator yields places in a text and what stands there instead. Comments are stripped first, texts of
messages are left alone, and a statement in a string that is executed is text like any other.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<string>'(?:[^']|'')*')
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<word>"[^"]+"|\$\d+|\$\w*\$|[A-Za-z_]\w*|%(?:\d+\$)?[sIL])
    |(?P<sign>:=|=>|::|<>|<=|>=|\|\||->>|->|@>|&&|\*=|!~|%%|.)""",
    re.VERBOSE | re.DOTALL,
)
COMMENT = re.compile(r"('(?:[^']|'')*')|--[^\n]*")
EXECUTED = re.compile(r"EXECUTE (?!FUNCTION)(?:[^';]|'(?:[^']|'')*')*;")
SQL = re.compile(r"\b(SELECT|DELETE FROM|INSERT INTO|ALTER TABLE|CREATE|COMMENT|REVOKE|LOCK|WHERE|AND)\b")
STRING = re.compile(r"'((?:[^']|'')*)'")
# Where a term of a condition ends or begins, at its depth.
EDGES = {
    *[
        "THEN",
        "ELSE",
        "WHEN",
        "WHERE",
        "GROUP",
        "ORDER",
        "HAVING",
        "LIMIT",
        "OFFSET",
        "FOR",
        "UNION",
        "RETURNING",
        "LOOP",
        "ON",
        "JOIN",
        "LEFT",
        "CROSS",
        "AS",
    ],
    *[
        "INTO",
        "USING",
        "WINDOW",
        "SET",
        "FROM",
        "SELECT",
        "IF",
        "ELSIF",
        "RETURN",
        "BEGIN",
        "EXECUTE",
        "PERFORM",
        "DISTINCT",
        "VALUES",
        "LATERAL",
    ],
    *[";", ",", ":=", "=>", "$FUNCTION$", "$PROCEDURE$", "$QUERY$", "$SQL$", "ASC", "DESC"],
}
# What a statement follows.
BEFORE_STATEMENTS = {"THEN", "ELSE", "LOOP", "BEGIN", "$FUNCTION$", "$PROCEDURE$", "DECLARE", ";"}
DROPPED = {"PERFORM", "EXECUTE", "UPDATE", "DELETE", "INSERT", "WITH", "SELECT", "GET", "RAISE", "CALL"}
Place = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    start: int
    end: int
    # Parentheses and CASEs around it.
    depth: int
    # The first word of its statement, and whether it is that word.
    statement: str
    begins: bool

    @property
    def word(self) -> str:
        return self.text.upper()


def plain(text: str) -> str:
    """The text without its comments; what is executed is quoted with dollars."""

    def unquoted(string: re.Match[str]) -> str:
        return f"$sql${string[1].replace(chr(39) * 2, chr(39))}$sql$" if SQL.search(string[1]) else string[0]

    text = COMMENT.sub(lambda found: found[1] or "", text)
    text = re.sub(r"'\s*\n\s*'", "", text)
    return EXECUTED.sub(lambda statement: STRING.sub(unquoted, statement[0]), text)


class Source:
    """A text as tokens. `kind`: function, view or trigger; `before`: a BEFORE trigger runs it."""

    def __init__(self, text: str, kind: str, *, before: bool = False) -> None:
        self.text, self.kind, self.before = plain(text), kind, before
        self.tokens: list[Token] = []
        opened: list[str] = []
        statement, begins = "", True
        for found in TOKEN.finditer(self.text):
            word = found[0].upper()
            if found.lastgroup == "space":
                continue
            if opened and (word in ")]" or (word == "END" and opened[-1] == "CASE")):
                opened.pop()
            statement = word if begins else statement
            self.tokens.append(
                Token(str(found.lastgroup), found[0], *found.span(), len(opened), statement, begins)
            )
            begins = word in BEFORE_STATEMENTS and not opened
            if word in "([" or (word == "CASE" and self.word(len(self.tokens) - 2) != "END"):
                opened.append(word)
        # The header has damages of other kinds: the body alone is text.
        marks = {"function": {"$FUNCTION$", "$PROCEDURE$"}, "view": {"AS"}, "trigger": {"WHEN"}}[kind]
        self.body = range(
            1 + next((p for p, t in enumerate(self.tokens) if t.word in marks), 10**9), len(self.tokens)
        )

    def word(self, place: int) -> str:
        return self.tokens[place].word if 0 <= place < len(self.tokens) else ""

    def words(self, *words: str) -> Iterator[int]:
        """The places of these words."""
        return (place for place in self.body if self.word(place) in words)

    def span(self, first: int, last: int, instead: str = "") -> Place:
        """What is between the two places, the last one not included, and its replacement."""
        return self.tokens[first].start, self.tokens[last - 1].end, instead

    def between(self, first: int, last: int) -> str:
        return self.text[self.tokens[first].start : self.tokens[last - 1].end] if first < last else ""

    def edge(self, place: int, step: int, *others: str) -> int:
        """Where the term that stands beside this place, on that side, is over."""
        depth = self.tokens[place].depth
        place += step
        while 0 <= place < len(self.tokens):
            token = self.tokens[place]
            if token.depth < depth or (token.depth == depth and self._is_edge(place, others)):
                break
            place += step
        return place

    def _is_edge(self, place: int, others: tuple[str, ...]) -> bool:
        word, before = self.word(place), self.word(place - 1)
        if word in others:
            return True
        inside = (
            (word == "FROM" and before == "DISTINCT")
            or (word == "DISTINCT" and before in {"IS", "NOT"})
            or (word == "LEFT" and self.word(place + 1) == "(")
        )
        return word in EDGES and not inside

    def close(self, place: int) -> int:
        """The place of the parenthesis that closes the one here."""
        depth = self.tokens[place].depth
        return next(p for p in range(place + 1, len(self.tokens)) if self.tokens[p].depth == depth)

    def items(self, first: int, last: int) -> list[tuple[int, int]]:
        """The items of a list, by their first places and the places after them."""
        depth = self.tokens[first].depth
        commas = [p for p in range(first, last) if self.word(p) == "," and self.tokens[p].depth == depth]
        return [(one + 1, other) for one, other in pairwise([first - 1, *commas, last])]

    def one_less(self, items: list[tuple[int, int]]) -> Iterator[Place]:
        """The list without one of its items, each in turn."""
        for gone in items if len(items) > 1 else []:
            kept = ", ".join(self.between(*item) for item in items if item != gone)
            yield self.span(items[0][0], items[-1][1], kept)

    def calls(self, *names: str) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Calls of these functions, and their arguments."""
        for place in self.words(*names):
            if self.word(place + 1) == "(" and self.word(place + 2) != ")" and self.word(place - 1) != ".":
                yield place, self.items(place + 2, self.close(place + 1))

    def is_message(self, place: int) -> bool:
        levels = {"EXCEPTION", "NOTICE", "DEBUG"}
        raised = self.tokens[place].statement == "RAISE"
        return raised and (self.word(place - 1) in levels or self.word(place - 2) in {"HINT", "MESSAGE"})

    def compares(self, place: int) -> bool:
        """Whether this = compares, and does not assign."""
        token = self.tokens[place]
        if token.statement in {"GET", "RAISE"}:
            return False
        begin = self.edge(place, -1)
        while begin >= 0 and self.word(begin) == "," and self.tokens[begin].depth == token.depth:
            begin = self.edge(begin, -1)
        return self.word(begin) != "SET"


Operator = Callable[[Source], Iterator[Place]]
OPERATORS: list[Operator] = []


def operator(one: Operator) -> Operator:
    OPERATORS.append(one)
    return one


def _terms(s: Source, joint: str, *others: str) -> Iterator[Place]:
    for place in s.words(joint):
        first, last = s.edge(place, -1, *others) + 1, s.edge(place, 1, *others)
        depth = s.tokens[place].depth
        if not any(s.word(p) == "BETWEEN" and s.tokens[p].depth == depth for p in range(first, place)):
            yield s.span(first, place + 1)
            yield s.span(place, last)


@operator
def less_of_and(s: Source) -> Iterator[Place]:
    """One term less of AND."""
    return _terms(s, "AND", "AND", "OR")


@operator
def less_of_or(s: Source) -> Iterator[Place]:
    """One term less of OR. Those of triggers have a kind of their own."""
    return iter(()) if s.kind == "trigger" else _terms(s, "OR", "OR")


SHIFTED = {
    "<": ("<=", ">"),
    "<=": ("<", ">="),
    ">": (">=", "<"),
    ">=": (">", "<="),
    "<>": ("=",),
    "=": ("<>",),
}


@operator
def comparison(s: Source) -> Iterator[Place]:
    """A comparison shifted and turned round."""
    for place in s.words(*SHIFTED):
        if s.word(place) != "=" or s.compares(place):
            yield from (s.span(place, place + 1, instead) for instead in SHIFTED[s.word(place)])


@operator
def null_and_distinct(s: Source) -> Iterator[Place]:
    """IS NULL turned round, and IS DISTINCT FROM."""
    for place in s.words("IS"):
        longer = s.word(place + 1) == "NOT"
        if s.word(place + 1 + longer) in {"NULL", "DISTINCT"}:
            yield s.span(place, place + 1 + longer, "IS" if longer else "IS NOT")


@operator
def condition(s: Source) -> Iterator[Place]:
    """A condition that is always met, and one that never is."""
    for place in s.words("IF", "ELSIF", "WHEN"):
        last = s.edge(place, 1)
        if s.word(place - 1) != "END" and s.word(last) in {"THEN", ";"}:
            yield from (s.span(place + 1, last, instead) for instead in ("true", "false"))
    if s.kind == "trigger" and s.body:
        yield s.span(s.body[0], s.close(s.body[0]) + 1, "(true)")


@operator
def selection(s: Source) -> Iterator[Place]:
    """All rows instead of some: WHERE and ON without a condition."""
    for place in s.words("WHERE", "ON") if s.kind != "trigger" else ():
        last = s.edge(place, 1)
        if s.word(place + 1) not in {"CONFLICT", "CURRENT"} and s.between(place + 1, last) not in {
            "",
            "true",
            "(true)",
        }:
            yield s.span(place + 1, last, "true")


@operator
def negation(s: Source) -> Iterator[Place]:
    """NOT left out, and EXISTS and IN turned round."""
    for place in s.words("NOT"):
        if s.word(place + 1) not in {"NULL", "DISTINCT"} and s.word(place - 1) != "IS":
            yield s.span(place, place + 1)
    for place in s.words("EXISTS", "IN"):
        condition = s.word(place + 1) == "(" and s.tokens[place].statement != "LOCK"
        if condition and s.word(place - 1) != "NOT":
            yield s.span(place, place + 1, f"NOT {s.word(place)}")


@operator
def found(s: Source) -> Iterator[Place]:
    """A flag of its own taken for met, and for not met."""
    for place in s.words("FOUND"):
        yield s.span(place, place + 1, "true")
        yield s.span(place, place + 1, "false")


@operator
def filtered(s: Source) -> Iterator[Place]:
    """FILTER left out."""
    for place in s.words("FILTER"):
        yield s.span(place, s.close(place + 1) + 1)


@operator
def order(s: Source) -> Iterator[Place]:
    """Another order: each key turned round."""
    for place in s.words("BY"):
        if s.word(place - 1) == "ORDER":
            for _, last in s.items(place + 1, _list_end(s, place)):
                descends = s.word(last - 1) == "DESC"
                yield s.span(last - 1, last, "" if descends else f"{s.tokens[last - 1].text} DESC")


def _list_end(s: Source, place: int) -> int:
    """Where a list of keys is over, which commas and directions are no end of."""
    last = s.edge(place, 1)
    while s.word(last) in {",", "DESC", "ASC"} and s.tokens[last].depth == s.tokens[place].depth:
        last = s.edge(last, 1)
    return last


@operator
def limit(s: Source) -> Iterator[Place]:
    """LIMIT, OFFSET and DISTINCT left out."""
    for place in s.words("LIMIT", "OFFSET"):
        yield s.span(place, s.edge(place, 1))
    for place in s.words("DISTINCT"):
        if s.word(place + 1) != "FROM":
            yield s.span(place, place + 1)


@operator
def branch(s: Source) -> Iterator[Place]:
    """A branch of UNION ALL left out; the one after it stays."""
    for place in s.words("UNION"):
        depth = s.tokens[place].depth
        last = place + 1
        while last < len(s.tokens) and s.tokens[last].depth >= depth:
            if s.tokens[last].depth == depth and s.word(last) in {"UNION", ";", "$FUNCTION$", "ORDER"}:
                break
            last += 1
        yield s.span(place, last)


@operator
def alternative(s: Source) -> Iterator[Place]:
    """An argument less of what chooses among them."""
    for _, items in s.calls("COALESCE", "GREATEST", "LEAST", "NULLIF"):
        yield from s.one_less(items)


@operator
def unwrapped(s: Source) -> Iterator[Place]:
    """What shapes a value left out."""
    shapes = ("LOWER", "BTRIM", "RTRIM", "LEFT", "ROUND", "FLOOR", "CEIL", "REVERSE", "UPPER", "ISFINITE")
    for place, items in s.calls(*shapes):
        yield s.span(place, s.close(place + 1) + 1, f"({s.between(*items[0])})")


OTHER = {
    "MIN": "max",
    "MAX": "min",
    "SUM": "max",
    "BOOL_OR": "bool_and",
    "BOOL_AND": "bool_or",
    "ROUND": "floor",
    "FLOOR": "round",
    "CEIL": "floor",
}


@operator
def another_function(s: Source) -> Iterator[Place]:
    """Another function, another moment, another count."""
    for place, _ in s.calls(*OTHER):
        yield s.span(place, place + 1, OTHER[s.word(place)])
    for place in s.words("CLOCK_TIMESTAMP", "NOW"):
        yield s.span(place, place + 1, "now" if s.word(place) == "CLOCK_TIMESTAMP" else "clock_timestamp")
    for place in s.words("COUNT"):
        if s.word(place + 2) == "*" and s.word(place + 4) not in {"FILTER", "OVER"}:
            yield s.span(place, place + 4, "(count(*) + 1)")
        elif s.word(place + 1) == "(" and s.word(place + 2) != "*":
            yield s.span(place + 2, s.close(place + 1), "*")


@operator
def assignment(s: Source) -> Iterator[Place]:
    """A variable that is given nothing."""
    for place in s.words(":="):
        if (last := s.edge(place, 1, "END")) > place + 1 and s.between(place + 1, last) != "NULL":
            yield s.span(place + 1, last, "NULL")


@operator
def statement(s: Source) -> Iterator[Place]:
    """A statement left out."""
    for place in s.body:
        if s.tokens[place].begins and s.word(place) in DROPPED:
            ends = [p for p in s.words(";") if p > place and s.tokens[p].depth == s.tokens[place].depth]
            if ends:
                yield s.span(place, ends[0], "NULL")


@operator
def listed(s: Source) -> Iterator[Place]:
    """An item less of a list: IN, ARRAY, pairs of an object, a trigger's arguments."""
    for place in s.words("IN", "ARRAY"):
        if s.word(place + 1) in "([" and s.word(place + 2) not in {"SELECT", ")", "]"}:
            yield from s.one_less(s.items(place + 2, s.close(place + 1)))
    for _, items in s.calls("JSONB_BUILD_OBJECT"):
        pairs = [(one[0], other[1]) for one, other in zip(items[::2], items[1::2], strict=True)]
        yield from s.one_less(pairs)
    if s.kind == "trigger":
        opened = max(p for p in range(len(s.tokens)) if s.word(p) == "(")
        if s.word(opened + 1) != ")":
            yield from s.one_less(s.items(opened + 1, s.close(opened)))


@operator
def assigned_columns(s: Source) -> Iterator[Place]:
    """A column less that an UPDATE sets, and one that keeps its value."""
    for place in s.words("SET"):
        if s.tokens[place].statement not in {"ALTER"} and s.word(place + 2) == "=":
            yield from s.one_less(s.items(place + 1, _list_end(s, place)))


@operator
def sum_of_two(s: Source) -> Iterator[Place]:
    """A difference for a sum, and a sum for a difference; one part less of what is joined."""
    for place in s.words("+", "-"):
        if s.word(place - 1) not in {"(", ",", "THEN", "ELSE", "="}:
            yield s.span(place, place + 1, "-" if s.word(place) == "+" else "+")
    for place in s.words("||"):
        yield s.span(place - 1, place + 1) if s.word(place - 1) not in ")]" else s.span(place, place + 2)


@operator
def literal(s: Source) -> Iterator[Place]:
    """Another number, interval, moment or name."""
    units = r"'(\d+)( (?:microsecond|second|minute|hour|day|week|month|year)s?)?'"
    for place, token in enumerate(s.tokens):
        given = s.word(place - 1) == "DEFAULT"
        if s.is_message(place) or (place not in s.body and not given):
            continue
        if token.kind == "number":
            yield s.span(place, place + 1, str(int(float(token.text)) + 1))
        elif token.kind == "string" and (amount := re.fullmatch(units, token.text)):
            yield s.span(place, place + 1, f"'{int(amount[1]) + 1}{amount[2] or ''}'")
        elif token.kind == "string" and token.text.endswith("00:00:00+00'"):
            yield s.span(place, place + 1, token.text.replace("+00'", "'"))
        elif token.kind == "string" and {s.word(place - 1), s.word(place + 1)} & {"=", "<>"}:
            yield s.span(place, place + 1, f"'x{token.text[1:]}")
        elif token.word in {"TRUE", "FALSE"}:
            yield s.span(place, place + 1, "false" if token.word == "TRUE" else "true")


@operator
def zone(s: Source) -> Iterator[Place]:
    """AT TIME ZONE left out."""
    for place in s.words("ZONE"):
        if s.word(place - 2) == "AT":
            yield s.span(place - 2, place + 2)


@operator
def returned(s: Source) -> Iterator[Place]:
    """Another row returned to the statement, or nothing to the caller."""
    rows = {"NEW": ("NULL", "OLD"), "OLD": ("NULL",), "NULL": ("NEW",)}
    for place in s.words("RETURN"):
        value = s.between(place + 1, s.edge(place, 1))
        if value in rows:
            yield from (s.span(place + 1, place + 2, other) for other in (rows[value] if s.before else ()))
        elif value and value not in {"QUERY", "true", "false", "0", "1"}:
            yield s.span(place + 1, s.edge(place, 1), "NULL")


@operator
def conflict(s: Source) -> Iterator[Place]:
    """ON CONFLICT left out."""
    for place in s.words("CONFLICT"):
        depth = s.tokens[place].depth
        ends = {";", "RETURNING", "$FUNCTION$", "$SQL$"}
        last = place
        while s.tokens[last].depth > depth or (s.tokens[last].depth == depth and s.word(last) not in ends):
            last += 1
        yield s.span(place - 1, last)


@operator
def caught(s: Source) -> Iterator[Place]:
    """An error that is not caught."""
    for place in s.words("EXCEPTION"):
        if s.tokens[place].statement == "EXCEPTION":
            yield s.span(place + 2, s.edge(place + 1, 1), "division_by_zero")


def damages(source: Source) -> Iterator[tuple[str, str]]:
    """What each damage is, in words, and the damaged text."""
    seen = {source.text}
    for one in OPERATORS:
        for start, end, instead in one(source):
            text = f"{source.text[:start]} {instead} {source.text[end:]}"
            if text not in seen and source.text[start:end] != instead:
                seen.add(text)
                context = " ".join(source.text[max(0, start - 60) : start].split())
                left = " ".join(source.text[start:end].split())
                yield (
                    f"{one.__name__.replace('_', ' ')}: {context} [{left}] -> [{' '.join(instead.split())}]",
                    text,
                )
