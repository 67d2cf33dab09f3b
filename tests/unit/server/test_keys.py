"""Keys as a directory has them, whatever its clock says of when they were changed."""

import json
import os
import time
from hashlib import sha256
from pathlib import Path

from finetune_server.keys import Keys


def write(directory: Path, name: str, key: str) -> None:
    entry = {"sha256": sha256(key.encode()).hexdigest(), "namespace": "kitchen"}
    (directory / name).write_text(json.dumps(entry))


def test_a_key_that_is_taken_back_in_the_moment_in_which_another_is_read_opens_nothing(tmp_path: Path) -> None:
    write(tmp_path, "first", "sk-first")
    write(tmp_path, "second", "sk-second")
    keys, moment = Keys(tmp_path), time.time() + 3600
    # As a file system says whose clock has not gone on, however long that takes here.
    os.utime(tmp_path, (moment, moment))
    assert keys.find("sk-second")
    (tmp_path / "second").unlink()
    os.utime(tmp_path, (moment, moment))
    assert keys.find("sk-second") is None
    assert keys.find("sk-first")


def test_what_has_not_changed_for_a_while_is_not_read_for_every_request(tmp_path: Path) -> None:
    write(tmp_path, "first", "sk-first")
    os.utime(tmp_path, (0, 0))
    keys = Keys(tmp_path)
    assert keys.find("sk-first")
    (tmp_path / "first").write_text("It is not read.")
    assert keys.find("sk-first")
