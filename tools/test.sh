#!/usr/bin/env bash
# The tests that a person runs, in minutes. With --all also what takes longer: long properties, the kernel tests on
# other kernels, containers, Kubernetes clusters.
#
#   tools/test.sh [--all] [PYTEST ARGUMENT…]
#
# Tests that load programs into the kernel need root. Not as root they run by sudo, if that asks for no password, and
# leave nothing of root's behind; else they skip, and say so. FATHOM_REQUIRE=all makes each skip a failure. With --all,
# what passed on this very tree already is not run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Files that the tests of one user would leave in the tree of another go to a folder of their own.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" 2> /dev/null || sudo -n rm -rf "$scratch"' EXIT
mkdir "$scratch/user" "$scratch/root"
# As open as /tmp itself: some tests of root's become another user.
chmod 711 "$scratch"
chmod 1777 "$scratch/user" "$scratch/root"
failed=0

all=
if [[ ${1:-} == --all ]]; then
    all=1
    shift
fi

# What the tree holds, and the machine that it was tested on.
tree() {
    {
        git rev-parse HEAD
        git diff HEAD
        git ls-files --others --exclude-standard -z | xargs -0r sha256sum
        uname -a
    } 2> /dev/null | sha256sum
}

# pytest that writes nothing into the tree; the first argument is the folder for what it writes.
# shellcheck disable=SC2317
run() {
    local place=$1
    shift
    env PYTHONDONTWRITEBYTECODE=1 HYPOTHESIS_STORAGE_DIRECTORY="$place/hypothesis" TMPDIR="$place" \
        .venv/bin/python -m pytest -q -p no:cacheprovider --basetemp="$place/pytest" "$@"
}

# The same by sudo, with a home of its own.
# shellcheck disable=SC2317
as_root() {
    local place=$scratch/root
    sudo -n --preserve-env=FATHOM_REQUIRE,FATHOM_VM_CACHE,FATHOM_CONTAINER_CACHE,FATHOM_KUBE_CACHE,PATH \
        env HOME="$place" PYTHONDONTWRITEBYTECODE=1 HYPOTHESIS_STORAGE_DIRECTORY="$place/hypothesis" TMPDIR="$place" \
        .venv/bin/python -m pytest -q -p no:cacheprovider --basetemp="$place/pytest" "$@"
}

part() {
    echo "test: $*" >&2
    local status=0
    "$@" || status=$?
    # 5: no test there is of that kind.
    ((status == 0 || status == 5)) || failed=1
}

# Tests of folders that need no root, then of those that do. The first argument chooses by marker.
both() {
    local chosen=$1 plain=() rooted=() folder
    shift
    for folder in unit layout store policy; do plain+=("tests/$folder"); done
    for folder in kernel e2e; do rooted+=("tests/$folder"); done
    part run "$scratch/user" -m "$chosen" "${plain[@]}" "$@"
    part with_root -m "$chosen" "${rooted[@]}" "$@"
}

with_root() {
    if ((EUID == 0)); then
        run "$scratch/user" "$@"
    elif sudo -n true 2> /dev/null; then
        as_root "$@"
    else
        echo "test: not root, and sudo asks for a password: tests that need root will skip (sudo make test runs them)" >&2
        run "$scratch/root" "$@"
    fi
}

longer() {
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}
    export FATHOM_VM_CACHE=${FATHOM_VM_CACHE:-$cache/fathom-vm} FATHOM_KUBE_CACHE=${FATHOM_KUBE_CACHE:-$cache/fathom-kube}
    export FATHOM_CONTAINER_CACHE=${FATHOM_CONTAINER_CACHE:-$cache/fathom-containers}
    for packages in tools/packages-*.txt; do tools/setup.sh --packages "$packages"; done
    tools/vm/fetch-kernels.sh
    tools/containers/root.sh || echo "test: the containers' root cannot be made here: tests/containers will skip" >&2
    tools/kube/build.sh kube agnhost coredns pause images netpol crds ||
        echo "test: the cluster cannot be built here: tests/kube will skip" >&2
    both slow "$@"
    part with_root tests/vm "$@"
    part with_root tests/containers "$@"
    part with_root tests/kube "$@"
}

if [[ ! $all || $# -gt 0 || $(cat .venv/.tested 2> /dev/null) != "$(tree)" ]]; then
    both "not slow" "$@"
    ((failed || $#)) || tree > .venv/.tested
fi
[[ ! $all ]] || longer "$@"
exit $failed
