"""Where a film is cut: PySceneDetect's own detectors, fed by our one decoding pass.

PySceneDetect decides; this module only decodes for it (``FilmStream`` is one of its video streams)
so that the same pass can also measure what the rest of ingest wants to know. The cuts are those of
``scenedetect.detect`` with its PyAV backend.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from scenedetect import AdaptiveDetector, ContentDetector, HistogramDetector, SceneManager
from scenedetect.common import FrameTimecode, Timecode
from scenedetect.detector import SceneDetector
from scenedetect.video_stream import VideoStream

from iclora.errors import BadConfig, MissingModel
from iclora.ingest.film import Film, Pixels, open_film
from iclora.ingest.found import Unreadable
from schemas.ingest import Cuts, IngestParams, ShotParams

USUAL_THRESHOLDS = {"adaptive": 3.5, "content": 27.0, "histogram": 0.2, "transnet": 0.5}
_MISSING = -(1 << 62)
"""Stands for a time stamp that is not there."""

Watcher = Callable[[int, av.VideoFrame, Pixels], None]
"""Is shown every decoded frame once: its number, the frame, and its pixels as BGR."""


class Timeline(NamedTuple):
    """Every decoded frame of a film, by number."""

    stamps: NDArray[np.int64]
    """Presentation time stamps as they are in the file."""

    seconds: NDArray[np.float64]
    """From the first frame, strictly rising."""

    keys: NDArray[np.bool_]
    """Whether decoding can start here."""

    rate: Fraction
    shots: tuple[tuple[int, int], ...]
    """First frame and the frame after the last, of every shot."""

    claimed_seconds: float
    """How long the container says it is; 0 if it does not say."""

    @property
    def stamped(self) -> bool:
        """Whether every frame has a time stamp of its own, so that it can be sought."""
        return bool((np.diff(self.stamps) > 0).all() and (self.stamps > _MISSING).all())


class FilmStream(VideoStream):
    """A film as PySceneDetect reads one; shows every frame to a watcher on the way."""

    BACKEND_NAME = "iclora"

    def __init__(self, film: Film, watch: Watcher) -> None:
        self._film = film
        self._watch = watch
        self._frames: Iterator[av.VideoFrame] = film.frames()
        self._base = Fraction(film.stream.time_base or 1 / film.rate)
        self._step = max(1, round(1 / (film.rate * self._base)))
        self.stamps: list[int] = []
        self.ticks: list[int] = []
        self.keys: list[bool] = []

    @property
    def path(self) -> str:
        """Unused: the film is open already."""
        return self._film.name

    @property
    def name(self) -> str:
        """The file's name."""
        return self._film.name

    @property
    def is_seekable(self) -> bool:
        """One pass, no seeking."""
        return False

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second."""
        return self._film.rate

    @property
    def duration(self) -> FrameTimecode | None:
        """Unknown until the end."""
        return None

    @property
    def frame_size(self) -> tuple[int, int]:
        """Width and height."""
        return self._film.size

    @property
    def aspect_ratio(self) -> float:
        """PySceneDetect's detectors do not look at it."""
        return 1.0

    @property
    def position(self) -> FrameTimecode:
        """The time of the frame read last."""
        ticks = self.ticks[-1] if self.ticks else 0
        return FrameTimecode(Timecode(pts=ticks, time_base=self._base), fps=self.frame_rate)

    @property
    def position_ms(self) -> float:
        """The time of the frame read last, in milliseconds."""
        return float(self.position.seconds * 1000.0)

    @property
    def frame_number(self) -> int:
        """Frames read so far."""
        return len(self.ticks)

    def read(self, decode: bool = True) -> NDArray[Any] | bool:  # noqa: FBT001, FBT002 - theirs
        """The next frame as BGR, or False at the end."""
        frame = next(self._frames, None)
        if frame is None:
            return False
        self._note(frame)
        if not decode:
            return True
        pixels = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
        self._watch(len(self.ticks) - 1, frame, pixels)
        return pixels

    def _note(self, frame: av.VideoFrame) -> None:
        """Writes down a frame's time; one that is missing or goes back follows the one before."""
        stamp = _MISSING if frame.pts is None else frame.pts
        if not self.ticks:
            tick = 0
        else:
            tick = max(self.ticks[-1] + 1, stamp - self.stamps[0])
            if _MISSING in (stamp, self.stamps[0]):
                tick = self.ticks[-1] + self._step
        self.stamps.append(stamp)
        self.ticks.append(tick)
        self.keys.append(bool(frame.key_frame))

    def reset(self) -> None:
        """Never asked for by ``SceneManager.detect_scenes``."""
        raise AssertionError("a film is read once")

    def seek(self, target: object) -> None:  # noqa: ARG002 - their signature
        """Never asked for without a start time."""
        raise AssertionError("a film is read once")


