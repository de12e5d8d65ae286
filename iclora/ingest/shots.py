"""Where a film is cut: PySceneDetect's own detectors, fed by our one decoding pass.

PySceneDetect's detectors decide; this module decodes for them, so that the same pass can also
measure what the rest of ingest wants to know, and hear of each cut while the film is still running.
The cuts are those of ``scenedetect.detect`` with its PyAV backend.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from scenedetect import AdaptiveDetector, ContentDetector, HistogramDetector
from scenedetect.common import FrameTimecode, Timecode
from scenedetect.detector import SceneDetector
from scenedetect.scene_manager import compute_downscale_factor

from iclora.errors import BadConfig, MissingModel
from iclora.ingest.film import FilmReader, Pixels, open_film
from iclora.ingest.result import UnreadableInput
from iclora.pipeline.progress import Report, ignore_progress
from schemas.ingest import Cuts, IngestParams, ShotParams

DEFAULT_THRESHOLDS = {"adaptive": 3.5, "content": 27.0, "histogram": 0.2, "transnet": 0.5}
_MISSING = -(1 << 62)
"""Stands for a time stamp that is not there."""

_PREFETCH_FRAMES, _PREFETCH_BYTES = 4, 64 << 20
"""Frames decoded while another one is looked at, and what their pixels may take."""

_REPORT_EVERY = 24
"""Frames between two words about how far a film is."""

Decoded = tuple[av.VideoFrame, Pixels]
"""A frame, and its pixels as BGR."""


class FrameObserver(Protocol):
    """Is shown every decoded frame of a film, and told of its cuts as soon as they are found."""

    def on_frame(self, number: int, frame: av.VideoFrame, pixels: Pixels) -> None:
        """Is shown a frame and its pixels as BGR; each once, in order."""

    def on_cut(self, number: int) -> None:
        """Is told that a shot ended before this frame, which was shown a while ago.

        The end of the film is told too. What is told is a good guess: the timeline decides.
        """


class Timeline(NamedTuple):
    """Every decoded frame of a film, by number."""

    timestamps: NDArray[np.int64]
    """Presentation time stamps as they are in the file."""

    seconds: NDArray[np.float64]
    """From the first frame, strictly rising."""

    keys: NDArray[np.bool_]
    """Whether decoding can start here."""

    rate: Fraction
    shots: tuple[tuple[int, int], ...]
    """First frame and the frame after the last, of every shot."""

    declared_seconds: float
    """How long the container says it is; 0 if it does not say."""

    @property
    def has_timestamps(self) -> bool:
        """Whether every frame has a time stamp of its own, so that it can be sought."""
        return bool((np.diff(self.timestamps) > 0).all() and (self.timestamps > _MISSING).all())


class _FrameClock:
    """Writes down the times of a film's frames while they are decoded."""

    def __init__(self, film: FilmReader) -> None:
        self._rate = film.rate
        self.base = Fraction(film.stream.time_base or 1 / film.rate)
        self._step = max(1, round(1 / (film.rate * self.base)))
        self.timestamps: list[int] = []
        self.ticks: list[int] = []
        self.keys: list[bool] = []

    def add(self, frame: av.VideoFrame) -> None:
        """Writes down a frame's time; one that is missing or goes back follows the one before."""
        stamp = _MISSING if frame.pts is None else frame.pts
        if not self.ticks:
            tick = 0
        else:
            tick = max(self.ticks[-1] + 1, stamp - self.timestamps[0])
            if _MISSING in (stamp, self.timestamps[0]):
                tick = self.ticks[-1] + self._step
        self.timestamps.append(stamp)
        self.ticks.append(tick)
        self.keys.append(bool(frame.key_frame))

    @property
    def position(self) -> FrameTimecode:
        """The time of the frame noted last, as PySceneDetect has it."""
        return FrameTimecode(Timecode(pts=self.ticks[-1], time_base=self.base), fps=self._rate)

    @property
    def seconds(self) -> float:
        """From the first frame to the one noted last."""
        return float(self.ticks[-1] * self.base)

    def number_at(self, time: float) -> int:
        """The number of the frame whose time, in seconds, is nearest."""
        return _nearest(self.ticks, time / float(self.base))


