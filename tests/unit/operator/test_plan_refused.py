"""A manifest that the API server let through, since its schema is older or the object was there before the rule: the
same sentence, in the condition Accepted, and nothing is made of it.
"""

import pytest
from bad_manifests import BAD
from manifests import Bad
from rehearsal import Rehearsal

# No schema was ever so old that it took a text for a number.
IN_SPEC = [
    bad for bad in BAD if bad.names.startswith("spec.") and not bad.cluster_only and bad.name != "a number as text"
]


@pytest.mark.parametrize("bad", IN_SPEC, ids=lambda bad: bad.name)
def test_a_bad_spec_is_not_accepted_and_nothing_is_made(bad: Bad) -> None:
    cluster = Rehearsal()
    cluster.job["spec"] = bad.manifest()["spec"]
    planned = cluster.reconcile()
    status, reason, message = cluster.condition("Accepted")
    assert (status, reason) == ("False", "Invalid")
    assert message.startswith(f"{bad.names}: ")
    assert bad.allowed in message
    assert bad.local in message
    assert planned.actions == ()


def test_what_serves_stays() -> None:
    cluster = Rehearsal()
    cluster.serve()
    before = set(cluster.objects)
    cluster.edit(training={"pod": {"env": [{"name": "HF_TOKEN", "value": "hf_abc"}]}})
    cluster.reconcile()
    assert cluster.condition("Accepted")[:2] == ("False", "Invalid")
    assert set(cluster.objects) == before
