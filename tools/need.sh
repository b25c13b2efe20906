#!/bin/sh
# Installs from apt what is missing, as root or by sudo; else prints the line to type, and goes on.
#   sh tools/need.sh build PYTHON   to compile the core and make a virtual environment
#   sh tools/need.sh test           for the tests: guests under QEMU, the AArch64 kernel, what writes and reads dumps,
#                                   what looks at pages
#   sh tools/need.sh traces         to record traces of page touches
#   sh tools/need.sh bench          for the benchmarks: guests, and the tools that ours is compared with
set -eu

sudo=
[ "$(id -u)" = 0 ] || sudo="sudo -n"
as_root() {
    # shellcheck disable=SC2086 # the command of many words, or none
    $sudo env DEBIAN_FRONTEND=noninteractive "$@" >/dev/null
}

missing=
# need PACKAGE COMMAND..: the package is missing if the command fails.
need() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
has_python_header() {
    "$1" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
}
is_static() {
    path=$(command -v "$1") && ! ldd "$path"
}
has_library() {
    ldconfig -p | grep -q "$1"
}

case $1 in
build)
    python=$2
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
        found=$("$python" --version 2>/dev/null || echo missing)
        echo "pageshare needs Python 3.10 or later; $python is $found" >&2
        echo "  to take another one: make PYTHON=/path/to/python3" >&2
        exit 1
    }
    need gcc command -v cc
    need libc6-dev test -e /usr/include/stdlib.h
    need python3-venv "$python" -c 'import ensurepip, venv'
    need python3-dev has_python_header "$python"
    ;;
test)
    need qemu-system-x86 command -v qemu-system-x86_64
    need busybox-static is_static busybox
    need gdb command -v gdb
    need makedumpfile command -v makedumpfile
    need python3-libkdumpfile /usr/bin/python3 -c 'import kdumpfile'
    need qemu-user command -v qemu-aarch64
    need valgrind command -v valgrind
    need gcc-aarch64-linux-gnu command -v aarch64-linux-gnu-gcc
    # The guests' kernel comes with a tool that modules are built with, and that needs it.
    need libelf1 has_library libelf.so.1
    need libsnappy1v5 has_library libsnappy.so.1
    need libc6-dev-arm64-cross test -e /usr/aarch64-linux-gnu/lib/libc.a
    # They look at pages. Some distributions' npm comes with nodejs.
    need nodejs command -v node
    need npm command -v npm
    need chromium command -v chromium
    # Where there is none its tests are skipped. What pip calls crit is something else.
    if apt-cache show criu >/dev/null 2>&1; then
        need criu command -v crit
    fi
    ;;
traces)
    need gcc command -v cc
    need qemu-user command -v qemu-x86_64
    need valgrind command -v valgrind
    need python3 test -x /usr/bin/python3
    need redis-server command -v redis-server
    need apache2-bin test -x /usr/sbin/apache2
    need clangd-14 command -v clangd-14
    need libstdc++-12-dev test -d /usr/include/c++/12
    need openjdk-17-jdk-headless command -v javac
    need ruby command -v ruby
    need ruby-dev ruby -rrbconfig -e 'exit File.exist?(RbConfig::CONFIG["rubyhdrdir"] + "/ruby.h")'
    ;;
bench)
    need qemu-system-x86 command -v qemu-system-x86_64
    need busybox-static is_static busybox
    need duperemove command -v duperemove
    need xxhash command -v xxhsum
    # Debian's name; where there is none the profile is left out.
    if apt-cache show linux-perf >/dev/null 2>&1; then
        need linux-perf command -v perf
    fi
    ;;
esac
case $1 in
test | bench)
    # The guests' kernel is downloaded by apt, which has to know of it.
    apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || as_root apt-get update 2>/dev/null || true
    ;;
esac
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
if command -v apt-get >/dev/null && as_root true 2>/dev/null; then
    echo "installing from apt:$missing"
    # The lists of packages may be old, or not there at all.
    # shellcheck disable=SC2086
    if as_root $install 2>/dev/null || { as_root apt-get update && as_root $install; }; then
        exit 0
    fi
fi
echo "missing:$missing; to install:" >&2
echo "  sudo $install" >&2
