"""Assembly of a dataset version: shards, tables, index, preview, card, and manifest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from iclora.dataset.collect import SampleEntry, portable, portable_config
from iclora.dataset.dataset_card import write_card
from iclora.dataset.dataset_plan import DatasetPlan, record_of, text_of
from iclora.dataset.preview import pick, write_preview
from iclora.dataset.provenance import is_preview, models_of
from iclora.dataset.shard_writer import Sample, wids_index, write_shards
from iclora.dataset.tables import SampleRow, write_rejects, write_samples
from iclora.errors import BuildStopped
from iclora.pipeline.stage import file_of, folder_of
from iclora.store import Store, file_sha256
from schemas.base import digest_of
from schemas.dataset import (
    BuildConfig,
    DatasetManifest,
    ShardEntry,
    SourceEntry,
    SourceSplit,
)
from schemas.sample import Split
from schemas.source import Source
from schemas.verdict import Verdict

SAMPLES, REJECTS, INDEX = "samples.parquet", "rejects.parquet", "index.json"
CARD, PREVIEW = "README.md", "preview.jpg"

SPLITS: tuple[Split, ...] = ("train", "val")


def assemble(store: Store, plan: DatasetPlan, folder: Path) -> DatasetManifest:
    """Fills a folder with all files except the manifest, and returns the manifest."""
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


def _rows(store: Store, plan: DatasetPlan, shards: Sequence[ShardEntry]) -> Iterator[SampleRow]:
    """Yields one row per sample, in shard order."""
    for split in SPLITS:
        files = [
            shard.file for shard in shards if shard.split == split for _ in range(shard.samples)
        ]
        entries = [e for e in plan.contents.entries if plan.splits[e.canvas.key] == split]
        for entry, file in zip(entries, files, strict=True):
            size = file_of(store, entry.stitched, entry.canvas.file).stat().st_size
            yield SampleRow(record_of(entry, plan), text_of(entry), file, size)


def _portable_rejects(rejects: Sequence[Verdict]) -> Iterator[Verdict]:
    for verdict in rejects:
        yield verdict.model_copy(update={"id": portable(verdict.id)})


def _previewed(store: Store, plan: DatasetPlan) -> Iterator[tuple[str, bytes]]:
    entries = plan.contents.entries
    for number in pick(len(entries)):
        yield entries[number].canvas.key, _image(store, entries[number])


def _manifest(plan: DatasetPlan, shards: tuple[ShardEntry, ...], folder: Path) -> DatasetManifest:
    """Builds the manifest without the version and the card's digest."""
    contents, config = plan.contents, plan.config
    captioners = {portable(entry.captioned.caption.captioner) for entry in contents.entries}
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


def _source_entry(source: Source, plan: DatasetPlan) -> SourceEntry:
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
    """Computes the version from a manifest's content.

    The name, the card and the preview are excluded: they are views of the rest, and equal content
    under two names has the same version.
    """
    value = manifest.to_json()
    del value["name"], value["version"]
    value["digests"] = {name: value["digests"][name] for name in (INDEX, REJECTS, SAMPLES)}
    return digest_of(value)


def _samples(store: Store, plan: DatasetPlan, split: Split) -> Iterator[Sample]:
    """Yields the samples of a split, one in memory at a time."""
    for entry in plan.contents.entries:
        if plan.splits[entry.canvas.key] == split:
            yield Sample(
                record_of(entry, plan), text_of(entry), _image(store, entry), plan.extension
            )


def _image(store: Store, entry: SampleEntry) -> bytes:
    """Reads the canvas file and checks that the caption was made for it."""
    image = file_of(store, entry.stitched, entry.canvas.file).read_bytes()
    if hashlib.sha256(image).hexdigest() != entry.canvas.image_sha256:
        folder = store.address(folder_of(entry.stitched))
        raise BuildStopped(f"{folder}/{entry.canvas.file} changed on disk: remove {folder}")
    return image
