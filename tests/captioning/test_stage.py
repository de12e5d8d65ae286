"""The stage: one verdict a canvas, nothing asked twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest

from iclora.build import plan_build
from iclora.captioning import caption_source
from iclora.captioning.stage import EXISTING_CAPTION
from iclora.errors import BadConfig
from iclora.pipeline.stage import result_of
from iclora.presets import load_config
from iclora.store import Store
from schemas.caption import Answer
from schemas.stage import Captioned, Stitched
from schemas.verdict import tally

ROOT = Path(__file__).parents[2]
BODY = (
    "a day at the sea in soft light; [SCENE-1] <Ann>, a girl with red hair, waves from a pier, "
    "[SCENE-2] <Ann> walks with <Ben>, a boy in a cap, along the beach, [SCENE-3] <Ben> flies a "
    "kite in the evening sun."
)
GOOD = f"[MOVIE-SHOTS] {BODY}"
HOLLOW = GOOD.replace("a day at the sea in soft light;", "In a delightful animated sequence,")


def run(store, stitched, config):
    """The stage's result, of which every ledger adds up."""
    ref = caption_source(store, stitched, config)
    result = result_of(store, ref, Captioned)
    tally(result.verdicts, result.seen)
    kept = [verdict.id for verdict in result.verdicts if verdict.outcome == "kept"]
    assert kept == [done.key for done in result.captions]
    return ref, result


def prompts(server):
    return [body["messages"][0]["content"][-1]["text"] for body in server.seen]


def pictures(server):
    return [len(body["messages"][0]["content"]) - 1 for body in server.seen]


def test_a_caption_is_made_bound_and_scored(store, server, config_of, stitch):
    config = config_of(server)
    stitched = stitch(store, config, ["", ""])
    _, result = run(store, stitched, config)
    canvases = result_of(store, stitched, Stitched).canvases
    assert [v.outcome for v in result.verdicts] == ["kept", "kept"]
    for done, canvas in zip(result.captions, canvases, strict=True):
        assert done.image_sha256 == canvas.image_sha256
        assert done.caption.text(config.layout.markers) == GOOD
        assert done.caption.roles == ("Ann", "Ben")
        assert done.caption.captioner == "test-model"
        assert done.scores["caption_attempts"] == 1.0
        assert done.scores["caption_words"] == float(len(GOOD.split()))


def test_captions_beside_the_source_are_kept_word_for_word(store, config_of, stitch):
    config = config_of(None)  # nobody listens there, and nobody is asked
    given = [GOOD, HOLLOW, "[MOVIE-SHOTS] one, [SCENE-2] two", "just a text"]
    _, result = run(store, stitch(store, config, given), config)
    assert [d.caption.text(config.layout.markers) for d in result.captions] == given
    assert {done.caption.captioner for done in result.captions} == {EXISTING_CAPTION}
    faults = [done.scores["caption_faults"] for done in result.captions]
    assert faults[0] == 0.0
    assert faults[1] == 1.0
    assert min(faults[2:]) > 1


def test_beside_means_that_nothing_is_made_up(store, config_of, stitch):
    config = config_of(None, captioner__kind="existing")
    _, result = run(store, stitch(store, config, [GOOD, "", " \n"]), config)
    assert [v.reason for v in result.verdicts] == ["", "caption_missing", "caption_missing"]


def test_a_second_build_asks_nothing(store, server, config_of, stitch):
    config = config_of(server)
    stitched = stitch(store, config, ["", ""])
    first, _ = run(store, stitched, config)
    asked = len(server.seen)
    assert run(store, stitched, config)[0] == first
    shutil.rmtree(store.path(first.path))
    written = run(store, stitched, config)
    assert len(server.seen) == asked == 2
    assert written[0] == first


def test_where_the_server_is_does_not_matter_but_what_it_is_asked_does(
    store, server, config_of, stitch
):
    config = config_of(server)
    stitched = stitch(store, config, [""])
    first, _ = run(store, stitched, config)
    moved = config_of(None, captioner__concurrency=1, captioner__timeout_seconds=1.0)
    assert run(store, stitched, moved)[0] == first
    for changed in ({"captioner__max_side": 32}, {"max_words": 300}, {"names": ["Ida"]}):
        assert run(store, stitched, config_of(server, **changed))[0] != first
    assert len(server.seen) == 4


