"""The plan's memory is what a training takes: within a fifth, and never under by more than a tenth.

A sample of `make benchmark-memory`.
"""

from pathlib import Path

import pytest
from finetune_trainer.contract.config import Method
from performance.benchmark_memory import Case, found, line

CASES = (
    Case("llama", "lora", 256),
    Case("qwen2", "qlora", 256),
    Case("gemma", "none", 256),
    Case("llama", "dora", 256),
    Case("qwen2", "none", 256, recompute=True, bf16=True, method=Method.REWARD),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.shape}-{case.kind}-{case.method.value}")
def test_what_is_foreseen_is_what_was_measured(tmp_path: Path, case: Case) -> None:
    measured = found(case, tmp_path)
    assert -0.1 <= measured.off <= 0.2, line(measured)
