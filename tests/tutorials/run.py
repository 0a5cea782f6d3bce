#!/usr/bin/env python3
"""run.py [PAGE...]

Runs the commands of the tutorials as a reader would, and compares their output with the output in the page. Without PAGE, it runs
all pages of docs/tutorials. LEADGATE_BIN is the binary of leadgate. `python3` on PATH must have the package of clients/python and
pytest; test.sh installs them. Each page runs in a temporary folder, with free ports in place of its ports.

What the blocks of a page mean:

```console     Commands after `$ `, each with the output that follows it.
```sh          Commands whose output is not compared.
other          A file. Its name is in a comment in the first line: `# leadgate.toml`.
```mermaid, ```text    Nothing.

* A block with the comment `# in another terminal` in its first command runs until the end of the page, in a shell of its own. The
  test goes on when the block has printed the lines that are shown. A line `^C` among them sends SIGINT to it. A console block that
  does not begin with a command continues the last one of these blocks.
* In the shown output, the line `...` stands for any lines, and `...` in a line for any text. Ids, times and durations stand for any
  values. An id that occurs more than once in a page, also in a command or a file, is the same one in the run, and different ids are
  different ones. The number of spaces does not matter.
* Each command must end with 0, unless the next one is `echo $?`.
* `<!-- in the test, 100000 is 4000 -->`: the test uses the second text in place of the first one, everywhere in the page. With
  LEADGATE_TUTORIALS_AS_SHOWN=1 it does not.
* An HTML comment that begins with `not run:` before a block says why the test does not run it.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "tutorials"
# Of one command, and until a program in another terminal has printed what is shown.
AS_SHOWN = bool(os.environ.get("LEADGATE_TUTORIALS_AS_SHOWN"))
TIMEOUT = 600.0 if AS_SHOWN else 60.0

# All shells, also those that have ended.
STARTED = []

NOT_USED = ("mermaid", "text")
OTHER_TERMINAL = re.compile(r"\s*# in another terminal$", re.MULTILINE)
NOT_RUN = re.compile(r"<!-- not run: .+ -->")
REPLACED = re.compile(r"<!-- in the test, (\S+) is (\S+) -->")
FILE_NAME = re.compile(r"(?:#|//) ([\w.-]+\.\w+)$")
ADDRESS = re.compile(r"\b(127\.0\.0\.1|localhost):(\d{2,5})\b")
HERE_DOCUMENT = re.compile(r"<<-?\s*'?(\w+)'?")

# An id of LeadSquared or leadgate, or a hash.
ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9a-f]{64}\b")
TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?"
DURATION = r"\d+(?:\.\d+)? ?(?:ms|s|min|m|h)"
# What is different in each run, and the pattern that it stands for. The first alternative that matches counts.
VARIABLE = [
    (ID, None),
    (re.compile(r"\.\.\."), r".*"),
    (re.compile(TIME), TIME),
    (re.compile(rf"\b{DURATION}\b"), DURATION),
    (re.compile(r"(?<=\bleadgate )\d+\.\d+\.\d+"), r"\d+\.\d+\.\d+\S*"),
]


class Difference(Exception):
    """A page that is wrong, with the line."""

    def __init__(self, line, text):
        super().__init__(text)
        self.line = line


class Block:
    """A fenced block. `line` is that of its first line of content."""

    def __init__(self, language, line, lines, is_run):
        self.language = language
        self.line = line
        self.lines = lines
        self.is_run = is_run


def blocks(path):
    """Returns the fenced blocks of a page."""
    found = []
    fence, comment = None, ""
    text = path.read_text(encoding="utf-8")
    if not AS_SHOWN:
        for shown, used in REPLACED.findall(text):
            text = re.sub(rf"\b{re.escape(shown)}\b", used, text)
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"(\s*)```(\S*)", line)
        if fence:
            if mark and not mark[2]:
                found.append(Block(*fence[:3], is_run=not fence[3]))
                fence, comment = None, ""
            else:
                fence[2].append(line.removeprefix(fence[4]))
        elif mark:
            fence = (mark[2], number + 1, [], NOT_RUN.fullmatch(comment), mark[1])
        elif line.strip():
            comment = line.strip()
    if fence:
        raise Difference(fence[1] - 1, "the block has no end")
    return found


def steps(block):
    """Splits a console block into commands: (line, command, [(line, output)])."""
    found = []
    until = None
    for number, line in enumerate(block.lines, block.line):
        if until is not None:
            found[-1][1] += "\n" + line
            if line == until or (until == "\\" and not line.endswith("\\")):
                until = None
        elif line.startswith("$ "):
            found.append([number, line[2:], []])
            here = HERE_DOCUMENT.search(line)
            until = here[1] if here else "\\" if line.endswith("\\") else None
        else:
            found[-1][2].append((number, line))
    return found


class Values:
    """The ports and ids of the run, for those of the page."""

    def __init__(self):
        self.ports = {}
        self.ids = {}
        self.sockets = []

    def port(self, shown):
        if shown not in self.ports:
            # The socket stays bound, so that no other page gets the port. With SO_REUSEADDR the program can listen on it.
            kept = socket.socket()
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            kept.bind(("127.0.0.1", 0))
            self.sockets.append(kept)
            self.ports[shown] = str(kept.getsockname()[1])
        return self.ports[shown]

    def apply(self, text):
        """Replaces the ports and the known ids of the page by those of the run."""
        text = ADDRESS.sub(lambda address: f"{address[1]}:{self.port(address[2])}", text)
        return ID.sub(lambda shown: self.ids.get(shown[0], shown[0]), text)

    def matches(self, shown, actual):
        """Compares a shown line with a line of the run, and remembers the ids."""
        pattern, names, position = "", [], 0
        shown = ADDRESS.sub(lambda address: f"{address[1]}:{self.port(address[2])}", " ".join(shown.split()))
        while position < len(shown):
            found = [(match, to) for what, to in VARIABLE if (match := what.search(shown, position))]
            match, to = min(found, key=lambda one: one[0].start(), default=(None, None))
            start = match.start() if match else len(shown)
            pattern += re.escape(shown[position:start])
            if match is None:
                break
            if to is None:
                if match[0] in self.ids:
                    pattern += re.escape(self.ids[match[0]])
                elif match[0] in names:
                    pattern += rf"(?:\{names.index(match[0]) + 1})"
                else:
                    names.append(match[0])
                    pattern += f"({ID.pattern})"
            else:
                pattern += to
            position = match.end()
        result = re.fullmatch(pattern, " ".join(actual.split()))
        # Different ids of the page are different ids of the run.
        if not result or len(set(result.groups())) < len(names) or set(result.groups()) & set(self.ids.values()):
            return False
        self.ids.update(zip(names, result.groups(), strict=True))
        return True

    def close(self):
        for kept in self.sockets:
            kept.close()


def first_difference(values, shown, actual, is_complete):
    """Returns the (line, text) of the shown output that the actual lines do not have, or None."""
    rest = [line for line in actual if line.strip()]
    any_lines = False
    for number, line in shown:
        if not line.strip():
            continue
        if line.strip() == "...":
            any_lines = True
            continue
        while rest and not values.matches(line, rest[0]):
            if not any_lines:
                return number, line
            del rest[0]
        if not rest:
            return number, line
        del rest[0]
        any_lines = False
    if is_complete and rest and not any_lines:
        return (shown[-1][0] + 1 if shown else None), f"(nothing more; the command printed {rest[0]!r})"
    return None


def report(difference, line, command, actual):
    number, text = difference
    output = "\n".join(f"    {row}" for row in actual) or "    (none)"
    return Difference(number or line, f"the output differs\n  shown:  {text}\n  command: {command}\n  output:\n{output}")


def start(command, stdin, folder, environment):
    """Starts a shell in a process group of its own."""
    process = subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    STARTED.append(process)
    return process


class Shell:
    """A shell that keeps its folder and variables from command to command."""

    def __init__(self, folder, environment):
        self.folder = folder
        self.process = start(["bash"], subprocess.PIPE, folder, environment)

    def run(self, command):
        """Returns the lines that the command printed, and its exit code, or None if it took too long."""
        script = self.folder / ".command"
        script.write_text(command + "\n", encoding="utf-8")
        end = "end of the command:"
        # `$?` in the command is the exit code of the previous one.
        self.process.stdin.write(f"(exit $__status); . '{script}' </dev/null; __status=$?; printf '\\n{end} %s\\n' $__status\n")
        self.process.stdin.flush()
        timer = threading.Timer(TIMEOUT, stop, [self.process])
        timer.start()
        lines = []
        try:
            for line in self.process.stdout:
                if line.startswith(end):
                    # The line end before the mark may be the command's own.
                    return [row for row in lines if row], int(line.removeprefix(end))
                lines.append(line.rstrip("\n"))
        finally:
            timer.cancel()
        return lines, None


class Terminal:
    """A program in another terminal."""

    def __init__(self, command, folder, environment):
        self.command = command
        self.lines = []
        self.changed = threading.Condition()
        self.has_ended = False
        self.process = start(["bash", "-c", command], subprocess.DEVNULL, folder, environment)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.has_ended = True
            self.changed.notify_all()

    def expect(self, values, shown):
        """Waits until the program has printed what is shown. A line ^C sends SIGINT."""
        parts = [[]]
        for number, line in shown:
            if line.strip() == "^C":
                parts.append([])
            else:
                parts[-1].append((number, line))
        for position, part in enumerate(parts):
            if position:
                with self.changed:
                    self.lines.clear()
                os.killpg(self.process.pid, signal.SIGINT)
            end = time.monotonic() + TIMEOUT
            with self.changed:
                while difference := first_difference(values, part, self.lines, is_complete=False):
                    if self.has_ended or time.monotonic() > end:
                        raise report(difference, part[0][0], self.command, self.lines)
                    self.changed.wait(end - time.monotonic())
                if position:
                    self.changed.wait_for(lambda: self.has_ended, end - time.monotonic())


def stop(process):
    """Ends a shell and the programs in it. After SIGTERM, the programs have 20 seconds."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        end = time.monotonic() + 20
        while time.monotonic() < end:
            process.poll()
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.02)


