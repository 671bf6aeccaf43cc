#!/usr/bin/env bash
# Make the root file system of the containers in tests/containers: Debian packages, unpacked and not installed, so that
# no service starts and nothing of this machine changes. Nothing to do where it is there already.
#
# Needs no root. Takes the packages from where this machine takes its own; the lists must be there (apt-get update).
set -euo pipefail

cache=${FATHOM_CONTAINER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fathom-containers}
packages=(busybox-static python3 nginx postgresql strace)

stamp=$(cat "${BASH_SOURCE[0]}" /etc/os-release | sha256sum | cut -d' ' -f1)
[[ $(cat "$cache/stamp" 2> /dev/null) != "$stamp" ]] || exit 0
echo "containers: unpacking ${packages[*]} into $cache" >&2
rm -rf "$cache/stamp" "$cache/root" "$cache/packages"
mkdir -p "$cache/root" "$cache/packages/partial"

# As on a machine where nothing is installed yet, so that all that they need comes with them.
: > "$cache/packages/status"
apt-get -qq -o Dir::State::status="$cache/packages/status" -o Dir::Cache::archives="$cache/packages" \
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Debug::NoLocking=1 -o APT::Sandbox::User= \
    --download-only --no-install-recommends -y install "${packages[@]}" > /dev/null || {
    echo "containers: cannot get ${packages[*]}; if apt-get does not know them: apt-get update" >&2
    exit 1
}
# Where /bin is a part of /usr on this machine, it is there too.
for folder in bin sbin lib lib64; do
    if [[ -L /$folder ]]; then
        mkdir -p "$cache/root/usr/$folder"
        ln -s "usr/$folder" "$cache/root/$folder"
    fi
done
for file in "$cache"/packages/*.deb; do
    dpkg --fsys-tarfile "$file" | tar -x --keep-directory-symlink --no-same-owner --no-same-permissions -C "$cache/root"
done
rm -r "$cache/packages"

cd "$cache/root"
mkdir -p dev proc run sys tmp work
ln -sf busybox bin/sh
printf '%s\n' root:x:0:0::/:/bin/sh www-data:x:33:33::/:/bin/sh postgres:x:70:70::/:/bin/sh > etc/passwd
printf '%s\n' root:x:0: tty:x:5: www-data:x:33: postgres:x:70: > etc/group
echo '127.0.0.1 localhost' > etc/hosts
# All users of the containers read it, and it is not written.
chmod -R go=u-w .
chmod 1777 tmp
echo "$stamp" > "$cache/stamp"
