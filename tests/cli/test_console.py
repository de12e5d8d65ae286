"""What is printed is escaped and has no secrets, whoever says it."""

from __future__ import annotations

import json
import logging

import pytest

from iclora.cli.app import run
from iclora.cli.console import answer, log_to_stderr, note_progress, print_note, printable
from iclora.log_lines import LOG_FORMAT

EVIL = "\x1b[2J\x9b31m\x07\r\x7f\u202e\u2066\u2028\ud800"


@pytest.mark.parametrize("text", ["a ä 中 é", "👩\u200d💻", "नि\u200dक", "a\u00a0b", "…"])
def test_what_people_write_is_printed_as_it_is(text, capsys):
    assert printable(text) == text
    answer({"text": text}, text, as_json=False)
    assert capsys.readouterr().out == f"{text}\n"
    answer({"text": text}, text, as_json=True)
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("character", EVIL, ids=ascii)
def test_what_a_terminal_obeys_is_escaped_everywhere(character, capsys, monkeypatch):
    # pytest-xdist cannot send half a surrogate pair that pytest has captured.
    monkeypatch.setattr(logging.getLogger("iclora"), "propagate", False)
    said = f"a{character}b"
    answer({}, said, as_json=False)
    answer({said: said}, "", as_json=True)
    print_note(said)
    log_to_stderr()
    logging.getLogger("iclora.test").warning("%s", said)
    told = capsys.readouterr()
    first, second = told.out.split("\n")[:2]
    assert first == f"a{character.encode('unicode_escape').decode()}b"
    assert json.loads(second) == {said: said}
    for line in (first, second, *told.err.split("\n")):
        assert line.isprintable()
    assert len(told.err.split("\n")) == 3


def test_one_message_is_one_line(capsys):
    print_note("a\nforged: b")
    log_to_stderr()
    logging.getLogger("iclora.test").warning("a\nERROR: %s", "b")
    assert capsys.readouterr().err == "a\\nforged: b\nWARNING: a\\nERROR: b\n"


def test_a_traceback_in_the_log_keeps_its_lines(capsys):
    log_to_stderr()
    try:
        json.loads("")
    except ValueError:
        logging.getLogger("iclora.test").exception("gone")
    assert len(capsys.readouterr().err.split("\n")) > 3


def test_a_json_line_is_one_record_with_its_traceback_or_progress(capsys, monkeypatch):
    monkeypatch.setenv(LOG_FORMAT, "json")
    monkeypatch.setenv("SOMEBODYS_TOKEN", "Zx9-s3cr3t")
    log_to_stderr()
    try:
        json.loads("")
    except ValueError:
        logging.getLogger("iclora.test").exception("%s\x1b", "Zx9-s3cr3t")
    print_note("a note of Zx9-s3cr3t\n")
    note_progress("draw base", 3, 8)
    first, second, third = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["logger"]) == ("ERROR", "iclora.test")
    assert first["message"].startswith("***\\x1b\nTraceback")
    assert second == {"level": "INFO", "logger": "iclora", "message": "a note of ***\\n"}
    assert third == {"progress": {"step": "draw base", "done": 3, "total": 8}}


def test_secrets_are_in_nothing_that_is_printed(capsys, monkeypatch):
    monkeypatch.setenv("SOMEBODYS_TOKEN", "Zx9-s3cr3t")
    said = "https://me:hunter2@host/a?sig=Zx9-s3cr3t"
    answer({}, said, as_json=False)
    print_note(said)
    log_to_stderr()
    logging.getLogger("iclora.test").warning("%s", said)
    told = capsys.readouterr()
    assert (
        told.out + told.err == "https://***@host/a?***\n" * 2 + "WARNING: https://***@host/a?***\n"
    )


def test_json_is_the_same_value_but_for_passwords(capsys):
    value = {
        "url": "s3://me:hunter2@bucket/a?x=1",
        "licence": "https://host/photo?id=5",
        "n": [1.5],
    }
    answer(value, "", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told == value | {"url": "s3://***@bucket/a?x=1"}


def test_explain_tells_no_secret_and_obeys_no_key(tmp_path, capsys):
    path = tmp_path / "job.json"
    process = {"type": "sd_trainer", "train": {"\x1b[2J": 1, "optimizer": "hunter2"}}
    path.write_text(json.dumps({"config": {"process": [process]}}))
    assert run(["explain", str(path)]) == 0
    assert run(["explain", str(path), "--json"]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "hunter2" not in told
    assert "config.process.0.train.(key 1)" in told


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_mistyped_option_is_escaped_too(capsys, as_json):
    assert run(["verify", "--no\x1b[2J", "https://me:hunter2@host/", *as_json]) == 2
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
    assert "hunter2" not in told.out + told.err


def test_doctor_tells_no_secret_of_an_address(capsys):
    captioner = "caption.captioner"
    asked = [
        "--set",
        f"{captioner}.kind=server",
        "--set",
        f"{captioner}.url=http://me:hunter2@h/?k=s3cr3t",
    ]
    store = ["--store", "nope://me:hunter2@host/?sig=s3cr3t"]
    for more in ([], ["--json"]):
        run(["doctor", *asked, *store, *more])
        told = capsys.readouterr()
        assert "captioner's server http://***@h/?***" in told.out
        assert "hunter2" not in told.out + told.err
        assert "s3cr3t" not in told.out + told.err
