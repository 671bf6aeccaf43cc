#!/usr/bin/env bash
# Pins requirements/dev.in with hashes, and no index, into requirements/dev.txt. uv is used because it resolves for
# every platform at once; it is installed beside the project's own environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../requirements"
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
python3 -m venv "$tool"
"$tool/bin/pip" install --quiet uv
"$tool/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url "$@" dev.in -o dev.txt
