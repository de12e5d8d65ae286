"""Decisions to a dataset version: shards, tables, index, preview, card, and the manifest last.

A version is assembled in a scratch folder, named by the digest of what is in it, put in its place
whole, and only then does LATEST move; so a reader never sees half a dataset and LATEST never names
one that is not there. Publishing is a stage like the others: done once for the same inputs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from iclora.errors import BadConfig, BadInput, BuildStopped
from iclora.shards.card import write_card
from iclora.shards.contents import Contents, Entry, gather, portable, portable_config
from iclora.shards.ledger import stop_if_failing
from iclora.shards.preview import pick, write_preview
from iclora.shards.provenance import all_of_film_world, is_preview, models_of
from iclora.shards.read import LATEST
from iclora.shards.split import assign_splits, unit_of
from iclora.shards.tables import SampleRow, write_rejects, write_samples
from iclora.shards.write import Sample, wids_index, write_shards
from iclora.stages import Stage, file_of, folder_of, result_of, run_stage
from iclora.store import MANIFEST, Store, file_sha256
from schemas.base import digest_of
from schemas.config import Config
from schemas.dataset import (
    BuildConfig,
    DatasetManifest,
    DatasetRef,
    Published,
    ReviewLine,
    ShardEntry,
    SourceEntry,
    SourceSplit,
)
from schemas.sample import CaptionRecord, SampleRecord, Split
from schemas.source import Source
from schemas.stage import SourceStages, StageRef
from schemas.verdict import Verdict

log = logging.getLogger(__name__)

STAGE = Stage("publish", 1)

SAMPLES, REJECTS, INDEX = "samples.parquet", "rejects.parquet", "index.json"
CARD, PREVIEW = "README.md", "preview.jpg"

UNMEASURED_SCORE = -1.0
"""Stands for a score that a sample does not have; every sample has the same names."""

SPLITS: tuple[Split, ...] = ("train", "val")

_NAME = re.compile(r"[a-z0-9_-]{1,80}")

_TELL = 4
"""Reasons named when nothing was kept."""


class _Plan(NamedTuple):
    """What is to be written, decided before the first byte is."""

    name: str
    config: Config
    sources: tuple[Source, ...]
    contents: Contents
    splits: dict[str, Split]
    """Key to split."""

    scores: tuple[str, ...]
    extension: str


def publish_dataset(  # noqa: PLR0913 - one argument a stage; the flow names each
    store: Store,
    name: str,
    config: Config,
    *,
    sources: Sequence[Source],
    refused: Sequence[Verdict],
    stages: Sequence[SourceStages],
    chosen: StageRef,
    review: Sequence[ReviewLine] = (),
) -> DatasetRef:
    """Writes a dataset version unless it is there, and moves LATEST to it.

    Args:
        store: where stages are and the dataset goes.
        name: the dataset's.
        config: the build's.
        sources: those that were ingested.
        refused: verdicts on locations and sources; those that say kept are not read.
        stages: what the build made of each source, in the order of ``sources``.
        chosen: the sets of the whole build.
        review: a person's choices, from ``review.csv``.

    Raises:
        BadConfig: the name cannot be one.
        BadInput: nothing was kept; the text says why.
        BuildStopped: a ledger does not add up, or too large a share of a stage failed.
    """
    check_name(name)
    order = sorted(range(len(sources)), key=lambda number: sources[number].name)
    sources = [sources[number] for number in order]
    stages = [stages[number] for number in order]
    refused = sorted(refused, key=lambda verdict: verdict.id)

    def assemble(_folder: Path) -> Published:
        by_key = {line.key: line for line in review}
        contents = gather(store, sources, refused, stages, chosen, by_key)
        _note_unknown(review, contents)
        _stop_if_failing(contents, config)
        version, samples = _write_version(store, _plan(name, config, sources, contents))
        return Published(
            name=name, version=version, samples=samples, chosen=chosen, stages=tuple(stages)
        )

    data = BuildConfig.of(config)
    facts = [source.model_copy(update={"url": ""}) for source in sources]
    given = (facts, refused, stages, review)
    inputs = [name, chosen.digest, str(all_of_film_world(sources))]
    inputs += [digest_of([one.to_json() for one in items]) for items in given]
    published = result_of(store, run_stage(store, STAGE, [data], inputs, assemble), Published)
    if not store.exists(f"{folder_of_version(name, published.version)}/{MANIFEST}"):
        assemble(store.work)  # a person removed the version but not the record of it
    store.write(f"datasets/{name}/{LATEST}", f"{published.version}\n".encode())
    return DatasetRef(
        name=name,
        version=published.version,
        samples=published.samples,
        url=store.address(folder_of_version(name, published.version)),
    )


def check_name(name: str) -> None:
    """Refuses a name that cannot be a folder, a URL and a tar member alike.

    Raises:
        BadConfig: it has other characters or is too long.
    """
    if not _NAME.fullmatch(name):
        raise BadConfig(
            f"{name!r} cannot be a dataset's name: use up to 80 of a-z, 0-9, - and _ (--name)"
        )


def folder_of_version(name: str, version: str) -> str:
    """Where a dataset version lies, below the store's root."""
    return f"datasets/{name}/{version}"


