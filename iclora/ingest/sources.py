"""From what a person names to sources: what kind each is, what it holds, whose it is.

A folder of films is one source per film; a folder of pictures, with or without folders of pictures
inside, is one source whose folders are scenes. One that cannot be read or is reserved by its owner
gets its verdict here and the others go on; only a location that is not there at all is an error,
because that is a mistyped name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from iclora.errors import BadInput
from iclora.ingest import file_types
from iclora.ingest.download import (
    default_work_folder,
    digest_file,
    digest_files,
    digest_if_readable,
    is_folder,
    is_url,
    list_files,
    local_copy,
    read_small_file,
)
from iclora.ingest.huggingface import hub_revision, is_hub_id
from iclora.ingest.result import UnreadableInput
from iclora.ingest.sidecar import is_reserved, parse_sidecar
from iclora.ingest.webdataset_shards import expand_shards, is_pattern
from schemas.base import digest_of
from schemas.ingest import IngestParams
from schemas.source import Licence, Source, SourceKind
from schemas.verdict import Verdict, VerdictOutcome

log = logging.getLogger(__name__)

MAX_CONCURRENT = 8
"""Sources copied and digested at a time: a bucket gives one file after another slowly, eight beside
each other fast."""


class SourceCandidate(NamedTuple):
    """Something that looks like a source."""

    url: str
    """What ``Source.url`` will be."""

    name: str
    """Relative to what was given."""

    kind: SourceKind
    files: tuple[str, ...] = ()
    """For folders: the files whose bytes are its content."""

    sidecars: tuple[str, ...] = ()
    """Where its sidecar may lie, the nearest first."""


def resolve_sources(
    locations: Sequence[str], params: IngestParams, work: Path | None = None
) -> tuple[tuple[Source, ...], tuple[Verdict, ...]]:
    """Finds the sources in what was given.

    Args:
        locations: films, folders, archives, shards (``{000000..000009}.tar``), URLs, hub ids.
        params: of ingest.
        work: where remote sources are copied; default ``ICLORA_WORK``, else a temporary folder.

    Returns:
        The sources that may be ingested, and one verdict (stage ``sources``) for each found.

    Raises:
        BadInput: a location is not there, or there is nothing in any of them.
    """
    work = work or default_work_folder()
    candidates = [one for location in locations for one in _candidates(location)]
    sources: list[Source] = []
    verdicts: list[Verdict] = []
    contents: dict[tuple[str, str], str] = {}
    for candidate, looked in zip(candidates, _inspect_all(candidates, params, work), strict=True):
        source, verdict = _decide(candidate, looked, contents)
        verdicts.append(_with_unique_id(verdict, verdicts))
        if source is not None:
            sources.append(source)
    if not verdicts:
        raise BadInput(f"there is no film, picture or archive in {', '.join(locations)}")
    return tuple(sources), tuple(verdicts)


class _SourceContent(NamedTuple):
    """A candidate's rights and the digest of its content."""

    rights: Licence
    content: str


def _inspect_all(
    candidates: Sequence[SourceCandidate], params: IngestParams, work: Path
) -> Iterator[_SourceContent | Verdict]:
    """Copies and digests candidates, some at a time; in order, and none after an error."""
    pool = ThreadPoolExecutor(MAX_CONCURRENT, "iclora-sources")
    try:
        yield from pool.map(partial(_inspect, params=params, work=work), candidates)
    finally:
        pool.shutdown(cancel_futures=True)


def _inspect(
    candidate: SourceCandidate, params: IngestParams, work: Path
) -> _SourceContent | Verdict:
    """Digests one candidate, or says why it may or can not be ingested."""
    try:
        rights = _rights_of(candidate)
        if is_reserved(rights, params):  # before anything of it is copied or read
            detail = f"reserved by {', '.join(rights.opt_out)}; ingest.allow_opt_out overrides"
            return _verdict(candidate.name, "rejected", "opt_out", detail)
        return _SourceContent(rights, _content_of(candidate, work))
    except UnreadableInput as why:
        return _verdict(candidate.name, "failed", why.reason, str(why))


def _decide(
    candidate: SourceCandidate,
    looked: _SourceContent | Verdict,
    contents: dict[tuple[str, str], str],
) -> tuple[Source | None, Verdict]:
    """Makes a source of a candidate, unless it is the same as an earlier one."""
    if isinstance(looked, Verdict):
        return None, looked
    rights, content = looked
    name = f"{candidate.name}@{content}"
    if (candidate.kind, content) in contents:
        detail = f"the same as {contents[candidate.kind, content]}"
        return None, _verdict(name, "rejected", "duplicate_source", detail)
    contents[candidate.kind, content] = name
    if rights.licence == "unknown":
        log.warning("%s: its licence is unknown; %s.toml can state it", name, candidate.name)
    source = Source(
        url=candidate.url, name=name, kind=candidate.kind, content=content, rights=rights
    )
    return source, _verdict(name, "kept")


