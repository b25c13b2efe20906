#!/bin/sh
# Runs the tests on the wheel in dist/ with every other Python 3.10 or later on PATH or of pyenv, one of each version:
# all of them with 3.10, on the oldest packages that pyproject.toml allows; elsewhere those where Python could differ.
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

seen=" $(version_of "$1") "
for python in $(candidates); do
    version=$(version_of "$python")
    case "$seen" in *" $version "*) continue ;; esac
    if [ -n "$version" ]; then
        if [ "$version" = 3.10 ]; then
            sh tools/test_dist.sh "$python" dist/*.whl all "cffi==1.15.*" "numpy==1.24.*" "rich==13.0.*"
        else
            sh tools/test_dist.sh "$python" dist/*.whl outside
        fi
        seen="$seen$version "
    fi
done
