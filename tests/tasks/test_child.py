"""A child process is heard, and never outlives the run that started it."""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
import time

import pytest

from iclora.errors import IcloraError
from tasks.child import run_child


def python(code):
    return [sys.executable, "-c", code]


def test_the_answer_is_stdout_and_the_log_is_stderr(caplog):
    caplog.set_level(logging.INFO, "iclora.child")
    code = "import sys; print('{}', end=''); print('step 1', file=sys.stderr)"
    assert run_child(python(code)) == "{}"
    assert "step 1" in caplog.text


def test_much_output_on_both_pipes_does_not_block():
    code = "import sys\nfor i in range(20000): print(i); print(i, file=sys.stderr)"
    assert run_child(python(code)).endswith("19999\n")


def test_a_failure_holds_the_childs_last_lines():
    with pytest.raises(IcloraError, match=r"code 3: .*no such dataset"):
        run_child(python("import sys; print('no such dataset', file=sys.stderr); sys.exit(3)"))


def test_an_interrupted_run_lets_the_child_save_first(tmp_path):
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    code = f"""
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path({str(saved)!r}).write_text("saved")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
pathlib.Path({str(ready)!r}).write_text("ready")
while True:
    print("working", flush=True)
    time.sleep(0.05)
"""
    caught = []

    def run():
        try:
            run_child(python(code))
        except KeyboardInterrupt:
            caught.append("interrupted")

    thread = threading.Thread(target=run)
    thread.start()
    while not ready.exists():
        time.sleep(0.05)
    interrupt = ctypes.py_object(KeyboardInterrupt)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), interrupt)
    thread.join(20)
    assert caught == ["interrupted"]
    assert saved.read_text() == "saved"
