"""FineTuneJobs on a shared Engine, by the operator as a process under the chart's rights.

What the Engine tells is played, since the operator may not write its status here; but for the last story.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import chart
import pytest
from conftest import OPERATOR
from control_plane import ControlPlane, Kubectl
from finetune_operator import names
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.finetunejob.shared import engine_state, unfit
from finetune_trainer.contract.adapters import HeldAdapters, WantedAdapters
from loading import Telling, pod, telling
from operator_process import OperatorProcess
from paths import EXAMPLES
from playing import NAME, Played
from rehearsal import TEST
from shared_engines import ENGINE, SHARED, SPEC, adapters, published
from test_engine import roll_out

CHAT = {"apiVersion": "finetune.dev/v1alpha1", "kind": "Engine", "metadata": {"name": ENGINE}, "spec": SPEC}
OWN = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
SERVICE = f"service/{NAME}"
ON_CHAT = f"jsonpath={{.spec.selector.finetune\\.dev/engine}}={ENGINE}"


class Lodger(Played):
    """A FineTuneJob that an Engine is to serve, and the Engine."""

    def lend(self) -> None:
        """Apply the Engine."""
        self.kubectl("apply", "-f-", document=CHAT)

    def publish(self) -> str:
        """Up to the artifact; the name of what asks the Engine for it."""
        self.complete("prepare")
        self.complete("train")
        self.complete("publish", published(names.of_revision(self.name, self.revision)))
        return self.asked()

    def asked(self) -> str:
        """What asks the Engine for the current revision's adapter, once it is there."""
        found = f"configmap/{names.of_adapter(self.name, self.revision, ENGINE)}"
        self.wait(found, "create")
        return found

    def load(self, failed: str = "") -> None:
        """Its pods do what they are asked to."""
        told = {"replicas": 1, "adapters": adapters(self._wanted(), failed=failed)}
        patch = json.dumps({"status": told})
        self.kubectl("patch", "eng", ENGINE, "--subresource=status", "--type=merge", "-p", patch)

    def _wanted(self) -> Iterator[dict[str, Any]]:
        found = self.kubectl("get", "configmaps,services", "-l", f"{names.LOADED_ON}={ENGINE}", "-o", "json")
        yield from json.loads(found)["items"]

    def take(self, asking: str = SERVICE) -> None:
        """They load the current revision's adapter, and once a Service asks them to, they take the name for it."""
        self.load()
        self.wait(asking, f"jsonpath={{.metadata.labels.finetune\\.dev/revision}}={self.revision}")
        self.load()

    def serves(self) -> None:
        """The endpoint answers with the current revision."""
        self.wait(f"ftj/{NAME}", f"jsonpath={{.status.servedRevision}}={self.revision}")
        self.wait(f"ftj/{NAME}", "condition=Ready")

    def edit(self, **spec: Any) -> None:
        self.kubectl("patch", "ftj", NAME, "--type=merge", "-p", json.dumps({"spec": spec}))


@pytest.fixture
def lodger(
    control_plane: ControlPlane, admin: Kubectl, launch: Callable[..., OperatorProcess], kubectl: Kubectl
) -> Iterator[Lodger]:
    """The FineTuneJob of this test's namespace, and an operator that leaves Engines' status alone."""
    granted = chart.rights(OPERATOR.name)
    for rule in (rule for manifest in granted for rule in manifest.get("rules", ())):
        rule["resources"] = [each for each in rule["resources"] if each != "engines/status"] or ["none"]
    chart.give(control_plane, admin, granted)
    launch()
    yield Lodger(kubectl)
    for manifest in granted:
        admin("delete", "-f-", document=manifest)


def test_the_examples_are_accepted_as_they_lie_there(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "--validate=strict", "-f", str(EXAMPLES / "shared"))
    (engine,) = json.loads(kubectl("get", "eng", "-o", "json"))["items"]
    jobs = json.loads(kubectl("get", "ftj", "-o", "json"))["items"]
    named = {raw["metadata"]["name"]: raw["spec"]["hosting"]["engine"]["name"] for raw in jobs}
    assert named == dict.fromkeys(("recipes", "support"), engine["metadata"]["name"])
    for raw in jobs:
        spec = FineTuneJobSpec.model_validate(raw["spec"])
        there = engine_state({("Engine", "qwen"): engine}, raw["spec"])
        assert unfit(spec, there, "qwen", "team-a") is None


def test_a_life(lodger: Lodger) -> None:
    lodger.create(**SHARED)
    lodger.wait_reason("Accepted", "ObjectNotFound")
    # The Engine's news are the FineTuneJob's: nobody looks by the clock before ten minutes are over.
    lodger.lend()
    lodger.wait_reason("Accepted", "Accepted")
    lodger.publish()
    lodger.take()
    lodger.wait(SERVICE, ON_CHAT)
    lodger.serves()
    assert not [each for each in lodger.versions() if each.startswith("Deployment/")]
    # Another revision, which the Engine can't load at first.
    old = lodger.asked()
    lodger.edit(training={"seed": 7})
    lodger.publish()
    lodger.load(failed="its digest is another one")
    lodger.wait_reason("Hosted", "AdapterNotLoaded")
    told = f"Pod chat-0 of Engine chat could not load adapter {NAME}-{lodger.revision}: its digest is another one"
    assert lodger.condition("Hosted")["message"] == told
    assert lodger.get(*old.split("/"))
    lodger.take()
    lodger.serves()
    lodger.collect(old)


