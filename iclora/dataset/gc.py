"""Sweeping a store: stages that no dataset was made of, and what killed runs left behind.

A stage is kept when the publish stage of a dataset version that is still there names it, directly
or (measurements, which are taken in batches) through the frames they are of. Answers of captioners
were paid for and are never swept; encoded latents and texts are made again when they are missing,
so they go only when asked for. Not to be run while a build runs: its stages look unused until it
publishes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

from iclora.pipeline.stage import folder_of, result_of
from iclora.store import MANIFEST, Store
from schemas.dataset import Published
from schemas.measured import MeasuredBatch
from schemas.stage import Ingested, StageRef

REBUILT = ("cache/latents", "cache/text")
"""Caches that a training fills again by itself."""

_PUBLISH, _MEASURE = "publish", "measure"
_SCRATCH = re.compile(r"(stages|datasets|dataset)-.+\.\w{8}")
"""A folder under construction in the work folder."""


class RemovedFiles(NamedTuple):
    """What was (or would be) removed."""

    paths: tuple[str, ...]
    size: int
    """Bytes."""


def collect_garbage(store: Store, *, caches: bool = False, dry_run: bool = False) -> RemovedFiles:
    """Removes what nothing refers to.

    Args:
        store: the store.
        caches: whether latents and text embeddings go too.
        dry_run: only say what would go.
    """
    places = [*_unused_stages(store), *(REBUILT if caches else ())]
    places = [place for place in places if store.exists(place)]
    scratch = list(_leftovers(store))
    size = sum(cast("int", store.fs.du(store.path(place))) for place in places)
    size += sum(file.stat().st_size for path in scratch for file in _files(path))
    if not dry_run:
        for place in places:
            _remove(store, place)
        for path in scratch:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return RemovedFiles((*places, *(str(path) for path in scratch)), size)


def _unused_stages(store: Store) -> Iterator[str]:
    live, frames = set[str](), set[str]()
    for ref, made in _published(store):
        live |= {folder_of(ref), folder_of(made.chosen)}
        for stages in made.stages:
            live |= {folder_of(StageRef.from_json(one)) for one in stages.to_json().values()}
            ingested = result_of(store, stages.ingested, Ingested)
            given = (frame for one in ingested.given for frame in one.frames)
            frames |= {frame.id for frame in (*ingested.frames, *given)}
    for stage in store.listdir("stages"):
        for digest in store.listdir(f"stages/{stage}"):
            ref = StageRef(stage=stage, digest=digest)
            if folder_of(ref) not in live and not _measures(store, ref, frames):
                yield folder_of(ref)


def _published(store: Store) -> Iterator[tuple[StageRef, Published]]:
    """The publish stages whose dataset version is still there."""
    for digest in store.listdir(f"stages/{_PUBLISH}"):
        ref = StageRef(stage=_PUBLISH, digest=digest)
        if store.exists(f"{folder_of(ref)}/{MANIFEST}"):
            made = result_of(store, ref, Published)
            if store.exists(f"datasets/{made.name}/{made.version}/{MANIFEST}"):
                yield ref, made


def _measures(store: Store, ref: StageRef, frames: set[str]) -> bool:
    """Whether a stage holds measurements of some of these frames."""
    if ref.stage != _MEASURE or not store.exists(f"{folder_of(ref)}/{MANIFEST}"):
        return False
    measured = result_of(store, ref, MeasuredBatch)
    return not frames.isdisjoint({*measured.frames, *measured.unreadable})


def _leftovers(store: Store) -> Iterator[Path]:
    """Scratch folders and files of processes that were killed; copies from an object store."""
    copies = store.work_folder / "copies"  # where ``Store.local_path`` keeps them
    if copies.is_dir():
        yield copies
    if store.work_folder.is_dir():
        yield from (
            path for path in sorted(store.work_folder.iterdir()) if _SCRATCH.fullmatch(path.name)
        )
    if store.is_local:
        yield from sorted(Path(store.root).rglob(".*.tmp"))


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _remove(store: Store, place: str) -> None:
    """Removes a folder, its manifest first: half a stage must not look like a finished one."""
    manifest = store.path(f"{place}/{MANIFEST}")
    if store.fs.exists(manifest):
        store.fs.rm(manifest)
    store.fs.rm(store.path(place), recursive=True)
