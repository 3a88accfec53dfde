"""What learners' apps send: a session's work and material, a profile, the choice of an export.

The usual keys of JSON objects are known by their types, all others are kept as they are.
"""

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from carnivore_db.kit.inputs import KIB, FilledText, Hidden, Payload, Text, payload
from carnivore_db.schema.base import JsonObject
from carnivore_db.vocabulary.models import MOST, Language, Level, SessionType, Style, Theme

Count = Annotated[int, Field(strict=True, ge=0, le=MOST)]
_STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
Share = Annotated[float, Field(ge=0, le=1)]


class Work(BaseModel):
    """What was done in a session so far (document 001). Numbers replace those stored; None leaves them."""

    model_config = _STRICT

    images_processed: Count | None = None
    descriptions_generated: Count | None = None
    qa_attempts: Count | None = None
    qa_correct: Count | None = None
    vocabulary_learned: Count | None = None
    phrases_saved: Count | None = None
    engagement_score: Share | None = None
    completion_rate: Share | None = None

    def values(self) -> dict[str, int | float]:
        """The numbers that were given, by column."""
        return self.model_dump(exclude_none=True)


class Profile(Hidden):
    """What a learner says of themselves and prefers (document 001). Only what was given changes."""

    model_config = _STRICT

    username: Annotated[str, Field(pattern="^[A-Za-z0-9_]{3,50}$")] | None = None
    full_name: Annotated[FilledText, Field(min_length=2, max_length=255)] | None = None
    avatar_url: Annotated[Text, Field(pattern=r"^https?://\S+$", max_length=2048)] | None = None
    spanish_level: Level = "beginner"
    profile_completed: bool = False
    theme: Theme = "light"
    language: Language = "en"
    default_description_style: Style = "conversacional"
    target_words_per_day: Annotated[int, Field(strict=True, ge=1, le=100)] = 10
    preferred_difficulty: Level = "beginner"
    enable_notifications: bool = True

    def values(self) -> dict[str, object]:
        """What was given, by column; None empties one that may be empty."""
        return self.model_dump(exclude_unset=True)


class Word(Payload):
    """A word or phrase with its translation: a card of an Anki export."""

    word: Annotated[str, Field(min_length=1, max_length=500)]
    translation: Annotated[str, Field(max_length=500)] = ""
    example: Annotated[str, Field(max_length=2000)] = ""


class SessionData(Payload):
    """`sessions.session_data` (document 001): what was learned, for the app and for exports."""

    vocabulary: list[Word] = Field(default_factory=list)
    phrases: list[Word] = Field(default_factory=list)


class Filters(BaseModel):
    """`export_history.filters` (document 001): which of a learner's sessions an export holds."""

    model_config = _STRICT

    since: AwareDatetime | None = None  # started at this moment or later
    until: AwareDatetime | None = None  # started before this moment
    session_types: list[SessionType] | None = None
    ended_only: bool = False


SessionDataInput = Annotated[JsonObject | SessionData, payload(SessionData, 64 * KIB)]
