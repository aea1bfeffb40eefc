"""schemathesis makes requests up from /openapi.json; no answer is a 5xx, or one that the document does not have.

SCHEMA_SECONDS: so long, with other requests each time (tests/soak); otherwise a fixed few of each operation."""
import os
import time

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, \
    status_code_conformance

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SECONDS = float(os.environ.get("SCHEMA_SECONDS", "0"))


@pytest.fixture(scope="module")
def server(make_server):
    return make_server(model='devices = { "sim" }\n  sim_step_us = 50\n  sim_row_ns = 0\n  max_model_len = 256')


def operations(server):
    schema = schemathesis.openapi.from_url(server.base + "/openapi.json")
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    return [r.ok() for r in schema.get_all_operations()]


def run(server, operation, examples, seed):
    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=examples, deadline=None, database=None, derandomize=False,
                         suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate])
    @hypothesis.given(case=operation.as_strategy())
    def ask(case):
        case.call_and_validate(base_url=server.base, checks=CHECKS, timeout=60)

    ask()


def test_answers_are_those_of_the_document(server):
    every = operations(server)
    assert len(every) >= 15
    until = time.monotonic() + SECONDS
    seed = 1
    while True:
        for operation in every:
            run(server, operation, 40 if operation.method == "post" else 5, seed)
        seed += 1
        if time.monotonic() >= until:
            break
    print(f"{seed - 1} rounds")
    assert server.get("/health")[0] == 200
