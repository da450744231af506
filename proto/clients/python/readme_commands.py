"""Runs the commands of a Markdown file as its reader would, against a real `trivet dev` on the default ports.

    GRPCURL=grpcurl python readme_commands.py ../../../README.md --trivet ../../../target/release/trivet

A comment of HTML before a fenced block says what becomes of it:

    <!-- run -->           ```sh      must exit with 0
    <!-- run: fails -->    ```sh      must not; each line of the next ```text block must occur in what it prints
    <!-- run: python -->   ```python  must exit with 0; it runs in this folder, with the Python that runs this
    <!-- prints -->        ```json    is what the command before it must have printed

Commands run one after the other in the folder of the Markdown file, and see what those before them did. In expected
JSON `...` stands for anything, alone or inside of a string; times, transaction ids and etags must be there, and may
be others.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from trivet_dev import DEFAULT_PORTS, TrivetDev, end_in_time

HERE = Path(__file__).resolve().parent
BLOCK = re.compile(
    r"(?:^<!--\s*(?P<marker>run|run: fails|run: python|prints)\s*-->\s*)?^```(?P<language>\w*)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
LANGUAGES = {"run": "sh", "run: fails": "sh", "run: python": "python", "prints": "json"}
DIFFERS_EACH_TIME = re.compile(r"(\w*_)?time|\w*Time|transaction_?[iI]d|etag")
TIMEOUT_S = 60


class Command:
    """One block to run, and what must come of it."""

    def __init__(self, marker, text, line):
        self.marker, self.text, self.line = marker, text, line
        self.prints, self.says = None, []

    def check(self, folder, environment):
        """Runs it; says what is wrong, or nothing."""
        shell = [sys.executable] if self.marker == "run: python" else ["bash", "-euo", "pipefail"]
        ran = subprocess.run(
            [*shell, "-c", self.text],
            stdin=subprocess.DEVNULL,
            cwd=HERE if self.marker == "run: python" else folder,
            env=environment,
            text=True,
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        printed = f"{ran.stdout}{ran.stderr}"
        if (ran.returncode != 0) != (self.marker == "run: fails"):
            return f"it ended with {ran.returncode} and printed\n{printed}"
        missing = [line for line in self.says if line not in printed]
        if missing:
            return f"{missing} is missing in\n{printed}"
        if self.prints is not None and not alike(documents(self.prints), documents(ran.stdout)):
            return f"it printed\n{ran.stdout}\nand not\n{self.prints}"
        return None


def commands(markdown):
    """The marked blocks of a Markdown text, in order."""
    found = []
    for block in BLOCK.finditer(markdown):
        marker, language, text = block["marker"], block["language"], block["text"]
        line = markdown.count("\n", 0, block.start("text"))
        if marker and language != LANGUAGES[marker]:
            sys.exit(f"line {line}: after <!-- {marker} --> comes ```{LANGUAGES[marker]}, not ```{language}")
        if marker == "prints" and found:
            found[-1].prints = text
        elif marker:
            found.append(Command(marker, text, line))
        elif language == "text" and found and found[-1].marker == "run: fails" and not found[-1].says:
            found[-1].says = [line.strip() for line in text.splitlines() if line.strip()]
    marked = len(re.findall(r"^<!--\s*(?:run|print)", markdown, re.MULTILINE))
    if marked != len(found) + sum(command.prints is not None for command in found):
        sys.exit("a marker has no block right after it, or is misspelt")
    return found


def documents(text):
    """Every JSON document in a text."""
    read, rest = [], text.strip()
    while rest:
        document, end = json.JSONDecoder().raw_decode(rest)
        read.append(document)
        rest = rest[end:].lstrip()
    return read


def alike(wanted, got):
    """Whether `got` is what the README shows."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        return wanted.keys() == got.keys() and all(
            DIFFERS_EACH_TIME.fullmatch(key) or alike(value, got[key]) for key, value in wanted.items()
        )
    if isinstance(wanted, list) and isinstance(got, list):
        return len(wanted) == len(got) and all(map(alike, wanted, got))
    if wanted == "...":
        return True
    if isinstance(wanted, str) and isinstance(got, str):
        return re.fullmatch(".*".join(map(re.escape, wanted.split("..."))), got, re.DOTALL) is not None
    return wanted == got


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("markdown", type=Path)
    arguments.add_argument("--trivet", required=True, metavar="BINARY", help="the binary that serves")
    arguments = arguments.parse_args()
    end_in_time(600)
    grpcurl = shutil.which(os.environ.get("GRPCURL", "grpcurl"))
    if not grpcurl:
        sys.exit("there is no grpcurl: name one in GRPCURL")
    found = commands(arguments.markdown.read_text())
    failed = 0
    with tempfile.TemporaryDirectory(prefix="trivet-path-") as path, TrivetDev(arguments.trivet, ports=DEFAULT_PORTS):
        Path(path, "grpcurl").symlink_to(Path(grpcurl).resolve())
        environment = os.environ | {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
        for command in found:
            try:
                fault = command.check(arguments.markdown.resolve().parent, environment)
            except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
                fault = str(error)
            first = command.text.strip().partition("\n")[0]
            print(f"{'FAILED' if fault else 'ok    '}  line {command.line}: {first}", flush=True)
            if fault:
                failed += 1
                print(fault)
    if not found:
        sys.exit(f"{arguments.markdown} has no command to run")
    print(f"{len(found) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
