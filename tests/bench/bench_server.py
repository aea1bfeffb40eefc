"""What the benches of a running llmd share: a free port, and a server started with a configuration."""
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_server(binary, folder, config, port):
    """The process and its URL, when it is ready. config: the text of its llmd.conf, which listens on the port."""
    path = pathlib.Path(folder) / "llmd.conf"
    path.write_text(config)
    process = subprocess.Popen([binary, "serve", "--config", str(path)])
    url = f"http://127.0.0.1:{port}"
    for _ in range(400):
        try:
            urllib.request.urlopen(url + "/ready")
            return process, url
        except OSError:
            time.sleep(0.05)
    process.kill()
    sys.exit(f"{pathlib.Path(sys.argv[0]).stem}: the server did not become ready")
