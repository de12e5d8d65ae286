"""What a person sees of a running training."""

from __future__ import annotations

from iclora.cli.train_progress import NOTES, facts, train_progress
from schemas.training import StepReport


def report(step=1, **changes):
    plain = {"steps": 100, "loss": 0.5, "tokens_per_second": 1234.4, "seconds_left": 75.2}
    return StepReport(step=step, **(plain | changes))


def test_every_fact_is_told_and_a_dash_stands_for_unknown():
    assert facts(report()) == "loss 0.5000  1234 tokens/s  HFU -  VRAM -  ETA 0:01:15"
    known = facts(report(utilisation=0.553, memory=23.25))
    assert "HFU 55%  VRAM 23.2 GiB" in known


def test_without_a_terminal_some_lines_are_enough(capsys):
    with train_progress() as watch:
        for step in range(1, 101):
            watch(report(step))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == NOTES + 1
    assert lines[0].startswith("step 1/100  loss 0.5000")
    assert lines[-1].startswith("step 100/100  ")


def test_a_terminal_shows_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    with train_progress() as watch:
        watch(report(40))
    drawn = capsys.readouterr().err
    assert "40/100" in drawn
    assert "1234 tokens/s" in drawn
