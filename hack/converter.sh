#!/usr/bin/env bash
# converter.sh PYTHON: puts llama.cpp's converter from Hugging Face's form to GGUF into PYTHON's environment, where
# output.formats looks for it (share/llama.cpp). Called by hack/venv.sh and the trainer's Dockerfile.
#
# It is a program in Python that no package installs. llama-cpp-python's source archive has llama.cpp's sources: pip
# fetches that, of one version and digest, and only the converter is unpacked; nothing is compiled.
set -euo pipefail
python=$1
here=$(cd "$(dirname "$0")/.." && pwd)
target=$("$python" -c 'import sys; print(sys.prefix)')/share/llama.cpp
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python \
  --require-hashes --requirement "$here/constraints/converter.txt" --dest "$scratch"
archive=$(echo "$scratch"/*.tar.gz)
sources=$(basename "$archive" .tar.gz)/vendor/llama.cpp
mkdir "$scratch/converter"
tar -xzf "$archive" -C "$scratch/converter" --strip-components=3 --no-same-owner \
  "$sources/LICENSE" "$sources/convert_hf_to_gguf.py" "$sources/conversion" "$sources/gguf-py/gguf"
rm -rf "$target"
mkdir -p "$(dirname "$target")"
mv "$scratch/converter" "$target"
