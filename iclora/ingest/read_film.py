"""A film becomes shots, and every shot one or a few frames."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import cv2

from iclora.ingest.film import Shape, open_film, rgb_of, shape_of, upright, upright_box
from iclora.ingest.found import FRAMES, Found, Reading, Unreadable
from iclora.ingest.frames import Pick, fetch_frames, pick_frames
from iclora.ingest.overlays import treat
from iclora.ingest.shots import Timeline, survey_film
from iclora.ingest.subtitles import Line
from iclora.ingest.survey import Survey
from schemas.base import Box
from schemas.frame import Frame
from schemas.ingest import IngestParams, OverlayPolicy
from schemas.verdict import Verdict

_WHOLE = 0.95
"""A film that ends before this share of the length it claims was cut off."""

_FAST_PNG = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
]
"""One filter for all rows: to try each takes twice as long and saves a tenth of the bytes."""


class _Surveyed(NamedTuple):
    """A film after its decoding pass; boxes in pixels of decoded frames."""

    path: Path
    prefix: str
    scene: str
    timeline: Timeline
    size: tuple[int, int]
    picture: Box
    marks: tuple[Box, ...]
    lines: tuple[Line, ...]


class _Picture(NamedTuple):
    """A frame that was written."""

    file: Path
    content: str
    """Sha256 of the file."""

    width: int
    height: int
    shape: Shape
    """How the decoded frame became upright."""


def read_film(reading: Reading, path: Path, prefix: str, scene: str = "") -> Found:
    """Cuts a film into shots and keeps the sharpest frame of each.

    Args:
        reading: what to do, and where the frames go.
        path: the film.
        prefix: begins the ids of its shots and frames.
        scene: what the source calls it, if it holds several films.

    Returns:
        Frames in order, and one verdict a shot; a film that ends early has one more, ``failed``.

    Raises:
        Unreadable: nothing of it can be decoded.
    """
    params = reading.params
    with open_film(path, params.max_pixels) as film:
        held: dict[int, _Picture] = {}

        def keep(number: int, decoded: av.VideoFrame) -> None:
            held[number] = _write_picture(reading, number, decoded, shape_of(film, decoded))

        survey = Survey(float(film.rate), params, keep)
        timeline = survey_film(film, params.shots, survey, reading.say)
    surveyed = _Surveyed(
        path=path,
        prefix=prefix,
        scene=scene,
        timeline=timeline,
        size=survey.size,
        picture=survey.picture_box(),
        marks=survey.marks(),
        lines=survey.subtitles(),
    )
    picks = pick_frames(timeline.shots, survey.sharpness, params.candidates, params.frames_per_shot)
    frames, rejected = _store_picks(reading, surveyed, picks, held)
    filled = {frame.shot for frame in frames}
    verdicts = [
        _shot_verdict(reading, shot_id(prefix, shot), shot in filled, rejected.get(shot, ""))
        for shot in range(len(timeline.shots))
    ]
    return Found(tuple(frames), (), (*verdicts, *_tail_verdict(reading, surveyed)))


def shot_id(prefix: str, shot: int) -> str:
    """The id of a shot."""
    return f"{prefix}-{shot:05d}"


def _store_picks(
    reading: Reading, surveyed: _Surveyed, picks: Sequence[Pick], held: dict[int, _Picture]
) -> tuple[list[Frame], dict[int, str]]:
    """The frames that go on, and why the others of some shots do not."""
    shots = {pick.number: pick.shot for pick in picks}
    frames: list[Frame] = []
    rejected: dict[int, str] = {}
    for number, picture in _pictures(reading, surveyed, sorted(shots), held):
        frame = _frame_of(reading, surveyed, Pick(shots[number], number), picture)
        treated, reason = _without_overlays(reading.params, surveyed, frame, number, picture.shape)
        if treated is None:
            rejected[shots[number]] = reason
            (reading.folder / frame.file).unlink()
        else:
            frames.append(treated)
    return sorted(frames, key=lambda frame: frame.time), rejected


def _pictures(
    reading: Reading, surveyed: _Surveyed, numbers: Sequence[int], held: dict[int, _Picture]
) -> Iterator[tuple[int, _Picture]]:
    """The picked frames as pictures: those that were held, and the others, which are sought."""
    for number in held.keys() - set(numbers):
        held.pop(number).file.unlink()
    yield from held.items()
    missing = [number for number in numbers if number not in held]
    fetched = fetch_frames(surveyed.path, surveyed.timeline, missing, reading.params.max_pixels)
    for number, film, decoded in fetched:
        yield number, _write_picture(reading, number, decoded, shape_of(film, decoded))


def _write_picture(reading: Reading, number: int, decoded: av.VideoFrame, shape: Shape) -> _Picture:
    pixels = upright(rgb_of(decoded), shape)
    height, width = pixels.shape[:2]
    file = reading.frames_folder / f"{number:08d}.png"
    _, packed = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), _FAST_PNG)
    data = packed.tobytes()
    file.write_bytes(data)  # which, unlike OpenCV, says why it cannot
    return _Picture(file, hashlib.sha256(data).hexdigest(), width, height, shape)


def _frame_of(reading: Reading, surveyed: _Surveyed, pick: Pick, picture: _Picture) -> Frame:
    """The frame, whose picture gets its name here: its shot was not known before."""
    time = round(float(surveyed.timeline.seconds[pick.number]), 4)
    name = f"{shot_id(surveyed.prefix, pick.shot)}-{round(time * 1000):08d}"
    file = picture.file.rename(picture.file.with_name(f"{name}.png"))
    return Frame(
        id=name,
        source=reading.source.name,
        file=f"{FRAMES}/{file.name}",
        content=picture.content,
        width=picture.width,
        height=picture.height,
        crop=upright_box(surveyed.picture, surveyed.size, picture.shape),
        shot=pick.shot,
        time=time,
        scene=surveyed.scene,
    )


def _without_overlays(
    params: IngestParams, surveyed: _Surveyed, frame: Frame, number: int, shape: Shape
) -> tuple[Frame | None, str]:
    """Treats logos and subtitles; the reason comes with a frame that is given up."""
    lines = _subtitle_boxes(surveyed, number, params.subtitles)
    treated = treat(frame, _turned(lines, surveyed, shape), params.subtitles)
    if treated is None:
        return None, "subtitles"
    return treat(treated, _turned(surveyed.marks, surveyed, shape), params.watermark), "watermark"


def _turned(boxes: Sequence[Box], surveyed: _Surveyed, shape: Shape) -> list[Box]:
    return [upright_box(box, surveyed.size, shape) for box in boxes]


def _subtitle_boxes(surveyed: _Surveyed, number: int, policy: OverlayPolicy) -> list[Box]:
    """What a frame's subtitles cover.

    Cropping takes the whole band from every frame of a film that has any, so that a line that was
    overlooked is gone too and all frames keep one shape; masks and rejections look at the frame.
    """
    lines = surveyed.lines
    if policy == "crop" and lines:
        top = min(line.box[1] for line in lines)
        return [(0, max(0, top - surveyed.size[1] // 100), *surveyed.size)]
    return [line.box for line in lines if line.first <= number <= line.last]


def _shot_verdict(reading: Reading, item: str, filled: bool, reason: str) -> Verdict:  # noqa: FBT001 - a fact of the shot
    if filled:
        return reading.kept(item)
    if reason:
        return reading.rejected(item, reason)
    return reading.failed(item, Unreadable("undecodable", "no frame of this shot can be decoded"))


def _tail_verdict(reading: Reading, surveyed: _Surveyed) -> list[Verdict]:
    """A failed item for the part of a film that its container promises but does not hold."""
    timeline = surveyed.timeline
    decoded = float(timeline.seconds[-1]) + 1 / float(timeline.rate)
    if decoded >= _WHOLE * timeline.claimed_seconds:
        return []
    why = Unreadable(
        "truncated",
        f"{surveyed.path.name} ends after {decoded:.1f} of {timeline.claimed_seconds:.1f} seconds",
        decoded,
        timeline.claimed_seconds,
    )
    return [reading.failed(f"{surveyed.prefix}-tail", why)]
