"""A full disk is one sentence, whichever library was writing: with a limit that the system sets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from PIL import Image

from iclora.disk import is_disk_full

SCRIPT = """
import resource, shutil, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, safetensors.numpy
from iclora.errors import DiskFull
from iclora.ingest.pictures import store_picture
from iclora.store import Store, atomic_path

store, data = Store(sys.argv[1]), np.random.bytes(1 << 20)
source, picture = Path(sys.argv[2]), Path(sys.argv[3])
writers = {
    "plain": lambda file: file.write_bytes(data),
    "numpy": lambda file: np.save(file, np.frombuffer(data, np.uint8)),
    "copy": lambda file: shutil.copyfile(source, file),
    "parquet": lambda file: pq.write_table(pa.table({"a": [data]}), file),
    "weights": lambda file: safetensors.numpy.save_file({"a": np.zeros(1 << 20)}, file),
    "picture": lambda file: store_picture(picture, file.parent, "one", 10**9),
}
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
for name, write in writers.items():
    for place in (atomic_path(Path(store.root) / "a" / "file"), store.atomic_folder("stages/x/1")):
        try:
            with place as scratch:
                write(scratch / "file" if scratch.is_dir() else scratch)
        except DiskFull as error:
            print(name, error)
"""


def test_every_writer_names_the_disk_and_leaves_nothing_in_its_place(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1 << 20))
    picture = tmp_path / "noise.bmp"
    Image.frombytes("RGB", (400, 400), os.urandom(480_000)).save(picture)
    store = tmp_path / "store"
    command = [sys.executable, "-c", SCRIPT, str(store), str(source), str(picture)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    said = ended.stdout.splitlines()
    assert [line.split()[0] for line in said[::2]] == [line.split()[0] for line in said[1::2]]
    assert len(said) == 12
    assert all(f"no room to write in {store}" in line for line in said)
    assert not (store / "a" / "file").exists()
    assert not (store / "stages").exists()
    assert not list((store / ".work").iterdir())


@pytest.mark.parametrize("message", ["[Errno 13] denied", "broken file", "12 items requested"])
def test_other_errors_are_not_a_full_disk(message):
    assert not is_disk_full(OSError(message))
