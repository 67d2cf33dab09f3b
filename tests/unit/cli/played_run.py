"""`finetune run` as a process of its own, whose trainer and engine are played: they would take torch and vLLM.

All else is the real program: locks, signals, stages, what it writes and says. In its directory `played.json` has what
each stage ends with, and while there is a file `hold` train goes on.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from time import sleep

PROGRAM = (sys.executable, __file__)
PLAYED, HOLD = Path("played.json"), Path("hold")


def run() -> None:
    from finetune_cli import main, run
    from finetune_cli.engine import VllmProcess
    from finetune_cli.store import Store
    from finetune_cli.trainer import StageProcess

    def stage(process: StageProcess, store: Store, job: object) -> list[str]:
        return [*PROGRAM, "stage", process.stage, str(process._termination_log)]

    StageProcess._command = stage  # type: ignore[assignment, method-assign]
    VllmProcess.command = lambda engine: [*PROGRAM, "engine", str(engine.port)]  # type: ignore[method-assign]
    run.runs_on_cpu = lambda: True
    run._require_trainer = lambda: None
    main.main()


def stage(name: str, log: str) -> int:
    while name == "train" and HOLD.exists():
        sleep(0.05)
    ended = json.loads(PLAYED.read_text())[name]
    Path(log).write_text(json.dumps(ended["termination"]))
    return int(ended["code"])


class Answers(BaseHTTPRequestHandler):
    """What vLLM would: which model was asked what."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        messages = asked.get("messages", [{"content": asked.get("prompt")}])
        said = f"{asked['model']} was asked {messages[-1]['content']}"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}, "text": said}
        body = {"id": "1", "object": "chat.completion", "created": 1, "model": asked["model"], "choices": [choice]}
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["stage", name, log]:
            sys.exit(stage(name, log))
        case ["engine", port]:
            HTTPServer(("127.0.0.1", int(port)), Answers).serve_forever()
        case _:
            run()
