"""Which kernel for rows of any length is taken: the first that this device computes right.

None of them runs on CPUs; `make gpu` runs them where they do.
"""

from typing import Any

import pytest
import torch
from finetune_trainer.training import varlen
from finetune_trainer.training.varlen import Kernel
from torch.utils.checkpoint import checkpoint

CPU, SIZE = torch.device("cpu"), 16


def chosen(*kernels: tuple[str, Kernel]) -> Kernel | None:
    return varlen.choose(kernels, CPU, torch.bfloat16, SIZE)


def absent(*_: Any) -> torch.Tensor:
    raise NotImplementedError("Could not run 'aten::_flash_attention_forward' with arguments from the 'CPU' backend.")


def blind_to_windows(*given: Any) -> torch.Tensor:
    return varlen.plain(*given[:-1], -1)


def over_all_rows(query: Any, key: Any, value: Any, ends: torch.Tensor, *rest: Any) -> torch.Tensor:
    return varlen.plain(query, key, value, ends[[0, -1]], *rest)


def scaled_by_itself(query: Any, key: Any, value: Any, ends: Any, longest: int, scale: float, seen: int) -> Any:
    return varlen.plain(query, key, value, ends, longest, 2 * scale, seen)


def without_gradients(*given: Any) -> torch.Tensor:
    return varlen.plain(*(each.detach() if isinstance(each, torch.Tensor) else each for each in given))


def test_the_first_that_is_right_is_taken() -> None:
    assert chosen(("one", varlen.plain), ("other", absent)) is varlen.plain


@pytest.mark.parametrize("wrong", [absent, blind_to_windows, over_all_rows, scaled_by_itself, without_gradients])
def test_what_does_not_run_or_is_wrong_is_not_taken(wrong: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert chosen(("torch's", wrong)) is None
    assert "torch's attention over rows of any length " in caplog.text
    assert chosen(("torch's", wrong), ("FlashAttention's", varlen.plain)) is varlen.plain


def test_torchs_own_is_there_and_does_not_run_on_cpus() -> None:
    found = varlen.torchs()
    assert found
    assert chosen(("torch's", found)) is None


def test_one_that_knows_no_windows_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch had it first."""

    def first(query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int) -> None:
        pass

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", first)
    assert varlen.torchs() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_none_is_looked_for_without_an_accelerator(dtype: torch.dtype) -> None:
    assert varlen.kernel(CPU, dtype, SIZE) is None


def test_one_may_be_tried_while_a_layer_computes_its_activations_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "SOURCES", {"plain": lambda: varlen.plain})
    # What `kernel` asks of a device.
    cuda = type("Cuda", (), {"type": "cuda"})()
    choose = varlen.choose
    monkeypatch.setattr(varlen, "choose", lambda kernels, _, dtype, size: choose(kernels, CPU, dtype, size))
    weights = torch.ones(3, requires_grad=True)

    def layer(values: torch.Tensor) -> torch.Tensor:
        assert varlen.kernel(cuda, torch.bfloat16, SIZE) is varlen.plain
        return (values * weights).exp()

    checkpoint(layer, torch.ones(3), use_reentrant=False).sum().backward()
    assert weights.grad is not None
