"""The manifest's `training.budget`."""

from typing import Annotated

from pydantic import Field

from finetune_operator.api.rules import ApiModel, Rule

Hours = Annotated[float, Field(gt=0, le=10_000_000)]
Money = Annotated[float, Field(gt=0, le=1_000_000_000)]


class Budget(ApiModel):
    """What training may take. Used up, training ends at the step that it has come to, whose weights are validated,
    published and measured like those of the last one; the condition Trained says so."""

    accelerator_hours: Hours | None = None
    """Hours of accelerators, those of all nodes and of tries that failed added up, from the moment that the training
    program begins. Where resources ask for none, hours of pods."""
    cost: Money | None = None
    """The same in money, by the operator's price of an accelerator's hour (FINETUNE_PRICE_ACCELERATOR_HOUR). With
    acceleratorHours: whatever is less."""

    rules = (
        Rule(
            "has(self.acceleratorHours) || has(self.cost)",
            "needs acceleratorHours or cost",
            lambda budget: budget.accelerator_hours is not None or budget.cost is not None,
        ),
    )
