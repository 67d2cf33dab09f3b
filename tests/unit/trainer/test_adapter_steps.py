"""What is done next about an engine's adapters: no name is ever without a model that it had, and all ends as wanted."""

from dataclasses import replace

import pytest
from finetune_trainer.contract.adapters import HeldAdapters, PublishedAdapter, WantedAdapters
from finetune_trainer.stages.adapter_engine import read
from finetune_trainer.stages.adapter_steps import (
    KEPT_SECONDS,
    LEAVES_SECONDS,
    REST_SECONDS,
    Failure,
    Fetch,
    Load,
    Observed,
    Remove,
    SetAliases,
    Unload,
    directory,
    failure,
    held,
    leaving,
    left,
    resting,
    settled,
    steps,
)

ONE = PublishedAdapter(name="recipes-1", uri="s3://models/1", digest="sha256:" + "1" * 64)
TWO = PublishedAdapter(name="recipes-2", uri="s3://models/2", digest="sha256:" + "2" * 64)
OTHER_ONE = ONE.model_copy(update={"digest": "sha256:" + "3" * 64})
FIRST = WantedAdapters(adapters=(ONE,), aliases={"recipes": "recipes-1"})
SECOND = WantedAdapters(adapters=(TWO,), aliases={"recipes": "recipes-2"})


def having(*adapters: PublishedAdapter, **fields: object) -> Observed:
    """An engine that has these."""
    places = {adapter.name: f"/adapters/{directory(adapter)}" for adapter in adapters}
    return replace(Observed(engine=places, there=frozenset(map(directory, adapters))), **fields)  # type: ignore[arg-type]


def test_one_is_fetched_then_loaded_then_named() -> None:
    seen = Observed()
    assert steps(FIRST, seen, 0) == [Fetch(ONE)]
    assert steps(FIRST, replace(seen, fetching=frozenset({directory(ONE)})), 0) == []
    seen = replace(seen, there=frozenset({directory(ONE)}))
    assert steps(FIRST, seen, 0) == [Load(ONE, instead=False)]
    assert not settled(FIRST, seen, 0)
    seen = having(ONE)
    assert steps(FIRST, seen, 0) == [SetAliases({"recipes": "recipes-1"})]
    assert not settled(FIRST, seen, 0)
    seen = having(ONE, aliases={"recipes": "recipes-1"})
    assert steps(FIRST, seen, 0) == []
    assert settled(FIRST, seen, 0)
    assert held(FIRST, seen) == HeldAdapters(loaded=("recipes-1",), aliases={"recipes": "recipes-1"})


def test_a_name_stands_for_the_old_one_until_the_new_one_is_there_and_the_old_one_goes_last() -> None:
    old = {"recipes": "recipes-1"}
    seen = having(ONE, aliases=old)
    assert steps(SECOND, seen, 0) == [Fetch(TWO)]
    assert resting(SECOND, seen) == set()
    seen = having(ONE, TWO, aliases=old)
    assert steps(SECOND, seen, 0) == [SetAliases({"recipes": "recipes-2"})]
    seen = having(ONE, TWO, aliases={"recipes": "recipes-2"})
    assert resting(SECOND, seen) == {"recipes-1"}
    seen = replace(seen, resting={"recipes-1": 10.0})
    assert steps(SECOND, seen, 10 + REST_SECONDS - 1) == []
    assert steps(SECOND, seen, 10 + REST_SECONDS) == [Unload("recipes-1")]


def test_a_name_that_went_elsewhere_answers_for_a_minute_those_who_are_still_connected() -> None:
    gone, named = WantedAdapters(), {"recipes": "recipes-1"}
    seen = having(ONE, aliases=named)
    assert leaving(gone, seen) == {"recipes"}
    seen = replace(seen, leaving={"recipes": 10.0})
    assert steps(gone, seen, 10) == [SetAliases(named, closing=frozenset({"recipes"}))]
    seen = replace(seen, closing=frozenset({"recipes"}))
    assert resting(gone, seen) == set()
    assert steps(gone, seen, 10 + LEAVES_SECONDS - 1) == []
    assert steps(gone, seen, 10 + LEAVES_SECONDS) == [SetAliases({})]
    # It may come back.
    assert steps(FIRST, replace(seen, leaving={}), 10) == [SetAliases(named)]


