"""A recipe: one YAML that says everything about one experiment.

Owns the schema of configs/*.yaml, overrides from the command line, what a search may try, and the report of all faults
at once, each with its place and a remedy. Refuses to know what the settings do, and to open any file but the recipe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from duanti.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _ordered(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] > value[1]:
        raise ValueError(f"the shortest length comes first: write [{value[1]}, {value[0]}]")
    return value


_Positive = Annotated[int, Field(ge=1)]
NgramRange = Annotated[tuple[_Positive, _Positive], BeforeValidator(_as_tuple), AfterValidator(_ordered)]
Strings = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_tuple)]
Share = Annotated[float, Field(gt=0, lt=1)]
_Weight = Annotated[float, Field(gt=0)]


class DataConfig(_Section):
    """Which corpus, and how to read it."""

    train: str = Field(min_length=1, description="file or folder with the labelled corpus to train on")
    test: str | Share | None = Field(
        default=None,
        description="a labelled file to test on, a share (0-1) of train to hold out, or null: train on all",
    )
    text: str = Field(default="text", description="column with the text")
    topic: str = Field(default="topic", description="column with the topic")
    document: str = Field(default="document", description="column with the document a paragraph stands in")
    encoding: str | None = Field(default=None, description="null: UTF-8, or GB18030 when the bytes are that")


class FeaturesConfig(_Section):
    """How a text becomes TF-IDF weighted terms."""

    words: NgramRange | None = Field(default=(1, 1), description="lengths of word n-grams, or null for no words")
    characters: NgramRange | None = Field(default=(1, 2), description="lengths of character n-grams, or null for none")
    prefixes: NgramRange | None = Field(default=None, description="lengths of prefixes of the text, or null for none")
    text_length: bool = Field(default=False, description="let how many characters a text has be a term")
    opening: _Positive | None = Field(
        default=None, description="words and characters of so many first characters count again, apart"
    )
    normalize: bool = Field(default=True, description="fold full-width and other compatibility forms (NFKC)")
    lowercase: bool = Field(default=True, description="lower-case before segmenting")
    hmm: bool = Field(default=True, description="let jieba find words its dictionary lacks")
    user_words: Strings = Field(default=(), description="words added to jieba's dictionary")
    stop_words: Strings = Field(default=(), description="words that are no terms")
    min_df: Annotated[int, Field(ge=1)] | Share = Field(
        default=1, description="drop terms in fewer texts (count or share)"
    )
    max_df: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="drop terms in more texts (count or share)"
    )
    max_features: _Positive | None = Field(default=None, description="keep only the most frequent terms of each kind")
    sublinear_tf: bool = Field(default=False, description="use 1 + log(count) for count")
    use_idf: bool = Field(default=True, description="weigh terms by inverse document frequency")
    norm: Literal["l1", "l2"] | None = Field(default="l2", description="scale each text's weights to length one")

    @model_validator(mode="after")
    def _check(self) -> FeaturesConfig:
        if self.words is None and self.characters is None and self.prefixes is None:
            raise ValueError("words, characters and prefixes are all null: nothing would be left to learn from")
        if self.opening is not None and self.words is None and self.characters is None:
            raise ValueError("opening counts words and characters again, and both are null; set it to null as well")
        return self


class LengthWeights(_Section):
    """How much terms count by their length: a factor for those of the shortest length, of the next, ..."""

    words: Annotated[tuple[_Weight, ...], BeforeValidator(_as_tuple)] = ()
    characters: Annotated[tuple[_Weight, ...], BeforeValidator(_as_tuple)] = ()
    prefixes: Annotated[tuple[_Weight, ...], BeforeValidator(_as_tuple)] = ()
    opening_words: Annotated[tuple[_Weight, ...], BeforeValidator(_as_tuple)] = ()
    opening_characters: Annotated[tuple[_Weight, ...], BeforeValidator(_as_tuple)] = ()


class _Classifier(_Section):
    """What every classifier may be told."""

    min_df: _Positive = Field(default=1, description="learn only from terms in so many texts; the others weigh nothing")
    length_weights: LengthWeights | None = Field(
        default=None,
        description="factors for terms of each kind by length, shortest first, such as {characters: [1, 1, 0.5]}",
    )


class LinearSVCConfig(_Classifier):
    """scikit-learn's LinearSVC."""

    kind: Literal["linear_svc"] = "linear_svc"
    C: float = Field(default=1.0, gt=0, description="inverse of the regularisation's strength")
    class_weight: Literal["balanced"] | None = Field(default=None, description="'balanced': rare topics count more")


