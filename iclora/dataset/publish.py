"""Publishing of a dataset version: shards, tables, index, preview, card, and the manifest last.

A version is assembled in a scratch folder, named by the digest of its content, and moved into place
as a whole; LATEST moves only afterwards. Readers therefore never find a partial dataset, and LATEST
always names an existing one. Publishing is a stage: it runs once for the same inputs.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from iclora.dataset.collect import BuildContents, SampleEntry, collect, portable, record_of
from iclora.dataset.dataset_card import write_card
from iclora.dataset.preview import pick, write_preview
from iclora.dataset.provenance import is_of_film_world, is_preview, models_of
from iclora.dataset.reader import LATEST
from iclora.dataset.shard_writer import Sample, wids_index, write_shards
from iclora.dataset.splits import assign_splits, unit_of
from iclora.dataset.tables import sample_row, write_rejects, write_samples
from iclora.errors import BadInput, BuildStopped
from iclora.pipeline.ledger import stop_if_failing
from iclora.pipeline.stage import Stage, file_of, result_of, run_stage
from iclora.store import MANIFEST, Store, file_sha256
from schemas.base import digest_of
from schemas.dataset import (
    BuildConfig,
    DatasetManifest,
    DatasetRef,
    Published,
    PublishParams,
    SourceEntry,
    SourceSplit,
)
from schemas.job import BuildJob
from schemas.sample import Split
from schemas.source import Source
from schemas.stage import SourceStages, StageRef
from schemas.store_paths import dataset_path

log = logging.getLogger(__name__)

STAGE = Stage("publish", 1)

SAMPLES, REJECTS, INDEX = "samples.parquet", "rejects.parquet", "index.json"
CARD, PREVIEW = "README.md", "preview.jpg"

SPLITS: tuple[Split, ...] = ("train", "val")

_SPLIT_OF_SOURCE: dict[tuple[bool, bool], SourceSplit] = {
    (True, True): "both",
    (True, False): "train",
    (False, True): "val",
    (False, False): "none",
}
"""Split of a source by whether it has samples in train and in val."""

_MAX_REASONS = 4
"""Number of reasons listed when no sample was kept."""


def publish_dataset(
    store: Store, job: BuildJob, stages: Sequence[SourceStages], chosen: StageRef
) -> DatasetRef:
    """Writes a dataset version unless it exists, and moves LATEST to it.

    Args:
        store: store of the stages and of the dataset.
        job: name, configuration, sources and manual choices of the build.
        stages: the build's stages per source, in the order of the job's sources.
        chosen: the sets of the whole build.

    Raises:
        BadInput: no sample was kept; the message explains why.
        BuildStopped: a ledger does not add up, or too large a share of a stage failed.
    """
    pairs = sorted(zip(job.sources, stages, strict=True), key=lambda pair: pair[0].name)
    sources, stages = [source for source, _ in pairs], [refs for _, refs in pairs]
    refused = sorted(job.refused, key=lambda verdict: verdict.id)
    params = PublishParams(
        name=job.name,
        config=BuildConfig.of(job.config),
        review=job.review,
        film_world=all(map(is_of_film_world, sources)),
    )

    def work(_folder: Path) -> Published:
        review = {line.key: line for line in params.review}
        contents = collect(store, sources, refused, stages, chosen, review)
        known = {entry.canvas.key for entry in contents.entries}
        known |= {verdict.id for verdict in contents.rejects}
        if unknown := [key for key in review if key not in known]:
            log.warning("%d reviewed sets are no longer there, first %s", len(unknown), unknown[0])
        shard_rejects = [verdict for verdict in contents.rejects if verdict.stage == "shard"]
        max_failed = params.config.ingest.max_failed_share
        stop_if_failing("shard", shard_rejects, contents.ledger["shard"], max_failed)

        if not contents.entries:
            causes = Counter((verdict.stage, verdict.reason) for verdict in contents.rejects)
            reasons = ", ".join(
                f"{count} {reason} ({stage})"
                for (stage, reason), count in causes.most_common(_MAX_REASONS)
            )
            raise BadInput(f"nothing was kept: {reasons or 'the sources hold no pictures'}")

        with store.scratch_folder(f"dataset-{params.name}") as scratch:
            manifest = _write_files(store, params, sources, contents, scratch)
            version = dataset_path(params.name, version=manifest.version)
            with store.atomic_folder(version) as folder:
                for file in sorted(scratch.iterdir()):
                    file.rename(folder / file.name)
                (folder / MANIFEST).write_text(manifest.to_text(), encoding="utf-8")
        log.info("%s@%s: %d samples", params.name, manifest.version, manifest.samples)
        return Published(
            name=params.name,
            version=manifest.version,
            samples=manifest.samples,
            chosen=chosen,
            stages=tuple(stages),
        )

    facts = [source.model_copy(update={"url": ""}) for source in sources]
    inputs = [chosen.digest]
    inputs += [digest_of([item.to_json() for item in items]) for items in (facts, refused, stages)]
    published = result_of(store, run_stage(store, STAGE, params, inputs, work), Published)
    version = dataset_path(published.name, version=published.version)
    if not store.exists(f"{version}/{MANIFEST}"):
        work(store.work_folder)  # a person removed the version but not the record of it
    store.write(dataset_path(published.name, LATEST), f"{published.version}\n".encode())
    return DatasetRef(
        name=published.name,
        version=published.version,
        samples=published.samples,
        url=store.address(version),
    )


def _write_files(
    store: Store,
    params: PublishParams,
    sources: Sequence[Source],
    contents: BuildContents,
    folder: Path,
) -> DatasetManifest:
    """Fills a folder with all files except the manifest, and returns the manifest."""
    entries, config = contents.entries, params.config
    # Everything that a sample holds is fixed before the first byte is written.
    units = [
        unit_of(entry.source.content, entry.canvas.set.scene, config.split) for entry in entries
    ]
    split_of_unit = assign_splits(units, config.split)
    by_split: dict[Split, list[SampleEntry]] = {split: [] for split in SPLITS}
    for entry, unit in zip(entries, units, strict=True):
        by_split[split_of_unit[unit]].append(entry)
    score_names = tuple(sorted({name for entry in entries for name in entry.scores}))
    extensions = {entry.canvas.file.rpartition(".")[2] for entry in entries}
    assert len(extensions) == 1, f"one format of canvas, not {extensions}"
    extension = extensions.pop()

    def samples(split: Split) -> Iterator[Sample]:
        for entry in by_split[split]:
            record = record_of(entry, split, score_names)
            yield Sample(record, entry.text, _read_canvas(store, entry), extension)

    def sample_rows() -> Iterator[dict[str, Any]]:
        for split in SPLITS:
            own = [shard for shard in shards if shard.split == split]
            files = (shard.file for shard in own for _ in range(shard.samples))
            for entry, file in zip(by_split[split], files, strict=True):
                record = record_of(entry, split, score_names)
                size = file_of(store, entry.stitched, entry.canvas.file).stat().st_size
                yield sample_row(record, entry.text, file, size)

    shards = tuple(
        shard
        for split in SPLITS
        for shard in write_shards(samples(split), folder, split, config.shard)
    )
    write_samples(sample_rows(), score_names, folder / SAMPLES)
    rejects = (
        verdict.model_copy(update={"id": portable(verdict.id)}) for verdict in contents.rejects
    )
    write_rejects(rejects, folder / REJECTS)
    (folder / INDEX).write_text(json.dumps(wids_index(shards), indent=1) + "\n", encoding="utf-8")
    shown = [entries[number] for number in pick(len(entries))]
    write_preview(
        ((entry.canvas.key, _read_canvas(store, entry)) for entry in shown), folder / PREVIEW
    )

    captioners = {portable(entry.captioned.caption.captioner) for entry in entries}
    models = models_of(config, contents.encoders, captioners)
    manifest = DatasetManifest(
        name=params.name,
        version="",
        preview=is_preview(models, film_world=params.film_world),
        config=BuildConfig.from_json(portable(config.to_json())),
        models={role: portable(model) for role, model in models.items()},
        samples=len(entries),
        splits={split: len(by_split[split]) for split in SPLITS},
        scores=score_names,
        shards=shards,
        sources=_source_entries(sources, by_split),
        ledger=contents.ledger,
        digests={name: file_sha256(folder / name) for name in (INDEX, PREVIEW, REJECTS, SAMPLES)},
    )
    manifest = manifest.model_copy(update={"version": version_of(manifest)})
    (folder / CARD).write_text(write_card(manifest, extension), encoding="utf-8")
    digests = {**manifest.digests, CARD: file_sha256(folder / CARD)}
    return manifest.model_copy(update={"digests": dict(sorted(digests.items()))})


def _source_entries(
    sources: Sequence[Source], by_split: Mapping[Split, Sequence[SampleEntry]]
) -> tuple[SourceEntry, ...]:
    samples = Counter((entry.source.name, split) for split in SPLITS for entry in by_split[split])
    entries: list[SourceEntry] = []
    for source in sources:
        in_train, in_val = (samples[source.name, split] for split in SPLITS)
        entries.append(
            SourceEntry(
                name=source.name,
                kind=source.kind,
                split=_SPLIT_OF_SOURCE[in_train > 0, in_val > 0],
                samples=in_train + in_val,
                rights=source.rights,
            )
        )
    return tuple(entries)


def _read_canvas(store: Store, entry: SampleEntry) -> bytes:
    """Reads the canvas file and checks that the caption was made for it."""
    image = file_of(store, entry.stitched, entry.canvas.file).read_bytes()
    if hashlib.sha256(image).hexdigest() != entry.canvas.image_sha256:
        folder = store.address(entry.stitched.path)
        raise BuildStopped(f"{folder}/{entry.canvas.file} changed on disk: remove {folder}")
    return image


def version_of(manifest: DatasetManifest) -> str:
    """Computes the version from a manifest's content.

    The name, the card and the preview are excluded: they are views of the rest, and equal content
    under two names has the same version.
    """
    value = manifest.to_json()
    del value["name"], value["version"]
    value["digests"] = {name: value["digests"][name] for name in (INDEX, REJECTS, SAMPLES)}
    return digest_of(value)