def make_detector(params: ShotParams) -> SceneDetector:
    """PySceneDetect's detector with these parameters.

    Raises:
        MissingModel: TransNetV2 without its model file.
        BadConfig: TransNetV2 without onnxruntime.
    """
    threshold = params.threshold or DEFAULT_THRESHOLDS[params.detector]
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


def analyze_film(
    film: FilmReader, params: ShotParams, observer: FrameObserver, report: Report = ignore_progress
) -> Timeline:
    """Decodes a film once, finds its shots, and shows every frame to ``observer``.

    Args:
        film: to be decoded.
        params: the detector and its settings.
        observer: sees frames and hears of cuts.
        report: is told how much of the film is decoded, if the container says how long it is.

    Raises:
        Unreadable: not one frame could be decoded.
    """
    detector, reel = make_detector(params), _FrameClock(film)
    shrink = compute_downscale_factor(max(1, *film.size))  # a broken header may say 0
    found: list[FrameTimecode] = []
    shape: tuple[int, ...] = ()

    def tell(cuts: list[FrameTimecode]) -> None:
        found.extend(cuts)
        for cut in cuts:
            observer.on_cut(reel.number_at(float(cut.seconds)))

    for number, (frame, pixels) in enumerate(prefetch_frames(film)):
        reel.add(frame)
        if number % _REPORT_EVERY == 0 and film.declared_seconds:
            report(reel.seconds / film.declared_seconds)
        observer.on_frame(number, frame, pixels)
        shape = shape or pixels.shape
        if pixels.shape == shape:  # PySceneDetect, too, passes over what it cannot compare
            tell(detector.process_frame(reel.position, _downscaled(pixels, shrink)))
    if not reel.ticks:
        raise UnreadableInput("no_frames", f"not one frame of {film.name} can be decoded")
    tell(detector.post_process(reel.position))
    observer.on_cut(len(reel.ticks))
    seconds = np.array(reel.ticks, np.float64) * float(reel.base)
    starts = sorted({_nearest(seconds, float(cut.seconds)) for cut in found} | {0})
    ends = [*starts[1:], len(seconds)]
    return Timeline(
        timestamps=np.array(reel.timestamps, np.int64),
        seconds=seconds,
        keys=np.array(reel.keys, np.bool_),
        rate=film.rate,
        shots=tuple(zip(starts, ends, strict=True)),
        declared_seconds=film.declared_seconds,
    )


def prefetch_frames(film: FilmReader) -> Iterator[Decoded]:
    """Every frame; the next ones are decoded by another thread while one is looked at."""
    width, height = film.size
    many = max(1, min(_PREFETCH_FRAMES, _PREFETCH_BYTES // max(1, 3 * width * height)))
    frames = _as_bgr(film)
    with ThreadPoolExecutor(1, "iclora-decode") as thread:
        coming = deque(thread.submit(next, frames, None) for _ in range(many))
        while (decoded := coming.popleft().result()) is not None:
            coming.append(thread.submit(next, frames, None))
            yield decoded


def _as_bgr(film: FilmReader) -> Iterator[Decoded]:
    # One converter for all: to set one up takes longer than to convert a small frame.
    converter = VideoReformatter()
    for frame in film.frames():
        yield frame, np.asarray(converter.reformat(frame, format="bgr24").to_ndarray(), np.uint8)


def _downscaled(pixels: Pixels, factor: float) -> NDArray[np.uint8]:
    """The picture that PySceneDetect would show its detectors."""
    if factor <= 1:
        return pixels
    height, width = pixels.shape[:2]
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _nearest(times: Sequence[float] | NDArray[np.float64], time: float) -> int:
    """The number of the frame whose time is nearest."""
    after = bisect_left(times, time)
    around = [number for number in (after - 1, after) if 0 <= number < len(times)]
    return min(around, key=lambda number: abs(float(times[number]) - time))


class _NullObserver:
    """Watches nothing."""

    def on_frame(self, number: int, frame: av.VideoFrame, pixels: Pixels) -> None:
        """Nothing."""

    def on_cut(self, number: int) -> None:
        """Nothing."""


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
        timeline = analyze_film(film, params, _NullObserver())
    cuts = [first for first, _ in timeline.shots[1:]]
    return Cuts(
        fps=round(float(timeline.rate), 4),
        frames=len(timeline.seconds),
        cuts=tuple(cuts),
        seconds=tuple(round(float(timeline.seconds[cut]), 4) for cut in cuts),
    )