class LogisticRegressionConfig(_Classifier):
    """scikit-learn's LogisticRegression."""

    kind: Literal["logistic_regression"]
    C: float = Field(default=10.0, gt=0, description="inverse of the regularisation's strength")
    class_weight: Literal["balanced"] | None = Field(default=None, description="'balanced': rare topics count more")
    max_iter: _Positive = Field(default=1000, description="iterations at most")


class ComplementNBConfig(_Classifier):
    """scikit-learn's ComplementNB."""

    kind: Literal["complement_nb"]
    alpha: float = Field(default=0.3, gt=0, description="additive smoothing")
    norm: bool = Field(default=False, description="normalise the weights a second time")


class MultinomialNBConfig(_Classifier):
    """scikit-learn's MultinomialNB."""

    kind: Literal["multinomial_nb"]
    alpha: float = Field(default=0.3, gt=0, description="additive smoothing")
    fit_prior: bool = Field(default=True, description="learn how frequent topics are; false: all equally")


class RidgeConfig(_Classifier):
    """scikit-learn's RidgeClassifier."""

    kind: Literal["ridge"]
    alpha: float = Field(default=1.0, gt=0, description="the regularisation's strength")
    class_weight: Literal["balanced"] | None = Field(default=None, description="'balanced': rare topics count more")
    damping: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="divide a topic's scores by its number of rows to this power",
    )


class SGDConfig(_Classifier):
    """scikit-learn's SGDClassifier."""

    kind: Literal["sgd"]
    loss: Literal["hinge", "log_loss"] = Field(default="hinge", description="of each topic against the rest")
    alpha: float = Field(default=1e-5, gt=0, description="the regularisation's strength")
    class_weight: Literal["balanced"] | None = Field(default=None, description="'balanced': rare topics count more")
    max_iter: _Positive = Field(default=30, description="passes over the corpus at most")
    average: bool = Field(default=True, description="average the weights over all steps")


class NaiveBayesSVMConfig(_Classifier):
    """A linear SVM over terms scaled by their log-count ratios."""

    kind: Literal["nb_svm"]
    C: float = Field(default=0.5, gt=0, description="inverse of the regularisation's strength")
    alpha: float = Field(default=0.1, gt=0, description="additive smoothing of the ratios")
    shared: bool = Field(default=False, description="scale terms alike for all topics, by the ratios' root mean square")
    class_weight: Literal["balanced"] | None = Field(default=None, description="'balanced': rare topics count more")


class LowRankConfig(_Classifier):
    """A linear softmax through a narrow layer, with dropout of terms."""

    kind: Literal["low_rank"]
    rank: _Positive = Field(default=64, description="width of the layer")
    epochs: _Positive = Field(default=20, description="passes over the corpus")
    rate: float = Field(default=0.05, gt=0, description="learning rate to begin with")
    dropout: float = Field(default=0.8, ge=0, lt=1, description="share of a text's terms left out each time")


_Single = (
    LinearSVCConfig
    | LogisticRegressionConfig
    | ComplementNBConfig
    | MultinomialNBConfig
    | RidgeConfig
    | SGDConfig
    | NaiveBayesSVMConfig
    | LowRankConfig
)
MemberConfig = Annotated[_Single, Field(discriminator="kind")]


