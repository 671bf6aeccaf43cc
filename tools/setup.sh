#!/usr/bin/env bash
# Installs what the other make targets need: Debian packages (tools/packages.txt) and .venv (requirements/dev.txt).
# Does nothing, in under 3 s, when all is there. Started by sudo, it leaves nothing in the tree to root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
venv=.venv

say() { echo "setup: $*" >&2; }

# As the owner of the tree, when root works in somebody else's tree (sudo make …).
as_owner() {
    if ((EUID == 0)) && [[ ${SUDO_UID:-0} != 0 && $(stat -c %u .) == "${SUDO_UID}" ]]; then
        setpriv --reuid="$SUDO_UID" --regid="$SUDO_GID" --init-groups env HOME="$(getent passwd "$SUDO_UID" | cut -d: -f6)" "$@"
    else
        "$@"
    fi
}

# Lines of "package" or "package (program)": the latter is not wanted where that program is there already.
packages() {
    local package program
    while read -r package program; do
        program=${program//[()]/}
        [[ $program ]] && command -v "$program" > /dev/null || echo "$package"
    done < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "${1:-tools/packages.txt}")
}

missing_packages() {
    local package
    while read -r package; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2> /dev/null | grep -qx installed || echo "$package"
    done < <(packages "$@")
}

install_packages() {
    if ! command -v apt-get > /dev/null; then
        local program absent=()
        for program in clang gcc make cmake ninja pkg-config ip clang-format "$PYTHON"; do
            command -v "$program" > /dev/null || absent+=("$program")
        done
        pkg-config --exists 'libbpf >= 1.1' 2> /dev/null || absent+=("libbpf >= 1.1 with headers")
        ((${#absent[@]})) || return 0
        say "this is not Debian or Ubuntu, and these are missing: ${absent[*]}"
        say "install your distribution's equivalents of: $(packages "$@" | tr '\n' ' ')"
        exit 1
    fi
    local missing
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    local root=()
    if ((EUID != 0)); then
        command -v sudo > /dev/null || { say "not root and no sudo; as root: apt-get install ${missing[*]}"; exit 1; }
        root=(sudo)
    fi
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends --no-remove \
        "${missing[@]}" > /dev/null
}

# One stamp a step: the hash of what the step reads. An unchanged hash means that there is nothing to do.
stamp() { cat "$@" 2> /dev/null | sha256sum | cut -d' ' -f1; }

install_python() {
    local want
    want=$(stamp requirements/dev.txt)-$("$PYTHON" -c 'import sys; print(sys.version_info[:3], sys.executable)' | sha256sum | cut -c1-12)
    [[ $(cat "$venv/.requirements" 2> /dev/null) == "$want" ]] && return 0
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { say "Python 3.11 or later is needed; $PYTHON is older"; exit 1; }
    say "installing Python packages into $venv"
    # Keep an environment of the same interpreter: only what changed is installed.
    [[ -x $venv/bin/python && $("$venv/bin/python" -c 'import sys; print(sys.version)' 2> /dev/null) == "$("$PYTHON" -c 'import sys; print(sys.version)')" ]] ||
        as_owner "$PYTHON" -m venv --clear "$venv"
    as_owner "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
    as_owner sh -c "printf %s '$want' > $venv/.requirements"
}

# The product itself, editable: Python from src/, extension and BPF objects compiled.
build_product() {
    local want
    want=$(find bpf src/fathom/kernel CMakeLists.txt pyproject.toml -type f \
        \( -name '*.[ch]' -o -name '*.toml' -o -name CMakeLists.txt \) -print0 | sort -z | xargs -0 sha256sum | sha256sum)
    [[ -x $venv/bin/fathom && $(cat "$venv/.product" 2> /dev/null) == "$want" ]] && return 0
    say "building the extension and the BPF objects"
    as_owner "$venv/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable . \
        -Cbuild-dir=build/editable
    as_owner sh -c "printf %s '$want' > $venv/.product"
}

if [[ ${1:-} == --packages ]]; then
    install_packages "$2"
    exit 0
fi
# Bytecode belongs to the owner too: by sudo nothing is compiled (fathom/__init__.py).
compile_python() { as_owner env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -m compileall -q src/fathom > /dev/null; }

install_packages
install_python
build_product
compile_python
