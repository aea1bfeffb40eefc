#!/usr/bin/env bash
# edge.sh [--quick] [--json FILE] [--only PART...] [--streams N...] [--modes MODE...] [--over plain|tls...]
#         [--rounds N] - what the edge costs, beside the least that can do its work (5 minutes; --quick: one;
# the parts are tokens, memory, writes, requests, the modes spread and burst):
#
#   tokens    from a simulated worker's push to the client's read, 1, 64, 256 and 1,000 streams of 50 tokens
#             a second, spread (64 workers) and in bursts (one worker), plain and over TLS; beside
#             tests/bench/edge_sender.c, which replays the same pushes with the same bytes; CPU time of
#             the edge per token, writes per token, threads, memory of a stream
#   /health   requests per second beside nginx with a static reply, by wrk; one-token completions
#
# Each figure is the best of its rounds, for both sides: other programs only add. What is over its
# bound is named at the end (exit 1). The last line: requests per second over nginx's, p99 at 256 streams.
# Wants the machine for itself. Installs nginx, wrk and strace (packaging/deps.sh peer).
set -euo pipefail
cd "$(dirname "$0")/../.."
packaging/deps.sh build test peer >&2
packaging/fetch-model.sh >&2
make -s -j2 all build/bench/llmd build/bench/edge_sender build/bench/edge_reader >&2
exec python3 tests/bench/edge.py "$@"
