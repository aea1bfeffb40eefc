#!/usr/bin/env bash
# as_a_newcomer.sh - the README's lines on a fresh system, run by nspawn.sh; the last one's answer streams.
cd /root/given || exit 1
cp first.deb llmd_0_amd64.deb && cp model.gguf SmolLM2-135M-Instruct.Q4_1.gguf
if bash -eu transcript.sh >said 2>&1 && [ "$(grep -c '^data: {' said)" -gt 5 ] && grep -q Paris said && tail -n 2 said | grep -q DONE; then
    echo "ok      README: from the package to a streamed answer over HTTPS"
else
    echo "FAILED  README: from the package to a streamed answer over HTTPS"
    sed 's/^/        | /' said
    exit 1
fi