def detector_of(params: ShotParams) -> SceneDetector:
    """PySceneDetect's detector with these parameters.

    Raises:
        MissingModel: TransNetV2 without its model file.
        BadConfig: TransNetV2 without onnxruntime.
    """
    threshold = params.threshold or USUAL_THRESHOLDS[params.detector]
    least = params.min_seconds
    if params.detector == "adaptive":
        return AdaptiveDetector(threshold, min_scene_len=least, window_width=params.window)
    if params.detector == "content":
        return ContentDetector(threshold, min_scene_len=least)
    if params.detector == "histogram":
        return HistogramDetector(threshold, min_scene_len=least)
    return _transnet(params.model_file, threshold, least)


def _transnet(model_file: str, threshold: float, least: float) -> SceneDetector:
    from scenedetect.detectors.transnet_v2 import TransnetV2Detector

    if not Path(model_file).is_file():
        raise MissingModel(
            f"TransNetV2's model file {model_file!r} is not there; set "
            "ingest.shots.model_file to its ONNX file (PySceneDetect's documentation says "
            "where to get it)"
        )
    try:
        return TransnetV2Detector(
            model_file,
            onnx_providers=["CPUExecutionProvider"],
            threshold=threshold,
            min_scene_len=least,
        )
    except ImportError as error:
        raise BadConfig("the detector transnet needs onnxruntime: pip install it") from error
    except Exception as error:  # onnxruntime's errors have no common class of their own
        raise BadConfig(f"{model_file} is not TransNetV2's ONNX file: {error}") from error


def survey_film(film: Film, params: ShotParams, watch: Watcher) -> Timeline:
    """Decodes a film once, finds its shots, and shows every frame to ``watch``.

    Raises:
        Unreadable: not one frame could be decoded.
    """
    stream = FilmStream(film, watch)
    manager = SceneManager()
    manager.add_detector(detector_of(params))
    manager.detect_scenes(stream)
    if not stream.ticks:
        raise Unreadable("no_frames", f"not one frame of {film.name} can be decoded")
    base = film.stream.time_base or 1 / film.rate
    seconds = np.array(stream.ticks, np.float64) * float(base)
    scenes = manager.get_scene_list(start_in_scene=True)
    starts = sorted({_nearest(seconds, float(first.seconds)) for first, _ in scenes} | {0})
    ends = [*starts[1:], len(seconds)]
    return Timeline(
        stamps=np.array(stream.stamps, np.int64),
        seconds=seconds,
        keys=np.array(stream.keys, np.bool_),
        rate=film.rate,
        shots=tuple(zip(starts, ends, strict=True)),
        claimed_seconds=film.claimed_seconds,
    )


def _nearest(seconds: NDArray[np.float64], time: float) -> int:
    """The number of the frame whose time is nearest."""
    after = bisect_left(seconds, time)
    around = [number for number in (after - 1, after) if 0 <= number < len(seconds)]
    return min(around, key=lambda number: abs(float(seconds[number]) - time))


def _look_away(number: int, frame: av.VideoFrame, pixels: Pixels) -> None:
    """Watches nothing."""


def find_cuts(path: Path, params: ShotParams, max_pixels: int = 0) -> Cuts:
    """The cuts of a film, for ``iclora shots``.

    Args:
        path: a film.
        params: the detector and its settings.
        max_pixels: largest frame that is decoded; 0 takes the default of ingest.

    Raises:
        Unreadable: it is not a film, or not one frame can be decoded.
    """
    with open_film(path, max_pixels or IngestParams().max_pixels) as film:
        timeline = survey_film(film, params, _look_away)
    cuts = [first for first, _ in timeline.shots[1:]]
    return Cuts(
        fps=round(float(timeline.rate), 4),
        frames=len(timeline.seconds),
        cuts=tuple(cuts),
        seconds=tuple(round(float(timeline.seconds[cut]), 4) for cut in cuts),
    )
