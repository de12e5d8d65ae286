"""Source resolution: determines the kind, content digest and rights of each user-named location.

A folder of films yields one source per film. A folder of pictures, nested or flat, yields one
source whose subfolders are scenes. Unreadable sources, reserved sources and files that must not be
opened (see ``inside``) receive a verdict, and resolution continues with the rest. Only a missing
location raises an error, because it is most likely a typo.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from iclora.errors import BadInput
from iclora.ingest import file_types
from iclora.ingest.download import (
    UNREADABLE,
    default_work_folder,
    digest_file,
    digest_files,
    digest_if_readable,
    is_folder,
    is_url,
    list_at,
    local_copy,
    public_name,
    read_small_file,
    without_scheme,
)
from iclora.ingest.huggingface import hub_revision, is_hub_id
from iclora.ingest.inside import check_name, printable
from iclora.ingest.result import UnreadableInput
from iclora.ingest.sidecar import is_reserved, parse_sidecar
from iclora.ingest.webdataset_shards import expand_shards, is_pattern
from iclora.redact import redact_url
from schemas.base import digest_of
from schemas.ingest import IngestParams
from schemas.source import Licence, Source, SourceKind
from schemas.verdict import Verdict, VerdictOutcome

log = logging.getLogger(__name__)

MAX_CONCURRENT = 8
"""Maximum number of sources copied and digested concurrently; object stores need parallel reads."""


class SourceCandidate(NamedTuple):
    """A location that may be a source."""

    url: str
    """Value for ``Source.url``."""

    name: str
    """Name relative to the user-given location."""

    kind: SourceKind
    files: tuple[str, ...] = ()
    """Files whose bytes make up the content of a folder."""

    sidecars: tuple[str, ...] = ()
    """Candidate sidecar locations, nearest first."""

    folder: str = ""
    """Folder that contains the candidate; empty if the user named the candidate directly."""


def resolve_sources(
    locations: Sequence[str], params: IngestParams, work: Path | None = None
) -> tuple[tuple[Source, ...], tuple[Verdict, ...]]:
    """Resolves locations to sources.

    Args:
        locations: Films, folders, archives, shards (``{000000..000009}.tar``), URLs or hub ids.
        params: Ingest parameters.
        work: Folder for copies of remote sources. Defaults to ``ICLORA_WORK``, else a temporary
            folder.

    Returns:
        The sources to ingest, and one verdict (stage ``sources``) per candidate.

    Raises:
        BadInput: A location does not exist, or no location contains a source.
    """
    work = work or default_work_folder()
    candidates = [one for location in locations for one in _found_at(location)]
    sources: list[Source] = []
    verdicts: list[Verdict] = []
    contents: dict[tuple[str, str], str] = {}
    times: Counter[str] = Counter()
    for candidate, looked in zip(candidates, _inspect_all(candidates, params, work), strict=True):
        source, verdict = _decide(candidate, looked, contents)
        verdicts.append(_with_unique_id(verdict, times))
        if source is not None:
            sources.append(source)
    if not verdicts:
        given = ", ".join(redact_url(location) for location in locations)
        raise BadInput(f"there is no film, picture or archive in {given}")
    return tuple(sources), tuple(verdicts)


class _SourceContent(NamedTuple):
    """The rights and content digest of a candidate."""

    rights: Licence
    content: str


def _inspect_all(
    candidates: Sequence[SourceCandidate | Verdict], params: IngestParams, work: Path
) -> Iterator[_SourceContent | Verdict]:
    """Copies and digests candidates concurrently; yields in order and stops at the first error."""
    pool = ThreadPoolExecutor(MAX_CONCURRENT, "iclora-sources")
    try:
        yield from pool.map(partial(_inspect, params=params, work=work), candidates)
    finally:
        pool.shutdown(cancel_futures=True)


def _inspect(
    candidate: SourceCandidate | Verdict, params: IngestParams, work: Path
) -> _SourceContent | Verdict:
    """Digests one candidate, or returns the verdict that excludes it."""
    if isinstance(candidate, Verdict):
        return candidate
    try:
        rights = _rights_of(candidate)
        if is_reserved(rights, params):  # checked before copying or reading any content
            detail = f"reserved by {', '.join(rights.opt_out)}; ingest.allow_opt_out overrides"
            return _verdict(candidate.name, "rejected", "opt_out", detail)
        return _SourceContent(rights, _content_of(candidate, work))
    except UnreadableInput as why:
        return _verdict(candidate.name, "failed", why.reason, str(why))
    except BadInput as error:
        if not candidate.folder:
            raise
        return _verdict(candidate.name, "failed", UNREADABLE, str(error))


def _decide(
    candidate: SourceCandidate | Verdict,
    looked: _SourceContent | Verdict,
    contents: dict[tuple[str, str], str],
) -> tuple[Source | None, Verdict]:
    """Creates a source from a candidate unless it duplicates an earlier one."""
    if isinstance(candidate, Verdict):
        return None, candidate
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


def _with_unique_id(verdict: Verdict, times: Counter[str]) -> Verdict:
    """Appends a counter to the verdict id if the source name occurred before."""
    times[verdict.source] += 1
    number = times[verdict.source]
    return verdict.model_copy(update={"id": f"{verdict.id}#{number}"}) if number > 1 else verdict


def _content_of(candidate: SourceCandidate, work: Path) -> str:
    if candidate.kind == "huggingface" and is_hub_id(candidate.url):
        return hub_revision(candidate.url)
    if is_pattern(candidate.url):
        return digest_of([digest_file(local_copy(shard, work)) for shard in candidate.files])
    local = local_copy(candidate.url, work)
    if not candidate.files:
        return digest_file(local)
    single = candidate.kind in ("pictures", "captioned")  # one verdict per picture
    return digest_files(local, candidate.files, digest_if_readable if single else digest_file)


def _rights_of(candidate: SourceCandidate) -> Licence:
    for place in candidate.sidecars:
        inside = candidate.folder and place.startswith(f"{candidate.folder}/")
        text = read_small_file(place, candidate.folder if inside else "")
        if text is not None:
            return parse_sidecar(text, public_name(place))
    return Licence()


def _found_at(location: str) -> Iterator[SourceCandidate | Verdict]:
    """Yields the candidates at one location, or a failed verdict if it cannot be reached."""
    place = without_scheme(location)
    plain = place if is_url(place) else os.path.expanduser(place)  # noqa: PTH111 - raises nothing
    try:
        check_name(plain)
        yield from _candidates(plain)
    except UnreadableInput as why:
        yield _verdict(printable(public_name(plain)), "failed", why.reason, str(why))


def _candidates(plain: str) -> Iterator[SourceCandidate | Verdict]:
    """Yields all candidates at one location."""
    name = public_name(plain) if is_url(plain) else plain.rsplit("/", 1)[-1]
    if is_pattern(plain):
        shards = expand_shards(plain)
        yield SourceCandidate(plain, name, "webdataset", tuple(shards))
    elif is_folder(plain):
        yield from _in_folder(plain.rstrip("/"))
    elif is_url(plain) or Path(plain).exists():
        file = name.partition("?")[0] if is_url(plain) else name
        yield SourceCandidate(plain, name, _kind_of_file(file), (), _sidecars(plain))
    elif is_hub_id(plain):
        yield SourceCandidate(plain, plain, "huggingface")
    else:
        raise BadInput(f"{plain} does not exist (nor is it a Hugging Face dataset id)")


def _kind_of_file(name: str) -> SourceKind:
    """Maps a file name to a source kind; unknown suffixes count as film, since FFmpeg probes."""
    if file_types.is_shard(name):
        return "webdataset"
    if file_types.is_archive(name):
        return "archive"
    if file_types.is_table(name):
        return "huggingface"
    return "pictures" if file_types.is_picture(name) else "film"


def _sidecars(place: str) -> tuple[str, ...]:
    """Returns the sidecar paths ``film.mp4.toml`` and ``film.toml``; keeps a URL query last."""
    file, asked, query = place.partition("?") if is_url(place) else (place, "", "")
    folder, _, name = file.rpartition("/")
    stem = name.rsplit(".", 1)[0]
    beside = (f"{n}.toml{asked}{query}" for n in dict.fromkeys((name, stem)))
    return tuple(f"{folder}/{n}" if folder else n for n in beside)


def _in_folder(folder: str) -> Iterator[SourceCandidate | Verdict]:
    remote = is_url(folder)
    own = public_name(folder) if remote else Path(folder).resolve().name
    above = _sidecars(folder if remote else str(Path(folder).resolve()))[:1]
    try:
        files, refused = list_at(folder)
    except UnreadableInput as why:
        yield _verdict(own, "failed", why.reason, str(why))
        return
    for name, why in refused:
        yield _verdict(name, "rejected", why.reason, str(why))
    if file_types.is_dataset(files):
        yield SourceCandidate(folder, own, "huggingface", tuple(files), above, folder)
        return
    for name in files:
        if file_types.is_film(name) or (
            file_types.is_archive(name) and not file_types.is_shard(name)
        ):
            place = f"{folder}/{name}"
            kind = _kind_of_file(name)
            yield SourceCandidate(place, name, kind, (), (*_sidecars(place), *above), folder)
    shards = tuple(name for name in files if file_types.is_shard(name))
    if shards:
        yield SourceCandidate(folder, own, "webdataset", shards, above, folder)
    pictures = tuple(file_types.select_pictures(files, captioned=False))
    if pictures:
        yield SourceCandidate(folder, own, "pictures", pictures, above, folder)
    canvases = file_types.select_pictures(files, captioned=True)
    if canvases:
        both = file_types.with_captions(canvases, files)
        yield SourceCandidate(folder, own, "captioned", tuple(both), above, folder)
