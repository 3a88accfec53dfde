"""Sizes as people read them: in units of 1024."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def unit(size: float) -> tuple[int, str]:
    """The unit in which `size` bytes (or fewer than none) is a number of one to four digits: its bytes, its
    name."""
    power = 0
    while abs(size) >= 1024 ** (power + 1) and power < len(_UNITS) - 1:
        power += 1
    return 1024**power, _UNITS[power]


def readable(size: float) -> str:
    """`size` bytes as text: 812 B, 1.4 MiB."""
    divisor, name = unit(size)
    return f"{size:.0f} B" if divisor == 1 else f"{size / divisor:,.1f} {name}"
