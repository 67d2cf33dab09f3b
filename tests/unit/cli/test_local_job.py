"""What `finetune run` makes of a manifest: paths, the revision, and a word about every field that it can't act on."""

from pathlib import Path
from typing import Any

import pytest
from finetune_cli.errors import UserError
from finetune_cli.job import LocalJob, localize
from finetune_operator.api.hosting import Hosting
from finetune_operator.api.training import Training
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.names import revision_of

# Each has an effect on this machine; what is in neither list would be dropped without a word.
ACTED_ON = {
    "training": {
        "method",
        "dpo",
        "kto",
        "reward",
        "adapter",
        "epochs",
        "max_steps",
        "learning_rate",
        "batch_size",
        "max_length",
        "seed",
        "keep_checkpoints",
        "sharding",
        "tracking",
        "max_runtime",
        "retries",
        "sweep",
        "budget",
    },
    "hosting": {"enabled", "context_length", "adapter"},
}


def spec(**sections: Any) -> FineTuneJobSpec:
    smallest = {"model": {"source": "hf://org/model"}, "dataset": {"train": {"source": "s3://bucket/train.jsonl"}}}
    return FineTuneJobSpec.model_validate(smallest | sections)


def local(directory: Path, **sections: Any) -> LocalJob:
    return localize("recipes", spec(**sections), directory)


def with_rows(directory: Path, text: str) -> LocalJob:
    (directory / "train.jsonl").write_text(text)
    return local(directory, dataset={"train": {"source": "file://train.jsonl"}})


