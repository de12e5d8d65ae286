"""Prompts win or lose against neutral ones; a tie keeps the frame."""

from __future__ import annotations

import math

import numpy as np
import pytest

from iclora.filtering.zero_shot import NEUTRAL, prompt_rejections

ANGLES = {"a page of text": 0.0, "a logo": 0.5, "a dog": 3.0} | dict.fromkeys(NEUTRAL, 1.5)


def texts(prompts):
    """A text encoder whose directions are known."""
    return rows([ANGLES[prompt] for prompt in prompts])


def rows(angles):
    return np.array([[math.cos(a), math.sin(a)] for a in angles], np.float32)


def faults(angle: float, require=(), exclude=()):
    return prompt_rejections(require, exclude, texts, rows([angle]))[0]


def test_a_frame_like_an_excluded_prompt_is_rejected_with_its_name():
    fault = faults(0.1, exclude=["a page of text", "a logo"])
    assert fault is not None
    assert (fault.reason, fault.detail, fault.threshold) == ("excluded", "a page of text", 0.0)
    assert fault.value == pytest.approx(math.cos(0.1) - math.cos(1.4), abs=1e-4)


@pytest.mark.parametrize(("angle", "kept"), [(0.75, True), (0.7502, True), (0.7498, False)])
def test_the_excluded_prompt_must_beat_the_neutral_ones(angle, kept):
    assert (faults(angle, exclude=["a page of text"]) is None) is kept


@pytest.mark.parametrize(("angle", "kept"), [(2.25, True), (2.2502, True), (2.2498, False)])
def test_a_required_prompt_must_not_lose(angle, kept):
    fault = faults(angle, require=["a dog"])
    assert (fault is None) is kept
    if fault:
        assert (fault.reason, fault.detail) == ("not_required", "a dog")


def test_one_required_prompt_is_enough():
    assert faults(0.0, require=["a dog", "a page of text"]) is None


def test_what_is_excluded_beats_what_is_required():
    assert faults(0.3, require=["a page of text"], exclude=["a logo"]) is not None
    assert faults(0.2, require=["a page of text"], exclude=["a logo"]) is None
