"""Film reader: splits a film into shots and stores one or more frames per shot."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import cv2

from iclora.ingest.download import local_copy
from iclora.ingest.file_types import is_film
from iclora.ingest.film_analysis import FilmAnalyzer
from iclora.ingest.film_decoder import (
    FrameOrientation,
    open_film,
    orientation_of,
    rgb_of,
    upright,
    upright_box,
)
from iclora.ingest.frames import Pick, decode_frames, pick_frames
from iclora.ingest.overlays import apply_overlay_policy
from iclora.ingest.readers import Reader
from iclora.ingest.result import FRAMES, IngestContext, IngestResult, UnreadableInput
from iclora.ingest.shots import Timeline, analyze_film
from iclora.ingest.subtitles import SubtitleLine
from schemas.base import Box
from schemas.frame import Frame
from schemas.ingest import OverlayPolicy
from schemas.verdict import Verdict

_MIN_COMPLETE = 0.95
"""Minimum decoded fraction of the declared duration; a shorter film counts as truncated."""

_FAST_PNG = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
]
"""PNG encoder settings with one fixed row filter. Adaptive filtering doubles the encoding time and
saves a tenth of the bytes."""


class _AnalyzedFilm(NamedTuple):
    """The results of the decoding pass of a film; boxes are in pixels of decoded frames."""

    path: Path
    prefix: str
    scene: str
    timeline: Timeline
    size: tuple[int, int]
    picture: Box
    watermarks: tuple[Box, ...]
    lines: tuple[SubtitleLine, ...]


class _WrittenFrame(NamedTuple):
    """A frame that was written."""

    file: Path
    content: str
    """Sha256 of the file."""

    width: int
    height: int
    shape: FrameOrientation
    """Transform from the decoded frame to the written picture."""


def read_film_source(context: IngestContext, location: str) -> IngestResult:
    """Reads a film that is a source by itself."""
    return read_film(context, local_copy(location, context.work), context.source.content)


def read_film(context: IngestContext, path: Path, prefix: str, scene: str = "") -> IngestResult:
    """Splits a film into shots and keeps the sharpest frames of each shot.

    Args:
        context: Parameters and output folder.
        path: Film file.
        prefix: Prefix of shot and frame ids.
        scene: Name of the film within a source of several films.

    Returns:
        Frames in order, and one verdict per shot. A truncated film adds one ``failed`` verdict.

    Raises:
        UnreadableInput: No frame can be decoded.
    """
    params = context.params
    with open_film(path, params.max_pixels) as film:
        held: dict[int, _WrittenFrame] = {}

        def keep(number: int, decoded: av.VideoFrame) -> None:
            held[number] = _write_picture(context, number, decoded, orientation_of(film, decoded))

        analyzer = FilmAnalyzer(float(film.rate), params, keep)
        timeline = analyze_film(film, params.shots, analyzer, context.report)
    analyzed = _AnalyzedFilm(
        path=path,
        prefix=prefix,
        scene=scene,
        timeline=timeline,
        size=analyzer.size,
        picture=analyzer.picture_box(),
        watermarks=analyzer.watermarks(),
        lines=analyzer.subtitles(),
    )
    picks = pick_frames(
        timeline.shots, analyzer.sharpness, params.candidates_per_shot, params.frames_per_shot
    )
    frames, rejected = _store_picks(context, analyzed, picks, held)
    filled = {frame.shot for frame in frames}
    verdicts: list[Verdict] = []
    for shot in range(len(timeline.shots)):
        item = f"{prefix}-{shot:05d}"
        if shot in filled:
            verdicts.append(context.kept(item))
        elif shot in rejected:
            verdicts.append(context.rejected(item, rejected[shot]))
        else:
            why = UnreadableInput("undecodable", "no frame of this shot can be decoded")
            verdicts.append(context.failed(item, why))
    decoded, declared = timeline.decoded_seconds, timeline.declared_seconds
    if decoded < _MIN_COMPLETE * declared:
        detail = f"{path.name} ends after {decoded:.1f} of {declared:.1f} seconds"
        why = UnreadableInput("truncated", detail, decoded, declared)
        verdicts.append(context.failed(f"{prefix}-tail", why))
    return IngestResult(tuple(frames), (), tuple(verdicts))


def _store_picks(
    context: IngestContext,
    film: _AnalyzedFilm,
    picks: Sequence[Pick],
    held: dict[int, _WrittenFrame],
) -> tuple[list[Frame], dict[int, str]]:
    """Stores picked frames; returns the accepted ones and a rejection reason per rejected shot."""
    params = context.params
    shots = {pick.number: pick.shot for pick in picks}
    frames: list[Frame] = []
    rejected: dict[int, str] = {}
    for number, picture in _pictures(context, film, sorted(shots), held):
        frame = _frame_of(context, film, Pick(shots[number], number), picture)
        policies: tuple[tuple[str, OverlayPolicy, Sequence[Box]], ...] = (
            ("subtitles", params.subtitles, _subtitle_boxes(film, number, params.subtitles)),
            ("watermark", params.watermark, film.watermarks),
        )
        for reason, policy, boxes in policies:
            overlays = [upright_box(box, film.size, picture.shape) for box in boxes]
            treated = apply_overlay_policy(frame, overlays, policy)
            if treated is None:
                rejected[shots[number]] = reason
                (context.folder / frame.file).unlink()
                break
            frame = treated
        else:
            frames.append(frame)
    return sorted(frames, key=lambda frame: frame.time), rejected


def _pictures(
    context: IngestContext,
    film: _AnalyzedFilm,
    numbers: Sequence[int],
    held: dict[int, _WrittenFrame],
) -> Iterator[tuple[int, _WrittenFrame]]:
    """Yields the pictures of picked frames: buffered frames first, then frames fetched by seek."""
    for number in held.keys() - set(numbers):
        held.pop(number).file.unlink()
    yield from held.items()
    missing = [number for number in numbers if number not in held]
    fetched = decode_frames(film.path, film.timeline, missing, context.params.max_pixels)
    for number, reader, decoded in fetched:
        yield number, _write_picture(context, number, decoded, orientation_of(reader, decoded))


def _write_picture(
    context: IngestContext, number: int, decoded: av.VideoFrame, shape: FrameOrientation
) -> _WrittenFrame:
    pixels = upright(rgb_of(decoded), shape)
    height, width = pixels.shape[:2]
    file = context.frames_folder / f"{number:08d}.png"
    _, packed = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), _FAST_PNG)
    data = packed.tobytes()
    file.write_bytes(data)  # unlike OpenCV, reports why a write fails
    return _WrittenFrame(file, hashlib.sha256(data).hexdigest(), width, height, shape)


def _frame_of(
    context: IngestContext, film: _AnalyzedFilm, pick: Pick, picture: _WrittenFrame
) -> Frame:
    """Creates a frame and renames its picture, since the final name depends on the shot."""
    time = round(float(film.timeline.seconds[pick.number]), 4)
    name = f"{film.prefix}-{pick.shot:05d}-{round(time * 1000):08d}"
    file = picture.file.rename(picture.file.with_name(f"{name}.png"))
    return Frame(
        id=name,
        source=context.source.name,
        file=f"{FRAMES}/{file.name}",
        content=picture.content,
        width=picture.width,
        height=picture.height,
        crop=upright_box(film.picture, film.size, picture.shape),
        shot=pick.shot,
        time=time,
        scene=film.scene,
    )


def _subtitle_boxes(film: _AnalyzedFilm, number: int, policy: OverlayPolicy) -> list[Box]:
    """Returns the boxes covered by the subtitles of a frame.

    The crop policy removes the whole subtitle band from every frame of a subtitled film. This also
    removes undetected lines and keeps all frames the same shape. Other policies apply per frame.
    """
    lines = film.lines
    if policy == "crop" and lines:
        top = min(line.box[1] for line in lines)
        return [(0, max(0, top - film.size[1] // 100), *film.size)]
    return [line.box for line in lines if line.first <= number <= line.last]


READER = Reader(read=read_film_source, matches=is_film)
