"""What conf/ has for others: dashboards, rules, KEDA, Loki. Without a server."""
import json
import re
import subprocess
import sys

import pytest
import yaml

import promtool
from promtool import ROOT

CONF = ROOT / "conf"
RULES = CONF / "prometheus/llmd.rules.yml"
ALERTS = [r for g in yaml.safe_load(RULES.read_text())["groups"] for r in g["rules"]]


def test_dashboards_are_those_of_make_py(tmp_path):
    subprocess.run([sys.executable, CONF / "grafana/make.py", tmp_path], check=True)
    made = {p.name: p.read_text() for p in tmp_path.iterdir()}
    assert made == {p.name: p.read_text() for p in (CONF / "grafana").glob("*.json")}, "run conf/grafana/make.py"


@pytest.mark.parametrize("name", promtool.dashboards())
def test_dashboard(name, tmp_path):
    board = json.loads((CONF / f"grafana/{name}.json").read_text())
    ids = [p["id"] for p in board["panels"]]
    assert len(set(ids)) == len(ids) and board["uid"] == f"llmd-{name}"
    places = [(p["gridPos"]["x"], p["gridPos"]["y"], p["gridPos"]["w"], p["gridPos"]["h"]) for p in board["panels"]]
    for i, (x, y, w, h) in enumerate(places):
        assert x + w <= 24
        assert not any(x < a + c and a < x + w and y < b + d and b < y + h for a, b, c, d in places[:i]), "overlap"
    known = {v["name"] for v in board["templating"]["list"]}
    rules = []
    for p in board["panels"]:
        for t in p["targets"]:
            assert set(re.findall(r"\$(?!__)\{?(\w+)", t["expr"])) <= known, t["expr"]
            rules.append({"record": f"x:{len(rules)}", "expr": promtool.with_values(t["expr"])})
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": name, "rules": rules}]}))
    code, said = promtool.run("check", "rules", file)
    assert code == 0, said


def test_rules():
    code, said = promtool.run("check", "rules", RULES)
    assert code == 0, said
    code, said = promtool.run("test", "rules", CONF / "prometheus/llmd.rules.test.yml")
    assert code == 0, said
    for r in ALERTS:
        assert r["labels"]["severity"] in ("warning", "critical"), r["alert"]
        assert len(r["annotations"]["runbook"].splitlines()) == 1 and len(r["annotations"]["runbook"]) > 40, r["alert"]


@pytest.mark.parametrize("alert", [r["alert"] for r in ALERTS])
def test_the_tests_of_rules_can_fail(alert, tmp_path):
    """An alert that never fires fails a test."""
    rules = yaml.safe_load(RULES.read_text())
    for r in rules["groups"][0]["rules"]:
        if r["alert"] == alert:
            r["expr"] = "vector(1) > 2"
    (tmp_path / RULES.name).write_text(yaml.safe_dump(rules))
    tests = tmp_path / "tests.yml"
    tests.write_text((CONF / "prometheus/llmd.rules.test.yml").read_text())
    assert promtool.run("test", "rules", tests)[0] != 0


def test_prometheus_configurations():
    assert promtool.run("check", "config", CONF / "prometheus/prometheus.yml")[0] == 0
    code, said = promtool.run("check", "config", "--agent", CONF / "prometheus/agent.yml")
    assert code == 0, said


def test_keda():
    o = yaml.safe_load((CONF / "keda/scaledobject.yaml").read_text())
    spec = o["spec"]
    assert o["kind"] == "ScaledObject" and spec["pollingInterval"] == 2 and spec["cooldownPeriod"] == 300
    up = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleUp"]
    assert up["stabilizationWindowSeconds"] == 0 and up["selectPolicy"] == "Max"
    assert up["policies"] == [{"type": "Percent", "value": 900, "periodSeconds": 15},
                              {"type": "Pods", "value": 9, "periodSeconds": 15}]
    trigger = spec["triggers"][0]["metadata"]
    assert (trigger["threshold"], trigger["activationThreshold"]) == ("25", "5")
    assert {s.split("{")[0] for s in promtool.selectors(trigger["query"])} == {"vllm:num_requests_running",
                                                                              "vllm:num_requests_waiting"}


def test_loki():
    config = yaml.safe_load((CONF / "loki/promtail.yml").read_text())
    stages = config["scrape_configs"][0]["pipeline_stages"]
    area = re.compile(stages[0]["regex"]["expression"])
    assert area.match("serve: listening address=127.0.0.1 port=8080")["area"] == "serve"
    fields = (ROOT / "core/store/fields.def").read_text()
    for field in stages[2]["match"]["stages"][0]["json"]["expressions"].values():
        assert re.search(rf"\b{field}\b", fields)
