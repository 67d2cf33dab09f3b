"""A FineTuneJob on a shared Engine: what that is asked for, what its news mean, and how one moves there and back."""

import json
from datetime import timedelta
from typing import Any

import pytest
from finetune_operator import names
from rehearsal import PREPARED, TEST, Rehearsal, evaluated
from shared_engines import ENGINE, PLACE, SHARED, SPEC, Lodger, published

ON_CHAT = {names.ENGINE_OF: ENGINE}
OWN = {"hosting": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}


@pytest.fixture
def lodger() -> Lodger:
    return Lodger()


@pytest.fixture
def served(lodger: Lodger) -> Lodger:
    lodger.serve()
    assert lodger.condition("Ready")[0] == "True"
    return lodger


def tell_retrained(cluster: Lodger, seed: int = 7) -> tuple[str, str]:
    """Train another revision, up to its artifact; the old one's and its own."""
    old = cluster.revision
    cluster.edit(training={**cluster.job["spec"]["training"], "seed": seed})
    cluster.publish()
    return old, cluster.revision


class TestALife:
    def test_the_engine_is_asked_for_what_is_published_and_nothing_of_its_own_is_made(self, lodger: Lodger) -> None:
        lodger.publish()
        assert not [kind for kind, _ in lodger.objects if kind in ("Deployment", "Service")]
        found = lodger.objects["ConfigMap", f"recipes-{lodger.revision}-on-chat"]
        assert found["metadata"]["labels"] == {
            "app.kubernetes.io/managed-by": "finetune-operator",
            "finetune.dev/job": "recipes",
            "finetune.dev/revision": lodger.revision,
            "finetune.dev/stage": "host",
            "finetune.dev/loaded-on": ENGINE,
        }
        assert json.loads(found["data"]["adapter.json"]) == {
            "name": f"recipes-{lodger.revision}",
            "uri": f"{PLACE}/{lodger.revision}",
            "digest": "sha256:bb",
        }
        told = f"Engine chat is asked for adapter recipes-{lodger.revision}."
        assert lodger.condition("Hosted") == ("Unknown", "Running", told)
        assert lodger.status["phase"] == "Hosting"

    def test_a_pod_that_lacks_it_is_waited_for(self, lodger: Lodger) -> None:
        lodger.publish()
        lodger.load(pods=1)
        (told,) = lodger.engines[ENGINE]["status"]["adapters"]
        told["pods"] = 2
        lodger.reconcile()
        loading = f"Engine chat loads adapter recipes-{lodger.revision}: 1 of 2 pods have it."
        assert lodger.condition("Hosted") == ("Unknown", "Running", loading)

    def test_it_is_promoted_once_the_engine_takes_its_name(self, lodger: Lodger) -> None:
        lodger.publish()
        lodger.load()
        lodger.reconcile()
        assert lodger.stable() == (ON_CHAT, ENGINE, lodger.revision)
        assert lodger.condition("Promoted")[:2] == ("Unknown", "Running")
        assert "endpoint" not in lodger.status
        lodger.load()
        lodger.reconcile()
        assert lodger.condition("Promoted")[2] == f"Service recipes points at {lodger.revision} on Engine chat."
        assert lodger.condition("Ready") == (
            "True",
            "Serving",
            f"http://recipes.kitchen.svc/v1 answers as model recipes with revision {lodger.revision}.",
        )
        assert lodger.status["servedRevision"] == lodger.revision
        assert "replicas" not in lodger.status

    def test_at_rest_nothing_changes(self, served: Lodger) -> None:
        before = served._state()
        assert served.look().actions == ()
        served.reconcile()
        assert served._state() == before

    def test_an_evaluation_asks_the_engine_for_both_models_with_its_key(self) -> None:
        key = {"secretRef": {"name": "chat-key"}}
        lodger = Lodger(dataset=TEST, evaluation={"gate": {"minimum": 0.5}})
        lodger.engine(spec=SPEC | {"apiKey": key})
        lodger.publish()
        lodger.load()
        lodger.reconcile()
        (container,) = lodger.get("Job", "-evaluate")["spec"]["template"]["spec"]["containers"]
        told = ["--endpoint", "http://chat.kitchen.svc/v1", "--model", f"recipes-{lodger.revision}"]
        assert container["args"][-6:] == [*told, "--base-model", "chat"]
        names_of = {each.get("valueFrom", {}).get("secretKeyRef", {}).get("name") for each in container["env"]}
        assert "chat-key" in names_of
        assert not lodger.exists("Deployment", "-base")

    def test_without_hosting_it_is_measured_there_and_given_back(self) -> None:
        lodger = Lodger(dataset=TEST, evaluation={}, hosting={"enabled": False, "engine": {"name": ENGINE}})
        lodger.publish()
        lodger.load()
        lodger.reconcile()
        measure(lodger)
        assert lodger.condition("Hosted")[:2] == ("False", "Released")
        assert lodger.condition("Ready")[0] == "True"
        assert lodger.asked() == set()

    def test_without_hosting_from_then_on_it_is_unloaded(self, served: Lodger) -> None:
        served.edit(hosting={"enabled": False, "engine": {"name": ENGINE}})
        served.reconcile()
        assert ("Service", "recipes") not in served.objects
        assert served.asked() == set()
        assert served.condition("Ready")[0] == "True"

    def test_a_lost_status_is_found_again(self, served: Lodger) -> None:
        before = served.status
        served.job["status"] = {}
        served.reconcile()
        told = [{key: each[key] for key in ("type", "status", "message")} for each in served.status["conditions"]]
        assert told == [{key: each[key] for key in ("type", "status", "message")} for each in before["conditions"]]
        assert served.status["servedRevision"] == served.revision

    def test_a_status_that_is_lost_while_the_engine_sleeps_takes_nothing_away(self, served: Lodger) -> None:
        old = served.asked()
        served.edit(training={**served.job["spec"]["training"], "seed": 7})
        served.engine(spec=SPEC | {"replicas": 0}, adapters=[])
        served.job["status"] = {}
        served.reconcile()
        assert served.asked() == old

    def test_what_is_asked_to_take_the_name_stays_whatever_is_trained_next(self, served: Lodger) -> None:
        _, new = tell_retrained(served)
        served.load()
        served.reconcile()
        tell_retrained(served, seed=8)
        assert f"{new}-on-chat" in served.asked()
        assert served.stable() == (ON_CHAT, ENGINE, new)

    def test_what_somebody_deletes_comes_back(self, served: Lodger) -> None:
        wanted = served.asked(), served.stable()
        served.delete("ConfigMap", f"recipes-{served.revision}-on-chat")
        served.delete("Service", "recipes")
        served.reconcile()
        assert (served.asked(), served.stable()) == wanted


