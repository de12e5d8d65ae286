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
from iclora.locks import file_lock, is_locked
from tasks.subprocess_task import ChildCommand, ChildTimeout, run_subprocess

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
        return run_subprocess(ChildCommand(command, tmp_path / "jobs" / "child.log", **options))

    return run


def test_the_answer_is_stdout_and_the_log_is_stderr(run, caplog):
    caplog.set_level(logging.INFO, "iclora.subprocess_task")
    code = "import sys; print('{}', end=''); print('step 1', file=sys.stderr)"
    assert run(python(code)) == "{}"
    assert [record.getMessage() for record in caplog.records] == ["step 1"]


def test_lines_keep_their_level_and_a_bar_leaves_its_last_state(run, caplog):
    caplog.set_level(logging.INFO, "iclora.subprocess_task")
    code = "import sys; sys.stderr.write('WARNING: odd\\nERROR: bad\\n10%\\r50%\\r100%\\nend')"
    run(python(code))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "odd"),
        ("ERROR", "bad"),
        ("INFO", "100%"),
        ("INFO", "end"),
    ]


def test_what_the_library_warns_of_arrives_once(run, caplog, tmp_path):
    """Although libraries give the root logger a handler of their own."""
    caplog.set_level(logging.INFO, "iclora.subprocess_task")
    code = (
        "import logging, sys\n"
        "from iclora.cli import app, main\n"
        "def command():\n"
        "    logging.getLogger('iclora.x').warning('low on light')\n"
        "app.COMMANDS = (command, command)\n"
        "logging.basicConfig()\n"
        "sys.argv = ['iclora', 'command']\n"
        "main()\n"
    )
    run(python(code))
    assert [record.getMessage() for record in caplog.records] == ["low on light"]


def test_much_output_does_not_block(run):
    code = "import sys\nfor i in range(20000): print(i); print(i, file=sys.stderr)"
    assert run(python(code)).endswith("19999\n")


def test_a_failure_holds_the_last_lines(run):
    with pytest.raises(IcloraError, match=r"code 3: .*no such dataset"):
        run(python("import sys; print('no such dataset', file=sys.stderr); sys.exit(3)"))


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


def test_a_child_whose_parent_is_killed_goes_on_and_keeps_the_lock(tmp_path):
    lock, code = tmp_path / "device.lock", (
        "import sys; from pathlib import Path\n"
        "from iclora.locks import file_lock\n"
        "from tasks.subprocess_task import ChildCommand, run_subprocess\n"
        "folder = Path(sys.argv[1])\n"
        "command, log = [sys.executable, *sys.argv[2:]], folder / 'child.log'\n"
        "with file_lock(folder / 'device.lock', 'a test') as lock:\n"
        "    run_subprocess(ChildCommand(command, log, [lock]))\n"
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
        "from tasks.subprocess_task import ChildCommand, run_subprocess\n"
        "log = Path(sys.argv[1], 'jobs/child.log')\n"
        "run_subprocess(ChildCommand([sys.executable, *sys.argv[2:]], log))\n"
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
