"""The tutorial is kept: its commands run as printed, in order, from an empty folder, and say what it says they say."""

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
TUTORIALS = ("docs/tutorial.md", "docs/tutorial.zh-CN.md")
PORT = "8765"  # the tutorial's


class Step(NamedTuple):
    """Commands, and lines that they print."""

    commands: str
    lines: tuple[str, ...]


def steps_of(tutorial: str) -> list[Step]:
    text = (ROOT / tutorial).read_text(encoding="utf-8")
    found: list[Step] = []
    for kind, block in re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", text):
        if kind == "console":
            found.append(Step(block, ()))
        elif kind == "text":
            found[-1] = found[-1]._replace(lines=(*found[-1].lines, *block.splitlines()))
    assert len(found) > 8
    return found


def essence(line: str) -> str:
    """A line without what may differ from machine to machine: numbers, names of runs, widths of tables."""
    return re.sub(r"\s+", " ", re.sub(r"\b[0-9a-f]{8,}\b|\d[\d.,]*", "0", line)).strip()


def is_in(line: str, printed: list[str]) -> bool:
    """Whether a line was printed; one that ends in … may go on."""
    told = essence(line)
    return any(each == told or (told.endswith("…") and each.startswith(told[:-1])) for each in map(essence, printed))


def test_both_languages_show_the_same_commands_and_the_same_output() -> None:
    english, chinese = map(steps_of, TUTORIALS)
    assert english == chinese


def test_every_command_of_duanti_is_shown() -> None:
    commands = "".join(step.commands for step in steps_of(TUTORIALS[0]))
    for verb in ("new", "check", "evaluate", "explain", "suggest", "predict", "drift", "serve"):
        assert re.search(rf"\bduanti {verb} ", commands), verb
    for program in (ROOT / "train").glob("*.py"):
        assert f"python train/{program.name} " in commands


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where pip finds a wheel of this source and nothing else; what the wheel needs is this Python's."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: no wheel to install")
    pytest.importorskip("mlflow", reason="mlflow is not installed: no runs to compare")
    if shutil.which("curl") is None:
        pytest.skip("no curl here: the tutorial asks its server by curl")
    wheels = tmp_path / "wheels"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PIP_"))}
    pip = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_IGNORE_INSTALLED": "1", "PIP_FIND_LINKS": str(wheels)}
    here = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": sysconfig.get_path("purelib"),
    }
    return {**kept, **pip, **here}


@pytest.mark.slow
def test_its_commands_run_in_order_and_say_what_it_says(environment: dict[str, str], tmp_path: Path) -> None:
    steps = steps_of(TUTORIALS[0])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = [tmp_path / f"{number}.out" for number in range(len(steps))]
    script = ["trap 'kill $(jobs -p) 2> /dev/null' EXIT"]  # a server that is left when something fails
    for step, file in zip(steps, told, strict=True):
        script += [f"exec > '{file}' 2>&1", step.commands.replace(PORT, port)]
    (tmp_path / "tutorial.sh").write_text("\n".join(script), encoding="utf-8")
    (tmp_path / "empty").mkdir()
    command = ["bash", "-e", str(tmp_path / "tutorial.sh")]
    done = subprocess.run(command, cwd=tmp_path / "empty", env=environment, stdin=subprocess.DEVNULL, check=False)
    outputs = [file.read_text(encoding="utf-8") if file.exists() else None for file in told]
    assert done.returncode == 0, next(output for output in reversed(outputs) if output is not None)

    missing = [
        line
        for step, output in zip(steps, outputs, strict=True)
        for line in step.lines
        if not is_in(line, (output or "").splitlines())
    ]
    assert missing == []

    project = tmp_path / "empty" / "topics"
    assert (project / "label.html").is_file()
    assert (project / "why.html").is_file()
    carried = list(project.glob("mlruns/**/code/duanti"))
    assert len(carried) == 3
    assert not any((code / "project").exists() for code in carried)  # logged models do not carry new projects
