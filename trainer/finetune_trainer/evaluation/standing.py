"""How the tuned model stands against the best baseline: what each sentence of the report is made from.

Called by `decision`; headline, advice and costs read it, so that none of them can contradict another. Pure.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from finetune_trainer.contract import gate as gates
from finetune_trainer.contract.config import GateConfig, Metric
from finetune_trainer.contract.results import Comparison, EvaluateResult, Score
from finetune_trainer.evaluation import cut, exact
from finetune_trainer.evaluation.inspection import Inspection

# How sure a lead has to be without a gate, or with one that asks for less.
SURE = "0.95"


class Lead(StrEnum):
    """Where the tuned model is, by the metric that decides."""

    AHEAD = "ahead"
    UNCLEAR = "unclear"
    BEHIND = "behind"
    ALONE = "alone"


class Recommendation(StrEnum):
    """Whether to ship the tuned model."""

    SHIP = "ship"
    UNSURE = "unsure"
    KEEP = "keep"


@dataclass(frozen=True)
class BestBaseline:
    """The best baseline: its score, and by how much the tuned model's is higher. `remote`: see `Contender`."""

    name: str
    score: float
    compared: Comparison
    remote: bool = False


@dataclass(frozen=True)
class Standing:
    """The metric that decides, the tuned score, the best baseline (None: compared with nothing) and the gate's word.

    `cut`: why all of that hangs on answers that were cut; None where it does not.
    """

    metric: Metric
    rows: int
    tuned: Score
    best: BestBaseline | None
    gate: GateConfig | None
    passed: bool
    cut: str | None = None

    @property
    def lead(self) -> Lead:
        """Whether the tuned model is better, and whether that is sure."""
        if self.best is None:
            return Lead.ALONE
        if self.best.compared.difference <= 0:
            return Lead.BEHIND
        return Lead.AHEAD if self.best.compared.bounds[SURE] > 0 else Lead.UNCLEAR

    @property
    def recommendation(self) -> Recommendation:
        """Whether to ship. Who is not ahead and passes a gate all the same is a person's to decide."""
        return Recommendation.UNSURE if self.cut else self._by_score

    @property
    def _by_score(self) -> Recommendation:
        if not self.passed:
            return Recommendation.KEEP
        if self.lead == Lead.AHEAD or (self.lead == Lead.ALONE and self.gate):
            return Recommendation.SHIP
        return Recommendation.KEEP if self.lead == Lead.BEHIND and not self._lenient else Recommendation.UNSURE

    @property
    def _lenient(self) -> bool:
        """The gate lets a model through that is a little worse: it may be the cheaper one."""
        return self.gate is not None and self.gate.margin < 0


def standing(result: EvaluateResult, gate: GateConfig | None, passed: bool) -> Standing:
    """Where the tuned model stands; `passed`: the gate's word."""
    metric = gates.deciding(result, gate)
    name = gates.best_baseline(result, metric)
    best = None
    if name is not None:
        found = result.baselines[name]
        best = BestBaseline(name, found.scores[metric].score, found.comparisons[metric], found.remote)
    stands = Standing(metric, result.rows, result.tuned.scores[metric], best, gate, passed)
    return replace(stands, cut=cut.hanging(result, metric, stands.recommendation == Recommendation.SHIP))


def evidence(stands: Standing, inspection: Inspection) -> str:
    """On how many rows the two differ, and the smallest difference that these rows could have shown."""
    if stands.best is None:
        return ""
    rows, best = inspection.differences.get(stands.best.name), stands.best
    smallest = best.compared.difference - best.compared.bounds[SURE]
    told = ""
    if rows:
        told = f"Against {best.name} it has won {rows.wins} rows and lost {rows.losses}"
        if inspection.binary:
            told += f" (McNemar's exact test: p = {exact.p_value(rows.wins, rows.losses):.2g})"
            lead = exact.smallest_lead(rows.wins + rows.losses, float(SURE))
            smallest = max(smallest, lead / stands.rows)
        told += ". "
    return f"{told}On these {stands.rows} rows a difference of less than {smallest:.3f} could not be told from none."
