"""What the API server writes down lets nobody in, whichever library writes it."""

import os
import subprocess
import sys

# The program itself, but that its server has one thing to say: what quotes an address of an engine, or a bucket's.
PROGRAM = """
import logging, types, uvicorn
from finetune_server import __main__ as program

def run(app, **options):
    uvicorn.Config(app, **options)
    try:
        raise OSError("https://anna:canary-4711@engine is closed")
    except OSError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")

uvicorn.run, program.application = run, lambda settings: None
program.ClusterSettings.from_environment = lambda: types.SimpleNamespace(port=1, requests=1)
program.main()
"""


def test_a_servers_own_tracebacks_have_no_credentials() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=os.environ, check=True)
    assert "OSError: https://engine is closed" in told.stderr
    assert "canary" not in told.stdout + told.stderr
