#!/bin/bash
# What bash offers for a command line of biomatch, against the program's own help.
set -eu -o pipefail
build=$(realpath "$1")
cd "$(dirname "$0")/../.."
# shellcheck source=/dev/null
. config/completion/biomatch

offered() { # WORD...: what completes the last one
	COMP_WORDS=(biomatch "$@") COMP_CWORD=$#
	_biomatch "$build/biomatch"
	printf '%s\n' "${COMPREPLY[@]}" | sort | paste -sd' '
}

expect() { # WANTED WORD...
	local wanted=$1 found
	shift
	found=$(offered "$@")
	[ "$found" = "$wanted" ] || { echo "biomatch $*: offered \"$found\", not \"$wanted\""; exit 1; }
}

expect "verify verify-document version" ver
expect "verify verify-document" verify
expect "create delete list show" gallery ""
expect "delete delete-encounter" subject del
expect "--max=" identify --m
expect "--public-key=" audit verify --pub
expect "--output=" calibrate --out
expect "" nonsense --x
cd tests/e2e
expect "completion_test.sh" verify gallery subject completion
[ "$(offered "" | wc -w)" = "$("$build/biomatch" --help | sed -n 's/^  \([a-z-]*\) .*/\1/p' | sort -u | wc -l)" ]
