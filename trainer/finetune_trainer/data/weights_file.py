"""Where a safetensors file has each tensor's bytes, for `base` and `training.merging`: the library's own reader hands
numpy no bfloat16.
"""

import json
from pathlib import Path
from typing import Any


class WeightsFile:
    """The format: eight bytes with the length of the header, the header in JSON, the tensors.

    `places`: by name, what the header says of each tensor: dtype, shape, and data_offsets behind the header.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(length))
        self._begin = 8 + length
        self.places = {name: place for name, place in header.items() if name != "__metadata__"}

    def begin(self, name: str) -> int:
        """The tensor's first byte in the file."""
        return self._begin + int(self.places[name]["data_offsets"][0])

    def end(self, name: str) -> int:
        """The byte behind its last one."""
        return self._begin + int(self.places[name]["data_offsets"][1])
