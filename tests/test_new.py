"""``duanti new``: a project that trains, from a checkout and from a wheel."""

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from duanti import load_config
from duanti.cli import _parser, main
from duanti.scaffold import new_project

ROOT = Path(__file__).parent.parent


def files_of(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found
    return found


def test_a_project_has_what_the_repository_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", str(tmp_path / "我的 project")]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.count("\n") == 1
    assert output.out.endswith("project' && python train/fit.py configs/starter.yaml\n")
    found = files_of(tmp_path / "我的 project")
    for folder in ("configs", "train", "data/starter"):
        own = {name for name in files_of(ROOT / folder) if "__pycache__" not in name}
        assert {name for name in found if name.startswith(f"{folder}/")} == {f"{folder}/{name}" for name in own}
        assert all(found[f"{folder}/{name}"] == (ROOT / folder / name).read_bytes() for name in own)
    assert found["README.md"].decode().startswith("# 我的 project\n")
    assert set(found) >= {"README.md", ".gitignore", "data/README.md"}


def test_its_recipes_and_the_commands_of_its_readme_fit_it(tmp_path: Path) -> None:
    project = new_project(tmp_path / "mine")
    recipe = load_config(project / "configs" / "starter.yaml")
    assert (project / str(recipe.data.train)).is_file()
    commands = re.findall(r"(?m)^(?:duanti|python) .+", (project / "README.md").read_text(encoding="utf-8"))
    assert len(commands) >= 5
    for program, *arguments in map(shlex.split, commands):
        if program == "duanti":
            assert _parser().parse_args(arguments)
        else:
            assert (project / arguments[0]).is_file()
            assert yaml.safe_load((project / arguments[1]).read_text(encoding="utf-8"))["data"]


@pytest.mark.slow
def test_a_project_trains(tmp_path: Path) -> None:
    project = new_project(tmp_path / "mine")
    rows = (project / "data" / "starter" / "test.jsonl").read_text(encoding="utf-8").splitlines()[::8]
    (project / "my.jsonl").write_text("\n".join(rows), encoding="utf-8")
    command = [sys.executable, "train/fit.py", "configs/starter.yaml", "data.train=my.jsonl", "data.test=null"]
    subprocess.run([*command, "tracking.enabled=false"], cwd=project, check=True, capture_output=True)
    assert (project / "models" / "starter" / "manifest.json").is_file()


def test_an_empty_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "."]) == 0
    assert (tmp_path / "README.md").read_text(encoding="utf-8").startswith(f"# {tmp_path.name}\n")


def test_what_is_there_is_never_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, message in (
        ("full", "is not empty. Choose a new or an empty folder."),
        ("file", "is there, and no folder"),
    ):
        assert main(["new", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"{name}: {message}" in error
    assert files_of(tmp_path) == {"full/a": b"mine", "file": b"mine"}


@pytest.mark.parametrize("exists", [False, True])
def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("duanti.scaffold._GITIGNORE", None)  # fails at the very end
    folder = tmp_path / "mine"
    if exists:
        folder.mkdir()
    with pytest.raises(TypeError):
        new_project(folder)
    assert folder.exists() == exists
    monkeypatch.setattr("duanti.scaffold.shutil.copyfile", fail)
    assert main(["new", str(folder)]) == 1
    assert folder.exists() == exists
    assert not exists or not any(folder.iterdir())


def test_a_wheel_brings_it_all(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling is not installed: no wheel to look into")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert (tmp_path / "site" / "duanti" / "templates" / "page.html").is_file()
    assert [name for name in files_of(tmp_path / "site") if "__pycache__" in name] == []
    code = "import sys, duanti; from duanti.cli import main; print(duanti.__file__); sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", code, "new", str(tmp_path / "mine")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert files_of(tmp_path / "mine") == files_of(new_project(tmp_path / "again" / "mine"))
    assert json.loads(
        (tmp_path / "mine" / "data" / "starter" / "test.jsonl").read_text(encoding="utf-8").split("\n")[0]
    )
