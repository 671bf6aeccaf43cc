#!/usr/bin/env bash
# Builds what is shipped, into dist/: the sdist; from it the Linux wheel with libbpf bundled (auditwheel) and the pure
# wheel (client, server, policy: any platform).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$PWD/.venv/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p dist

"$bin/python" -m build --no-isolation --sdist --outdir "$work/sdist" . > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
tar -xzf "$work"/sdist/*.tar.gz -C "$work"
source=$(find "$work" -maxdepth 1 -type d -name 'fathom_ebpf-*')

"$bin/pip" wheel --quiet --no-build-isolation --no-deps --wheel-dir "$work/linux" "$source"
PATH="$bin:$PATH" "$bin/auditwheel" repair --wheel-dir "$work/repaired" "$work"/linux/*.whl > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
FATHOM_PURE=true "$bin/pip" wheel --quiet --no-build-isolation --no-deps --wheel-dir "$work/pure" "$source"

cp "$work"/sdist/*.tar.gz "$work"/repaired/*.whl "$work"/pure/*.whl dist/
ls -l dist