class BlendConfig(_Section):
    """A weighted sum of classifiers over the same terms, each scaled to the same spread of its out-of-fold scores."""

    kind: Literal["blend"]
    members: Annotated[tuple[MemberConfig, ...], BeforeValidator(_as_tuple), Field(min_length=2)] = Field(
        description="the classifiers, each with its kind and settings"
    )
    weights: Annotated[tuple[Annotated[float, Field(ge=0)], ...], BeforeValidator(_as_tuple)] | Literal["learned"] = (
        Field(default="learned", description="how much each member counts, or learned from out-of-fold scores")
    )
    stacking: float | None = Field(
        default=None,
        gt=0,
        description="learn out of fold what each topic's score says for the others; more holds it back more (10-300)",
    )

    @model_validator(mode="after")
    def _check(self) -> BlendConfig:
        if self.weights != "learned" and (len(self.weights) != len(self.members) or not sum(self.weights)):
            raise ValueError("give a weight for each of the members, one of them above 0, or 'learned'")
        return self


ClassifierConfig = Annotated[_Single | BlendConfig, Field(discriminator="kind")]
_CLASSIFIERS: dict[str, type[_Section]] = {
    "linear_svc": LinearSVCConfig,
    "logistic_regression": LogisticRegressionConfig,
    "complement_nb": ComplementNBConfig,
    "multinomial_nb": MultinomialNBConfig,
    "ridge": RidgeConfig,
    "sgd": SGDConfig,
    "nb_svm": NaiveBayesSVMConfig,
    "low_rank": LowRankConfig,
    "blend": BlendConfig,
}


class CalibrationConfig(_Section):
    """How scores become probabilities."""

    folds: Annotated[int, Field(ge=2)] = Field(default=5, description="folds for the out-of-fold scores")


class DecisionConfig(_Section):
    """What is told of a text, and when nothing is."""

    tune: Literal["macro_f1"] | None = Field(
        default=None, description="'macro_f1': shift the scores of topics so that out-of-fold macro-F1 is best"
    )
    precision: Share | None = Field(
        default=None, description="tell a topic only where so many are right; a text below that has none"
    )
    coverage: Share | None = Field(
        default=None, description="give each text a set of topics; so many sets hold the right one"
    )


class BundleConfig(_Section):
    """What goes into the bundle."""

    keep_weights: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="share of terms that keep weights, the largest; the others only count for norms",
    )


class EvaluationConfig(_Section):
    """How the figures get their intervals."""

    resamples: Annotated[int, Field(ge=100)] = Field(default=1000, description="bootstrap resamples of documents")
    confidence: Share = Field(default=0.95, description="confidence of the intervals")


class SearchRange(_Section):
    """Numbers from one to another."""

    low: int | float = Field(description="the least to try")
    high: int | float = Field(description="the most to try")
    log: bool = Field(default=False, description="draw from the logarithms")

    @model_validator(mode="after")
    def _check(self) -> SearchRange:
        if not self.low < self.high:
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError("low must be above 0 where log is true")
        return self


def _choices_or_range(value: Any) -> str | None:
    if isinstance(value, dict | SearchRange):
        return "range"
    return "choices" if isinstance(value, list | tuple) else None


def _not_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise ValueError("give at least one value to try")
    return value


_Choices = Annotated[tuple[Any, ...], BeforeValidator(_as_tuple), AfterValidator(_not_empty)]
ToTry = Annotated[
    Annotated[_Choices, Tag("choices")] | Annotated[SearchRange, Tag("range")],
    Discriminator(
        _choices_or_range,
        custom_error_type="choices_or_range",
        custom_error_message="give a list of choices, or a range such as {low: 0.1, high: 10.0, log: true}",
    ),
]


class SearchConfig(_Section):
    """What train/search.py tries, and what it looks for; train/fit.py passes over it."""

    metric: Literal["macro_f1", "accuracy", "micro_f1"] = Field(
        default="macro_f1", description="what is best out of fold: macro_f1, accuracy, or micro_f1 with multi_label"
    )
    space: dict[str, ToTry] = Field(
        default={},
        title="section.key",
        description="what to try for this setting of features or classifier: a list, or {low, high, log}",
    )


