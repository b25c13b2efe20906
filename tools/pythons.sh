#!/bin/sh
# Runs the tests on the wheel in dist/ with other Pythons on PATH or of pyenv: all of them with 3.10, on the oldest packages
# that pyproject.toml allows; those where Python could differ with the newest.
#   sh tools/pythons.sh PYTHON
set -eu
# 3.N, nothing for one that is too old or can't make virtual environments.
version_of() {
    "$1" -c 'import sys, venv, ensurepip; v = sys.version_info; v < (3, 10) or print("%d.%d" % v[:2])' 2>/dev/null || true
}
candidates() {
    for folder in $(echo "$PATH" | tr ':' ' ') "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin; do
        for python in "$folder"/python3.[0-9] "$folder"/python3.[0-9][0-9]; do
            [ ! -x "$python" ] || echo "$python"
        done
    done
}

oldest= newest= newest_minor=$(version_of "$1" | cut -d. -f2)
for python in $(candidates); do
    minor=$(version_of "$python" | cut -d. -f2)
    [ "$minor" != 10 ] || oldest=$python
    [ "${minor:-0}" -le "$newest_minor" ] || newest=$python newest_minor=$minor
done
[ -z "$oldest" ] || sh tools/test_dist.sh "$oldest" dist/*.whl all "cffi==1.15.*" "numpy==1.24.*" "rich==13.0.*"
[ -z "$newest" ] || sh tools/test_dist.sh "$newest" dist/*.whl outside
