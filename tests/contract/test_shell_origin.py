"""A FineTuneJob that starts from another one, by the operator as a process under the chart's rights."""

import json

from control_plane import Kubectl
from finetune_operator import names
from operator_process import OperatorProcess
from playing import Played

OFF = {"enabled": False}


def test_it_waits_and_is_woken_once_the_other_is_trained(operator: OperatorProcess, kubectl: Kubectl) -> None:
    sft, dpo = Played(kubectl, "sft"), Played(kubectl, "dpo")
    dpo.create(model={"source": "ftj://sft"}, hosting=OFF)
    dpo.wait_reason("Accepted", "ObjectNotFound")
    sft.create(hosting=OFF)
    # By its news: nobody looks by the clock before ten minutes are over.
    dpo.wait_reason("DataReady", "SourceNotTrained")
    sft.complete("prepare")
    sft.complete("train")
    dpo.wait("/".join(dpo.owner("prepare")), "create")

    address = f"ftj://sft/{sft.revision}"
    record = dpo.get("configmap", names.of_revision("dpo", dpo.revision))["data"]
    assert json.loads(record["run.json"])["model"]["source"]["uri"] == address
    job = dpo.get(*dpo.owner("prepare"))
    volumes = job["spec"]["template"]["spec"]["volumes"]
    claim = {"claimName": names.of_revision("sft", sft.revision), "readOnly": True}
    assert claim in [volume.get("persistentVolumeClaim") for volume in volumes]

    # Its source may go now: what was found stays, and the work goes on.
    dpo.start("prepare")
    kubectl("delete", "ftj", "sft")
    dpo.complete("prepare")
    dpo.complete("train")
    dpo.wait("ftj/dpo", "condition=Ready")