def test_its_files_stay_while_requests_for_it_are_under_way() -> None:
    seen = replace(having(TWO, aliases={"recipes": "recipes-2"}), there=frozenset(map(directory, (ONE, TWO))))
    assert left(SECOND, replace(seen, busy=frozenset({"recipes-1"}))) == set()
    assert left(SECOND, seen) == {directory(ONE)}
    seen = replace(seen, left={directory(ONE): 0.0})
    assert steps(SECOND, seen, KEPT_SECONDS - 1) == []
    assert steps(SECOND, seen, KEPT_SECONDS) == [Remove(directory(ONE))]


def test_what_is_wanted_is_never_removed_nor_unloaded() -> None:
    assert left(FIRST, having(ONE)) == resting(FIRST, having(ONE)) == set()
    assert left(FIRST, Observed(there=frozenset({directory(ONE)}))) == set()


def test_other_weights_of_one_name_have_another_place() -> None:
    """The prefix cache tells them apart by it."""
    assert directory(ONE) != directory(OTHER_ONE)
    seen = replace(having(ONE), there=frozenset({directory(OTHER_ONE)}))
    assert steps(WantedAdapters(adapters=(OTHER_ONE,)), seen, 0) == [Load(OTHER_ONE, instead=True)]


def test_an_engine_that_starts_again_gets_all_of_it_again() -> None:
    seen = replace(having(ONE, aliases={"recipes": "recipes-1"}), engine={})
    assert steps(FIRST, seen, 0) == [Load(ONE, instead=False), SetAliases({})]
    assert not settled(FIRST, seen, 0)


def test_what_fails_is_tried_again_later_and_others_do_not_wait_for_it() -> None:
    both = WantedAdapters(adapters=(ONE, TWO), aliases={"recipes": "recipes-2", "one": "recipes-1"})
    found = failure(None, "The bucket gives no answer.", False, now=100)
    seen = having(TWO, aliases={"recipes": "recipes-2"}, failures={ONE: found})
    assert steps(both, seen, 101) == []
    assert steps(both, seen, found.again) == [Fetch(ONE)]
    assert held(both, seen).failed == {"recipes-1": "The bucket gives no answer."}
    # What may pass keeps a new pod waiting for a little while, what won't pass does not.
    candidate = both.model_copy(update={"aliases": {"recipes": "recipes-2"}})
    assert not settled(candidate, seen, 101)
    again = failure(failure(found, "", False, 110), "", False, 120)
    assert settled(candidate, replace(seen, failures={ONE: again}), 120)
    assert settled(both, replace(seen, failures={ONE: Failure("No such bucket.", 1, 100, 0, lasting=True)}), 101)


def test_a_new_pod_waits_for_minutes_for_what_users_ask_for_by_name() -> None:
    """While a bucket is away, a rollout would else take the adapters away with the pods that have them."""
    found = None
    for now in range(100, 700, 30):
        found = failure(found, "The bucket gives no answer.", False, now=now)
        assert not settled(FIRST, Observed(failures={ONE: found}), now)
    assert found
    assert settled(FIRST, Observed(failures={ONE: found}), 700)


def test_the_pause_between_tries_has_an_end() -> None:
    for lasting, longest in ((False, 30), (True, 600)):
        found = None
        for _ in range(2000):
            found = failure(found, "", lasting, 0)
        assert found
        assert found.again == longest


METRICS = """
# HELP vllm:num_requests_running x
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="chat"} %s
# HELP vllm:num_requests_waiting x
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="chat"} 1.0
# HELP vllm:lora_requests_info x
# TYPE vllm:lora_requests_info gauge
vllm:lora_requests_info{max_lora="2",running_lora_adapters="recipes-1",waiting_lora_adapters=""} 1.7e+09
vllm:lora_requests_info{max_lora="2",running_lora_adapters="a-1,b-1",waiting_lora_adapters="c-1"} 1.8e+09
"""


@pytest.mark.parametrize("running", ["2.0", "0.0"])
def test_which_adapters_are_busy_is_what_vllm_said_last(running: str) -> None:
    assert read(METRICS % running) == {"a-1", "b-1", "c-1"}


def test_an_engine_without_requests_has_no_busy_adapter() -> None:
    assert read(METRICS.replace("1.0\n", "0.0\n", 1) % "0.0") == frozenset()
