"""An Engine with idleAfter: when it falls asleep, what keeps it awake, what is told of it and of its requests."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from engines import NOW, SETTINGS, Cluster
from finetune_operator.kinds.actions import Scale
from finetune_operator.serving.load import Load, read
from test_engine_adapters import adapter, service

METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="chat"} 2.0
vllm:num_requests_running{engine="1",model_name="chat"} 1.0
vllm:num_requests_waiting{engine="0",model_name="chat"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="chat",reason="capacity"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="chat"} 0.25
vllm:request_success_total{engine="0",finished_reason="stop",model_name="chat"} 7.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="chat"} 1.0
vllm:request_success_created{engine="0",finished_reason="stop",model_name="chat"} 1.7e+09
process_cpu_seconds_total 12.5
"""
IDLE = METRICS.replace(" 2.0", " 0.0").replace(" 1.0", " 0.0").replace(" 4.0", " 0.0")


def load(idle: float = 0, running: int = 0, waiting: int = 0, cache: float | None = 0.0) -> Load:
    return Load(running, waiting, 8, cache, NOW - timedelta(seconds=idle), NOW)


def tell(cluster: Cluster, *loads: Load | None) -> None:
    """What each of its pods said last of its load."""
    cluster.answers = {f"chat-{number}/load": told for number, told in enumerate(loads, 1) if told}


@pytest.fixture
def cluster() -> Cluster:
    """An Engine of two pods that answer."""
    found = Cluster(replicas=2, idleAfter="30m")
    found.reconcile()
    rolled_out(found)
    return found


def rolled_out(cluster: Cluster) -> None:
    cluster.roll_out()
    cluster.pods = []
    for number in range(1, cluster.deployment["spec"]["replicas"] + 1):
        cluster.pod(f"chat-{number}", phase="Running", podIP=f"10.0.0.{number}", conditions=[READY])
    cluster.reconcile()


READY = {"type": "Ready", "status": "True"}


def scaled(cluster: Cluster) -> list[int]:
    return [action.replicas for action in cluster.look().actions if isinstance(action, Scale)]


def test_vllms_metrics_say_how_busy_it_is_and_since_when_it_is_not() -> None:
    first = read(METRICS.encode(), None, NOW)
    assert first == Load(running=3, waiting=4, ended=8, cache=0.25, since=NOW, at=NOW)
    later = NOW + timedelta(minutes=1)
    # What was running has ended.
    quiet = read(IDLE.encode(), first, later)
    assert (quiet.running, quiet.waiting, quiet.since) == (0, 0, later)
    # So it was busy until then, and from then on it is idle, unless a request came and went in between.
    much_later = NOW + timedelta(minutes=10)
    assert read(IDLE.encode(), quiet, much_later).idle == timedelta(minutes=9)
    answered = IDLE.replace('"stop",model_name="chat"} 7.0', '"stop",model_name="chat"} 8.0')
    assert read(answered.encode(), quiet, much_later).idle == timedelta()
    # One that goes on for all the time has never been idle.
    assert read(METRICS.encode(), first, much_later).idle == timedelta()


def test_what_is_no_engines_page_says_nothing() -> None:
    with pytest.raises(ValueError, match="no engine's metrics"):
        read(METRICS.replace(" 2.0", " +Inf").encode(), None, NOW)
    with pytest.raises(ValueError, match="no engine's metrics"):
        read(b"<html></html>", None, NOW)


def test_every_pod_that_answers_is_asked_at_vllms_own_port(cluster: Cluster) -> None:
    asked = {name: (each.address, each.topic.port, each.topic.path) for name, each in cluster.look().ask.items()}
    assert asked == {
        "chat-1/load": ("10.0.0.1", 8000, "/metrics"),
        "chat-2/load": ("10.0.0.2", 8000, "/metrics"),
    }


def test_once_nobody_has_asked_any_of_its_pods_for_so_long_it_falls_asleep(cluster: Cluster) -> None:
    tell(cluster, load(idle=1800), load(idle=1799))
    assert scaled(cluster) == []
    assert cluster.look().again_after == 15
    tell(cluster, load(idle=1800), load(idle=900))
    assert cluster.look().again_after == 900
    tell(cluster, load(idle=1800), load(idle=1800))
    assert scaled(cluster) == [0]
    cluster.reconcile()
    assert cluster.deployment["spec"]["replicas"] == 0
    cluster.roll_out()
    cluster.pods = []
    told = cluster.reconcile()
    asleep = (
        "It has no pod until somebody needs it (spec.idleAfter is 30m): a request to finetune-api for one of its "
        "models, a FineTuneJob on it, or kubectl scale eng chat --replicas 2."
    )
    assert cluster.condition("Ready") == ("True", "Asleep", asleep)
    assert cluster.condition("Available") == ("False", "Asleep", asleep)
    assert [(event.type, event.reason) for event in told.events] == [("Normal", "Asleep")] * 2
    assert {found["type"] for found in cluster.engine["status"]["conditions"]} == {"Accepted", "Available", "Ready"}
    # It stays so, and who wakes it knows how many pods it had.
    assert (scaled(cluster), cluster.engine["status"]["wakesTo"]) == ([], 2)
    assert cluster.engine["status"].get("requests") is None


