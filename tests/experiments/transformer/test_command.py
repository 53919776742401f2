"""The whole program on sequences: what a run leaves, scoring it again, translating by it, stopping in its middle."""

import gzip
import json
import math
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from forks import live
from helpers import (
    PROGRAM,
    Finished,
    Program,
    Result,
    assert_fails,
    document_of,
    environment,
    finished,
    on_terminal,
    outcome,
    rows_of,
)

from mlpx.experiments.transformer.settings import FILES, TransformerSettings
from mlpx.settings.metrics import final

pytestmark = pytest.mark.program

PROMISED = {
    *(
        "attention.png",
        "checkpoints",
        "claims",
        "config.toml",
        "lock",
        "loss.png",
        "metrics.csv",
        "run.json",
        "translations.txt",
    ),
    "weights.safetensors",
}
TINY = ("--num-layers", "1", "--num-heads", "2", "--warmup-steps", "2", "--lr", "0.02")
REVERSE = (
    *("transformer", "--num-train", "200", "--d-model", "16", "--d-ff", "32", "--epochs", "4", "--eval-every", "3"),
    *("--schedule", "inverse-sqrt", *TINY),
)
TEXT = (
    *("transformer", "--task", "text", "--vocab-size", "60", "--d-model", "32", "--d-ff", "64", "--batch-size", "32"),
    *("--warmup-steps", "10", "--lr", "0.01", "--num-layers", "1", "--num-heads", "2"),
)
STOPPED = (
    *(*TEXT, "--epochs", "5", "--dropout", "0.1", "--average-last", "2"),
    *("--schedule", "inverse-sqrt"),
)
FIGURES = ["test_loss", "test_perplexity"]
PNG = b"\x89PNG\r\n\x1a\n"


class Example(NamedTuple):
    """Of translations.txt."""

    source: str
    reference: str
    output: str


def write_corpus(folder: Path) -> tuple[str, ...]:
    """Pairs of a language of thirty words and its translation word by word: the options that name the files."""
    words = [consonant + vowel for consonant in "bdfgkl" for vowel in "aeiou"]
    translations = [words[(7 * i + 3) % 30] + "n" for i in range(30)]
    options = []
    numbers = np.random.default_rng(0)
    for part, count in (("train", 200), ("val", 25), ("test", 40)):
        sentences = [numbers.integers(30, size=length) for length in numbers.integers(2, 8, size=count)]
        for side, vocabulary in (("src", words), ("tgt", translations)):
            text = "".join(" ".join(vocabulary[i] for i in sentence) + "\n" for sentence in sentences).encode()
            path = folder / f"{part}.{side}{'.gz' if (part, side) == ('train', 'tgt') else ''}"
            path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
            options += [f"--{part}-{side}", str(path)]
    return tuple(options)


def examples_of(run: Path) -> list[Example]:
    blocks = (run / "translations.txt").read_text().removesuffix("\n").split("\n\n")
    examples = []
    for block in blocks:
        found = re.fullmatch(r"source:    (.*)\nreference: (.*)\noutput:    (.*)", block)
        assert found is not None, block
        examples.append(Example(*found.groups()))
    return examples


def translated(run: Path) -> dict[str, str]:
    """The output for each source, as the run itself has it."""
    return {example.source: example.output for example in examples_of(run)}


def names_of(settings: TransformerSettings) -> set[str]:
    """The metrics that a finished run of these settings has."""
    return {metric.name for metric in final(settings.metrics, replicas=1)}


