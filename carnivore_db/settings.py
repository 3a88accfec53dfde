"""Settings from the environment: DATABASE_URL and CARNIVORE_DB_*."""

import base64
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from carnivore_db.errors import ConfigurationError

DRIVER = "postgresql+psycopg"


def parse_url(text: str) -> URL:
    """`text` (postgres://, postgresql:// or postgresql+psycopg://) as a psycopg 3 URL.

    Raises ValueError, without the text: it may hold a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        url = None
    if url is None or url.drivername not in {"postgres", "postgresql", DRIVER}:
        raise ValueError("must be a URL that begins with postgresql://")
    return url.set(drivername=DRIVER)


def _check_url(value: SecretStr) -> SecretStr:
    parse_url(value.get_secret_value())
    return value


KEY_ID = "^[a-z0-9_-]{1,32}$"


def _check_keys(value: object) -> object:
    """Each is checked here, for an error of pydantic's own would show an identifier: who mistook the two
    would find a key in it."""
    for key_id, given in value.items() if isinstance(value, Mapping) else ():
        if not (isinstance(key_id, str) and re.fullmatch(KEY_ID, key_id, re.ASCII)):
            raise ValueError("an identifier has 1 to 32 of the characters a-z, 0-9, _ and -")
        key = given.get_secret_value() if isinstance(given, SecretStr) else given
        try:
            size = len(base64.b64decode(key, validate=True)) if isinstance(key, str) else 0
        except ValueError:
            size = 0
        if size != 32:
            raise ValueError(
                f"key {key_id!r} must be 32 bytes in base64, as `carnivore-db keys generate` prints them"
            )
    return value


class Settings(BaseSettings):
    """What can be set from outside. Secrets do not show in its repr or in validation errors."""

    model_config = SettingsConfigDict(
        env_prefix="CARNIVORE_DB_",
        env_file=".env",
        extra="ignore",
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    def __init__(self, **given: Any) -> None:
        """Raises ConfigurationError, which names the setting and the rule and shows no value."""
        try:
            super().__init__(**given)
        except SettingsError as error:
            raise ConfigurationError(f"{error}: not JSON") from None
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            raise ConfigurationError(f"{fault['loc'][0]}: {fault['msg']}") from None
        # Pydantic adds a dictionary given in code to the environment's: whoever gives keys means these alone.
        if "encryption_keys" in given:
            self.encryption_keys = {key: self.encryption_keys[key] for key in given["encryption_keys"]}

    database_url: Annotated[SecretStr, AfterValidator(_check_url)] | None = Field(
        default=None,
        validation_alias=AliasChoices("DATABASE_URL", "CARNIVORE_DB_DATABASE_URL"),
        description="postgresql://login@host/name; the login is a member of the three roles.",
    )
    pool_size: PositiveInt = Field(default=5, description="Connections kept open.")
    max_overflow: NonNegativeInt = Field(default=10, description="Connections beyond, at a peak.")
    prepare_threshold: NonNegativeInt | None = Field(
        default=None,
        description="Prepare a statement after so many runs; None (never) suits any pooling proxy.",
    )
    access_counting: Literal["immediate", "deferred"] = Field(
        default="immediate",
        description="deferred: accesses are counted as deltas that `carnivore-db maintain` folds.",
    )
    stripe_livemode: bool = Field(
        default=True, description="The mode of Stripe whose events count; false in a test environment."
    )
    stripe_client_reference: bool = Field(
        default=False,
        description="Believe a checkout's client_reference_id, a visitor's own word on a payment link.",
    )
    stripe_unbound: bool = Field(
        default=False, description="Complete sessions whose checkout `payments.begin_checkout` did not begin."
    )
    migration_lock_timeout: PositiveInt = Field(
        default=5, description="Seconds that a migration waits for a lock on a table."
    )
    migration_statement_timeout: PositiveInt = Field(
        default=900, description="Seconds that one statement of a migration may take."
    )
    encryption_keys: Annotated[dict[str, SecretStr], BeforeValidator(_check_keys)] = Field(
        default={},
        description="Keys of learners' API keys by identifier, a JSON object: 32 bytes each, base64.",
    )
    encryption_key_id: str | None = Field(
        default=None, pattern=KEY_ID, description="Which of them writes; the only one when there is one."
    )
    export_location: str = Field(
        default="exports",
        description="Where exports' files go: a folder, or any fsspec URL such as s3://bucket.",
    )
    export_validity_hours: int = Field(
        default=168, ge=1, le=87_600, description="How long an export's file is kept."
    )
    export_lease_seconds: int = Field(
        default=300, ge=30, le=86_400, description="Silence after which an export's worker counts as lost."
    )
    export_max_retries: int = Field(
        default=3, ge=0, le=100, description="How often a lost export is retaken."
    )
    key_batch: int = Field(default=500, ge=1, le=100_000, description="Learners' keys looked at at once.")
    partition_months_ahead: int = Field(
        default=3, ge=1, le=24, description="Months beyond this one that have a partition."
    )
    partition_lock_timeout_ms: int = Field(
        default=2000, ge=10, le=60_000, description="How long a change of partitions may make writers wait."
    )
    archive_location: str | None = Field(
        default=None,
        description="Where old months go: a folder, or any fsspec URL such as s3://bucket. None: they stay.",
    )
    archive_access_log_after_days: int = Field(
        default=365, ge=31, le=36_500, description="Days after its end that a month of accesses is archived."
    )
    archive_logs: bool = Field(
        default=False, description="Archive the chat's logs before they go, 30 days after their month's end."
    )
    archive_restore_days: int = Field(
        default=30, ge=1, le=36_500, description="How long the archive leaves a restored month alone."
    )
    retention_batch: int = Field(default=1000, ge=1, le=100_000, description="Rows deleted at once.")
    retention_pause_ms: int = Field(default=0, ge=0, le=60_000, description="Between two batches.")
    reports_grace_days: int = Field(
        default=90, ge=0, le=36_500, description="How long an expired report is kept; longer while logged."
    )
    report_pages_grace_days: int = Field(
        default=90, ge=0, le=36_500, description="How long an expired report keeps its page."
    )
    unusual_addresses: int = Field(default=5, ge=1, description="From so many addresses a report is unusual.")
    unusual_burst: int = Field(default=20, ge=1, description="So many opens within 60 seconds are unusual.")
    unusual_after_end: int = Field(
        default=1, ge=1, description="So many opens after a report's revocation or expiry are unusual."
    )
    unusual_days: int = Field(default=7, ge=1, le=366, description="How far back they are looked for.")
    verify_ignore: list[str] = Field(
        default=[], description="Patterns of other objects in our schemas, such as public.orders*."
    )

    @property
    def url(self) -> URL:
        """The database's URL. Raises ConfigurationError when none is set."""
        if self.database_url is None:
            raise ConfigurationError(
                "DATABASE_URL is not set. For a private PostgreSQL: carnivore-db local start"
            )
        return parse_url(self.database_url.get_secret_value())


DEFAULTS: Final = Settings.model_construct()
"""What holds where nothing is set, whatever the environment says: the defaults of the functions that take
these values one by one."""
