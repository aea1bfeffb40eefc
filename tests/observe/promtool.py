"""promtool, and what of PromQL the tests need to know."""
import json
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
FUNCTIONS = set("sum avg min max count rate irate increase by without histogram_quantile on ignoring and or unless "
                "ceil floor round time changes min_over_time avg_over_time vector offset bool group_left label_values "
                "topk delta clamp_min absent le".split())


def run(*args, text=None):
    """Exit code and everything it said."""
    p = subprocess.run(["promtool", *map(str, args)], input=text, capture_output=True, text=True, timeout=120)
    return p.returncode, p.stdout + p.stderr


def with_values(expression):
    """A dashboard's expression with its variables filled in, as Grafana would for "All"."""
    e = re.sub(r"\$__(rate_interval|interval|range)\b", "1m", expression)
    return re.sub(r"\$\{?(\w+)(:\w+)?\}?", ".*", e)


def selectors(expression):
    """Each series that an expression asks for, as a query of its own: name{labels}."""
    bare = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", " ", with_values(expression))
    bare = re.sub(r'"[^"]*"', lambda m: m[0].replace("(", "\0"), bare)
    found = set()
    for m in re.finditer(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?\s*(\()?", bare):
        name, labels, call = m.groups()
        if not call and name not in FUNCTIONS and not re.fullmatch(r"\d+[smhd]|[smhd]", name):
            found.add(name + (labels or "").replace("\0", "("))
    return found


def dashboards():
    """Ours: name to its expressions."""
    found = {}
    for path in sorted((ROOT / "conf/grafana").glob("*.json")):
        board = json.loads(path.read_text())
        found[path.stem] = [t["expr"] for p in board["panels"] for t in p["targets"]]
    return found
