"""What is no better than its baselines is not served, and the revision before it goes on answering."""

from kube import get, wait
from recipes import NAME, load, manifest
from stages import FTJ, READY_SECONDS, apply_job, condition, revision

EVALUATION = {"metrics": ["token_f1"], "baselines": [{"type": "zero-shot"}, {"type": "retrieval"}], "sampleSize": 8}


def test_a_revision_that_learnt_nothing_is_refused_while_the_old_one_answers(namespace: str) -> None:
    apply_job(namespace, manifest(maxSteps=2))
    wait(namespace, FTJ, "condition=Ready", READY_SECONDS)
    old = revision(namespace)
    with load(namespace, "load", NAME) as said:
        job = manifest(maxSteps=2, seed=7)
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
    assert len(said) > 20
    assert [answer for answer in said if not answer["ok"]] == []
