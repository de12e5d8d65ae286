"""Face detection with YuNet (OpenCV's ``FaceDetectorYN``), if its model file is configured."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.errors import BadConfig, MissingModel
from iclora.models.loaded import cached_model
from iclora.models.locate import file_digest
from schemas.base import Box

_MAX_SIDE = 640
"""Maximum input side in pixels: YuNet was trained for faces of 10 to 300 px."""

_MIN_CONFIDENCE, _MAX_OVERLAP, _MAX_FACES = 0.3, 0.3, 100


class Face(NamedTuple):
    """Detected face with its confidence."""

    box: Box
    confidence: float


class FaceDetector:
    """Loaded face detector; safe to share between threads."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._detector = cv2.FaceDetectorYN.create(
            str(file), "", (_MAX_SIDE, _MAX_SIDE), _MIN_CONFIDENCE, _MAX_OVERLAP, _MAX_FACES
        )

    def __call__(self, rgb: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Returns the faces of an image [height, width, 3], most confident first."""
        height, width = rgb.shape[:2]
        scale = min(1.0, _MAX_SIDE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        with self._lock:
            self._detector.setInputSize(size)
            # None, which OpenCV's stubs do not know of, when there is no face.
            rows: Any = self._detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        zoom = width / size[0]
        faces = [_face(row, zoom, (width, height)) for row in ([] if rows is None else rows)]
        return tuple(sorted(faces, key=lambda face: (-face.confidence, face.box)))


def _face(row: NDArray[np.float32], zoom: float, size: tuple[int, int]) -> Face:
    """Converts a YuNet row: x, y, width, height, ten landmark coordinates, score."""
    x, y, w, h = (float(value) * zoom for value in row[:4])
    box = (
        max(0, int(x)),
        max(0, int(y)),
        min(size[0], int(np.ceil(x + w))),
        min(size[1], int(np.ceil(y + h))),
    )
    return Face(box, round(float(row[-1]), 4))


def face_label(file: str) -> str:
    """Returns ``file@digest`` without loading the detector.

    Raises:
        MissingModel: the file does not exist.
    """
    _require(file)
    return f"{Path(file).name}@{file_digest(Path(file))[:16]}"


def _require(file: str) -> None:
    if not Path(file).is_file():
        raise MissingModel(
            f"the face detector {file!r} is not there; take face_detection_yunet_*.onnx from "
            "OpenCV Zoo (MIT) and set its path"
        )


@cached_model(2)
def load_faces(file: str) -> FaceDetector:
    """Loads the face detector in this ONNX file, once per process.

    Raises:
        MissingModel: the file does not exist.
        BadConfig: OpenCV cannot read it.
    """
    _require(file)
    try:
        return FaceDetector(Path(file))
    except cv2.error as error:
        raise BadConfig(f"{file} is not a face detector that OpenCV can read") from error
