"""Pictures: whatever they are like, what is stored opens as an upright 8-bit sRGB picture."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from iclora.ingest.pictures import scene_of, store_picture
from iclora.ingest.result import UnreadableInput
from schemas.ingest import IngestParams

MANY = 100_000_000


@pytest.fixture
def store_one(tmp_path):
    def run(path, max_pixels=MANY):
        folder = tmp_path / "stored"
        folder.mkdir(exist_ok=True)
        return store_picture(path, folder, "x", max_pixels)

    return run


def huge_png(path, width, height):
    """A PNG that only claims to be large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")):
        body = kind + data
        chunks += struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def test_a_plain_picture_keeps_its_bytes(tmp_path, texture, store_one):
    path = tmp_path / "a.jpg"
    Image.fromarray(texture(1)).save(path, quality=90)
    stored = store_one(path)
    assert stored.file.read_bytes() == path.read_bytes()
    assert stored.file.stat().st_ino == path.stat().st_ino  # a hard link


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, texture, store_one, orientation):
    picture = Image.fromarray(texture(1))
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # shown turned by 270: stored turned by 90
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    coded = picture.transpose(turns[orientation]) if orientation in turns else picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    coded.save(path, exif=exif)
    stored = store_one(path)
    assert np.array_equal(np.asarray(Image.open(stored.file)), texture(1))
    assert (stored.width, stored.height) == picture.size


def test_cmyk_becomes_rgb(tmp_path, store_one):
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (64, 64), (0, 255, 255, 0)).save(path, quality=95)
    stored = Image.open(store_one(path).file)
    assert stored.mode == "RGB"
    red, green, blue = stored.getpixel((32, 32))
    assert red > 200
    assert max(green, blue) < 60


def test_sixteen_bits_are_scaled(tmp_path, store_one):
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    path = tmp_path / "a.png"
    Image.fromarray(ramp).save(path)
    stored = np.asarray(Image.open(store_one(path).file))
    assert stored.shape == (64, 64, 3)
    assert stored[0, 0, 0] == 0
    assert stored[0, -1, 0] == 255
    assert abs(int(stored[0, 32, 0]) - 130) <= 2


def test_transparent_parts_become_white(tmp_path, store_one):
    path = tmp_path / "a.png"
    Image.new("RGBA", (32, 32), (10, 20, 30, 0)).save(path)
    stored = Image.open(store_one(path).file)
    assert stored.mode == "RGB"
    assert stored.getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "I", "F", "L", "RGB"])
def test_every_mode_opens_as_eight_bits(tmp_path, texture, store_one, mode):
    path = tmp_path / ("a.tiff" if mode in ("F", "I", "LA") else "a.png")
    Image.fromarray(texture(2)).convert("L" if mode in "IF" else "RGB").convert(mode).save(path)
    stored = Image.open(store_one(path).file)
    assert stored.mode in ("RGB", "L")
    assert stored.format in ("PNG", "JPEG")


def test_another_colour_space_is_converted(tmp_path, store_one):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ"))
    with pytest.raises(Exception):  # noqa: B017 - an XYZ profile fits no RGB picture
        ImageCms.profileToProfile(Image.new("RGB", (4, 4)), lab, lab)
    path = tmp_path / "a.png"
    Image.new("RGB", (16, 16), (200, 30, 30)).save(path, icc_profile=lab.tobytes())
    stored = Image.open(store_one(path).file)  # a profile that does not fit is ignored
    assert stored.getpixel((5, 5)) == (200, 30, 30)


def test_the_first_picture_of_an_animation_is_taken(tmp_path, texture, store_one):
    path = tmp_path / "a.gif"
    first, second = (Image.fromarray(texture(seed)) for seed in (1, 2))
    first.save(path, save_all=True, append_images=[second])
    stored = np.asarray(Image.open(store_one(path).file).convert("RGB")).astype(int)
    assert np.abs(stored - texture(1)).mean() < np.abs(stored - texture(2)).mean() / 2


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: p.write_bytes(b""), "empty_file"),
        (lambda p: p.write_text("hello"), "not_a_picture"),
        (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n"), "not_a_picture"),
        (lambda p: huge_png(p, 50_000, 50_000), "too_many_pixels"),
    ],
)
def test_what_cannot_be_a_picture_says_why(tmp_path, store_one, make, reason):
    path = tmp_path / "a.png"
    make(path)
    with pytest.raises(UnreadableInput, match=r"a\.png") as caught:
        store_one(path)
    assert caught.value.reason == reason
    assert not list((tmp_path / "stored").iterdir())


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_picture_is_undecodable(tmp_path, texture, store_one, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(texture(1, 640, 400)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableInput) as caught:
        store_one(path)
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data, at: data[: at + 4] + bytes(200) + data[at + 204 :], "undecodable"),
        (lambda data, at: data.replace(b"pitm", b"pxtm"), "not_a_picture"),
    ],
    ids=["pixels", "no item"],
)
def test_a_damaged_avif_says_why(tmp_path, texture, store_one, damage, reason):
    """Its decoder raises what no other reader of Pillow does."""
    path = tmp_path / "a.avif"
    Image.fromarray(texture(1, 640, 400)).save(path)
    data = path.read_bytes()
    path.write_bytes(damage(data, data.index(b"mdat")))
    with pytest.raises(UnreadableInput, match=r"a\.avif") as caught:
        store_one(path)
    assert caught.value.reason == reason


