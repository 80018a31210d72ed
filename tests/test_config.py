"""Recipes: every fault at once with its place and remedy, overrides, and the recipes of this project."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from duanti import ConfigError, RunConfig, UsageError, load_config
from duanti.config import describe_settings

CONFIGS = Path(__file__).parents[1] / "configs"
DATA = "data: {train: news.jsonl}\n"

Recipe = Callable[..., RunConfig]
Faults = Callable[..., list[str]]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Load a recipe given as text."""
    monkeypatch.chdir(tmp_path)

    def load(content: str, *overrides: str) -> RunConfig:
        Path("recipe.yaml").write_text(content, encoding="utf-8")
        return load_config("recipe.yaml", overrides)

    return load


@pytest.fixture
def faults(recipe: Recipe) -> Faults:
    """Load a recipe that must fail, and return the lines of the message."""

    def lines(content: str, *overrides: str) -> list[str]:
        with pytest.raises(ConfigError) as fault:
            recipe(content, *overrides)
        return [line.strip() for line in str(fault.value).splitlines()]

    return lines


def test_a_recipe_needs_nothing_but_its_data(recipe: Recipe) -> None:
    config = recipe(DATA)
    assert config.name == "recipe"
    assert config.data.train == "news.jsonl"
    assert config.flat()["classifier.kind"] == "linear_svc"


def test_all_faults_are_told_at_once_with_place_and_remedy(faults: Faults) -> None:
    content = """\
seed: -1
data:
  test: 2
features:
  wrods: [1, 1]
  characters: [3, 1]
classifier:
  kind: linear_svc
  C: -1
"""
    told = faults(content, "features.min_df=0", "tracking", "evaluation.resamples=x")
    assert told[0] == "recipe.yaml: 9 faults"
    assert sorted(told[1:]) == sorted(
        [
            "recipe.yaml, line 1: seed is -1; it should be greater than or equal to 0.",
            "recipe.yaml, line 2: data.train is missing. "
            "Set it in the recipe, or give data.train=VALUE on the command line.",
            "recipe.yaml, line 3: data.test is 2; it should be less than 1.",
            "recipe.yaml, line 5: unknown key features.wrods. Did you mean words?",
            "recipe.yaml, line 6: features.characters is [3, 1]; the shortest length comes first: write [1, 3].",
            "recipe.yaml, line 9: classifier.C is -1; it should be greater than 0.",
            "override features.min_df=0: features.min_df is 0; it should be greater than or equal to 1.",
            "tracking: not an override. Write section.key=value, for instance classifier.C=0.5",
            "override evaluation.resamples=x: evaluation.resamples is 'x'; it must be a whole number.",
        ]
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("sede: 1\n", "unknown key sede. Did you mean seed?"),
        ("colour: red\n", "unknown key colour. Known here: name, seed, output, n_jobs, context, multi_label"),
        ("tracking: {urii: x}\n", "unknown key tracking.urii. Did you mean uri?"),
        ("classifier: {kind: complement_nb, alpah: 1.0}\n", "unknown key classifier.alpah. Did you mean alpha?"),
        ("classifier: {kind: linear_svc, alpha: 1.0}\n", "unknown key classifier.alpha. Known here: kind, C, class_"),
    ],
)
def test_an_unknown_key_gets_a_suggestion(content: str, said: str, faults: Faults) -> None:
    (_, fault) = faults(DATA + content)
    assert fault.startswith(f"recipe.yaml, line 2: {said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("features: {hmm: 'yes'}\n", "features.hmm is 'yes'; it must be true or false."),
        ("features: {hmm: 1}\n", "features.hmm is 1; it must be true or false."),
        ("seed: 1.0\n", "seed is 1.0; it must be a whole number."),
        ("seed: '1'\n", "seed is '1'; it must be a whole number."),
        ("features: {norm: l3}\n", "features.norm is 'l3'; use one of 'l1' or 'l2'."),
        ("features: {min_df: true}\n", "features.min_df is true; it must be a whole number or a number."),
        ("features: {max_df: 1.5}\n", "features.max_df is 1.5; it should be less than or equal to 1."),
        ("features: {user_words: 段题}\n", "features.user_words is '段题'; it must be a list, such as [1, 2]."),
        ("features: {stop_words: [1]}\n", "features.stop_words is 1; it must be a string (put it in quotes)."),
        ("features: {words: [1, 2, 3]}\n", "features.words is [1, 2, 3]; "),
        ("features: {words: null, characters: null}\n", "features is {characters: null, words: null}; words, "),
        (
            "features: {words: null, characters: null, prefixes: [1, 2], opening: 9}\n",
            "features is {characters: null, opening: 9, prefixes: [1, 2], words: n...; opening counts words and ",
        ),
        (
            "classifier: {length_weights: {character: [1.0]}}\n",
            "unknown key classifier.length_weights.character. Did you mean characters?",
        ),
        (
            "classifier: {kind: blend, members: [{kind: ridge}, {kind: nb_svm, length_weights: {title: [1.0]}}]}\n",
            "unknown key classifier.members[1].length_weights.title. Known here: words, characters, prefixes, ",
        ),
        ("features: 5\n", "features is 5; it must be a section with keys below it."),
        ("classifier: {kind: svm}\n", "classifier.kind is 'svm'; use one of linear_svc, logistic_regression, "),
        ("name: a/b\n", "name is 'a/b'; "),
        ("name: 2009-04-09\n", "name is 2009-04-09; it must be a string (put it in quotes)."),
        ("n_jobs: 0\n", "n_jobs is 0; it should be greater than or equal to 1."),
    ],
)
def test_a_wrong_value_is_told_with_what_it_must_be(content: str, said: str, faults: Faults) -> None:
    (heading, fault) = faults(DATA + content)
    assert heading == "recipe.yaml: 1 fault"
    assert fault.startswith(f"recipe.yaml, line 2: {said}")