class TrackingConfig(_Section):
    """Where runs are recorded."""

    enabled: bool = Field(default=True, description="record the run in MLflow")
    uri: str = Field(default="sqlite:///mlflow.db", min_length=1, description="MLflow tracking store")
    experiment: str | None = Field(default=None, description="experiment's name; null: the recipe's name")


class RunConfig(_Section):
    """One complete experiment."""

    name: str = Field(
        pattern=r"^[^/:.\s][^/:\s]*$", description="of bundle and registered model; the file's name if not given"
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="everything drawn at random follows from it")
    output: str = Field(default="models", min_length=1, description="folder that gets the bundle, as output/name")
    n_jobs: _Positive | None = Field(default=None, description="processes; null: all cores. Never changes a result")
    context: Literal["none", "sequence"] = Field(
        default="none", description="'sequence': decide the topics of paragraphs in the context of their document"
    )
    multi_label: bool = Field(default=False, description="a text may have several topics, or none")
    data: DataConfig
    features: FeaturesConfig = FeaturesConfig()
    classifier: ClassifierConfig = LinearSVCConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    decision: DecisionConfig = DecisionConfig()
    bundle: BundleConfig = BundleConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    search: SearchConfig = SearchConfig()

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        faults = [
            InitErrorDetails(type=PydanticCustomError("unfit", "{why}", {"why": why}), loc=at, input=value)
            for at, value, why in _unfit_settings(self)
        ]
        if faults:
            raise ValidationError.from_exception_data("settings that do not go together", faults)
        return self

    def flat(self) -> dict[str, Any]:
        """Every setting of the experiment as ``section.key``, for a table or a tracking store."""
        return dict(_flatten(self.model_dump(mode="json", exclude={"search"})))

    def recipe(self) -> dict[str, Any]:
        """What decides the model, and nothing that only says where files are."""
        return self.model_dump(
            mode="json",
            include={"seed", "context", "multi_label", "features", "classifier", "calibration", "decision", "bundle"},
        )

    def with_settings(self, values: Mapping[str, Any]) -> RunConfig:
        """Return the recipe with these settings, by ``section.key``.

        Raises
        ------
        ConfigError
            when they do not go together
        """
        tree = self.model_dump(mode="json", exclude={"search"})
        for key in sorted(values, key=lambda key: key != "classifier.kind"):
            _set(tree, key, values[key])
        try:
            return RunConfig.model_validate(tree)
        except ValidationError as error:
            raise ConfigError("\n  ".join(_explain_all(error.errors(), {}, self.name))) from None

    def as_yaml(self) -> str:
        """Every setting of the experiment, but not what a search would try."""
        tree = self.model_dump(mode="json", exclude={"search"})
        return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False, default_flow_style=None, width=120)