class Run:
    """One page."""

    def __init__(self, path, folder, environment):
        self.path = path
        self.folder = folder
        self.environment = environment
        self.values = Values()
        self.shell = None
        self.terminals = []

    def run(self):
        found = blocks(self.path)
        # All ports of the page, before the first program listens.
        self.values.apply(self.path.read_text(encoding="utf-8"))
        # The default addresses of leadgate.
        self.environment["LEADGATE_ADDR"] = self.values.apply("http://127.0.0.1:50051")
        self.environment["LEADGATE__SERVER__LISTEN"] = self.values.apply("127.0.0.1:50051")
        self.environment["LEADGATE__ADMIN__LISTEN"] = self.values.apply("127.0.0.1:9464")
        self.shell = Shell(self.folder, self.environment)
        count = 0
        for block in found:
            if block.is_run and block.language not in NOT_USED:
                self.block(block)
                count += 1
        return count, len([block for block in found if not block.is_run])

    def block(self, block):
        if block.language == "console" and not block.lines[0].startswith("$ "):
            if not self.terminals:
                raise Difference(block.line, "a console block begins with a command: `$ command`")
            self.terminals[-1].expect(self.values, list(enumerate(block.lines, block.line)))
        elif block.language == "console":
            commands = steps(block)
            line, command, _ = commands[0]
            if OTHER_TERMINAL.search(command):
                command = "\n".join(OTHER_TERMINAL.sub("", command) for _, command, _ in commands)
                self.terminals.append(Terminal(self.values.apply(command), self.folder, self.environment))
                self.terminals[-1].expect(self.values, [row for _, _, shown in commands for row in shown])
                return
            for position, (line, command, shown) in enumerate(commands):
                following = commands[position + 1][1] if position + 1 < len(commands) else ""
                self.command(line, command, shown, following)
        elif block.language == "sh":
            every = "\n".join(["__failed=0; trap '__failed=$?' ERR", *block.lines, "trap - ERR; (exit $__failed)"])
            self.command(block.line, every, [(block.line, "...")], "")
        elif name := FILE_NAME.match(block.lines[0]):
            text = self.values.apply("\n".join(block.lines)) + "\n"
            self.folder.joinpath(name[1]).write_text(text, encoding="utf-8")
        else:
            raise Difference(block.line, "the first line of the block is not a comment with the name of its file")

    def command(self, line, command, shown, following):
        command = self.values.apply(command)
        lines, status = self.shell.run(command)
        if status is None:
            raise report((None, f"the command ends within {TIMEOUT:.0f} s"), line, command, lines)
        difference = first_difference(self.values, shown, lines, is_complete=True)
        if difference:
            raise report(difference, line, command, lines)
        if status != 0 and following != "echo $?":
            raise report((None, f"exit code 0, not {status}"), line, command, lines)

    def close(self):
        for one in [*reversed(self.terminals), self.shell]:
            if one:
                stop(one.process)
        self.values.close()


