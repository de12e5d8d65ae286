"""Faces, with a stand-in for YuNet's file: a small ONNX graph that finds bright squares.

The graph has YuNet's inputs and outputs (scores, boxes and landmarks at strides 8, 16 and 32), so
the real OpenCV detector runs; a cell of 32 x 32 pixels is a face as surely as it is white.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iclora.errors import BadConfig, MissingModel
from iclora.filtering.frame_image import load_frame_image
from iclora.filtering.safety import (
    SafetyModels,
    load_safety_models,
    safety_labels,
    safety_rejection,
    safety_scores,
)
from iclora.models.face import face_label, load_faces
from iclora.stitching.crop import head_box, place_crop
from iclora.stitching.fit_frame import (
    FrameRejected,
    StitchModels,
    StitchStageParams,
    fit_frame,
)
from iclora.store import file_sha256
from schemas.filtering import SafetyCheckParams, SafetyParams
from schemas.frame import Frame
from schemas.layout import Layout
from schemas.stitch import StitchParams


def number(field: int, value: int) -> bytes:
    """A protobuf varint field."""
    out = bytearray()
    for part in (field << 3, value):
        while part > 127:
            out.append(part & 127 | 128)
            part >>= 7
        out.append(part)
    return bytes(out)


def block(field: int, payload: bytes | str) -> bytes:
    """A protobuf length-delimited field."""
    data = payload.encode() if isinstance(payload, str) else payload
    head = number(field, len(data))
    return bytes([head[0] | 2]) + head[1:] + data


def tensor(name: str, values: np.ndarray) -> bytes:
    kind = 7 if values.dtype == np.int64 else 1
    dims = b"".join(number(1, side) for side in values.shape)
    return block(5, dims + number(2, kind) + block(8, name) + block(9, values.tobytes()))


def value_info(field: int, name: str, dims: list[int]) -> bytes:
    shape = b"".join(block(1, number(1, side)) for side in dims)
    return block(field, block(1, name) + block(2, block(1, number(1, 1) + block(2, shape))))


def node(kind: str, inputs: list[str], output: str, **ints: list[int]) -> bytes:
    body = b"".join(block(1, name) for name in inputs) + block(2, output) + block(4, kind)
    for name, values in ints.items():
        listed = b"".join(number(8, value) for value in values)
        body += block(5, block(1, name) + listed + number(20, 7))
    return block(1, body)


def bright_squares() -> bytes:
    graph = block(2, "bright")
    for output, channels in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, 32):
            name = f"{output}_{stride}"
            looks = channels == 1 and stride == 32
            weight = np.full((channels, 3, stride, stride), 1 / (3 * stride**2 * 255) * looks)
            graph += tensor(f"{name}_w", weight.astype(np.float32))
            graph += tensor(f"{name}_s", np.array([1, -1, channels], np.int64))
            middle = [0.5, 0.5, 0.0, 0.0] if output == "bbox" else [0.0] * channels
            graph += tensor(f"{name}_b", np.array(middle, np.float32))
            sides = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
            graph += node("Conv", ["input", f"{name}_w", f"{name}_b"], f"{name}_map", **sides)
            graph += node("Transpose", [f"{name}_map"], f"{name}_last", perm=[0, 2, 3, 1])
            graph += node("Reshape", [f"{name}_last", f"{name}_s"], name)
            graph += value_info(12, name, [1, (640 // stride) ** 2, channels])
    graph += value_info(11, "input", [1, 3, 640, 640])
    return number(1, 8) + block(7, graph) + block(8, block(1, "") + number(2, 13))


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("face") / "bright.onnx"
    path.write_bytes(bright_squares())
    return str(path)


def picture(width: int, height: int, *squares: tuple[int, int], white: int = 255) -> np.ndarray:
    """A dark picture with white squares of 32 pixels at these corners."""
    pixels = np.full((height, width, 3), 20, np.uint8)
    for x, y in squares:
        pixels[y : y + 32, x : x + 32] = white
    return pixels


FACES = SafetyParams(faces=SafetyCheckParams(action="reject"))


def frame_of(folder: Path, pixels: np.ndarray) -> Frame:
    Image.fromarray(pixels).save(folder / "f.png")
    height, width = pixels.shape[:2]
    return Frame(
        id="f",
        source="s",
        file="f.png",
        content=file_sha256(folder / "f.png"),
        width=width,
        height=height,
        crop=(0, 0, width, height),
    )


def test_faces_are_found_where_they_are_the_most_certain_first(detector):
    pixels = picture(640, 480, (64, 320), white=200)
    pixels[64:96, 320:352] = 255
    first, second = load_faces(detector)(pixels)
    assert first.box == (320, 64, 352, 96)
    assert second.box == (64, 320, 96, 352)
    assert first.confidence == 1.0 > second.confidence


def test_no_face_is_no_face(detector):
    assert load_faces(detector)(picture(640, 480)) == ()


def test_boxes_are_in_the_pixels_of_a_large_picture(detector):
    small = picture(640, 480, (320, 64))
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    assert load_faces(detector)(large)[0].box == (640, 128, 704, 192)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingModel, match="is not there; take face_detection_yunet"):
        load_faces(str(tmp_path / "none.onnx"))


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "face.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(BadConfig, match="not a face detector"):
        load_faces(str(path))


def test_the_label_has_no_path(detector):
    assert face_label(detector).startswith("bright.onnx@")


@pytest.mark.parametrize(("white", "kept"), [(127, True), (128, False)])
def test_the_policy_rejects_from_its_threshold_on(detector, tmp_path, white, kept):
    """Confidence is brightness: 127/255 is just under one half, 128/255 just over."""
    frame = frame_of(tmp_path, picture(640, 480, (320, 64), white=white))
    look = load_frame_image(tmp_path / "f.png", frame, 640)
    scores = safety_scores(SafetyModels(faces=load_faces(detector)), look.picture)
    assert (safety_rejection(scores, FACES) is None) is kept
    assert scores["face"] == round(white / 255, 4)


def test_the_threshold_itself_is_found():
    assert safety_rejection({"face": 0.5}, FACES) is not None
    assert safety_rejection({"face": 0.4999}, FACES) is None
    assert safety_rejection({"face": 1.0}, SafetyParams()) is None
    assert (
        safety_rejection({"nsfw": 0.9}, SafetyParams(nsfw=SafetyCheckParams(action="reject")))
        is not None
    )


def test_a_check_without_its_model_is_not_done_and_says_so(tmp_path, caplog):
    wanted = SafetyCheckParams(action="reject", model=str(tmp_path / "none.onnx"))
    policy = SafetyParams(faces=wanted, nsfw=SafetyCheckParams(action="blur"))
    assert load_safety_models(policy) == SafetyModels()
    assert safety_labels(policy) == {"nsfw": "not checked", "faces": "not checked"}
    assert "faces: not checked" in caplog.text
    assert "nsfw: policy blur, but no model is named" in caplog.text


def fitting(heads: str = "", blur: str = "") -> tuple[StitchStageParams, StitchModels]:
    check = SafetyCheckParams(action="blur", model=blur) if blur else SafetyCheckParams()
    policy = SafetyParams(faces=check)
    params = StitchStageParams(
        layout=Layout(panel_width=64, panel_height=64),
        stitch=StitchParams(crop="center"),
        safety=policy,
        models={},
    )
    finder = load_faces(heads) if heads else None
    return params, StitchModels(heads=finder, safety=load_safety_models(policy))


def test_a_crop_moves_until_no_head_is_cut(detector, tmp_path):
    frame = frame_of(tmp_path, picture(640, 320, (128, 128)))
    blind = fit_frame(tmp_path / "f.png", frame, *fitting())
    seeing = fit_frame(tmp_path / "f.png", frame, *fitting(heads=detector))
    assert blind.source_box == (160, 0, 480, 320)
    left, _, right, _ = head_box((128, 128, 160, 160))
    assert seeing.source_box[0] <= left
    assert right <= seeing.source_box[2]


def test_a_frame_whose_head_cannot_stay_whole_is_rejected(detector, tmp_path):
    pixels = picture(640, 64, *[(x, 0) for x in range(0, 640, 32)])
    with pytest.raises(FrameRejected) as caught:
        fit_frame(tmp_path / "f.png", frame_of(tmp_path, pixels), *fitting(heads=detector))
    verdict = caught.value.verdict
    assert (verdict.outcome, verdict.reason, verdict.threshold) == ("rejected", "head_cut", 0.0)
    assert verdict.value >= 1


def test_heads_are_grown_faces_that_a_crop_keeps(detector):
    pixels = picture(640, 320, (448, 128))
    heads = [head_box(face.box) for face in load_faces(detector)(pixels)]
    window = place_crop(pixels, (0, 0, 640, 320), (64, 64), heads=heads, salient=False)
    assert window.heads_cut == 0


def test_faces_are_blurred_on_the_canvas_and_nothing_else(detector, tmp_path):
    pixels = picture(640, 640, (320, 64))
    pixels[64:96, 320:352:4] = 235
    frame = frame_of(tmp_path, pixels)
    plain = fit_frame(tmp_path / "f.png", frame, *fitting())
    blurred = fit_frame(tmp_path / "f.png", frame, *fitting(blur=detector))
    changed = np.argwhere((plain.pixels != blurred.pixels).any(axis=2))
    assert len(changed) > 0
    assert changed[:, 0].max() * 10 <= 96 + 40
    assert changed[:, 1].min() * 10 >= 320 - 40
    assert plain.sha256 == blurred.sha256