def measure(cluster: Lodger, **scores: float) -> None:
    """The evaluate Job ends."""
    cluster.complete("evaluate", evaluated(cluster.evaluation().id, **scores))
    cluster.reconcile()


class TestASecondRevision:
    def test_the_one_that_serves_stays_until_the_engine_has_taken_the_name_for_the_new_one(
        self, served: Lodger
    ) -> None:
        old, new = tell_retrained(served)
        assert served.asked() == {f"{old}-on-chat", f"{new}-on-chat"}
        assert served.stable() == (ON_CHAT, ENGINE, old)
        served.load()
        served.reconcile()
        # The Engine is asked to, and has not done it yet.
        assert served.stable() == (ON_CHAT, ENGINE, new)
        assert served.status["servedRevision"] == old
        assert served.condition("Promoted")[:2] == ("Unknown", "Running")
        assert served.asked() == {f"{old}-on-chat", f"{new}-on-chat"}
        served.load()
        served.reconcile()
        assert served.status["servedRevision"] == new
        assert served.condition("Ready")[0] == "True"
        assert served.asked() == {f"{new}-on-chat"}

    def test_one_that_misses_the_gate_goes_and_the_old_one_stays(self) -> None:
        lodger = Lodger(dataset=TEST, evaluation={"gate": {"minimum": 0.5}})
        lodger.publish()
        lodger.load()
        lodger.reconcile()
        measure(lodger)
        lodger.load()
        lodger.reconcile()
        assert lodger.condition("Ready")[0] == "True"
        old, _ = tell_retrained(lodger)
        lodger.load()
        lodger.reconcile()
        measure(lodger, tuned=0.3, retrieval=0.2)
        assert lodger.condition("Evaluated")[:2] == ("False", "GateNotMet")
        assert lodger.asked() == {f"{old}-on-chat"}
        assert lodger.stable() == (ON_CHAT, ENGINE, old)
        assert f"Revision {old} goes on serving" in lodger.condition("Ready")[2]
        # By hand it is promoted all the same.
        lodger.annotate(names.PROMOTE, lodger.revision)
        lodger.reconcile()
        for _ in range(2):
            lodger.load()
            lodger.reconcile()
        assert lodger.status["servedRevision"] == lodger.revision
        assert lodger.condition("Evaluated")[1] == "PromotedByHand"

    def test_one_that_can_not_be_loaded_is_told_in_the_pods_words(self, served: Lodger) -> None:
        old, new = tell_retrained(served)
        served.load(failed="the digest is another one")
        served.reconcile()
        told = f"Pod chat-0 of Engine chat could not load adapter recipes-{new}: the digest is another one"
        assert served.condition("Hosted") == ("False", "AdapterNotLoaded", told)
        assert served.stable() == (ON_CHAT, ENGINE, old)
        # It is tried again by itself.
        for _ in range(2):
            served.load()
            served.reconcile()
        assert served.status["servedRevision"] == new

    def test_an_earlier_one_is_brought_back_and_its_checkpoints_are_not(self, served: Lodger) -> None:
        old, new = tell_retrained(served)
        for _ in range(3):
            served.load()
            served.reconcile()
        served.annotate(names.PROMOTE, old)
        served.reconcile()
        assert served.asked() == {f"{old}-on-chat", f"{new}-on-chat"}
        assert served.stable() == (ON_CHAT, ENGINE, new)
        for _ in range(2):
            served.load()
            served.reconcile()
        assert served.status["servedRevision"] == old
        assert served.condition("Promoted")[:2] == ("True", "Pinned")
        assert served.asked() == {f"{old}-on-chat"}
        served.annotate(names.PROMOTE, f"{old}@20")
        served.reconcile()
        for _ in range(2):
            served.load()
            served.reconcile()
        assert "is not at output.destination, where the Engine reads it" in served.condition("Promoted")[2]
        assert served.status["servedRevision"] == new

    def test_suspended_the_candidate_goes_and_what_serves_stays(self, served: Lodger) -> None:
        old, new = tell_retrained(served)
        served.edit(suspend=True)
        served.reconcile()
        assert served.asked() == {f"{old}-on-chat"}
        assert served.condition("Hosted")[:2] == ("Unknown", "Suspended")
        served.edit(suspend=False)
        served.reconcile()
        assert served.asked() == {f"{old}-on-chat", f"{new}-on-chat"}