def _unfit_settings(config: RunConfig) -> Iterator[tuple[tuple[str | int, ...], Any, str]]:
    """Settings that do not go with ``multi_label`` as it is: where, what, and why."""
    if not config.multi_label:
        if config.search.metric == "micro_f1":
            yield ("search", "metric"), "micro_f1", "where each text has one topic that is accuracy"
        return
    if config.context != "none":
        yield ("context",), config.context, "with multi_label it must be none: a network learns one topic per paragraph"
    for name in ("tune", "precision", "coverage"):
        value = getattr(config.decision, name)
        if value is not None:
            at = ("decision", name)
            yield at, value, "with multi_label it must be null: a threshold for each topic decides"
    classifier = config.classifier
    members: dict[tuple[str | int, ...], Any] = {("classifier",): classifier}
    if isinstance(classifier, BlendConfig):
        members = {("classifier", "members", number): member for number, member in enumerate(classifier.members)}
        if classifier.stacking is not None:
            yield (
                ("classifier", "stacking"),
                classifier.stacking,
                "with multi_label it must be null: it learns a softmax",
            )
    for place, member in members.items():
        if isinstance(member, LowRankConfig):
            why = "with multi_label use another: it learns a softmax, one topic per text"
            yield (*place, "kind"), member.kind, why
        if isinstance(member, RidgeConfig) and member.damping:
            why = "with multi_label it must be 0: thresholds see to rare topics"
            yield (*place, "damping"), member.damping, why


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a recipe and apply ``section.key=value`` overrides, values in YAML's notation.

    ``name`` is the file's own name where the recipe gives none.

    Raises
    ------
    ConfigError
        with every fault of the file and the overrides, each with its place and a remedy
    """
    path = Path(path)
    faults: list[str] = []
    tree, places = _read_yaml(path, faults)
    # The classifier's kind first: it drops the recipe's settings of another kind, never those of an override.
    for override in sorted(overrides, key=lambda text: not text.startswith("classifier.kind=")):
        _apply_override(override, tree, places, faults)
    tree.setdefault("name", path.stem)
    tree.setdefault("data", {})
    if isinstance(tree.get("classifier"), dict):
        tree["classifier"].setdefault("kind", "linear_svc")
    if isinstance(tree.get("search"), dict):
        tree["search"] = _gather_space(tree["search"])
        faults += _space_faults(tree, places, str(path))
    config = None
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        faults += _explain_all(error.errors(), places, str(path))
    if faults or config is None:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError("\n  ".join([f"{path}: {count}", *faults]))
    return config


def describe_settings() -> list[tuple[str, str, str]]:
    """Every setting as (section.key, default, what it does), in the schema's order."""
    return list(_describe(RunConfig, ""))


def searched_settings(space: Mapping[str, Any], kind: str) -> list[str]:
    """Return which settings of a space there are with this kind of classifier; the kind itself stands first."""
    known = set(_CLASSIFIERS[kind].model_fields) | ({"members"} if kind == "blend" else set())
    keys = [key for key in space if not key.startswith("classifier.") or re.split(r"[.\[]", key)[1] in known]
    return sorted(keys, key=lambda key: key != "classifier.kind")


def takes_fractions(key: str) -> bool:
    """Whether a setting is a number that need not be whole, whatever the kind of classifier."""
    section, _, name = key.partition(".")
    name = name.rpartition(".")[2]
    models = [FeaturesConfig] if section == "features" else list(_CLASSIFIERS.values())
    return any(model.model_fields[name].annotation is float for model in models if name in model.model_fields)


class _Loader(yaml.SafeLoader):
    """Safe YAML that also reads ``1e-3`` as the number it is."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)

_Place = tuple[str, ...]


def _read_yaml(path: Path, faults: list[str]) -> tuple[dict[str, Any], dict[_Place, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe. See configs/ for those that exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 ({error}).") from None
    try:
        node = yaml.compose(text, Loader=_Loader)
        tree = yaml.load(text, Loader=_Loader)
        json.dumps(tree, default=str)  # finds what refers to itself
    except ValueError:
        raise ConfigError(f"{path}: an anchor refers to itself. Write the settings out.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', None) or error}).") from None
    if node is None:
        return {}, {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: not a recipe. It needs sections such as 'data:' with 'train: FILE' below.")
    return cast("dict[str, Any]", tree), dict(_key_places(node, (), str(path), set(), faults))


def _key_places(
    node: yaml.Node, at: _Place, path: str, seen: set[_Place], faults: list[str]
) -> Iterator[tuple[_Place, str]]:
    """Where each key stands; a key given twice, which YAML lets pass, is a fault."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        # What a search tries may be written classifier.C or C below classifier.
        here = (*at, *(str(key.value).split(".") if at[:1] == ("search",) else [str(key.value)]))
        place = f"{path}, line {key.start_mark.line + 1}"
        if here in seen:
            faults.append(f"{place}: {'.'.join(here)} is given twice. Keep one.")
        seen.add(here)
        yield here, place
        yield from _key_places(value, here, path, seen, faults)