def test_the_names_in_a_file_count_and_not_its_path(store, server, config_of, stitch, tmp_path):
    names, copy = tmp_path / "names.txt", tmp_path / "copy.txt"
    names.write_text("Zoe\n")
    copy.write_text("Zoe\n")
    config = config_of(server, forbidden_names=str(names))
    stitched = stitch(store, config, [GOOD])
    first, _ = run(store, stitched, config)
    assert run(store, stitched, config_of(server, forbidden_names=str(copy)))[0] == first
    names.write_text("Ben\n")
    assert run(store, stitched, config)[0] != first


class Revised:
    """Captioner whose model has revisions."""

    settings: ClassVar = {}
    follows_prompts = True

    def __init__(self, label):
        self.label = label

    def ask(self, requests):
        for index, _ in enumerate(requests):
            yield index, Answer(text=GOOD)


def test_another_revision_of_the_model_writes_captions_anew(store, config_of, stitch, monkeypatch):
    config = config_of(None)
    stitched = stitch(store, config, [""])
    for label in ("model@1", "model@2"):
        monkeypatch.setattr(
            "iclora.captioning.load_captioner", lambda _, label=label: Revised(label)
        )
        _, result = run(store, stitched, config)
        assert result.captions[0].caption.captioner == label


def test_a_server_that_fails_costs_its_sets_a_verdict_and_is_asked_again_later(
    store, server, config_of, stitch, completion
):
    config = config_of(server, captioner__concurrency=1)
    stitched = stitch(store, config, ["", "", GOOD])
    server.script = [completion(GOOD), *[(500, {}, b"")] * 3]
    _, result = run(store, stitched, config)
    assert [v.reason for v in result.verdicts] == ["", "captioner_server_error", ""]
    assert "500" in result.verdicts[1].detail
    server.seen.clear()
    again, result = run(store, stitched, config)
    assert [v.outcome for v in result.verdicts] == ["kept"] * 3
    assert len(server.seen) == 1  # only what had failed
    assert run(store, stitched, config)[0] == again


def test_a_blocked_set_fails_and_is_not_asked_again(store, server, config_of, stitch, completion):
    config = config_of(server)
    stitched = stitch(store, config, [""])
    server.default = completion("", "content_filter")
    _, result = run(store, stitched, config)
    assert [v.reason for v in result.verdicts] == ["captioner_blocked"]
    run(store, stitched, config)
    assert len(server.seen) == 1


def test_the_next_try_is_told_the_fault(store, server, config_of, stitch, completion):
    config = config_of(server)
    server.script = [completion(HOLLOW), completion(GOOD[:60], "length")]
    _, result = run(store, stitch(store, config, [""]), config)
    assert [v.outcome for v in result.verdicts] == ["kept"]
    assert result.captions[0].scores["caption_attempts"] == 3.0
    first, second, third = prompts(server)
    assert "refused" not in first
    assert HOLLOW in second
    assert "says nothing of what the set shows" in second
    assert "cut off because it was too long" in third


def test_mechanical_faults_are_mended_when_the_answer_stays_the_same(
    store, server, config_of, stitch, completion
):
    config = config_of(server)
    server.default = completion(BODY.replace("[SCENE-2]", "[Scene 2]:"))
    _, result = run(store, stitch(store, config, [""]), config)
    assert result.captions[0].caption.text(config.layout.markers) == GOOD
    assert result.captions[0].scores["caption_attempts"] == 2.0  # a third would be no better
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HOLLOW, "caption_summary_empty"),
        ("I'm sorry, I cannot help with that.", "caption_refusal"),
        (GOOD.replace("<Ben>", "<Frodo>"), "caption_name_forbidden"),
    ],
)
def test_what_stays_broken_is_rejected_with_its_rule(
    store, server, config_of, stitch, text, reason
):
    config = config_of(server)
    message = {"finish_reason": "stop", "message": {"content": text}}
    server.default = (200, {}, json.dumps({"choices": [message]}).encode())
    _, result = run(store, stitch(store, config, [""]), config)
    assert [(v.outcome, v.reason) for v in result.verdicts] == [("rejected", reason)]
    assert result.verdicts[0].detail
    assert len(server.seen) == 2  # the same answer twice: a third would be no better