def test_relative_paths_are_the_manifests_neighbours(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,completion\n")
    job = local(
        tmp_path / "jobs",
        model={"source": "file://../model"},
        dataset={"train": {"source": f"file://{tmp_path}/rows.csv"}, "test": {"source": "file://../rows.csv"}},
    )
    assert job.spec.model.source == f"file://{tmp_path}/model"
    assert job.spec.dataset.train.source == f"file://{tmp_path}/rows.csv"
    assert job.spec.dataset.test.source == f"file://{tmp_path}/rows.csv"


def test_without_local_files_the_revision_is_the_clusters(tmp_path: Path) -> None:
    assert local(tmp_path).revision == revision_of(spec())


def test_editing_a_local_data_file_makes_a_new_revision(tmp_path: Path) -> None:
    before, same, after = (with_rows(tmp_path, text) for text in ("one\n", "one\n", "two\n"))
    assert before.revision == same.revision != after.revision


def test_editing_one_of_several_data_files_makes_a_new_revision(tmp_path: Path) -> None:
    (tmp_path / "part-0.jsonl").write_text("one\n")
    (tmp_path / "part-1.jsonl").write_text("two\n")
    before = local(tmp_path, dataset={"train": {"source": "file://part-*.jsonl"}})
    (tmp_path / "part-1.jsonl").write_text("three\n")
    assert local(tmp_path, dataset={"train": {"source": "file://part-*.jsonl"}}).revision != before.revision
    with pytest.raises(UserError, match=r"dataset.train.source: .*/other-\*.jsonl matches no file"):
        local(tmp_path, dataset={"train": {"source": "file://other-*.jsonl"}})


def test_a_data_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as failure:
        local(tmp_path, dataset={"train": {"source": "file://nowhere.jsonl"}})
    assert failure.value.message == (
        f"dataset.train.source: {tmp_path}/nowhere.jsonl can't be read (No such file or directory)."
    )


def test_a_workspace_in_a_bucket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as failure:
        local(tmp_path, workspace={"bucket": "s3://work/finetune"})
    assert failure.value.message == (
        "recipes has workspace.bucket, by which pods of a cluster hand their files on; here they lie in .finetune: "
        "remove it for `finetune run`."
    )


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"model": {"source": "pvc://models/base"}}, "model.source: pvc://models/base is a PersistentVolumeClaim"),
        (
            {"dataset": {"train": {"source": "configmap://rows/train.jsonl"}}},
            "dataset.train.source: configmap://rows/train.jsonl is a ConfigMap",
        ),
        (
            {"evaluation": {"lmEval": {"source": "configmap://benchmarks", "tasks": ["capitals"]}}},
            "evaluation.lmEval.source: configmap://benchmarks is a ConfigMap",
        ),
        (
            {"dataset": {"train": {"source": "s3://b/t"}, "test": {"source": "pvc://rows/test.jsonl"}}},
            "dataset.test.source: pvc://rows/test.jsonl is a PersistentVolumeClaim",
        ),
        (
            {"output": {"destination": "pvc://models/recipes"}},
            "output.destination: pvc://models/recipes is a PersistentVolumeClaim",
        ),
    ],
)
def test_a_clusters_source_is_refused_with_what_to_use(sections: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as failure:
        local(tmp_path, **sections)
    taken = {
        "model": "hf://, s3://, gs://, abfs://, oci:// and file://PATH",
        "dataset": "hf://, s3://, gs://, abfs://, oci://, https:// and file://PATH",
        "evaluation": "file://PATH",
        "output": "hf://, s3://, gs://, abfs:// and oci://",
    }
    (section,) = sections
    assert failure.value.message == f"{words}, which only a cluster has; `finetune run` takes {taken[section]}."


def test_a_suspended_job_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(UserError) as failure:
        local(tmp_path, suspend=True)
    assert failure.value.message == "recipes has suspend: true, so nothing is run; set it to false, or remove it."


def test_a_shared_engine_is_one_of_them(tmp_path: Path) -> None:
    shared = {"hosting": {"engine": {"name": "chat"}}, "output": {"destination": "s3://models/recipes"}}
    (note,) = local(tmp_path, **shared).notes
    assert note.startswith("Only a cluster acts on hosting.engine; here the job takes what this machine has.")


def test_fields_for_a_cluster_are_named(tmp_path: Path) -> None:
    job = local(
        tmp_path,
        training={
            "resources": {"limits": {"cpu": 2}},
            "maxSteps": 3,
            "sweep": {"parameters": {"learningRate": [1e-4]}, "parallel": 1},
        },
        hosting={"image": "vllm:1"},
        workspace={"size": "5Gi"},
        ttlAfterFinished="1h",
    )
    assert job.notes == (
        "Only a cluster acts on training.resources, hosting.image, training.sweep.parallel, workspace, "
        "ttlAfterFinished; here the job "
        "takes what this machine has.",
    )


def test_a_manifest_for_one_machine_needs_no_word(tmp_path: Path) -> None:
    assert local(tmp_path, training={"maxRuntime": "1h", "retries": 1}, hosting={"contextLength": 64}).notes == ()


def test_credentials_are_said_to_come_from_the_environment(tmp_path: Path) -> None:
    hub, bucket, large, out, key = ({"secretRef": {"name": name}} for name in ("hub", "bucket", "large", "out", "key"))
    job = local(
        tmp_path,
        model={"source": "hf://org/model", "credentials": hub},
        dataset={"train": {"source": "s3://b/t"}, "credentials": bucket},
        evaluation={
            "baselines": [{"type": "endpoint", "url": "https://api/v1", "model": "large", "credentials": large}]
        },
        output={"destination": "s3://b/models", "credentials": out, "sign": key},
    )
    assert job.notes == (
        "Credentials come from this shell's environment (HF_TOKEN, AWS_ACCESS_KEY_ID, OPENAI_API_KEY, SIGNING_KEY, …), "
        "not from Secret hub and bucket and large and out and key.",
    )


@pytest.mark.parametrize(("section", "model"), [("training", Training), ("hosting", Hosting)])
def test_no_field_is_dropped_without_a_word(section: str, model: type[Training | Hosting], tmp_path: Path) -> None:
    for name in set(model.model_fields) - ACTED_ON[section]:
        given = model.model_construct(_fields_set={name})
        job = localize("recipes", spec().model_copy(update={section: given}), tmp_path)
        assert job.notes
        assert f"{section}.{name}" in job.notes[0]