def test_keys_given_twice_are_told(faults: Faults) -> None:
    content = "seed: 1\ndata:\n  train: a\n  train: b\nseed: 2\n"
    assert faults(content) == [
        "recipe.yaml: 2 faults",
        "recipe.yaml, line 4: data.train is given twice. Keep one.",
        "recipe.yaml, line 5: seed is given twice. Keep one.",
    ]


@pytest.mark.parametrize(
    ("notation", "value"), [("1e-3", 1e-3), ("1E3", 1e3), ("-0.5e+1", -5.0), ("+2.e0", 2.0), ("2", 2.0), ("0.5", 0.5)]
)
def test_numbers_may_have_an_exponent(notation: str, value: float, recipe: Recipe, faults: Faults) -> None:
    if value > 0:
        assert recipe(f"{DATA}classifier: {{kind: linear_svc, C: {notation}}}\n").flat()["classifier.C"] == value
        assert recipe(DATA, "classifier.kind=linear_svc", f"classifier.C={notation}").flat()["classifier.C"] == value
    else:
        assert "it should be greater than 0" in faults(f"{DATA}classifier: {{kind: linear_svc, C: {notation}}}\n")[1]


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_any_number_python_writes_is_read(value: float) -> None:
    path = CONFIGS / "headlines.yaml"
    config = load_config(path, ["data.train=x", f"classifier.C={value!r}"])
    assert config.flat()["classifier.C"] == value


@pytest.mark.parametrize("word", ["1e", "e3", "1e3x", "1-e3", "v1e-3"])
def test_what_is_no_number_stays_a_string(word: str, recipe: Recipe) -> None:
    assert recipe(f"data: {{train: {word}}}\n").data.train == word


def test_overrides_go_before_the_recipe_and_the_last_before_all(recipe: Recipe) -> None:
    config = recipe(
        "seed: 1\ndata: {train: a, test: 0.1}\n",
        *("seed=2", "seed=3", "data.test=null", "features.words=[1, 2]", "tracking.enabled=false", "data.train=b=c"),
    )
    assert (config.seed, config.data.test, config.data.train) == (3, None, "b=c")
    assert (config.features.words, config.tracking.enabled) == ((1, 2), False)


def test_an_override_of_the_kind_drops_the_other_kinds_settings(recipe: Recipe) -> None:
    content = f"{DATA}classifier: {{kind: linear_svc, C: 5.0, class_weight: balanced}}\n"
    flat = recipe(content, "classifier.kind=logistic_regression").flat()
    assert {key: flat[key] for key in flat if key.startswith("classifier.")} == {
        "classifier.kind": "logistic_regression",
        "classifier.C": 10.0,
        "classifier.class_weight": None,
        "classifier.max_iter": 1000,
        "classifier.min_df": 1,
        "classifier.length_weights": None,
    }
    assert recipe(content, "classifier.kind=linear_svc").flat()["classifier.C"] == 5.0


@pytest.mark.parametrize("first", [0, 1])
def test_the_order_of_kind_and_its_settings_does_not_matter(first: int, recipe: Recipe) -> None:
    overrides = ["classifier.kind=complement_nb", "classifier.alpha=0.5"]
    config = recipe(f"{DATA}classifier: {{kind: linear_svc, C: 5.0}}\n", overrides[first], overrides[1 - first])
    assert config.flat()["classifier.alpha"] == 0.5


@pytest.mark.parametrize("override", ["", "seed", "=1", "data..train=x", ".seed=1", "seed.=1"])
def test_what_is_no_override_is_told(override: str, faults: Faults) -> None:
    assert faults(DATA, override)[1].startswith(f"{override}: not an override. Write section.key=value")


@pytest.mark.parametrize("override", ["sede=1", "seed.x=1", "classifier.c=0.5", "seed=", "data.test=2", "features=1"])
def test_a_fault_of_an_override_has_it_as_its_place(override: str, faults: Faults) -> None:
    (_, fault) = faults(DATA, override)
    assert fault.startswith(f"override {override}: ")


def test_a_classifier_without_a_kind_is_the_default_kind(recipe: Recipe) -> None:
    assert recipe(DATA, "classifier.C=0.5").flat()["classifier.kind"] == "linear_svc"
    assert recipe(f"{DATA}classifier: {{C: 0.5}}\n").flat()["classifier.C"] == 0.5


