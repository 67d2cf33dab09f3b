"""The model that is trained: the base model from the workspace, with an adapter when the manifest asks for one.

Called by `build`. Reads local files only.
"""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraVariant
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from finetune_trainer.contract.config import AdapterConfig, AdapterType, ModelConfig, TrainingConfig
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.training import sharding, targets

# The library's name for what a reward model has in place of an output layer.
HEAD = "score"
# The alpha of a rank-stabilised adapter: at rank 64 it is scaled by 2, as one of any rank is without that.
RSLORA_ALPHA = 16


def load(
    path: Path,
    config: ModelConfig,
    dtype: torch.dtype,
    kind: AdapterType = AdapterType.LORA,
    shares: dict[str, Any] | None = None,
    writes: bool = True,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model, its weights in `dtype`, and its tokenizer. Raises StageError (CONFIG_INVALID).

    For QLoRA the weights of its linear layers take four bits each. `shares`: how its weights are divided among devices
    (`sharding.loading`). `writes`: see Method.
    """
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": config.trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
        options["use_safetensors"] = None if config.trust_remote_code else True
        options |= shares or {}
        model = base(path, dtype, kind, **options) if writes else judging(path, dtype, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise StageError(Outcome.CONFIG_INVALID, f"{config.source.uri} can't be loaded: {error}") from error
    if shares:
        sharding.forget(model)
    if writes:
        model.generation_config = _consistent(model.generation_config)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not writes:
        # By it the library's model finds the last token of each row of a padded batch.
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def base(path: Path, dtype: torch.dtype, kind: AdapterType, **options: Any) -> PreTrainedModel:
    """The base model's weights as they are trained, or trained beside.

    QLoRA's are NF4, whose scales are quantised too: its own recipe (Dettmers et al. 2023, arXiv:2305.14314).
    """
    if kind != AdapterType.QLORA:
        return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **options)
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    device = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, quantization_config=four_bits, device_map={"": device}, **options
    )
    _keep_differentiable(model)
    return model


def judging(path: Path, dtype: torch.dtype, **options: Any) -> PreTrainedModel:
    """The base model with a fresh head, one number wide, in place of its output layer. Raises ValueError."""
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=dtype, num_labels=1, **options)
    if not hasattr(model, HEAD):
        raise ValueError(f"{type(model).__name__} has no head called {HEAD}, which every model has that writes.")
    return model


def _keep_differentiable(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from repacking weights on CPUs with AVX512-BF16, for good, where it is asked without gradients.

    What it multiplies with then has none: after a validation training would go on, and go wrong, in silence.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _consistent(found: GenerationConfig) -> GenerationConfig:
    """Nothing is generated here, but the library writes no model whose defaults for that contradict each other.

    `artifact` leaves the base model's own beside what was trained.
    """
    try:
        found.validate(strict=True)
    except ValueError:
        return GenerationConfig(
            bos_token_id=found.bos_token_id, eos_token_id=found.eos_token_id, pad_token_id=found.pad_token_id
        )
    return found


def weights_dtype(training: TrainingConfig, bf16: bool) -> torch.dtype:
    """Frozen weights may be as short as the products; trained ones are float32, or small updates would vanish."""
    return torch.bfloat16 if bf16 and training.adapter.type != AdapterType.NONE else torch.float32


def with_adapter(model: PreTrainedModel, training: TrainingConfig) -> PreTrainedModel | PeftModel:
    """The model with a fresh adapter over its frozen weights; unchanged for full fine-tuning.

    Raises StageError (CONFIG_INVALID) when the manifest's target modules don't exist or can't be adapted.
    """
    adapter = training.adapter
    if adapter.type == AdapterType.NONE:
        return model
    tied = _tied(model, adapter)
    try:
        adapted = get_peft_model(model, lora(adapter, training.method.writes, tied))
    except ValueError as error:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"training.adapter.targetModules {', '.join(adapter.target_modules)} doesn't fit this model: {error} "
            f"The model's linear layers are {', '.join(linear_layers(model))}.",
        ) from error
    _check_saved(adapted, adapter)
    for weights in adapted.parameters():
        if weights.requires_grad:
            # PEFT does so with an adapter's, and leaves a head beside it as short as the frozen ones.
            weights.data = weights.data.float()
    return adapted


class OneProduct(LoraVariant):  # type: ignore[misc]
    """LoRA as it is, with what it adds put onto the layer's answer by the product that makes it.

    PEFT scales what is added, and adds it, by two operations over the whole answer; scaled is here what is as narrow as
    the rank. `use_one_product` puts it where PEFT asks for other kinds of LoRA (DoRA is one).
    """

    @staticmethod
    def forward(module: Any, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **_: Any) -> torch.Tensor:
        """`result`: the layer's own answer."""
        dropout, scaling = module.lora_dropout[active_adapter], module.scaling[active_adapter]
        narrow = module.lora_A[active_adapter](dropout(x)) * scaling
        wide = module.lora_B[active_adapter].weight.t()
        return torch.addmm(result.flatten(0, -2), narrow.flatten(0, -2), wide).view(result.shape)

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        """As PEFT merges what is ordinary."""
        merged: torch.Tensor = orig_weight + module.get_delta_weight(active_adapter).to(orig_weight.dtype)
        return merged

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: torch.Tensor) -> None:
        """The same in place."""
        orig_weight.data += module.get_delta_weight(active_adapter)

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        """Back again."""
        restored: torch.Tensor = orig_weight - module.get_delta_weight(active_adapter).to(orig_weight.dtype)
        return restored


