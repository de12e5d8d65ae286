"""Films as H.264 in MP4 with reproducible bytes, and their ground truth beside them.

Colors are converted to YUV by Pillow's integer tables and not by swscale, whose rounding depends on
the processor. x264 runs on one thread with fixed parameters, and the container holds no times.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from PIL import Image, ImageFilter

from iclora.miniature.draw import render_frame
from iclora.miniature.lettering import credits_card, draw_logo, title_card
from iclora.miniature.script import FPS, HEIGHT, WIDTH, FilmScript, Shot, film_script
from iclora.store import atomic_path, atomic_write
from schemas.base import Box, Schema

log = logging.getLogger(__name__)

RubbishKind = Literal["title", "black", "blurred", "duplicate", "credits", "fade", "soft"]

_BLUR = 7
_X264 = {
    "preset": "veryfast",
    "crf": "18",
    "x264-params": "threads=1:lookahead-threads=1:sliced-threads=0:keyint=48:"
    "colorprim=smpte170m:transfer=smpte170m:colormatrix=smpte170m:range=tv",
}
_LUMA = [16 + (level * 219 + 127) // 255 for level in range(256)]
_CHROMA = [128 + ((level - 128) * 224 + 127) // 255 for level in range(256)]


class Rubbish(Schema):
    """Interval of frames that no set should contain."""

    start: int
    end: int
    """The frame after the last."""

    kind: RubbishKind


class FilmTruth(Schema):
    """Ground truth of a film file, for tests and evaluation only; a build never reads it."""

    file: str
    """File name."""

    fps: int
    width: int
    height: int
    frames: int
    cuts: tuple[int, ...]
    """The first frame of every shot but the first."""

    picture: Box
    """Part of a frame between the bars in pixels."""

    rubbish: tuple[Rubbish, ...]
    film: FilmScript
    """The script: shots, scenes, attributes, bars and logo."""


def film_truth(film: FilmScript, file: str = "") -> FilmTruth:
    """Returns the ground truth of a script."""
    return FilmTruth(
        file=file,
        fps=FPS,
        width=WIDTH,
        height=HEIGHT,
        frames=film.frames,
        cuts=tuple(shot.start for shot in film.shots[1:]),
        picture=(0, film.bar, WIDTH, HEIGHT - film.bar),
        rubbish=tuple(piece for shot in film.shots for piece in _rubbish(shot)),
        film=film,
    )


def film_frames(film: FilmScript) -> Iterator[Image.Image]:
    """Draws every frame of a film, RGB, 256 x 192."""
    for shot in film.shots:
        for number in range(shot.frames):
            yield film_frame(film, shot, number)


def film_frame(film: FilmScript, shot: Shot, number: int) -> Image.Image:
    """Draws frame ``number`` of one shot, with bars, logo, blur and fades."""
    frame = Image.new("RGB", (WIDTH, HEIGHT))
    frame.paste(_picture(film, shot, number), (0, film.bar))
    if film.logo is not None and shot.kind in ("scene", "blurred", "duplicate"):
        draw_logo(frame, film.logo)
    return _faded(frame, shot, number)


def render_film(seed: int, path: Path) -> FilmTruth:
    """Renders the film of a seed; see ``encode_film``."""
    return encode_film(film_script(seed), path)


def encode_film(film: FilmScript, path: Path) -> FilmTruth:
    """Renders a script to ``path`` and its ground truth to ``<stem>.truth.json``.

    Both are written atomically, the film last: an existing film has its truth.

    Args:
        film: Script of the film.
        path: Target path; ends in ``.mp4``.

    Returns:
        The truth, as written.
    """
    truth = film_truth(film, path.name)
    atomic_write(path.with_suffix(".truth.json"), truth.to_text().encode())
    options = {"fflags": "+bitexact"}
    with (
        atomic_path(path) as scratch,
        av.open(str(scratch), "w", format="mp4", options=options) as container,
    ):
        stream = container.add_stream("libx264", rate=FPS, options=_X264)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, FPS)
        for number, picture in enumerate(film_frames(film)):
            frame = _yuv_frame(picture)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    log.info("%s: %d frames, %d shots", path.name, truth.frames, len(film.shots))
    return truth


def read_truth(path: Path) -> FilmTruth:
    """Reads the ground truth beside a film file."""
    return FilmTruth.from_text(path.with_suffix(".truth.json").read_bytes())


def _yuv_frame(picture: Image.Image) -> av.VideoFrame:
    """Converts to BT.601 in the limited range; chroma is the mean of two by two pixels."""
    luma, blue, red = picture.convert("YCbCr").split()
    planes = (
        luma.point(_LUMA),
        blue.reduce(2).point(_CHROMA),
        red.reduce(2).point(_CHROMA),
    )
    flat = np.concatenate([np.asarray(plane).reshape(-1, WIDTH) for plane in planes])
    return av.VideoFrame.from_ndarray(flat, format="yuv420p")


def _picture(film: FilmScript, shot: Shot, number: int) -> Image.Image:
    height = HEIGHT - 2 * film.bar
    if shot.attributes is None:
        if shot.kind == "title":
            return title_card(film, WIDTH, height)
        if shot.kind == "credits":
            return credits_card(film, WIDTH, height)
        return Image.new("RGB", (WIDTH, height))
    view = shot.view.model_copy(
        update={"pan": shot.view.pan + shot.drift * number, "beat": shot.view.beat + number}
    )
    picture = render_frame(shot.attributes, view, width=WIDTH, height=height)
    blur = _BLUR if shot.kind == "blurred" else max(0, shot.soft - number)
    return picture.filter(ImageFilter.BoxBlur(blur)) if blur else picture


def _faded(frame: Image.Image, shot: Shot, number: int) -> Image.Image:
    """Darkens the frames of a fade, in whole steps."""
    left = shot.frames - 1 - number
    if number < shot.fade_in:
        step, steps = number, shot.fade_in
    elif left < shot.fade_out:
        step, steps = left, shot.fade_out
    else:
        return frame
    return frame.point([level * step // steps for level in range(256)] * 3)


def _rubbish(shot: Shot) -> Iterator[Rubbish]:
    if shot.kind != "scene":
        yield Rubbish(start=shot.start, end=shot.end, kind=shot.kind)
        return
    if shot.fade_in:
        yield Rubbish(start=shot.start, end=shot.start + shot.fade_in, kind="fade")
    if shot.soft > shot.fade_in:
        yield Rubbish(start=shot.start + shot.fade_in, end=shot.start + shot.soft, kind="soft")
    if shot.fade_out:
        yield Rubbish(start=shot.end - shot.fade_out, end=shot.end, kind="fade")
