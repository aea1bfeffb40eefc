#!/usr/bin/env python3
"""Tables and chart of tests/bench/routing: routing_table.py IN.jsonl OUT.md OUT.svg

Of repeated runs the median of each figure is taken, and the shares of the run whose mean is the median."""
import json
import statistics
import sys

POLICIES = ["prefix", "session", "roundrobin", "least_loaded"]
COLOURS = {"prefix": "#1b6ca8", "session": "#8fb8de", "roundrobin": "#c9a227", "least_loaded": "#b5b5b5"}
RIGS = {"sim": "Eight simulated workers", "cpu": "Two CPU workers of one thread, SmolLM2 135M"}
WITHIN = 1.05
WIDTH, LEFT, BAR, GAP, HEAD = 760, 150, 12, 26, 60


def median_of(rows):
    rows = sorted(rows, key=lambda r: r["ttft_ms"]["mean"])
    middle = dict(rows[(len(rows) - 1) // 2])
    middle["ttft_ms"] = {k: statistics.median(r["ttft_ms"][k] for r in rows) for k in ("mean", "p50", "p99")}
    middle["hit_rate"] = statistics.median(r["hit_rate"] for r in rows)
    middle["runs"] = len(rows)
    return middle


def read(path):
    """{rig: {workload: {policy: row}}} in the order of the file."""
    runs = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            by_policy = runs.setdefault(row["rig"], {}).setdefault(row["workload"], {})
            by_policy.setdefault(row["policy"], []).append(row)
    return {rig: {w: {p: median_of(rows) for p, rows in ps.items()} for w, ps in ws.items()}
            for rig, ws in runs.items()}


def figures(row):
    t = row["ttft_ms"]
    return f"{t['mean']:.1f} / {t['p50']:.1f} / {t['p99']:.1f}, {100 * row['hit_rate']:.0f} %"


def shares(row):
    return " ".join(f"{100 * s:.0f}" for s in row["share"])


def one_table(workloads, cell):
    lines = ["| workload | " + " | ".join(POLICIES) + " |", "| --- " * (len(POLICIES) + 1) + "|"]
    for by_policy in workloads.values():
        cells = [cell(by_policy[p]) for p in POLICIES]
        lines.append(f"| {by_policy[POLICIES[0]]['what']} | " + " | ".join(cells) + " |")
    return lines


def tables(runs):
    lines = ["# Time to first token by routing policy", "",
             "Made by `tests/bench/routing.sh`. Each policy gets the same requests."]
    for rig, workloads in runs.items():
        n = max(row["runs"] for ps in workloads.values() for row in ps.values())
        of = f" (medians of {n} runs in turns)" if n > 1 else ""
        lines += ["", f"## {RIGS[rig]}", "",
                  f"Milliseconds{of}, mean / p50 / p99, then the share of prompt tokens found in the prefix cache:", ""]
        lines += one_table(workloads, figures)
        lines += ["", "Per cent of the requests by worker:", ""] + one_table(workloads, shares)
    return "\n".join(lines) + "\n"


def panel(parts, top, rig, workloads):
    """Bars of one rig; returns where it ends."""
    most = max(row["ttft_ms"]["mean"] for ps in workloads.values() for row in ps.values())
    scale = (WIDTH - LEFT - 60) / most
    parts.append(f'<text x="10" y="{top + 20}" font-size="14">Mean time to first token, ms: {RIGS[rig]}</text>')
    for i, p in enumerate(POLICIES):
        x = LEFT + i * 130
        parts.append(f'<rect x="{x}" y="{top + 30}" width="12" height="12" fill="{COLOURS[p]}"/>'
                     f'<text x="{x + 18}" y="{top + 40}">{p}</text>')
    top += HEAD
    for name, by_policy in workloads.items():
        parts.append(f'<text x="10" y="{top + BAR * 2 + 4}">{name}</text>')
        for k, p in enumerate(POLICIES):
            mean = by_policy[p]["ttft_ms"]["mean"]
            y, width = top + k * BAR, mean * scale
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{COLOURS[p]}"/>'
                         f'<text x="{LEFT + width + 4:.1f}" y="{y + BAR - 3}" font-size="10">{mean:.1f}</text>')
        top += BAR * len(POLICIES) + GAP
    return top


def chart(runs):
    parts, top = [], 0
    for rig, workloads in runs.items():
        top = panel(parts, top, rig, workloads)
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" font-family="sans-serif" '
            'font-size="12">', '<rect width="100%" height="100%" fill="#ffffff"/>']
    return "\n".join(head + parts + ["</svg>"]) + "\n"


def main():
    runs = read(sys.argv[1])
    with open(sys.argv[2], "w", encoding="utf-8") as f:
        f.write(tables(runs))
    with open(sys.argv[3], "w", encoding="utf-8") as f:
        f.write(chart(runs))
    good = n = 0
    for rig, workloads in runs.items():
        for name, by_policy in workloads.items():
            means = {p: by_policy[p]["ttft_ms"]["mean"] for p in POLICIES}
            n += 1
            good += means["prefix"] <= WITHIN * min(means.values())
            print(f"{rig} {name}: " + ", ".join(f"{p} {m:.1f}" for p, m in means.items()) + " ms")
    print(f"prefix best or within 5 % on {good} of {n}")


main()