class TestMoving:
    def test_from_an_engine_of_its_own_which_answers_until_the_other_does(self) -> None:
        cluster = Lodger(**OWN)
        cluster.publish()
        cluster.roll_out()
        cluster.reconcile()
        revision = cluster.revision
        own, _, _ = cluster.stable()
        assert own[names.REVISION] == revision
        deployment = cluster.get("Deployment")
        cluster.edit(hosting=SHARED["hosting"])
        cluster.reconcile()
        assert cluster.asked() == {f"{revision}-on-chat"}
        assert cluster.get("Deployment") == deployment
        assert cluster.stable() == (own, None, None)
        assert f"Revision {revision} goes on serving" in cluster.condition("Ready")[2]
        cluster.load()
        cluster.reconcile()
        # The Engine takes the name first; requests go there once it has.
        assert cluster.stable() == (own, None, None)
        asking = cluster.objects["Service", f"recipes-{revision}-on"]
        assert asking["spec"]["selector"] == ON_CHAT
        assert asking["metadata"]["labels"][names.LOADED_ON] == ENGINE
        assert cluster.exists("Deployment")
        cluster.load()
        cluster.reconcile()
        assert cluster.stable() == (ON_CHAT, ENGINE, revision)
        assert cluster.condition("Ready")[0] == "True"
        assert not cluster.exists("Deployment")
        assert [name for kind, name in cluster.objects if kind == "Service"] == ["recipes"]

    def test_and_back(self, served: Lodger) -> None:
        revision = served.revision
        served.edit(**OWN)
        served.reconcile()
        assert served.stable() == (ON_CHAT, ENGINE, revision)
        assert served.asked() == {f"{revision}-on-chat"}
        served.roll_out()
        served.reconcile()
        selector, engine, _ = served.stable()
        assert (selector[names.REVISION], engine) == (revision, None)
        assert served.asked() == set()
        assert served.condition("Ready")[0] == "True"
        assert served.status["replicas"] == 1

    def test_from_one_engine_to_another(self, served: Lodger) -> None:
        revision = served.revision
        served.engine("other")
        served.edit(hosting={"engine": {"name": "other"}})
        served.reconcile()
        assert served.asked() == {f"{revision}-on-chat", f"{revision}-on-other"}
        assert served.stable() == (ON_CHAT, ENGINE, revision)
        served.load("other")
        served.reconcile()
        # Until the other one has taken the name, this one keeps it.
        assert served.stable() == (ON_CHAT, ENGINE, revision)
        served.load("chat")
        assert served.engines["chat"]["status"]["adapters"][0]["answersAs"] == ["recipes"]
        served.load("other")
        served.reconcile()
        assert served.stable() == ({names.ENGINE_OF: "other"}, "other", revision)
        assert [name for kind, name in served.objects if kind == "Service"] == ["recipes"]
        served.load("other")
        served.reconcile()
        assert served.asked() == {f"{revision}-on-other"}
        assert served.condition("Ready")[0] == "True"

    def test_an_earlier_revision_moves_too_while_the_manifests_own_is_not_promoted(self) -> None:
        gated = {"dataset": TEST, "evaluation": {"gate": {"minimum": 0.5}}}
        cluster = Lodger(**OWN, **gated)
        cluster.publish()
        cluster.measure()
        old, new = tell_retrained(cluster)
        cluster.measure(tuned=0.3, retrieval=0.2)
        assert cluster.status["servedRevision"] == old
        cluster.edit(hosting=SHARED["hosting"])
        cluster.reconcile()
        assert cluster.asked() == {f"{old}-on-chat"}
        for _ in range(3):
            cluster.load()
            cluster.reconcile()
        assert cluster.stable() == (ON_CHAT, ENGINE, old)
        assert not [name for kind, name in cluster.objects if kind == "Deployment"]
        cluster.edit(**OWN)
        cluster.reconcile()
        assert cluster.stable() == (ON_CHAT, ENGINE, old)
        raw = cluster.objects["Deployment", f"recipes-{old}"]
        counts = ("replicas", "updatedReplicas", "availableReplicas")
        raw["status"] = {"observedGeneration": 1, **dict.fromkeys(counts, 1)}
        cluster.reconcile()
        assert cluster.stable()[0][names.REVISION] == old
        assert cluster.asked() == set()
        assert cluster.condition("Evaluated")[1] == "GateNotMet"
        assert new == cluster.revision

    def test_an_evaluation_under_way_begins_again_where_the_candidate_is_now(self) -> None:
        cluster = Lodger(**OWN, dataset=TEST, evaluation={})
        cluster.publish()
        cluster.roll_out()
        cluster.reconcile()
        before = cluster.get("Job", "-evaluate")["metadata"]["uid"]
        cluster.edit(hosting=SHARED["hosting"])
        cluster.reconcile()
        cluster.load()
        cluster.reconcile()
        cluster.reconcile()
        job = cluster.get("Job", "-evaluate")
        assert job["metadata"]["uid"] != before
        assert "http://chat.kitchen.svc/v1" in job["spec"]["template"]["spec"]["containers"][0]["args"]

    def test_another_destination_keeps_what_serves_and_is_read_once_it_is_there(self, served: Lodger) -> None:
        asked, name = served.asked(), f"recipes-{served.revision}-on-chat"
        served.edit(output=SHARED["output"] | {"destination": "s3://elsewhere/recipes"})
        served.reconcile()
        served.reconcile()
        assert served.asked() == asked
        assert json.loads(served.objects["ConfigMap", name]["data"]["adapter.json"])["uri"].startswith(PLACE)
        uri = f"s3://elsewhere/recipes/{served.revision}"
        served.complete("publish", published(f"recipes-{served.revision}") | {"uri": uri})
        served.reconcile()
        assert json.loads(served.objects["ConfigMap", name]["data"]["adapter.json"])["uri"] == uri
        assert served.condition("Ready")[0] == "True"

    def test_where_it_can_not_go_it_stays(self) -> None:
        cluster = Lodger(**OWN)
        cluster.publish()
        cluster.roll_out()
        cluster.reconcile()
        del cluster.engines[ENGINE]
        cluster.edit(hosting=SHARED["hosting"])
        cluster.reconcile()
        told = "Not in namespace kitchen: Engine chat. Create it, or correct hosting.engine."
        assert cluster.condition("Hosted") == ("False", "ObjectNotFound", told)
        assert f"{told} Revision {cluster.revision} goes on serving" in cluster.condition("Ready")[2]
        assert cluster.exists("Deployment")

    def test_a_published_revision_needs_no_volume_there(self) -> None:
        lodger = Lodger(ttlAfterFinished="1h")
        lodger.serve()
        name, served_by = f"recipes-{lodger.revision}", lodger.stable()
        lodger.now += timedelta(hours=2)
        lodger.reconcile()
        assert ("PersistentVolumeClaim", name) not in lodger.objects
        # Nor is it trained again for what the Engine does.
        lodger.engine(spec=SPEC | {"replicas": 0}, replicas=0, adapters=[])
        lodger.reconcile()
        assert lodger.condition("Hosted")[:2] == ("False", "ScaledToZero")
        assert ("PersistentVolumeClaim", name) not in lodger.objects
        lodger.engine()
        lodger.load()
        lodger.reconcile()
        assert lodger.stable() == served_by
        assert lodger.condition("Ready")[0] == "True"

    @pytest.mark.parametrize(
        ("edit", "stage"),
        [
            ({"output": SHARED["output"] | {"destination": "s3://artifacts/elsewhere"}}, "publish"),
            ({"output": SHARED["output"] | {"sign": {"secretRef": {"name": "cosign"}}}}, "publish"),
            ({"evaluation": {"enabled": True}}, "evaluate"),
        ],
        ids=["destination", "signature", "evaluation"],
    )
    def test_what_serves_is_not_made_again_for_what_is_asked_after_its_volume_went(
        self, edit: dict[str, Any], stage: str
    ) -> None:
        """Other weights would take its place under its name, and nobody would have measured them."""
        lodger = Lodger(ttlAfterFinished="1h")
        lodger.serve()
        lodger.now += timedelta(hours=2)
        lodger.reconcile()
        before = lodger.stable(), lodger.asked()
        lodger.edit(**edit)
        lodger.reconcile()
        lodger.load()
        lodger.reconcile()
        told = (
            f"Stage {stage} needs the workspace of revision {lodger.revision}, which is gone (ttlAfterFinished), while "
            "Engine chat serves what was made there. Undo the change of the manifest, or set training.seed to another "
            "value: that is a new revision, which takes this one's place once it has passed."
        )
        conditions = {raw["message"] for raw in lodger.status["conditions"] if raw["status"] == "False"}
        assert any(told in message for message in conditions)
        assert (lodger.stable(), lodger.asked()) == before
        assert ("PersistentVolumeClaim", f"recipes-{lodger.revision}") not in lodger.objects
        assert not lodger.exists("Job", "-prepare")


