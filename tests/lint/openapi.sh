#!/bin/sh
# openapi.sh - core/edge/openapi.json names every field that the parser of requests reads.
# (tests/unit/test_edge_openapi.c looks the other way, and compares the paths.)
set -u
cd "$(dirname "$0")/../.." || exit 2
files="core/edge/params.c core/edge/params_tokens.c core/edge/params_logprobs.c core/edge/plan.c
       core/edge/plan_tokens.c core/edge/unsupported.c core/edge/api_chat.c
       core/edge/api_completions.c"
bad=0
# shellcheck disable=SC2086 # names without blanks
names=$(grep -ohE '(field_[a-z]+|params_token_ids)\([a-z]+, "[a-z_]+"|^ +\{"[a-z_]+",|(name|ids)(\[\])? = "[a-z_]+"' \
    $files | grep -oE '"[a-z_]+"' | sort -u)
[ "$(echo "$names" | wc -l)" -ge 50 ] || {
    echo "openapi.sh: found hardly any fields; has the parser changed its form?"
    exit 1
}
for name in $names; do
    grep -q "$name:" core/edge/openapi.json || {
        echo "core/edge/openapi.json: the parser reads field $name, which is not there"
        bad=1
    }
done
exit $bad
