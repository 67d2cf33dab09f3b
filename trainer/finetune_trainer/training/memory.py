"""How much memory a training takes, and from it how many tokens pass at once and whether activations are recomputed.

Pure arithmetic over the model's figures: `prepare` forecasts and refuses with it, `fitting` chooses with it for the
device that train finds. What is kept of a block is told by `activations`; `tests/performance/benchmark_memory.py` holds
the whole to what a process was measured to take.
"""

from bisect import bisect_right
from dataclasses import dataclass, replace

from finetune_trainer.contract.config import AdapterConfig, AdapterType, Sharding
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data.base import ModelFigures
from finetune_trainer.training import activations
from finetune_trainer.training.activations import BFLOAT16, FLOAT32, LONG, SHORT, Precision

GIB = 1024**3
# The most tokens of a pass: beyond it a step gets no faster.
PASS_TOKENS = 16_384
# Tokens that keep a device busy: weights are read once for all of them. A pass that has fewer costs more than
# recomputing activations does, which is a third of the work again.
ENOUGH_TOKENS = 1_024
# What an estimate may come to of a device's memory: it is never under by more than the rest.
USABLE = 0.9
# What a process holds before it holds a model: on CPUs its libraries; on an accelerator its context and kernels.
LIBRARIES, CONTEXT = GIB, GIB
# What comes and goes leaves holes in the memory that its allocator holds.
HOLES = 1.1
# A weight in NF4: four bits, and for each 64 of them a scale, of eight bits since it was quantised itself.
NF4 = 0.5 + 1 / 64
# More than that nobody is told to ask for.
MOST_DEVICES = 64
# An accelerator that nobody told the memory of is planned for as if it were one of the smaller ones.
ASSUMED = 24 * GIB


@dataclass(frozen=True)
class Device:
    """What trains. `memory`: of each, in bytes, None where it is not known. `accelerators`: of a node, 0 on CPUs."""

    memory: int | None
    accelerators: int
    precision: Precision
    nodes: int = 1

    @property
    def processes(self) -> int:
        """How many share a batch."""
        return self.nodes * max(1, self.accelerators)

    @property
    def usable(self) -> int:
        """What an estimate may come to."""
        return int(USABLE * (ASSUMED if self.memory is None else self.memory))


UNKNOWN = Device(None, 0, FLOAT32)


@dataclass(frozen=True)
class TokenLoad:
    """What passes: tokens of the longest row, those of a step on one device at most, and the share that is learned.

    `sequences`: how many of tokens a row has, which pass together. `writes`: see Method.
    """

    longest: int
    step: int
    learned: float
    sequences: int = 1
    writes: bool = True


@dataclass(frozen=True)
class Pass:
    """How a step's rows go through the model: so many tokens at once, and whether activations are recomputed."""

    tokens: int
    recompute: bool


