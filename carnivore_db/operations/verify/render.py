"""Show a verification report on a terminal: one line a section, details only where it differs."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from carnivore_db.operations.verify.checks import Report, Section

_STYLES = {"ok": "green", "differs": "bold red", "skipped": "yellow"}
_SHOWN = 50


def render(report: Report, console: Console) -> None:
    """Print the report. Text from the database is printed as it is, never as markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right")
    table.add_column("check")
    table.add_column("status")
    table.add_column("facts", overflow="fold")
    for section in report.sections:
        status = Text(section.status, style=_STYLES[section.status])
        table.add_row(str(section.number), section.title, status, Text(_facts(section)))
    console.print(table)
    for section in report.sections:
        if section.differences:
            _details(section, console)


def _details(section: Section, console: Console) -> None:
    console.print()
    console.print(Text(f"{section.number}. {section.title}", style="bold"))
    for difference in section.differences[:_SHOWN]:
        first, *rest = difference.splitlines()
        console.print(Text(f"  {first}"), soft_wrap=True)
        for line in rest:
            style = {"+": "green", "-": "red"}.get(line[:1], "dim")
            console.print(Text(f"    {line}", style=style), soft_wrap=True)
    if len(section.differences) > _SHOWN:
        console.print(f"  … and {len(section.differences) - _SHOWN} more")


def _facts(section: Section) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {_value(value)}"
        for name, value in section.facts.items()
        if value not in (None, [], {})
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) if len(value) <= 3 else f"{len(value)}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {fact}" for name, fact in value.items())
    return str(value)
