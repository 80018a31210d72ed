"""A recipe: one YAML that says everything about one experiment.

Owns the schema of configs/*.yaml, overrides from the command line, and the report of all faults at once, each
with its place and a remedy. Refuses to know what the settings do, and to open any file but the recipe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

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
        if self.words is None and self.characters is None:
            raise ValueError("words and characters are both null: nothing would be left to learn from")
        return self


class LengthWeights(_Section):
    """How much terms count by their length: a factor for those of the shortest length, of the next, ..."""

    words: Annotated[tuple[_Weight, ...], BeforeValidator(_as_tuple)] = ()
    characters: Annotated[tuple[_Weight, ...], BeforeValidator(_as_tuple)] = ()


class _Classifier(_Section):
    """What every classifier may be told."""

    min_df: _Positive = Field(default=1, description="learn only from terms in so many texts; the others weigh nothing")
    length_weights: LengthWeights | None = Field(
        default=None,
        description="factors for words and characters by length, shortest first, such as {characters: [1, 1, 0.5]}",
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
    data: DataConfig
    features: FeaturesConfig = FeaturesConfig()
    classifier: ClassifierConfig = LinearSVCConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    decision: DecisionConfig = DecisionConfig()
    bundle: BundleConfig = BundleConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()

    def flat(self) -> dict[str, Any]:
        """Every setting as ``section.key``, for a table or a tracking store."""
        return dict(_flatten(self.model_dump(mode="json")))

    def recipe(self) -> dict[str, Any]:
        """What decides the model, and nothing that only says where files are."""
        return self.model_dump(
            mode="json", include={"seed", "context", "features", "classifier", "calibration", "decision", "bundle"}
        )


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
    return cast("dict[str, Any]", tree), dict(_key_places(node, (), str(path), faults))


def _key_places(node: yaml.Node, at: _Place, path: str, faults: list[str]) -> Iterator[tuple[_Place, str]]:
    """Where each key stands; a key given twice, which YAML lets pass, is a fault."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        here = (*at, str(key.value))
        place = f"{path}, line {key.start_mark.line + 1}"
        if here in seen:
            faults.append(f"{place}: {'.'.join(here)} is given twice. Keep one.")
        seen.add(here)
        yield here, place
        yield from _key_places(value, here, path, faults)


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
    place = next((places[at[:n]] for n in range(len(at), 0, -1) if at[:n] in places), path)
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
    if location[:2] == ["classifier", "members"] and len(location) > 2:
        # Of a blend's member: its number, and its key behind the kind it was taken for.
        return ("classifier", f"members[{location[2]}]", location[-1])
    return tuple(location[:2])


def _known_keys(section: _Place, detail: ErrorDetails) -> list[str]:
    if not section:
        return list(RunConfig.model_fields)
    if section[0] == "classifier":
        kinds = [str(part) for part in detail["loc"] if str(part) in _CLASSIFIERS]
        return sorted(_CLASSIFIERS[kinds[-1]].model_fields, key=lambda key: key in _Classifier.model_fields)
    model = RunConfig.model_fields[section[0]].annotation
    return list(cast("type[BaseModel]", model).model_fields)


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
            if not kind or name not in _Classifier.model_fields:
                yield f"{prefix}{name}", default, f"{of_kind}{field.description}"
            elif model is LinearSVCConfig:  # what all classifiers share is told once
                yield f"{prefix}{name}", default, str(field.description)
    if kind and model is LinearSVCConfig:
        yield f"{prefix}kind", '"linear_svc"', f"one of {', '.join(_CLASSIFIERS)}"