def run(path, binary):
    """Runs a page, and returns whether it is right."""
    name = os.path.relpath(path, pathlib.Path.cwd())
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="leadgate-tutorial-") as work:
        programs = pathlib.Path(work, "bin")
        folder = pathlib.Path(work, "tutorial")
        programs.mkdir()
        folder.mkdir()
        programs.joinpath("leadgate").symlink_to(binary)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("LEADGATE", "PYTEST", "LSQ_"))}
        environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": work, "PYTHONUNBUFFERED": "1"}
        page = Run(path, folder, environment)
        try:
            count, left_out = page.run()
        except Difference as difference:
            print(f"{name}:{difference.line}: {difference}", file=sys.stderr, flush=True)
            return False
        finally:
            page.close()
    print(f"{name}: {count} blocks, {left_out} not run, {time.monotonic() - began:.1f} s", flush=True)
    return True


def interrupt(_signal, _frame):
    """Kills all programs. Then the pages end, because their shells have ended."""
    for process in STARTED:
        # Without an exit code, the id is still that of the process.
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    sys.exit(1)


def main():
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    binary = shutil.which(os.environ.get("LEADGATE_BIN", "leadgate"))
    if binary is None:
        sys.exit("the binary of leadgate is neither the value of LEADGATE_BIN nor on PATH")
    paths = [pathlib.Path(name) for name in sys.argv[1:]] or sorted(PAGES.glob("*.md"))
    with ThreadPoolExecutor(max_workers=3) as pool:
        return 0 if all(list(pool.map(lambda path: run(path, pathlib.Path(binary).resolve()), paths))) else 1


if __name__ == "__main__":
    sys.exit(main())
