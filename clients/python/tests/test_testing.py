"""The helpers for tests of callers."""

import pathlib
import subprocess
import sys

import pytest

from leadgate import testing

TEST = """
import leadgate
from leadgate.v1 import CreateLeadRequest, GetLeadRequest, LeadFields

def test_a_lead(leadgate_client, leadgate_demo):
    created = leadgate_client.leads.create_lead(CreateLeadRequest(lead=LeadFields(first_name="Asha")))
    assert leadgate_client.leads.get_lead(GetLeadRequest(lead_id=created.lead_id)).lead.fields.first_name == "Asha"
    (stored,) = leadgate_demo.control("GET", "leads")
    assert stored["ProspectID"] == created.lead_id

def test_with_tls(leadgate_secure_demo):
    with leadgate_secure_demo.client() as client:
        client.leads.create_lead(CreateLeadRequest(lead=LeadFields(first_name="Asha")))

def test_that_fails(leadgate_demo):
    print("address", leadgate_demo.address)
    assert False
"""


def listening():
    """Returns the addresses on which a process listens."""
    ports = []
    for line in pathlib.Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        columns = line.split()
        if columns[3] == "0A":
            ports.append(int(columns[1].rsplit(":", 1)[1], 16))
    return ports


def test_the_fixtures_of_pytest_work_in_the_tests_of_a_caller(tmp_path):
    (tmp_path / "test_caller.py").write_text(TEST, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "1 failed, 2 passed" in ended.stdout, ended.stdout + ended.stderr
    port = int(ended.stdout.split("address 127.0.0.1:")[1].split()[0])
    assert port not in listening()


def test_the_demo_is_stopped_after_an_error():
    ports = []
    with pytest.raises(ZeroDivisionError), testing.demo() as demo:  # noqa: PT012
        ports.append(int(demo.address.rsplit(":", 1)[1]))
        ports.append(ports[0] in listening() and 1 / 0)
    assert len(ports) == 1
    assert ports[0] not in listening()


def test_a_binary_that_does_not_start_is_an_error(monkeypatch):
    monkeypatch.setenv("LEADGATE_BIN", "/nowhere/leadgate")
    with pytest.raises(FileNotFoundError, match="LEADGATE_BIN"), testing.demo():
        pass
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="--no-such-flag"), testing.demo("--no-such-flag"):
        pass