def test_one_that_loses_gives_its_place_back(lodger: Lodger) -> None:
    lodger.lend()
    lodger.create(**SHARED, dataset=TEST, evaluation={"gate": {"minimum": 0.5}})
    lodger.publish()
    lodger.load()
    lodger.measure()
    lodger.take()
    lodger.serves()
    first, old = lodger.asked(), lodger.revision
    lodger.edit(training={"seed": 7})
    second = lodger.publish()
    lodger.load()
    lodger.measure(tuned=0.3, retrieval=0.2)
    lodger.wait_reason("Evaluated", "GateNotMet")
    lodger.collect(second)
    assert lodger.get(*first.split("/"))
    assert lodger.get("service", NAME)["metadata"]["labels"][names.REVISION] == old
    assert lodger.job()["status"]["servedRevision"] == old


def test_from_an_engine_of_its_own_and_back(lodger: Lodger) -> None:
    lodger.create(hosting=OWN, **{key: SHARED[key] for key in ("model", "output")})
    lodger.complete("prepare")
    lodger.complete("train")
    lodger.complete("publish", published(names.of_revision(NAME, lodger.revision)))
    lodger.roll_out()
    lodger.serves()
    own, deployment = lodger.get("service", NAME)["spec"]["selector"], f"deployment/{NAME}-{lodger.revision}"
    # It stays where it is while there is no such Engine, and until that answers.
    lodger.edit(hosting={"engine": {"name": ENGINE}, "resources": None})
    lodger.wait_reason("Hosted", "ObjectNotFound")
    lodger.lend()
    asked = lodger.asked()
    assert lodger.get("service", NAME)["spec"]["selector"] == own
    asking = f"{SERVICE}-{lodger.revision}-on"
    lodger.take(asking)
    lodger.wait(SERVICE, ON_CHAT)
    lodger.serves()
    lodger.collect(deployment)
    lodger.collect(asking)
    lodger.edit(hosting={"engine": None} | OWN)
    lodger.roll_out()
    lodger.collect(asked)
    assert lodger.get("service", NAME)["spec"]["selector"] == own
    lodger.serves()


def test_with_the_engines_own_controller(operator: OperatorProcess, kubectl: Kubectl) -> None:
    """What its pod does is all that is played."""
    lodger = Lodger(kubectl)
    lodger.lend()
    lodger.wait("deployment/chat", "create")
    roll_out(kubectl, 1)
    with telling() as container:
        pod(kubectl, "chat-1", container.address)
        lodger.create(**SHARED)
        first = lodger.publish()
        operator.eventually(lambda: obeys(kubectl, container) and answers(lodger))
        lodger.serves()
        lodger.edit(training={"seed": 7})
        lodger.publish()
        operator.eventually(lambda: obeys(kubectl, container) and answers(lodger))
        second = names.of_revision(NAME, lodger.revision)
        assert container.held.aliases == {NAME: second}
        # The one before goes, and the Engine is not asked for it any more.
        lodger.collect(first)
        operator.eventually(lambda: obeys(kubectl, container) and container.held.loaded == (second,))
        lodger.serves()


def test_a_candidate_wakes_an_engine_that_sleeps(operator: OperatorProcess, kubectl: Kubectl) -> None:
    lodger = Lodger(kubectl)
    lodger.lend()
    kubectl("patch", "eng", ENGINE, "--type=merge", "-p", json.dumps({"spec": {"replicas": 0, "idleAfter": "30m"}}))
    asleep = 'jsonpath={.status.conditions[?(@.type=="Ready")].reason}=Asleep'
    lodger.wait(f"eng/{ENGINE}", asleep)
    assert kubectl("get", "eng", ENGINE).splitlines()[1].split()[2:5] == ["True", "Asleep", "0"]
    lodger.create(**SHARED)
    lodger.publish()
    lodger.wait(f"eng/{ENGINE}", "jsonpath={.spec.replicas}=1")
    lodger.wait("deployment/chat", "jsonpath={.spec.replicas}=1")


def obeys(kubectl: Kubectl, container: Telling) -> bool:
    """The container has what its pod is told."""
    told = json.loads(kubectl("get", "pod", "chat-1", "-o", "json"))["metadata"]["annotations"]
    wanted = WantedAdapters.model_validate_json(told.get(names.ADAPTERS_WANTED, "{}"))
    container.held = HeldAdapters(loaded=tuple(each.name for each in wanted.adapters), aliases=wanted.aliases)
    return True


def answers(lodger: Lodger) -> bool:
    """Whether the endpoint answers with the current revision."""
    return lodger.job()["status"].get("servedRevision") == lodger.revision
