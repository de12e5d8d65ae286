"""What a report is made of, and its pictures as the page carries them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image

from iclora.evaluation.controls import ADAPTER
from iclora.evaluation.plan import EvaluationPlan
from iclora.evaluation.prompts import PromptSet, structured
from iclora.evaluation.renders import Renders, open_picture
from iclora.evaluation.results import EvaluationResults
from iclora.evaluation.scorers import Scorers
from schemas.sampling import RenderRecord

QUALITY = 85
"""Of the report's JPEGs."""

_COMPLETED = 8
"""Conditional renders shown."""


class ReportData(NamedTuple):
    """What a report is made of."""

    plan: EvaluationPlan
    prompts: PromptSet
    renders: Mapping[str, Renders]
    results: EvaluationResults
    scorers: Scorers
    training: Mapping[str, Image.Image]
    """Canvases of the training sets that renders lie nearest to, by key."""

    losses: Sequence[tuple[int, float]]
    """Step and loss of the adapter's training; empty without a run record."""


class RenderCard(NamedTuple):
    """A render as the page shows it."""

    label: str
    uri: str
    caption: str
    parts: tuple[tuple[str, str], ...]
    """Marker and text of every panel."""

    seed: int


def _card(data: ReportData, arm: str, record: RenderRecord) -> RenderCard:
    label = next(side.label for side in data.plan.arms if side.name == arm)
    config = data.plan.config
    parts = structured(record.caption, config).parts
    picture = open_picture(data.renders[arm].folder / record.canvas)
    pairs = tuple(zip(config.layout.markers, parts, strict=True))
    return RenderCard(label, data_uri(picture, data), record.caption, pairs, record.seed)


def rows(data: ReportData) -> list[list[RenderCard]]:
    """Per prompt one card a side, the first seed."""
    arms = [side.name for side in data.plan.arms]
    count = len(data.prompts.prompts)
    return [
        [_card(data, arm, data.renders[arm].free[prompt][0]) for arm in arms]
        for prompt in range(count)
    ]


def completed(data: ReportData) -> list[list[RenderCard]]:
    """Per completed set one card a side."""
    arms = [side.name for side in data.plan.arms]
    count = min(_COMPLETED, len(data.renders[ADAPTER].conditional))
    return [
        [_card(data, arm, data.renders[arm].conditional[number]) for arm in arms]
        for number in range(count)
    ]


def extremes(data: ReportData, places: Sequence[tuple[int, int]]) -> list[RenderCard]:
    """Some of the adapter's renders, by prompt and seed."""
    free = data.renders[ADAPTER].free
    return [_card(data, ADAPTER, free[prompt][seed]) for prompt, seed in places]


def data_uri(picture: Image.Image, data: ReportData) -> str:
    """A picture as the page carries it, at most ``sheet_side`` large."""
    arm = data.plan.config.evaluate.sheet_side
    small = picture.convert("RGB")
    small.thumbnail((arm, arm), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
