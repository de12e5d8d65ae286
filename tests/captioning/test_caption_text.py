"""Between text and structure."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclora.captioning.caption_text import flatten, parse_caption, roles_in
from iclora.presets import load_config, preset_names
from schemas.caption import Caption

WORDS = st.text(string.ascii_letters + string.digits + " ,;.'<>-éß", min_size=1, max_size=40)
PIECES = WORDS.map(flatten).filter(bool)


@given(
    data=st.data(),
    preset=st.sampled_from(preset_names()),
    prefix=st.sampled_from(["", "[MOVIE-SHOTS]", "[SANDSTORM-PSA]"]),
    summary=PIECES | st.just(""),
)
def test_a_caption_survives_its_text_in_any_layout(data, preset, prefix, summary):
    markers = load_config(preset).layout.markers
    parts = data.draw(st.tuples(*[PIECES] * len(markers)))
    caption = Caption(prefix=prefix, summary=summary, parts=parts, captioner="x")
    text = caption.text(markers)
    again = parse_caption(text, markers, prefix, captioner="x")
    assert again.model_copy(update={"roles": ()}) == caption
    assert again.roles == roles_in(text)
    assert again.text(markers) == text


@given(st.text(max_size=200))
def test_any_text_parses_and_says_the_same(text):
    caption = parse_caption(text, ("[A]", "[B]"), "[P]")
    assert len(caption.parts) == 2
    assert caption.text(("[A]", "[B]")) == flatten(text) or "[" in text


def test_spaces_around_markers_are_put_in():
    caption = parse_caption("[P]about,[A]one,[B]two", ("[A]", "[B]"), "[P]")
    assert (caption.prefix, caption.summary, caption.parts) == ("[P]", "about,", ("one,", "two"))


@pytest.mark.parametrize(
    ("text", "summary", "parts"),
    [
        ("no markers at all", "no markers at all", ("", "")),
        ("s [B] two", "s", ("", "two")),
        ("s [B] two [A] one", "s [B] two", ("one", "")),
        ("s [A] one [A] more [B] two", "s", ("one [A] more", "two")),
    ],
)
def test_broken_captions_keep_every_word(text, summary, parts):
    caption = parse_caption(text, ("[A]", "[B]"), "[P]")
    assert (caption.prefix, caption.summary, caption.parts) == ("", summary, parts)
    assert caption.text(("[A]", "[B]")) == text


def test_a_caption_is_one_clean_line():
    assert flatten("\ufeffa\r\n b\x00\tc\u200b  e\u0301") == "a b c \u00e9"


def test_roles_come_once_in_order_of_appearance():
    assert roles_in("<Ben> sees <Ann>, < Ben > laughs <>") == ("Ben", "Ann")