def _plan(name: str, config: Config, sources: Sequence[Source], contents: Contents) -> _Plan:
    entries = contents.entries
    if not entries:
        raise BadInput(f"nothing was kept: {_why_nothing(contents)}")
    units = {entry.canvas.key: _unit(entry, config) for entry in entries}
    by_unit = assign_splits(units.values(), config.split)
    names = {name for entry in entries for name in _scores(entry)}
    extensions = {entry.canvas.file.rpartition(".")[2] for entry in entries}
    assert len(extensions) == 1, f"one format of canvas, not {extensions}"
    return _Plan(
        name=name,
        config=config,
        sources=tuple(sources),
        contents=contents,
        splits={key: by_unit[unit] for key, unit in units.items()},
        scores=tuple(sorted(names)),
        extension=extensions.pop(),
    )


def _stop_if_failing(contents: Contents, config: Config) -> None:
    for stage, total in contents.ledger.items():
        failed = [v for v in contents.rejects if v.stage == stage and v.outcome == "failed"]
        stop_if_failing(stage, failed, total, config.ingest.max_failed)


def _note_unknown(review: Sequence[ReviewLine], contents: Contents) -> None:
    known = {entry.canvas.key for entry in contents.entries}
    known |= {verdict.id for verdict in contents.rejects}
    strangers = [line.key for line in review if line.key not in known]
    if strangers:
        log.warning("%d reviewed sets are no longer there, first %s", len(strangers), strangers[0])


def _why_nothing(contents: Contents) -> str:
    """The commonest reasons, counted."""
    reasons = Counter((verdict.stage, verdict.reason) for verdict in contents.rejects)
    told = [f"{count} {reason} ({stage})" for (stage, reason), count in reasons.most_common(_TELL)]
    return ", ".join(told) if told else "the sources hold no pictures"


def _unit(entry: Entry, config: Config) -> str:
    return unit_of(entry.source.content, entry.canvas.set.scene, config.split)


def _scores(entry: Entry) -> dict[str, float]:
    words = len(_text(entry).split())
    return {**entry.canvas.set.scores, **entry.captioned.scores, "caption_words": float(words)}


def _text(entry: Entry) -> str:
    markers = tuple(panel.marker for panel in entry.canvas.panels)
    return entry.captioned.caption.text(markers)


def _record(entry: Entry, plan: _Plan) -> SampleRecord:
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


def _samples(store: Store, plan: _Plan, split: Split) -> Iterator[Sample]:
    """The samples of a split, one in memory at a time."""
    for entry in plan.contents.entries:
        if plan.splits[entry.canvas.key] == split:
            yield Sample(_record(entry, plan), _text(entry), _image(store, entry), plan.extension)


def _image(store: Store, entry: Entry) -> bytes:
    """The canvas file's bytes; those that the caption was made for."""
    image = file_of(store, entry.stitched, entry.canvas.file).read_bytes()
    if hashlib.sha256(image).hexdigest() != entry.canvas.image_sha256:
        folder = store.address(folder_of(entry.stitched))
        raise BuildStopped(f"{folder}/{entry.canvas.file} changed on disk: remove {folder}")
    return image


