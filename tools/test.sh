#!/usr/bin/env bash
# The tests that a person runs, in minutes. With --all also the slow ones, the kernel tests on other kernels, and those
# on a Kubernetes cluster.
#
#   tools/test.sh [--all] [PYTEST ARGUMENT…]
#
# Tests that load programs into the kernel need root. Not as root they run by sudo, if that asks for no password, and
# leave nothing of root's behind; else they skip, and say so. FATHOM_REQUIRE=all makes each skip a failure.
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
slow=(-m "not slow")
[[ ! $all ]] || slow=()

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
    sudo -n --preserve-env=FATHOM_REQUIRE,FATHOM_VM_CACHE,FATHOM_KUBE_CACHE,PATH env HOME="$place" PYTHONDONTWRITEBYTECODE=1 \
        HYPOTHESIS_STORAGE_DIRECTORY="$place/hypothesis" TMPDIR="$place" \
        .venv/bin/python -m pytest -q -p no:cacheprovider --basetemp="$place/pytest" "$@"
}

# Folders that exist and have tests, of those named.
with_tests() {
    local folder
    for folder; do
        [[ -z $(find "tests/$folder" -name 'test_*.py' -print -quit 2> /dev/null) ]] || echo "tests/$folder"
    done
}

part() {
    echo "test: $*" >&2
    "$@" || failed=1
}

mapfile -t plain < <(with_tests unit layout store)
mapfile -t policy < <(with_tests policy)
mapfile -t rooted < <(with_tests kernel e2e)
if [[ $all ]]; then
    tools/setup.sh --packages tools/packages-guests.txt
    tools/setup.sh --packages tools/packages-kube.txt
    cache=${XDG_CACHE_HOME:-$HOME/.cache}
    export FATHOM_VM_CACHE=${FATHOM_VM_CACHE:-$cache/fathom-vm} FATHOM_KUBE_CACHE=${FATHOM_KUBE_CACHE:-$cache/fathom-kube}
    tools/vm/fetch-kernels.sh
    tools/kube/build.sh kube agnhost coredns pause images netpol crds ||
        echo "test: the cluster cannot be built here: tests/kube will skip" >&2
    mapfile -t -O "${#rooted[@]}" rooted < <(with_tests vm kube)
fi

# The long properties of policy (a million triples) take longer than all the rest: FATHOM_TEST_POLICY=long runs them.
brief=(-m "not slow")
[[ ${FATHOM_TEST_POLICY:-} != long ]] || brief=()
part run "$scratch/user" "${brief[@]}" "${policy[@]}" "$@"
if ((EUID == 0)); then
    part run "$scratch/user" "${slow[@]}" "${plain[@]}" "${rooted[@]}" "$@"
else
    part run "$scratch/user" "${slow[@]}" "${plain[@]}" "$@"
    if sudo -n true 2> /dev/null; then
        part as_root "${slow[@]}" "${rooted[@]}" "$@"
    else
        echo "test: not root, and sudo asks for a password: tests that need root will skip (sudo make test runs them)" >&2
        part run "$scratch/root" "${slow[@]}" "${rooted[@]}" "$@"
    fi
fi
exit $failed
