"""The documents are kept: every command, setting and recipe that exists is told of, and what is told of exists."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from duanti.cli import _parser
from duanti.config import describe_settings

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh-CN.md")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def verbs() -> dict[str, object]:
    actions = [action for action in _parser()._actions if action.choices]
    assert len(actions) == 1
    assert len(actions[0].choices) >= 3  # type: ignore[arg-type]
    return dict(actions[0].choices)  # type: ignore[arg-type]


@pytest.mark.parametrize("readme", READMES)
def test_every_verb_is_in_the_readme(readme: str) -> None:
    for verb in verbs():
        assert re.search(rf"`duanti {verb} [A-Z]", read(readme)), verb


@pytest.mark.parametrize("readme", READMES)
def test_every_duanti_command_of_the_readme_parses(readme: str) -> None:
    commands = re.findall(r"(?m)^(?:cat \S+ \| )?(duanti [^#\n]+)", read(readme))
    assert len(commands) >= 4
    for command in commands:
        assert getattr(_parser().parse_args(shlex.split(command)[1:]), "bundle", "models").startswith("models")


def test_every_duanti_command_of_the_page_on_batch_jobs_parses() -> None:
    commands = re.findall(r"(?m)^(?:duanti|spark-submit .+? label\.py) (predict .+)", read("docs/batch.md"))
    assert len(commands) >= 3
    for command in commands:
        assert _parser().parse_args(shlex.split(command)).output


@pytest.mark.parametrize("readme", READMES)
def test_files_and_targets_the_readme_names_exist(readme: str) -> None:
    text = read(readme)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).exists()] == []
    targets = set(re.findall(r"(?m)^make (\w+)|`make (\w+)`", text))
    names = {name for pair in targets for name in pair if name}
    assert {"quickstart", "test", "lint"} <= names
    assert all(re.search(rf"(?m)^{name}:", read("Makefile")) for name in names)


def test_both_readmes_show_the_same_commands() -> None:
    blocks = [re.findall(r"```(?:console|json|python)\n(.*?)```", read(readme), re.DOTALL) for readme in READMES]
    assert len(blocks[0]) >= 6
    without_comments = [[re.sub(r"#.*", "", block) for block in each] for each in blocks]
    assert without_comments[0] == without_comments[1]


def test_every_setting_is_documented_with_its_default() -> None:
    settings = describe_settings()
    assert len(settings) > 30
    text = read("docs/recipes.md")
    rows = [f"| `{key}` | `{default}` | {meaning} |" for key, default, meaning in settings]
    assert [row for row in rows if row not in text] == []
    assert len(re.findall(r"(?m)^\| `", text)) == len(rows)


def test_every_recipe_begins_with_what_it_does_and_how_to_run_it() -> None:
    recipes = sorted((ROOT / "configs").glob("*.yaml"))
    assert len(recipes) >= 2
    for recipe in recipes:
        comment = re.match(r"(?:#.*\n)+", recipe.read_text(encoding="utf-8"))
        assert comment is not None
        assert f"python train/fit.py configs/{recipe.name}" in comment.group()
        assert yaml.safe_load(recipe.read_text(encoding="utf-8"))["data"]


def test_every_option_has_its_help() -> None:
    for verb, parser in verbs().items():
        for action in parser._actions:  # type: ignore[attr-defined]
            assert action.help, f"{verb} {action.dest}"


def test_every_make_target_says_what_it_does() -> None:
    makefile = read("Makefile")
    declared = re.search(r"\.PHONY: (.+)", makefile)
    assert declared is not None
    for target in declared.group(1).split():
        assert re.search(rf"(?m)^{target}:.*## \S", makefile), target
