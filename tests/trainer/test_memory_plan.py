"""The plan's memory is what a training takes: within a fifth, and never under by more than a tenth.

A sample of `make benchmark-memory`.
"""

from pathlib import Path

import pytest
from performance.benchmark_memory import Case, found, line


@pytest.mark.parametrize(
    ("shape", "kind"), [("llama", "lora"), ("qwen2", "qlora"), ("gemma", "none"), ("llama", "dora")]
)
def test_what_is_foreseen_is_what_was_measured(tmp_path: Path, shape: str, kind: str) -> None:
    measured = found(Case(shape, kind, tokens=256), tmp_path)
    assert -0.1 <= measured.off <= 0.2, line(measured)
