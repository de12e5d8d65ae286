"""Captions of the film world: closed vocabulary, one sentence, readable back."""

from __future__ import annotations

import re

from iclora.miniature.captions import (
    attributes_in,
    mosaic_caption,
    panel_caption,
    set_caption,
    vocabulary,
    words,
)
from iclora.miniature.world import IDENTITY, STAGING, random_attributes, seeded

RNG = seeded("captions", 0)
SEEN = [random_attributes(RNG) for _ in range(300)]


def test_a_clause_says_everything_and_reads_back() -> None:
    for attributes in SEEN:
        assert attributes_in(panel_caption(attributes, "Ann")) == attributes.to_json()
        assert "<" not in panel_caption(attributes)


def test_what_is_not_named_is_left_open() -> None:
    clause = panel_caption(SEEN[0], "Ann", frozenset({"action", "light"}))
    assert set(attributes_in(clause)) == {"action", "light"}


def test_a_set_is_one_sentence_with_its_markers_in_order() -> None:
    text = set_caption(SEEN[:3], "Eve", summary=IDENTITY, clauses=STAGING)
    assert re.fullmatch(
        r"\[MOVIE-SHOTS\] a story of <Eve> [^;]+; \[SCENE-1\] [^\[]*, \[SCENE-2\] [^\[]*, "
        r"\[SCENE-3\] [^\[]*\.",
        text,
    )
    assert set(attributes_in(text.split(";")[0])) == set(IDENTITY)


def test_no_caption_leaves_the_vocabulary() -> None:
    known = set(vocabulary())
    for one, two, three in zip(SEEN[::3], SEEN[1::3], SEEN[2::3], strict=True):
        for text in (
            set_caption((one, two, three), "Kim"),
            mosaic_caption((one, two, three), ("Ann", None, "Leo")),
        ):
            assert {word for word in words(text) if not word.startswith("[")} <= known
