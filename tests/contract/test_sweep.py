"""A sweep on two pods, with the real Job controller: its pods end at different times, and the operator is killed."""

from ground import Ground
from life import Life
from node import Ending
from rehearsal import MANIFEST, TRAINED

TRIALS = [
    {"number": 1, "parameters": {"learningRate": 1e-4}, "outcome": "Diverged", "message": "The loss is nan."},
    {
        "number": 2,
        "parameters": {"learningRate": 3e-4},
        "outcome": "Succeeded",
        "validationLoss": 0.31,
        "usage": {"trainedTokens": 30_000, "seconds": 60.2},
        "taken": True,
    },
]
SWEEP = {"parameters": {"learningRate": [1e-4, 3e-4]}, "parallel": 2}
SPEC = {
    "training": MANIFEST["training"] | {"sweep": SWEEP},
    "workspace": {"accessModes": ["ReadWriteMany"]},
}


def pods(life: Life) -> dict[str, str]:
    """The phases of the pods that train, by name."""
    found = life.space.mirror.all(life.space.name, "Pod")
    named = {pod["metadata"]["name"]: pod.get("status", {}).get("phase", "Pending") for pod in found}
    return {name: phase for name, phase in named.items() if "-train-" in name}


def job(life: Life) -> dict[str, int]:
    found = life.of(life.revision, "Job", "train")
    return dict(found["status"]) if found else {}


def test_one_trial_fails_the_other_is_taken_and_an_operator_that_was_killed_finds_both(ground: Ground) -> None:
    async def told() -> None:
        async with ground.space() as space:
            space.operator.start()
            life = Life(space)
            space.node.endings["train"] = Ending.HOLD
            space.node.results = {("train", "0"): None, ("train", "1"): TRAINED | {"trials": TRIALS}}
            await life.create(**SPEC)
            await life.until(lambda life: life.condition("Trained") == ("Unknown", "Running"))
            await life.until(lambda life: sorted(pods(life).values()) == ["Running", "Running"])
            space.operator.kill()
            await life.plays(train=Ending.SUCCEED)
            await life.until(lambda life: job(life).get("succeeded") == 2)
            space.operator.start()
            await life.until(lambda life: life.serves)
            assert "Trial 2 of 2 was taken (learningRate 0.0003)" in life.message("Trained")
            assert life.job
            status = life.job["status"]
            assert [(trial["outcome"], trial["taken"]) for trial in status["trials"]] == [
                ("Diverged", False),
                ("Succeeded", True),
            ]
            # What is told lasts longer than the pods that said so.
            await space.api.delete(
                "Job", space.name, f"{life.name}-{life.revision}-train", propagationPolicy="Background"
            )
            await life.until(lambda life: not pods(life))
            await life.edit(hosting={"resources": {"limits": {"memory": "9Gi"}}})
            await life.until(lambda life: life.serves)
            assert life.job["status"]["trials"] == status["trials"]

    ground.run(told())
