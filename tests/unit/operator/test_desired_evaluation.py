"""What evaluate is told, and the Job that it runs in, as the manifest asks for them."""

import json
from dataclasses import replace
from pathlib import Path

from finetune_operator.api.engine import EngineSpec, EngineStatus
from finetune_operator.finetunejob.desired.evaluation import evaluation_config, evaluation_id
from finetune_operator.finetunejob.desired.volumes import TOLD
from finetune_operator.finetunejob.desired.workspace import record_map
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.record import evaluation_key
from finetune_operator.finetunejob.shared import EngineState
from finetune_operator.finetunejob.stages import JOBS
from finetune_operator.finetunejob.stages.base import Context
from finetune_operator.finetunejob.target import Target
from finetune_operator.finetunejob.walk import begin
from finetune_operator.kinds.actions import Ref
from finetune_operator.settings import Settings
from finetune_trainer.contract.config import (
    BaselineConfig,
    BaselineType,
    EndpointConfig,
    EvaluationConfig,
    GateConfig,
    LmEvalConfig,
    Metric,
    Source,
    TokenPrices,
)
from rendering import environment, evaluate, host, main, mounts, prepare, target, train

JUDGE = {
    "metrics": ["judge"],
    "judge": {"url": "https://judge/v1", "model": "large", "credentials": {"secretRef": {"name": "openai"}}},
}


def config(**evaluation: object) -> EvaluationConfig:
    return evaluation_config(target(evaluation=evaluation).spec, Settings())


def test_left_out_it_is_compared_with_every_way_to_use_the_base_model() -> None:
    found = [(each.type, each.examples) for each in config().baselines]
    assert found == [(BaselineType.ZERO_SHOT, 0), (BaselineType.FEW_SHOT, 4), (BaselineType.RETRIEVAL, 4)]


def test_named_they_are_these_and_no_other() -> None:
    named = [{"type": "zero-shot"}, {"type": "few-shot"}, {"type": "retrieval"}]
    assert config(baselines=named).baselines == config().baselines
    assert (config(baselines=named).only_these, config().only_these) == (True, False)
    assert evaluation_id(target(evaluation={"baselines": named})) != evaluation_id(target(evaluation={}))


def test_a_baselines_own_prompt_and_form() -> None:
    found = config(baselines=[{"type": "structured", "prompt": "Name the food."}]).baselines
    assert found == (BaselineConfig(type=BaselineType.STRUCTURED, prompt="Name the food."),)


def test_what_the_manifest_says_is_what_is_measured() -> None:
    found = config(
        baselines=[{"type": "few-shot", "examples": 2}, {"type": "retrieval", "topK": 8}],
        sampleSize=50,
        maxAnswerTokens=900,
        chatTemplateKwargs={"enable_thinking": False, "budget": 5},
        gate={"minimum": 0.5, "margin": 0.1, "confidence": 0.9},
        **JUDGE,
    )
    assert [each.examples for each in found.baselines] == [2, 8]
    assert found.metrics == (Metric.JUDGE,)
    assert found.sample_size == 50
    assert found.max_answer_tokens == 900
    assert found.chat_template_kwargs == {"enable_thinking": False, "budget": 5}
    assert found.judge == EndpointConfig(url="https://judge/v1", model="large")
    assert found.gate == GateConfig(minimum=0.5, margin=0.1, confidence=0.9)


def test_another_gate_price_or_accelerator_is_the_same_measurement() -> None:
    before = target(evaluation={})
    gated = target(evaluation={"gate": {"minimum": 0.9}}, hosting={"resources": {"limits": {"nvidia.com/gpu": 2}}})
    priced = replace(before, settings=Settings(price_accelerator_hour=2.5))
    assert evaluation_id(before) == evaluation_id(gated) == evaluation_id(priced)
    assert evaluation_config(gated.spec, priced.settings).accelerators == 2
    assert evaluation_config(gated.spec, priced.settings).prices.accelerator_hour == 2.5


def test_the_accelerators_are_those_of_all_replicas_which_answer_together() -> None:
    writers = {"accessModes": ["ReadWriteMany"]}
    hosting = {"replicas": 3, "resources": {"limits": {"nvidia.com/gpu": 2}}}
    assert evaluation_config(target(hosting=hosting, workspace=writers).spec, Settings()).accelerators == 6