class TestOnAnEngineThatSleeps:
    ASLEEP = SPEC | {"replicas": 0, "idleAfter": "30m"}

    def sleep(self, lodger: Lodger) -> None:
        lodger.engine(spec=self.ASLEEP, replicas=0, adapters=[], wakesTo=2)

    def replicas(self, lodger: Lodger) -> int:
        return int(lodger.engines[ENGINE]["spec"]["replicas"])

    def test_what_serves_there_is_ready_and_wakes_nobody(self) -> None:
        lodger = Lodger()
        lodger.serve()
        served = lodger.job["status"]["servedRevision"]
        self.sleep(lodger)
        lodger.reconcile()
        asleep = "Engine chat is asleep: a request to finetune-api, or a scale, wakes it"
        assert lodger.condition("Hosted") == ("True", "Asleep", f"{asleep}.")
        status, reason, message = lodger.condition("Ready")
        assert (status, reason) == ("True", "Asleep")
        assert message.startswith(f"{asleep}, and then http://recipes.kitchen.svc/v1 answers as model recipes")
        assert (lodger.job["status"]["servedRevision"], lodger.job["status"]["phase"]) == (served, "Serving")
        assert self.replicas(lodger) == 0

    def test_a_candidate_wakes_it_with_as_many_pods_as_it_had(self) -> None:
        lodger = Lodger()
        self.sleep(lodger)
        lodger.train()
        assert self.replicas(lodger) == 0, "Training needs no engine."
        lodger.complete("publish", published(lodger.revision))
        lodger.reconcile()
        assert self.replicas(lodger) == 2

    def test_an_evaluation_of_what_serves_wakes_it_before_it_asks(self) -> None:
        lodger = Lodger()
        lodger.serve()
        self.sleep(lodger)
        lodger.edit(evaluation={"metrics": ["token_f1"]})
        lodger.reconcile()
        assert self.replicas(lodger) == 2

    def test_one_that_a_person_scaled_to_nothing_is_left_alone(self) -> None:
        lodger = Lodger()
        lodger.engine(spec=SPEC | {"replicas": 0}, replicas=0, adapters=[])
        lodger.publish()
        assert self.replicas(lodger) == 0
        assert lodger.condition("Hosted")[:2] == ("False", "ScaledToZero")


