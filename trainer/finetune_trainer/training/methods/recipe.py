"""What there is to know of a method. Each module of `methods` has one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune_trainer.contract.config import Format

if TYPE_CHECKING:
    from finetune_trainer.training.flat_trainer import FlatTrainer
    from finetune_trainer.training.given import Given


@dataclass(frozen=True)
class Recipe:
    """A method. `formats`: of the rows that it learns from; `sequences`: how many of tokens a row has in one pass.

    `rate`: its usual learning rate for every weight of a model of a billion parameters. `trainer` makes what trains.
    """

    formats: tuple[Format, ...]
    sequences: int
    rate: float
    trainer: "Callable[[Given], FlatTrainer]"