@pytest.mark.parametrize(
    ("loads", "why"),
    [
        ((load(3600), load(3600, running=1)), "requests are computed"),
        ((load(3600), None), "a pod has not told"),
        ((), "an operator that has just started has asked nobody"),
    ],
    ids=lambda found: found if isinstance(found, str) else "",
)
def test_what_keeps_it_awake(cluster: Cluster, loads: tuple[Load | None, ...], why: str) -> None:
    tell(cluster, *(each and read_again(each) for each in loads))
    assert scaled(cluster) == []


def read_again(found: Load) -> Load:
    """As it would be read: what has requests is not idle."""
    return load(0, found.running, found.waiting) if found.running + found.waiting else found


def test_a_pod_that_is_mute_may_be_busy(cluster: Cluster) -> None:
    """On CPUs an engine answers nothing while it computes: what it said before that says nothing of now."""
    tell(cluster, load(idle=60), load(idle=60))
    cluster.now += timedelta(hours=5)
    assert scaled(cluster) == []


def test_without_idle_after_it_never_sleeps_and_at_zero_it_is_scaled_not_asleep() -> None:
    cluster = Cluster()
    cluster.reconcile()
    rolled_out(cluster)
    tell(cluster, load(idle=10**6))
    assert scaled(cluster) == []
    assert cluster.look().again_after is None
    cluster.edit(replicas=0)
    cluster.reconcile()
    cluster.roll_out()
    cluster.pods = []
    cluster.reconcile()
    assert cluster.condition("Ready")[:2] == ("True", "ScaledToZero")


def test_an_autoscalers_word_counts_while_it_is_awake_and_is_what_it_wakes_to(cluster: Cluster) -> None:
    tell(cluster, load(idle=60), load(idle=60))
    cluster.edit(replicas=3)
    cluster.reconcile()
    # The third one starts: it is not to be idle before all have been heard.
    tell(cluster, load(idle=3600), load(idle=3600))
    assert scaled(cluster) == []
    rolled_out(cluster)
    assert (scaled(cluster), cluster.deployment["spec"]["replicas"]) == ([], 3)
    assert cluster.engine["status"]["wakesTo"] == 3
    (action,) = _asleep(cluster)
    # Whoever changes it in between is heard: that version is gone then.
    assert action.version == cluster.engine["metadata"]["resourceVersion"]


def _asleep(cluster: Cluster) -> list[Scale]:
    tell(cluster, *[load(idle=3600)] * 3)
    return [action for action in cluster.look().actions if isinstance(action, Scale)]


def test_it_stays_awake_while_a_candidate_is_measured_there() -> None:
    cluster = Cluster(idleAfter="30m", lora={})
    cluster.loads = {"ConfigMap": [adapter()], "Service": []}
    cluster.reconcile()
    rolled_out(cluster)
    tell(cluster, load(idle=3600))
    assert scaled(cluster) == []
    cluster.reconcile()
    kept = "It stays awake while its FineTuneJob is at work with recipes-0a1b2c3d."
    assert kept in cluster.condition("Ready")[2]
    # Promoted, it has a name, and nobody needs to be awake for it.
    cluster.loads["Service"] = [service()]
    assert scaled(cluster) == [0]
    cluster.reconcile()
    assert kept not in cluster.condition("Ready")[2]


def test_another_idle_after_replaces_no_pod(cluster: Cluster) -> None:
    before = cluster.deployment["spec"]["template"]
    # Made anew, they would be of this operator's image.
    cluster.settings = replace(SETTINGS, hosting_cpu_image="vllm-cpu:2")
    cluster.edit(idleAfter="5m")
    cluster.reconcile()
    assert cluster.deployment["spec"]["template"] == before


def requests(cluster: Cluster) -> Any:
    cluster.reconcile()
    return cluster.engine["status"].get("requests")


def test_its_requests_are_told_at_most_twice_a_minute(cluster: Cluster) -> None:
    tell(cluster, load(running=2, waiting=1, cache=0.5), load(running=1, cache=0.75))
    each = [
        {"pod": "chat-1", "running": 2, "waiting": 1, "cacheUsed": "0.50"},
        {"pod": "chat-2", "running": 1, "waiting": 0, "cacheUsed": "0.75"},
    ]
    first = {"running": 3, "waiting": 1, "cacheUsed": "0.75", "pods": each, "at": "2026-01-01T00:00:00Z"}
    assert requests(cluster) == first
    cluster.now += timedelta(seconds=10)
    tell(cluster, load(), load())
    assert requests(cluster) == first
    # It is looked at again for that, though nothing else happens.
    assert cluster.look().again_after == 21
    cluster.now += timedelta(seconds=21)
    nothing = {"running": 0, "waiting": 0, "cacheUsed": "0.00"}
    each = [{"pod": name} | nothing for name in ("chat-1", "chat-2")]
    idle = nothing | {"pods": each, "at": "2026-01-01T00:00:31Z"}
    assert requests(cluster) == idle
    # At rest nothing is written.
    cluster.now += timedelta(hours=1)
    assert requests(cluster) == idle
    # Nor by an operator that has just started.
    tell(cluster)
    assert requests(cluster) == idle
