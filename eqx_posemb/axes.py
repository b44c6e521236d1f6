"""Axes: which coordinate of a position turns which pair of channels."""

from ._rotary._axes import (
    AbstractAxes as AbstractAxes,
    Assigned as Assigned,
    Axial as Axial,
    Mixed as Mixed,
    Sections as Sections,
)