def test_a_refusal_is_rejected_as_such(store, server, config_of, stitch, completion):
    config = config_of(server)
    server.default = completion(None, refusal="No.")
    _, result = run(store, stitch(store, config, [""]), config)
    assert [v.reason for v in result.verdicts] == ["caption_refusal"]


def test_what_was_cut_off_is_not_mended(store, server, config_of, stitch, completion):
    config = config_of(server)
    server.default = completion(GOOD.removesuffix(" in the evening sun."), "length")
    _, result = run(store, stitch(store, config, [""]), config)
    assert [v.reason for v in result.verdicts] == ["caption_truncated"]


def test_structured_answers_become_captions(store, server, config_of, stitch, completion):
    parts = [part.strip(" ,.") for part in BODY.split("[SCENE-")]
    answer = {"summary": parts[0], "parts": [part[3:] for part in parts[1:]]}
    server.default = completion(json.dumps(answer))
    config = config_of(server)
    _, result = run(store, stitch(store, config, [""]), config)
    assert result.captions[0].caption.text(config.layout.markers) == GOOD


def test_panels_first_then_a_merge_that_sees_the_canvas(
    store, server, config_of, stitch, completion
):
    config = config_of(server, mode="panels", merge="model", captioner__concurrency=1)
    server.script = [completion(f"a boy in picture {number}") for number in range(3)]
    server.script += [completion(HOLLOW)]
    _, result = run(store, stitch(store, config, [""]), config)
    assert [v.outcome for v in result.verdicts] == ["kept"]
    assert pictures(server) == [1] * 5  # a panel each, then the canvas; panels only once
    *panels, merge, again = prompts(server)
    assert len(set(panels)) == 1
    for number in range(3):
        assert f"[SCENE-{number + 1}] a boy in picture {number}" in merge
    assert again.startswith(merge)
    sent = [body["messages"][0]["content"][0]["image_url"]["url"] for body in server.seen]
    assert len(set(sent)) == 4


def test_panels_merged_by_rule_ask_again_only_for_the_panel_at_fault(
    store, server, config_of, stitch, completion
):
    config = config_of(server, mode="panels", merge="rules", captioner__concurrency=1)
    server.script = [completion("a boy waves at dusk"), completion(""), completion("a dog at dusk")]
    server.script[1] = completion("a boy", "length")
    server.script += [completion("a boy sits at dusk")]
    _, result = run(store, stitch(store, config, [""]), config)
    assert [v.outcome for v in result.verdicts] == ["kept"]
    assert len(server.seen) == 4
    assert "cut off" in prompts(server)[3]
    caption = result.captions[0].caption
    assert caption.parts[1] == f"<{caption.roles[0]}> sits,"


def test_every_layout_can_be_captioned(store, server, config_of, stitch, completion):
    server.default = completion("two friends in a park; [LEFT] <Ann> sits, [RIGHT] <Ann> stands.")
    config = config_of(server, "couple-profile")
    _, result = run(store, stitch(store, config, [""]), config)
    assert [v.outcome for v in result.verdicts] == ["kept"]
    assert "2 panels in one row, from left to right, called [LEFT], [RIGHT]" in prompts(server)[0]


def test_a_picture_that_is_not_the_stitched_one_fails(store, server, config_of, stitch):
    config = config_of(server)
    stitched = stitch(store, config, ["", ""])
    Path(store.path(f"{stitched.path}/set-0.jpg")).write_bytes(b"other")
    _, result = run(store, stitched, config)
    assert [v.reason for v in result.verdicts] == ["picture_changed", ""]


def test_an_unknown_kind_is_refused_before_a_source_is_read(store):
    config = load_config("miniature", {"caption.captioner.kind": "sever"})
    with pytest.raises(BadConfig, match="kind 'sever' is unknown"):
        plan_build(store, ["no such folder"], config, "films")