def test_the_bound_on_pixels_is_exact(tmp_path, texture, store_one):
    path = tmp_path / "a.png"
    Image.fromarray(texture(1, 100, 100)).save(path)
    with pytest.raises(UnreadableInput):
        store_one(path, 9_999)
    assert store_one(path, 10_000).width == 100


@pytest.mark.parametrize(
    ("name", "pattern", "scene"),
    [
        ("a.png", "", ""),
        ("kitchen/a.png", "", "kitchen"),
        ("kitchen/night/a.png", "", "kitchen/night"),
        ("sc07_a.png", r"sc(\d+)_", "07"),
        ("other.png", r"sc(\d+)_", ""),
    ],
)
def test_scenes_are_folders_or_what_the_pattern_finds(name, pattern, scene):
    assert scene_of(name, IngestParams(scene_pattern=pattern)) == scene


def test_a_folder_becomes_frames_in_natural_order_with_scenes(
    tmp_path, texture, ingest, frames_folder
):
    for scene, numbers in (("a", (1, 2, 10)), ("b.2 ü 🎬", (1, 2))):
        for number in numbers:
            path = tmp_path / "set" / scene / f"shot {number}.v1.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(texture(number + 100 * len(scene))).save(path)
    found = ingest(tmp_path / "set")
    assert [frame.scene for frame in found.frames] == ["a"] * 3 + ["b.2 ü 🎬"] * 2
    first = [np.asarray(Image.open(frames_folder(found) / f.file)) for f in found.frames]
    assert [np.array_equal(p, texture(n + 100)) for p, n in zip(first, (1, 2, 10), strict=False)]
    assert np.array_equal(first[2], texture(110))
    assert all(frame.shot == -1 and frame.time == -1.0 for frame in found.frames)


def test_a_folder_of_two_pictures_is_read(tmp_path, texture, ingest):
    for seed in (1, 2):
        Image.fromarray(texture(seed)).save(tmp_path / f"{seed}.png")
    found = ingest(tmp_path)
    assert len(found.frames) == 2
    assert {f.crop for f in found.frames} == {(0, 0, 160, 96)}


def test_one_broken_picture_does_not_stop_the_others(tmp_path, texture, ingest):
    for seed in range(3):
        Image.fromarray(texture(seed)).save(tmp_path / f"{seed}.png")
    (tmp_path / "4.png").write_bytes(b"broken")
    huge_png(tmp_path / "5.png", 50_000, 50_000)
    (tmp_path / "6.png").write_bytes((tmp_path / "1.png").read_bytes())
    (tmp_path / "7.png").mkdir()  # a folder where a file is expected: nothing in it
    found = ingest(tmp_path)
    assert len(found.frames) == 3
    assert [v.reason for v in found.verdicts] == [
        "",
        "",
        "",
        "not_a_picture",
        "too_many_pixels",
        "duplicate_picture",
    ]
    assert found.seen == 6


def test_bars_common_to_a_folder_are_cropped(tmp_path, texture, ingest):
    for seed in range(4):
        picture = np.zeros((96, 160, 3), np.uint8)
        picture[:, 20:140] = np.maximum(texture(seed, 120, 96), 40)
        Image.fromarray(picture).save(tmp_path / f"{seed}.png")
    assert {f.crop for f in ingest(tmp_path).frames} == {(20, 0, 140, 96)}


def test_a_black_picture_among_others_is_no_bar(tmp_path, texture, ingest):
    for seed in range(4):
        Image.fromarray(np.maximum(texture(seed), 40)).save(tmp_path / f"{seed}.png")
    Image.new("RGB", (160, 96)).save(tmp_path / "black.png")
    assert {f.crop for f in ingest(tmp_path).frames} == {(0, 0, 160, 96)}


def test_png_bytes_in_a_jpg_name_are_read(tmp_path, texture, store_one):
    buffer = io.BytesIO()
    Image.fromarray(texture(1)).save(buffer, "PNG")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    assert store_one(tmp_path / "a.jpg").file.suffix == ".png"
