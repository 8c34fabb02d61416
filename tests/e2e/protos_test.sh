#!/bin/bash
# tests/lint/protos finds what it is for: each change that would break a caller is refused, and what is only added is not.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
buf=build/node/node_modules/.bin/buf
[ -x "$buf" ] || { echo "build/node is missing; run scripts/setup"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

change() { # FILE SED
	rm -rf "$scratch/proto"
	cp -r proto "$scratch/"
	sed -i "$2" "$scratch/proto/biomatch/v1/$1"
	! cmp -s "proto/biomatch/v1/$1" "$scratch/proto/biomatch/v1/$1" || { echo "nothing to change: $2"; exit 1; }
}

breaks() { # NAME FILE SED
	change "$2" "$3"
	if "$buf" breaking "$scratch/proto" --against proto/released.binpb >"$scratch/said" 2>&1; then
		echo "taken: $1"
		failed=1
	fi
	grep -q "$2" "$scratch/said" || { echo "$1: $(cat "$scratch/said")"; failed=1; }
}

breaks "a renumbered field" matching_service.proto 's/string subject_id = 3;/string subject_id = 30;/'
breaks "a renamed field" matching_service.proto 's/string subject_id = 3;/string person_id = 3;/'
breaks "another type" matching_service.proto 's/uint32 retry_after_ms = 9;/string retry_after_ms = 9;/'
breaks "a field that is gone" enrolment_service.proto '/bool refuse_duplicates = 7;/d'
breaks "a reason that is gone" common.proto '/REASON_UNCERTAIN = 12;/d'
breaks "a method that is gone" analysis_service.proto '/rpc Extract(/d'

change common.proto 's/^  REASON_UNCERTAIN = 12;/&\n  REASON_NEWER = 999;/'
sed -i 's/^  Probe probe = 4;/&\n  string newer = 999;/' "$scratch/proto/biomatch/v1/matching_service.proto"
"$buf" breaking "$scratch/proto" --against proto/released.binpb || { echo "refused: what is only added"; failed=1; }
exit $failed
