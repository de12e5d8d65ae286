"""What is mechanical is mended, and nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclora.captioning.linter import lint_caption
from iclora.captioning.repair import from_json, repair
from iclora.presets import load_config

CONFIG = load_config("movie-shots")
CLEAN = (
    "[MOVIE-SHOTS] a day at the sea; [SCENE-1] <Ann> waves from a pier, [SCENE-2] <Ann> walks "
    "along the beach, [SCENE-3] <Ann> flies a kite."
)


def mended(text):
    return repair(text, CONFIG.layout, CONFIG.caption)


@pytest.mark.parametrize(
    "broken",
    [
        CLEAN,
        CLEAN.removeprefix("[MOVIE-SHOTS] "),
        CLEAN.removesuffix("."),
        CLEAN.replace("[SCENE-2] ", "[SCENE-2]"),
        CLEAN.replace("[SCENE-2]", "[SCENE-2] [SCENE-2]"),
        CLEAN.replace("[SCENE-2]", "[Scene 2]:"),
        CLEAN.replace("[SCENE-2]", "Scene-2:"),
        CLEAN.replace(", [SCENE-2]", " [SCENE-2]"),
        CLEAN.replace(", [SCENE-2]", ". [SCENE-2]"),
        CLEAN.replace("[SCENE-3]", "[SCENE-3],"),
        CLEAN.replace("[MOVIE-SHOTS]", "[MOVIE-SHOTS] [MOVIE-SHOTS]"),
        CLEAN.replace("[MOVIE-SHOTS]", "[MOVIE-SHOTS]:"),
        f"```\n{CLEAN}\n```",
        f'"{CLEAN}"',
        f"Here is the caption: {CLEAN}",
        CLEAN.replace("<Ann>", "**<Ann>**"),
        CLEAN.replace(" [SCENE", "\n\n[SCENE"),
    ],
)
def test_mechanical_faults_are_mended(broken):
    assert mended(broken) == CLEAN
    assert lint_caption(mended(broken), CONFIG.layout, CONFIG.caption) == []


def test_sentences_become_clauses():
    text = CLEAN.replace("a pier,", "a pier. The sun is low. Its light is warm,")
    assert "a pier; the sun is low; its light is warm, [SCENE-2]" in mended(text)


def test_names_keep_their_capitals():
    assert "a pier; <Ben> waits; Ann" not in mended(CLEAN)
    text = CLEAN.replace("a pier,", "a pier. <Ben> waits. USA flags wave,")
    assert "a pier; <Ben> waits; USA flags wave, [SCENE-2]" in mended(text)


@pytest.mark.parametrize(
    "text",
    [
        CLEAN.replace("[SCENE-2] ", ""),
        CLEAN.replace("a day at the sea;", "In a captivating sequence,"),
        "I'm sorry, but I can't assist with that.",
    ],
)
def test_what_needs_eyes_stays_broken(text):
    assert lint_caption(mended(text), CONFIG.layout, CONFIG.caption)


@given(
    st.lists(st.sampled_from([*CLEAN.split(), ".", "**", "[Scene 1]:", "Then", '"']), max_size=20)
)
def test_mending_twice_is_mending_once(words):
    once = mended(" ".join(words))
    assert mended(once) == once


def test_json_becomes_a_caption():
    answer = {"summary": "a day at the sea;", "parts": ["<Ann> waves.", "[SCENE-2] x, ", "y"]}
    said = "a day at the sea; [SCENE-1] <Ann> waves, [SCENE-2] x, [SCENE-3] y."
    assert from_json(json.dumps(answer), CONFIG.layout) == said
    assert from_json(f"```json\n{json.dumps(answer)}\n```", CONFIG.layout) == said
    assert mended(json.dumps(answer)) == f"[MOVIE-SHOTS] {said}"


@pytest.mark.parametrize(
    "text", [CLEAN, "[]", "3", '{"summary": 1, "parts": []}', '{"a": {}}', "{"]
)
def test_other_answers_are_no_json(text):
    assert from_json(text, CONFIG.layout) is None