def _apply_override(override: str, tree: dict[str, Any], places: dict[_Place, str], faults: list[str]) -> None:
    key, equals, text = override.partition("=")
    at = tuple(key.split("."))
    if not equals or not all(at):
        faults.append(f"{override}: not an override. Write section.key=value, for instance classifier.C=0.5")
        return
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        value = text
    section = tree
    for depth, name in enumerate(at[:-1], 1):
        if not isinstance(section.get(name), dict):
            section[name] = {}
            places[at[:depth]] = f"override {override}"
        section = section[name]
    # Another kind of classifier has other settings: those of the recipe's kind do not go with it.
    if at == ("classifier", "kind") and section.get("kind") != value:
        section.clear()
    section[at[-1]] = value
    places[at] = f"override {override}"


_MEMBER = re.compile(r"(members)\[(\d+)\]$")


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    """Put a value into a tree of settings that is complete; members of a blend are ``members[0]`` and so on."""
    *sections, name = key.split(".")
    place: Any = tree
    for section in sections:
        member = _MEMBER.match(section)
        place = place[member[1]][int(member[2])] if member else place[section]
    # Another kind of classifier has other settings.
    if name == "kind" and place.get("kind") != value:
        place.clear()
    place[name] = value


def _gather_space(section: dict[Any, Any]) -> dict[str, Any]:
    """The section ``search`` as its schema has it: what has no setting's name stands beside ``space``."""
    gathered: dict[str, Any] = {"space": {}}

    def gather(key: str, value: Any) -> None:
        if isinstance(value, dict) and value and not {"low", "high"} & value.keys():
            for name, below in value.items():
                gather(f"{key}.{name}", below)
        elif "." in key:
            gathered["space"][key] = value
        else:
            gathered[key] = value

    for key, value in section.items():
        gather(str(key), value)
    return gathered


def _space_faults(tree: dict[str, Any], places: dict[_Place, str], path: str) -> list[str]:
    """What is wrong with the settings a search would try, and their values; the schema sees to the section's form."""
    space = tree["search"]["space"]
    own = tree["classifier"] if isinstance(tree.get("classifier"), dict) else {}
    tried_kinds = space.get("classifier.kind")
    kinds = tried_kinds if isinstance(tried_kinds, list) else [own.get("kind", "linear_svc")]
    faults = []
    for key, given in space.items():
        at = ("search", *key.split("."))
        place = _place_of(at, places, path)
        models = _models_with(key, kinds, own)
        if not models:
            faults.append(f"{place}: {_unknown_setting(key, kinds)}")
        for model in models:
            fault = next((f for value in _to_check(given) if (f := _value_fault(model, at, value, place))), None)
            if fault:
                faults.append(fault)
                break
        if isinstance(given, dict) and models and not takes_fractions(key) and _mixes_numbers(given):
            faults.append(f"{place}: search.{key} goes from a whole number to a fraction. Use two of one sort.")
    if "blend" in kinds and own.get("kind") != "blend" and "classifier.members" not in space:
        place = _place_of(("search", "classifier", "kind"), places, path)
        faults.append(
            f"{place}: search.classifier.kind tries blend, which has no members. Give search.classifier.members."
        )
    return faults


def _to_check(given: Any) -> list[Any]:
    """The choices, or the ends of the range; those stand for what is between them."""
    if isinstance(given, dict):
        return [given[end] for end in ("low", "high") if isinstance(given.get(end), int | float)]
    return list(given) if isinstance(given, list) else []


def _mixes_numbers(given: dict[str, Any]) -> bool:
    low, high = given.get("low"), given.get("high")
    return isinstance(low, int | float) and isinstance(high, int | float) and type(low) is not type(high)


