#!/bin/sh
# Installs a wheel or sdist into a new virtual environment, and there runs the tests that are in the sdist, outside
# of this tree and without src/.
#   sh tools/test_dist.sh PYTHON FILE [REQUIREMENT..]
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

python=$1 file=$2
shift 2
echo "== the tests with $("$python" --version), on $file $*"
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet "$file[test]" "$@"
mkdir "$work/tree"
tar -xzf dist/*.tar.gz --strip-components=1 -C "$work/tree"
rm -r "$work/tree/src"
cd "$work/tree"
# The wheel is built from the sdist: of that the core's tests and those of what was packed say enough.
case $file in
*.tar.gz) tests="tests/test_package.py tests/core tests/commands/test_scan.py" ;;
*) tests= ;;
esac
# The guests are booted once, by make test.
# shellcheck disable=SC2086 # many folders, or none
"$work/venv/bin/python" -m pytest -q -m "not guests" $tests
