"""The ``duanti`` command: parse, call, print.

Owns arguments, exit codes and what a terminal shows. Refuses to compute anything. Results go to stdout or to
``-o``, everything else to stderr.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duanti import __version__
from duanti.errors import DataError, DuantiError, UsageError

if TYPE_CHECKING:
    from duanti.audit import Audit
    from duanti.drift import DriftReport
    from duanti.evaluation import MultiLabelReport, Report
    from duanti.jobs import Account, Job
    from duanti.model import TopicModel
    from duanti.predict import Labelled, PredictOptions
    from duanti.progress import Progress
    from duanti.readers import ReadOptions, Reject, Source


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 success, 1 data or model at fault, 2 command or config, 3 drift."""
    return guarded("duanti", lambda: _dispatch(_parser().parse_args(arguments)))


def guarded(program: str, action: Callable[[], int | None]) -> int:
    """Run a program's action and return its exit code, 0 if it names none.

    A user's mistake ends in one line and its exit code, never in a traceback.
    """
    logging.basicConfig(format=f"{program}: %(message)s", level=logging.WARNING, stream=sys.stderr, force=True)
    try:
        code = action()
        sys.stdout.flush()
    except DuantiError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read us has had enough (head, less); leave nothing for the interpreter to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code or 0


def _dispatch(options: argparse.Namespace) -> int | None:
    code: int | None = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="duanti",
        description="Topics of Chinese paragraphs. Models are trained by train/fit.py; these commands use them.",
        epilog="BUNDLE is a folder that training wrote, or a model URI such as models:/starter@champion.",
    )
    parser.add_argument("--version", action="version", version=f"duanti {__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_predict(verbs)
    _add_evaluate(verbs)
    _add_inspect(verbs)
    _add_explain(verbs)
    _add_check(verbs)
    _add_suggest(verbs)
    _add_drift(verbs)
    _add_serve(verbs)
    _add_new(verbs)
    return parser


def _takes_bundle(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or models:/NAME@ALIAS")


def _takes_inputs(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "inputs", metavar="INPUT", nargs="*", default=["-"], help="files or folders; - is stdin (default)"
    )


def _add_predict(verbs: Any) -> None:
    verb = verbs.add_parser(
        "predict",
        help="give every paragraph, or every row of a table, its topic",
        description="Give every paragraph of documents (.txt, stdin), or every row of tables (.jsonl, .csv, .tsv, "
        ".parquet), its topic. Bylines, boilerplate and texts without a known term get none.",
    )
    _takes_bundle(verb)
    _takes_inputs(verb)
    verb.add_argument(
        "-o",
        "--output",
        metavar="OUTPUT",
        help="a file, written whole or not at all, or a folder for a part per input; run the same command again to go "
        "on where it stopped. Rows that cannot be used go to OUTPUT.rejects.jsonl",
    )
    verb.add_argument(
        "--format",
        choices=("table", "jsonl", "csv", "tsv", "parquet"),
        help="of the output (default: by OUTPUT's ending, else the input's)",
    )
    _add_reading(verb)
    verb.add_argument("--keep", action="append", default=[], metavar="NAME", help="column to hand on; may be repeated")
    verb.add_argument("--top", type=_positive, default=3, metavar="K", help="topics to tell per row (default: 3)")
    _add_no_context(verb)
    verb.add_argument(
        "--summary",
        action="store_true",
        help="one more row for each document, kind 'document': its main topic, shares of topics, segments",
    )
    verb.add_argument(
        "--strict", action="store_true", help="stop at the first row that cannot be used, with exit code 1"
    )
    verb.add_argument("--restart", action="store_true", help="forget what an earlier run finished, and begin again")
    verb.add_argument("--report", metavar="FILE", help="write counts, topic shares and seconds per stage as JSON")
    verb.add_argument(
        "--engine",
        choices=("local", "spark"),
        default="local",
        help="what does the parts of a job: this process (default), or Spark, into a folder OUTPUT; --jobs is per part",
    )
    verb.add_argument(
        "--master", metavar="URL", help="of Spark (default: as Spark is configured, else all cores of this machine)"
    )
    verb.set_defaults(run=_predict)


def _add_reading(verb: Any) -> None:
    """The options of every verb that reads inputs of any size."""
    verb.add_argument(
        "--input-format",
        choices=("text", "jsonl", "csv", "tsv", "parquet"),
        help="of the inputs (default: by their endings; stdin is one text)",
    )
    verb.add_argument("--unit", choices=("text", "paragraph"), help="default: paragraph for documents, text for tables")
    verb.add_argument("--text-column", default="text", metavar="NAME", help="column with the text (default: text)")
    verb.add_argument("--document-column", default="document", metavar="NAME", help="column with the document")
    verb.add_argument("--encoding", metavar="NAME", help="of the inputs (default: UTF-8, or GB18030 if they are that)")
    verb.add_argument("--jobs", type=_positive, metavar="N", help="threads (default: all cores)")
    verb.add_argument(
        "--max-chars",
        type=_positive,
        default=10_000_000,
        metavar="N",
        help="longest text in characters; longer ones are rejected (default: 10 million)",
    )


def _add_no_context(verb: Any) -> None:
    verb.add_argument(
        "--no-context",
        action="store_false",
        dest="context",
        help="decide every paragraph by itself, also where the bundle knows the context of documents",
    )


def _add_drift(verbs: Any) -> None:
    verb = verbs.add_parser(
        "drift",
        help="tell whether texts are still like those a model was trained on",
        description="Compare texts with what the bundle recorded in training: shares of the topics, confidence, share "
        "of unknown terms, distribution of the terms. Each figure is stable, to be watched, or has drifted. Exit code: "
        "0 unless a figure has drifted, then 3.",
    )
    _takes_bundle(verb)
    verb.add_argument("inputs", metavar="INPUT", nargs="+", help="files or folders; - is stdin")
    verb.add_argument("--rows", type=_positive, metavar="N", help="look at about the first N rows (default: all)")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    _add_reading(verb)
    verb.set_defaults(run=_drift)


def _add_evaluate(verbs: Any) -> None:
    verb = verbs.add_parser(
        "evaluate",
        help="compare a model with labelled texts",
        description="Predict every row of a labelled corpus and print accuracy, macro-F1 and the figures per topic.",
    )
    _takes_bundle(verb)
    verb.add_argument("labelled", metavar="LABELLED", help="JSON lines, CSV, TSV, Parquet, fastText, folder per topic")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    verb.add_argument("--text-column", default="text", metavar="NAME", help="column with the text (default: text)")
    verb.add_argument("--topic-column", default="topic", metavar="NAME", help="column with the topic (default: topic)")
    verb.add_argument("--document-column", default="document", metavar="NAME", help="column with the document")
    verb.add_argument("--encoding", metavar="NAME", help="of the corpus (default: UTF-8, or GB18030 if it is that)")
    _add_no_context(verb)
    verb.set_defaults(run=_evaluate)


def _add_inspect(verbs: Any) -> None:
    verb = verbs.add_parser(
        "inspect",
        help="show what a model is made of",
        description="Show a bundle's topics, where it comes from, and the terms that speak most for each topic.",
    )
    _takes_bundle(verb)
    verb.add_argument("--terms", type=_positive, default=10, metavar="N", help="terms per topic (default: 10)")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    verb.set_defaults(run=_inspect)


def _add_explain(verbs: Any) -> None:
    verb = verbs.add_parser(
        "explain",
        help="show which terms decided a topic",
        description="Show for every paragraph, or every row of a table, which terms speak for its topic and which "
        "against it. Contributions are exact: with the bias they add up to the score.",
    )
    _takes_bundle(verb)
    _takes_inputs(verb)
    verb.add_argument("-o", "--output", metavar="PAGE", help="write a page of the whole documents, as one HTML file")
    verb.add_argument("--json", action="store_true", help="print a JSON line per document with all contributions")
    verb.add_argument("--top", type=_positive, default=3, metavar="K", help="topics to explain per row (default: 3)")
    verb.add_argument("--terms", type=_positive, default=8, metavar="N", help="terms to show for and against (8)")
    _add_no_context(verb)
    _add_reading(verb)
    verb.set_defaults(run=_explain)


def _add_check(verbs: Any) -> None:
    verb = verbs.add_parser(
        "check",
        help="look for what is wrong with labelled texts",
        description="Look for rows that cannot be used, likely label errors, contradicting topics, duplicates, odd "
        "texts and broken encodings, and tell how much of the accuracy rests on near duplicates. Findings are no "
        "failure: the exit code is 0 with them and without.",
    )
    verb.add_argument("labelled", metavar="LABELLED", help="JSON lines, CSV, TSV, Parquet, fastText, folder per topic")
    verb.add_argument("--against", metavar="OTHER", help="labelled texts to test on, when LABELLED is to train on")
    verb.add_argument("-o", "--output", metavar="FILE", help="write every finding to it, as JSON lines")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    verb.add_argument("--top", type=_positive, default=5, metavar="N", help="findings to show per kind (default: 5)")
    verb.add_argument(
        "--threshold",
        type=_similarity,
        default=0.8,
        metavar="S",
        help="similarity of near duplicates, 0.5 to 1: character 3-grams shared, of all in either (default: 0.8)",
    )
    verb.add_argument(
        "--multi-label",
        action="store_true",
        help="a row may have several topics or none; accuracies on duplicates are not measured then",
    )
    verb.add_argument("--text-column", default="text", metavar="NAME", help="column with the text (default: text)")
    verb.add_argument("--topic-column", default="topic", metavar="NAME", help="column with the topic (default: topic)")
    verb.add_argument("--document-column", default="document", metavar="NAME", help="column with the document")
    verb.add_argument("--encoding", metavar="NAME", help="of the corpora (default: UTF-8, or GB18030 if they are that)")
    verb.add_argument("--jobs", type=_positive, metavar="N", help="processes (default: all cores)")
    verb.set_defaults(run=_check)


def _add_suggest(verbs: Any) -> None:
    verb = verbs.add_parser(
        "suggest",
        help="choose the texts whose labels would teach a model most",
        description="Choose texts to label next, of any number: those the model is least sure of, and no two alike. "
        "Prints JSON lines, the most useful first; -o PAGE.html writes a page to label them with, by keyboard.",
    )
    _takes_bundle(verb)
    _takes_inputs(verb)
    verb.add_argument("-n", type=_positive, default=200, metavar="N", help="texts to suggest (default: 200)")
    verb.add_argument(
        "-o", "--output", metavar="OUTPUT", help="a page (.html), or JSON lines (.jsonl); default: stdout"
    )
    verb.add_argument(
        "--labelled",
        action="append",
        default=[],
        metavar="CORPUS",
        help="a labelled corpus: what is in it, or nearly so, is not suggested again; may be repeated",
    )
    _add_no_context(verb)
    _add_reading(verb)
    verb.set_defaults(run=_suggest)


def _add_serve(verbs: Any) -> None:
    verb = verbs.add_parser(
        "serve",
        help="open a page to try a model on, and an API",
        description="Answer on this machine: a page to paste an article into and see its topics, POST /api/predict, "
        "/healthz and /openapi.json. Ctrl-C or SIGTERM stops it; requests under way are finished first.",
    )
    _takes_bundle(verb)
    verb.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    verb.add_argument("--port", type=int, default=8000, metavar="N", help="default: 8000; 0 takes one that is free")
    verb.add_argument(
        "--max-bytes", type=_positive, default=2_000_000, metavar="N", help="largest request (default: 2 million)"
    )
    verb.set_defaults(run=_serve)


def _add_new(verbs: Any) -> None:
    verb = verbs.add_parser(
        "new",
        help="begin a project of your own",
        description="Make a folder with recipes, the training programs, the starter corpus and a README.",
    )
    verb.add_argument("folder", metavar="DIR", help="a folder that is new or empty")
    verb.set_defaults(run=_new)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _similarity(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.5 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0.5 to 1")
    return value


def find_bundle(bundle: str) -> str:
    """Return the folder of a bundle given by folder or by model URI; only the latter needs the tracking store."""
    if bundle.startswith(("models:/", "runs:/")):
        from duanti.tracking import resolve_model_uri

        return str(resolve_model_uri(bundle))
    return bundle


def load_model(bundle: str) -> TopicModel:
    """Load a bundle by folder or by model URI."""
    from duanti.model import TopicModel

    return TopicModel.load(find_bundle(bundle))


def _predict(options: argparse.Namespace) -> None:
    from duanti.predict import PredictOptions
    from duanti.readers import find_sources

    _refuse_unfit_engine(options)
    sources = find_sources(options.inputs, options.input_format)
    kind = _output_format(options, sources)
    reading = _reading(options, _kept(options, sources), raw_json=kind == "jsonl")
    predicting = PredictOptions(options.unit, options.top, options.jobs, options.context, options.summary)
    if kind == "table" or options.output is None or _is_stream(options.output):
        account = _predict_to_stream(options, sources, kind, reading, predicting)
    else:
        account = _predict_to_disk(options, sources, kind, reading, predicting)
    if options.report:
        from duanti.jobs import write_report

        write_report(options.report, account)


def _drift(options: argparse.Namespace) -> int:
    from duanti.drift import compare_profiles
    from duanti.errors import BundleError
    from duanti.jobs import Account, stream_job
    from duanti.predict import PredictOptions, profile_labelled
    from duanti.readers import find_sources

    model = load_model(options.bundle)
    reference = model.provenance.get("reference")
    if reference is None:
        raise BundleError(f"{options.bundle}: records nothing to compare with. Train it again with this duanti.")
    sources, account = find_sources(options.inputs, options.input_format), Account()
    predicting = PredictOptions(options.unit, 1, options.jobs, context=False)  # as what the bundle records
    labelled = stream_job(model, sources, _reading(options), predicting, account, _tell_reject)
    report = compare_profiles(reference, profile_labelled(model, labelled, rows=options.rows), model.spaces)
    if options.json:
        print(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        _print_drift(report)
    if account.rejected:
        print(f"duanti: {_balance(account)}", file=sys.stderr)
    return 3 if report.verdict == "drifted" else 0


def _print_drift(report: DriftReport) -> None:
    figures = _table("figure", "training", "now", "distance", "verdict")
    for drift in report.figures:
        before, now = ("" if share is None else f"{share:.3f}" for share in (drift.training, drift.now))
        figures.add_row(drift.figure.replace("_", " "), before, now, f"{drift.distance:.3f}", drift.verdict)
    topics = _table("topic", "training", "now")
    for topic, (before_share, now_share) in report.topics.items():
        topics.add_row(topic, f"{before_share:.3f}", f"{now_share:.3f}")
    _show(figures)
    _show(topics)


def _tell_reject(source: Source, reject: Reject) -> None:
    from duanti.jobs import describe

    print(f"duanti: rejected: {describe(source, reject)}", file=sys.stderr)


def _reading(options: argparse.Namespace, keep: tuple[str, ...] = (), *, raw_json: bool = False) -> ReadOptions:
    from duanti.readers import ReadOptions, check_encoding

    check_encoding(options.encoding)
    if options.text_column == options.document_column:
        raise UsageError("--text-column and --document-column are the same. Name two columns.")
    return ReadOptions(
        text_column=options.text_column,
        document_column=options.document_column,
        keep=keep,
        encoding=options.encoding,
        max_chars=options.max_chars,
        raw_json=raw_json,
    )


def _predict_to_disk(
    options: argparse.Namespace, sources: Sequence[Source], kind: str, reading: ReadOptions, predicting: PredictOptions
) -> Account:
    from duanti.bundle import bundle_digest
    from duanti.jobs import Job
    from duanti.model import TopicModel
    from duanti.predict import row_schema
    from duanti.progress import showing

    folder = find_bundle(options.bundle)
    model = TopicModel.load(folder)
    run = _engine(options, model, folder)
    job = Job(
        sources=sources,
        output=Path(options.output),
        is_folder=_is_folder(options, sources),
        kind=kind,
        bundle=bundle_digest(folder),
        columns=row_schema(model, summary=options.summary),
        reading=reading,
        options=predicting,
        strict=options.strict,
        restart=options.restart,
    )
    sizes = [source.n_bytes for source in sources]
    with showing(None if None in sizes else sum(filter(None, sizes))) as progress:
        account = run(job, progress)
    where = f" ({job.rejects})" if account.rejected else ""
    speed = f"{progress.seconds:,.1f} s, {account.rows / progress.seconds:,.0f} rows/s"
    print(f"duanti: {_balance(account)}{where}; {speed}", file=sys.stderr)
    return account


def _engine(options: argparse.Namespace, model: TopicModel, folder: str) -> Callable[[Job, Progress], Account]:
    if options.engine == "spark":
        from duanti.spark import run_job_on_spark

        return partial(run_job_on_spark, folder, master=options.master)
    from duanti.jobs import run_job

    return partial(run_job, model)


def _refuse_unfit_engine(options: argparse.Namespace) -> None:
    if options.engine != "spark" and options.master is not None:
        raise UsageError("--master is for --engine spark.")
    if options.engine == "spark" and (options.output is None or _is_stream(options.output)):
        raise UsageError("--engine spark writes a folder of parts, one for each input. Give -o a folder.")


def _predict_to_stream(
    options: argparse.Namespace, sources: Sequence[Source], kind: str, reading: ReadOptions, predicting: PredictOptions
) -> Account:
    from duanti.jobs import Account, output_schema, stream_job, strictly
    from duanti.predict import row_schema
    from duanti.writers import writing

    account, model = Account(), load_model(options.bundle)
    labelled = stream_job(model, sources, reading, predicting, account, strictly if options.strict else _tell_reject)
    if kind == "table":
        _print_labelled(labelled)
    else:
        schema = output_schema(row_schema(model, summary=options.summary), sources, reading)
        with ExitStack() as stack:
            file = stack.enter_context(open(options.output, "wb")) if options.output else sys.stdout.buffer  # noqa: PTH123
            writer = stack.enter_context(writing(kind, file, schema))
            for part in labelled:
                writer.write(part.batch)
    if account.rejected:
        print(f"duanti: {_balance(account)}", file=sys.stderr)
    return account


def _balance(account: Account) -> str:
    return f"{account.rows:,} rows read = {account.labelled:,} labelled + {account.rejected:,} rejected"


def _kept(options: argparse.Namespace, sources: Sequence[Source]) -> tuple[str, ...]:
    from duanti.predict import ROW_COLUMNS

    for name in options.keep:
        if name in ROW_COLUMNS:
            raise UsageError(f"--keep {name}: the output has a column of that name. Rename the input's.")
    if options.keep and not all(source.is_table for source in sources):
        raise UsageError("--keep is for tables; documents have no columns.")
    return tuple(dict.fromkeys(options.keep))


def _output_format(options: argparse.Namespace, sources: Sequence[Source]) -> str:
    """The format asked for, else OUTPUT's ending's, else a table for a terminal, else the input's."""
    from duanti.corpus import FORMATS
    from duanti.writers import OUTPUT_ENDINGS

    if options.format is not None:
        if options.format == "table" and options.output is not None:
            raise UsageError("--format table is for the terminal. Choose jsonl, csv, tsv or parquet for a file.")
        return str(options.format)
    if options.output is None and sys.stdout.isatty():
        return "table"
    if options.output is not None and not _is_folder(options, sources):
        kind = FORMATS.get(Path(options.output).suffix.lower())
        if kind not in OUTPUT_ENDINGS:
            raise UsageError(
                f"{options.output}: cannot tell the format from its ending. Use .jsonl, .csv, .tsv or .parquet, "
                "or --format."
            )
        return str(kind)
    kinds = {source.kind if source.is_table else "jsonl" for source in sources}
    if len(kinds) > 1:
        raise UsageError(f"the inputs are of several formats ({', '.join(sorted(kinds))}). Choose one with --format.")
    return kinds.pop()


def _is_folder(options: argparse.Namespace, sources: Sequence[Source]) -> bool:
    """Whether the output is to be a folder of parts: it is one, or looks like one where there are many inputs."""
    from duanti.corpus import FORMATS

    path = Path(options.output)
    if path.is_dir() or options.output.endswith(os.sep):
        return True
    many = len(sources) > 1 or any(Path(name).is_dir() for name in options.inputs) or options.engine == "spark"
    return many and path.suffix.lower() not in FORMATS


def _is_stream(output: str) -> bool:
    """Whether it is a pipe or a device, which cannot be written beside and renamed."""
    path = Path(output)
    return path.exists() and not path.is_file() and not path.is_dir()


def _evaluate(options: argparse.Namespace) -> None:
    from duanti.corpus import read_corpus
    from duanti.evaluation import evaluate

    model = load_model(options.bundle)
    corpus = read_corpus(
        options.labelled,
        text=options.text_column,
        topic=options.topic_column,
        document=options.document_column,
        encoding=options.encoding,
        multi_label=model.is_multi_label,
    )
    report = evaluate(model, corpus, context=options.context)
    if options.json:
        print(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        print_report(report)


def _inspect(options: argparse.Namespace) -> None:
    model = load_model(options.bundle)
    top_terms = model.top_terms(options.terms)
    if options.json:
        facts = {
            **model.provenance,
            "topics": list(model.topics),
            "terms": model.n_terms,
            **({"thresholds": _thresholds(model)} if model.is_multi_label else {}),
            "top_terms": top_terms,
        }
        print(json.dumps(facts, ensure_ascii=False))
        return
    _print_provenance(model)
    thresholds = _thresholds(model)
    table = _table("topic", *(["threshold"] if thresholds else []), "terms that speak for it most")
    for topic, terms in top_terms.items():
        table.add_row(topic, *([f"{thresholds[topic]:.3f}"] if thresholds else []), "  ".join(terms))
    _show(table)


def _thresholds(model: TopicModel) -> dict[str, float]:
    """From which probability on a text has each topic; empty where it has just one."""
    return {} if model.thresholds is None else dict(zip(model.topics, model.thresholds.tolist(), strict=True))


def _explain(options: argparse.Namespace) -> None:
    from duanti.jobs import Account, stream_job
    from duanti.overview import view_labelled
    from duanti.predict import PredictOptions
    from duanti.readers import find_sources
    from duanti.terminal import draw_overview

    if options.output:
        _require("jinja2", "duanti explain -o needs Jinja2", "serve")
    model, sources = load_model(options.bundle), find_sources(options.inputs, options.input_format)
    predicting = PredictOptions(options.unit, options.top, options.jobs, options.context)
    labelled = stream_job(model, sources, _reading(options), predicting, Account(), _tell_reject)
    overviews = view_labelled(model, labelled)
    if options.output:
        from duanti.pages import explanation_page

        told = [overview.as_dict() for overview in overviews]
        name = str(model.provenance.get("name", ""))
        write_whole(Path(options.output), [explanation_page(told, model.topics, name)])
        return
    for overview in overviews:
        if options.json:
            print(json.dumps(overview.as_dict(), ensure_ascii=False))
        else:
            _show(draw_overview(overview, options.terms))


def _suggest(options: argparse.Namespace) -> None:
    from duanti.corpus import read_corpus
    from duanti.jobs import Account, stream_job
    from duanti.predict import PredictOptions
    from duanti.readers import find_sources
    from duanti.suggestion import RANKED, always_deciding, suggest

    ending = Path(options.output).suffix.lower() if options.output else ".jsonl"
    if ending not in (".html", ".jsonl"):
        raise UsageError(f"{options.output}: cannot tell what to write from its ending. Use .html or .jsonl.")
    if ending == ".html":
        _require("jinja2", "duanti suggest -o PAGE.html needs Jinja2", "serve")
    model, sources, account = load_model(options.bundle), find_sources(options.inputs, options.input_format), Account()
    known = [text for path in options.labelled for text in read_corpus(path).texts]
    predicting = PredictOptions(options.unit, RANKED, options.jobs, options.context)
    labelled = stream_job(always_deciding(model), sources, _reading(options), predicting, account, _tell_reject)
    told = [each.as_dict() for each in suggest(model, labelled, options.n, known, options.jobs)]
    if ending == ".html":
        from duanti.pages import labelling_page

        write_whole(Path(options.output), [labelling_page(told, model.topics, str(model.provenance.get("name", "")))])
    elif options.output:
        _write_lines(Path(options.output), told)
    else:
        for each in told:
            print(json.dumps(each, ensure_ascii=False))
    summary = f"{len(told):,} of {account.output_rows:,} texts suggested"
    print(f"duanti: {summary}" + (f"; {_balance(account)}" if account.rejected else ""), file=sys.stderr)


def _serve(options: argparse.Namespace) -> None:
    for package, name in (("fastapi", "FastAPI"), ("uvicorn", "uvicorn"), ("jinja2", "Jinja2")):
        _require(package, f"duanti serve needs {name}", "serve")
    from duanti.server import serve

    model = load_model(options.bundle)
    told = f"model {model.provenance.get('name', '')}, {len(model.topics)} topics; Ctrl-C stops it"

    def announce(address: str) -> None:
        print(f"duanti: {address}  {told}", file=sys.stderr, flush=True)

    serve(model, options.host, options.port, options.max_bytes, announce)


def _new(options: argparse.Namespace) -> None:
    from duanti.scaffold import new_project

    folder = new_project(options.folder)
    print(f"{folder}: ready. Next: cd {shlex.quote(str(folder))} && python train/fit.py configs/starter.yaml")


def _require(package: str, need: str, extra: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise UsageError(f"{need}. Install duanti[{extra}].")


def _check(options: argparse.Namespace) -> None:
    from rich.console import Console

    from duanti.corpus import Scan, scan_corpus

    _require("sklearn", "duanti check needs scikit-learn", "train")
    inputs = [Path(path) for path in (options.labelled, options.against) if path]
    if options.output and Path(options.output).resolve() in [path.resolve() for path in inputs]:
        raise UsageError(f"-o {options.output}: that is what is to be checked. Name another file.")
    from duanti.audit import audit

    def scan(path: Path) -> Scan:
        return scan_corpus(
            path,
            text=options.text_column,
            topic=options.topic_column,
            document=options.document_column,
            encoding=options.encoding,
            multi_label=options.multi_label,
        )

    with Console(stderr=True).status("reading") as status:
        scans = [scan(path) for path in inputs]
        found = audit(*scans, threshold=options.threshold, n_jobs=options.jobs, progress=status.update)
    if options.output:
        _write_lines(Path(options.output), (finding.as_dict() for finding in found.findings))
    if options.json:
        print(json.dumps(found.as_dict(options.top), ensure_ascii=False))
    else:
        _print_audit(found, options.top)


def _write_lines(path: Path, objects: Iterable[dict[str, Any]]) -> None:
    """Write objects as JSON lines."""
    write_whole(path, (json.dumps(each, ensure_ascii=False) + "\n" for each in objects))


def write_whole(path: Path, pieces: Iterable[str]) -> None:
    """Write a file whole or not at all."""
    beside = path if _is_stream(str(path)) else path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.writelines(pieces)
        if beside != path:
            beside.replace(path)
    except OSError as error:
        if beside != path:
            beside.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror or error}).") from None


def _print_audit(found: Audit, top: int) -> None:
    """Print what was found: the corpora, what rests on duplicates, and the first findings of each kind."""
    from duanti.audit import KINDS, imbalance

    corpora = _table("corpus", "rows", "documents", "topics", "largest : smallest topic")
    for corpus in found.corpora:
        documents, topics = len(set(corpus.groups)), len(corpus.topic_counts)
        figures = (f"{len(corpus):,}", f"{documents:,}", f"{topics:,}", f"{imbalance(corpus):,.1f}")
        corpora.add_row(corpus.name, *figures)
    _show(corpora)
    print()
    if found.leakage or found.reliance:
        _show(_reliance_table(found))
        print()
    kinds = _table("finding", "count", "meaning")
    for kind, findings in found.by_kind.items():
        kinds.add_row(kind, f"{len(findings):,}", KINDS[kind])
    _show(kinds if found.findings else _table("nothing found"))
    for kind, findings in found.by_kind.items():
        print()
        table = _table(kind, "topic", "what", "text")
        for finding in findings[:top]:
            place, what = Path(finding.place).name, _shorten(finding.what, 45)
            table.add_row(place, finding.topic or "–", what, _shorten(finding.text or "", 40))
        _show(table)


def _reliance_table(found: Audit) -> Any:
    """What a test set shares with the training set, and how much of the accuracy that is."""
    table = _table("rows", "count", "accuracy")
    leakage, reliance = found.leakage, found.reliance
    if leakage:
        table.add_row("the same text on both sides", f"{leakage.exact:,}", "")
        table.add_row("nearly the same, or the same", f"{leakage.near:,}", "")
        table.add_row("… and with another topic there", f"{leakage.contradicting:,}", "")
        table.add_row("documents on both sides", f"{leakage.documents:,}", "")
    if reliance:
        measured = "tested on" if leakage else "out of fold"
        others = reliance.rows - reliance.duplicated_rows
        table.add_row(measured, f"{reliance.rows:,}", _share(reliance.accuracy))
        table.add_row(
            "… with a near duplicate learnt from", f"{reliance.duplicated_rows:,}", _share(reliance.duplicated_accuracy)
        )
        table.add_row("… the others", f"{others:,}", _share(reliance.other_accuracy))
        if not leakage:
            apart = _share(reliance.apart_accuracy)
            table.add_row("out of fold, no near duplicate learnt from", f"{reliance.rows:,}", apart)
    return table


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _print_provenance(model: TopicModel) -> None:
    facts = _table("", "")
    facts.show_header = False
    corpus = model.provenance.get("corpus", {})
    metrics = model.provenance.get("metrics", {})
    recipe = model.provenance.get("recipe", {})
    facts.add_row(
        "model",
        f"{model.provenance.get('name', '')}, {len(model.topics)} topics, {model.n_terms:,} terms",
    )
    if model.is_multi_label:
        facts.add_row("decides", "multi-label: a text has each topic from the topic's threshold on; several, or none")
    facts.add_row("classifier", "  ".join(f"{key}={value}" for key, value in recipe.get("classifier", {}).items()))
    facts.add_row("features", "  ".join(f"{key}={value}" for key, value in recipe.get("features", {}).items()))
    if corpus:
        counts = f"{corpus['rows']:,} rows in {corpus['documents']:,} documents, SHA-256 {corpus['digest'][:16]}…"
        facts.add_row("trained on", f"{corpus['name']}: {counts}")
    if metrics:
        micro = f", micro-F1 {metrics['micro_f1']:.4f}" if "micro_f1" in metrics else ""
        figures = (
            f"accuracy {metrics['accuracy']:.4f}, macro-F1 {metrics['macro_f1']:.4f}{micro}, {metrics['rows']:,} rows"
        )
        facts.add_row("tested on", f"{metrics['corpus']}: {figures}")
    _show(facts)


def print_report(report: Report, alone: Report | None = None, *, to_stderr: bool = False) -> None:
    """Print the figures of an evaluation as tables for a terminal; ``alone`` are those without context."""
    from duanti.evaluation import MultiLabelReport

    if isinstance(report, MultiLabelReport):
        summary = _summary_of_sets(report)
    else:
        summary = _summary({"in context": report, "alone": alone} if alone else {"": report})
    _show(summary, to_stderr=to_stderr)
    topics = _table("topic", "precision", "recall", "F1", *(["F1 alone"] if alone else []), "rows")
    for topic, of_topic in report.topics.items():
        shares = [of_topic.precision, of_topic.recall, of_topic.f1]
        if alone:
            shares.append(alone.topics[topic].f1 if topic in alone.topics else 0.0)
        topics.add_row(topic, *(f"{share:.3f}" for share in shares), f"{of_topic.rows:,}")
    _show(topics, to_stderr=to_stderr)


def _summary(views: dict[str, Report]) -> Any:
    summary = _table("rows", "", "accuracy", "macro-F1", "calibration error", "Pk", "WindowDiff", "without topic")
    for view, figures in views.items():
        boundaries = (figures.boundary_error, figures.window_difference)
        summary.add_row(
            f"{figures.rows:,}",
            view,
            _with_interval(figures.accuracy, figures.accuracy_interval),
            _with_interval(figures.macro_f1, figures.macro_f1_interval),
            f"{figures.expected_calibration_error:.4f}",
            *("" if error is None else f"{error:.3f}" for error in boundaries),
            f"{figures.without_topic:,}",
        )
    return summary


def _summary_of_sets(report: MultiLabelReport) -> Any:
    """The figures of texts that may have several topics, one below the other."""
    summary = _table(f"{report.rows:,} rows", "")
    summary.add_row("micro-F1", _with_interval(report.micro_f1, report.micro_f1_interval))
    summary.add_row("macro-F1", _with_interval(report.macro_f1, report.macro_f1_interval))
    summary.add_row("F1 of a row, mean", _with_interval(report.sample_f1, report.sample_f1_interval))
    summary.add_row("exactly right (accuracy)", _with_interval(report.accuracy, report.accuracy_interval))
    for name, share in (
        ("Hamming loss", report.hamming_loss),
        ("precision at 1", report.precision_at_1),
        ("precision at 3", report.precision_at_3),
        ("nDCG", report.ndcg),
        ("calibration error", report.expected_calibration_error),
    ):
        summary.add_row(name, f"{share:.4f}")
    summary.add_row("without topic", f"{report.without_topic:,}")
    return summary


def _with_interval(share: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{share:.4f} [{low:.4f}, {high:.4f}]"


def _print_labelled(labelled: Iterable[Labelled]) -> None:
    """The readable table: each paragraph with its topics and the beginning and end of its text."""
    table = _table("document", "¶", "kind", "topic", "probability", "next", "text")
    for part in labelled:
        for row, text in zip(part.batch.to_pylist(), part.texts.to_pylist(), strict=True):
            others = "  ".join(f"{other['topic']} {other['probability']:.2f}" for other in row["alternatives"])
            probability = "" if row["probability"] is None else f"{row['probability']:.2f}"
            topic, shown = "|".join(row.get("topics") or [row["topic"] or "–"]), _shorten(text or "")
            table.add_row(row["document"], str(row["paragraph"]), row["kind"], topic, probability, others, shown)
    _show(table)


def _shorten(text: str, length: int = 20) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[: length - 6]}…{flat[-5:]}"


def _table(*columns: str) -> Any:
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)


def _show(table: Any, *, to_stderr: bool = False) -> None:
    from rich.console import Console

    # Without a terminal there is no width to fit into; cells come from data, so markup in them is text.
    Console(
        stderr=to_stderr,
        markup=False,
        emoji=False,
        highlight=False,
        width=None if sys.stdout.isatty() else 120,
    ).print(table)


if __name__ == "__main__":
    sys.exit(main())
