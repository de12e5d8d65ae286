from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from iclora.dataset.reader import open_dataset
from iclora.errors import BadInput, MissingModel
from iclora.evaluate import evaluate_adapter, read_report
from iclora.evaluation.plan import make_evaluation_plan
from iclora.evaluation.promotion import champion_of, promote, undo
from iclora.evaluation.prompts import choose_prompts, load_training_embeddings, real_sets
from iclora.evaluation.renders import render_arm
from iclora.evaluation.report import read_losses
from iclora.evaluation.reports import reports_on
from iclora.models.clip import load_clip
from iclora.presets import load_config
from schemas.evaluation import EvaluationReport, ReportManifest


def report_folder(world, ref):
    return Path(world.store.path(f"reports/{ref.name}/{ref.version}"))


def test_an_adapter_that_changes_nothing_is_refused_for_want_of_evidence(evaluated):
    world, ref = evaluated
    report = read_report(world.store, ref)
    assert (ref.outcome, ref.champion) == ("refused", "")
    assert report.decision.reasons[-1].startswith("No evidence of improvement over the base")
    assert champion_of(world.store, "film") == ""
    tie = report.paired["base"]["adherence"]
    assert (tie.value, tie.low, tie.high) == (0.0, 0.0, 0.0)


def test_the_report_is_whole_and_says_what_was_measured_with_what(evaluated):
    world, ref = evaluated
    folder = report_folder(world, ref)
    manifest = ReportManifest.from_text((folder / "manifest.json").read_text())
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert set(manifest.digests) == names - {"manifest.json"}
    report = EvaluationReport.from_text((folder / "report.json").read_text())
    assert report.adapter == "film@v1"
    assert set(report.prompts) == {r.caption for r in real_sets_of(world, "val")}
    assert re.fullmatch(r"clip@\w+\+squash", report.judges["clip"])
    assert report.judges["dino"].startswith("missing: ")
    assert report.judges["reader"].startswith("missing: ")
    assert {arm.arm for arm in report.arms} == {"adapter", "base", "repeated", "shuffled", "real"}
    assert str(Path(world.store.root)) not in (folder / "report.json").read_text()
    assert str(Path(world.store.root)) not in (folder / "report.html").read_text()


def test_the_reports_on_an_adapter_are_found_by_its_version(evaluated):
    world, ref = evaluated
    reports = [
        (folder, content["decision"]["outcome"])
        for folder, content in reports_on(world.store, "film@v1")
    ]
    assert reports == [(f"reports/film/{ref.version}", "refused")]
    assert not list(reports_on(world.store, "film@v2"))


def real_sets_of(world, split):
    return list(real_sets(open_dataset(world.store, "scenes"), split, world.config.layout))


def test_conditional_renders_keep_the_real_first_panel(evaluated):
    world, ref = evaluated
    report = read_report(world.store, ref)
    assert report.scores["untouched"].value == 1.0
    assert "identity" in report.paired["base"]
    names = [check.name for check in report.decision.checks]
    assert {"identity", "untouched"} <= set(names)


def test_a_second_evaluation_draws_and_measures_nothing(evaluated):
    world, ref = evaluated
    steps = []
    again = evaluate_adapter(world.store, "film", progress=lambda *step: steps.append(step))
    assert again == ref
    assert steps == []


def test_a_retry_draws_only_what_is_missing_and_ends_in_the_same_report(evaluated):
    world, ref = evaluated
    folder = report_folder(world, ref)
    before = (folder / "report.json").read_bytes(), (folder / "report.html").read_bytes()
    (folder / "manifest.json").unlink()
    renders = sorted((world.store.work_folder / "renders").glob("*.png"))
    renders[0].unlink()
    steps = []
    evaluate_adapter(world.store, "film", progress=lambda *step: steps.append(step))
    assert [step for step in steps if step[0].startswith("draw")][-1][1:] == (1, 1)
    assert ((folder / "report.json").read_bytes(), (folder / "report.html").read_bytes()) == before


