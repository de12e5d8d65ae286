"""Collection of a build's decisions from its stages: samples, ledger, rejects.

Stages are read one source at a time. Only captioned canvases and negative verdicts are kept in
memory, a few kilobytes per sample.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from iclora.captioning.caption_text import flatten, parse_caption
from iclora.errors import BuildStopped
from iclora.pipeline.ledger import STAGES, add_up
from iclora.pipeline.stage import result_of
from iclora.store import Store
from schemas.dataset import ReviewLine
from schemas.sample import CaptionRecord, SampleRecord, Split
from schemas.source import Source
from schemas.stage import (
    Canvas,
    Captioned,
    CaptionedSet,
    Chosen,
    Formed,
    Ingested,
    Scored,
    SourceStages,
    StageRef,
    Stitched,
)
from schemas.verdict import Ledger, Tally, Verdict, add_tallies

BY_HAND = "by hand"
"""Captioner name of a caption edited by a person."""

UNMEASURED_SCORE = -1.0
"""Placeholder for a score that a sample lacks; all samples have the same score names."""

_LOCAL = re.compile(r"/|\.{1,2}[\\/]|~[\\/]|[A-Za-z]:[\\/]|file:")


class SampleEntry(NamedTuple):
    """Canvas and caption of a future sample."""

    source: Source
    stitched: StageRef
    canvas: Canvas
    captioned: CaptionedSet

    @property
    def markers(self) -> tuple[str, ...]:
        """Markers of the panels, in order."""
        return tuple(panel.marker for panel in self.canvas.panels)

    @property
    def text(self) -> str:
        """Caption as one line."""
        return self.captioned.caption.text(self.markers)

    @property
    def scores(self) -> dict[str, float]:
        """Scores of the set and its caption, by name."""
        words = len(self.text.split())
        return {
            **self.canvas.set.scores,
            **self.captioned.scores,
            "caption_words": float(words),
        }


class BuildContents(NamedTuple):
    """All decisions of a build."""

    entries: tuple[SampleEntry, ...]
    """Entries sorted by key."""

    rejects: tuple[Verdict, ...]
    """Verdicts of all rejected or failed items, in stage order."""

    ledger: Ledger
    encoders: tuple[str, ...]
    """CLIP models that scored the frames."""


def collect(
    store: Store,
    sources: Sequence[Source],
    refused: Sequence[Verdict],
    stages: Sequence[SourceStages],
    chosen: StageRef,
    review: Mapping[str, ReviewLine],
) -> BuildContents:
    """Reads and totals the results of every stage.

    Args:
        store: store of the stages.
        sources: ingested sources.
        refused: verdicts on sources; the kept ones are counted from ``sources``.
        stages: one per source.
        chosen: the sets of the whole build.
        review: manual choices by key.

    Raises:
        BuildStopped: a ledger does not add up.
    """
    tallies: dict[str, list[Tally]] = {stage: [] for stage in STAGES}
    rejects: dict[str, list[Verdict]] = {stage: [] for stage in STAGES}

    def count(stage: str, verdicts: Sequence[Verdict], seen: int) -> None:
        tallies[stage].append(add_up(stage, verdicts, seen))
        rejects[stage] += [verdict for verdict in verdicts if verdict.outcome != "kept"]

    passed = [Verdict.kept("sources", source.name) for source in sources]
    judged = [*(verdict for verdict in refused if verdict.outcome != "kept"), *passed]
    count("sources", judged, len(judged))
    choice = result_of(store, chosen, Chosen)
    count("choose", choice.verdicts, choice.seen)

    entries: list[SampleEntry] = []
    encoders: set[str] = set()
    sets_formed = 0
    for source, refs in zip(sources, stages, strict=True):
        ingested = result_of(store, refs.ingested, Ingested)
        scored = result_of(store, refs.scored, Scored)
        formed = result_of(store, refs.formed, Formed)
        stitched = result_of(store, refs.stitched, Stitched)
        captioned = result_of(store, refs.captioned, Captioned)
        count("ingest", ingested.verdicts, ingested.seen)
        count("quality", scored.verdicts, scored.seen)
        count("sets", formed.verdicts, formed.seen)
        count("stitch", stitched.verdicts, stitched.seen)
        count("caption", captioned.verdicts, captioned.seen)
        if scored.frames:
            encoders.add(scored.encoder)
        sets_formed += len(formed.sets)
        captions = {item.key: item for item in captioned.captions}
        entries += [
            SampleEntry(source, refs.stitched, canvas, captions[canvas.key])
            for canvas in stitched.canvases
            if canvas.key in captions
        ]

    kept, verdicts = _judge_entries(entries, review)
    rejects["shard"] = [verdict for verdict in verdicts if verdict.outcome != "kept"]
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    # Not by add_up, which refuses two verdicts on one key: two sources may share a key.
    shard = Tally(
        seen=len(verdicts),
        kept=outcomes["kept"],
        rejected=outcomes["rejected"],
        failed=outcomes["failed"],
    )
    ledger = {stage: add_tallies(parts) for stage, parts in tallies.items()} | {"shard": shard}

    expected = [("choose", "sets formed", sets_formed)]
    for stage, before in (("stitch", "choose"), ("caption", "stitch"), ("shard", "caption")):
        expected.append((stage, f"kept by {before}", ledger[before].kept))
    for stage, description, number in expected:
        if ledger[stage].seen != number:
            raise BuildStopped(
                f"the ledger does not add up: {ledger[stage].seen} went into stage {stage}, "
                f"but {number} {description}"
            )
    return BuildContents(
        entries=tuple(sorted(kept, key=lambda entry: entry.canvas.key)),
        rejects=tuple(verdict for stage in STAGES for verdict in rejects[stage]),
        ledger=ledger,
        encoders=tuple(sorted(encoders)),
    )


def _judge_entries(
    entries: Iterable[SampleEntry], review: Mapping[str, ReviewLine]
) -> tuple[list[SampleEntry], list[Verdict]]:
    """Applies the manual choices and checks that captions are bound to their images."""
    kept: dict[str, SampleEntry] = {}
    verdicts: list[Verdict] = []
    for entry in entries:
        key, source, line = entry.canvas.key, entry.source.name, review.get(entry.canvas.key)
        if line is not None and line.choice == "drop":
            verdict = Verdict.rejected("shard", key, "by_hand", line.note, source=source)
        elif entry.captioned.image_sha256 != entry.canvas.image_sha256:
            verdict = Verdict.failed("shard", key, "caption_of_another_picture", source=source)
        elif key in kept:
            verdict = Verdict.rejected("shard", key, "key_taken", source=source)
        else:
            verdict = Verdict.kept("shard", key, source=source)
            kept[key] = _with_edit(entry, line.caption) if line and line.caption else entry
        verdicts.append(verdict)
    return list(kept.values()), verdicts


def _with_edit(entry: SampleEntry, text: str) -> SampleEntry:
    """Returns the entry with an edited caption; the captioner stays if the text is the same."""
    caption = parse_caption(text, entry.markers, entry.captioned.caption.prefix, captioner=BY_HAND)
    if caption.text(entry.markers) == flatten(entry.text):
        return entry
    return entry._replace(captioned=entry.captioned.model_copy(update={"caption": caption}))


def record_of(entry: SampleEntry, split: Split, score_names: Iterable[str]) -> SampleRecord:
    """Builds a sample's record."""
    canvas, caption, scores = entry.canvas, entry.captioned.caption, entry.scores
    boxes = [panel.box for panel in canvas.panels]
    rows, columns = len({box[1] for box in boxes}), len({box[0] for box in boxes})
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
        scores={name: round(scores.get(name, UNMEASURED_SCORE), 4) for name in score_names},
        licence=entry.source.rights.licence,
        split=split,
    )


def portable(value: Any) -> Any:
    """Removes machine-specific content from JSON values.

    A local folder is reduced to its last part (its revision is in ``models``), and a server's
    address is removed. Neither changes the content of a dataset, and both may be private.
    """
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: "" if key == "url" else portable(item) for key, item in items}
    if isinstance(value, list):
        return [portable(item) for item in cast("list[Any]", value)]
    if isinstance(value, str) and _LOCAL.match(value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value