def shared(**spec: object) -> Target:
    """One on an Engine of that spec, whose pods have two accelerators each."""
    found = target(hosting={"engine": {"name": "chat"}}, output={"destination": "s3://artifacts/recipes"})
    limits = {"resources": {"limits": {"nvidia.com/gpu": 2}}}
    parsed = EngineSpec.model_validate({"model": {"source": "s3://models/base"}, "lora": {}} | limits | spec)
    ref = Ref("Engine", "chat", "uid", None)
    return replace(found, engine=EngineState("chat", ref, "1", parsed, EngineStatus()))


def test_on_a_shared_engine_they_are_one_pods_and_no_scale_tells_evaluate_anything_new() -> None:
    told = record_map(shared())["data"]
    assert told == record_map(shared(replicas=3))["data"] == record_map(shared(replicas=0))["data"]
    (entry,) = [name for name in told if name.startswith("evaluation-")]
    assert json.loads(told[entry])["accelerators"] == 2
    assert entry in {item["key"] for item in mounts(evaluate(shared()))[str(TOLD)]["configMap"]["items"]}


def test_on_one_without_any_or_that_is_gone_there_are_none() -> None:
    for found in (shared(resources={}), replace(shared(), engine=None)):
        assert evaluation_config(found.spec, found.settings, found.engine).accelerators == 0


def test_other_metrics_baselines_rows_or_seeds_are_another() -> None:
    changes = (
        {"evaluation": {"metrics": ["rouge_l"]}},
        {"evaluation": {"baselines": []}},
        {"evaluation": {"sampleSize": 50}},
        {"evaluation": {"maxAnswerTokens": 50}},
        {"evaluation": {"chatTemplateKwargs": {"enable_thinking": False}}},
        {"training": {"seed": 7}},
    )
    assert len({evaluation_id(target(**change)) for change in changes} | {evaluation_id(target())}) == 7


def test_benchmarks_are_another_measurement_and_both_pods_see_their_tasks() -> None:
    found = target(evaluation={"lmEval": {"source": "configmap://benchmarks", "tasks": ["capitals"], "limit": 20}})
    where = "/mnt/configmaps/benchmarks"
    wanted = LmEvalConfig(source=Source(uri="configmap://benchmarks", path=Path(where)), tasks=("capitals",), limit=20)
    assert evaluation_config(found.spec, found.settings).lm_eval == wanted
    assert evaluation_id(found) != evaluation_id(target())
    for workload in (prepare(found), evaluate(found)):
        assert mounts(workload)[where]["configMap"] == {"name": "benchmarks"}


def test_the_trainer_reads_what_the_operator_writes() -> None:
    found = target(evaluation=JUDGE)
    wanted = evaluation_config(found.spec, found.settings)
    written = record_map(found)["data"][evaluation_key(wanted)]
    assert EvaluationConfig.model_validate_json(written) == wanted


def test_prepare_gets_it_too_since_it_refuses_metrics_that_do_not_fit() -> None:
    found = target()
    key = evaluation_key(evaluation_config(found.spec, found.settings))
    for workload in (prepare(found), evaluate(found)):
        told = mounts(workload)["/etc/finetune"]["configMap"]
        assert told["name"] == record_map(found)["metadata"]["name"]
        assert {"key": key, "path": "evaluation.json"} in told["items"]


def test_switched_off_nobody_is_told_anything() -> None:
    found = target(evaluation={"enabled": False})
    assert evaluation_id(found) is None
    assert set(record_map(found)["data"]) == {"run.json"}
    assert "evaluation.json" not in str(mounts(prepare(found)))


def test_the_judges_key_comes_from_its_secret_and_the_others_stay_away() -> None:
    bucket = {"secretRef": {"name": "bucket"}}
    found = target(evaluation=JUDGE, dataset={"train": {"source": "s3://b/train.jsonl"}, "credentials": bucket})
    secrets = {name: value for name, value in environment(evaluate(found)).items() if "secretKeyRef" in str(value)}
    key = {"name": "openai", "key": "OPENAI_API_KEY", "optional": False}
    assert secrets == {"FINETUNE_JUDGE_OPENAI_API_KEY": {"secretKeyRef": key}}


def test_the_engines_own_key_is_known_to_it_and_to_whoever_measures_it() -> None:
    found = target(hosting={"apiKey": {"secretRef": {"name": "ours"}}})
    key = {"name": "ours", "key": "OPENAI_API_KEY"}
    assert environment(host(found))["VLLM_API_KEY"] == {"secretKeyRef": key}
    sent = environment(evaluate(found))["FINETUNE_ENGINE_OPENAI_API_KEY"]
    assert sent == {"secretKeyRef": key | {"optional": False}}
    assert "ours" not in str(prepare(found)) + str(train(found))
    assert "VLLM_API_KEY" not in environment(host(target()))


