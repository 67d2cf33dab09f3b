"""A cluster whose kubelet is simulated: a real API server, the real controllers, and kwok in place of nodes.

kube-controller-manager makes the pods of Jobs and Deployments and counts them; kwok runs none of them, but writes what
a kubelet would: a pod starts, a stage's pod ends well and leaves its result, an engine's pod becomes ready. There is no
scheduler: a MutatingAdmissionPolicy puts each pod on the one node as it is made.

Used by `test_scale` and by `make benchmark-operator`.
"""

import json
from pathlib import Path
from typing import Any

import psutil
from control_plane import RECORDED, ControlPlane, User, with_crd
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.finetunejob.desired.evaluation import evaluation_config
from finetune_operator.settings import Settings
from finetune_trainer.contract.outcome import Outcome
from rehearsal import MANIFEST, PREPARED, TEST, TRAINED, evaluated

HERE = Path(__file__).parent
NODES, PODS = HERE / "simulated_nodes.yaml", HERE / "simulated_pods.yaml"
# Of one core.
BUSY_PERCENT = 20
CONTROLLERS = ("job", "deployment", "replicaset", "garbage-collector")
# What the manifests of these clusters say: one that is not measured, and one that is.
PLAIN: dict[str, Any] = MANIFEST
MEASURED: dict[str, Any] = MANIFEST | {"dataset": TEST, "evaluation": {"enabled": True}}


class SimulatedCluster(ControlPlane):
    """The API server with the CRD; `work` starts the controllers and kwok, `pause` stops them."""

    def __init__(self, directory: Path, *users: User) -> None:
        super().__init__(
            directory,
            users,
            feature_gates="MutatingAdmissionPolicy=true",
            runtime_config="admissionregistration.k8s.io/v1beta1=true",
        )

    def start(self) -> None:
        """Start the API server, and tell it what this cluster is."""
        super().start()
        self.admin = with_crd(self)
        self.admin("create", "namespace", RECORDED)
        self.admin("apply", "-f", str(NODES))

    def work(self) -> None:
        """Start who makes pods and who plays them."""
        self.spawn(
            "kube-controller-manager",
            kubeconfig=self.kubeconfig(),
            controllers=",".join(f"{name}-controller" for name in CONTROLLERS),
            leader_elect="false",
            secure_port=0,
            # Its own limit, 20 requests a second, is not what is measured here.
            kube_api_qps=2000,
            kube_api_burst=4000,
        )
        stages = self.directory / PODS.name
        stages.write_text(PODS.read_text().replace("RESULTS", _results()))
        self.spawn(
            "kwok",
            kubeconfig=self.kubeconfig(),
            config=stages,
            manage_all_nodes="true",
            node_lease_duration_seconds=0,
        )

    def catch_up(self) -> None:
        """Wait until the API server has read what was written into etcd beside it: it does next to nothing then."""
        server = psutil.Process(self.pid("kube-apiserver"))
        while server.cpu_percent(interval=1) > BUSY_PERCENT:
            pass

    def pause(self) -> None:
        """Stop them: nothing but the operator and the test changes anything from here on."""
        self.end("kwok")
        self.end("kube-controller-manager")


def _results() -> str:
    """What the stages' pods leave, as a dictionary of kwok's templates."""
    measured = evaluation_config(FineTuneJobSpec.model_validate(MEASURED), Settings()).id
    results = {"prepare": PREPARED, "train": TRAINED, "evaluate": evaluated(measured)}
    reason = Outcome.SUCCEEDED.exit.reason
    messages = {stage: json.dumps({"reason": reason, "result": result}) for stage, result in results.items()}
    return "dict " + " ".join(f"`{stage}` `{message}`" for stage, message in messages.items())
