#!/bin/sh
# Builds the sdist, and from it the wheel, into dist/.
#   sh tools/dist.sh PYTHON
set -eu
log=$(mktemp)
trap 'rm -f "$log"' EXIT INT TERM

rm -rf dist
"$1" -m build --outdir dist >"$log" 2>&1 || { cat "$log"; exit 1; }
if grep -E '^csrc/.*(warning|error): ' "$log"; then
    echo "the core does not compile without warnings" >&2
    exit 1
fi
case $(echo dist/*.whl) in
dist/pageshare-*-cp310-abi3-linux_*.whl) ;;
*) echo "expected one wheel with the tag cp310-abi3, found: $(echo dist/*.whl)" >&2; exit 1 ;;
esac
ls -l dist
