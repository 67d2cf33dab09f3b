"""`kubectl finetune`: the same program, found by kubectl on PATH as kubectl-finetune.

kubectl completes `kubectl finetune …` by kubectl_complete-finetune, which answers as programs made with cobra do.
"""

import io
import os
import shlex
import sys
from contextlib import redirect_stdout, suppress

from finetune_cli.main import app, main
from finetune_cli.verbs import PLUGIN

# What follows the proposals: also offer files (where there are none), or nothing else.
FILES, NOTHING_ELSE = ":0", ":4"


def run() -> None:
    """Entry point of kubectl-finetune."""
    main(PLUGIN)


def complete() -> None:
    """Entry point of kubectl_complete-finetune: its arguments are the words so far, the last of them unfinished."""
    words = [PLUGIN, *sys.argv[1:]]
    # As the script does that `finetune --show-completion` prints for bash.
    os.environ |= {
        "COMP_WORDS": shlex.join(words),
        "COMP_CWORD": str(len(words) - 1),
        f"_{PLUGIN.upper()}_COMPLETE": "complete_bash",
    }
    with redirect_stdout(io.StringIO()) as proposed, suppress(SystemExit):
        app(prog_name=PLUGIN)
    found = proposed.getvalue().split()
    sys.stdout.write("\n".join([*found, NOTHING_ELSE if found else FILES]) + "\n")
