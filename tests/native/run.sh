#!/bin/sh
# Builds the core and every C test with cc alone, and runs them. Arguments are further compiler flags:
#   sh tests/native/run.sh -fsanitize=address,undefined
set -eu
cd "$(dirname "$0")/../.."
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT INT TERM

CC=${CC:-cc}
flags="-std=c11 -O2 -g -Wall -Wextra -Wpedantic -Werror -I csrc -pthread $*"
for source in csrc/*.c; do
    # shellcheck disable=SC2086 # flags are many words
    $CC $flags -c "$source" -o "$build/$(basename "$source" .c).o"
done
for source in tests/native/test_*.c; do
    name=$(basename "$source" .c)
    link=$(sed -n 's/^ \* link with: *//p' "$source")
    # shellcheck disable=SC2086
    $CC $flags "$source" "$build"/*.o -o "$build/$name" $link
    printf '%s: ' "$name"
    "$build/$name"
done
