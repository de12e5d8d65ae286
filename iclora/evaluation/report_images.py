"""Input data of a report, and its images as embedded in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image

from iclora.evaluation.controls import ADAPTER
from iclora.evaluation.plan import Arm, EvaluationPlan
from iclora.evaluation.prompts import PromptSet, structured
from iclora.evaluation.renders import Renders, open_picture
from iclora.evaluation.results import EvaluationResults
from iclora.evaluation.scorers import Scorers
from schemas.sampling import RenderRecord

QUALITY = 85
"""Quality of the report's JPEGs."""

_COMPLETED = 8
"""Number of conditional renders shown."""


class ReportData(NamedTuple):
    """Input data of a report."""

    plan: EvaluationPlan
    prompts: PromptSet
    renders: Mapping[str, Renders]
    results: EvaluationResults
    scorers: Scorers
    training: Mapping[str, Image.Image]
    """Canvases of the training sets nearest to renders, by key."""

    losses: Sequence[tuple[int, float]]
    """Step and loss of the adapter's training; empty without a run record."""


class RenderCard(NamedTuple):
    """Render as displayed on the page."""

    label: str
    uri: str
    caption: str
    parts: tuple[tuple[str, str], ...]
    """Marker and text per panel."""

    seed: int


def _card(data: ReportData, arm: Arm, record: RenderRecord) -> RenderCard:
    config = data.plan.config
    texts = structured(record.caption, config).parts
    return RenderCard(
        label=arm.label,
        uri=data_uri(open_picture(data.renders[arm.name].folder / record.canvas), data),
        caption=record.caption,
        parts=tuple(zip(config.layout.markers, texts, strict=True)),
        seed=record.seed,
    )


def rows(data: ReportData) -> list[list[RenderCard]]:
    """Returns one row per prompt, with one card per arm, first seed only."""
    return [
        [_card(data, arm, data.renders[arm.name].free[prompt][0]) for arm in data.plan.arms]
        for prompt in range(len(data.prompts.prompts))
    ]


def completed(data: ReportData) -> list[list[RenderCard]]:
    """Returns one row per conditional set, with one card per arm."""
    return [
        [_card(data, arm, data.renders[arm.name].conditional[number]) for arm in data.plan.arms]
        for number in range(min(_COMPLETED, len(data.renders[ADAPTER].conditional)))
    ]


def extremes(data: ReportData, renders: Sequence[tuple[int, int]]) -> list[RenderCard]:
    """Returns cards of the adapter's renders at the given prompts and seeds."""
    free = data.renders[ADAPTER].free
    return [_card(data, data.plan.adapter, free[prompt][seed]) for prompt, seed in renders]


def data_uri(picture: Image.Image, data: ReportData) -> str:
    """Encodes an image as a data URI, shrunk to ``sheet_side`` if larger."""
    side = data.plan.config.evaluate.sheet_side
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
