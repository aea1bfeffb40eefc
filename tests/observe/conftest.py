"""What the tests here share: real servers (tests/api/conftest.py) and, for traces, a collector."""
import importlib.util
import pathlib
import sys

import pytest

API = pathlib.Path(__file__).resolve().parents[1] / "api"
spec = importlib.util.spec_from_file_location("api_server", API / "conftest.py")
api_server = importlib.util.module_from_spec(spec)
sys.modules["api_server"] = api_server
spec.loader.exec_module(api_server)
sys.path.append(str(API))

make_server = api_server.make_server


def pytest_addoption(parser):
    parser.addoption("--minutes", type=float, default=1, help="how long Prometheus watches a server under load")
    parser.addoption("--write", action="store_true", help="write conf/METRICS.md anew")


@pytest.fixture(scope="session")
def minutes(request):
    return request.config.getoption("--minutes")


@pytest.fixture
def serve(tmp_path_factory):
    """Makes a server, stopped at the end of the test."""
    made = []

    def make(**kw):
        s = api_server.Server(tmp_path_factory.mktemp("server"), **kw)
        made.append(s)
        return s.wait_ready()

    yield make
    for s in made:
        if s.process.returncode is None:
            s.stop()