def _models_with(key: str, kinds: Sequence[Any], own: dict[str, Any]) -> list[type[_Section]]:
    """The sections that have a setting: more than one where kinds of classifiers share it."""
    section, *between, name = key.split(".")
    if section == "features" and not between:
        models: list[type[_Section]] = [FeaturesConfig]
    elif section == "classifier" and not between:
        models = [_CLASSIFIERS[kind] for kind in kinds if kind in _CLASSIFIERS]
        # Of unknown kinds, the schema or the choice itself tells; settings beside them are not at fault.
        models = models or list(_CLASSIFIERS.values())
    elif section == "classifier" and len(between) == 1 and (member := _MEMBER.match(between[0])):
        members = own.get("members")
        number = int(member[2])
        known = isinstance(members, list) and number < len(members) and isinstance(members[number], dict)
        kind = members[number].get("kind") if isinstance(members, list) and known else None
        models = [_CLASSIFIERS[kind]] if kind in _CLASSIFIERS else []
    else:
        models = []
    return [model for model in models if name in model.model_fields]


def _unknown_setting(key: str, kinds: Sequence[Any]) -> str:
    section, _, name = key.partition(".")
    if section == "features":
        known = list(FeaturesConfig.model_fields)
    elif section == "classifier" and "." not in name:
        known = list(
            dict.fromkeys(n for kind in kinds if kind in _CLASSIFIERS for n in _CLASSIFIERS[kind].model_fields)
        )
    elif section == "classifier":
        return f"search.{key} is no setting of a member. Write classifier.members[0].C for C of the recipe's first one."
    else:
        return f"search.{key} is not searched. A search tries settings of features and classifier."
    near = get_close_matches(name, known, 1)
    hint = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known)}."
    return f"unknown key search.{key}. {hint}"


def _value_fault(model: type[_Section], at: _Place, value: Any, place: str) -> str | None:
    """Why a value is none of the setting named last in ``at``, None when it is one."""
    name = at[-1]
    own_kind = get_args(getattr(model.model_fields.get("kind"), "annotation", None))
    if name == "kind":
        if value in _CLASSIFIERS:
            return None
        return f"{place}: {'.'.join(at)} has {_shown(value)}; use some of {', '.join(_CLASSIFIERS)}."
    try:
        model.model_validate({**({"kind": own_kind[0]} if own_kind else {}), name: value})
    except ValidationError as error:
        own = [detail for detail in error.errors() if detail["loc"][:1] == (name,)]
        if any(detail["type"] == "extra_forbidden" for detail in own):
            unknown = next(detail for detail in own if detail["type"] == "extra_forbidden")
            return f"{place}: {'.'.join(at)} has an unknown key {unknown['loc'][-1]}."
        return _explain(at, own, {at: place}, place) if own else None
    return None


_TYPE_NAMES = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a string (put it in quotes)",
    "tuple_type": "a list, such as [1, 2]",
    "model_type": "a section with keys below it",
    "model_attributes_type": "a section with keys below it",
    "dict_type": "a section with keys below it",
}


def _explain_all(details: Sequence[ErrorDetails], places: dict[_Place, str], path: str) -> list[str]:
    """One line per key at fault: a key that may be of several types fails once for each of them."""
    by_key: dict[_Place, list[ErrorDetails]] = {}
    for detail in details:
        by_key.setdefault(_settings_path(detail), []).append(detail)
    return [_explain(at, alike, places, path) for at, alike in by_key.items()]


