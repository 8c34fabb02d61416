#!/bin/bash
# The bill of materials: every library that is loaded, every program and model by its checksum, and what SPDX 2.3 asks for.
set -eu -o pipefail
build=$(realpath "$1")
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
sbom=$scratch/sbom.json
fail() { echo "$*"; exit 1; }

scripts/sbom "$build" >"$sbom"
jq -e '.spdxVersion == "SPDX-2.3" and .dataLicense == "CC0-1.0" and .SPDXID == "SPDXRef-DOCUMENT"
	and (.documentNamespace | startswith("https://")) and (.creationInfo.created | fromdateiso8601 > 0)' "$sbom" >/dev/null ||
	fail "the document's own fields"
jq -e '[.packages[].SPDXID] | (unique | length) == length and all(test("^SPDXRef-[A-Za-z0-9.-]+$"))' "$sbom" >/dev/null ||
	fail "identifiers"
jq -e '([.packages[].SPDXID] + ["SPDXRef-DOCUMENT"]) as $ids
	| [.relationships[] | .spdxElementId, .relatedSpdxElement] | all(IN($ids[]))' "$sbom" >/dev/null || fail "relationships"
jq -e '[.packages[] | (.versionInfo | length > 0) and has("downloadLocation") and has("licenseConcluded")] | all' "$sbom" >/dev/null ||
	fail "a package's fields"

for program in biomatchd biomatch biomatch-face biomatch-calibrate; do
	sum=$(sha256sum "$build/$program" | cut -d' ' -f1)
	jq -e --arg sum "$sum" '[.packages[].checksums[]?.checksumValue] | index($sum) != null' "$sbom" >/dev/null ||
		fail "$program is not in it"
	for library in $(ldd "$build/$program" | grep -o '=> /[^ ]*' | cut -c4-); do
		real=$(realpath "$library")
		owner=$(dpkg-query -S "$real" "${real#/usr}" 2>/dev/null | cut -d: -f1 | head -n 1 || true)
		[ -n "$owner" ] || fail "no package holds $library"
		jq -e --arg name "$owner" '[.packages[].name] | index($name) != null' "$sbom" >/dev/null || fail "$owner is not in it"
	done
done
for model in build/packs/faceplugin-0.0.1/model/*; do
	sum=$(sha256sum "$model" | cut -d' ' -f1)
	jq -e --arg sum "$sum" '[.packages[].checksums[]?.checksumValue] | index($sum) != null' "$sbom" >/dev/null || fail "$model is not in it"
done
scripts/sbom "$build" | cmp - "$sbom" || fail "made twice, it differs"
