"""What the chat's services send: codes, what was said, and the facts of an event."""

from typing import Annotated

from pydantic import Field

from carnivore_db.conversation.models import CODE_PATTERN
from carnivore_db.kit.inputs import KIB, FilledText, Payload, Text, payload
from carnivore_db.schema.base import JsonObject

Code = Annotated[str, Field(strict=True, pattern=CODE_PATTERN, max_length=50)]
Content = Annotated[Text, Field(max_length=8000)]
Title = Annotated[FilledText, Field(max_length=200)]
Opening = Annotated[FilledText, Field(max_length=8000)]
Description = Annotated[FilledText, Field(max_length=200)]


class Facts(Payload):
    """`logs.metadata`: whatever the application notes of an event. No keys are known beforehand."""


FactsInput = Annotated[JsonObject | Facts, payload(Facts, 64 * KIB)]
