"""A model of the Hugging Face hub. A revision is a commit whose tag is called like it: the repository's root can be
loaded as any other model's, and what a tag names was there at once.

The claim is for the whole repository: one FineTuneJob publishes there. A commit names the one that it is made on, which
the hub holds to; the tag comes last.
"""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.published import CLAIM, MANIFEST, Claim, Manifest, written
from finetune_trainer.contract.schemes import within
from finetune_trainer.data import hub
from finetune_trainer.data.places.claims import refuse_another

# What the hub itself puts into a new repository.
_ATTRIBUTES = ".gitattributes"
_CHANGED_MEANWHILE = 412


def at(destination: str, revision: str, suffix: str, owner: str, secrets: dict[str, str]) -> "Repository":
    """The place of a revision. What lies beside it has a repository of its own, whose root can be loaded, too."""
    return Repository(_api(secrets), within(destination) + suffix, revision, revision)


def found(uri: str, owner: str, secrets: dict[str, str]) -> "Repository":
    """The place that has this address. All that is read there is of one commit, whatever becomes of the tag."""
    api, (name, _, revision) = _api(secrets), within(uri).partition("@")
    revision = revision or "main"
    try:
        return Repository(api, name, revision, str(api.model_info(name, revision=revision).sha))
    except RevisionNotFoundError:
        return Repository(api, name, revision, revision)


def _api(secrets: dict[str, str]) -> Any:
    return hub.api(secrets)


@dataclass(frozen=True)
class Repository:
    """`api` is huggingface_hub's. `commit`: what is read, or the tag that would name it."""

    api: Any
    name: str
    revision: str
    commit: str

    @property
    def uri(self) -> str:
        """Its address."""
        return f"hf://{self.name}@{self.revision}"

    def claim(self, claim: Claim) -> None:
        """Make the repository, for the token's owner alone to see, unless it is there; and make it ours."""
        self.api.create_repo(self.name, private=True, exist_ok=True)
        head = self._head()
        there = self.api.list_repo_files(self.name, revision=head)
        if CLAIM in there:
            return refuse_another(f"hf://{self.name}", claim, self._read(CLAIM, head))
        if set(there) - {_ATTRIBUTES}:
            raise StageError(
                Outcome.CONFIG_INVALID,
                f"hf://{self.name} has files that no FineTuneJob published: choose another output.destination.",
            )
        try:
            # Of two that come at once the hub lets one through.
            added = CommitOperationAdd(CLAIM, written(claim))
            self.api.create_commit(self.name, [added], commit_message=f"Claimed by {claim.name}", parent_commit=head)
        except HfHubHTTPError as error:
            if error.response.status_code != _CHANGED_MEANWHILE:
                raise
            refuse_another(f"hf://{self.name}", claim, self._read(CLAIM, self._head()))

    def read(self, name: str) -> bytes:
        """What a file holds. Raises FileNotFoundError."""
        return self._read(name, self.commit)

    def get(self, name: str, local: Path) -> None:
        """Bring a file."""
        # The client keeps notes of its own beside what it brings.
        with tempfile.TemporaryDirectory(dir=local.parent) as directory:
            brought = self.api.hf_hub_download(self.name, name, revision=self.commit, local_dir=directory)
            Path(brought).rename(local)

    def write(self, claim: Claim, files: Mapping[str, Path], manifest: Manifest, told: Callable[[int], None]) -> None:
        """Have these files there and no others: the large ones first, then all in one commit, then its tag."""
        head = self._head()
        added = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        kept = {*files, CLAIM, MANIFEST, _ATTRIBUTES}
        removed = [
            CommitOperationDelete(name)
            for name in self.api.list_repo_files(self.name, revision=head)
            if name not in kept
        ]
        operations = [*added, CommitOperationAdd(MANIFEST, written(manifest)), *removed]
        message = f"Revision {self.revision} of {manifest.name}"
        try:
            for done, each in enumerate(added):
                told(done)
                self.api.preupload_lfs_files(self.name, [each], free_memory=False)
            commit = self.api.create_commit(self.name, operations, commit_message=message, parent_commit=head)
        except HfHubHTTPError as error:
            if error.response.status_code != _CHANGED_MEANWHILE:
                raise
            changed = f"hf://{self.name} was written to by somebody else meanwhile, so that nothing was published."
            raise StageError(Outcome.UNAVAILABLE, changed) from error
        except (RuntimeError, ValueError) as error:
            raise self._untold(error) from error
        self._tag(commit.oid)

    def _tag(self, commit: str) -> None:
        # Of an artifact that this one takes the place of.
        with suppress(RevisionNotFoundError):
            self.api.delete_tag(self.name, tag=self.revision)
        # Asked again where the first answer was lost, it is there.
        self.api.create_tag(self.name, tag=self.revision, revision=commit, exist_ok=True)

    def _untold(self, error: Exception) -> Exception:
        """What the client wraps, or has no error of its own for: that an upload failed, or that the card is refused."""
        if isinstance(error, RuntimeError | JSONDecodeError):
            cause = error.__cause__
            unreachable = StageError(Outcome.UNAVAILABLE, f"{self.uri} could not be reached: {type(error).__name__}.")
            return cause if isinstance(cause, httpx.HTTPError) else unreachable
        why = " ".join(str(error).split()).rstrip(".")
        return StageError(Outcome.DATA_INVALID, f"{self.uri} was not accepted: {why}.")

    def _head(self) -> str:
        return str(self.api.model_info(self.name).sha)

    def _read(self, name: str, commit: str) -> bytes:
        with tempfile.TemporaryDirectory() as directory:
            try:
                return Path(
                    self.api.hf_hub_download(self.name, name, revision=commit, local_dir=directory)
                ).read_bytes()
            except (EntryNotFoundError, RevisionNotFoundError) as error:
                raise FileNotFoundError(name) from error
