#!/bin/sh
# Proves a change of network policies on recorded traffic: prove.sh OLD NEW, in the folder with the material.
# Leaves replay.sarif (annotations) and comment.md (a comment for the pull request).
# Exit status: 0 all recorded traffic is allowed, 1 some would be denied or is not known, 2 an error.
set -u
old=$1 new=$2

fathom policy replay --policies "$new" --manifests manifests --flows flows.jsonl -o sarif > replay.sarif
status=$?
[ $status -le 1 ] || exit 2

fathom policy replay --policies "$new" --manifests manifests --flows flows.jsonl -o markdown > comment.md
fathom policy diff --old "$old" --new "$new" --manifests manifests --flows flows.jsonl -o markdown >> comment.md
[ $? -le 1 ] || exit 2

exit $status
