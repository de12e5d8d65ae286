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

from iclora.filtering.grouping_stage import load_embeddings, ungrouped_indices
from iclora.filtering.quality_stage import all_frames
from iclora.filtering.similarity import neighbour_cosines
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


class CalibrationItem(NamedTuple):
    """Measured value of a frame or a pair of frames."""

    value: float
    frames: tuple[tuple[StageRef, Frame], ...]
    """Frames, each with the ingest stage that holds its image."""

    @property
    def name(self) -> str:
        """IDs of the frames."""
        return " ".join(frame.id for _, frame in self.frames)


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
    sections = [
        _section(store, title, items, limits)
        for title, items, limits in [
            ("Similarity of neighbouring frames", _pairs(store, ordered, 1), _band(bounds)),
            (
                "Similarity of first and last",
                _pairs(store, ordered, config.layout.panels - 1),
                [Threshold("ends", bounds.min_first_last, above=True)],
            ),
            *_qualities(store, ordered, config.filter.quality),
        ]
    ]
    unit = config.filter.sets.similarity.unit
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Calibration</title>"
        f"<style>{_STYLE}</style><h1>Calibration</h1>"
        f"<p>{len(ordered)} sources; the similarity bounds are given as {unit} values.</p>"
        f"{''.join(sections)}</html>\n"
    )


def _band(bounds: SimilarityParams) -> list[Threshold]:
    return [
        Threshold("floor", bounds.min_adjacent, above=True),
        Threshold("scene", bounds.same_scene, above=True),
        Threshold("ceiling", bounds.near_duplicate, above=False),
    ]


def _pairs(store: Store, scored: Sequence[StageRef], step: int) -> list[CalibrationItem]:
    items: list[CalibrationItem] = []
    for ref in scored:
        one = result_of(store, ref, Scored)
        free = ungrouped_indices(one)
        values = neighbour_cosines(load_embeddings(store, ref, one)[free], step)
        for number, value in enumerate(values):
            pair = (one.frames[free[number]], one.frames[free[number + step]])
            items.append(
                CalibrationItem(float(value), tuple((one.ingested, frame) for frame in pair))
            )
    return items


def _qualities(
    store: Store, scored: Sequence[StageRef], params: QualityParams
) -> list[tuple[str, list[CalibrationItem], list[Threshold]]]:
    limits = {
        "side": [Threshold("min_side", float(params.min_side), above=True)],
        "luma": [
            Threshold("min_luma", params.min_luma, above=True),
            Threshold("max_luma", params.max_luma, above=False),
        ],
        "sharpness": [Threshold("min_sharpness", params.min_sharpness, above=True)],
        "entropy": [Threshold("min_entropy", params.min_entropy, above=True)],
        "text": [Threshold("max_text", params.max_text, above=False)],
        "title": [Threshold("max_title", params.max_title, above=False)],
    }
    items: dict[str, list[CalibrationItem]] = {name: [] for name in limits}
    for ref in scored:
        one = result_of(store, ref, Scored)
        for frame in all_frames(result_of(store, one.ingested, Ingested)):
            for name in limits.keys() & one.scores.get(frame.id, {}).keys():
                items[name].append(
                    CalibrationItem(one.scores[frame.id][name], ((one.ingested, frame),))
                )
    return [(name.capitalize(), items[name], limits[name]) for name in limits]


def _section(
    store: Store, title: str, items: Sequence[CalibrationItem], limits: Sequence[Threshold]
) -> str:
    ordered = sorted(items, key=lambda item: (item.value, item.name))
    if not ordered:
        return f"<h2>{html.escape(title)}</h2><p>Nothing was measured.</p>"
    shown = "".join(_beside(store, ordered, bound) for bound in limits)
    return f"<h2>{html.escape(title)}</h2>{histogram([i.value for i in ordered], limits)}{shown}"


def _beside(store: Store, ordered: Sequence[CalibrationItem], bound: Threshold) -> str:
    """Renders the images just inside and just outside a bound."""
    inside, outside = (
        [item for item in ordered if _is_inside(item.value, bound) == wanted]
        for wanted in (True, False)
    )
    if bound.above:
        near_in, near_out = inside[:_SHOWN], outside[-_SHOWN:]
    else:
        near_in, near_out = inside[-_SHOWN:], outside[:_SHOWN]
    return "".join(
        f"<p class=side>just {side} {bound.name} = {bound.value:g} "
        f"({len(group)} of {len(ordered)})</p>" + "".join(_figure(store, item) for item in near)
        for side, group, near in (("inside", inside, near_in), ("outside", outside, near_out))
    )


def _is_inside(value: float, bound: Threshold) -> bool:
    return (value >= bound.value) == bound.above or value == bound.value


def _figure(store: Store, item: CalibrationItem) -> str:
    pictures = "".join(_thumb(store, ref, frame) for ref, frame in item.frames)
    caption = f"{item.value:g} {html.escape(item.frames[0][1].source)}"
    return f"<figure>{pictures}<figcaption>{caption}</figcaption></figure>"


def _thumb(store: Store, ref: StageRef, frame: Frame) -> str:
    with Image.open(file_of(store, ref, frame.file)) as image:
        small = image.convert("RGB").crop(frame.crop)
    small.thumbnail(_THUMB)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(frame.id)}" src="data:image/jpeg;base64,{data}">'


def histogram(values: Sequence[float], limits: Sequence[Threshold]) -> str:
    """Renders a histogram with 48 bins and a line per bound, as SVG."""
    ends = [*values, *(bound.value for bound in limits)]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0
    counts, _ = np.histogram(values, bins=_BARS, range=(low, low + span))
    wide, tall = _WIDTH / _BARS, _HEIGHT / max(1, int(counts.max()))
    bars = "".join(
        f'<rect x="{index * wide:.1f}" y="{_HEIGHT - count * tall:.1f}" width="{wide - 1:.1f}" '
        f'height="{count * tall:.1f}" fill="#7a9cc6"/>'
        for index, count in enumerate(int(one) for one in counts)
        if count
    )
    lines = "".join(
        _line((bound.value - low) / span * _WIDTH, f"{bound.name} {bound.value:g}")
        for bound in limits
    )
    scale = (
        f'<text x="0" y="{_HEIGHT + 30}">{low:g}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 30}" text-anchor="end">{high:g}</text>'
    )
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT + 34}" viewBox="0 0 {_WIDTH} {_HEIGHT + 34}" '
        f'font-size="11" role="img">{bars}{lines}{scale}</svg>'
    )


def _line(x: float, label: str) -> str:
    anchor = "end" if x > _WIDTH / 2 else "start"
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}" stroke="#c0392b"/>'
        f'<text x="{x:.1f}" y="{_HEIGHT + 14}" text-anchor="{anchor}" fill="#c0392b">'
        f"{html.escape(label)}</text>"
    )
