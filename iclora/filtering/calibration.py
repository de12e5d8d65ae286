"""Calibration page: measurements, bounds and example images of a dataset.

The page is a single self-contained file (inline SVG, images as data URLs) that can be archived with
a run. For each bound, it shows the images just inside and just outside, because the right threshold
is a visual decision.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from iclora.filtering.checks import Limit, quality_checks, quality_thresholds
from iclora.filtering.quality import all_frames
from iclora.filtering.sets import load_embeddings, ungrouped_indices
from iclora.filtering.similarity import neighbor_cosines
from iclora.pipeline.stage import file_of, result_of
from iclora.store import Store
from schemas.config import Config
from schemas.filtering import QualityParams, SimilarityParams
from schemas.frame import Frame
from schemas.stage import Ingested, Scored, StageRef

_SHOWN = 4
"""Number of images on each side of a bound."""

_THUMB = (160, 90)
_BARS, _WIDTH, _HEIGHT = 48, 640, 120

_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}
h2{margin:2em 0 .3em}svg{display:block}figure{display:inline-block;margin:0 .6em .6em 0}
figcaption{font-size:12px;color:#555}img{height:90px;background:#ddd;margin-right:2px}
.side{color:#555;margin:.4em 0 .1em}
"""


class Threshold(NamedTuple):
    """Threshold on one measurement."""

    name: str
    value: float
    above: bool
    """True if values at or above the threshold are inside; false if values at or below it are."""

    def contains(self, value: float) -> bool:
        """Checks that a value is inside the threshold."""
        return (value >= self.value) == self.above or value == self.value


class CalibrationItem(NamedTuple):
    """Measured value of a frame or a pair of frames."""

    value: float
    ingested: StageRef
    """Ingest stage that holds the images of the frames."""

    frames: tuple[Frame, ...]


Section = tuple[str, list[CalibrationItem], list[Threshold]]
"""Title, measured items and thresholds of a section of the page."""


def calibration_page(
    store: Store, scored: Sequence[StageRef], bounds: SimilarityParams, config: Config
) -> str:
    """Renders a self-contained HTML page about a dataset's thresholds.

    Args:
        store: Holds the quality stages and their images.
        scored: Quality stages of all sources, in any order.
        bounds: Absolute similarity bounds from ``calibrate``.
        config: Provides the quality thresholds.
    """
    ordered = sorted(scored, key=lambda ref: ref.digest)
    sections: list[Section] = [
        (
            "Similarity of neighbouring frames",
            _pairs(store, ordered, 1),
            [
                Threshold("floor", bounds.min_adjacent, above=True),
                Threshold("scene", bounds.same_scene, above=True),
                Threshold("ceiling", bounds.near_duplicate, above=False),
            ],
        ),
        (
            "Similarity of first and last",
            _pairs(store, ordered, config.layout.panels - 1),
            [Threshold("ends", bounds.min_first_last, above=True)],
        ),
        *_qualities(store, ordered, config.filter.quality),
    ]
    unit = config.filter.sets.similarity.unit
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Calibration</title>"
        f"<style>{_STYLE}</style><h1>Calibration</h1>"
        f"<p>{len(ordered)} sources; the similarity bounds are given as {unit} values.</p>"
        f"{''.join(_section_html(store, *section) for section in sections)}</html>\n"
    )


def _pairs(store: Store, scored: Sequence[StageRef], step: int) -> list[CalibrationItem]:
    """Returns the similarities of frames ``step`` apart."""
    items: list[CalibrationItem] = []
    for ref in scored:
        source = result_of(store, ref, Scored)
        free = ungrouped_indices(source)
        values = neighbor_cosines(load_embeddings(store, ref, source)[free], step)
        for number, value in enumerate(values):
            pair = (source.frames[free[number]], source.frames[free[number + step]])
            items.append(CalibrationItem(float(value), source.ingested, pair))
    return items