UNFIT: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "another base model": (
        {"model": {"source": "s3://models/other"}, "lora": {}},
        {},
        "Engine chat serves s3://models/other, and model.source is s3://models/base. An adapter fits the model that it "
        "was trained on: name another Engine in hosting.engine, or make one.",
    ),
    "another revision": (
        {"model": {"source": "hf://org/base", "revision": "v1"}, "lora": {}},
        {"model": {"source": "hf://org/base", "revision": "v2"}},
        "Engine chat serves revision v1 of hf://org/base, and model.revision is v2. An adapter fits the model that it "
        "was trained on: name another Engine in hosting.engine, or make one.",
    ),
    "no adapters": (
        {"model": SPEC["model"]},
        {},
        "Engine chat loads no adapters: give it spec.lora, or name another one in hosting.engine.",
    ),
    "a rank too high": (
        SPEC | {"lora": {"maxRank": 8}},
        {},
        "Engine chat takes adapters up to rank 8 (spec.lora.maxRank), and this one has rank 16: raise the one, or "
        "lower training.adapter.rank.",
    ),
    "a rank too high that is tried": (
        SPEC | {"lora": {"maxRank": 8}},
        {"training": {"maxSteps": 40, "sweep": {"parameters": {"adapter.rank": [8, 32]}}}},
        "Engine chat takes adapters up to rank 8 (spec.lora.maxRank), and this one has rank 32: raise the one, or "
        "lower training.adapter.rank.",
    ),
    "what is not signed": (
        SPEC | {"lora": {"verifyKey": "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"}},
        {},
        "Engine chat loads only what is signed with its key (spec.lora.verifyKey), and output.sign is not set: name "
        "the Secret of the private key there, or another Engine in hosting.engine.",
    ),
    "what can't be read": (
        {"model": {}},
        {},
        "Engine chat has a manifest that is not valid; its conditions say why.",
    ),
}


