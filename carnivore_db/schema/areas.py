"""The areas: products that install, upgrade, verify and go away alone, and the platform below them."""

from typing import Literal, cast, get_args

from sqlalchemy import Connection, text

Area = Literal["weekly", "vocabulary", "conversation"]
AREAS: tuple[Area, ...] = get_args(Area)
# The trunk of the revisions, there wherever an area is.
PLATFORM = "platform"

_SCHEMAS = text("SELECT DISTINCT unnest(schemas) AS schema FROM carnivore.areas ORDER BY schema")
_INSTALLED = text("SELECT area FROM carnivore.areas WHERE area = ANY(:areas)")


def installed(connection: Connection) -> tuple[Area, ...]:
    """The areas that are installed, in the order of AREAS; as the migrating role.

    Raises what the database raises where the platform is missing.
    """
    found = set(connection.scalars(_INSTALLED, {"areas": list(AREAS)}))
    return tuple(area for area in AREAS if cast("str", area) in found)


def schemas(connection: Connection) -> list[str]:
    """The schemas of the platform and of the installed areas; as the migrating role."""
    return list(connection.scalars(_SCHEMAS))
