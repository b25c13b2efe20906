#!/bin/sh
# Installs a wheel or sdist into a new virtual environment, and there runs the tests that are in the sdist, outside
# of this tree and without src/.
#   sh tools/test_dist.sh PYTHON FILE
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

echo "== the tests with $("$1" --version), on $2"
"$1" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet "$2[test]"
mkdir "$work/tree"
tar -xzf dist/*.tar.gz --strip-components=1 -C "$work/tree"
rm -r "$work/tree/src"
cd "$work/tree"
# The guests are booted once, by make test.
"$work/venv/bin/python" -m pytest -q -m "not guests"
