"""Captions by rule, of descriptions of single panels."""

from __future__ import annotations

import random

import pytest

from iclora.captioning.linter import lint_caption
from iclora.captioning.merge import clean, merge_by_rules, take_common
from iclora.captioning.people import likeness, may_be_same, people_in
from iclora.captioning.prompts import one_summary
from iclora.captioning.role_names import first_names, forbidden_names, names_for, normalize
from iclora.miniature.captions import (
    attributes_in,
    panel_caption,
    set_caption,
    story_caption,
)
from iclora.miniature.script import NAMES
from iclora.miniature.world import IDENTITY, SETTING, STAGING, random_attributes
from iclora.presets import load_config

MINIATURE = load_config("miniature", {"caption.summary": "looks"})
SHOTS = load_config("movie-shots")
STORIES = load_config("miniature", {"caption.summary": "story"})


def merged(parts, key="set-1", config=SHOTS):
    names = names_for(key, config.caption)
    caption = merge_by_rules(parts, names, config.caption, captioner="x")
    text = caption.text(config.layout.markers)
    return text, caption, [f.rule for f in lint_caption(text, config.layout, config.caption)]


def of_the_film_world(config):
    """200 sets, what is seen on each panel, and what becomes of its descriptions."""
    rng = random.Random(5)
    for number in range(200):
        scene = random_attributes(rng)
        staged = rng.sample([(s, a) for s in ("wide", "close") for a in ("wave", "read")], 3)
        panels = [scene.model_copy(update={"shot": s, "action": a}) for s, a in staged]
        text, caption, faults = merged([panel_caption(p) for p in panels], str(number), config)
        assert faults == [], text
        yield panels, text, caption


def test_what_the_miniature_sees_becomes_a_good_caption():
    """Who, where and when once, what differs in its panel."""
    for panels, text, caption in of_the_film_world(MINIATURE):
        assert len(caption.roles) == 1
        assert caption.roles[0] in NAMES
        assert text == set_caption(panels, caption.roles[0])
        told = panels[0].model_dump()
        assert attributes_in(caption.summary) == {k: told[k] for k in IDENTITY | SETTING}
        for panel, part in zip(panels, caption.parts, strict=True):
            assert attributes_in(part) == {k: getattr(panel, k) for k in STAGING}
            assert part.count(f"<{caption.roles[0]}>") == 1


def test_a_story_leaves_to_the_pictures_what_the_panels_share():
    for panels, text, caption in of_the_film_world(STORIES):
        assert text == story_caption(panels, caption.roles[0])
        assert not (IDENTITY | SETTING) & set(attributes_in(text))


@pytest.mark.parametrize(
    ("said", "summary"),
    [
        (
            ["a boy in a red hat running home", "a boy in a red hat waving, at dusk", "a boy"],
            "a story of <{0}> running home and waving;",
        ),
        (
            ["a man waving", "a man waving", "a woman reading a map and a man waving"],
            "a story of <{0}> waving and <{1}> reading a map;",
        ),
        (
            ["a boy runs", "a boy sits", "a boy sleeps"],
            "a story of <{0}> that begins with <{0}> runs;",
        ),
        (["a hill, far away", "a lake", "a tree"], "pictures that begin with a hill;"),
    ],
)
def test_a_story_of_what_other_captioners_say(said, summary):
    _, caption, _ = merged(said, config=STORIES)
    assert caption.summary == summary.format(*caption.roles)


def test_of_both_summaries_a_quarter_tells_looks_and_always_the_same_sets():
    params = load_config("miniature", {"caption.summary": "both"}).caption
    kinds = [one_summary(f"set-{number}", params).summary for number in range(400)]
    assert kinds == [one_summary(f"set-{number}", params).summary for number in range(400)]
    assert 70 < kinds.count("looks") < 130
    assert set(kinds) == {"looks", "story"}


def test_the_same_person_has_the_same_name_and_others_have_others():
    text, caption, faults = merged(
        [
            "The image shows a young woman with long blond hair reading a book on a bench.",
            "A man in a black coat and a woman with long blond hair talk in a cafe.",
            "A woman with long blond hair, wearing a purple robe, stands near a man in a jacket",
        ]
    )
    assert faults == []
    woman, man = caption.roles
    assert caption.parts[0] == f"<{woman}> reading a book on a bench,"
    assert caption.parts[1] == f"<{man}> and <{woman}> talk in a cafe,"
    assert caption.parts[2] == f"<{woman}> stands near <{man}> in a jacket."
    assert text.startswith(f"[MOVIE-SHOTS] a story of <{woman}>, a woman with long blond hair, ")