def test_renders_of_the_base_serve_the_next_adapter(evaluated):
    world, _ = evaluated
    world.add_adapter("v2", scale=0.3)
    steps = []
    evaluate_adapter(world.store, "film@v2", progress=lambda *step: steps.append(step[0]))
    assert "draw film@v2" in steps
    assert "draw the base" not in steps


def test_other_parameters_are_another_report(evaluated):
    world, ref = evaluated
    evaluation = world.config.evaluate.model_copy(update={"bootstrap_seed": 7})
    other = evaluate_adapter(
        world.store, "film", world.config.model_copy(update={"evaluate": evaluation})
    )
    assert other.version != ref.version


def test_what_the_decision_says_moves_the_champion_only_when_asked(found_better):
    world, ref = found_better
    assert (ref.outcome, ref.champion) == ("promoted", "")
    assert champion_of(world.store, "film") == ""
    again = evaluate_adapter(world.store, "film", promote=True)
    assert again.version == ref.version
    assert again.champion == champion_of(world.store, "film") == "v2"


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


EVIL = (
    "[MOVIE-SHOTS] a story of \"><script>alert('x')</script><img src=x onerror=alert(1)>, "
    "[SCENE-1] {{ 7 * 7 }} a wide shot, [SCENE-2] a <b>close</b> shot & more, [SCENE-3] the end"
)


@pytest.fixture
def hostile(world):
    """A report on val captions with markup in them, as a foreign dataset may have."""
    world.publish(caption=EVIL)
    world.add_adapter("v1", scale=0.0)
    return world, evaluate_adapter(world.store, "film")


def test_markup_in_a_caption_stays_text(hostile):
    text = html_of(*hostile)
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert not any(tag == "b" for tag, _ in page.tags)
    assert any("<script>alert('x')</script>" in words for words in page.words)
    assert "49 a wide shot" not in text
    assert read_report(hostile[0].store, hostile[1]).prompts.count(EVIL) == 1


def html_of(world, ref):
    return (report_folder(world, ref) / "report.html").read_text()