def test_an_empty_source_is_captioned_too(store, config_of, stitch):
    _, result = run(store, stitch(store, config_of(None), []), config_of(None))
    assert result.seen == 0


def test_random_weights_give_one_verdict_a_set(store, family, stitch):
    """Nonsense is rejected, never a crash; answers come from the cache the second time."""
    settings = {"caption.captioner.model": str(family / "vlm"), "caption.captioner.batch": 4}
    config = load_config("miniature", settings | {"caption.captioner.max_new_tokens": 12})
    stitched = stitch(store, config, ["", "", GOOD])
    ref, result = run(store, stitched, config)
    assert [v.outcome for v in result.verdicts] == ["rejected", "rejected", "kept"]
    assert all(v.reason.startswith("caption_") for v in result.verdicts[:2])
    before = Path(store.path(ref.path), "manifest.json").read_bytes()
    shutil.rmtree(store.path(ref.path))
    assert run(store, stitched, config)[0] == ref
    assert Path(store.path(ref.path), "manifest.json").read_bytes() == before


@pytest.mark.parametrize("asked", [{"mode": "canvas"}, {"mode": "panels", "merge": "model"}])
def test_a_captioner_that_only_describes_is_merged_by_rule(store, family, stitch, caplog, asked):
    """Its answers to a prompt it never sees would be no captions."""
    settings = {"caption.captioner.model": str(family / "vlm"), "caption.captioner.batch": 4}
    settings |= {f"caption.{name}": value for name, value in asked.items()}
    config = load_config("miniature", settings | {"caption.captioner.max_new_tokens": 4})
    run(store, stitch(store, config, [""]), config)
    assert "merged by rule" in caplog.text
    assert len(list(Path(store.root, "cache/captions").rglob("*.json"))) >= 3  # a panel each


CHILD = """
import sys
from iclora.captioning import caption_source
from iclora.store import Store
from schemas.config import Config
from schemas.stage import StageRef
config = Config.from_text(open(sys.argv[2]).read())
caption_source(Store(sys.argv[1]), StageRef.from_text(sys.argv[3]), config)
"""


def test_a_kill_loses_only_what_was_on_its_way(tmp_path, server, config_of, stitch, slowly):
    """kill -9 in the middle, then again: the same bytes, and no finished answer asked twice."""
    config = config_of(server, captioner__concurrency=2)
    undisturbed, killed = Store(str(tmp_path / "a")), Store(str(tmp_path / "b"))
    stitched = stitch(undisturbed, config, [""] * 12)
    assert stitch(killed, config, [""] * 12) == stitched
    ref, _ = run(undisturbed, stitched, config)
    asked = {json.dumps(body) for body in server.seen}
    assert len(asked) == 12

    server.seen.clear()
    server.answered = 0
    server.default = slowly(0.05, server.default)
    (tmp_path / "config.json").write_text(config.to_text())
    argv = [sys.executable, "-c", CHILD, killed.url, str(tmp_path / "config.json")]
    child = subprocess.Popen([*argv, stitched.to_text()], cwd=ROOT, env=os.environ)
    while server.answered < 5:
        assert child.poll() is None
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not killed.exists(ref.path)
    saved = len(list(Path(killed.root, "cache/captions").rglob("*.json")))
    assert 0 < saved < 12

    assert run(killed, stitched, config)[0] == ref
    times = Counter(json.dumps(body) for body in server.seen)
    assert set(times) == asked
    assert sum(times.values()) - 12 <= 2 + (5 - min(saved, 5))  # what was on its way
    manifest = f"{ref.path}/manifest.json"
    assert killed.read(manifest) == undisturbed.read(manifest)


def test_it_reports_how_many_answers_are_there(store, server, config_of, stitch):
    reported: list[float] = []
    config = config_of(server)
    caption_source(store, stitch(store, config, ["", ""]), config, reported.append)
    assert len(server.seen) == len(reported)
    assert reported == pytest.approx([(n + 1) / len(reported) for n in range(len(reported))])
