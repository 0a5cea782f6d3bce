#!/usr/bin/env python3
"""Runs the recipes of docs/tools.md, and checks their output: real tools, real processes, real sockets.

A recipe is a block of `sh`. The block of `text` after it has lines of its output, in this order, where ... stands for any text. Spaces at the
beginning of a line do not count, and others count as one. The first line `# exit code N` names the exit code of the last command.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "clients" / "python" / "tests"))

from processes import Case, Gateway, Process, Simulator  # noqa: E402

PAGE = ROOT / "docs" / "tools.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT_CODE = re.compile(r"# exit code (\d+)\n")
FOLDERS = [os.environ.get("TOOLS_BIN", ROOT / ".tools" / "bin"), os.environ.get("BUF_BIN", ROOT / ".venv" / "bin")]
# Tools that no recipe may replace by another one of the machine.
TOOLS = ["grpcurl", "ghz", "grpc-health-probe", "buf"]
# The timeout of one recipe, in seconds. It is reached only if a test fails.
TIMEOUT = 60


def recipes():
    """Yields the commands, the exit code and the expected lines of each recipe."""
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    for (kind, commands), (next_kind, output) in zip(blocks, blocks[1:]):
        if kind == "sh":
            assert next_kind == "text", f"the output is missing after: {commands}"
            code = EXIT_CODE.match(commands)
            yield commands, int(code.group(1)) if code else 0, output.splitlines()


def missing_line(expected, output):
    """Returns the first expected line that is not in the output after the lines before it."""
    lines = (" ".join(line.split()) for line in output.splitlines())
    for line in expected:
        if line == "...":
            continue
        pattern = re.compile(".*".join(map(re.escape, " ".join(line.split()).split("..."))))
        if not any(pattern.fullmatch(seen) for seen in lines):
            return line
    return None


class Demo(Process):
    """A gateway with TLS and callers."""

    def __init__(self):
        super().__init__("demo", "--secure", "--quiet")
        ready = json.loads(self.find(r'(?m)^{"address".*}$').group(0))
        self.variables = {"SECURE": ready["address"], "CA": ready["ca_file"], "TOKEN": ready["token"]}


class Recipes(Case):
    """The recipes of the page."""

    def test_each_recipe_has_the_output_of_the_page(self):
        simulator = self.start(Simulator)
        gateway = self.start(Gateway, simulator, LEADGATE__SERVER__CORS_ORIGINS='["https://intranet.example.com"]')
        demo = self.start(Demo)
        path = os.pathsep.join([*map(str, FOLDERS), os.environ["PATH"]])
        environment = {**os.environ, **demo.variables, "ADDRESS": gateway.address, "PATH": path}
        found = list(recipes())
        self.assertGreater(len(found), 10)
        for commands, code, expected in found:
            with self.subTest(commands):
                result = subprocess.run(
                    ["bash", "-uo", "pipefail", "-c", commands],
                    cwd=ROOT,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=TIMEOUT,
                    check=False,
                )
                output = result.stdout.decode("utf-8", "replace")
                self.assertEqual(result.returncode, code, output)
                missing = missing_line(expected, output)
                self.assertIsNone(missing, f"no line like {missing!r} in:\n{output}")

    def test_each_tool_is_installed_and_used(self):
        commands = "".join(commands for commands, _, _ in recipes())
        for tool in TOOLS:
            self.assertRegex(commands, rf"\b{tool}\b")
            self.assertTrue(any(pathlib.Path(folder, tool).exists() for folder in FOLDERS), f"{tool} is not installed")

    def test_the_page_names_the_versions_that_are_installed(self):
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        modules = re.findall(r"(?m)^go install (\S+)$", PAGE.read_text(encoding="utf-8"))
        self.assertEqual(len(modules), 3)
        for module in modules:
            self.assertIn(module, makefile)


if __name__ == "__main__":
    unittest.main()
