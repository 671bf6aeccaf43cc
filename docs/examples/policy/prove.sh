#!/bin/sh
# Proves a change of network policies on recorded traffic: prove.sh OLD NEW [RECORDING]. Without a recording it takes
# the manifests and flows of this folder.
# Leaves replay.sarif (annotations) and comment.md (a comment for the pull request).
# Exit status: 0 all recorded traffic is allowed, 1 some would be denied or is not known, 2 an error.
set -u
old=$1 new=$2
if [ $# -gt 2 ]; then
    set -- --recording "$3"
else
    set -- --manifests manifests --flows flows.jsonl
fi

fathom policy replay --policies "$new" "$@" -o sarif > replay.sarif
status=$?
[ $status -le 1 ] || exit 2

fathom policy replay --policies "$new" "$@" -o markdown > comment.md
fathom policy diff --old "$old" --new "$new" "$@" -o markdown >> comment.md
[ $? -le 1 ] || exit 2

exit $status
