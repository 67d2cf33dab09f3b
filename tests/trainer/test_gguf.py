"""The GGUF file that output.formats publishes: it answers as the whole model does, or there is none.

transformers reads what llama.cpp's converter wrote. Where that has to fail, a program that does stands in its place.
"""

import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from finetune_trainer.contract.config import AdapterConfig, AdapterType
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import PublishResult
from finetune_trainer.data.published import bring
from finetune_trainer.server import Reporter
from finetune_trainer.stages.publish import PublishOptions, publish
from finetune_trainer.stages.train import train
from finetune_trainer.training import gguf
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from trainings import CHATML, PAIRS, WORDS, Case, MakeCase, Recorder, chat
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

SPACE = "\u2581"


@pytest.fixture
def base(base_model: Path, tmp_path: Path) -> Path:
    """A random Llama with a tokenizer as the first ones had. The converter knows that, and not the one of words."""
    words = [SPACE + word for word in ("system", "user", "assistant", *WORDS, *itertools.chain(*PAIRS))]
    merges = [(word[:end], word[end]) for word in words for end in range(1, len(word))]
    special = ["<unk>", "<|im_start|>", "<|im_end|>"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(set("".join(words)))]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*pieces, *map("".join, merges)]))}
    found = Tokenizer(models.BPE(vocabulary, list(dict.fromkeys(merges)), unk_token="<unk>", byte_fallback=True))
    found.normalizer = normalizers.Replace(" ", SPACE)
    found.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    found.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    path = tmp_path / "base"
    PreTrainedTokenizerFast(
        tokenizer_object=found, unk_token="<unk>", eos_token="<|im_end|>", pad_token="<unk>", chat_template=CHATML
    ).save_pretrained(path)
    config = LlamaConfig.from_pretrained(base_model, vocab_size=len(vocabulary), eos_token_id=2, bos_token_id=1)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(path)
    return path


@pytest.fixture
def case(make_case: MakeCase, base: Path) -> Case:
    made = make_case(base=base, total_steps=3)
    train(made.config, made.workspace, Recorder())
    return made


def published(case: Case, place: Path, *, merge: bool = False) -> PublishResult:
    wanted = PublishOptions(merge=merge, gguf=True)
    return publish(case.config, case.workspace, f"s3://{place}", "uid-1", Reporter("publish"), wanted)


def refused(case: Case, place: Path) -> StageError:
    with pytest.raises(StageError) as error:
        published(case, place)
    assert not (place / "0a1b2c3d-gguf/manifest.json").exists()
    return error.value


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a program in the converter's place."""

    def have(text: str) -> None:
        path = tmp_path / "converter.py"
        path.write_text(f"import os, sys\narguments = sys.argv[1:]\n{text}")
        monkeypatch.setattr(gguf, "CONVERTER", path)

    return have


CONVERTER = gguf.CONVERTER
WRITE = "open(arguments[arguments.index('--outfile') + 1], 'w').write('GGUF')\n"
FILE = "colours-f16.gguf"
MODELFILE = """\
FROM ./colours-f16.gguf
TEMPLATE \"\"\"{{ range $i, $message := .Messages }}\
{{ if eq $message.Role "system" }}{{ "<|im_start|> system " }}{{ $message.Content }}{{ " <|im_end|> " }}\
{{ else if eq $message.Role "user" }}{{ "<|im_start|> user " }}{{ $message.Content }}{{ " <|im_end|> " }}\
{{ else if eq $message.Role "assistant" }}{{ "<|im_start|> assistant " }}{{ $message.Content }}{{ " <|im_end|> " }}\
{{ end }}{{ end }}{{ "<|im_start|> assistant " }}\"\"\"
PARAMETER stop "<|im_end|>"
"""


