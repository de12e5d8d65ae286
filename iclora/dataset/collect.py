"""Collection of a build's decisions from its stages: samples, ledger, rejects.

Stages are read one source at a time. Only captioned canvases and negative verdicts are kept in
memory, a few kilobytes per sample.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from iclora.captioning.caption_text import flatten, parse_caption
from iclora.errors import BuildStopped
from iclora.pipeline.ledger import STAGES, add_up
from iclora.pipeline.stage import result_of
from iclora.store import Store
from schemas.dataset import BuildConfig, ReviewLine
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

_LOCAL = re.compile(r"/|\.{1,2}[\\/]|~[\\/]|[A-Za-z]:[\\/]|file:")


class SampleEntry(NamedTuple):
    """Canvas and caption of a future sample."""

    source: Source
    stitched: StageRef
    canvas: Canvas
    captioned: CaptionedSet


class BuildContents(NamedTuple):
    """All decisions of a build."""

    entries: tuple[SampleEntry, ...]
    """Entries sorted by key."""

    rejects: tuple[Verdict, ...]
    """Verdicts of all rejected or failed items, in stage order."""

    ledger: Ledger
    encoders: tuple[str, ...]
    """CLIP models that scored the frames."""


class _StageTotals:
    """Running totals of the stages over sources."""

    def __init__(self) -> None:
        self.tallies: dict[str, list[Tally]] = {stage: [] for stage in STAGES}
        self.rejects: dict[str, list[Verdict]] = {stage: [] for stage in STAGES}
        self.entries: list[SampleEntry] = []
        self.encoders: set[str] = set()

    def count(self, stage: str, verdicts: Sequence[Verdict], seen: int) -> None:
        """Adds the verdicts of one part of a stage."""
        self.tallies[stage].append(add_up(stage, verdicts, seen))
        self.rejects[stage] += [v for v in verdicts if v.outcome != "kept"]

    def ledger(self) -> Ledger:
        """Returns the totals per stage."""
        return {stage: add_tallies(parts) for stage, parts in self.tallies.items()}


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
    assert len(sources) == len(stages), "one SourceStages per source"
    so_far = _StageTotals()
    passed = [Verdict(stage="sources", id=source.name, outcome="kept") for source in sources]
    judged = [*(verdict for verdict in refused if verdict.outcome != "kept"), *passed]
    so_far.count("sources", judged, len(judged))
    choice = result_of(store, chosen, Chosen)
    so_far.count("choose", choice.verdicts, choice.seen)
    formed = 0
    for source, made in zip(sources, stages, strict=True):
        formed += _add_source(store, so_far, source, made)
    _expect("choose", choice.seen, "sets formed", formed)
    _add_shard_stage(so_far, review)
    ledger = so_far.ledger()
    for stage, before in (("stitch", "choose"), ("caption", "stitch"), ("shard", "caption")):
        _expect(stage, ledger[stage].seen, f"kept by {before}", ledger[before].kept)
    return BuildContents(
        entries=tuple(sorted(so_far.entries, key=lambda entry: entry.canvas.key)),
        rejects=tuple(v for stage in STAGES for v in so_far.rejects[stage]),
        ledger=ledger,
        encoders=tuple(sorted(so_far.encoders)),
    )


def _add_source(store: Store, so_far: _StageTotals, source: Source, made: SourceStages) -> int:
    """Adds one source's stages; returns the number of sets formed."""
    ingested = result_of(store, made.ingested, Ingested)
    scored = result_of(store, made.scored, Scored)
    formed = result_of(store, made.formed, Formed)
    stitched = result_of(store, made.stitched, Stitched)
    captioned = result_of(store, made.captioned, Captioned)
    so_far.count("ingest", ingested.verdicts, ingested.seen)
    so_far.count("quality", scored.verdicts, scored.seen)
    so_far.count("sets", formed.verdicts, formed.seen)
    so_far.count("stitch", stitched.verdicts, stitched.seen)
    so_far.count("caption", captioned.verdicts, captioned.seen)
    if scored.frames:
        so_far.encoders.add(scored.encoder)
    captions = {item.key: item for item in captioned.captions}
    so_far.entries += [
        SampleEntry(source, made.stitched, canvas, captions[canvas.key])
        for canvas in stitched.canvases
        if canvas.key in captions
    ]
    return len(formed.sets)


def _expect(stage: str, seen: int, what: str, count: int) -> None:
    if seen != count:
        raise BuildStopped(
            f"the ledger does not add up: {seen} went into stage {stage}, but {count} {what}"
        )


def _add_shard_stage(so_far: _StageTotals, review: Mapping[str, ReviewLine]) -> None:
    """Applies the manual choices and checks that captions are bound to their images."""
    verdicts: list[Verdict] = []
    kept: dict[str, SampleEntry] = {}
    for entry in so_far.entries:
        verdict = _sample_verdict(entry, review, twice=entry.canvas.key in kept)
        verdicts.append(verdict)
        if verdict.outcome == "kept":
            kept[entry.canvas.key] = _edited(entry, review.get(entry.canvas.key))
    so_far.entries = list(kept.values())
    so_far.rejects["shard"] = [v for v in verdicts if v.outcome != "kept"]
    counts = Counter(verdict.outcome for verdict in verdicts)  # two sources may share a key
    so_far.tallies["shard"].append(
        Tally(
            seen=len(verdicts),
            kept=counts["kept"],
            rejected=counts["rejected"],
            failed=counts["failed"],
        )
    )


def _sample_verdict(
    entry: SampleEntry, review: Mapping[str, ReviewLine], *, twice: bool
) -> Verdict:
    key, source = entry.canvas.key, entry.source.name
    line = review.get(key)
    if line is not None and line.choice == "drop":
        return Verdict(
            stage="shard", id=key, outcome="rejected", reason="by_hand", detail=line.note,
            source=source,
        )  # fmt: skip
    if entry.captioned.image_sha256 != entry.canvas.image_sha256:
        return Verdict(
            stage="shard", id=key, outcome="failed", reason="caption_of_another_picture",
            source=source,
        )  # fmt: skip
    if twice:
        return Verdict(stage="shard", id=key, outcome="rejected", reason="key_taken", source=source)
    return Verdict(stage="shard", id=key, outcome="kept", source=source)


def _edited(entry: SampleEntry, line: ReviewLine | None) -> SampleEntry:
    """Returns the entry with the edited caption, if there is one."""
    if line is None or not line.caption:
        return entry
    markers = tuple(panel.marker for panel in entry.canvas.panels)
    made = entry.captioned.caption
    caption = parse_caption(line.caption, markers, made.prefix, captioner=BY_HAND)
    if caption.text(markers) == flatten(made.text(markers)):
        return entry
    return entry._replace(captioned=entry.captioned.model_copy(update={"caption": caption}))


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


def portable_config(config: BuildConfig) -> BuildConfig:
    """Returns the configuration as recorded in a dataset."""
    return BuildConfig.from_json(portable(config.to_json()))
