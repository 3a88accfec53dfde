"""The areas: products that install, upgrade, verify and go away alone."""

from typing import Literal, get_args

Area = Literal["weekly", "vocabulary", "conversation"]
AREAS: tuple[Area, ...] = get_args(Area)
# What they stand on: the trunk of the revisions, there wherever an area is.
PLATFORM = "platform"
