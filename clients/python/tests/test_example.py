"""The example of examples/python, as a process."""

import os
import pathlib
import re
import subprocess
import sys

CLIENT = pathlib.Path(__file__).resolve().parents[3] / "examples" / "python" / "client.py"


def run(*arguments, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "LEADGATE_TOKEN"}
    return subprocess.run(
        [sys.executable, str(CLIENT), *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def check(ended):
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    lead = re.search(r"1\. Create a lead\n   lead (\S+)", ended.stdout).group(1)
    assert f"   lead.email_address belongs to lead {lead}: it is updated" in lines
    assert lines[lines.index("3. Upsert") + 1] == f"   lead {lead}"
    assert re.search(r"   number \d+: Asha M\., Pune", ended.stdout)
    assert "   30 leads written" in lines
    assert re.search(r"   line 31: INVALID_ARGUMENT INVALID_FIELD: .*lead\.email_address", ended.stdout)
    assert lines[lines.index("7. Revoke the share") - 1].endswith(": SHARE_STATE_ACTIVE")
    assert "   SHARE_STATE_REVOKED" in lines
    assert re.search(r"   0\.5 s are too short: .* if it is sent in [0-9.]+ s\n   Pune\n$", ended.stdout)


def test_the_example_runs_with_tls_and_a_token(leadgate_secure_demo, tmp_path):
    demo = leadgate_secure_demo
    token = tmp_path / "token"
    token.write_text(demo.token, encoding="utf-8")
    check(run(demo.address, "--ca", demo.ca_file, "--token-file", str(token)))


def test_an_error_is_printed(leadgate_secure_demo):
    demo = leadgate_secure_demo
    ended = run(demo.address, "--ca", demo.ca_file, LEADGATE_TOKEN="wrong")
    assert ended.returncode == 1
    assert "UNAUTHENTICATED CALLER_UNKNOWN" in ended.stderr
    assert "Traceback" not in ended.stderr
