"""A film becomes shots, and every shot one or a few frames."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import av
import cv2

from iclora.ingest.film import Shape, open_film, rgb_of, shape_of, upright, upright_box
from iclora.ingest.found import FRAMES, Found, Reading, Unreadable
from iclora.ingest.frames import Pick, fetch_frames, pick_frames
from iclora.ingest.shots import Timeline, survey_film
from iclora.ingest.survey import Survey
from iclora.store import file_sha256
from schemas.frame import Frame
from schemas.verdict import Verdict

_WHOLE = 0.95
"""A film that ends before this share of the length it claims was cut off."""

_FAST_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]


class _Surveyed(NamedTuple):
    path: Path
    prefix: str
    scene: str
    timeline: Timeline
    survey: Survey


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
        survey = Survey(float(film.rate), params)
        timeline = survey_film(film, params.shots, survey)
    surveyed = _Surveyed(path, prefix, scene, timeline, survey)
    picks = pick_frames(timeline.shots, survey.sharpness, params.candidates, params.frames_per_shot)
    frames = _store_picks(reading, surveyed, picks)
    filled = {frame.shot for frame in frames}
    verdicts = [_shot_verdict(reading, prefix, shot, filled) for shot in range(len(timeline.shots))]
    return Found(tuple(frames), (), (*verdicts, *_tail_verdict(reading, surveyed)))


def shot_id(prefix: str, shot: int) -> str:
    """The id of a shot."""
    return f"{prefix}-{shot:05d}"


def _store_picks(reading: Reading, surveyed: _Surveyed, picks: list[Pick]) -> list[Frame]:
    shots = {pick.number: pick.shot for pick in picks}
    frames: list[Frame] = []
    fetched = fetch_frames(
        surveyed.path, surveyed.timeline, sorted(shots), reading.params.max_pixels
    )
    for number, film, frame in fetched:
        pick = Pick(shots[number], number)
        frames.append(_store_frame(reading, surveyed, pick, frame, shape_of(film, frame)))
    return sorted(frames, key=lambda frame: frame.time)


def _store_frame(
    reading: Reading, surveyed: _Surveyed, pick: Pick, frame: av.VideoFrame, shape: Shape
) -> Frame:
    pixels = upright(rgb_of(frame), shape)
    height, width = pixels.shape[:2]
    time = round(float(surveyed.timeline.seconds[pick.number]), 4)
    name = f"{shot_id(surveyed.prefix, pick.shot)}-{round(time * 1000):08d}"
    file = reading.frames_folder / f"{name}.png"
    written = cv2.imwrite(str(file), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), _FAST_PNG)
    if not written:
        raise OSError(f"{file.name} could not be written")
    crop = (0, 0, width, height)
    if reading.params.bars:
        crop = upright_box(surveyed.survey.picture_box(), surveyed.survey.size, shape)
    return Frame(
        id=name,
        source=reading.source.name,
        file=f"{FRAMES}/{file.name}",
        content=file_sha256(file),
        width=width,
        height=height,
        crop=crop,
        shot=pick.shot,
        time=time,
        scene=surveyed.scene,
    )


def _shot_verdict(reading: Reading, prefix: str, shot: int, filled: set[int]) -> Verdict:
    item = shot_id(prefix, shot)
    if shot in filled:
        return reading.kept(item)
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
