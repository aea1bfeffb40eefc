#!/usr/bin/env python3
"""Table and chart of tests/bench/routing: routing_table.py IN.jsonl OUT.md OUT.svg"""
import json
import sys

POLICIES = ["prefix", "session", "roundrobin", "least_loaded"]
COLOURS = {"prefix": "#1b6ca8", "session": "#8fb8de", "roundrobin": "#c9a227", "least_loaded": "#b5b5b5"}
WITHIN = 1.05


def read(path):
    """{workload: {policy: row}} in the order of the file."""
    runs = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            runs.setdefault(row["workload"], {})[row["policy"]] = row
    return runs


def table(runs):
    lines = ["# Time to first token by routing policy", "",
             "Eight simulated workers; milliseconds, mean / p50 / p99, then the share of prompt tokens found in the",
             "prefix cache and the busiest worker's share of the requests. Made by `tests/bench/routing.sh`.", "",
             "| workload | " + " | ".join(POLICIES) + " |", "| --- " * (len(POLICIES) + 1) + "|"]
    for by_policy in runs.values():
        cells = []
        for p in POLICIES:
            r, t = by_policy[p], by_policy[p]["ttft_ms"]
            cells.append(f"{t['mean']:.1f} / {t['p50']:.1f} / {t['p99']:.1f}, {100 * r['hit_rate']:.0f} %, "
                         f"{100 * r['busiest']:.0f} %")
        lines.append(f"| {by_policy[POLICIES[0]]['what']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def chart(runs):
    bar, gap, left, scale = 12, 26, 150, 7.0
    group = bar * len(POLICIES) + gap
    height = 60 + group * len(runs)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" font-family="sans-serif" '
             'font-size="12">', '<rect width="100%" height="100%" fill="#ffffff"/>',
             '<text x="10" y="20" font-size="14">Mean time to first token, ms (eight simulated workers)</text>']
    for i, p in enumerate(POLICIES):
        x = left + i * 130
        parts.append(f'<rect x="{x}" y="30" width="12" height="12" fill="{COLOURS[p]}"/>'
                     f'<text x="{x + 18}" y="40">{p}</text>')
    for i, (name, by_policy) in enumerate(runs.items()):
        top = 60 + i * group
        parts.append(f'<text x="10" y="{top + group // 2 - 8}">{name}</text>')
        for k, p in enumerate(POLICIES):
            mean = by_policy[p]["ttft_ms"]["mean"]
            y, width = top + k * bar, mean * scale
            parts.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{bar - 2}" fill="{COLOURS[p]}"/>'
                         f'<text x="{left + width + 4:.1f}" y="{y + bar - 3}" font-size="10">{mean:.1f}</text>')
    return "\n".join(parts + ["</svg>"]) + "\n"


def main():
    runs = read(sys.argv[1])
    with open(sys.argv[2], "w", encoding="utf-8") as f:
        f.write(table(runs))
    with open(sys.argv[3], "w", encoding="utf-8") as f:
        f.write(chart(runs))
    good = 0
    for name, by_policy in runs.items():
        means = {p: by_policy[p]["ttft_ms"]["mean"] for p in POLICIES}
        best = min(means.values())
        good += means["prefix"] <= WITHIN * best
        print(f"{name}: " + ", ".join(f"{p} {m:.1f}" for p, m in means.items()) + " ms")
    print(f"prefix best or within 5 % on {good} of {len(runs)}")


main()
