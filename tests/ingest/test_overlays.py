"""Logos, watermarks and subtitles: found where they are, and nowhere else."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from iclora.ingest.overlays import apply_overlay_policy, crop_away, intersection
from iclora.ingest.subtitles import SubtitleDetector
from iclora.ingest.watermarks import find_watermarks
from schemas.frame import Frame

WORDS = [
    "I",
    "never",
    "said",
    "that",
    "she",
    "would",
    "come",
    "back",
    "to",
    "the",
    "old",
    "house",
    "before",
    "winter",
]


def grey_texture(seed, width=480, height=270):
    rng = np.random.default_rng(seed)
    picture = cv2.resize(
        rng.integers(0, 256, (5, 8), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    for _ in range(40):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        cv2.circle(picture, (x, y), int(rng.integers(3, 30)), int(rng.integers(0, 256)), -1)
    return cv2.GaussianBlur(picture, (0, 0), 0.7)


def with_logo(picture, alpha=1.0, corner=(400, 16)):
    """Letters in the top right corner, 60 x 20 pixels, and their box."""
    drawn = np.zeros(picture.shape, np.uint8)
    x, y = corner
    cv2.putText(drawn, "CH5", (x, y + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2, cv2.LINE_AA)
    share = drawn.astype(np.float32) / 255 * alpha
    ys, xs = np.nonzero(drawn)
    mixed = picture * (1 - share) + 255 * share
    return mixed.astype(np.uint8), (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("count", [4, 12])
def test_a_logo_is_boxed(count, alpha):
    pictures, boxes = zip(*(with_logo(grey_texture(n), alpha) for n in range(count)), strict=True)
    (mark,) = find_watermarks(list(pictures))
    found, true = mark.box_on(480, 270), boxes[0]
    assert all(a <= b + 1 for a, b in zip(found[:2], true[:2], strict=True))
    assert all(a >= b - 1 for a, b in zip(found[2:], true[2:], strict=True))
    area = (true[2] - true[0]) * (true[3] - true[1])
    assert (found[2] - found[0]) * (found[3] - found[1]) < 2.5 * area


def test_a_watermark_keeps_its_distance_from_the_corner_whatever_the_size():
    sizes = [(480, 270), (500, 300), (480, 320), (640, 280)]
    pictures = []
    for seed, (width, height) in enumerate(sizes):
        plain = grey_texture(seed, width, height)
        pictures.append(with_logo(plain, 0.6, (width - 80, height - 36))[0])
    (mark,) = find_watermarks(pictures)
    assert mark.right
    assert mark.bottom
    for width, height in sizes:
        x0, y0, x1, y1 = mark.box_on(width, height)
        assert width - 90 <= x0 < x1 <= width - 10
        assert height - 46 <= y0 < y1 <= height - 10


@pytest.mark.parametrize("seed", range(0, 60, 12))
def test_unrelated_pictures_have_no_mark(seed):
    assert find_watermarks([grey_texture(seed + n) for n in range(8)]) == ()


def test_one_background_is_no_mark():
    background = grey_texture(1)
    pictures = []
    for seed in range(8):
        picture = background.copy()
        cv2.circle(picture, (60 + 40 * seed, 150), 30, 255, -1)
        pictures.append(picture)
    assert find_watermarks(pictures) == ()


def test_two_pictures_are_too_few_to_judge():
    assert find_watermarks([with_logo(grey_texture(n))[0] for n in range(2)]) == ()
    assert find_watermarks([]) == ()


def test_a_drawing_in_few_pictures_is_no_mark():
    pictures = [with_logo(grey_texture(n))[0] if n < 3 else grey_texture(n) for n in range(12)]
    assert find_watermarks(pictures) == ()


def spoken(picture, text):
    drawn = picture.copy()
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1)
    place = ((picture.shape[1] - width) // 2, 250)
    cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0, 4, cv2.LINE_AA)
    cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1, cv2.LINE_AA)
    return drawn


def gauge_of(pictures):
    gauge = SubtitleDetector()
    for number, picture in enumerate(pictures):
        gauge.add_frame(6 * number, picture)
    return gauge.lines()


def looks(sentences):
    """Still shots of nine looks; in each a sentence stands for the middle five."""
    pictures = []
    for shot, sentence in enumerate(sentences):
        plain = cv2.convertScaleAbs(grey_texture(shot), alpha=0.7)
        pictures += [
            spoken(plain, sentence) if 2 <= n < 7 and sentence else plain for n in range(9)
        ]
    return pictures


def test_subtitles_are_found_where_and_when_they_stand():
    lines = gauge_of(looks(["never said that she", "would come back to the", "old house"]))
    spans = {(line.first, line.last): line.box for line in lines if line.clean}
    for shot in range(3):
        x0, y0, x1, y1 = spans[6 * (9 * shot + 2), 6 * (9 * shot + 6)]
        assert 225 <= y0 < 240
        assert 248 <= y1 <= 258
        assert abs(x0 + x1 - 480) < 20


def test_no_subtitles_where_nothing_is_said():
    assert gauge_of(looks(["", "", ""])) == ()


def test_one_line_alone_proves_nothing():
    assert gauge_of(looks(["never said that she", "", ""])) == ()


def test_a_sign_that_comes_and_goes_with_its_shot_is_no_subtitle():
    pictures = []
    for shot in range(4):
        plain = cv2.convertScaleAbs(grey_texture(shot), alpha=0.7)
        pictures += [spoken(plain, "GRAND HOTEL BRISTOL") if shot % 2 else plain] * 9
    assert gauge_of(pictures) == ()


def frame_of(crop=(0, 0, 100, 60), masks=()):
    return Frame(
        id="f", source="s", file="f.png", content="c", width=100, height=60, crop=crop, masks=masks
    )


def test_policies():
    logo = (80, 5, 95, 15)
    assert apply_overlay_policy(frame_of(), [logo], "ignore") == frame_of()
    assert apply_overlay_policy(frame_of(), [], "reject") == frame_of()
    assert apply_overlay_policy(frame_of(), [logo], "reject") is None
    assert apply_overlay_policy(frame_of(), [logo], "mask") == frame_of(masks=(logo,))
    assert apply_overlay_policy(frame_of(), [logo], "crop") == frame_of(crop=(0, 0, 80, 60))


def test_an_overlay_in_the_bars_is_gone_already():
    boxed = frame_of(crop=(0, 10, 100, 50))
    assert apply_overlay_policy(boxed, [(5, 1, 20, 9)], "reject") == boxed
    assert apply_overlay_policy(boxed, [(5, 1, 20, 14)], "mask") == boxed.model_copy(
        update={"masks": ((5, 10, 20, 14),)}
    )


def test_masks_that_a_crop_removes_are_dropped():
    masked = frame_of(masks=((80, 50, 90, 60), (5, 5, 9, 9)))
    treated = apply_overlay_policy(masked, [(0, 48, 100, 60)], "crop")
    assert treated == frame_of(crop=(0, 0, 100, 48), masks=((5, 5, 9, 9),))


boxes = st.tuples(
    st.integers(0, 50), st.integers(0, 50), st.integers(1, 50), st.integers(1, 50)
).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


@given(boxes, boxes)
def test_a_cut_never_touches_what_it_avoids_and_stays_inside(crop, box):
    cut = crop_away(crop, box)
    assert intersection(cut, box) is None
    if cut[0] < cut[2] and cut[1] < cut[3]:
        assert intersection(cut, crop) == cut


def test_a_films_subtitles_are_cut_off_all_its_frames(ingest, write_film):
    pictures = [
        p for look in looks(["never said that she", "would come back", ""]) for p in [look] * 6
    ]
    film = write_film([np.stack([p] * 3, -1) for p in pictures])
    crops = {frame.crop for frame in ingest(film).frames}
    assert len(crops) == 1
    x0, y0, x1, y1 = crops.pop()
    assert (x0, y0, x1) == (0, 0, 480)
    assert 225 <= y1 <= 239


def test_a_films_subtitles_can_reject_shots(ingest, write_film):
    standing = [spoken(cv2.convertScaleAbs(grey_texture(9), alpha=0.7), "before winter came")] * 9
    pictures = [
        p for look in looks(["never said that she", "come back to"]) + standing for p in [look] * 6
    ]
    film = write_film([np.stack([p] * 3, -1) for p in pictures])
    found = ingest(film, "ingest.subtitles=reject", "ingest.candidates_per_shot=1")
    assert "subtitles" in {v.reason for v in found.verdicts}
    assert found.seen == 3
    assert len(found.frames) == sum(v.outcome == "kept" for v in found.verdicts)


@pytest.mark.parametrize("policy", ["mask", "crop", "reject", "ignore"])
def test_a_watermarked_folder(tmp_path, ingest, policy, frames_folder):
    for seed in range(6):
        Image.fromarray(with_logo(grey_texture(seed))[0]).save(tmp_path / f"{seed}.png")
    found = ingest(tmp_path, f"ingest.watermark={policy}")
    if policy == "reject":
        assert [v.reason for v in found.verdicts] == ["watermark"] * 6
        assert not list((frames_folder(found) / "frames").iterdir())
        return
    assert len(found.frames) == 6
    assert all(bool(frame.masks) == (policy == "mask") for frame in found.frames)
    assert all((frame.crop != (0, 0, 480, 270)) == (policy == "crop") for frame in found.frames)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_recall_on_fifty_rendered_films(tmp_path, capsys):
    """Each film as it is, with a logo, and with subtitles: recall >= .95, at most one false."""
    hits = dict.fromkeys(("logo", "subtitles", "bars", "false logo", "false subtitles"), 0)
    for seed in range(50):
        for kind, count in judge_film(seed, tmp_path).items():
            hits[kind] += count
    with capsys.disabled():
        print("", hits)
    assert hits["logo"] >= 48
    assert hits["subtitles"] >= 48
    assert hits["bars"] == 150
    assert hits["false logo"] <= 1
    assert hits["false subtitles"] <= 1


def judge_film(seed, folder):
    """What is found on a rendered film in three forms."""
    from iclora.miniature.film import film_frames
    from iclora.miniature.lettering import draw_logo
    from iclora.miniature.script import film_script

    script = film_script(seed).model_copy(update={"logo": None})
    logo = (206, script.bar + 8, 246, script.bar + 24)
    plain = list(film_frames(script))
    kinds = [shot.kind for shot in script.shots for _ in range(shot.frames)]
    marked = [picture.copy() for picture in plain]
    for picture, kind in zip(marked, kinds, strict=True):
        if kind not in ("title", "black", "credits"):
            draw_logo(picture, logo)
    counts = dict.fromkeys(("logo", "subtitles", "bars", "false logo", "false subtitles"), 0)
    for name, pictures in (("plain", plain), ("logo", marked), ("said", subtitled(plain, seed))):
        survey = surveyed([np.asarray(p) for p in pictures], folder / f"{seed}-{name}.mp4")
        marks, lines = survey.watermarks(), survey.subtitles()
        counts["bars"] += survey.picture_box() == (0, script.bar, 256, 192 - script.bar)
        if name == "logo":
            counts["logo"] += any(covers(mark, logo) for mark in marks)
        counts["subtitles"] += name == "said" and bool(lines)
        counts["false logo"] += name == "plain" and bool(marks)
        counts["false subtitles"] += name == "plain" and bool(lines)
    return counts


def subtitled(pictures, seed):
    """Sentences of one to three seconds at random times, 12 frames a second."""
    rng = np.random.default_rng(seed)
    said = [np.asarray(picture).copy() for picture in pictures]
    at = int(rng.integers(6, 24))
    while at < len(said):
        start, length = int(rng.integers(0, 9)), int(rng.integers(3, 6))
        text, stays = " ".join(WORDS[start : start + length]), int(rng.integers(14, 36))
        (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.36, 1)
        for number in range(at, min(len(said), at + stays)):
            for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
                place = ((256 - width) // 2, 160)
                font = cv2.FONT_HERSHEY_SIMPLEX
                cv2.putText(said[number], text, place, font, 0.36, colour, thickness, cv2.LINE_AA)
        at += stays + int(rng.integers(3, 36))
    return said


def surveyed(pictures, path):
    """Encodes pictures and decodes them for what they show."""
    from iclora.ingest.film_analysis import FilmAnalyzer
    from iclora.ingest.film_decoder import open_film
    from iclora.ingest.shots import analyze_film
    from schemas.ingest import IngestParams

    with av.open(str(path), "w") as container:
        options = {"crf": "18", "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=12, options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    params = IngestParams()
    with open_film(path, params.max_pixels) as film:
        survey = FilmAnalyzer(float(film.rate), params, lambda *_: None)
        analyze_film(film, params.shots, survey)
    path.unlink()
    return survey


def covers(mark, logo):
    inside = intersection(mark, logo)
    if inside is None:
        return False
    area = (logo[2] - logo[0]) * (logo[3] - logo[1])
    return (inside[2] - inside[0]) * (inside[3] - inside[1]) >= 0.9 * area
