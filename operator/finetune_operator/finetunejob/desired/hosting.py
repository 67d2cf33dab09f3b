"""The Deployment that serves a revision, its Service, the stable Service, and who may ask; those of the base model that
it is compared with, where the first engine can't answer as that; and what asks a shared Engine for an adapter. For
`homes`.
"""

from pathlib import Path

from finetune_trainer.contract.adapters import PublishedAdapter
from finetune_trainer.contract.config import RunConfig, Workspace
from finetune_trainer.contract.results import TrainResult

from finetune_operator import names
from finetune_operator.api.hosting import Rollout
from finetune_operator.finetunejob.desired import bucket, engine, volumes
from finetune_operator.finetunejob.record import text
from finetune_operator.finetunejob.seat import Seat
from finetune_operator.finetunejob.target import Target
from finetune_operator.pods.metadata import Manifest, metadata
from finetune_operator.pods.sources import user_mounts
from finetune_operator.serving import objects
from finetune_operator.serving.pod import VllmContainer, api_key, container, template, with_env

# The stage that labels the pods of a revision's own engine.
HOST = "host"


def pod_template(
    target: Target,
    run_config: RunConfig,
    context_length: int,
    stage: str = HOST,
    merged: bool = False,
    trained: TrainResult | None = None,
) -> Manifest:
    """The engine's pods: the model of `run_config`, its base model, or one of its checkpoints, as `stage` says.
    `merged`: the first one as a whole model. `trained`: what it is held to where it is brought from a bucket.
    """
    model = run_config.model
    users = user_mounts([model.source.uri, model.cache.uri if model.cache else ""])
    mounts = [volumes.workspace(target, read_only=True), *users]
    hosting, labels = target.spec.hosting, names.labels(target.name, target.revision, stage)
    workspace, step = Workspace(volumes.WORKSPACE), names.step_of(stage)
    wanted = VllmContainer(
        run_config.base_name if stage == names.BASE else run_config.name,
        engine.arguments(run_config, workspace, context_length, stage == names.BASE, step, merged),
        hosting.resources,
        hosting.image,
        api_key(hosting.api_key),
        asked=engine.asked(run_config, stage == names.BASE),
    )
    wants = engine.files(run_config, workspace, stage == names.BASE, step, merged)
    brought = [bucket.within(path) + _digest(trained, path, workspace) for path in wants]
    before = bucket.brings(target, brought, users, hosting.resources)
    return template(labels, hosting.pod, container(wanted, target.settings), mounts, target.together, before)


def _digest(trained: TrainResult | None, path: Path, workspace: Workspace) -> str:
    """What is behind a path that is brought: = and its digest, where the record knows it."""
    if trained is None:
        return ""
    known = {workspace.checkpoint(found.step): found.digest for found in trained.checkpoints}
    found = (known | {workspace.artifact: trained.artifact.digest}).get(path)
    return f"={found}" if found else ""


def deployment(target: Target, pod: Manifest, replicas: int, stage: str = HOST) -> Manifest:
    """The Deployment of a revision, whose pods were made by `pod_template`, by this version or by an earlier one."""
    hosting = target.spec.hosting
    # Nobody misses the base model for a moment, and a pod more would need accelerators more.
    rollout = Rollout.RECREATE if stage == names.BASE else hosting.rollout
    selector = _selector(target.name, target.revision, stage)
    return objects.deployment(_metadata(target, stage), selector, with_env(pod, hosting.pod.env), replicas, rollout)


def policy(target: Target) -> Manifest:
    """The NetworkPolicy of all engines of the FineTuneJob: of its pods, those that no Job carries."""
    described = metadata(target.owner, names.of_clients(target.name), names.labels(target.name))
    engines = [{"key": names.STAGE, "operator": "Exists"}, {"key": names.CARRIED_BY, "operator": "DoesNotExist"}]
    pods = {"matchLabels": {names.JOB: target.name}, "matchExpressions": engines}
    return objects.policy(described, pods, target.settings)


def candidate_service(target: Target) -> Manifest:
    """The Service of one revision, for whoever wants that one and no other."""
    return _service(_metadata(target), target, target.revision)


def candidate_url(target: Target) -> str:
    """Where an OpenAI client within the cluster finds that one revision."""
    return objects.url(target.revision_name, target.namespace)


def base_service(target: Target) -> Manifest:
    """The Service of the base model that a revision is compared with."""
    return _service(_metadata(target, names.BASE), target, target.revision, names.BASE)


def base_url(target: Target) -> str:
    """Where an OpenAI client within the cluster finds that base model."""
    return objects.url(names.of_base(target.name, target.revision), target.namespace)


def stable_service(target: Target, seat: Seat) -> Manifest:
    """The Service that users know. An Engine reads of it which adapter it shall take the FineTuneJob's name for."""
    labels = names.labels(target.name, seat.address if seat.on else None) | _on(seat.on)
    return objects.service(metadata(target.owner, target.name, labels), _selected(target.name, seat))


def asking_service(target: Target, engine: str) -> Manifest:
    """The Service that asks an Engine to take the name for the revision, while the stable Service leads elsewhere."""
    labels = names.labels(target.name, target.revision, HOST) | _on(engine)
    name = names.of_asking(target.name, target.revision)
    return objects.service(metadata(target.owner, name, labels), _selected(target.name, Seat(target.revision, engine)))


def adapter_map(target: Target, engine: str, adapter: PublishedAdapter) -> Manifest:
    """The ConfigMap that asks an Engine for the revision's adapter."""
    name = names.of_adapter(target.name, target.revision, engine)
    labels = names.labels(target.name, target.revision, HOST) | _on(engine)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(target.owner, name, labels),
        "data": adapter_data(adapter),
    }


def adapter_data(adapter: PublishedAdapter) -> dict[str, str]:
    """What it is asked for."""
    return {names.ADAPTER: text(adapter)}


def engine_name(name: str, revision: str, stage: str) -> str:
    """The name of an engine's Deployment."""
    return names.of_revision(name, revision) if stage == HOST else names.of_stage(name, revision, stage)


def labelled(address: str) -> tuple[str, str]:
    """The revision and the stage that the pods of an own engine have in their labels, which answer for an address."""
    revision, step = names.revision_and_step(address)
    return revision, HOST if step is None else names.checkpoint(step)


def _metadata(target: Target, stage: str = HOST) -> Manifest:
    name = engine_name(target.name, target.revision, stage)
    return metadata(target.owner, name, names.labels(target.name, target.revision, stage))


def _on(engine: str) -> dict[str, str]:
    return {names.LOADED_ON: engine} if engine else {}


def _selected(name: str, seat: Seat) -> dict[str, str]:
    """The labels of the pods that answer: any of a shared Engine's has every adapter."""
    return {names.ENGINE_OF: seat.on} if seat.on else _selector(name, *labelled(seat.address))


def _selector(name: str, revision: str, stage: str) -> dict[str, str]:
    return {names.JOB: name, names.REVISION: revision, names.STAGE: stage}


def _service(described: Manifest, target: Target, revision: str, stage: str = HOST) -> Manifest:
    return objects.service(described, _selector(target.name, revision, stage))
