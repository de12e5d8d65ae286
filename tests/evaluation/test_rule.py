"""Who sets the exam: the rule of a name and no adapter of it; and what the commands make of it."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout

import pytest

from iclora.cli.app import run
from iclora.errors import BadConfig, BadInput, MissingModel, UserError
from iclora.evaluate import evaluate_adapter, evaluation_config, read_report
from iclora.evaluation.plan import make_evaluation_plan
from iclora.evaluation.promotion import champion_of, promote, undo
from iclora.evaluation.rule import rule_in
from schemas.evaluation import HistoryEntry, PromotionRule


def changed(config, section="evaluate", **settings):
    values = getattr(config, section).model_copy(update=settings)
    return config.model_copy(update={section: values})


def pinned(world):
    return PromotionRule.from_text(world.store.read("adapters/film/RULE.json"))


def plan_of(world, adapter, config=None):
    return make_evaluation_plan(world.store, adapter, config, against="", dataset="")


def test_the_first_promotion_pins_the_settings_that_it_was_decided_by(found_better):
    world, ref = found_better
    evaluate_adapter(world.store, "film", promote=True)
    assert pinned(world) == rule_in(world.config)
    (entry,) = map(
        HistoryEntry.from_text, world.store.read("adapters/film/HISTORY.jsonl").splitlines()
    )
    assert (entry.change, entry.champion, entry.report) == ("promoted", "v2", ref.version)
    assert entry.rule == read_report(world.store, ref).rule


def test_a_challenger_is_measured_by_the_rule_and_not_by_its_own_settings(found_better):
    world, _ = found_better
    promote(world.store, "film", "v2")
    lax = world.config.evaluate.model_copy(update={"seeds": (7, 8), "max_prompts": 9})
    world.add_adapter("v3", scale=1.0, evaluate=lax)
    plan = plan_of(world, "film@v3")
    assert plan.config.evaluate == world.config.evaluate
    assert plan.overrides == ()
    assert evaluation_config(world.store, "film@v3").evaluate == world.config.evaluate
    undo(world.store, "film")
    assert plan_of(world, "film@v3").config.evaluate == world.config.evaluate


def test_before_a_rule_is_pinned_it_is_the_champions_else_the_adapters_own(world):
    lax = world.config.evaluate.model_copy(update={"seeds": (7, 8)})
    world.add_adapter("v1", scale=0.1)
    world.add_adapter("v2", scale=0.2, evaluate=lax)
    assert plan_of(world, "film@v2").config.evaluate == lax
    world.store.write("adapters/film/CHAMPION", b"v1\n")
    assert plan_of(world, "film@v2").config.evaluate == world.config.evaluate


@pytest.mark.parametrize(
    ("section", "settings", "overrides"),
    [
        ("evaluate", {"max_memorized": 0.5}, ("evaluate.max_memorized",)),
        ("sample", {"steps": 3, "true_cfg": 2.0}, ("sample.steps", "sample.true_cfg")),
        ("evaluate", {"sheet_side": 100, "attribute_reader": ""}, ()),
        ("sample", {"batch": 1, "count": 3, "seed": 9}, ()),
    ],
)
def test_what_cannot_change_a_decision_is_free(world, section, settings, overrides):
    world.add_adapter("v1", scale=0.1)
    plan = plan_of(world, "film", changed(world.config, section, **settings))
    assert plan.overrides == overrides


def test_other_settings_are_measured_and_told_and_promote_nobody(found_better):
    world, ref = found_better
    other = changed(world.config, bootstrap_resamples=150)
    with pytest.raises(
        BadConfig,
        match=r"by the rule of film, .*: evaluate\.bootstrap_resamples; leave out .* --repin",
    ):
        evaluate_adapter(world.store, "film", other, promote=True)
    other_ref = evaluate_adapter(world.store, "film", other)
    assert other_ref.version != ref.version
    report = read_report(world.store, other_ref)
    assert (report.decision.outcome, report.overrides) == (
        "promoted",
        ("evaluate.bootstrap_resamples",),
    )
    page = world.store.read(f"reports/film/{other_ref.version}/report.html").decode()
    assert (
        "does not have (evaluate.bootstrap_resamples): whatever it says, this report promotes"
        in page
    )
    own = world.store.read(f"reports/film/{ref.version}/report.html").decode()
    assert "Not by the rule" not in own
    world.store.fs.rm(world.store.path(f"reports/film/{ref.version}"), recursive=True)
    with pytest.raises(BadInput, match=r"not its rule's \(evaluate\.bootstrap_resamples\)"):
        promote(world.store, "film", "v2")
    assert champion_of(world.store, "film") == ""


def test_a_champion_at_half_its_strength_is_not_the_champion(world):
    world.add_adapter("v1", scale=0.1)
    world.add_adapter("v2", scale=0.2)
    promote(world.store, "film", "v1", force=True)
    with pytest.raises(BadConfig, match=r"film@v1 at 0\.5"):
        evaluate_adapter(world.store, "film@v2", against="film@v1:0.5", promote=True)


def test_repin_changes_the_rule_on_purpose(found_better):
    world, ref = found_better
    promote(world.store, "film", "v1", force=True)
    other = changed(world.config, bootstrap_resamples=150)
    again = evaluate_adapter(world.store, "film", other, repin=True)
    assert pinned(world) == rule_in(other)
    assert read_report(world.store, again).overrides == ()
    last = world.store.read("adapters/film/HISTORY.jsonl").splitlines()[-1]
    assert HistoryEntry.from_text(last).change == "rule"
    assert plan_of(world, "film@v2").config.evaluate.bootstrap_resamples == 150
    undo(world.store, "film")
    with pytest.raises(BadInput, match="by another rule than it has now"):
        promote(world.store, "film", "v2", report=ref.version)


def test_a_rule_by_which_nothing_can_be_measured_is_not_pinned(found_better):
    world, _ = found_better
    promote(world.store, "film", "v2")
    with pytest.raises(MissingModel):
        evaluate_adapter(
            world.store, "film", changed(world.config, clip="nobody/has-this"), repin=True
        )
    assert pinned(world) == rule_in(world.config)


def test_a_file_from_elsewhere_has_no_rule(world, tmp_path):
    world.add_adapter("v1", scale=0.1)
    file = tmp_path / "elsewhere.safetensors"
    file.write_bytes(world.store.read("adapters/film/v1/film.safetensors"))
    with pytest.raises(BadInput, match="only adapters of the store have a rule"):
        evaluate_adapter(world.store, str(file), world.config, dataset="scenes", repin=True)


# A champion that was named in the meantime.


def test_a_champion_named_while_another_was_measured_is_not_overthrown(found_better):
    world, ref = found_better
    world.store.fs.rm(world.store.path(f"reports/film/{ref.version}"), recursive=True)

    def name_another(what, done, _of):
        if (what, done) == ("measure", 0):
            promote(world.store, "film", "v1", force=True)

    with pytest.raises(BadInput, match="film has the champion film@v1 now: evaluate it against"):
        evaluate_adapter(world.store, "film@v2", promote=True, progress=name_another)
    assert champion_of(world.store, "film") == "v1"
    assert read_report(world.store, ref).decision.outcome == "promoted", "the work is kept"


def test_an_approval_that_comes_too_late_is_refused(found_better):
    from tasks import evaluation

    world, _ = found_better
    promote(world.store, "film", "v1", force=True)
    with pytest.raises(UserError, match="film has the champion film@v1 now"):
        evaluation.promote.fn("film@v2", world.store.root)
    assert champion_of(world.store, "film") == "v1"
    undo(world.store, "film")
    evaluation.promote.fn("film@v2", world.store.root)
    assert champion_of(world.store, "film") == "v2"


# The commands.


def iclora(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run([str(word) for word in arguments])
    return status, out.getvalue(), err.getvalue()


def test_promote_asks_the_report(found_better):
    world, _ = found_better
    status, _, err = iclora("promote", "film@v1", "--store", world.store.root)
    assert status == 2
    assert err.splitlines()[-1].startswith("iclora: film@v1 was never evaluated: evaluate it")
    assert champion_of(world.store, "film") == ""
    status, out, _ = iclora("promote", "film", "--store", world.store.root, "--json")
    assert (status, json.loads(out)) == (0, {"adapter": "film", "champion": "v2"})


def test_promote_after_a_refusal_tells_the_reasons_and_can_be_forced_and_undone(evaluated):
    world, ref = evaluated
    reasons = " ".join(read_report(world.store, ref).decision.reasons)
    status, _, err = iclora("promote", "film", "--store", world.store.root)
    assert status == 2
    assert err == (
        f"iclora: film@v1 was refused in comparison with the base: {reasons} "
        "(--force promotes it all the same)\n"
    )
    assert champion_of(world.store, "film") == ""
    status, out, err = iclora("promote", "film", "--force", "--store", world.store.root)
    assert (status, out) == (0, "the champion of film is v1\n")
    assert "promoted by force: film@v1 was refused" in err
    entry = HistoryEntry.from_text(world.store.read("adapters/film/HISTORY.jsonl"))
    assert (entry.change, entry.report) == ("forced", ref.version)
    assert iclora("promote", "film", "--undo", "--store", world.store.root)[0] == 0
    assert champion_of(world.store, "film") == ""


def test_evaluate_with_other_settings_promotes_nobody_unless_they_become_the_rule(found_better):
    world, _ = found_better
    arguments = (
        "evaluate",
        "film",
        "--store",
        world.store.root,
        "--set",
        "evaluate.bootstrap_resamples=150",
    )
    status, _, err = iclora(*arguments, "--promote")
    assert status == 2
    assert err.splitlines()[-1].startswith("iclora: --promote decides by the rule of film")
    status, out, err = iclora(*arguments, "--json")
    assert (status, json.loads(out)["overrides"]) == (0, ["evaluate.bootstrap_resamples"])
    assert "promotes nobody: evaluate.bootstrap_resamples" in err
    status, out, err = iclora(*arguments, "--promote", "--repin", "--json")
    assert (status, json.loads(out)["overrides"]) == (0, [])
    assert "the rule of film is pinned now" in err
    assert champion_of(world.store, "film") == "v2"
    assert pinned(world).evaluate.bootstrap_resamples == 150
    same = iclora(*arguments, "--promote", "--json")
    assert json.loads(same[1])["overrides"] == [], "what the rule says is no override"
    status, out, _ = iclora(*arguments[:4], "--json")
    assert (status, json.loads(out)["overrides"]) == (0, [])
