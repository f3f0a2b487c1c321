"""Schemathesis makes requests of the server's own description, and of what that forbids.

It is no dependency of the project:

    python -m venv ~/schemathesis && ~/schemathesis/bin/pip install schemathesis==4.32.5
    PATH=$PATH:~/schemathesis/bin python -m pytest -s tests/slow/test_serve_schema.py
"""

import re
import shutil
import subprocess
import sys
import urllib.request
from collections import Counter

import pytest
from test_serve_kill import _SERVER, ROOT

PROGRAM = shutil.which("schemathesis")
CHECKS = (
    "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "unsupported_method", "missing_required_header",
)  # fmt: skip


def statuses(address: str) -> Counter:
    """Requests by their status, as the server counted them."""
    with urllib.request.urlopen(f"{address}metrics") as answer:
        text = answer.read().decode()
    found = Counter()
    for status, number in re.findall(r'requests_total{.*status="(\d+)"} (\d+)', text):
        found[status] += int(number)
    return found


@pytest.mark.skipif(PROGRAM is None, reason="schemathesis is not installed: see the file's head")
def test_no_request_ends_in_an_error_of_the_server(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", _SERVER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        address = process.stdout.readline().strip()
        run = [PROGRAM, "run", f"{address}openapi.json", f"--checks={','.join(CHECKS)}", "--seed=1",
               "--max-examples=300", "--max-time=300", "--continue-on-failure"]  # fmt: skip
        done = subprocess.run(run, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        print(done.stdout)
        found = statuses(address)
        process.kill()
    print(found)
    assert sum(found.values()) > 1000 and done.returncode == 0
    assert not {s for s in found if s.startswith("5")} - {"503"}