def test_it_answers_as_the_whole_model_does_whatever_was_killed_before(
    case: Case, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converter: Callable[[str], None]
) -> None:
    converter(f"{WRITE}os.kill(os.getpid(), 9)")
    killed = refused(case, place)
    assert killed.outcome == Outcome.OUT_OF_MEMORY
    assert killed.message == (
        "llama.cpp's converter was killed by signal 9, most likely for want of memory: raise the memory in "
        "training.resources, or remove gguf from output.formats."
    )
    monkeypatch.setattr(gguf, "CONVERTER", CONVERTER)
    result = published(case, place, merge=True)
    assert (result.merged, result.gguf) == (f"s3://{place}/0a1b2c3d-merged", f"s3://{place}/0a1b2c3d-gguf")
    merged, converted = tmp_path / "merged", tmp_path / "converted"
    bring(result.merged, merged, lambda name: None)
    manifest = bring(result.gguf, converted, lambda name: None)
    assert manifest.merged_from == result.artifact.digest
    assert manifest.files.keys() == {"README.md", "Modelfile", FILE, "run_config.json"}
    assert not case.workspace.whole.exists()
    assert not case.workspace.gguf.exists()

    told = GGUFReader(converted / FILE).fields
    assert told["tokenizer.chat_template"].contents() == CHATML
    assert told["general.name"].contents() == "colours"
    tokenizer = AutoTokenizer.from_pretrained(merged)
    text = tokenizer.apply_chat_template(chat(*PAIRS[0])["messages"], tokenize=False)
    ids = tokenizer(text)["input_ids"]
    assert AutoTokenizer.from_pretrained(converted, gguf_file=FILE)(text)["input_ids"] == ids
    both = (
        AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32),
        AutoModelForCausalLM.from_pretrained(converted, gguf_file=FILE, dtype=torch.float32),
    )
    with torch.no_grad():
        one, other = (model(torch.tensor([ids])).logits for model in both)
    assert torch.allclose(one, other, atol=1e-4)
    assert (converted / "Modelfile").read_text() == MODELFILE


def test_the_whole_model_is_not_published_for_it_and_what_was_converted_stays(
    case: Case, place: Path, converter: Callable[[str], None]
) -> None:
    converter(WRITE)
    first = published(case, place)
    assert first.merged is None
    assert {path.name for path in place.iterdir()} == {"0a1b2c3d", "0a1b2c3d-gguf"}
    converter("sys.exit(1)")
    assert published(case, place) == first


def test_of_what_is_whole_already_that_is_converted(
    make_case: MakeCase, base: Path, place: Path, tmp_path: Path, converter: Callable[[str], None]
) -> None:
    case = make_case(base=base, adapter=AdapterConfig(type=AdapterType.DORA, rank=8), total_steps=1)
    train(case.config, case.workspace, Recorder())
    converter(f"{WRITE}open({str(tmp_path / 'seen')!r}, 'w').write(os.path.realpath(arguments[-1] + '/config.json'))")
    assert published(case, place).gguf == f"s3://{place}/0a1b2c3d-gguf"
    assert (tmp_path / "seen").read_text() == str(case.workspace.artifact / "merged/config.json")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("print('one\\ntwo', file=sys.stderr)\nprint('three\\nfour\\n')\nsys.exit(1)", "two; three; four"),
        ("sys.exit(3)", "exit code 3 and no word"),
        ("print('Model successfully exported')", "Model successfully exported"),
    ],
)
def test_a_failure_is_told_in_the_converters_last_words(
    case: Case, place: Path, converter: Callable[[str], None], program: str, said: str
) -> None:
    converter(f"sys.stdout.reconfigure(line_buffering=True)\n{program}")
    error = refused(case, place)
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message == (
        f"The model could not be converted to GGUF: llama.cpp's converter ended with {said}. To publish it without, "
        "remove gguf from output.formats."
    )


def test_a_full_volume_is_told_as_every_other_is(case: Case, place: Path, converter: Callable[[str], None]) -> None:
    converter("raise OSError(28, os.strerror(28))")
    with pytest.raises(OSError, match="No space left") as error:
        published(case, place)
    assert error.value.errno == 28


def test_the_converter_has_no_keys_and_runs_no_code_that_is_not_trusted(
    case: Case, base: Path, monkeypatch: pytest.MonkeyPatch, converter: Callable[[str], None]
) -> None:
    (base / "modeling.py").touch()
    monkeypatch.setenv("FINETUNE_OUTPUT_AWS_SECRET_ACCESS_KEY", "secret")
    converter(
        "print([name for name in os.listdir(arguments[-1]) if name.endswith('.py')])\n"
        "print('AWS' in str(os.environ))\nsys.exit(1)"
    )
    for trusted, seen in ((False, []), (True, ["modeling.py"])):
        model = case.config.model.model_copy(update={"trust_remote_code": trusted})
        with pytest.raises(StageError, match=re.escape(f"ended with {seen}; False.")):
            gguf.check(case.config.model_copy(update={"model": model}), base)


def test_a_base_model_that_the_converter_does_not_know_is_refused(case: Case, base: Path, tmp_path: Path) -> None:
    gguf.check(case.config, base)
    other = shutil.copytree(base, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"architectures": ["OPTForCausalLM"], "model_type": "opt"}))
    with pytest.raises(StageError) as error:
        gguf.check(case.config, other)
    assert error.value.outcome == Outcome.CONFIG_INVALID
    assert error.value.message.startswith("example/tiny can't be converted to GGUF: llama.cpp's converter ended with ")
    assert error.value.message.endswith(
        "Model OPTForCausalLM is not supported. Choose another model, or remove gguf from output.formats."
    )