ENDPOINT = {
    "type": "endpoint",
    "name": "gpt",
    "url": "https://api/v1",
    "model": "gpt-9",
    "prompt": "Name the food.",
    "credentials": {"secretRef": {"name": "openai"}},
    "prices": {"millionPromptTokens": 2, "millionCompletionTokens": 8, "millionCachedTokens": 0.5},
}
ASKED = {"baselines": [{"type": "zero-shot"}, ENDPOINT]}


def test_another_models_endpoint_is_a_baseline_with_a_price() -> None:
    found = config(**ASKED)
    assert found.baselines[1] == BaselineConfig(
        type=BaselineType.ENDPOINT,
        name="gpt",
        prompt="Name the food.",
        endpoint=EndpointConfig(url="https://api/v1", model="gpt-9"),
    )
    prices = TokenPrices(million_prompt_tokens=2, million_completion_tokens=8, million_cached_tokens=0.5)
    assert found.prices.endpoints == {"gpt": prices}


def test_what_it_costs_is_no_part_of_what_is_measured_and_what_is_asked_of_it_is() -> None:
    free, other = ({**ENDPOINT, **change} for change in ({"prices": None}, {"model": "gpt-8"}))
    ids = [evaluation_id(target(evaluation={"baselines": [each]})) for each in (ENDPOINT, free, other)]
    assert ids[0] == ids[1] != ids[2]


def test_its_key_comes_from_its_secret_where_it_is_asked_and_nowhere_else() -> None:
    found = target(evaluation=ASKED)
    key = {"secretKeyRef": {"name": "openai", "key": "OPENAI_API_KEY", "optional": False}}
    # prepare asks whether it answers at all.
    for workload in (prepare(found), evaluate(found)):
        assert environment(workload)["FINETUNE_BASELINE_1_OPENAI_API_KEY"] == key
    assert "openai" not in str(train(found))
    assert "openai" not in str(record_map(found))


def test_nobody_gets_a_key_for_what_is_not_asked() -> None:
    found = target(evaluation=ASKED | JUDGE | {"enabled": False})
    assert "openai" not in str(prepare(found))


def test_another_secret_starts_what_failed_for_want_of_it_again() -> None:
    other = {**ENDPOINT, "credentials": {"secretRef": {"name": "another"}}}
    before, after = (_inputs({"baselines": [each]}) for each in (ENDPOINT, other))
    assert {stage for stage in before if before[stage] != after[stage]} == {"prepare", "evaluate"}


def _inputs(evaluation: dict[str, object]) -> dict[str, str]:
    found = target(evaluation=evaluation)
    world = World(found.name, found.namespace, found.uid)
    context = Context(found, world, begin(world, found.revision))
    return {name: stage.inputs(context) for name, stage in JOBS.items()}


def test_it_runs_beside_the_accelerators_and_holds_none() -> None:
    found = evaluate(target(training={"resources": {"limits": {"nvidia.com/gpu": 4, "memory": "8Gi"}}}))
    assert main(found)["resources"]["limits"] == {"memory": "8Gi"}
    tolerations = found["spec"]["template"]["spec"]["tolerations"]
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in tolerations


def test_the_base_model_is_asked_alone_where_one_engine_can_not_be_both() -> None:
    adapters = {kind: {"training": {"adapter": {"type": kind}}} for kind in ("lora", "dora", "none")}
    adapters["whole modules"] = {"training": {"adapter": {"modulesToSave": ["lm_head"]}}}
    alone = {kind: evaluation_config(target(**spec).spec, Settings()).base_alone for kind, spec in adapters.items()}
    assert alone == {"lora": False, "dora": True, "none": True, "whole modules": True}
    for baselines, asked in (([], False), ([ENDPOINT], False), ([ENDPOINT, {"type": "zero-shot"}], True)):
        found = target(**adapters["dora"], evaluation={"baselines": baselines})
        assert evaluation_config(found.spec, Settings()).base_alone is asked
    assert len({evaluation_id(target(**spec)) for spec in adapters.values()}) == 2
    for kind, spec in adapters.items():
        assert ("--base-endpoint" in main(evaluate(target(**spec)))["args"]) is alone[kind]
