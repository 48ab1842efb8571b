#!/bin/sh
# Build the environment in .venv from requirements.lock: every package pinned, every file checked by its hash.
#
#   scripts/setup.sh [VENV]      PYTHON=python3.12 scripts/setup.sh      (default: newest of 3.13, 3.12, 3.11)
#
# Running it again is instant: a stamp in the environment names what it was built from.
set -eu

cd "$(dirname "$0")/.."
venv=${1:-.venv}

say() { printf '%s\n' "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

is_suitable() {
    # A pyenv shim exists even where its version is not active, so the interpreter itself is asked.
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1
}

can_make_environments() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

find_python() {
    lacking=
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        is_suitable "$candidate" || continue
        if can_make_environments "$candidate"; then
            command -v "$candidate"
            return
        fi
        lacking=$candidate
    done
    if [ -n "$lacking" ]; then
        version=$("$lacking" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        fail "$lacking cannot make environments: install its venv module (Debian and Ubuntu: apt-get install python$version-venv)"
    elif [ -n "${PYTHON:-}" ]; then
        fail "PYTHON=$PYTHON is not a working Python 3.11, 3.12 or 3.13"
    fi
    fail "no Python 3.11, 3.12 or 3.13 found: install one (Debian: apt-get install python3 python3-venv) or name it with PYTHON="
}

wanted_stamp() {
    # The directory belongs to it: an environment holds absolute paths and does not survive a move.
    { pwd; cat requirements.lock pyproject.toml scripts/setup.sh; } | cksum
}

is_right_environment() {
    is_suitable "$venv/bin/python" || return 1
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || return 1
    [ -z "${PYTHON:-}" ] || [ "$(version_of "$venv/bin/python")" = "$(version_of "$PYTHON")" ]
}

version_of() { "$1" -c 'import sys; print(sys.version_info[:3])' 2>/dev/null || echo none; }

stamp=$venv/.paylinks-stamp
wanted=$(wanted_stamp)

build() {
    [ -z "${PYTHON:-}" ] || find_python >/dev/null
    if is_right_environment && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if ! is_right_environment; then
        python=$(find_python) || exit 1
        say "making $venv with $python"
        rm -rf "$venv"
        "$python" -m venv "$venv"
    fi
    rm -f "$stamp"
    pip="$venv/bin/python -m pip --disable-pip-version-check --no-input"
    say "installing the locked packages"
    # Only a log of trouble is worth reading: pip's output is kept and shown when it fails.
    log=$venv/setup.log
    if ! { $pip install --quiet --require-hashes -r requirements.lock \
        && $pip install --quiet --no-deps --no-build-isolation --no-index -e .; } >"$log" 2>&1; then
        cat "$log" >&2
        fail "the packages could not be installed (above is what pip said)"
    fi
    printf '%s\n' "$wanted" >"$stamp"
    say "$venv is ready: $("$venv/bin/python" --version)"
}

# Two makes at once would tear one environment apart, so the second waits for the first.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$venv.lock"
    flock 9
fi
build
