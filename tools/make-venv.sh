#!/bin/sh
# Makes .venv in the current directory from the interpreter given as $1. Debian's python3 comes without ensurepip: as
# root its package python3-venv is installed first, anybody else is told what to install.
set -eu

python=$1

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "cannot make .venv: $python is older than 3.11. Name a newer one: make PYTHON=python3.12 ..." >&2
    exit 1
}

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "cannot make .venv: $python lacks ensurepip. As root: apt-get install python3-venv" >&2
        exit 1
    fi
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
fi

rm -rf .venv
"$python" -m venv .venv