def use_one_product(model: PreTrainedModel | PeftModel) -> None:
    """Have each linear layer with an ordinary adapter add it by OneProduct."""
    for module in model.modules():
        if type(module) is LoraLinear:
            for adapter in module.lora_A:
                module.lora_variant.setdefault(adapter, OneProduct())


def leave_inputs_to_autocast(model: PreTrainedModel | PeftModel) -> None:
    """Have autocast alone make of an adapter's inputs what its products take.

    PEFT would make them float32 before, once for each of the adapters that share them.
    """
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False


def lora(adapter: AdapterConfig, writes: bool, tied: bool) -> LoraConfig:
    """PEFT's config. Nothing in it that vLLM can't serve: beside whole modules, such as a head, it is merged.

    `tied`: embeddings that it saves are the output layer, too, and stay that.
    """
    usual = RSLORA_ALPHA if adapter.use_rslora else 2 * adapter.rank
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM if writes else TaskType.SEQ_CLS,
        r=adapter.rank,
        lora_alpha=adapter.alpha or usual,
        lora_dropout=adapter.dropout,
        use_rslora=adapter.use_rslora,
        target_modules="all-linear" if adapter.target_modules == targets.ALL_LINEAR else list(adapter.target_modules),
        use_dora=adapter.type == AdapterType.DORA,
        modules_to_save=list(adapter.modules_to_save) or None,
        ensure_weight_tying=tied,
    )


def _tied(model: PreTrainedModel, adapter: AdapterConfig) -> bool:
    """Whether modules that are trained as a whole are embeddings and output layer at once. Raises StageError."""
    output = model.get_output_embeddings()
    if not adapter.modules_to_save or output is None or output.weight is not model.get_input_embeddings().weight:
        return False
    if others := targets.not_both(adapter):
        raise targets.refusal_of_one_matrix(others)
    return True


def _check_saved(adapted: PeftModel, adapter: AdapterConfig) -> None:
    """PEFT has no word for a module that isn't there."""
    saved = [name for name, module in adapted.named_modules() if isinstance(module, ModulesToSaveWrapper)]
    missing = [each for each in adapter.modules_to_save if not any(f".{name}".endswith(f".{each}") for name in saved)]
    if missing:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"training.adapter.modulesToSave has {', '.join(missing)}, which this model does not have as it is "
            "trained: remove it.",
        )


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Names that targetModules may hold."""
    head = model.get_output_embeddings()
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and module is not head
        }
    )
