"""What autograd keeps of a token in a block of Llama's shape, in bytes: counted from what the libraries do.

Pure; used by `memory`. A block is attention between two norms and a gated product; with an adapter PEFT keeps what goes
into each adapted layer, and nothing goes into a frozen one twice. Under autocast every layer gets a copy of its own.
"""

from dataclasses import dataclass

from finetune_trainer.contract.config import AdapterConfig, AdapterType
from finetune_trainer.data.base import ModelFigures

SHORT, LONG = 2, 4
# The linear layers that take the same input.
TOGETHER = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))


@dataclass(frozen=True)
class Precision:
    """Bytes of a frozen weight, and of a product. Trained weights, their gradients and moments are float32."""

    weights: int
    products: int


FLOAT32, BFLOAT16 = Precision(LONG, LONG), Precision(SHORT, SHORT)


def sides(model: ModelFigures) -> dict[str, tuple[int, int]]:
    """The linear layers of a block: what goes in, and what comes out."""
    hidden, inner, query, key = model.hidden_size, model.intermediate_size, model.query_size, model.key_value_size
    return {
        "q_proj": (hidden, query),
        "k_proj": (hidden, key),
        "v_proj": (hidden, key),
        "o_proj": (query, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }


def linear_parameters(model: ModelFigures) -> int:
    """Weights of a block's linear layers."""
    return sum(into * out for into, out in sides(model).values())


def adapter_parameters(model: ModelFigures, adapter: AdapterConfig) -> int:
    """Weights of the adapter."""
    found = sides(model)
    return model.layers * adapter.rank * sum(sum(found[name]) for name in adapted(adapter))


def saved_parameters(model: ModelFigures, adapter: AdapterConfig) -> int:
    """Weights of the modules that are trained as a whole beside it: embeddings, output layer."""
    return len(adapter.modules_to_save) * model.vocabulary * model.hidden_size


def adapted(adapter: AdapterConfig) -> tuple[str, ...]:
    """The linear layers that have an adapter; names that no block of Llama's shape has count as all of them."""
    every = tuple(name for names in TOGETHER for name in names)
    named = {target.rpartition(".")[2] for target in adapter.target_modules}
    return tuple(name for name in every if name in named) if named < set(every) else every


def block(model: ModelFigures, adapter: AdapterConfig, precision: Precision) -> float:
    """Bytes of a token that are kept of a block."""
    whole, bytes_each = adapter.type == AdapterType.NONE, precision.products
    hidden, inner, query, key = model.hidden_size, model.intermediate_size, model.query_size, model.key_value_size
    # A norm keeps what goes in, as float32, and, if its weight is trained, what that is multiplied with.
    norms = 2 * LONG * hidden * (2 if whole else 1)
    # Queries, keys, values and answers; and the gate, what it lets through, and what that is multiplied with.
    inside = bytes_each * (2 * query + 2 * key + 3 * inner)
    return norms + inside + bytes_each * (_inputs(model, adapter, precision) + _outputs(model, adapter))


def _inputs(model: ModelFigures, adapter: AdapterConfig, precision: Precision) -> int:
    """Numbers that are kept since they go into a layer that learns, and of an adapter's narrow middle."""
    found = sides(model)
    learning = found if adapter.type == AdapterType.NONE else adapted(adapter)
    count = 0
    for names in TOGETHER:
        takers = [name for name in names if name in learning]
        # Under autocast each has a copy of its own.
        count += found[names[0]][0] * (len(takers) if precision.products == SHORT else min(1, len(takers)))
    return count + (0 if adapter.type == AdapterType.NONE else adapter.rank * len(learning))


def _outputs(model: ModelFigures, adapter: AdapterConfig) -> int:
    """Numbers that DoRA keeps of what comes out of an adapted layer, without the adapter and of it: their magnitude is
    learned.
    """
    found = sides(model)
    return 2 * sum(found[name][1] for name in adapted(adapter)) if adapter.type == AdapterType.DORA else 0


def block_input(model: ModelFigures, adapter: AdapterConfig, precision: Precision) -> int:
    """Bytes of a token that are kept of a block whose activations are recomputed: what goes into it."""
    # Embeddings that learn are float32, and so is what goes from block to block.
    whole = adapter.type == AdapterType.NONE or adapter.modules_to_save
    return model.hidden_size * (LONG if whole else precision.products)


def transient(model: ModelFigures, precision: Precision) -> int:
    """Bytes of a token that a block's backward pass holds at once, of gradients of activations."""
    return precision.products * (3 * model.intermediate_size + 2 * model.hidden_size)
