"""The operator's Prometheus metrics, served by the entry point. `workqueue` and `reconcile` count here."""

from prometheus_client import Counter, Gauge, Histogram

from finetune_operator.shell.kinds import KINDS
from finetune_operator.shell.resources import Key

RECONCILES = Counter("finetune_reconciles", "Reconciles, by how they ended.", ["result"])
DURATION = Histogram("finetune_reconcile_duration_seconds", "How long a reconcile took.")
QUEUE = Gauge("finetune_queue_depth", "FineTuneJobs and Engines that wait for a reconcile.")
LEADER = Gauge("finetune_leader", "1 where this operator works, 0 where it waits for the Lease.")
COUNTS = {
    kind.name: Gauge(kind.counted, f"{kind.name}s, by {kind.counted_by}.", [kind.counted_by]) for kind in KINDS.values()
}

# A word that none has is told as 0.
for _kind in KINDS.values():
    for _word in _kind.words:
        COUNTS[_kind.name].labels(_word)

_words: dict[Key, str] = {}


def remember(key: Key, word: str) -> None:
    """Note the word that one of ours is counted by."""
    if _words.get(key) != word:
        forget(key)
        _words[key] = word
        COUNTS[key.kind].labels(word).inc()


def forget(key: Key) -> None:
    """One of ours is gone."""
    if word := _words.pop(key, None):
        COUNTS[key.kind].labels(word).dec()
