"""What is no better than its baselines is not served, and the revision before it goes on answering.

The files of both lie in a bucket, where each stage leaves them for the next, and are published from there.
"""

from typing import Any

from kube import get, items, wait
from recipes import NAME, load, manifest
from stages import FTJ, READY_SECONDS, apply_job, condition, revision

EVALUATION = {"metrics": ["token_f1"], "baselines": [{"type": "zero-shot"}, {"type": "retrieval"}], "sampleSize": 8}
CREDENTIALS = {"secretRef": {"name": "bucket"}}


def in_bucket(**training: Any) -> dict[str, Any]:
    """A FineTuneJob without a volume."""
    job = manifest(**training)
    job["spec"]["workspace"] = {"bucket": "s3://recipes/work", "credentials": CREDENTIALS, "size": "2Gi"}
    job["spec"]["output"] = {"destination": "s3://recipes/published", "credentials": CREDENTIALS}
    return job


def test_a_revision_that_learnt_nothing_is_refused_while_the_old_one_answers(namespace: str) -> None:
    apply_job(namespace, in_bucket(maxSteps=2))
    wait(namespace, FTJ, "condition=Ready", READY_SECONDS)
    old = revision(namespace)
    assert get("ftj", NAME, namespace)["status"]["artifact"]["uri"] == f"s3://recipes/published/{old}"
    with load(namespace, "load", NAME) as said:
        job = in_bucket(maxSteps=2, seed=7)
        job["spec"]["dataset"]["test"] = {"fraction": 0.1}
        job["spec"]["evaluation"] = EVALUATION | {"gate": {"margin": 0}}
        apply_job(namespace, job)
        wait(namespace, FTJ, "jsonpath={.status.phase}=Rejected", READY_SECONDS)
        new = revision(namespace)
        assert new != old

        assert condition(namespace, "Evaluated")["reason"] == "GateNotMet"
        ready = condition(namespace, "Ready")
        assert ready["status"] == "False"
        assert f"Revision {old} goes on serving" in ready["message"]
        wait(namespace, f"deployment/{NAME}-{new}", "delete", READY_SECONDS)
        assert get("service", NAME, namespace)["spec"]["selector"]["finetune.dev/revision"] == old
        assert items("pvc", namespace) == []
    assert len(said) > 20
    assert [answer for answer in said if not answer["ok"]] == []
