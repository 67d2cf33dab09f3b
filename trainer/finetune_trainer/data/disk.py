"""What has to outlive a loss of power is flushed to the disk before anything says that it is there."""

import os
from pathlib import Path


def fsync(path: Path) -> None:
    """Flush a file, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
