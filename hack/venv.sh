#!/usr/bin/env bash
# Makes .venv, the one environment in which everything here runs. Called by `make venv`; does nothing when what it
# depends on is unchanged. PYTHON names another interpreter than python3.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
stamp=.venv/.stamp

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  { echo "make venv needs Python 3.11 or newer: $python isn't. Name one with PYTHON=…" >&2; exit 1; }

inputs=$({ "$python" --version; cat pyproject.toml constraints/venv.txt hack/venv-requirements.txt hack/venv-overrides.txt hack/venv.sh
  cat constraints/converter.txt hack/converter.sh; } | sha256sum)
[[ -f $stamp && $(<$stamp) == "$inputs" ]] && exit 0

# vLLM links libnuma and libgomp, and compiles its CPU kernels' glue when it starts.
packages=()
ldconfig=$(PATH=$PATH:/sbin:/usr/sbin command -v ldconfig)
"$ldconfig" -p | grep -q libnuma.so.1 || packages+=(libnuma1)
"$ldconfig" -p | grep -q libgomp.so.1 || packages+=(libgomp1)
command -v g++ >/dev/null || packages+=(g++)
"$python" -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
if ((${#packages[@]})); then
  install="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
  if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
    DEBIAN_FRONTEND=noninteractive bash -c "$install"
  else
    echo "make venv needs ${packages[*]}. On Debian or Ubuntu: sudo bash -c '$install'" >&2
    exit 1
  fi
fi

"$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
VIRTUAL_ENV=$PWD/.venv .venv/bin/uv pip install --requirements hack/venv-requirements.txt \
  --overrides hack/venv-overrides.txt --constraints constraints/venv.txt
hack/converter.sh .venv/bin/python
echo "$inputs" >$stamp
