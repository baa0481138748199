#!/bin/sh
# Asks the advisory service for every package of requirements.lock. Exit status 0: nothing known; 1: something is, listed;
# 3: the service does not answer, so nothing is known at all. What is left out is explained in SECURITY.md.
set -u

found=$(mktemp)
said=$(mktemp)
trap 'rm -f "$found" "$said"' EXIT INT TERM HUP
# Strict: a package that the service does not know is no package without advisories.
.venv/bin/pip-audit --strict --requirement requirements.lock --require-hashes --disable-pip --progress-spinner off \
    --ignore-vuln CVE-2026-31072 --timeout 20 --format columns --output "$found" 2>"$said"
status=$?
if [ "$status" = 0 ]; then
    echo 'no known advisory for any package of requirements.lock'
elif [ -s "$found" ]; then
    cat "$found"
    exit 1
else
    echo 'cannot audit: the advisory service does not answer, so nothing is known about new advisories' >&2
    echo "  it said: $(tail -n 1 "$said" | cut -c 1-300)" >&2
    echo '  what you can do: run it where the Internet can be reached; the floors of tests/deploy/test_locks.py hold anyway' >&2
    exit 3
fi
