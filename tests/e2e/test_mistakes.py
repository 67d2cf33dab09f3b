"""What a user got wrong is told in a sentence, before anything is trained, and mended by what the sentence says."""

from kube import apply, get, items, kubectl, wait
from recipes import manifest, secret
from stages import READY_SECONDS, STAGE_SECONDS, apply_job, condition


def test_bad_rows_are_refused_with_file_and_line_before_anything_is_trained(namespace: str) -> None:
    apply_job(namespace, manifest("bad", train="s3://recipes/bad.jsonl", maxSteps=2))
    wait(namespace, "ftj/bad", "condition=DataReady=False", STAGE_SECONDS)
    found = condition(namespace, "DataReady", "bad")
    assert found["reason"] == "DataInvalid"
    assert "bad.jsonl:1: has no message of the assistant" in found["message"]
    assert "bad.jsonl:2: has no messages" in found["message"]
    assert "bad.jsonl:3: is not JSON" in found["message"]
    assert not items("job", namespace, "finetune.dev/job=bad,finetune.dev/stage=train")
    kubectl("delete", "ftj", "bad", "-n", namespace)


def test_a_missing_secret_is_named_and_the_job_goes_on_once_it_is_there(namespace: str) -> None:
    late = manifest("late", maxSteps=2)
    for part in ("model", "dataset"):
        late["spec"][part]["credentials"] = {"secretRef": {"name": "late"}}
    late["spec"]["hosting"] = {"enabled": False}
    apply_job(namespace, late)
    wait(namespace, "ftj/late", "condition=DataReady=False", STAGE_SECONDS)
    found = condition(namespace, "Ready", "late")
    assert found["reason"] == "SecretNotFound"
    assert "Secret late does not exist; create it" in found["message"]
    apply(secret(namespace, "late"))
    wait(namespace, "ftj/late", "condition=Ready", READY_SECONDS)
    assert get("ftj", "late", namespace)["status"]["phase"] == "Succeeded"
    kubectl("delete", "ftj", "late", "-n", namespace)
