"""A child process is heard, ends when it must, and is not lost when its parent is."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from iclora.errors import IcloraError, UserError
from iclora.locks import file_lock
from iclora.log_lines import StepProgress
from tasks.subprocess_task import ChildTimeout, run_subprocess

ROOT = Path(__file__).parents[2]

SAVES_FIRST = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(0.3)
    pathlib.Path(sys.argv[1], "saved").write_text("saved")
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
pathlib.Path(sys.argv[1], "ready").write_text("ready")
while True:
    time.sleep(0.05)
"""
BEHIND_A_LAUNCHER = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"


def python(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def run(tmp_path):
    def run(command, **options):
        return run_subprocess(command, tmp_path / "jobs" / "child.log", **options)

    return run


def test_the_answer_is_stdout_and_the_log_is_stderr(run, caplog):
    caplog.set_level(logging.INFO, "iclora.subprocess_task")
    code = "import sys; print('{}', end=''); print('step 1', file=sys.stderr)"
    assert run(python(code)) == "{}"
    assert [record.getMessage() for record in caplog.records] == ["step 1"]


def test_other_programs_lines_are_relayed_as_they_are(run, caplog):
    caplog.set_level(logging.INFO, "iclora.subprocess_task")
    lines = [
        "WARNING: odd",
        '{"level": "NONE", "message": "m"}',
        '{"progress": 3}',
        '"progress"',
        "7",
    ]
    text = "\n".join([*lines, "10%\r50%\r100%", "end"])
    run(python(f"import sys; sys.stderr.write({text!r})"))
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert [record.getMessage() for record in caplog.records] == [*lines, "100%", "end"]


COMMAND = """
import logging, sys
from iclora.cli import app, main
from iclora.cli.console import note_progress, print_note
def command():
    log = logging.getLogger("iclora.x")
    {body}
app.COMMANDS = (command, command)
logging.basicConfig()  # libraries give the root logger a handler of their own
sys.argv = ["iclora", "command"]
main()
"""


def test_a_commands_records_arrive_once_and_keep_their_level(run, caplog):
    caplog.set_level(logging.INFO, "iclora.subprocess_task")
    run(python(COMMAND.format(body="log.warning('low on %s', 'light'); log.info('a\\nb')")))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "low on light"),
        ("INFO", r"a\nb"),
    ]


@pytest.mark.parametrize("step", ["draw base", "paint the bare model, 3 of 4"])
@pytest.mark.parametrize("words", ["draw base: 7 of 8", "measure: 1 of 1", "WARNING: measure"])
def test_progress_is_what_is_reported_whatever_the_words_of_the_log(run, caplog, step, words):
    caplog.set_level(logging.INFO, "iclora.subprocess_task")
    body = f"log.info({words!r}); print_note({words!r}); note_progress({step!r}, 3, 8)"
    reported = []
    run(python(COMMAND.format(body=body)), on_progress=reported.append)
    assert reported == [StepProgress(step, 3, 8)]
    assert [record.getMessage() for record in caplog.records] == [words, words, f"{step}: 3 of 8"]


def test_much_output_does_not_block(run):
    code = "import sys\nfor i in range(20000): print(i); print(i, file=sys.stderr)"
    assert run(python(code)).endswith("19999\n")


def test_a_failure_holds_the_last_lines(run):
    """The texts of records, and other programs' lines."""
    body = "log.error('no such dataset'); print('trace', file=sys.stderr); sys.exit(3)"
    with pytest.raises(IcloraError, match=r"code 3: no such dataset \| trace$"):
        run(python(COMMAND.format(body=body)))


@pytest.mark.parametrize("launcher", [[], python(BEHIND_A_LAUNCHER)])
def test_a_persons_mistake_is_its_sentence(run, launcher, tmp_path):
    command = [sys.executable, "-m", "iclora", "verify", "none", "--store", str(tmp_path), "--json"]
    with pytest.raises(UserError, match="no dataset 'none'"):
        run([*launcher, *command])


def test_a_mistake_that_several_processes_tell_is_one(run):
    code = (
        "import json, sys\n"
        "for rank in range(3):\n"
        "    print(f'rank {rank} starts')\n"
        "    print(json.dumps({'error': 'no such base', 'status': 2}))\n"
        "sys.exit(1)"
    )
    with pytest.raises(UserError, match=r"^no such base$"):
        run(python(code))


def test_a_timeout_really_stops_the_child_after_it_saved(run, tmp_path):
    with pytest.raises(ChildTimeout, match="stopped after 1 s"):
        run(python(SAVES_FIRST, tmp_path), seconds=1.0)
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize("launcher", [[], python(BEHIND_A_LAUNCHER)])
def test_an_interrupted_run_lets_the_child_save_first(run, tmp_path, launcher):
    caught = []

    def work():
        try:
            run([*launcher, *python(SAVES_FIRST, tmp_path)])
        except KeyboardInterrupt:
            caught.append("interrupted")

    thread = threading.Thread(target=work)
    thread.start()
    until((tmp_path / "ready").exists)
    interrupt = ctypes.py_object(KeyboardInterrupt)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), interrupt)
    thread.join(20)
    assert caught == ["interrupted"]
    assert (tmp_path / "saved").exists()


def test_a_child_whose_parent_is_killed_goes_on_and_keeps_the_lock(tmp_path, is_locked):
    lock, code = tmp_path / "device.lock", (
        "import sys; from pathlib import Path\n"
        "from iclora.locks import file_lock\n"
        "from tasks.subprocess_task import run_subprocess\n"
        "folder = Path(sys.argv[1])\n"
        "command, log = [sys.executable, *sys.argv[2:]], folder / 'child.log'\n"
        "with file_lock(folder / 'device.lock', 'a test') as lock:\n"
        "    run_subprocess(command, log, locks=[lock])\n"
    )  # fmt: skip
    parent = subprocess.Popen(
        [*python(code, tmp_path), *python(SAVES_FIRST, tmp_path)[1:]], cwd=ROOT
    )
    until((tmp_path / "ready").exists)
    parent.kill()
    parent.wait()
    assert is_locked(lock)
    (child,) = _mentioning(tmp_path)
    os.kill(child, signal.SIGTERM)
    with file_lock(lock, "the next run"):
        assert (tmp_path / "saved").exists()


def test_the_same_work_waits_for_a_child_that_outlived_its_parent(run, tmp_path, caplog):
    caplog.set_level(logging.INFO, "iclora.subprocess_task")
    code = (
        "import sys; from pathlib import Path\n"
        "from tasks.subprocess_task import run_subprocess\n"
        "log = Path(sys.argv[1], 'jobs/child.log')\n"
        "run_subprocess([sys.executable, *sys.argv[2:]], log)\n"
    )
    parent = subprocess.Popen(
        [*python(code, tmp_path), *python(SAVES_FIRST, tmp_path)[1:]], cwd=ROOT
    )
    until((tmp_path / "ready").exists)
    parent.kill()
    parent.wait()
    looks = "import pathlib, sys; print(pathlib.Path(sys.argv[1], 'saved').exists(), end='')"
    answers = []
    second = threading.Thread(target=lambda: answers.append(run(python(looks, tmp_path))))
    second.start()
    until(lambda: "child waits for process" in caplog.text)
    (child,) = _mentioning(tmp_path)
    os.kill(child, signal.SIGTERM)
    second.join(30)
    assert answers == ["True"]


def _mentioning(folder):
    """The processes whose command names a folder."""
    found = Path("/proc").glob("[0-9]*")
    return [int(one.name) for one in found if str(folder).encode() in _command(one)]


def _command(folder):
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""
