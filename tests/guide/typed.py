#!/usr/bin/env python3
"""Types the steps of a guide page in order, in an empty folder, and compares what they print with what the page shows.

    tests/guide/typed.py docs/guide/own-stream.md --smartcity target/debug/smartcity

Of the page it takes the fenced blocks, from the top:

- ```console: lines that start with `$ ` are typed into one bash; a trailing backslash continues a command. The lines
  below a command are what it prints, up to the next command. `...` stands for any text, alone in a line for any lines.
- ```toml FILE (any language with a file's name behind it): written to that file.

Other blocks are for reading. The broker's address 127.0.0.1:9092 is replaced by a free port on both sides.
"""

import argparse
import difflib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

STEP_SECONDS = 120
ADDRESS = "127.0.0.1:9092"


@dataclass
class File:
    line: int
    name: str
    text: str


@dataclass
class Command:
    line: int
    text: str
    output: str


def steps(page: str) -> list[File | Command]:
    """
    >>> steps("```toml a/b.toml\\nx = 1\\n```\\n```console\\n$ ls \\\\\\n  a\\nb.toml\\n$ true\\n```")
    [File(line=1, name='a/b.toml', text='x = 1\\n'), Command(line=5, text='ls \\\\\\n  a', output='b.toml\\n'), Command(line=8, text='true', output='')]
    """
    found: list[File | Command] = []
    block: list[str] | None = None
    info, opened = "", 0
    for number, line in enumerate(page.splitlines(), 1):
        if not line.startswith("```"):
            if block is not None:
                block.append(line)
            continue
        if block is None:
            info, opened, block = line[3:].strip(), number, []
            continue
        language, _, name = info.partition(" ")
        if language == "console":
            found += commands(block, opened + 1)
        elif name:
            found.append(File(opened, name, "".join(f"{line}\n" for line in block)))
        block = None
    return found


def commands(lines: list[str], first: int) -> list[Command]:
    found: list[Command] = []
    continued = False
    for number, line in enumerate(lines, first):
        if continued:
            found[-1].text += f"\n{line}"
        elif line.startswith("$ "):
            found.append(Command(number, line[2:], ""))
        elif found:
            found[-1].output += f"{line}\n"
        else:
            raise SystemExit(f"line {number}: a console block starts with `$ `")
        continued = (continued or line.startswith("$ ")) and line.endswith("\\")
    return found


def matches(shown: str, printed: str) -> bool:
    """
    >>> matches("rows 3 in ...\\n", "rows 3 in 12 ms\\n"), matches("a\\n...\\nb\\n", "a\\nb\\n"), matches("3\\n", "4\\n")
    (True, True, False)
    """
    pattern = ""
    for line in shown.splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(part) for part in line.rstrip().split("...")) + r"[ ]*\n"
    return re.fullmatch(pattern, printed) is not None


class Shell:
    """One bash, so that background jobs, variables and the folder carry over from step to step."""

    def __init__(self, folder: Path, path: str) -> None:
        env = {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            ["bash"], cwd=folder, env=env, text=True, bufsize=1, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )

    def run(self, command: str) -> tuple[str, int]:
        mark = f"--{os.urandom(8).hex()}--"
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{command}\nprintf '%s %s\\n' '{mark}' $?\n")
        self.process.stdin.flush()
        signal.alarm(STEP_SECONDS)
        printed = ""
        for line in self.process.stdout:
            before, found, status = line.partition(mark)
            printed += before
            if found:
                signal.alarm(0)
                return printed + ("\n" if before and not before.endswith("\n") else ""), int(status)
        raise SystemExit(f"bash ended at: {command}\n{printed}")

    def close(self) -> None:
        """Ends bash and what it started, and waits for them: they write to the folder."""
        os.killpg(self.process.pid, signal.SIGTERM)
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                self.process.poll()
                try:
                    os.killpg(self.process.pid, signal_number if signal_number == signal.SIGKILL else 0)
                except ProcessLookupError:
                    return
                time.sleep(0.1)


def free_address() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("page", type=Path)
    arguments.add_argument("--smartcity", type=Path, required=True, help="the program's file")
    arguments = arguments.parse_args()
    address = free_address()
    page = arguments.page.read_text().replace(ADDRESS, address)

    def too_slow(*_: object) -> None:
        raise TimeoutError(f"no answer within {STEP_SECONDS} s")

    signal.signal(signal.SIGALRM, too_slow)
    with tempfile.TemporaryDirectory() as folder:
        shell = Shell(Path(folder), f"{arguments.smartcity.resolve().parent}:{os.environ['PATH']}")
        try:
            for step in steps(page):
                if isinstance(step, File):
                    file = Path(folder, step.name)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(step.text)
                    continue
                print(f"{arguments.page}:{step.line}: {step.text}", flush=True)
                printed, status = shell.run(step.text)
                if not matches(step.output, printed):
                    difference = difflib.unified_diff(
                        step.output.splitlines(), printed.splitlines(), "the page", f"printed, exit code {status}", lineterm=""
                    )
                    sys.exit("\n".join(difference))
        finally:
            shell.close()


if __name__ == "__main__":
    main()
