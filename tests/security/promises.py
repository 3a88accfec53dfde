"""All promises, the catalog's last. Importing a module registers what it promises."""

from tests.security import (  # noqa: F401
    promises_calculator,
    promises_catalog,
    promises_escape,
    promises_log,
    promises_reports,
    promises_rights,
    promises_rows,
    promises_sessions,
)
from tests.security.registry import PROMISES, Promise

__all__ = ["PROMISES", "Promise"]
