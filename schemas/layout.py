"""How a set is laid out on its canvas."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.base import Box, Schema

PANEL_STEP = 32
"""Panel sides are multiples of this, so seams fall on FLUX token and JPEG block borders."""

MIN_PANELS, MAX_PANELS = 2, 9

Side = Annotated[int, Field(gt=0, le=8192, multiple_of=PANEL_STEP)]
Cells = Annotated[int, Field(ge=1, le=9)]


class Layout(Schema):
    """Rows x columns of equal panels, filled row by row."""

    rows: Cells = 3
    columns: Cells = 1
    panel_width: Side = 1024
    panel_height: Side = 512
    markers: tuple[str, ...] = ("[SCENE-1]", "[SCENE-2]", "[SCENE-3]")
    """One per panel, in reading order."""

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
        """Where each panel lies on the canvas, in reading order."""
        w, h = self.panel_width, self.panel_height
        return tuple(
            (column * w, row * h, (column + 1) * w, (row + 1) * h)
            for row in range(self.rows)
            for column in range(self.columns)
        )
