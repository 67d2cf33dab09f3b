"""Pairs of answers, and what they teach: the losses of direct preference optimisation, from log-probabilities.

Called by `preference_trainer`. The losses are TRL's, which has them within its DPOTrainer alone; a test holds the two
together. Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from finetune_trainer.contract.config import DpoConfig, DpoLoss
from finetune_trainer.training import flat
from finetune_trainer.training.flat import Inputs

# Rows that flattening leaves beside each other: a chosen answer, and the rejected one.
SIDES = ("", "other_")
TOGETHER = len(SIDES)
REFERENCE = "reference"


def flatten(rows: Sequence[dict[str, Any]]) -> Inputs:
    """Pairs as rows one behind the other. REFERENCE: what the base model makes of them, where that is known."""
    both = [{name: row[side + name] for name in ("input_ids", "labels")} for row in rows for side in SIDES]
    known = {REFERENCE: torch.tensor([row[REFERENCE] for row in rows])} if REFERENCE in rows[0] else {}
    return flat.flatten(both) | known


@dataclass(frozen=True)
class Pairs:
    """Log-probabilities of answers, in nats, each of shape (pairs, 2): chosen and rejected. `tokens`: their lengths.

    `usual`: tokens of a chosen answer, on average over the step.
    """

    policy: torch.Tensor
    reference: torch.Tensor
    tokens: torch.Tensor
    usual: float

    @property
    def ratios(self) -> torch.Tensor:
        """How much more likely answers have become, as logarithms."""
        return self.policy - self.reference


def loss(pairs: Pairs, dpo: DpoConfig) -> torch.Tensor:
    """The loss of each pair."""
    weights = dpo.loss_weights or (1.0,) * len(dpo.loss_type)
    found = [weight * LOSSES[type](pairs, dpo) for type, weight in zip(dpo.loss_type, weights, strict=True)]
    return torch.stack(found).sum(0)


def rewards(pairs: Pairs, dpo: DpoConfig) -> torch.Tensor:
    """The rewards that the policy stands for, of shape (pairs, 2) (Rafailov et al. 2023, arXiv:2305.18290)."""
    return dpo.beta * pairs.ratios.detach()


def _margin(pairs: Pairs, dpo: DpoConfig) -> torch.Tensor:
    chosen, rejected = pairs.ratios.unbind(1)
    return dpo.beta * (chosen - rejected)


def _sigmoid(pairs: Pairs, dpo: DpoConfig) -> torch.Tensor:
    return -logsigmoid(_margin(pairs, dpo))


def _mean_margin(pairs: Pairs) -> torch.Tensor:
    chosen, rejected = (pairs.ratios / pairs.tokens).unbind(1)
    return chosen - rejected


def _sigmoid_norm(pairs: Pairs, dpo: DpoConfig) -> torch.Tensor:
    return -logsigmoid(dpo.beta * _mean_margin(pairs))


def _hinge(pairs: Pairs, dpo: DpoConfig) -> torch.Tensor:
    return torch.relu(1 - _margin(pairs, dpo))


def _ipo(pairs: Pairs, dpo: DpoConfig) -> torch.Tensor:
    """Azar et al. 2023 (arXiv:2310.12036), of means over tokens, as its authors and TRL have it."""
    found: torch.Tensor = (_mean_margin(pairs) - 1 / (2 * dpo.beta)) ** 2
    return found


def _robust(pairs: Pairs, dpo: DpoConfig) -> torch.Tensor:
    """Chowdhury et al. 2024 (arXiv:2403.00409): a share of the pairs, `label_smoothing`, is the wrong way round."""
    margin, wrong = _margin(pairs, dpo), dpo.label_smoothing
    return (-(1 - wrong) * logsigmoid(margin) + wrong * logsigmoid(-margin)) / (1 - 2 * wrong)


def _nca_pair(pairs: Pairs, dpo: DpoConfig) -> torch.Tensor:
    """Chen et al. 2024 (arXiv:2402.05369)."""
    chosen, rejected = (dpo.beta * pairs.ratios).unbind(1)
    return -logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)


def _bco_pair(pairs: Pairs, dpo: DpoConfig) -> torch.Tensor:
    """Jung et al. 2024 (arXiv:2404.04656), without its shift."""
    chosen, rejected = (dpo.beta * pairs.ratios).unbind(1)
    return -logsigmoid(chosen) - logsigmoid(-rejected)


def _apo_zero(pairs: Pairs, dpo: DpoConfig) -> torch.Tensor:
    """D'Oosterlinck et al. 2024 (arXiv:2408.06266), for answers better than the model's own."""
    chosen, rejected = (dpo.beta * pairs.ratios).unbind(1)
    return 1 - torch.sigmoid(chosen) + torch.sigmoid(rejected)


def _apo_down(pairs: Pairs, dpo: DpoConfig) -> torch.Tensor:
    """The same paper's, for answers that are all worse than the model's own."""
    chosen, rejected = (dpo.beta * pairs.ratios).unbind(1)
    return torch.sigmoid(chosen) + 1 - torch.sigmoid(chosen - rejected)


def _sft(pairs: Pairs, dpo: DpoConfig) -> torch.Tensor:
    """The loss of supervised fine-tuning on chosen answers: the mean over a step's tokens, in shares of its pairs."""
    return -pairs.policy[:, 0] / pairs.usual


LOSSES: dict[DpoLoss, Callable[[Pairs, DpoConfig], torch.Tensor]] = {
    DpoLoss.SIGMOID: _sigmoid,
    DpoLoss.SIGMOID_NORM: _sigmoid_norm,
    DpoLoss.HINGE: _hinge,
    DpoLoss.IPO: _ipo,
    DpoLoss.ROBUST: _robust,
    DpoLoss.NCA_PAIR: _nca_pair,
    DpoLoss.BCO_PAIR: _bco_pair,
    DpoLoss.APO_ZERO: _apo_zero,
    DpoLoss.APO_DOWN: _apo_down,
    DpoLoss.SFT: _sft,
}
