#!/bin/sh
# Pins what pyproject.toml asks for, with hashes, into requirements.lock and requirements-test.lock. The second holds
# the first and the test tools, at the same versions. pip-tools lives in an environment of its own, made and removed here.
set -eu

tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT INT TERM HUP
.venv/bin/python -m venv "$tool"
"$tool/bin/python" -m pip --disable-pip-version-check --quiet install pip-tools

compile() {
    CUSTOM_COMPILE_COMMAND='make lock' "$tool/bin/pip-compile" --quiet --upgrade --generate-hashes --strip-extras \
        --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
        --build-deps-for editable "$@" pyproject.toml
}

rm -f requirements.lock requirements-test.lock
compile --output-file requirements.lock
compile --output-file requirements-test.lock --extra test --constraint requirements.lock
