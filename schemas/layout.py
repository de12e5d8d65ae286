"""Layout of a set on its canvas."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from schemas.base import Box, Schema

PANEL_STEP = 32
"""Panel sides are multiples of this, so seams fall on FLUX token and JPEG block borders."""

MIN_PANELS, MAX_PANELS = 2, 9

Side = Annotated[int, Field(gt=0, le=8192, multiple_of=PANEL_STEP)]
Cells = Annotated[int, Field(ge=1, le=9)]

_NAMED = {
    (1, 2): ("[LEFT]", "[RIGHT]"),
    (2, 1): ("[TOP]", "[BOTTOM]"),
    (2, 2): ("[TOP-LEFT]", "[TOP-RIGHT]", "[BOTTOM-LEFT]", "[BOTTOM-RIGHT]"),
}
"""The markers of the released tasks, by rows and columns."""


def usual_markers(rows: int, columns: int) -> tuple[str, ...]:
    """Returns the markers of any grid: those of the released tasks, or numbers in reading order.

    A single row or column of three and more is a storyboard (``[SCENE-1]``), any other grid has
    ``[PANEL-1]`` and so on.
    """
    if named := _NAMED.get((rows, columns)):
        return named
    word = "SCENE" if 1 in (rows, columns) else "PANEL"
    return tuple(f"[{word}-{number + 1}]" for number in range(rows * columns))


class Layout(Schema):
    """Rows x columns of equal panels, filled row by row."""

    rows: Cells = 3
    """Number of panel rows."""

    columns: Cells = 1
    """Number of panel columns."""

    panel_width: Side = 1024
    """Pixels; a multiple of 32."""

    panel_height: Side = 512
    """Pixels; a multiple of 32."""

    markers: Annotated[tuple[str, ...], Field(validate_default=True)] = ()
    """Marker per panel, in reading order; the usual ones of this grid if left out."""

    @field_validator("markers")
    @classmethod
    def _follow_the_grid(cls, markers: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if markers or not {"rows", "columns"} <= info.data.keys():
            return markers
        return usual_markers(info.data["rows"], info.data["columns"])

    @model_validator(mode="after")
    def _one_marker_per_panel(self) -> Self:
        if len(self.markers) != self.panels or len(set(self.markers)) != self.panels:
            raise ValueError(
                f"{self.rows}x{self.columns} needs {self.panels} different markers, "
                f"got {list(self.markers)}"
            )
        if not MIN_PANELS <= self.panels <= MAX_PANELS:
            raise ValueError(f"a set has 2 to 9 panels, not {self.panels}")
        return self

    @property
    def panels(self) -> int:
        """Number of panels."""
        return self.rows * self.columns

    @property
    def name(self) -> str:
        """``3x1``: rows x columns."""
        return f"{self.rows}x{self.columns}"

    @property
    def width(self) -> int:
        """Canvas width in pixels."""
        return self.columns * self.panel_width

    @property
    def height(self) -> int:
        """Canvas height in pixels."""
        return self.rows * self.panel_height

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Box of each panel on the canvas, in reading order."""
        w, h = self.panel_width, self.panel_height
        return tuple(
            (column * w, row * h, (column + 1) * w, (row + 1) * h)
            for row in range(self.rows)
            for column in range(self.columns)
        )
