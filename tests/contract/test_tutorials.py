"""Tutorials of examples/ on a cluster: what their READMEs say to type, up to a model that serves.

Real: the commands, the API server, the operator. Played: the node. On a laptop `local/test_run` and
`local/test_text_to_sql` train them; those of OpenAI's API are beside this in openai_api/.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest
from control_plane import ControlPlane, binary
from paths import EXAMPLES
from playing import Played
from tutorials import typed
from walking import walking


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(("example", "name"), [("autotrain", "recipe-autotrain"), ("text-to-sql", "text-to-sql")])
def test_what_is_typed_is_applied_measured_and_served(
    control_plane: ControlPlane, played: Played, namespace: str, tmp_path: Path, example: str, name: str
) -> None:
    (tmp_path / "recipe-assistant").symlink_to(EXAMPLES / "recipe-assistant")
    shutil.copytree(EXAMPLES / example, tmp_path / example)
    programs = [str(Path(sys.executable).parent), str(binary("kubectl").parent), os.environ["PATH"]]
    given = {"PATH": ":".join(programs), "KUBECONFIG": str(control_plane.kubeconfig(namespace=namespace))}
    commands = "\n".join(typed(example, "On a cluster"))
    played.name = name
    with walking(["bash", "-ec", commands], tmp_path / example, **given) as shell:
        played.wait(f"ftj/{name}", "create")
        played.complete("prepare")
        played.complete("train")
        played.roll_out()
        played.measure(tuned=0.9)
        told = shell.ends()
    assert f"finetunejob.finetune.dev/{name} condition met" in told
    shown = told.splitlines()[-1]
    assert "0.9" in shown
    assert f"http://{name}.{namespace}.svc/v1" in shown
    # The rows are there, where the manifest says.
    spec = played.job()["spec"]
    for source in (spec["dataset"][split].get("source") for split in ("train", "test")):
        if source:
            scheme, _, place = source.partition("://")
            found, _, key = place.partition("/")
            assert scheme == "configmap"
            assert played.get("configmap", found)["data"][key]
    assert spec["model"]["source"] == "hf://HuggingFaceTB/SmolLM2-135M-Instruct"
