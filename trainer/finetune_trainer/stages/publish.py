"""publish: the artifact leaves the workspace for the place that the manifest names, complete or not at all.

Called by the program's `publish` command, on a pod that has the output's credentials and no others. Each revision has a
place of its own there (`data.places`). `claim.json` is written first, where none is, and says whose the place is; then
come the files, and their signature where one is wanted; `manifest.json` comes last and has the digest of each. So
whoever finds a manifest finds all that it names, a run that was killed begins again, and nobody writes over what is
another's.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from finetune_trainer.contract.config import ADAPTER_CONFIG, SIGNATURE, RunConfig, Workspace
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.published import MERGED, Claim, Manifest, ModelFormat
from finetune_trainer.contract.results import ArtifactInfo, PublishResult, TrainResult
from finetune_trainer.data import bucket, digests, places, published, signing
from finetune_trainer.data.fetch_errors import Access, explained
from finetune_trainer.server import Reporter
from finetune_trainer.training import gguf

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishOptions:
    """What is published beside the artifact: a signature of it, the whole model that its adapter makes, and that as a
    GGUF file.
    """

    sign: bool = False
    merge: bool = False
    gguf: bool = False

    @property
    def whole(self) -> str:
        """What of the manifest asks for a whole model."""
        asked = (("output.merge", self.merge), ("gguf from output.formats", self.gguf))
        return " and ".join(name for name, wanted in asked if wanted)


NOTHING = PublishOptions()


def publish(
    config: RunConfig,
    workspace: Workspace,
    destination: str,
    owner: str,
    reporter: Reporter,
    wanted: PublishOptions = NOTHING,
) -> PublishResult:
    """Copy the artifact to the revision's place at the destination. `owner`: whose it is, as no two FineTuneJobs are
    called. Raises StageError.
    """
    trained = TrainResult.model_validate_json(workspace.trained.read_bytes()).artifact
    signer = signing.signer() if wanted.sign else None
    publisher = _Publisher(destination, config, Claim(owner=owner, name=config.name), signer, reporter)
    with publisher.place() as place:
        if publisher.lacks(place, trained.digest):
            publisher.put(place, workspace.artifact, trained)
    whole = _Whole(config, workspace, reporter, wanted)
    merged = _merged(publisher, place.uri, trained, whole) if wanted.merge else None
    converted = _converted(publisher, trained, whole) if wanted.gguf else None
    shutil.rmtree(workspace.whole, ignore_errors=True)
    lineage = _lineage(config) if merged is None and _alone(workspace.artifact) else ()
    return PublishResult(uri=place.uri, artifact=trained, merged=merged, gguf=converted, lineage=lineage)


def _alone(directory: Path) -> bool:
    """Whether it is an adapter without its base model."""
    return (directory / ADAPTER_CONFIG).exists() and not (directory / MERGED).exists()


def _lineage(config: RunConfig) -> tuple[str, ...]:
    return config.model.origin.lineage if config.model.origin else ()


@dataclass(frozen=True)
class _Whole:
    """The whole model that an artifact is, or makes of its base model."""

    config: RunConfig
    workspace: Workspace
    reporter: Reporter
    wanted: PublishOptions

    @property
    def inside(self) -> str | None:
        """Where the artifact has it, below its own address; None where it has to be made."""
        from finetune_trainer.training import whole

        return whole.already(self.workspace.artifact)

    @cached_property
    def path(self) -> Path:
        """Its directory, once it is made."""
        if self.inside is not None:
            return self.workspace.artifact / self.inside.lstrip("/")
        # Half a minute of imports, which only merging is worth.
        from finetune_trainer.training import whole

        self.reporter.update(activity="merging the adapter with its base model")
        try:
            whole.make(self.config, self.workspace, self.workspace.whole)
        except (whole.Unmergeable, whole.Apart) as error:
            rest = "the adapter is published beside its base model's name."
            raise StageError(Outcome.CONFIG_INVALID, f"{error} Remove {self.wanted.whole}; {rest}") from error
        return self.workspace.whole


def _merged(publisher: "_Publisher", uri: str, trained: ArtifactInfo, whole: _Whole) -> str:
    """Publish the whole model, too, unless the artifact is or has one; its address."""
    if whole.inside is not None:
        return f"{uri}{whole.inside}"
    return publisher.beside(MERGED, trained.digest, lambda: whole.path)


def _converted(publisher: "_Publisher", trained: ArtifactInfo, whole: _Whole) -> str:
    """Publish the whole model as a GGUF file, too; its address."""

    def made() -> Path:
        model = whole.path
        whole.reporter.update(activity="converting the model to GGUF")
        return gguf.make(whole.config, whole.workspace, model)

    address = publisher.beside(ModelFormat.GGUF, trained.digest, made)
    shutil.rmtree(whole.workspace.gguf, ignore_errors=True)
    return address


@dataclass(frozen=True)
class _Publisher:
    """Publishes directories as one FineTuneJob, each to a place of its own."""

    destination: str
    config: RunConfig
    claim: Claim
    signer: signing.Signer | None
    reporter: Reporter

    @contextmanager
    def place(self, suffix: str = "") -> Iterator[places.Place]:
        """The revision's place, which is ours then; its refusals are explained. `suffix`: of what lies beside it."""
        secrets = bucket.credentials(published.OWNER)
        with explained(Access(self.destination, published.OWNER, secrets)):
            place = places.at(self.destination, self.config.revision, suffix, published.OWNER, secrets)
            place.claim(self.claim)
            yield place

    @property
    def public(self) -> str | None:
        """What manifests say of the key."""
        return self.signer.public if self.signer else None

    def lacks(self, place: places.Place, digest: str) -> bool:
        """Whether what has this digest, or is made of it, is still to be published there, signed by this key if any."""
        found = published.whole(place)
        there = found is not None and (found.merged_from or found.artifact.digest) == digest
        complete = there and found is not None and self.public in (None, found.signed_by)
        if complete:
            logger.info("%s is complete already.", place.uri)
        return not complete

    def beside(self, name: str, digest: str, made: Callable[[], Path]) -> str:
        """Have what was made of the artifact with this digest at a place of its own; its address."""
        with self.place(f"-{name}") as place:
            lacking = self.lacks(place, digest)
        if lacking:
            # Not where a file that is missing would be told as the place's.
            directory = made()
            size = sum(path.stat().st_size for path in digests.files(directory))
            artifact = ArtifactInfo(digest=digests.digest(directory), bytes=size)
            with self.place(f"-{name}") as place:
                self.put(place, directory, artifact, digest)
        return place.uri

    def put(self, place: places.Place, directory: Path, artifact: ArtifactInfo, merged_from: str | None = None) -> None:
        """Have a directory there, signed if there is a key."""
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        content = {path.relative_to(directory).as_posix(): path for path in files}
        with TemporaryDirectory() as scratch:
            if self.signer:
                content[SIGNATURE] = Path(scratch) / SIGNATURE
                self.signer.sign(directory, content[SIGNATURE])
            manifest = Manifest(
                name=self.claim.name,
                revision=self.config.revision,
                artifact=artifact,
                files={name: digests.of_file(path) for name, path in content.items()},
                signed_by=self.public,
                merged_from=merged_from,
                base_model=self.config.model.name if _alone(directory) else None,
                lineage=_lineage(self.config),
            )
            activity = f"publishing {place.uri}"
            place.write(
                self.claim,
                content,
                manifest,
                lambda done: self.reporter.update(activity=activity, step=done, total_steps=len(content)),
            )
