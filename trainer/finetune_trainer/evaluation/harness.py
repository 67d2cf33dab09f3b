"""lm-evaluation-harness, in a process of its own: `python -m finetune_trainer.evaluation.harness TOLD FOUND`.

`benchmarks` starts it, with a file that says what to ask and another for what was found. It takes long to import, and
whatever it raises ends it alone. Its own command line would first read the thousands of tasks that it brings.
"""

import json
import sys
from pathlib import Path


def main(told_in: Path, found: Path) -> None:
    """Ask every model the same tasks."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    told = json.loads(told_in.read_text())
    manager = TaskManager(include_path=told["include_path"], include_defaults=False)
    results = {
        name: simple_evaluate(
            model="local-completions",
            model_args={**told["model_args"], "model": name, "base_url": url},
            tasks=told["tasks"],
            task_manager=manager,
            limit=told["limit"],
            batch_size=1,
            bootstrap_iters=0,
            log_samples=False,
        )["results"]
        for name, url in told["urls"].items()
    }
    found.write_text(json.dumps(results))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
