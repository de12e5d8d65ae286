"""Shot detection: runs PySceneDetect detectors within a single decoding pass.

Decoding here instead of in PySceneDetect lets the same pass feed the other ingest measurements and
report each cut while the film is still decoding. The cuts match those of ``scenedetect.detect``
with its PyAV backend.
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
from iclora.ingest.film_decoder import FilmReader, Pixels, open_film
from iclora.ingest.result import UnreadableInput
from iclora.pipeline.progress import Report, ignore_progress
from schemas.ingest import Cuts, IngestParams, ShotParams

DEFAULT_THRESHOLDS = {"adaptive": 3.5, "content": 27.0, "histogram": 0.2, "transnet": 0.5}
_MISSING = -(1 << 62)
"""Sentinel for a missing time stamp."""

_PREFETCH_FRAMES, _PREFETCH_BYTES = 4, 64 << 20
"""Maximum number of prefetched frames, and maximum bytes of their pixels."""

_REPORT_EVERY = 24
"""Number of frames between progress reports."""

Decoded = tuple[av.VideoFrame, Pixels]
"""A decoded frame and its BGR pixels."""


class FrameObserver(Protocol):
    """The interface of consumers that receive every decoded frame and cut of a film."""

    def on_frame(self, number: int, frame: av.VideoFrame, pixels: Pixels) -> None:
        """Receives one frame and its BGR pixels; called once per frame, in order."""

    def on_cut(self, number: int) -> None:
        """Receives the number of the first frame after a shot, some frames after it was decoded.

        Also called for the end of the film. Cut numbers are provisional; ``Timeline.shots`` holds
        the final ones.
        """


class Timeline(NamedTuple):
    """Time stamps and shots of a film, indexed by frame number."""

    timestamps: NDArray[np.int64]
    """Presentation time stamps stored in the file."""

    seconds: NDArray[np.float64]
    """Seconds since the first frame, strictly increasing."""

    keys: NDArray[np.bool_]
    """True for key frames, where decoding can start."""

    rate: Fraction
    shots: tuple[tuple[int, int], ...]
    """First frame and end frame (exclusive) per shot."""

    declared_seconds: float
    """Duration declared by the container, in seconds; 0 if undeclared."""

    @property
    def decoded_seconds(self) -> float:
        """Returns the duration of the decoded frames in seconds."""
        return float(self.seconds[-1]) + 1 / float(self.rate)

    @property
    def has_timestamps(self) -> bool:
        """Returns True if all time stamps are present and increasing, as seeking requires."""
        return bool((np.diff(self.timestamps) > 0).all() and (self.timestamps > _MISSING).all())


class _FrameClock:
    """Recorder of frame times during decoding."""

    def __init__(self, film: FilmReader) -> None:
        self._rate = film.rate
        self.base = Fraction(film.stream.time_base or 1 / film.rate)
        self._step = max(1, round(1 / (film.rate * self.base)))
        self.timestamps: list[int] = []
        self.ticks: list[int] = []
        self.keys: list[bool] = []

    def add(self, frame: av.VideoFrame) -> None:
        """Records the time of a frame; extrapolates missing and non-increasing time stamps."""
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
        """Returns the time of the last recorded frame as a PySceneDetect time code."""
        return FrameTimecode(Timecode(pts=self.ticks[-1], time_base=self.base), fps=self._rate)

    @property
    def seconds(self) -> float:
        """Returns the seconds from the first frame to the last recorded frame."""
        return float(self.ticks[-1] * self.base)


def make_detector(params: ShotParams) -> SceneDetector:
    """Creates the PySceneDetect detector for the given parameters.

    Raises:
        MissingModel: The TransNetV2 model file does not exist.
        BadConfig: TransNetV2 is selected but onnxruntime is missing, or the model is invalid.
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
    except Exception as error:  # onnxruntime errors have no common base class
        raise BadConfig(f"{model_file} is not TransNetV2's ONNX file: {error}") from error