def test_the_page_asks_nothing_of_any_network(evaluated):
    page = Page(html_of(*evaluated))
    for tag, attributes in page.tags:
        for name in ("src", "href", "data", "action", "srcset", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    assert "http" not in re.sub(
        r"data:image/jpeg;base64,[\w+/=]+", "", html_of(*evaluated)
    ).replace("http-equiv", "")
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy


def test_every_picture_has_its_words_and_every_button_its_name(evaluated):
    page = Page(html_of(*evaluated))
    pictures = [a for t, a in page.tags if t == "img" and "src" in a]
    assert len(pictures) > 8
    assert all(len(a["alt"]) > 10 for a in pictures)
    assert all(a["aria-label"] for t, a in page.tags if t == "button" and "class" in a)
    assert all(a.get("role") == "img" and a["aria-label"] for t, a in page.tags if t == "svg")
    assert ("html", {"lang": "en"}) in page.tags


def test_the_decision_comes_first(evaluated):
    text = html_of(*evaluated)
    assert text.index("Refused") < text.index("The rule, question") < text.index("<h2>Scores")


def test_losses_of_a_journal_that_a_kill_cut_short():
    journal = b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": null}\n{"step": 3, "loss": 0.4}\n{"st'
    assert read_losses(journal) == [(1, 0.5), (3, 0.4)]


def test_json_of_the_report_has_no_bare_numbers_that_json_does_not_know(evaluated):
    world, ref = evaluated
    text = (report_folder(world, ref) / "report.json").read_text()

    def refuse(word):
        raise AssertionError(word)

    json.loads(text, parse_constant=refuse)


# Who is measured against whom.


def test_the_champion_is_the_rival_when_there_is_one(world):
    for version in ("v1", "v2"):
        world.add_adapter(version, scale=0.1 * int(version[1]))
    first = make_evaluation_plan(world.store, "film@v2", None, against="", dataset="")
    assert first.baseline.name == "base"
    promote(world.store, "film", "v1", force=True)
    second = make_evaluation_plan(world.store, "film@v2", None, against="", dataset="")
    assert (second.baseline.name, second.baseline.label) == ("rival", "film@v1")
    assert [side.name for side in second.arms] == ["adapter", "base", "rival"]
    itself = make_evaluation_plan(world.store, "film@v1", None, against="", dataset="")
    assert itself.baseline.name == "base"
    forced = make_evaluation_plan(world.store, "film@v2", None, against="base", dataset="")
    assert forced.baseline.name == "base"


def test_nobody_is_measured_against_themselves(world):
    world.add_adapter("v1", scale=0.1)
    with pytest.raises(BadInput, match="the same adapter"):
        make_evaluation_plan(world.store, "film", None, against="film@v1", dataset="")


def test_promotion_needs_the_champion_as_rival(world):
    for version in ("v1", "v2"):
        world.add_adapter(version, scale=0.1 * int(version[1]))
    promote(world.store, "film", "v1", force=True)
    with pytest.raises(BadInput, match="leave out --against base"):
        evaluate_adapter(world.store, "film@v2", against="base", promote=True)
    undo(world.store, "film")
    with pytest.raises(BadInput, match="film has no champion.*leave out --against film@v1"):
        evaluate_adapter(world.store, "film@v2", against="film@v1", promote=True)


def test_a_file_from_elsewhere_cannot_become_champion(world):
    world.add_adapter("v1", scale=0.1)
    file = f"{world.store.root}/adapters/film/v1/film.safetensors"
    copy = Path(world.store.root) / "elsewhere.safetensors"
    copy.write_bytes(Path(file).read_bytes())
    with pytest.raises(BadInput, match="no run record: name the --preset"):
        evaluate_adapter(world.store, str(copy))
    with pytest.raises(BadInput, match="name a --dataset"):
        evaluate_adapter(world.store, str(copy), world.config)
    with pytest.raises(BadInput, match="only an adapter of the store"):
        evaluate_adapter(world.store, str(copy), world.config, dataset="scenes", promote=True)


def test_base_layout_and_captions_are_those_of_the_run(world):
    world.add_adapter("v1", scale=0.1)
    other = load_config("miniature", {"sample.steps": 5})
    plan = make_evaluation_plan(world.store, "film", other, against="", dataset="")
    assert plan.config.base == world.config.base
    assert plan.config.layout == world.config.layout
    assert plan.config.sample.steps == 5


# The prompt suite.


def prompts_of(world, **evaluate):
    sample = evaluate.pop("sample_prompts", ())
    config = world.config.model_copy(
        update={
            "evaluate": world.config.evaluate.model_copy(update=evaluate),
            "sample": world.config.sample.model_copy(update={"prompts": sample}),
        }
    )
    return choose(world, config)


def choose(world, config):
    dataset = open_dataset(world.store, "scenes")
    return choose_prompts(
        dataset, dataset, config.layout, config.caption, config.evaluate, config.sample.prompts
    )


def test_prompts_that_were_trained_on_are_withheld(world):
    trained = real_sets_of(world, "train")[0].caption
    fresh = trained.replace("story of", "day of")
    prompt_set = prompts_of(world, prompts=(trained, fresh))
    assert prompt_set.prompts == (fresh,)
    assert prompt_set.withheld == 1
    with pytest.raises(BadInput, match="name prompts with"):
        prompts_of(world, prompts=(trained,))


def test_prompts_of_the_user_are_linted_and_counted(world):
    with pytest.raises(BadInput, match=r"\[SCENE-1\] is missing"):
        prompts_of(world, prompts=("[MOVIE-SHOTS] nothing more",))
    assert len(prompts_of(world, max_prompts=2).prompts) == 2
    assert len(prompts_of(world).prompts) == 8


def test_memory_is_tested_on_what_the_adapter_was_trained_on(world):
    """Naming another dataset chooses the prompts; it does not hide the training sets."""
    world.add_adapter("v1", scale=0.1)
    caption = real_sets_of(world, "train")[0].caption
    world.publish("others", train=range(200, 203), val=[0, *range(300, 308)])
    ref = evaluate_adapter(world.store, "film", dataset="others")
    report = read_report(world.store, ref)
    assert caption not in report.prompts
    trained = {item.key for item in real_sets_of(world, "train")}
    assert {item.nearest for item in report.nearest} <= trained


def test_without_the_training_sets_memory_is_not_measured_and_nobody_promoted(world):
    world.add_adapter("v1", scale=0.1)
    world.publish("others", train=[200], val=range(300, 308))
    world.store.fs.rm(world.store.path("datasets/scenes"), recursive=True)
    ref = evaluate_adapter(world.store, "film", dataset="others")
    report = read_report(world.store, ref)
    assert report.nearest == ()
    assert any(r.startswith("Memorisation was not measured") for r in report.decision.reasons)


def test_the_suite_is_in_no_films_order_and_adding_a_set_shuffles_nothing(world):
    keys = [item.key for item in prompts_of(world).real]
    assert keys != sorted(keys)
    first = prompts_of(world, max_prompts=3).prompts
    assert first == prompts_of(world).prompts[:3]


def test_a_champion_of_another_base_draws_with_its_own(world, tiny_flux, tmp_path):
    world.add_adapter("v1", scale=0.1)
    world.add_adapter("v2", scale=0.2)
    run = Path(world.store.root) / "adapters/film/v1/run.json"
    other = shutil.copytree(tiny_flux, tmp_path / "other-flux")
    run.write_text(run.read_text().replace(str(tiny_flux), str(other)))
    plan = make_evaluation_plan(world.store, "film@v2", None, against="film@v1", dataset="")
    assert plan.baseline.base.model == str(other)
    prompt_set = prompts_of(world, max_prompts=1)
    renders = render_arm(world.store, plan, plan.baseline, prompt_set, lambda *_: None)
    assert renders.free[0][0].base.startswith("other-flux@")


def test_without_val_the_training_sets_show_what_is_normal(world, config):
    from iclora.evaluation.scores import find_limits

    trained = real_sets_of(world, "train")
    prompts = (trained[0].caption.replace("story of", "day of"),)
    world.store.fs.rm(world.store.path("datasets"), recursive=True)
    world.publish(val=())
    prompt_set = prompts_of(world, sample_prompts=prompts)
    assert prompt_set.prompts == prompts
    assert prompt_set.real_seen
    assert len(prompt_set.real) == 6
    training = load_training_embeddings(
        world.store,
        open_dataset(world.store, "scenes"),
        world.config.layout,
        load_clip(world.config.evaluate.clip),
    )
    limits = find_limits(None, training, world.config.evaluate, seen=True)
    assert limits.memorized is not None
    assert limits.spread is None


def test_the_gallery_is_measured_once(world):
    data = open_dataset(world.store, "scenes")
    clip = load_clip(world.config.evaluate.clip)
    first = load_training_embeddings(world.store, data, world.config.layout, clip)
    assert first.panels.shape[:2] == (6, 3)

    class Nobody:
        name, revision = clip.name, clip.revision

    again = load_training_embeddings(world.store, data, world.config.layout, Nobody())
    assert (again.panels == first.panels).all()
    assert again.keys == first.keys


def test_a_dataset_of_another_layout_is_refused(world):
    layout = world.config.layout.model_copy(
        update={"rows": 1, "columns": 2, "markers": ("[LEFT]", "[RIGHT]")}
    )
    config = world.config.model_copy(update={"layout": layout})
    with pytest.raises(BadInput, match="has 3x1 sets, but the adapter draws 1x2"):
        choose(world, config)


def test_a_missing_clip_stops_before_anything_is_drawn(world):
    world.add_adapter("v1", scale=0.1)
    evaluation = world.config.evaluate.model_copy(update={"clip": "nobody/has-this-clip"})
    config = world.config.model_copy(update={"evaluate": evaluation})
    with pytest.raises(MissingModel, match="nobody/has-this-clip"):
        evaluate_adapter(world.store, "film", config)
    assert not (world.store.work_folder / "renders").exists()