class TestAnEngineThatCanNot:
    @pytest.mark.parametrize(("engine", "spec", "told"), UNFIT.values(), ids=UNFIT)
    def test_is_told_before_anything_is_made(self, engine: dict[str, Any], spec: dict[str, Any], told: str) -> None:
        lodger = Lodger(**spec)
        lodger.engine(spec=engine)
        lodger.reconcile()
        assert lodger.condition("Accepted") == ("False", "EngineMismatch", told)
        assert lodger.objects == {}

    def test_a_missing_one(self, lodger: Lodger) -> None:
        lodger.engines.clear()
        lodger.reconcile()
        told = "Not in namespace kitchen: Engine chat. Create it, or correct hosting.engine."
        assert lodger.condition("Accepted") == ("False", "ObjectNotFound", told)
        lodger.engine()
        lodger.reconcile()
        assert lodger.condition("Accepted")[0] == "True"

    def test_a_commit_by_its_name_is_the_branch_that_stands_for_it(self) -> None:
        lodger = Lodger(model={"source": "hf://org/base", "revision": "abc123"})
        lodger.engine(
            spec={"model": {"source": "hf://org/base"}, "lora": {}}, model={"name": ENGINE, "commit": "abc123"}
        )
        lodger.reconcile()
        assert lodger.condition("Accepted")[0] == "True"

    def test_one_that_serves_another_commit_by_now_gets_no_candidate_and_keeps_what_serves(
        self, served: Lodger
    ) -> None:
        served.engines[ENGINE]["status"]["model"] = {"name": ENGINE, "commit": "def456"}
        served.reconcile()
        assert served.condition("Ready")[0] == "True"
        served.engines[ENGINE]["status"]["model"] = {"name": ENGINE, "commit": "abc123"}
        _, new = tell_retrained(served)
        served.engines[ENGINE]["status"]["model"] = {"name": ENGINE, "commit": "def456"}
        served.load()
        served.reconcile()
        assert served.condition("Hosted")[:2] == ("False", "EngineMismatch")
        assert (
            f"serves commit def456 of s3://models/base, and revision {new} is of commit abc123"
            in (served.condition("Hosted")[2])
        )

    def test_one_that_serves_another_commit_than_prepare_found_is_told_before_anything_is_trained(
        self, lodger: Lodger
    ) -> None:
        """What main stands for, nobody knows before."""
        lodger.engines[ENGINE]["status"]["model"] = {"name": ENGINE, "commit": "def456"}
        lodger.reconcile()
        assert lodger.condition("Accepted")[0] == "True"
        lodger.complete("prepare", PREPARED)
        lodger.reconcile()
        assert not lodger.exists("Job", "-train")
        status, reason, message = lodger.condition("Trained")
        assert (status, reason) == ("False", "EngineMismatch")
        assert message == (
            f"Engine chat serves commit def456 of s3://models/base, and revision {lodger.revision} is of commit "
            "abc123: set model.revision of the Engine to that, or of both to the same commit."
        )
        lodger.engines[ENGINE]["status"]["model"] = {"name": ENGINE, "commit": "abc123"}
        lodger.reconcile()
        assert lodger.exists("Job", "-train")

    def test_one_that_takes_no_such_adapter_by_now_lets_a_training_that_is_under_way_go_on(
        self, lodger: Lodger
    ) -> None:
        lodger.reconcile()
        lodger.complete("prepare", PREPARED)
        lodger.reconcile()
        lodger.running("train")
        lodger.engine(spec=SPEC | {"lora": {"maxRank": 1}})
        lodger.reconcile()
        assert lodger.condition("Trained")[:2] == ("Unknown", "Running")
        lodger.edit(training={**lodger.job["spec"]["training"], "resources": {"limits": {"memory": "9Gi"}}})
        lodger.reconcile()
        lodger.collect()
        lodger.reconcile()
        assert "takes adapters up to rank 1" in lodger.condition("Trained")[2]

    def test_one_that_goes_while_it_serves(self, served: Lodger) -> None:
        del served.engines[ENGINE]
        served.reconcile()
        told = "Not in namespace kitchen: Engine chat. Create it, or correct hosting.engine."
        assert served.condition("Hosted") == ("False", "ObjectNotFound", told)
        assert served.asked() == {f"{served.revision}-on-chat"}
        served.engine()
        served.load()
        served.reconcile()
        assert served.condition("Ready")[0] == "True"

    def test_one_that_goes_while_another_revision_is_under_way_serves_nobody(self, served: Lodger) -> None:
        old = served.revision
        served.edit(training={"seed": 7})
        served.reconcile()
        assert f"Revision {old} goes on serving" in served.condition("Ready")[2]
        del served.engines[ENGINE]
        served.reconcile()
        told = (
            f"Revision {old} is to go on serving at http://recipes.kitchen.svc/v1, but no pod of it is available now."
        )
        assert told in served.condition("Ready")[2]

    def test_one_with_trouble_of_its_own(self, lodger: Lodger) -> None:
        trouble = {
            "type": "Ready",
            "status": "False",
            "reason": "Unschedulable",
            "message": "no node has it",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        lodger.engine(conditions=[trouble])
        lodger.publish()
        told = "Engine chat is not ready (Unschedulable): no node has it"
        assert lodger.condition("Hosted") == ("False", "EngineUnavailable", told)

    def test_a_pod_more_or_less_of_it_disturbs_nobody(self, served: Lodger) -> None:
        served.engines[ENGINE]["status"]["adapters"][0]["pods"] = 3
        served.reconcile()
        assert served.condition("Ready")[0] == "True"
        served.engines[ENGINE]["status"]["adapters"] = []
        served.reconcile()
        assert served.condition("Hosted") == ("Unknown", "EngineUnavailable", "No pod of Engine chat answers.")
        assert served.status["servedRevision"] == served.revision


def test_another_finetunejobs_own_engine_is_untouched(cluster: Rehearsal) -> None:
    cluster.serve()
    assert names.LOADED_ON not in cluster.objects["Service", "recipes"]["metadata"]["labels"]