def copied(run: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    return copy


@pytest.fixture(scope="module")
def reverse(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished(REVERSE, tmp_path_factory.mktemp("reverse"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run on files of sentences named as they are in their folder, those to train on being gone since."""
    folder = tmp_path_factory.mktemp("text")
    names = [option.removeprefix(f"{folder}/") for option in write_corpus(folder)]
    run = finished((*TEXT, *names, "--epochs", "10"), folder)
    for path in folder.glob("train.*"):
        path.unlink()
    return run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, corpus: tuple[str, ...]) -> Finished:
    return finished((*STOPPED, *corpus), tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def poly(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished(("poly", "--epochs", "20"), tmp_path_factory.mktemp("poly"))


# What a run leaves


@pytest.mark.smoke
def test_a_run_on_numbers_leaves_exactly_the_promised_files(reverse: Finished) -> None:
    run, result = reverse
    assert result.err == ""
    assert {path.name for path in run.iterdir()} == PROMISED
    assert run.name.endswith("-transformer-reverse")
    header = "epoch,step,train_loss,val_loss,test_loss,val_perplexity,val_exactness,tokens_per_second,lr,seconds\n"
    assert (run / "metrics.csv").read_text().startswith(header)
    assert [row["epoch"] for row in rows_of(run)] == ["1", "3", "4"]
    for path in run.glob("*.png"):
        assert path.read_bytes().startswith(PNG)

    document = reverse.document
    metrics = document["metrics"]
    assert set(metrics) == names_of(TransformerSettings())
    assert {"test_exactness", "longer_exactness"} <= set(metrics)
    assert metrics["test_perplexity"] == pytest.approx(math.exp(metrics["test_loss"]))
    assert metrics["val_perplexity"] == pytest.approx(math.exp(metrics["val_loss"]))
    assert document["weights"] in {f"epoch {epoch}" for epoch in (1, 3, 4)}
    assert "bleu_signature" not in document
    assert f"weights of {document['weights']}, the best in validation" in result.out


def test_the_examples_are_twenty_of_the_test_set(reverse: Finished, text: Finished) -> None:
    for example in (examples := examples_of(reverse.path)):
        assert example.reference.split() == example.source.split()[::-1]
    assert len(examples) == 20
    folder = text.path.parent.parent
    sides = [(folder / f"test.{side}").read_text().splitlines()[:20] for side in ("src", "tgt")]
    assert [(example.source, example.reference) for example in examples_of(text.path)] == list(zip(*sides, strict=True))
    assert len({example.output for example in examples_of(text.path)}) > 10  # or the tests below would see no order


def test_a_run_on_files_of_sentences_keeps_its_vocabulary_and_says_how_bleu_was_computed(text: Finished) -> None:
    run, result = text
    assert result.err == ""
    assert {path.name for path in run.iterdir()} == PROMISED | {"sentencepiece.model"}
    assert run.name.endswith("-transformer-text")
    header = "epoch,step,train_loss,val_loss,test_loss,val_perplexity,val_bleu,tokens_per_second,lr,seconds\n"
    assert (run / "metrics.csv").read_text().startswith(header)
    document = text.document
    metrics = document["metrics"]
    names = names_of(TransformerSettings.model_validate({"task": "text", **dict.fromkeys(FILES, "x")}))
    assert set(metrics) == names
    assert "test_bleu" in names
    assert re.match(r"nrefs:1\|case:mixed\|eff:no\|tok:13a\|smooth:exp\|version:", document["bleu_signature"])
    assert f"BLEU {metrics['test_bleu']:.2f} on the test set" in result.out


def test_the_weights_kept_are_those_of_the_row_that_validates_best(text: Finished) -> None:
    rows = rows_of(text.path)
    best = min(rows, key=lambda row: float(row["val_loss"]))
    document = text.document
    metrics = document["metrics"]
    assert document["weights"] == f"epoch {best['epoch']}"
    assert metrics["test_loss"] == pytest.approx(float(best["test_loss"]), rel=1e-6)
    for name in ("val_bleu", "val_loss", "val_perplexity"):
        assert metrics[name] == float(best[name]), name


def test_config_repeats_a_run_exactly(reverse: Finished, program: Program) -> None:
    run = reverse.path
    again = Path(program("transformer", "--config", str(run / "config.toml"), "--quiet").out.strip())
    assert outcome(again) == outcome(run)
    assert (again / "config.toml").read_bytes() == (run / "config.toml").read_bytes()
    assert (again / "translations.txt").read_bytes() == (run / "translations.txt").read_bytes()


# Scoring it again


def test_test_bleu_is_what_sacrebleus_own_command_gives(text: Finished, program: Program, tmp_path: Path) -> None:
    run = text.path
    folder = run.parent.parent
    sources = (folder / "test.src").read_bytes()
    result = program("translate", str(run), given=sources)
    assert (result.code, result.err) == (0, "")
    lines = result.out.split("\n")
    expected = translated(run)
    assert lines[: len(expected)] == list(expected.values())
    (tmp_path / "outputs").write_text(result.out)
    command = [sys.executable, "-m", "sacrebleu", str(folder / "test.tgt"), "-i", "outputs", "-m", "bleu", "-b"]
    done = subprocess.run([*command, "-w", "10"], cwd=tmp_path, capture_output=True, text=True)
    score = float(done.stdout)
    print(f"\nsacrebleu {score}, recorded {text.document['metrics']['test_bleu']}")
    assert score > 0
    assert score == round(text.document["metrics"]["test_bleu"], 10)


def assert_reproduces(result: Result, run: Path, *names: str) -> None:
    assert (result.code, result.err) == (0, "")
    (line,) = result.out.splitlines()
    event = json.loads(line)
    assert (event["event"], event["run"]) == ("evaluation", str(run))
    assert list(event["metrics"]) == [*FIGURES, *names]
    recorded = document_of(run)["metrics"]
    assert event["metrics"] == event["recorded"] == {name: recorded[name] for name in event["metrics"]}


def test_evaluate_reproduces_the_recorded_figures_exactly(reverse: Finished, text: Finished, program: Program) -> None:
    run = reverse.path
    result = program("evaluate", "latest", "--json", cwd=run.parent.parent)
    assert_reproduces(result, run, "test_exactness", "longer_exactness")
    result = program("evaluate", str(text.path), "--json")  # the files that it was trained on are gone
    assert_reproduces(result, text.path, "test_bleu")


def test_evaluate_on_other_files_has_other_figures_and_compares_nothing(
    text: Finished, reverse: Finished, program: Program
) -> None:
    run = text.path
    other = [str(run.parent.parent / f"val.{side}") for side in ("src", "tgt")]
    result = program("evaluate", str(run), "--test-src", other[0], "--test-tgt", other[1], "--json")
    assert (result.code, result.err) == (0, "")
    event = json.loads(result.out)
    assert event["recorded"] is None
    metrics = text.document["metrics"]
    # the validation set, on which these weights have known figures
    assert event["metrics"]["test_loss"] == pytest.approx(metrics["val_loss"], rel=1e-6)
    assert event["metrics"]["test_bleu"] == pytest.approx(metrics["val_bleu"], rel=1e-6)
    assert event["metrics"]["test_bleu"] != metrics["test_bleu"]
    refused = program("evaluate", str(reverse.path), "--test-src", other[0])
    assert_fails(refused, 2, "--test-src", "reverse")


def test_evaluate_notices_other_weights(
    text: Finished, reverse: Finished, undisturbed: Finished, program: Program, tmp_path: Path
) -> None:
    copy = copied(text.path, tmp_path)
    weights = copy / "weights.safetensors"
    weights.write_bytes((undisturbed.path / weights.name).read_bytes())
    result = program("evaluate", str(copy))
    assert_fails(result, 3, "test_loss is ", " and was ", str(text.document["metrics"]["test_loss"]))
    assert "as recorded" not in result.out
    weights.write_bytes((reverse.path / weights.name).read_bytes())
    assert_fails(program("evaluate", str(copy)), 5, weights.name, "shape (32,)", "shape (64,)")


def test_a_vocabulary_that_is_broken_or_gone_is_5(text: Finished, program: Program, tmp_path: Path) -> None:
    copy = copied(text.path, tmp_path)
    model = copy / "sentencepiece.model"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    assert_fails(program("evaluate", str(copy)), 5, "broken")
    model.unlink()
    assert_fails(program("translate", str(copy), "ba"), 5, "sentencepiece.model")


# Translating by it


@pytest.mark.parametrize("task", ["reverse", "text"])
def test_translate_gives_exactly_a_line_for_each_line_in_order(
    task: str, reverse: Finished, text: Finished, program: Program
) -> None:
    run = {"reverse": reverse, "text": text}[task].path
    expected = list(translated(run).items())
    known = [source.encode() for source, _ in expected]
    lines: dict[bytes, str | None] = {  # and what is to come out, None for anything
        known[0]: expected[0][1],
        b"": "",
        known[1] + b"\r": expected[1][1],
        b"99 hello": None,
        b" \t ": "",
        b"\xff\xfe " + known[2]: None,
        known[3]: expected[3][1],
        "1 2\u2028ba be\x0b3\x85ba".encode(): None,
        known[4].replace(b" ", b"  ") + b" ": expected[4][1],
        b"ba 3\x00": None,
        b"\r": "",
        b"ba 3 \xe2\x82": None,
        b"1 ba " * 5000: None,
        known[5]: expected[5][1],
    }
    result = program("translate", str(run), given=b"\n".join(lines))  # the last has no end
    assert result.code == 0
    assert result.out.count("\n") == len(lines)
    for (line, wanted), found in zip(lines.items(), result.out.split("\n"), strict=False):
        assert wanted is None or found == wanted, line[:50]
    number = len(lines) - 1
    assert result.err == f"warning: line {number} is too long: only its first 1024 words were read\n"


def test_translate_of_nothing_is_nothing(text: Finished, program: Program) -> None:
    run = str(text.path)
    assert program("translate", run, given=b"") == Result(0, "", "")
    shell = f"{shlex.join([*PROGRAM, 'translate', run])} <&-"
    closed = subprocess.run(["bash", "-c", shell], env=environment(), capture_output=True, text=True)
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, "", "")


def test_translate_answers_each_line_before_the_next_is_written(text: Finished) -> None:
    command = [*PROGRAM, "translate", str(text.path)]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for source, output in list(translated(text.path).items())[:5]:
                process.stdin.write(source + "\n")
                process.stdin.flush()
                ready, _, _ = select.select([process.stdout], [], [], 30)
                assert ready, f"no answer to {source!r}"
                assert process.stdout.readline() == output + "\n"
            process.stdin.close()
            assert process.stdout.read() == ""
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_translate_speaks_json_lines(reverse: Finished, program: Program) -> None:
    run = reverse.path
    sources = [*list(translated(run))[:6], "99 hello", ""]
    scores = {}
    for penalty in ("0", "1"):
        result = program("translate", str(run), *sources, "--json", "--length-penalty", penalty)
        assert (result.code, result.err) == (0, "")
        events = [json.loads(line) for line in result.out.splitlines()]
        assert [set(event) for event in events] == [{"event", "source", "translation", "score"}] * len(sources)
        assert {event["event"] for event in events} == {"translation"}
        assert [event["source"] for event in events] == sources
        scores[penalty] = [event["score"] for event in events]
        outputs = [event["translation"] for event in events]
        assert outputs[:6] == [translated(run)[source] for source in sources[:6]]
    assert (outputs[-1], scores["1"][-1]) == ("", 0)
    for output, sum_of, mean_of in list(zip(outputs, scores["0"], scores["1"], strict=True))[:6]:
        assert sum_of < 0
        assert sum_of / mean_of == pytest.approx(len(output.split()) + 1)  # the word that ends it counts too


def test_translate_by_a_wider_beam_finds_likelier_translations(text: Finished, program: Program) -> None:
    sources = list(translated(text.path))

    def found(*options: str) -> tuple[list[str], float]:
        result = program("translate", str(text.path), *sources, "--length-penalty", "0", "--json", *options)
        assert (result.code, result.err) == (0, "")
        events = [json.loads(line) for line in result.out.splitlines()]
        return [event["translation"] for event in events], sum(event["score"] for event in events)

    (greedy, likelihood), (beam, better) = found(), found("--beam", "4")
    print(f"\nlog-probabilities of {len(sources)} translations: greedy {likelihood:.2f}, of beam 4 {better:.2f}")
    assert greedy == list(translated(text.path).values())
    assert beam != greedy
    assert better > likelihood


def test_translate_gives_a_line_for_each_argument_in_order_and_draws_attention(
    text: Finished, program: Program, tmp_path: Path
) -> None:
    expected = translated(text.path)
    sources = list(reversed(expected))
    folder = text.path.parent.parent
    drawn = program("translate", "latest", "", *sources, "--attention", str(tmp_path / "a.png"), cwd=folder)
    assert (drawn.code, drawn.err) == (0, "")
    assert drawn.out.split("\n") == ["", *(expected[source] for source in sources), ""]
    picture = (tmp_path / "a.png").read_bytes()
    assert picture.startswith(PNG)
    from_stdin = program("translate", str(text.path), "--attention", "b.png", given=f"\n{sources[0]}\n".encode())
    assert from_stdin.code == 0
    assert (tmp_path / "b.png").read_bytes() == picture  # of the first line that is not blank
    blank = program("translate", str(text.path), " ", "--attention", "c.png")
    assert_fails(blank, 2, "--attention")
    assert not (tmp_path / "c.png").exists()


def test_translate_refuses_what_has_not_learned_to(
    poly: Finished, reverse: Finished, program: Program, tmp_path: Path
) -> None:
    result = program("translate", str(poly.path), "1 2")
    assert_fails(result, 2, "translate", "a run of poly")
    assert result.out == ""
    copy = copied(reverse.path, tmp_path)
    (copy / "weights.safetensors").unlink()
    assert_fails(program("translate", str(copy), "1 2"), 5, "weights.safetensors", "mlpx resume")


def test_translate_is_quiet_when_its_reader_leaves(text: Finished, tmp_path: Path) -> None:
    source, output = next(iter(translated(text.path).items()))
    (tmp_path / "many").write_text(f"{source}\n" * 10_000)
    line = f"{shlex.join([*PROGRAM, 'translate', str(text.path)])} < many | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{output}\n0\n", "")


# Settings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--d-model 16 --num-heads 3", ["--num-heads: 3", "divides d_model", "16"]),
        ("--num-heads 128", ["--num-heads: 128", "divides d_model", "64"]),
        ("--d-model 15 --num-heads 3", ["--d-model: 15", "even"]),
        ("--config my.toml", ["my.toml: num_heads: 3", "divides d_model", "16"]),
        ("--task text", ["--train-src", "file of sentences"]),
        ("--task text --train-src a --train-tgt b --val-tgt d", ["--val-src", "file of sentences"]),
        ("--task reverse --test-tgt d", ["--test-tgt: 'd'", "--task text"]),
        ("--train-src a", ["--train-src: 'a'", "--task text"]),
        ("--task sort", ["sort", "reverse", "text"]),
        ("--average-last 0", ["--average-last", "0"]),
        ("--label-smoothing 1", ["--label-smoothing", "1", "0.99"]),
    ],
)
def test_settings_that_cannot_be_used_are_2(
    program: Program, tmp_path: Path, arguments: str, words: Sequence[str]
) -> None:
    (tmp_path / "my.toml").write_text("d_model = 16\nnum_heads = 3\n")
    assert_fails(program("transformer", *arguments.split()), 2, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["my.toml"]


def test_only_a_run_whose_steps_would_be_the_same_can_be_extended(
    reverse: Finished, text: Finished, undisturbed: Finished, program: Program
) -> None:
    first = Path(program(*REVERSE, "--epochs", "2", "--quiet").out.strip())
    assert [row["epoch"] for row in rows_of(first)] == ["1", "2"]
    assert program("resume", str(first), "--epochs", "4").code == 0
    assert outcome(first) == outcome(reverse.path)
    assert document_of(first)["weights"] == reverse.document["weights"]
    for run, why in ((text, "learning rates"), (undisturbed, "mean of its weights")):
        before = (run.path / "config.toml").read_bytes()
        assert_fails(program("resume", str(run.path), "--epochs", "20"), 2, "--epochs", why)
        assert (run.path / "config.toml").read_bytes() == before


# Stopping in its middle


def newest_checkpoint(run: Path) -> tuple[int, int]:
    """The epochs done, and the steps of the next one."""
    names = [re.match(r"epoch(\d+)-step(\d+)-", path.name) for path in (run / "checkpoints").glob("*.pt")]
    return max(((int(name[1]), int(name[2])) for name in names if name), default=(0, 0))


def killed_within_an_epoch(arguments: Sequence[str], folder: Path) -> Path:
    """The run of that command, killed when its newest checkpoint was of a step within its third epoch or a later one.

    It is held up before it is looked at, so that it cannot go on meanwhile.
    """
    run = folder / "runs" / "latest"
    with live([*arguments, "--checkpoint-every", "0"], folder, environment()) as process:
        while newest_checkpoint(run) < (2, 3):
            assert process.returncode is None
            time.sleep(0.005)
        process.send_signal(signal.SIGSTOP)
        while newest_checkpoint(run)[1] in (0, 7):  # between epochs
            process.send_signal(signal.SIGCONT)
            time.sleep(0.005)
            assert process.returncode is None
            process.send_signal(signal.SIGSTOP)
    assert process.returncode == -signal.SIGKILL
    return run.resolve()


def test_a_killed_run_goes_on_to_the_same_bits_and_knows_its_pairs(
    undisturbed: Finished, corpus: tuple[str, ...], program: Program, tmp_path: Path
) -> None:
    run = killed_within_an_epoch((*STOPPED, *corpus), tmp_path)
    epoch, step = newest_checkpoint(run)
    print(f"\nkilled {step} steps after epoch {epoch} of 5")
    assert step > 0
    assert_fails(program("translate", "latest", "ba"), 5, "mlpx resume")

    for option in ("--train-src", "--val-src", "--test-tgt"):
        file = Path(corpus[corpus.index(option) + 1])
        content = file.read_bytes()
        try:
            file.write_bytes(content.replace(b"a", b"e", 1))
            changed = program("resume", "latest")
        finally:
            file.write_bytes(content)
        assert_fails(changed, 5)
        assert newest_checkpoint(run) == (epoch, step)

    assert program("resume", "latest").code == 0
    assert outcome(run) == outcome(undisturbed.path)
    assert document_of(run)["resumed_from_epoch"] == [epoch]
    assert {path.name for path in run.iterdir()} == PROMISED | {"sentencepiece.model"}


@pytest.mark.parametrize("options", [(), ("--checkpoint-every", "0")])
def test_a_diverging_run_is_4_and_no_weight_that_is_not_finite_is_saved(
    program: Program, tmp_path: Path, options: tuple[str, ...]
) -> None:
    result = program(*REVERSE, "--lr", "1e30", *options)
    assert_fails(result, 4, "after epoch 0" if options else "at epoch 1", "--lr")
    run = (tmp_path / "runs" / "latest").resolve()
    assert document_of(run)["status"] == "diverged"
    assert not (run / "weights.safetensors").exists()
    saved = list(run.rglob("*.pt"))
    assert bool(saved) == bool(options)
    for path in saved:
        for value in torch.load(path, weights_only=True)["state"].values():
            assert not isinstance(value, torch.Tensor) or value.isfinite().all()


@pytest.mark.parametrize(("width", "left_out"), [(80, "step val_perplexity tokens_per_second lr"), (130, "")])
def test_a_narrow_terminal_has_the_columns_that_fit(tmp_path: Path, width: int, left_out: str) -> None:
    text = on_terminal([*REVERSE, "--name", "run"], tmp_path, width, NO_COLOR="1")
    lines = [re.sub(r"\x1b\[[\d;?]*\w", "", line.split("\r")[-1]) for line in text.replace("\r\n", "\n").split("\n")]
    (head,) = [line for line in lines if line.strip().startswith("epoch  ")]
    assert len(head) <= width
    columns = (tmp_path / "runs" / "latest" / "metrics.csv").read_text().splitlines()[0].split(",")
    expected = [name.replace("_", " ") for name in columns if name not in left_out.split()]
    assert re.split(r" {2,}", head.strip()) == expected


@pytest.mark.parametrize(("place", "code"), [(".", 2), ("", 2), ("/", 2), ("nowhere/a.png", 6)])
def test_a_place_where_no_picture_can_be_is_refused_before_anything_is_translated(
    reverse: Finished, program: Program, place: str, code: int
) -> None:
    result = program("translate", str(reverse.path), "1 2", "--attention", place)
    assert_fails(result, code, "--attention")
    assert "resume" not in result.err
    assert result.out == ""