def test_a_recipe_that_refers_to_itself_is_told(faults: Faults) -> None:
    (fault,) = faults("data: &d {train: *d}\n")
    assert fault.startswith("recipe.yaml: an anchor refers to itself")


def test_a_missing_recipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such recipe\. See configs/"):
        load_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("data:\n  train: [a\n", "recipe.yaml, line 3: not valid YAML"),
        ("seed: 1\na: b: c\n", "recipe.yaml, line 2: not valid YAML"),
        ("data:\n\ttrain: a\n", "recipe.yaml, line 2: not valid YAML"),
        ("data: !!python/object:os.system a\n", "recipe.yaml, line 1: not valid YAML"),
        ("- a\n", "recipe.yaml: not a recipe. It needs sections"),
        ("data\n", "recipe.yaml: not a recipe. It needs sections"),
    ],
)
def test_what_is_no_recipe_is_told(content: str, said: str, faults: Faults) -> None:
    (fault,) = faults(content)
    assert fault.startswith(said)


@pytest.mark.parametrize("content", ["", "# nothing\n"])
def test_an_empty_recipe_lacks_its_data(content: str, faults: Faults, recipe: Recipe) -> None:
    assert faults(content)[1].startswith("recipe.yaml: data.train is missing. Set it in the recipe")
    assert recipe(content, "data.train=a").data.train == "a"


def test_a_recipe_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes("data: {train: 新闻}".encode("gb18030"))
    with pytest.raises(ConfigError, match=r"recipe\.yaml: cannot be read as UTF-8"):
        load_config(tmp_path / "recipe.yaml")


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(DATA, encoding="utf-8-sig")
    assert load_config(tmp_path / "recipe.yaml").data.train == "news.jsonl"


def test_a_fault_of_the_recipe_is_a_fault_of_usage() -> None:
    assert issubclass(ConfigError, UsageError)
    assert ConfigError.exit_code == 2


def test_every_recipe_of_the_project_loads() -> None:
    recipes = sorted(CONFIGS.glob("*.yaml"))
    assert len(recipes) >= 2
    for path in recipes:
        config = load_config(path, ["data.train=x"])
        assert config.name == path.stem
        assert config.data.train == "x"


# Every kind of classifier, as the documents name them.
KINDS = (
    next(text for key, _, text in describe_settings() if key == "classifier.kind").removeprefix("one of ").split(", ")
)


@pytest.mark.parametrize(
    ("classifier", "said"),
    [
        ("{kind: blend}", "classifier.members is missing"),
        ("{kind: blend, members: [{kind: nb_svm}]}", "classifier.members is"),
        (
            "{kind: blend, members: [{kind: nb_svm}, {kind: ridge, alpa: 1}]}",
            "unknown key classifier.members[1].alpa. Did you mean alpha?",
        ),
        ("{kind: blend, members: [{kind: nb_svm, C: -1}, {kind: ridge}]}", "classifier.members[0].C is -1"),
        ("{kind: blend, members: [{kind: svm}, {kind: ridge}]}", "classifier.members[0].kind is 'svm'; use one of"),
        ("{kind: blend, members: [{kind: nb_svm}, {kind: ridge}], weights: [1.0]}", "a weight for each of the members"),
    ],
)
def test_a_fault_of_a_blend_names_the_member(classifier: str, said: str, faults: Faults) -> None:
    (fault,) = [line for line in faults(DATA + f"classifier: {classifier}\n") if "fault" not in line]
    assert said in fault


def test_every_setting_is_described_once(recipe: Recipe) -> None:
    described = describe_settings()
    blend = ["classifier.kind=blend", "classifier.members=[{kind: nb_svm}, {kind: ridge}]"]
    single = [[f"classifier.kind={kind}"] for kind in KINDS if kind != "blend"]
    assert len(single) >= 7
    keys = set().union(*(recipe(DATA, *settings).flat() for settings in (blend, *single)))
    assert {key for key, _, _ in described if not key.startswith("search.")} == keys
    assert [key for key, _, _ in described if key.startswith("search.")] == ["search.metric", "search.section.key"]
    assert len(set(described)) == len(described)
    assert all(text for _, _, text in described)


def test_a_described_default_is_the_default(recipe: Recipe) -> None:
    flat = recipe("name: described\ndata: {train: x}\n").flat()
    kinds = tuple(f"{kind}: " for kind in KINDS if kind != "linear_svc")
    of_default = [
        row for row in describe_settings() if not row[2].startswith(kinds) and not row[0].startswith("search.")
    ]
    assert {key for key, _, _ in of_default} == set(flat)
    required = {key for key, default, _ in of_default if default == "required"}
    assert required == {"name", "data.train"}
    assert {key: yaml.safe_load(default) for key, default, _ in of_default if key not in required} == {
        key: value for key, value in flat.items() if key not in required
    }


def test_what_decides_the_model_holds_no_place(recipe: Recipe) -> None:
    here = recipe(DATA, "output=here", "n_jobs=1", "tracking.enabled=false").recipe()
    there = recipe(DATA, "output=there", "n_jobs=2", "data.train=elsewhere.jsonl").recipe()
    assert here == there
    assert here != recipe(DATA, "seed=1").recipe()
