"""The whole program on images: what a run leaves, evaluating it, classifying by it."""

import collections
import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from forks import live
from helpers import (
    PROGRAM,
    Finished,
    Outcome,
    Program,
    Result,
    assert_fails,
    bare_environment,
    document_of,
    environment,
    finished,
    outcome,
    real_data,
)
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from mlpx.experiments.mlp import images, pictures
from mlpx.experiments.mlp import metrics as mlp
from mlpx.settings.metrics import final

pytestmark = pytest.mark.program

FILES = {
    *(
        "checkpoints",
        "claims",
        "config.toml",
        "confusion.png",
        "filters.png",
        "lock",
        "loss.png",
        "metrics.csv",
        "mistakes.png",
    ),
    *("run.json", "weights.safetensors"),
}
NUM_TRAIN = 5000
SHORT = ("mlp", "--dataset", "glyphs", "--num-train", str(NUM_TRAIN), "--epochs", "4", "--lr", "0.3")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A short run, made in an environment without a home or a cache."""
    folder = tmp_path_factory.mktemp("short")
    env = bare_environment(PATH="/usr/bin:/bin")
    done = subprocess.run([*PROGRAM, *SHORT], cwd=folder, env=env, capture_output=True, text=True)
    result = Result(done.returncode, done.stdout, done.stderr)
    assert result.code == 0, result
    return Finished((folder / "runs" / "latest").resolve(), result)


def test_a_run_leaves_exactly_the_promised_files(short: Finished) -> None:
    run, result = short
    assert (result.code, result.err) == (0, "")
    assert {path.name for path in run.iterdir()} == FILES
    assert run.name.endswith("-mlp-glyphs")
    header = "epoch,train_loss,train_accuracy,test_loss,test_accuracy,seconds\n"
    assert (run / "metrics.csv").read_text().startswith(header)
    for name in FILES:
        if name.endswith(".png"):
            assert (run / name).read_bytes().startswith(b"\x89PNG")

    metrics = document_of(run)["metrics"]
    assert set(metrics) == {metric.name for metric in final(mlp.METRICS, 1)}
    assert metrics["loss_gap"] == metrics["test_loss"] - metrics["final_train_loss"]
    assert metrics["accuracy_gap"] == metrics["final_train_accuracy"] - metrics["test_accuracy"]
    assert metrics["test_accuracy_low"] < metrics["test_accuracy"] < metrics["test_accuracy_high"]
    lines = result.out.splitlines()
    assert f"{metrics['test_accuracy']:.2%}" in lines[5]
    assert lines[-2].startswith(f"test accuracy {metrics['test_accuracy']:.2%} (95 % interval ")
    assert max(map(len, lines[:-2])) <= 80
    assert "hidden = [\n    256,\n]\n" in (run / "config.toml").read_text()


def test_weights_load_into_the_plain_network_and_give_the_recorded_figures(short: Finished) -> None:
    run, _ = short
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    net.load_state_dict(load_file(run / "weights.safetensors"))
    metrics = document_of(run)["metrics"]
    train, test = images.load("glyphs", "")
    train = images.Examples(train.images[:NUM_TRAIN], train.labels[:NUM_TRAIN])
    for examples, name in ((train, "final_train"), (test, "test")):
        with torch.no_grad():
            logits = net(examples.images.double().div(255).float())
        labels = examples.labels.long()
        loss = float(nn.functional.cross_entropy(logits, labels))
        assert loss == pytest.approx(metrics[f"{name}_loss"], rel=1e-5)
        assert float((logits.argmax(1) == labels).double().mean()) == pytest.approx(
            metrics[f"{name}_accuracy"], abs=2 / len(labels)
        )


def test_config_repeats_a_run_exactly(short: Finished, program: Program) -> None:
    run, _ = short
    again = Path(program("mlp", "--config", str(run / "config.toml"), "--quiet").out.strip())
    assert outcome(again) == outcome(run)
    assert (again / "config.toml").read_bytes() == (run / "config.toml").read_bytes()


def test_evaluate_reproduces_the_recorded_figures_exactly(short: Finished, program: Program) -> None:
    run, _ = short
    result = program("evaluate", str(run), "--json")
    assert (result.code, result.err) == (0, "")
    (line,) = result.out.splitlines()
    event = json.loads(line)
    assert (event["event"], event["run"]) == ("evaluation", str(run))
    assert set(event["metrics"]) == {"final_train_loss", "final_train_accuracy", "test_loss", "test_accuracy"}
    assert event["metrics"] == event["recorded"]
    shown = program("evaluate", str(run))
    assert shown.code == 0
    assert "as recorded" in shown.out


def test_evaluate_is_3_where_the_figures_differ(short: Finished, program: Program, tmp_path: Path) -> None:
    run, _ = short
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.toml", "run.json", "weights.safetensors"):
        (copy / name).write_bytes((run / name).read_bytes())
    weights = load_file(copy / "weights.safetensors")
    weights["3.bias"][0] += 0.01
    save_file(weights, copy / "weights.safetensors")
    result = program("evaluate", str(copy))
    assert_fails(result, 3, "final_train_loss is ", " and was ")
    assert "as recorded" not in result.out
    other = program("evaluate", str(copy), "--dataset", "glyphs", "--json")  # other data are not compared
    assert other.code == 0
    assert json.loads(other.out)["recorded"] is None

    weights["3.bias"] = torch.zeros(11)
    save_file(weights, copy / "weights.safetensors")
    assert_fails(program("evaluate", str(copy)), 5, "3.bias", "(11,)", "(10,)")
    (copy / "weights.safetensors").write_bytes(b"\x80\x04junk")
    assert_fails(program("evaluate", str(copy)), 5, "weights.safetensors")
    (copy / "weights.safetensors").unlink()
    assert_fails(program("evaluate", str(copy)), 5, "mlpx resume")
    document = document_of(run) | {"status": "interrupted"}
    (copy / "run.json").write_text(json.dumps(document))
    assert_fails(program("evaluate", str(copy)), 5, "has not finished", "mlpx resume")


def test_evaluate_and_predict_on_a_run_of_poly(program: Program, tmp_path: Path) -> None:
    run = program("poly", "--epochs", "20", "--quiet").out.strip()
    result = program("evaluate", run, "--json")
    assert result.code == 0
    event = json.loads(result.out)
    assert event["metrics"] == event["recorded"]
    assert set(event["metrics"]) == {"train_loss", "test_loss", "generalization_loss"}
    assert_fails(program("evaluate", run, "--dataset", "mnist"), 2, "--dataset", "poly")
    Image.new("L", (28, 28)).save(tmp_path / "black.png")
    assert_fails(program("predict", run, "black.png"), 2, "run of poly")


def test_predict_classifies_files_in_order(short: Finished, program: Program, tmp_path: Path) -> None:
    run, _ = short
    _, test = images.load("glyphs", "")
    for i in range(30):
        Image.fromarray(test.images[i].numpy()).save(tmp_path / f"{i}.png")
    names = [f"{i}.png" for i in reversed(range(30))]
    result = program("predict", str(run), *names, "--json")
    assert (result.code, result.err) == (0, "")
    events = [json.loads(line) for line in result.out.splitlines()]
    assert [event["image"] for event in events] == names
    for event in events:
        assert event["event"] == "prediction"
        assert event["probability"] == max(event["probabilities"].values())
        assert event["probabilities"][event["class"]] == event["probability"]
        assert sum(event["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    net.load_state_dict(load_file(run / "weights.safetensors"))
    guesses = [str(int(guess)) for guess in net(test.images[:30].float() / 255).argmax(1)]
    assert [event["class"] for event in reversed(events)] == guesses
    lines = program("predict", str(run), *names).out.splitlines()
    assert [line.split()[0] for line in lines] == [event["class"] for event in events]
    assert [line.split()[-1] for line in lines] == names


@pytest.mark.real_data
def test_predict_names_a_shirt_a_shirt(program: Program, tmp_path: Path) -> None:
    folder = real_data("FashionMNIST")
    quick = ("--epochs", "4", "--lr", "0.1", "--momentum", "0.9", "--schedule", "linear")
    run = program("mlp", "--data-dir", folder, *quick, "--quiet").out.strip()
    _, test = images.load("fashion-mnist", folder)
    chosen = [i for label in range(10) for i in (test.labels == label).nonzero()[:50, 0].tolist()]
    names = [f"{i}.png" for i in chosen]
    for i, name in zip(chosen, names, strict=True):
        Image.fromarray(test.images[i].numpy()).save(tmp_path / name)
    events = [json.loads(line) for line in program("predict", run, *names, "--json").out.splitlines()]
    guesses = [event["class"] for event in events]
    for label, truth in enumerate(images.CLASSES["fashion-mnist"]):
        of_class = collections.Counter(guesses[50 * label : 50 * label + 50])
        print(f"{truth}: " + ", ".join(f"{count} {guess}" for guess, count in of_class.most_common()))
        assert of_class.most_common(1)[0][0] == truth
    # a photograph's way: dark on white, larger, in color
    shirt = names[guesses.index("shirt", 300)]
    with Image.open(tmp_path / shirt) as small:
        large = small.resize((280, 280), Image.Resampling.NEAREST)
    Image.fromarray(255 - np.array(large)).convert("RGB").save(tmp_path / "photograph.png")
    assert program("predict", run, "photograph.png").out.startswith("shirt ")


def test_pictures_become_what_the_model_knows(tmp_path: Path) -> None:
    original = np.zeros((28, 28), np.uint8)
    original[6:22, 10:18] = np.arange(100, 228, dtype=np.uint8).reshape(16, 8)
    expected = torch.from_numpy(original)
    gray = Image.fromarray(original)
    variants = {
        "as-is.png": gray,
        "light.bmp": Image.fromarray(255 - original),
        "colour.png": gray.convert("RGB"),
        "deep.png": Image.fromarray(original.astype(np.uint16) * 257),
        "large.png": gray.resize((84, 84), Image.Resampling.NEAREST),
        "narrow.png": gray.crop((7, 0, 21, 28)),
        "transparent.png": Image.merge("LA", (Image.new("L", (28, 28), 255), gray)),
    }
    for name, image in variants.items():
        image.save(tmp_path / name)
        assert torch.equal(pictures.read(tmp_path / name), expected), name


def test_images_that_cannot_be_read_are_5_and_nothing_is_printed(
    short: Finished, program: Program, tmp_path: Path
) -> None:
    run, _ = short
    Image.new("L", (28, 28)).save(tmp_path / "good.png")
    data = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[:50])
    (tmp_path / "text.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n")  # formats that run a program are not read
    (tmp_path / "empty.png").touch()
    huge = data[:16] + (60_000).to_bytes(4, "big") * 2 + data[24:]
    (tmp_path / "bomb.png").write_bytes(huge)
    (tmp_path / "folder.png").mkdir()
    for name in ("cut.png", "text.png", "empty.png", "bomb.png", "folder.png", "missing\n.png"):
        result = program("predict", str(run), "good.png", name)
        assert_fails(result, 5, name.replace("\n", "\\n"))
        assert result.out == ""


def test_hidden_layers_as_typed_and_as_written(program: Program, tmp_path: Path) -> None:
    few = ("mlp", "--dataset", "glyphs", "--epochs", "1", "--num-train", "300", "--quiet")
    deep = program(*few, "--hidden", "12", "--hidden", "7").out.strip()
    shapes = {name: tuple(w.shape) for name, w in load_file(Path(deep) / "weights.safetensors").items()}
    assert [shapes[f"{i}.weight"] for i in (1, 3, 5)] == [(12, 784), (7, 12), (10, 7)]
    flat = program(*few, "--hidden", "none", "--dropout", "0.5").out.strip()
    assert set(load_file(Path(flat) / "weights.safetensors")) == {"1.weight", "1.bias"}
    assert "hidden = []\n" in (Path(flat) / "config.toml").read_text()
    for bad in ("0", "-3", "1.5", "wide", "16385"):
        assert_fails(program(*few, "--hidden", bad), 2, "--hidden", repr(bad).strip("'"), "1 to 16384")
    assert_fails(program(*few, "--hidden", "none", "--hidden", "4"), 2, "--hidden", "'none'")
    for text, word in (("hidden = 256", "256"), ("hidden = [true]", "true"), ("hidden = ['4']", "'4'")):
        (tmp_path / "my.toml").write_text(text)
        assert_fails(program(*few, "--config", "my.toml"), 2, "hidden", word, "a list, each item a whole number")
    (tmp_path / "my.toml").write_text("hiden = [4]")
    assert_fails(program(*few, "--config", "my.toml"), 2, "'hidden'")
    assert_fails(program(*few, "--dataset", "glyph"), 2, "glyph")


def test_a_diverging_run_is_4(program: Program, tmp_path: Path) -> None:
    result = program("mlp", "--dataset", "glyphs", "--lr", "1e30", "--epochs", "3")
    assert_fails(result, 4, "epoch 1", "--lr")
    assert not list((tmp_path / "runs" / "latest").resolve().rglob("*.pt"))


RICH = (
    *("mlp", "--dataset", "glyphs", "--epochs", "30", "--dropout", "0.2", "--momentum", "0.9", "--lr", "0.02"),
    *("--hidden", "64", "--eval-every", "7", "--num-train", "10000"),
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return outcome(finished(RICH, tmp_path_factory.mktemp("undisturbed")).path)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_stopped_run_goes_on_to_the_same_bits(
    program: Program, tmp_path: Path, undisturbed: Outcome, number: signal.Signals
) -> None:
    run = tmp_path / "runs" / "latest"
    with live([*RICH, "--checkpoint-every", "0.1"], tmp_path, environment()) as process:
        for _ in range(3):  # two lines of head, epoch 1
            process.stdout.readline()
        while not [path for path in run.glob("checkpoints/*.pt") if not path.name.startswith(f"epoch{0:010d}")]:
            time.sleep(0.005)
            assert process.returncode is None
        process.send_signal(number)
        process.communicate(timeout=20)
        assert process.returncode == -number
    assert program("resume", "latest").code == 0
    assert outcome(run) == undisturbed
    assert document_of(run)["resumed_from_epoch"][0] >= 1


def test_a_finished_run_can_be_extended(program: Program, short: Finished, tmp_path: Path) -> None:
    run, _ = short
    first = Path(program(*SHORT, "--epochs", "2", "--quiet").out.strip())
    assert program("resume", str(first), "--epochs", "4").code == 0
    assert outcome(first) == outcome(run)
