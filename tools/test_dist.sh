#!/bin/sh
# Installs a wheel or sdist into a new virtual environment, and there runs the tests that are in the sdist, outside
# of this tree and without src/.
#   sh tools/test_dist.sh PYTHON FILE all|outside|core [REQUIREMENT..]
# outside: what meets users, files and processes; core: the compiled core, and one command.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

python=$1 file=$2 which=$3
shift 3
echo "== the tests ($which) with $("$python" --version), on $file $*"
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet "$file[test]" "$@"
mkdir "$work/tree"
tar -xzf dist/*.tar.gz --strip-components=1 -C "$work/tree"
rm -r "$work/tree/src"
cd "$work/tree"
case $which in
outside) tests="tests/commands tests/images tests/live $(echo tests/test_*.py)" ;;
core) tests="tests/test_package.py tests/core tests/commands/test_scan.py" ;;
all) tests= ;;
esac
# The guests are booted once, by make test.
# shellcheck disable=SC2086 # many folders, or none
"$work/venv/bin/python" -m pytest -q -n logical --maxprocesses 8 -m "not guests" $tests