def _verdict(name: str, outcome: VerdictOutcome, reason: str = "", detail: str = "") -> Verdict:
    return Verdict(
        stage="sources", id=name, outcome=outcome, reason=reason, detail=detail, source=name
    )


def _with_unique_id(verdict: Verdict, others: Sequence[Verdict]) -> Verdict:
    """Sources that were given twice under one name are told apart by a number."""
    twins = sum(1 for other in others if other.source == verdict.source)
    return verdict.model_copy(update={"id": f"{verdict.id}#{twins + 1}"}) if twins else verdict


def _content_of(candidate: SourceCandidate, work: Path) -> str:
    if candidate.kind == "huggingface" and is_hub_id(candidate.url):
        return hub_revision(candidate.url)
    if is_pattern(candidate.url):
        return digest_of([digest_file(local_copy(shard, work)) for shard in candidate.files])
    local = local_copy(candidate.url, work)
    if not candidate.files:
        return digest_file(local)
    single = candidate.kind in ("pictures", "captioned")  # each picture has a verdict of its own
    return digest_files(local, candidate.files, digest_if_readable if single else digest_file)


def _rights_of(candidate: SourceCandidate) -> Licence:
    for place in candidate.sidecars:
        text = read_small_file(place)
        if text is not None:
            return parse_sidecar(text, place.rsplit("/", 1)[-1])
    return Licence()


def _candidates(location: str) -> Iterator[SourceCandidate]:
    """Everything at one location that looks like a source."""
    plain = location if is_url(location) else str(Path(location).expanduser())
    if is_pattern(plain):
        shards = expand_shards(plain)
        yield SourceCandidate(plain, plain.rsplit("/", 1)[-1], "webdataset", tuple(shards))
    elif is_folder(plain):
        yield from _in_folder(plain.rstrip("/"))
    elif is_url(plain) or Path(plain).exists():
        name = plain.rsplit("/", 1)[-1]
        yield SourceCandidate(plain, name, _kind_of_file(name), (), _sidecars(plain))
    elif is_hub_id(plain):
        yield SourceCandidate(plain, plain, "huggingface")
    else:
        raise BadInput(f"{location} does not exist (nor is it a Hugging Face dataset id)")


def _kind_of_file(name: str) -> SourceKind:
    """A file with a strange suffix is taken for a film: FFmpeg looks at the content."""
    if file_types.is_shard(name):
        return "webdataset"
    if file_types.is_archive(name):
        return "archive"
    if file_types.is_table(name):
        return "huggingface"
    return "pictures" if file_types.is_picture(name) else "film"


def _sidecars(place: str) -> tuple[str, ...]:
    """``film.mp4.toml``, else ``film.toml``."""
    folder, _, name = place.rpartition("/")
    stem = name.rsplit(".", 1)[0]
    return tuple(
        f"{folder}/{n}.toml" if folder else f"{n}.toml" for n in dict.fromkeys((name, stem))
    )


def _in_folder(folder: str) -> Iterator[SourceCandidate]:
    own = Path(folder).resolve().name if not is_url(folder) else folder.rsplit("/", 1)[-1]
    above = _sidecars(str(Path(folder).resolve()) if not is_url(folder) else folder)[:1]
    try:
        files = list_files(folder)
    except UnreadableInput:
        yield SourceCandidate(folder, own, "pictures", ("",), above)
        return
    if file_types.is_dataset(files):
        yield SourceCandidate(folder, own, "huggingface", tuple(files), above)
        return
    for name in files:
        if file_types.is_film(name) or (
            file_types.is_archive(name) and not file_types.is_shard(name)
        ):
            place = f"{folder}/{name}"
            kind = _kind_of_file(name)
            yield SourceCandidate(place, name, kind, (), (*_sidecars(place), *above))
    shards = tuple(name for name in files if file_types.is_shard(name))
    if shards:
        yield SourceCandidate(folder, own, "webdataset", shards, above)
    pictures = tuple(file_types.select_pictures(files, captioned=False))
    if pictures:
        yield SourceCandidate(folder, own, "pictures", pictures, above)
    canvases = file_types.select_pictures(files, captioned=True)
    if canvases:
        both = file_types.with_captions(canvases, files)
        yield SourceCandidate(folder, own, "captioned", tuple(both), above)