@dataclass(frozen=True)
class TrainingFootprint:
    """One training, as far as memory depends on it. `sharded`: its devices divide weights, gradients and moments."""

    model: ModelFigures
    adapter: AdapterConfig
    device: Device
    load: TokenLoad
    sharded: bool = False

    @property
    def chosen(self) -> Pass | None:
        """The passes that the device has memory for; None where it has too little for the longest row.

        Activations are recomputed only where passes would be too small otherwise.
        """
        most = min(self.load.step, max(PASS_TOKENS, self.load.longest))
        plain, recomputed = self._most(most, recompute=False), self._most(most, recompute=True)
        if plain >= min(most, max(ENOUGH_TOKENS, self.load.longest)) or plain >= recomputed > 0:
            return Pass(plain, recompute=False)
        return Pass(recomputed, recompute=True) if recomputed else None

    @property
    def at_best(self) -> "TrainingFootprint":
        """The same in the precision that takes the least memory: which one it will be, train finds out on CPUs."""
        both = (replace(self, device=replace(self.device, precision=each)) for each in (FLOAT32, BFLOAT16))
        return self if self.device.accelerators else min(both, key=lambda each: each.memory(each.least))

    @property
    def least(self) -> Pass:
        """The passes that take the least memory."""
        return Pass(min(self.load.step, self.load.longest), recompute=True)

    def smaller(self, taken: Pass) -> Pass | None:
        """What takes less memory than passes that were too much; None where nothing does."""
        half = replace(taken, tokens=max(self.least.tokens, taken.tokens // 2))
        return next((each for each in (half, self.least) if self.memory(each) < self.memory(taken)), None)

    def memory(self, taken: Pass) -> int:
        """The most bytes that a device holds."""
        held = self._process + self._weights + self._states
        return int(held + max(HOLES * self._passing(taken), self._published))

    @property
    def quantisable(self) -> bool:
        """Whether its base model may be held in four bits: nothing is learned as a whole, and it writes."""
        return self.load.writes and not self.adapter.modules_to_save

    @property
    def _tied(self) -> bool:
        """Whether its embeddings are its output layer: beside its blocks there is one such matrix."""
        blocks = self.model.layers * activations.linear_parameters(self.model)
        return self.model.parameters - blocks < 1.5 * self._embeddings

    @property
    def _embeddings(self) -> int:
        return self.model.vocabulary * self.model.hidden_size

    @property
    def _parameters(self) -> int:
        """Those that are loaded: a reward model has no output layer."""
        return self.model.parameters - (0 if self.load.writes or self._tied else self._embeddings)

    @property
    def _whole(self) -> bool:
        return self.adapter.type == AdapterType.NONE

    @property
    def _shares(self) -> int:
        return self.device.processes if self.sharded else 1

    @property
    def _process(self) -> int:
        return CONTEXT if self.device.accelerators else LIBRARIES

    @property
    def _trained(self) -> int:
        """What learns, the modules that do so beside an adapter included: each is a copy of a frozen one."""
        if self._whole:
            return self._parameters
        return activations.adapter_parameters(self.model, self.adapter) + self._saved

    @property
    def _saved(self) -> int:
        return activations.saved_parameters(self.model, self.adapter)

    @property
    def _weights(self) -> float:
        """The base model's, and the adapter's beside them."""
        parameters, frozen = self._parameters, self.device.precision.weights
        linear = min(parameters, self.model.layers * activations.linear_parameters(self.model))
        if self.sharded:
            return LONG * parameters / self._shares
        if self._whole:
            # Autocast keeps a short copy of what it multiplies with.
            return LONG * parameters + (SHORT * linear if self.device.precision.products == SHORT else 0)
        quantised = linear if self.adapter.type == AdapterType.QLORA else 0
        # Autocast keeps a short copy of an output layer that learns.
        short = SHORT * self._saved if self.device.precision.products == SHORT else 0
        return NF4 * quantised + frozen * (parameters - quantised) + LONG * self._trained + short

    @property
    def _states(self) -> float:
        """Adam's two moments. Several devices that hold all weights each join gradients in buffers of their own."""
        joined = self.device.processes > 1 and not self.sharded
        return (2 * LONG + (LONG if joined else 0)) * self._trained / self._shares

    @property
    def _published(self) -> int:
        """On CPUs a whole model that is written stands beside the one that trains: where that is divided, and in the
        type that it is stored in, two bytes mostly, where it is an adapter's sum with its base.
        """
        if self.device.accelerators:
            return 0
        if self.sharded:
            return LONG * self._parameters
        merged = not self._whole and not (self.adapter.beside_base and self.load.writes)
        return SHORT * self._parameters if merged else 0

    @property
    def _gathered(self) -> int:
        """Of weights that are divided: those of two blocks, one fetched meanwhile, with their gradients, and the
        output layer's, which stay from forth to back."""
        if not self.sharded:
            return 0
        each = self.device.precision.products
        blocks = 2 * activations.linear_parameters(self.model)
        return (2 * each + LONG) * blocks + each * self._embeddings

    def _passing(self, taken: Pass) -> float:
        """What comes and goes with a pass: activations and the output layer's logits first, gradients then."""
        several = self.load.step > taken.tokens
        gradients = LONG * self._trained / self._shares
        block = activations.block(self.model, self.adapter, self.device.precision)
        kept = activations.block_input(self.model, self.adapter, self.device.precision) if taken.recompute else block
        layers = self.model.layers * kept * taken.tokens
        forward = layers + max(self._logits(taken), self._backward(taken))
        first = forward + self._output_gradients + self._gathered
        if several or not self._whole:
            return gradients + max(first, self._embedding_gradients)
        return max(first, gradients + max(self._backward(taken), self._embedding_gradients))

    def _logits(self, taken: Pass) -> float:
        """The learned positions' logits, their logarithms and gradients, in float32: three at once."""
        if not self.load.writes:
            return 0
        rest = taken.tokens - self.load.longest
        learned = min(taken.tokens, self.load.longest + max(0.0, rest) * self.load.learned)
        return 3 * LONG * learned * self.model.vocabulary

    def _backward(self, taken: Pass) -> float:
        """What one block's backward pass holds beside what was kept, and what it makes again."""
        again = activations.block(self.model, self.adapter, self.device.precision) if taken.recompute else 0
        return taken.tokens * (again + activations.transient(self.model, self.device.precision))

    @property
    def _output_gradients(self) -> int:
        """The output layer's are made while all activations are still there."""
        return self._matrix_gradients if self.load.writes else 0

    @property
    def _embedding_gradients(self) -> int:
        """The embeddings' come last; where they are the output layer's too, both and their sum are there."""
        return self._matrix_gradients * (3 if self._tied and self.load.writes else 1)

    @property
    def _matrix_gradients(self) -> int:
        """Either's. Where they are divided, each device makes all of them, and puts them in one piece to send them."""
        each = LONG + self.device.precision.products if self.sharded else LONG
        return each * self._embeddings if self._whole else 0

    def _most(self, most: int, recompute: bool) -> int:
        """The most tokens that fit, up to `most`; 0 where not even the longest row does."""
        # All rows of a step at once may take less than nearly all: no gradients wait for those of another pass.
        if self.memory(Pass(most, recompute)) <= self.device.usable:
            return most
        tokens = range(self.least.tokens, most + 1)
        fitting = bisect_right(tokens, self.device.usable, key=lambda count: self.memory(Pass(count, recompute)))
        return tokens[fitting - 1] if fitting else 0


def divided(training: TrainingFootprint, wanted: Sharding) -> TrainingFootprint:
    """The same with all that is trained divided among the devices, where that is asked for or one can't hold it.

    An adapter isn't: what takes the room is its base model, and each device has that whole. Raises StageError
    (CONFIG_INVALID) where one device is asked to.
    """
    if wanted == Sharding.FULL and training.device.processes == 1:
        raise StageError(
            Outcome.CONFIG_INVALID,
            "training.sharding full divides the weights among devices, and this training has one: ask for more in "
            "training.resources or training.nodes, or leave sharding out.",
        )
    can = training.adapter.type == AdapterType.NONE and training.device.processes > 1
    needed = wanted == Sharding.FULL or (wanted == Sharding.AUTO and training.chosen is None)
    return replace(training, sharded=can and needed)


def refusal(training: TrainingFootprint) -> StageError | None:
    """Why a training can't be, where no passes fit: what it takes, and what would take less, in numbers."""
    if training.device.memory is None or training.chosen:
        return None
    least, has = training.memory(training.least), training.device.memory
    options = [*_adapters(training), *_shorter(training), *_spread(training), _more(training, least)]
    return StageError(
        Outcome.OUT_OF_MEMORY,
        f"Training needs {_gib(least)} of memory at least, with the longest row alone ({training.load.longest} tokens) "
        f"and activations recomputed, and {_where(training)} has {_gib(has)}, of which {_gib(training.device.usable)} "
        f"are planned with. What would fit: {'; or '.join(options)}.",
    )


def _where(training: TrainingFootprint) -> str:
    return "an accelerator" if training.device.accelerators else "the pod or machine"


def _more(training: TrainingFootprint, least: int) -> str:
    needed = -(-least // int(USABLE * GIB))
    if training.device.accelerators:
        return f"an accelerator with {needed} GiB or more"
    return f"training.resources.limits.memory of {needed}Gi or more"


def _adapters(training: TrainingFootprint) -> list[str]:
    """Other adapters that fit."""
    others = {AdapterType.NONE: (AdapterType.LORA, AdapterType.QLORA), AdapterType.QLORA: ()}
    found = []
    for kind in others.get(training.adapter.type, (AdapterType.QLORA,)):
        other = replace(training, adapter=training.adapter.model_copy(update={"type": kind}))
        if (kind != AdapterType.QLORA or training.quantisable) and other.chosen:
            found.append(f"training.adapter.type {kind.value} ({_gib(other.memory(other.least))})")
    if training.adapter.modules_to_save:
        other = replace(training, adapter=training.adapter.model_copy(update={"modules_to_save": ()}))
        if other.chosen:
            found.append(f"no training.adapter.modulesToSave ({_gib(other.memory(other.least))})")
    return found


def _spread(training: TrainingFootprint) -> list[str]:
    """The fewest devices, by doubling, that can divide the weights among them."""
    device, what = training.device, "accelerators" if training.device.accelerators else "pods (training.nodes)"
    count = device.processes if not training.sharded else 2 * device.processes
    while training.adapter.type == AdapterType.NONE and (count := max(2, count)) <= MOST_DEVICES:
        many = replace(
            device, accelerators=count if device.accelerators else 0, nodes=1 if device.accelerators else count
        )
        spread = replace(training, sharded=True, device=many)
        if spread.chosen:
            return [f"training.sharding full with {count} {what} ({_gib(spread.memory(spread.least))} each)"]
        count *= 2
    return []


def _shorter(training: TrainingFootprint) -> list[str]:
    """The longest training.maxLength that fits, by halves."""
    length = training.load.longest // training.load.sequences // 2
    while length >= 64:
        shorter = replace(training, load=replace(training.load, longest=length * training.load.sequences))
        if shorter.chosen:
            return [f"training.maxLength {length} ({_gib(shorter.memory(shorter.least))})"]
        length //= 2
    return []


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"
