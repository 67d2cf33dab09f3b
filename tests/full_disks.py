"""A directory on a disk that is too small for what a program writes there: a real one, in a namespace of its own."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

PAGE = 4096
# The least privilege that can mount.
SCRIPT = """
set -e
cp -r "$DISK" "$LEFT"
mount -t tmpfs -o size="$SIZE" tmpfs "$DISK"
cp -r "$LEFT"/. "$DISK"
"$@" && code=0 || code=$?
rm -r "$LEFT"
cp -r "$DISK" "$LEFT"
exit $code
"""


def on_a_small_disk(disk: Path, size: int, program: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """How a program ends while `disk`, with what is in it, is on one of so many bytes; what it left is there then."""
    left = disk.with_name(f"{disk.name}-left")
    ended = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", SCRIPT, "bash", *map(str, program)],
        env=os.environ | {"DISK": str(disk), "LEFT": str(left), "SIZE": str(size)},
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(disk)
    left.rename(disk)
    return ended


def taken(*paths: Path) -> int:
    """The bytes that such a disk needs for these files, and for those in these directories."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return sum(-(-file.stat().st_size // PAGE) * PAGE for file in files)
