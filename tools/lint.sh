#!/usr/bin/env bash
# Everything that can be checked without running the product. Prints a line for each step that fails.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
bin=.venv/bin
failed=0

step() {
    local name=$1 out
    shift
    if out=$("$@" 2>&1); then
        echo "lint: $name ok"
    else
        printf '%s\nlint: %s FAILED\n' "$out" "$name" >&2
        failed=1
    fi
}

c_sources() { git ls-files --cached --others --exclude-standard '*.c' '*.h'; }

no_machine_paths() {
    # A clone must not know where it was made, nor which package host its maker used.
    ! git grep -nIE '(^|[[:space:]"=(:])/(root|home/[a-z]+)/[a-z.]|https?://[a-z0-9.-]*(registry|proxy|mirror|index)[a-z0-9.-]*/' \
        -- ':!tools/lint.sh' ':!LICENSE' ':!tests' ':!tools/vm/init'
}

format_c() { c_sources | xargs -r clang-format --dry-run --Werror; }

step "ruff" $bin/ruff check src tests benchmarks tools
step "ruff format" $bin/ruff format --check src tests benchmarks tools
step "mypy" $bin/mypy
step "import contracts" $bin/lint-imports
step "clang-format" format_c
step "generated: api" tools/proto.sh --check
step "generated: reference" $bin/python tools/reference.py --check
step "machine paths" no_machine_paths
exit $failed
