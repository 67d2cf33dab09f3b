"""What the trainer leaves of a trial, without a training: a program for the tests of sweeps, which starts at once.

    python played_trial.py PLAY train --trial N --termination-log FILE …

PLAY is a directory with, for trial N, the files N-1, N-2, … of which each attempt takes the next: a JSON document with
`loss` (and `stopped`), or with `code` (negative: a signal that it dies of) and `termination`, or with `waits`, for a
signal.
"""

import json
import os
import signal
import sys
from pathlib import Path

play, _, _, number, _, log, _, workspace = (Path(each) for each in sys.argv[1:9])
attempts = len(list(play.glob(f"{number}-*.done"))) + 1
told = json.loads((play / f"{number}-{attempts}").read_text())
(play / f"{number}-{attempts}.done").touch()
if told.get("waits"):
    # One that comes before it is waited for stays until it is.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    (play / "waiting").touch()
    # Nobody waits for ever for a signal that never comes.
    sys.exit(75 if signal.sigtimedwait({signal.SIGTERM}, 300) else 1)
if "termination" in told:
    log.write_text(json.dumps(told["termination"]))
if told.get("code", 0) < 0:
    os.kill(os.getpid(), -told["code"])
if "code" in told:
    sys.exit(told["code"])
artifact = workspace / "trials" / str(number) / "artifact"
artifact.mkdir(parents=True)
kept = {"step": 9, "validationLoss": told["loss"], "digest": "sha256:1", "bytes": 7}
result = {
    "artifact": {"digest": f"sha256:{number}", "bytes": 7},
    "usage": {"trainedTokens": 100, "seconds": 1.5},
    "steps": 9,
    "validationLoss": 99,
    "checkpoints": [kept],
    "stopped": told.get("stopped", False),
}
(artifact / "artifact.json").write_text(json.dumps(result))
(artifact / "run_config.json").write_text('{"revision": "0a1b2c3d"}')
(artifact / "metrics.jsonl").write_text('{"step": 9}\n')
(artifact.parent / "checkpoints").mkdir()
log.write_text(json.dumps({"reason": "Succeeded", "result": result}))
