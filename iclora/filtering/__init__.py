"""Filtering stages: frame quality, grouping of frames into sets, and selection of sets."""

from __future__ import annotations

from iclora.filtering.calibration import calibration_page
from iclora.filtering.quality import score_frames
from iclora.filtering.selection import choose_sets, likely_sets
from iclora.filtering.sets import form_sets
from iclora.filtering.thresholds import calibrate

__all__ = [
    "calibrate",
    "calibration_page",
    "choose_sets",
    "form_sets",
    "likely_sets",
    "score_frames",
]