def analyze_film(
    film: FilmReader,
    params: ShotParams,
    observer: FrameObserver | None = None,
    report: Report = ignore_progress,
) -> Timeline:
    """Decodes a film once, detects its shots, and passes every frame to ``observer``.

    Args:
        film: Film to decode.
        params: Detector settings.
        observer: Consumer of frames and cuts.
        report: Callback for the decoded fraction; called only if the container declares a
            duration.

    Raises:
        UnreadableInput: No frame can be decoded.
    """
    detector, clock = make_detector(params), _FrameClock(film)
    shrink = compute_downscale_factor(max(1, *film.size))  # a broken header may declare 0
    cuts: list[FrameTimecode] = []
    shape: tuple[int, ...] = ()

    def add_cuts(detected: list[FrameTimecode]) -> None:
        cuts.extend(detected)
        if observer:
            for cut in detected:
                observer.on_cut(_nearest(clock.ticks, float(cut.seconds) / float(clock.base)))

    for number, (frame, pixels) in enumerate(prefetch_frames(film)):
        clock.add(frame)
        if number % _REPORT_EVERY == 0 and film.declared_seconds:
            report(clock.seconds / film.declared_seconds)
        if observer:
            observer.on_frame(number, frame, pixels)
        shape = shape or pixels.shape
        if pixels.shape == shape:  # PySceneDetect also skips frames of another size
            add_cuts(detector.process_frame(clock.position, _downscaled(pixels, shrink)))
    if not clock.ticks:
        raise UnreadableInput("no_frames", f"not one frame of {film.name} can be decoded")
    add_cuts(detector.post_process(clock.position))
    if observer:
        observer.on_cut(len(clock.ticks))
    seconds = np.array(clock.ticks, np.float64) * float(clock.base)
    starts = sorted({_nearest(seconds, float(cut.seconds)) for cut in cuts} | {0})
    ends = [*starts[1:], len(seconds)]
    return Timeline(
        timestamps=np.array(clock.timestamps, np.int64),
        seconds=seconds,
        keys=np.array(clock.keys, np.bool_),
        rate=film.rate,
        shots=tuple(zip(starts, ends, strict=True)),
        declared_seconds=film.declared_seconds,
    )


def prefetch_frames(film: FilmReader) -> Iterator[Decoded]:
    """Yields every frame while a background thread decodes the next ones."""
    width, height = film.size
    count = max(1, min(_PREFETCH_FRAMES, _PREFETCH_BYTES // max(1, 3 * width * height)))
    # Reuse one converter: its setup costs more than converting a small frame.
    converter = VideoReformatter()
    frames = (
        (frame, np.asarray(converter.reformat(frame, format="bgr24").to_ndarray(), np.uint8))
        for frame in film.frames()
    )
    with ThreadPoolExecutor(1, "iclora-decode") as thread:
        pending = deque(thread.submit(next, frames, None) for _ in range(count))
        while (decoded := pending.popleft().result()) is not None:
            pending.append(thread.submit(next, frames, None))
            yield decoded


def _downscaled(pixels: Pixels, factor: float) -> NDArray[np.uint8]:
    """Downscales pixels exactly as PySceneDetect does."""
    if factor <= 1:
        return pixels
    height, width = pixels.shape[:2]
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _nearest(times: Sequence[float] | NDArray[np.float64], time: float) -> int:
    """Returns the index of the nearest time."""
    after = bisect_left(times, time)
    neighbors = [number for number in (after - 1, after) if 0 <= number < len(times)]
    return min(neighbors, key=lambda number: abs(float(times[number]) - time))


def find_cuts(path: Path, params: ShotParams, max_pixels: int = 0) -> Cuts:
    """Finds the cuts of a film for ``iclora shots``.

    Args:
        path: Film file.
        params: Detector settings.
        max_pixels: Maximum number of pixels per frame; 0 selects the ingest default.

    Raises:
        UnreadableInput: The file is not a film, or no frame can be decoded.
    """
    with open_film(path, max_pixels or IngestParams().max_pixels) as film:
        timeline = analyze_film(film, params)
    cuts = [first for first, _ in timeline.shots[1:]]
    return Cuts(
        fps=round(float(timeline.rate), 4),
        frames=len(timeline.seconds),
        cuts=tuple(cuts),
        seconds=tuple(round(float(timeline.seconds[cut]), 4) for cut in cuts),
    )