def _write_version(store: Store, plan: _Plan) -> tuple[str, int]:
    """Assembles the folder and puts it in its place; gives its version and its samples."""
    store.work.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"dataset-{plan.name}.", dir=store.work))
    try:
        manifest = _assemble(store, plan, scratch)
        with store.folder(folder_of_version(plan.name, manifest.version)) as folder:
            for file in sorted(scratch.iterdir()):
                file.rename(folder / file.name)
            (folder / MANIFEST).write_text(manifest.to_text(), encoding="utf-8")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    log.info("%s@%s: %d samples", plan.name, manifest.version, manifest.samples)
    return manifest.version, manifest.samples


def _assemble(store: Store, plan: _Plan, folder: Path) -> DatasetManifest:
    by_split = {
        split: write_shards(_samples(store, plan, split), folder, split, plan.config.shard)
        for split in SPLITS
    }
    shards = tuple(shard for split in SPLITS for shard in by_split[split])
    write_samples(_rows(store, plan, shards), plan.scores, folder / SAMPLES)
    write_rejects(_portable_rejects(plan.contents.rejects), folder / REJECTS)
    (folder / INDEX).write_text(json.dumps(wids_index(shards), indent=1) + "\n", encoding="utf-8")
    write_preview(_previewed(store, plan), folder / PREVIEW)
    manifest = _versioned(_manifest(plan, shards, folder))
    (folder / CARD).write_text(write_card(manifest, plan.extension), encoding="utf-8")
    digests = {**manifest.digests, CARD: file_sha256(folder / CARD)}
    return manifest.model_copy(update={"digests": dict(sorted(digests.items()))})


def _rows(store: Store, plan: _Plan, shards: Sequence[ShardEntry]) -> Iterator[SampleRow]:
    """One row a sample, in the order of the shards."""
    for split in SPLITS:
        files = [
            shard.file for shard in shards if shard.split == split for _ in range(shard.samples)
        ]
        entries = [e for e in plan.contents.entries if plan.splits[e.canvas.key] == split]
        for entry, file in zip(entries, files, strict=True):
            size = file_of(store, entry.stitched, entry.canvas.file).stat().st_size
            yield SampleRow(_record(entry, plan), _text(entry), file, size)


def _portable_rejects(rejects: Sequence[Verdict]) -> Iterator[Verdict]:
    for verdict in rejects:
        yield verdict.model_copy(update={"id": portable(verdict.id)})


def _previewed(store: Store, plan: _Plan) -> Iterator[tuple[str, bytes]]:
    entries = plan.contents.entries
    for number in pick(len(entries)):
        yield entries[number].canvas.key, _image(store, entries[number])


def _manifest(plan: _Plan, shards: tuple[ShardEntry, ...], folder: Path) -> DatasetManifest:
    """Everything but the version and the card's digest."""
    contents, config = plan.contents, plan.config
    captioners = {entry.captioned.caption.captioner for entry in contents.entries}
    counts = Counter(plan.splits.values())
    models = models_of(config, contents.encoders, captioners)
    return DatasetManifest(
        name=plan.name,
        version="",
        preview=is_preview(models, plan.sources),
        config=portable_config(BuildConfig.of(config)),
        models={role: portable(model) for role, model in models.items()},
        samples=len(contents.entries),
        splits={split: counts[split] for split in SPLITS},
        scores=plan.scores,
        shards=shards,
        sources=tuple(_source_entry(source, plan) for source in plan.sources),
        ledger=contents.ledger,
        digests={name: file_sha256(folder / name) for name in (INDEX, PREVIEW, REJECTS, SAMPLES)},
    )


def _source_entry(source: Source, plan: _Plan) -> SourceEntry:
    keys = [e.canvas.key for e in plan.contents.entries if e.source.name == source.name]
    splits: list[Split] = list({plan.splits[key] for key in keys})
    where: SourceSplit = "none"
    if splits:
        where = splits[0] if len(splits) == 1 else "both"
    return SourceEntry(
        name=source.name, kind=source.kind, split=where, samples=len(keys), rights=source.rights
    )


def _versioned(manifest: DatasetManifest) -> DatasetManifest:
    return manifest.model_copy(update={"version": version_of(manifest)})


def version_of(manifest: DatasetManifest) -> str:
    """The version that a manifest's content has.

    The name, the card and the preview do not count: they are views of the rest, and two names for
    the same content have the same version.
    """
    value = manifest.to_json()
    del value["name"], value["version"]
    value["digests"] = {name: value["digests"][name] for name in (INDEX, REJECTS, SAMPLES)}
    return digest_of(value)
