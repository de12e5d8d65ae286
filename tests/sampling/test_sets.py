from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from iclora.errors import BadInput
from iclora.sampling import SHEET, sample_sets
from iclora.sampling.given_panels import split_canvas
from iclora.sampling.render import render_all
from iclora.sampling.render_records import (
    RenderRequest,
    RenderSettings,
    is_complete,
    make_record,
    read_lines,
    read_record,
)


def counted(config, count):
    return config.model_copy(update={"sample": config.sample.model_copy(update={"count": count})})


def test_a_render_is_a_canvas_its_panels_a_line_and_a_place_on_the_sheet(
    config, captions, tmp_path
):
    records = sample_sets(captions[:2], counted(config, 2), tmp_path)
    assert [(r.caption, r.seed) for r in records] == [
        (c, s) for c in captions[:2] for s in (42, 43)
    ]
    for record in records:
        canvas = Image.open(tmp_path / record.canvas)
        assert canvas.size == (32, 96)
        panels = [Image.open(tmp_path / file).tobytes() for file in record.panels]
        assert panels == [panel.tobytes() for panel in split_canvas(canvas, config.layout)]
    lines = (tmp_path / "sets.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == [record.key for record in records]
    assert Image.open(tmp_path / SHEET).size[0] > 2 * 32


def test_the_canvas_carries_its_parameters_in_any_script(config, captions, tmp_path):
    caption = captions[0].replace("a story", "une histoire d'été 夏 <b>")
    (record,) = sample_sets([caption.replace(" <b>", "")], config, tmp_path)
    canvas = Image.open(tmp_path / record.canvas)
    canvas.load()
    assert canvas.text["Description"] == record.caption
    assert read_record(tmp_path / record.canvas) == record
    assert record.base.startswith("flux@")
    assert "/" not in record.base


def test_what_is_there_and_whole_is_not_drawn_again(config, captions, tmp_path):
    heard = []
    config = counted(config, 2)
    records = sample_sets(captions, config, tmp_path, progress=lambda *step: heard.append(step))
    assert heard[-1] == ("draw", 6, 6)
    before = {r.key: (tmp_path / r.canvas).read_bytes() for r in records}
    (tmp_path / records[1].canvas).unlink()
    (tmp_path / records[2].panels[0]).unlink()
    damaged = tmp_path / records[3].canvas
    damaged.write_bytes(damaged.read_bytes()[:-40])
    kept = (tmp_path / records[0].canvas).stat().st_mtime_ns
    heard.clear()
    again = sample_sets(captions, config, tmp_path, progress=lambda *step: heard.append(step))
    assert heard == [("draw", 3, 3)]
    assert again == records
    assert (tmp_path / records[0].canvas).stat().st_mtime_ns == kept
    for record in records:
        first, second = before[record.key], (tmp_path / record.canvas).read_bytes()
        assert first == second or record in records[1:4]
    heard.clear()
    sample_sets(captions, config, tmp_path, progress=lambda *step: heard.append(step))
    assert heard == []


def test_a_canvas_under_a_foreign_name_is_not_taken_for_another(config, captions, tmp_path):
    one, other = sample_sets(captions[:2], config, tmp_path)
    (tmp_path / other.canvas).write_bytes((tmp_path / one.canvas).read_bytes())
    assert is_complete(tmp_path, one)
    assert not is_complete(tmp_path, other)


@pytest.mark.parametrize(
    "change", [{"steps": 2}, {"true_cfg": 1.0}, {"guidance": 2.0}, {"precision": "bf16"}]
)
def test_every_parameter_that_changes_the_picture_changes_its_key(config, captions, change):
    def key(params):
        settings = RenderSettings(config.layout, params)
        return make_record(RenderRequest(captions[0], 1), settings, base="b@1").key

    assert key(config.sample) != key(config.sample.model_copy(update=change))
    assert key(config.sample) == key(config.sample.model_copy(update={"batch": 1, "prompts": ()}))


def test_the_same_caption_twice_is_drawn_once(config, captions, tmp_path):
    heard = []
    records = sample_sets(
        [captions[0]] * 3, config, tmp_path, progress=lambda *step: heard.append(step)
    )
    assert heard == [("draw", 1, 1)]
    assert len({record.key for record in records}) == 1
    assert len(read_lines(tmp_path)) == 1


def test_lines_of_earlier_runs_stay(config, captions, tmp_path):
    first = sample_sets(captions[:1], config, tmp_path)
    second = sample_sets(captions[1:2], config, tmp_path)
    assert read_lines(tmp_path) == [*first, *second]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[SCENE-2] ", "", r"\[SCENE-2\] is missing"),
        ("[MOVIE-SHOTS] ", "", "does not begin with"),
        ("[SCENE-3]", "[SCENE-2]", "appears 2 times"),
    ],
)
def test_a_broken_caption_is_refused_before_any_model_is_looked_for(
    config, captions, tmp_path, old, new, said
):
    base = config.base.model_copy(update={"model": "nobody/has-this"})
    config = config.model_copy(update={"base": base})
    with pytest.raises(BadInput, match=said) as caught:
        sample_sets([captions[1], captions[0].replace(old, new)], config, tmp_path)
    assert "caption 2" in str(caught.value)


class Crowded:
    """A sampler whose memory holds two pictures."""

    def __init__(self):
        self.batches = []

    def render(self, requests, settings):
        self.batches.append(len(requests))
        if len(requests) > 2:
            raise torch.OutOfMemoryError("no room")
        return [Image.new("RGB", (32, 96), (request.seed, 0, 0)) for request in requests]


def jobs_of(config, count):
    settings = RenderSettings(config.layout, config.sample)
    requests = [RenderRequest("a", seed) for seed in range(count)]
    return [(request, make_record(request, settings, base="b@1")) for request in requests]


def test_out_of_memory_halves_the_batch_and_loses_nothing(config, tmp_path):
    sampler, wanted = Crowded(), jobs_of(config, 7)
    settings = RenderSettings(config.layout, config.sample)
    render_all(sampler, wanted, settings, tmp_path, lambda *_: None)
    assert sampler.batches == [4, 2, 2, 2, 1]
    assert all(is_complete(tmp_path, record) for _, record in wanted)


def test_a_single_picture_that_does_not_fit_is_an_error(config, tmp_path):
    sampler = Crowded()
    sampler.render = lambda requests, settings: (_ for _ in ()).throw(
        torch.OutOfMemoryError("no room")
    )
    with pytest.raises(torch.OutOfMemoryError):
        render_all(
            sampler,
            jobs_of(config, 3),
            RenderSettings(config.layout, config.sample),
            tmp_path,
            lambda *_: None,
        )
