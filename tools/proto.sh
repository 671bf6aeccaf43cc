#!/usr/bin/env bash
# Generates src/fathom/v1 from api/. With --check, generates into a temporary directory and fails on a difference.
# The service's Python stub is not generated: fathom.link registers and calls the method with raw bytes, so that every
# byte from another process passes fathom.wire's checks (docs/decisions/020-link-stream.md).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python

generate() {
    local out=$1
    local protos=(api/fathom/v1/*.proto)
    "$python" -m grpc_tools.protoc -I api --python_out="$out" --pyi_out="$out" "${protos[@]}"
}

if [[ ${1:-} == --check ]]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    generate "$work"
    cp src/fathom/v1/__init__.py "$work/fathom/v1/"
    diff -ru --exclude=__pycache__ src/fathom/v1 "$work/fathom/v1" || {
        echo "src/fathom/v1 differs from api/: run make proto" >&2
        exit 1
    }
elif [[ $# -eq 0 ]]; then
    rm -f src/fathom/v1/*_pb2.py src/fathom/v1/*_pb2.pyi
    generate src
else
    echo "usage: tools/proto.sh [--check]" >&2
    exit 2
fi
