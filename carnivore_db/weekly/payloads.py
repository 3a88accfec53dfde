"""The JSON that Carnivore Weekly stores: the usual keys by their types, all others kept as they are.

A model is passed like a plain dict. What is saved is given back as JSON has it: a float of 17 digits or
more before the point returns as the whole number of the same digits.
"""

from typing import Annotated, Literal

from pydantic import Field

from carnivore_db.kit.inputs import KIB, Payload, payload
from carnivore_db.schema.base import JsonObject

Amount = Annotated[int | float, Field(ge=0, le=1_000_000)]
Short = Annotated[str, Field(max_length=200)]
# A form half filled in: the browser sends numbers as it has them, as numbers or as typed text.
Entry = int | float | Short | None


class MacroData(Payload):
    """`user_sessions.macro_data` (document 012): grams a day and calories."""

    protein: Amount | None = None
    fat: Amount | None = None
    carbs: Amount | None = None
    calories: Amount | None = None


class FormState(Payload):
    """`calculator2_sessions.form_state` (document 014): the form as far as it is filled in."""

    step: Entry = None
    units: Literal["metric", "imperial"] | None = None
    sex: Short | None = None
    age: Entry = None
    height: Entry = None
    weight: Entry = None
    goal: Short | None = None


class FormData(Payload):
    """`cw_assessment_sessions.form_data` (document 020): the whole assessment form."""

    age: Entry = None
    height: Entry = None
    weight: Entry = None
    sex: Short | None = None
    goal: Short | None = None


class Questionnaire(Payload):
    """`generated_reports.questionnaire_data` (document 012): the answers at generation."""

    first_name: Annotated[str, Field(max_length=100)] | None = None
    age: Entry = None
    sex: Short | None = None
    goal: Short | None = None
    allergies: list[str] | str | None = None


MacroDataInput = Annotated[JsonObject | MacroData, payload(MacroData, 64 * KIB)]
FormStateInput = Annotated[JsonObject | FormState, payload(FormState, 64 * KIB)]
FormDataInput = Annotated[JsonObject | FormData, payload(FormData, 256 * KIB)]
QuestionnaireInput = Annotated[JsonObject | Questionnaire, payload(Questionnaire, 256 * KIB)]
