"""Objects that lost their owner: who takes them. `reconcile` asks for it with every plan.

A backup restores objects without their owner references, which name uids of before (so does velero), and
`kubectl delete --cascade=orphan` leaves them so. As Kubernetes' own controllers take pods that match, such an object
becomes that one's whose labels it has, if its name is one that we give, too. What names another controller never does.
"""

from finetune_operator.api.v1alpha1 import API_VERSION
from finetune_operator.kinds.actions import Adopt, ref_of
from finetune_operator.kinds.plan import Kind
from finetune_operator.kinds.snapshot import Snapshot
from finetune_operator.pods.metadata import Owner, reference


def adoptions(kind: Kind, snapshot: Snapshot) -> tuple[Adopt, ...]:
    """What one of ours may take for its own. One that is being deleted takes nothing."""
    subject = snapshot.subject["metadata"]
    if "deletionTimestamp" in subject:
        return ()
    name = subject["name"]
    owner = reference(Owner(API_VERSION, kind.name, name, subject["namespace"], subject["uid"]))
    found = (ref_of(made, raw) for made, raws in snapshot.orphans.items() for raw in raws)
    return tuple(Adopt(ref, owner) for ref in found if not ref.deleting and kind.named(name, ref.name, ref.revision))
