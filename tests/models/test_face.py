"""Faces, with a stand-in for YuNet's file: a small ONNX graph that finds bright squares.

The graph has YuNet's inputs and outputs (scores, boxes and landmarks at strides 8, 16 and 32), so
the real OpenCV detector runs; a cell of 32 x 32 pixels is a face as surely as it is white.
"""

from __future__ import annotations

import struct

import numpy as np
import pytest

from iclora.models.face import load_faces


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
            sides = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
            graph += node("Conv", ["input", f"{name}_w"], f"{name}_map", **sides)
            graph += node("Reshape", [f"{name}_map", f"{name}_s"], name)
            graph += value_info(12, name, [1, (640 // stride) ** 2, channels])
    graph += value_info(11, "input", [1, 3, 640, 640])
    return number(1, 8) + block(7, graph) + block(8, block(1, "") + number(2, 13))


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("face") / "bright.onnx"
    path.write_bytes(bright_squares())
    assert struct.calcsize("f") == 4
    return str(path)


def picture(width: int, height: int, *squares: tuple[int, int], white: int = 255) -> np.ndarray:
    """A dark picture with white squares of 32 pixels at these corners."""
    pixels = np.full((height, width, 3), 20, np.uint8)
    for x, y in squares:
        pixels[y : y + 32, x : x + 32] = white
    return pixels


def test_it(detector):
    print(load_faces(detector)(picture(640, 480, (320, 64))))