def _qualities(store: Store, scored: Sequence[StageRef], params: QualityParams) -> list[Section]:
    """Returns the sections of the quality checks that have limits."""
    thresholds = quality_thresholds(params)
    limited = [check for check in quality_checks() if check.limits]
    items: dict[str, list[CalibrationItem]] = {check.name: [] for check in limited}
    for ref in scored:
        source = result_of(store, ref, Scored)
        for frame in all_frames(result_of(store, source.ingested, Ingested)):
            scores = source.scores.get(frame.id, {})
            for name in items.keys() & scores.keys():
                items[name].append(CalibrationItem(scores[name], source.ingested, (frame,)))

    def threshold(limit: Limit) -> Threshold:
        return Threshold(limit.setting, thresholds[limit.setting], not limit.is_maximum)

    return [
        (check.name.capitalize(), items[check.name], [threshold(limit) for limit in check.limits])
        for check in limited
    ]


def _section_html(
    store: Store, title: str, items: Sequence[CalibrationItem], limits: Sequence[Threshold]
) -> str:
    ordered = sorted(
        items, key=lambda item: (item.value, " ".join(frame.id for frame in item.frames))
    )
    if not ordered:
        return f"<h2>{html.escape(title)}</h2><p>Nothing was measured.</p>"
    examples = "".join(_examples(store, ordered, limit) for limit in limits)
    bars = histogram([item.value for item in ordered], limits)
    return f"<h2>{html.escape(title)}</h2>{bars}{examples}"


def _examples(store: Store, ordered: Sequence[CalibrationItem], limit: Threshold) -> str:
    """Renders the images just inside and just outside a threshold."""
    inside = [item for item in ordered if limit.contains(item.value)]
    outside = [item for item in ordered if not limit.contains(item.value)]
    if limit.above:
        near_in, near_out = inside[:_SHOWN], outside[-_SHOWN:]
    else:
        near_in, near_out = inside[-_SHOWN:], outside[:_SHOWN]
    return "".join(
        f"<p class=side>just {side} {limit.name} = {limit.value:g} "
        f"({len(group)} of {len(ordered)})</p>" + "".join(_figure(store, item) for item in near)
        for side, group, near in (("inside", inside, near_in), ("outside", outside, near_out))
    )


def _figure(store: Store, item: CalibrationItem) -> str:
    pictures = ""
    for frame in item.frames:
        with Image.open(file_of(store, item.ingested, frame.file)) as image:
            small = image.convert("RGB").crop(frame.crop)
        small.thumbnail(_THUMB)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=80)
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        pictures += f'<img alt="{html.escape(frame.id)}" src="data:image/jpeg;base64,{data}">'
    caption = f"{item.value:g} {html.escape(item.frames[0].source)}"
    return f"<figure>{pictures}<figcaption>{caption}</figcaption></figure>"


def histogram(values: Sequence[float], limits: Sequence[Threshold]) -> str:
    """Renders a histogram with 48 bins and a line per bound, as SVG."""
    shown = [*values, *(limit.value for limit in limits)]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    counts, _ = np.histogram(values, bins=_BARS, range=(low, low + span))
    wide, tall = _WIDTH / _BARS, _HEIGHT / max(1, int(counts.max()))
    bars = "".join(
        f'<rect x="{index * wide:.1f}" y="{_HEIGHT - count * tall:.1f}" width="{wide - 1:.1f}" '
        f'height="{count * tall:.1f}" fill="#7a9cc6"/>'
        for index, count in enumerate(counts.tolist())
        if count
    )
    lines = ""
    for limit in limits:
        x = (limit.value - low) / span * _WIDTH
        anchor = "end" if x > _WIDTH / 2 else "start"
        lines += (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}" stroke="#c0392b"/>'
            f'<text x="{x:.1f}" y="{_HEIGHT + 14}" text-anchor="{anchor}" fill="#c0392b">'
            f"{html.escape(f'{limit.name} {limit.value:g}')}</text>"
        )
    scale = (
        f'<text x="0" y="{_HEIGHT + 30}">{low:g}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 30}" text-anchor="end">{high:g}</text>'
    )
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT + 34}" viewBox="0 0 {_WIDTH} {_HEIGHT + 34}" '
        f'font-size="11" role="img">{bars}{lines}{scale}</svg>'
    )