def test_one_misread_look_does_not_split_a_person():
    text, caption, faults = merged(
        [
            "someone with pink hair, a cap and a red shirt waving in the snow by day",
            "someone with pink hair, a cap and a green shirt reading a book in the snow by day",
            "someone with pink hair, a cap and a red shirt eating a melon in the snow by day",
        ]
    )
    assert faults == []
    assert len(caption.roles) == 1
    assert "pink hair, a cap and a red shirt in the snow by day; [SCENE-1]" in text
    assert "green" not in text


def test_a_light_that_differs_stays_in_its_panel():
    _, caption, faults = merged(
        ["a boy runs on the beach at night", "a boy sits on the beach by day", "a boy on the beach"]
    )
    assert faults == []
    assert "on the beach" in caption.summary
    assert [part.split("> ", 1)[-1] for part in caption.parts[:2]] == [
        "runs at night,",
        "sits by day,",
    ]


@pytest.mark.parametrize(
    ("parts", "summary"),
    [
        (["a lighthouse at dusk", "waves at dusk", "a gull at dusk"], "pictures at dusk;"),
        (["a lighthouse, far", "waves", "gulls"], "pictures that begin with a lighthouse;"),
    ],
)
def test_a_set_without_people_has_a_summary_too(parts, summary):
    _, caption, faults = merged(parts)
    assert faults == []
    assert caption.summary == summary
    assert caption.roles == ()


def test_more_people_than_names_do_not_break_it():
    crowd = ", ".join(
        f"a boy with {word} hair" for word in ["red", "blue", "pink", "grey", "white"]
    )
    config = load_config("movie-shots", {"caption.names": ["Ann", "Ben"]})
    _, caption, _ = merged([crowd, crowd, crowd], config=config)
    assert len(caption.roles) == 5


def test_descriptions_are_cleaned():
    assert clean('"The picture shows a cat. It sleeps.\n The sun shines!"') == (
        "a cat, it sleeps, the sun shines"
    )
    assert clean("Anna's cat") == "Anna's cat"


def test_only_whole_phrases_are_common():
    apart = ["x in a room", "y in a roomy hall"]
    assert take_common(apart) == (apart, [])
    apart = ["x in a red room", "y in a red hall"]
    assert take_common(apart) == (apart, [])
    assert take_common(["x in a room waving", "y in a room"]) == (["x waving", "y"], ["in a room"])
    assert take_common(["x in a room", "y, in a room."])[1] == ["in a room"]


def test_persons_are_found_with_their_looks():
    text = "A tall man with a grey beard and a hat meets the red-haired girl; someone waves"
    man, girl, someone = people_in(text)
    assert (man.words, man.kind, man.looks) == (
        "A tall man with a grey beard and a hat",
        "male",
        {"beard": "grey", "hat": ""},
    )
    assert (girl.kind, girl.definite, girl.looks) == ("female", True, {"hair": "red"})
    assert someone.kind == "any"
    assert not may_be_same(man, girl)
    assert may_be_same(someone, girl)
    both = [person.words for person in people_in("a boy with red hair and a girl with a blue hat")]
    assert both == ["a boy with red hair", "a girl with a blue hat"]
    assert next(iter(people_in("a kite shaped like a woman and a manual"))).words == "a woman"


def test_looks_are_outvoted_only_by_a_majority():
    one, two, three = (
        next(people_in(f"a boy with {hair} hair, a {hat} hat and a {shirt} shirt"))
        for hair, hat, shirt in (
            ("red", "tall", "blue"),
            ("red", "flat", "blue"),
            ("x", "y", "blue"),
        )
    )
    assert (likeness(one, two), likeness(one, three)) == (1, -1)
    assert may_be_same(one, two)
    assert not may_be_same(one, three)


def test_names_look_random_but_follow_from_the_key():
    orders = [list(names_for(key, SHOTS.caption)) for key in ("a", "b", "a")]
    assert orders[0] == orders[2] != orders[1]
    assert len(set(orders[0])) == len(orders[0]) == len(first_names())
    assert not {normalize(name) for name in orders[0]} & forbidden_names()