def _explain(at: _Place, details: Sequence[ErrorDetails], places: dict[_Place, str], path: str) -> str:
    """One fault in one line: place, key, what is wrong, what to do."""
    place = _place_of(at, places, path)
    key = ".".join(at)
    # A value of the right type but out of range says more than the types it might have had.
    detail = next((d for d in details if d["type"] not in _TYPE_NAMES), details[0])
    kind, given = detail["type"], _shown(detail.get("input"))
    if kind == "missing":
        return f"{place}: {key} is missing. Set it in the recipe, or give {key}=VALUE on the command line."
    if kind == "extra_forbidden":
        known = _known_keys(at[:-1], detail)
        near = get_close_matches(at[-1], known, 1)
        hint = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known)}."
        return f"{place}: unknown key {key}. {hint}"
    if kind == "union_tag_invalid":
        return f"{place}: {key} is {_shown(detail['ctx']['tag'])}; use one of {', '.join(_CLASSIFIERS)}."
    if kind == "literal_error":
        return f"{place}: {key} is {given}; use one of {detail['ctx']['expected']}."
    if kind in _TYPE_NAMES:
        types = " or ".join(dict.fromkeys(_TYPE_NAMES.get(d["type"], "null") for d in details))
        return f"{place}: {key} is {given}; it must be {types}."
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{place}: {key} is {given}; {'it ' if message.startswith('should') else ''}{message}."


def _place_of(at: _Place, places: dict[_Place, str], path: str) -> str:
    """The line of a key, or of the section it should stand in."""
    return next((places[at[:n]] for n in range(len(at), 0, -1) if at[:n] in places), path)


def _shown(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    text = repr(value) if isinstance(value, str) else yaml.safe_dump(plain, default_flow_style=True).split("\n")[0]
    return text if len(text) <= 60 else f"{text[:57]}..."


def _settings_path(detail: ErrorDetails) -> _Place:
    """pydantic's location without what is not a key of the recipe: union members and list positions."""
    location = [str(part) for part in detail["loc"]]
    if len(location) > 1 and location[0] == "classifier" and location[1] in _CLASSIFIERS:
        del location[1]
    if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
        location.append("kind")
    # A key that this section does not know; of a wrong value in it, the section is told.
    inner = ("length_weights",) if location[-2:-1] == ["length_weights"] and detail["type"] == "extra_forbidden" else ()
    if location[:2] == ["search", "space"] and len(location) > 2:
        # The setting, and behind the form it was taken for, a key of that.
        return ("search", *location[2].split("."), *location[4:5])
    if location[:2] == ["classifier", "members"] and len(location) > 2:
        # Of a blend's member: its number, and its key behind the kind it was taken for.
        return ("classifier", f"members[{location[2]}]", *inner, location[-1])
    return tuple(location[: 2 + len(inner)])


def _known_keys(section: _Place, detail: ErrorDetails) -> list[str]:
    if not section:
        return list(RunConfig.model_fields)
    if section[-1] == "length_weights":
        return list(LengthWeights.model_fields)
    if section[0] == "search":
        model = SearchRange if section[1:] else SearchConfig
        return [field.title or name for name, field in model.model_fields.items()]
    if section[0] == "classifier":
        kinds = [str(part) for part in detail["loc"] if str(part) in _CLASSIFIERS]
        return sorted(_CLASSIFIERS[kinds[-1]].model_fields, key=lambda key: key in _Classifier.model_fields)
    annotation = RunConfig.model_fields[section[0]].annotation
    return list(cast("type[BaseModel]", annotation).model_fields)


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _describe(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    kind = getattr(model.model_fields.get("kind"), "annotation", None)
    of_kind = f"{get_args(kind)[0]}: " if kind else ""
    for name, field in model.model_fields.items():
        members = [m for m in getattr(field.annotation, "__args__", (field.annotation,)) if isinstance(m, type)]
        sections = [member for member in members if issubclass(member, _Section) and field.description is None]
        for section in sections:
            yield from _describe(section, f"{prefix}{name}.")
        if not sections and name != "kind":
            default = "required" if field.is_required() else json.dumps(field.default, ensure_ascii=False)
            key = f"{prefix}{field.title or name}"
            if not kind or name not in _Classifier.model_fields:
                yield key, default, f"{of_kind}{field.description}"
            elif model is LinearSVCConfig:  # what all classifiers share is told once
                yield key, default, str(field.description)
    if kind and model is LinearSVCConfig:
        yield f"{prefix}kind", '"linear_svc"', f"one of {', '.join(_CLASSIFIERS)}"
