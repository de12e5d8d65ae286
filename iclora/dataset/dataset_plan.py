"""Dataset plan: all content of a version, fixed before the first byte is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from iclora.dataset.collect import BuildContents, SampleEntry, portable
from iclora.dataset.splits import assign_splits, unit_of
from iclora.errors import BadInput
from schemas.config import Config
from schemas.sample import CaptionRecord, SampleRecord, Split
from schemas.source import Source

UNMEASURED_SCORE = -1.0
"""Placeholder for a score that a sample lacks; all samples have the same score names."""

_TELL = 4
"""Number of reasons listed when no sample was kept."""


class DatasetPlan(NamedTuple):
    """Content of a dataset version to be written."""

    name: str
    config: Config
    sources: tuple[Source, ...]
    contents: BuildContents
    splits: dict[str, Split]
    """Split by sample key."""

    scores: tuple[str, ...]
    extension: str


def make_plan(
    name: str, config: Config, sources: Sequence[Source], contents: BuildContents
) -> DatasetPlan:
    """Assigns the samples to splits and fixes the fields of every record.

    Raises:
        BadInput: no sample was kept; the message explains why.
    """
    entries = contents.entries
    if not entries:
        raise BadInput(f"nothing was kept: {_why_nothing(contents)}")
    units = {entry.canvas.key: _unit(entry, config) for entry in entries}
    by_unit = assign_splits(units.values(), config.split)
    names = {name for entry in entries for name in _scores(entry)}
    extensions = {entry.canvas.file.rpartition(".")[2] for entry in entries}
    assert len(extensions) == 1, f"one format of canvas, not {extensions}"
    return DatasetPlan(
        name=name,
        config=config,
        sources=tuple(sources),
        contents=contents,
        splits={key: by_unit[unit] for key, unit in units.items()},
        scores=tuple(sorted(names)),
        extension=extensions.pop(),
    )


def _why_nothing(contents: BuildContents) -> str:
    """Lists the most common reasons with their counts."""
    reasons = Counter((verdict.stage, verdict.reason) for verdict in contents.rejects)
    told = [f"{count} {reason} ({stage})" for (stage, reason), count in reasons.most_common(_TELL)]
    return ", ".join(told) if told else "the sources hold no pictures"


def _unit(entry: SampleEntry, config: Config) -> str:
    return unit_of(entry.source.content, entry.canvas.set.scene, config.split)


def _scores(entry: SampleEntry) -> dict[str, float]:
    words = len(text_of(entry).split())
    return {**entry.canvas.set.scores, **entry.captioned.scores, "caption_words": float(words)}


def text_of(entry: SampleEntry) -> str:
    """Returns a sample's caption as one line."""
    markers = tuple(panel.marker for panel in entry.canvas.panels)
    return entry.captioned.caption.text(markers)


def record_of(entry: SampleEntry, plan: DatasetPlan) -> SampleRecord:
    """Builds a sample's record."""
    canvas, caption = entry.canvas, entry.captioned.caption
    boxes = [panel.box for panel in canvas.panels]
    rows, columns = len({box[1] for box in boxes}), len({box[0] for box in boxes})
    own = _scores(entry)
    return SampleRecord(
        key=canvas.key,
        layout=f"{rows}x{columns}",
        width=max(box[2] for box in boxes),
        height=max(box[3] for box in boxes),
        panels=tuple(
            panel.model_copy(update={"caption": part})
            for panel, part in zip(canvas.panels, caption.parts, strict=True)
        ),
        masks=canvas.masks,
        image_sha256=canvas.image_sha256,
        caption=CaptionRecord(
            prefix=caption.prefix,
            summary=caption.summary,
            roles=caption.roles,
            captioner=portable(caption.captioner),
            image_sha256=entry.captioned.image_sha256,
        ),
        scores={name: round(own.get(name, UNMEASURED_SCORE), 4) for name in plan.scores},
        licence=entry.source.rights.licence,
        split=plan.splits[canvas.key],
    )
