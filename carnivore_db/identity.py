"""Who is asking: a role and its claims, set for one transaction and for nothing longer."""

import json
from dataclasses import dataclass, field
from typing import LiteralString
from uuid import UUID

from carnivore_db.errors import InvalidInput

_ENTER: LiteralString = (
    "SELECT set_config('role', %s, true), set_config('request.jwt.claims', %s, true),"
    " set_config('carnivore.report_token', %s, true), set_config('carnivore.calculator_token', %s, true),"
    " set_config('carnivore.access_counting', %s, true),"
    # Supabase's functions believe the older form of claims first; the policies read a header too.
    " set_config('request.jwt.claim', '', true), set_config('request.jwt.claim.sub', '', true),"
    " set_config('request.jwt.claim.role', '', true), set_config('request.jwt.claim.email', '', true),"
    " set_config('request.headers', '', true), set_config('carnivore.expiry_reason', '', true),"
    # Names of ours are qualified; what somebody left in public stands behind the system's.
    " set_config('search_path', 'pg_catalog, public, pg_temp', true)"
)


@dataclass(frozen=True)
class Identity:
    """A PostgreSQL role, the claims that `auth.uid()` and `auth.email()` read, and presented tokens."""

    role: str
    claims: dict[str, str] = field(default_factory=dict, repr=False)
    report_token: str = field(default="", repr=False)
    calculator_token: str = field(default="", repr=False)

    def statement(self, *, access_counting: str = "") -> tuple[LiteralString, tuple[str, ...]]:
        """The one statement that makes a transaction this identity's, for the driver, and its values.

        Everything is set transaction-locally and nothing is left from an earlier transaction, so that a
        pooling proxy may give each transaction another session. The values hold secrets: they are bound, for
        the server may log a statement's text.
        """
        claims = json.dumps({**self.claims, "role": self.role})
        return _ENTER, (self.role, claims, self.report_token, self.calculator_token, access_counting)


def service() -> Identity:
    """The application's own backend: what its grants allow, in all rows."""
    return Identity("service_role")


def user(user_id: UUID | str, email: str) -> Identity:
    """A person who logged in; the application has verified `user_id` and `email`.

    Raises InvalidInput when `user_id` is no UUID.
    """
    try:
        sub = UUID(str(user_id))
    except ValueError:
        raise InvalidInput("user_id", "uuid", "must be a UUID") from None
    return Identity("authenticated", {"sub": str(sub), "email": email})


def anonymous() -> Identity:
    """A visitor who presented nothing."""
    return Identity("anon")


def token_holder(*, report_token: str = "", calculator_token: str = "") -> Identity:
    """A visitor with the secret of a report's link or of a calculator session."""
    return Identity("anon", report_token=report_token, calculator_token=calculator_token)
