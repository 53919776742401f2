"""The experiment against plain PyTorch and hand-worked choices of weights, and itself when it was stopped."""

import copy
import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlpx.errors import InputError
from mlpx.experiments.transformer import decoding, scoring, tasks
from mlpx.experiments.transformer.batches import Batches
from mlpx.experiments.transformer.decoding import Hypothesis
from mlpx.experiments.transformer.experiment import Translation
from mlpx.experiments.transformer.model import Transformer
from mlpx.experiments.transformer.scoring import Scorer, epoch_batches, mean_loss
from mlpx.experiments.transformer.sentences import Pairs
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.experiments.transformer.tasks import SentencePairs, TranslationTask
from mlpx.experiments.transformer.vocabulary import BOS, EOS, PAD
from mlpx.settings.metrics import columns, final
from mlpx.training.distributed import Group
from mlpx.training.experiment import Learned, Outcome, State
from mlpx.training.loop import EpochRecord, Position, fit, is_on_grid

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "num_train": 60,
    "num_layers": 1,
    "d_model": 16,
    "num_heads": 2,
    "d_ff": 32,
    "batch_size": 16,
    "lr": 0.01,
    "warmup_steps": 0,
    "epochs": 3,
}
RICH = {**SMALL, "num_layers": 2, "dropout": 0.2, "label_smoothing": 0.1, "weight_decay": 1e-3, "average_last": 2}


@pytest.fixture(autouse=True)
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pairs to validate by and to test on, and no endless outputs for them."""
    for name in ("NUM_VAL", "NUM_TEST"):
        monkeypatch.setattr(tasks, name, 30)
    monkeypatch.setattr(decoding, "MORE_WORDS", 5)


def built(**changes: Any) -> Translation:
    return Translation(TransformerSettings(**changes), CPU)


Row = dict[str, float]


def row_of(experiment: Translation, epoch: int) -> Row:
    """The row at the end of ``epoch``, which is remembered if every run has it."""
    values = experiment.evaluate()
    if is_on_grid(epoch, experiment.settings.eval_every):
        experiment.remember(epoch, values)
    return {"epoch": epoch, **{name: value for name, (value,) in values.items()}}


def after_epoch(experiment: Translation, epoch: int, step: int = 0) -> Row:
    for _ in experiment.train(epoch, step):
        pass
    return row_of(experiment, epoch)


def trained(experiment: Translation) -> list[tuple[Row, Tensor]]:
    """Each epoch's row, and the weights that it is of."""
    return [
        (after_epoch(experiment, epoch), weights_of(experiment)) for epoch in range(1, experiment.settings.epochs + 1)
    ]


def weights_of(experiment: Translation) -> Tensor:
    weights = experiment.state()["flat_weights"]
    assert isinstance(weights, Tensor)
    return weights.clone()


def copied(state: State) -> State:
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}


def transformer_of(experiment: Translation) -> Transformer:
    assert isinstance(experiment.model, Transformer)
    return experiment.model


def metrics_of(outcome: Outcome) -> Row:
    return {name: value for name, (value,) in outcome.metrics.items()}


def lists_of(pairs: Pairs | SentencePairs) -> list[tuple[list[int], list[int]]]:
    src, tgt = pairs.pairs if isinstance(pairs, SentencePairs) else pairs
    return list(zip(src.lists(), tgt.lists(), strict=True))


def flat(outcome: Outcome) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in outcome.weights.values()])


def plain_loss(model: Transformer, pairs: Pairs | SentencePairs) -> float:
    """One pair at a time, by torch's own loss, of every target word and the end."""
    total, count = 0.0, 0
    for src, tgt in lists_of(pairs):
        with torch.no_grad():
            hidden = model([torch.tensor([[*src, EOS]])], [torch.tensor([[BOS, *tgt]])])
            targets = torch.tensor([*tgt, EOS])
            total += float(functional.cross_entropy(model.logits(hidden).double(), targets, reduction="sum"))
        count += len(targets)
    return total / count


def validated_as(monkeypatch: pytest.MonkeyPatch, scores: Sequence[tuple[float, float]]) -> None:
    """Have these losses and qualities come out, validation by validation."""
    coming: Iterator[tuple[float, float]] = iter(scores)
    monkeypatch.setattr(Scorer, "validate", lambda _: next(coming))


def test_the_digest_of_an_experiments_data_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = built(**SMALL)
    assert experiment.data_digest == experiment.task.digest() != built(**SMALL | {"seed": 1}).data_digest
    monkeypatch.setattr(TranslationTask, "digest", lambda _: pytest.fail("computed again"))
    assert experiment.data_digest
    trained(experiment)
    assert "data" not in experiment.state()


# The contract


@pytest.mark.parametrize("average_last", [1, 2])
def test_rows_and_outcome_have_exactly_the_metrics_that_are_declared(average_last: int) -> None:
    experiment = built(**SMALL | {"average_last": average_last})
    declared = experiment.settings.metrics
    *_, last = (record.row for record in fit(experiment) if isinstance(record, EpochRecord))
    assert list(last) == [metric.name for metric in columns(declared, replicas=1)]
    outcome = experiment.outcome(last)
    assert set(last) | set(outcome.metrics) == {metric.name for metric in final(declared, replicas=1)}


def test_final_metrics_are_those_of_the_outcome() -> None:
    experiment = built(**SMALL | {"tune_length_penalty": True, "beam": 2})
    outcome = experiment.outcome(trained(experiment)[-1][0])
    learned = Learned(outcome.weights, metrics_of(outcome), lambda name: pytest.fail(f"read {name}"))
    again = Translation.final_metrics(experiment.settings, CPU, learned)
    assert list(again) == ["test_loss", "test_perplexity", "test_exactness", "longer_exactness"]
    assert again == {name: outcome.metrics[name] for name in again}
    with pytest.raises(InputError, match=r"run.json: lacks the length penalty"):
        Translation.final_metrics(experiment.settings, CPU, learned=dataclasses.replace(learned, metrics={}))
    other = experiment.settings.model_copy(update={"d_ff": 33})
    with pytest.raises(InputError, match=r"weights.safetensors: its .* of shape .*, not .* of shape"):
        Translation.final_metrics(other, CPU, learned)


def test_pictures_name_the_task() -> None:
    experiment = built(**SMALL)
    assert experiment.title == "Transformer, task reverse"
    rows = {name: [1.0, 2.0] for name in ("epoch", "train_loss", "val_loss", "test_loss", "val_exactness")}
    assert experiment.draw_losses(rows).startswith(b"\x89PNG")


# Losses


def test_losses_equal_plain_ones_of_a_sentence_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = built(**RICH)
    trained(experiment)
    data, model = experiment.task, transformer_of(experiment)
    for pairs in (data.val, data.tests["test"], data.tests["longer"], data.train):
        expected = plain_loss(model, pairs)
        for at_once in (8192, 100):  # the last batch is smaller
            monkeypatch.setattr(scoring, "SCORED_AT_ONCE", at_once)
            plain = pairs.pairs if isinstance(pairs, SentencePairs) else pairs
            assert mean_loss(model, plain, Group()) == pytest.approx(expected, rel=1e-5)


def test_the_row_has_the_sums_over_real_target_words_divided_by_their_count() -> None:
    """At a rate at which no weight moves, the average over an epoch is that of the weights before it."""
    experiment = built(**SMALL | {"lr": 1e-30, "label_smoothing": 0.3, "batch_tokens": 100, "dropout": 0.0})
    model, data = transformer_of(experiment), experiment.task
    for epoch in (1, 2):
        steps = list(experiment.train(epoch, 0))
        assert len(steps) > 4
        row = row_of(experiment, epoch)
        assert row["train_loss"] == pytest.approx(plain_loss(model, data.train), rel=1e-5)
        assert row["val_loss"] == pytest.approx(plain_loss(model, data.val), rel=1e-5)
        assert row["test_loss"] == pytest.approx(plain_loss(model, data.tests["test"]), rel=1e-5)
        assert row["step"] == epoch * len(steps)


def test_half_of_the_pairs_are_turned_round_in_the_first_epochs() -> None:
    experiment, plain = (built(**SMALL | {"both_ways": both_ways}) for both_ways in (2, 0))
    seen = []
    for epoch in (1, 2, 3):
        mixed, given = experiment.training_pairs(epoch), plain.training_pairs(epoch)
        ours, theirs = (
            epoch_batches(each, 10**9, SMALL["batch_size"], experiment.settings.seed, epoch) for each in (mixed, given)
        )
        assert rows_in(ours) == rows_in(theirs) == rows_in(experiment.batches(epoch))
        turned = []
        for pair, (src, tgt) in zip(lists_of(mixed), lists_of(given), strict=True):
            turned.append(pair != (src, tgt))
            assert pair == ((tgt, src) if turned[-1] else (src, tgt))
        seen.append(turned)
    print(f"\nturned round: {[sum(turned) for turned in seen]} of {len(seen[0])}")
    assert 15 < sum(seen[0]) < 45
    assert 15 < sum(seen[1]) < 45
    assert seen[0] != seen[1]
    assert not any(seen[2])


def rows_in(batches: Batches) -> list[list[list[int]]]:
    return [[rows.tolist() for rows in batches.rectangles(step)] for step in range(batches.num_steps)]


def test_dropout_is_off_when_losses_and_outputs_are_scored() -> None:
    experiment, without = (built(**SMALL | {"dropout": dropout, "lr": 1e-30}) for dropout in (0.5, 0.0))
    rows = [trained(each)[-1][0] for each in (experiment, without)]
    assert rows[0]["train_loss"] != rows[1]["train_loss"]
    for name in ("val_loss", "test_loss", "val_exactness"):
        assert rows[0][name] == rows[1][name]
    assert experiment.outcome(rows[0]).metrics["test_loss"] == without.outcome(rows[1]).metrics["test_loss"]


# Steps


def gradients_of(experiment: Translation) -> dict[str, Tensor]:
    """The gradients that the last step followed, by the names of the parameters."""
    flat = experiment._flat
    parts = flat.gradient.split([parameter.numel() for parameter in flat._parameters])
    by_parameter = {id(parameter): part for parameter, part in zip(flat._parameters, parts, strict=True)}
    return {name: by_parameter[id(p)].view_as(p) for name, p in experiment.model.named_parameters()}


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_steps_equal_those_of_a_plain_loop(optimizer: str) -> None:
    """Three epochs of one step each, all pairs in it."""
    settings = {
        "optimizer": optimizer,
        **SMALL,
        "num_train": 40,
        "batch_size": 1000,
        "label_smoothing": 0.1,
        "clip_norm": 0.0,
        "lr": 1e-3,
    }
    experiment = built(**settings, schedule="inverse-sqrt")
    model = copy.deepcopy(transformer_of(experiment))
    pairs = lists_of(experiment.task.train)
    src = nn.utils.rnn.pad_sequence([torch.tensor([*s, EOS]) for s, _ in pairs], True, PAD)
    tgt = nn.utils.rnn.pad_sequence([torch.tensor([BOS, *t, EOS]) for _, t in pairs], True, PAD)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and optimizer == "muon" and "code" in name]
    rest = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(rest, betas=(0.9, 0.98), eps=1e-9)]
    if matrices:
        assert len(matrices) == (4 + 2 + 8 + 2 - 3) * settings["num_layers"]  # keys and values are one matrix
        optimizers.append(torch.optim.Muon(matrices, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"))
    tolerance = 3e-5 if matrices else 1e-6  # Muon rounds to bfloat16: a step of 1e-3 to 4e-6
    for epoch in (1, 2, 3):
        logits = model.logits(model([src], [tgt[:, :-1]]))
        loss = functional.cross_entropy(logits, tgt[:, 1:].flatten(), ignore_index=PAD, label_smoothing=0.1)
        model.zero_grad()
        torch.autograd.backward(loss)
        for each in optimizers:
            each.param_groups[0]["lr"] = 1e-3 * epoch**-0.5  # without warm-up
            each.step()
        assert list(experiment.train(epoch, 0)) == [1]
        gradients = gradients_of(experiment)
        for (name, expected), found in zip(model.named_parameters(), experiment.model.parameters(), strict=True):
            assert expected.grad is not None
            assert float((gradients[name] - expected.grad).abs().max()) < tolerance, name
            # A bias that all keys share attends to nothing: its gradient is rounding errors.
            rows = slice(16, None) if name.endswith("key_value.bias") else slice(None)
            assert float((found - expected).detach()[rows].abs().max()) < tolerance, name


def test_a_gradient_is_cut_to_the_norm_that_is_set() -> None:
    norms = {}
    for clip_norm in (0.0, 0.01):
        experiment = built(**SMALL | {"clip_norm": clip_norm})
        next(experiment.train(1, 0))
        norms[clip_norm] = float(torch.cat([part.flatten() for part in gradients_of(experiment).values()]).norm())
    assert norms[0.0] > 0.1
    assert norms[0.01] == pytest.approx(0.01, rel=1e-3)


# Which weights are kept


@pytest.mark.parametrize(("epochs", "last"), [(3, 2), (4, 3), (2, 5)])
def test_the_mean_of_the_last_epochs_is_a_candidate_worked_out_by_hand(
    monkeypatch: pytest.MonkeyPatch, epochs: int, last: int
) -> None:
    experiment = built(**SMALL | {"epochs": epochs, "average_last": last})
    validated_as(monkeypatch, [(2.0, 0.25)] * epochs + [(1.0, 0.5)])
    rows = trained(experiment)
    outcome = experiment.outcome(rows[-1][0])
    summed = [weights.double() for _, weights in rows[-last:]]
    torch.testing.assert_close(flat(outcome).double(), sum(summed) / len(summed), rtol=1e-6, atol=1e-7)
    assert not torch.equal(flat(outcome), rows[-1][1])
    assert outcome.facts["weights"] == f"the mean of the last {min(epochs, last)} epochs"
    metrics = metrics_of(outcome)
    assert metrics["val_loss"] == 1
    assert metrics["val_exactness"] == 0.5
    assert metrics["val_perplexity"] == pytest.approx(2.718281828459045)


SCORES = {  # loss and quality in validation, epoch by epoch, then those of the mean of the last two; what is best
    "the last": ([(3.0, 0.1), (2.0, 0.2), (1.5, 0.3)], None, "epoch 3"),
    "the lowest loss": ([(3.0, 0.1), (1.0, 0.3), (2.0, 0.2)], None, "epoch 2"),
    "the lowest loss, whatever the quality": ([(1.0, 0.2), (2.0, 0.3), (3.0, 0.4)], None, "epoch 1"),
    "close": ([(2.0 + 1e-12, 0.3), (2.0, 0.3), (2.0 + 1e-12, 0.3)], None, "epoch 2"),
    "nothing learned": ([(2.1, 0.0), (2.0, 0.0), (2.05, 0.0)], None, "epoch 2"),
    "the mean": ([(3.0, 0.1), (2.0, 0.2), (1.5, 0.3)], (1.4, 0.2), "the mean of the last 2 epochs"),
    "not the mean": ([(3.0, 0.1), (2.0, 0.2), (1.5, 0.3)], (1.6, 0.4), "epoch 3"),
    "nor the last": ([(3.0, 0.1), (1.0, 0.2), (1.5, 0.3)], (1.2, 0.4), "epoch 2"),
}


@pytest.mark.parametrize("case", SCORES)
def test_the_weights_that_validate_best_are_kept(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    epochs, mean, best = SCORES[case]
    validated_as(monkeypatch, [*epochs, *([mean] if mean else [])])
    experiment = built(**SMALL | {"average_last": 2 if mean else 1})
    rows = trained(experiment)
    outcome = experiment.outcome(rows[-1][0])
    assert outcome.facts["weights"] == best
    number = int(best.removeprefix("epoch ")) if best.startswith("epoch") else None
    expected = rows[number - 1][1] if number else (rows[1][1] + rows[2][1]) / 2
    assert torch.equal(flat(outcome), expected)
    scores = epochs[number - 1] if number else mean
    assert (metrics_of(outcome)["val_loss"], metrics_of(outcome)["val_exactness"]) == scores
    assert torch.equal(torch.cat([p.flatten() for p in experiment.model.parameters()]), flat(outcome))


def test_the_length_penalty_is_the_first_of_those_that_validate_best(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = built(**SMALL)
    pairs = SentencePairs(Pairs.of([[9], [8]], [[9, 8, 7, 6], [8]]), ["", ""], ["", ""])
    found = [
        [Hypothesis([9], -2.0), Hypothesis([9, 8, 7, 6], -3.0)],  # 3 / 5^p < 2 / 2^p from p = 0.44 on
        [Hypothesis([8], -2.0), Hypothesis([8, 8, 8], -9.0)],  # 9 / 4^p < 2 / 2^p from p = 2.2 on
    ]
    searched = {(7, 0.0): found}
    monkeypatch.setattr(scoring, "search", lambda *_, beam, length_penalty, pause: searched[beam, length_penalty])
    task = dataclasses.replace(experiment.task, val=pairs)
    assert Scorer(task, experiment.model, Group()).best_length_penalty(beam=7) == 0.6


def test_epochs_without_a_row_do_not_compete(monkeypatch: pytest.MonkeyPatch) -> None:
    """But the last may: a run that ends there knows no other."""
    validated_as(monkeypatch, [(3.0, 0.1), (2.0, 0.2)])
    experiment = built(**SMALL | {"eval_every": 5, "epochs": 2})
    *_, last = (record.row for record in fit(experiment) if isinstance(record, EpochRecord))
    assert experiment.state()["best_epoch"] == 1  # what a run that goes on from here has to compare with
    assert experiment.outcome(last).facts["weights"] == "epoch 2"


def test_the_test_set_has_no_say_in_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SMALL | {"average_last": 2, "epochs": 4, "lr": 0.03}

    def run() -> tuple[Row, Outcome]:
        experiment = built(**settings)
        last = trained(experiment)[-1][0]
        return last, experiment.outcome(last)

    _, first = run()
    build = tasks.build
    other = build(TransformerSettings(**SMALL, seed=9)).tests
    monkeypatch.setattr(tasks, "build", lambda settings: dataclasses.replace(build(settings), tests=other))
    _, second = run()
    assert second.facts == first.facts
    assert torch.equal(flat(second), flat(first))
    for name in ("val_loss", "val_exactness"):
        assert second.metrics[name] == first.metrics[name]
    assert second.metrics["test_loss"] != first.metrics["test_loss"]
    monkeypatch.setattr(tasks, "build", build)

    # Scores of the test set that would choose otherwise change nothing.
    assert first.facts["weights"] == "epoch 2"
    coming = iter((0.1, 4.0, 2.0, 1.0, 0.5))
    monkeypatch.setattr(Scorer, "test_loss", lambda _: next(coming))
    last, third = run()
    assert last["test_loss"] == 1.0
    assert third.facts == first.facts
    assert torch.equal(flat(third), flat(first))


def test_final_figures_are_those_of_the_weights_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    validated_as(monkeypatch, [(3.0, 0.1), (1.0, 0.4), (2.0, 0.3)])
    experiment = built(**SMALL)
    rows = trained(experiment)
    outcome = experiment.outcome(rows[-1][0])
    assert metrics_of(outcome)["test_loss"] == rows[1][0]["test_loss"] != rows[2][0]["test_loss"]
    declared = final(experiment.settings.metrics, replicas=1)
    assert set(outcome.metrics) | set(rows[0][0]) | {"seconds"} == {metric.name for metric in declared}


# Stopped in its middle


@functools.cache
def undisturbed(changes: str) -> tuple[list[tuple[Row, Tensor]], State, Tensor]:
    """The rows, the state and the final weights of a training that was not stopped; ``changes`` are JSON."""
    experiment = built(**json.loads(changes))
    rows = trained(experiment)
    return rows, copied(experiment.state()), flat(experiment.outcome(rows[-1][0]))


@pytest.mark.parametrize("changes", [SMALL, RICH, {**RICH, "average_last": 5, "optimizer": "muon", "both_ways": 2}])
@pytest.mark.parametrize("steps", [0, 2, "all", "all, and seen to be"])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(changes: dict[str, Any], steps: int | str) -> None:
    """Also where an epoch's last step is done, and its row is not."""
    rows, state, weights = undisturbed(json.dumps(changes))
    first, second = (built(**changes) for _ in range(2))
    after_epoch(first, 1)
    done = 0
    for done in first.train(2, 0) if steps != 0 else ():
        if done == (first.batches(2).num_steps if steps == "all" else steps):
            break
    second.load_state(copied(first.state()))
    row, last = after_epoch(second, 2, done), after_epoch(second, 3)
    for found, (expected, _) in ((row, rows[1]), (last, rows[2])):
        assert {**found, "tokens_per_second": 0} == {**expected, "tokens_per_second": 0}
    assert_same_state(second.state(), state)
    assert torch.equal(weights, flat(second.outcome(last)))


def test_the_best_weights_outlive_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    validated_as(monkeypatch, [(1.0, 0.5), (2.0, 0.4), (3.0, 0.3)])
    first, second = (built(**SMALL) for _ in range(2))
    after_epoch(first, 1)
    best = weights_of(first)
    second.load_state(copied(first.state()))
    for epoch in (2, 3):
        last = after_epoch(second, epoch)
    outcome = second.outcome(last)
    assert outcome.facts["weights"] == "epoch 1"
    assert torch.equal(flat(outcome), best)


def assert_same_state(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        other = found[name]
        if isinstance(value, Tensor):
            assert isinstance(other, Tensor)
            assert torch.equal(other, value), name
        else:
            assert other == value, name


def test_a_run_that_was_killed_after_its_last_row_knows_of_which_epoch_its_weights_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes on at (epochs, 0): nothing is left to train, and the last row comes from metrics.csv, as floats."""
    validated_as(monkeypatch, [(3.0, 0.1), (2.0, 0.2), (1.5, 0.3)])
    first, second = (built(**SMALL | {"eval_every": 2}) for _ in range(2))
    *_, last = (record.row for record in fit(first) if isinstance(record, EpochRecord))
    second.load_state(copied(first.state()))
    assert list(fit(second, Position(3, 0))) == []
    outcome = second.outcome({name: float(value) for name, value in last.items()})
    assert outcome.facts["weights"] == "epoch 3"
    assert "weights of epoch 3, the best in validation" in outcome.summary


def test_an_epoch_whose_end_is_reached_twice_is_in_the_mean_once() -> None:
    experiment = built(**SMALL | {"average_last": 2})
    for epoch in (1, 2):
        after_epoch(experiment, epoch)
    state = copied(experiment.state())
    after_epoch(experiment, 2, experiment.batches(2).num_steps)
    assert_same_state(experiment.state(), state)
    after_epoch(experiment, 3)
    assert experiment.state()["num_summed"] == 2


def test_evaluating_changes_nothing() -> None:
    experiment = built(**RICH)
    for _ in experiment.train(1, 0):
        pass
    state = copied(experiment.state())
    first, second = experiment.evaluate(), experiment.evaluate()
    assert_same_state(experiment.state(), state)
    assert {**first, "tokens_per_second": []} == {**second, "tokens_per_second": []}


def test_a_state_of_other_names_or_shapes_is_refused() -> None:
    state = built(**SMALL).state()
    older = {**{name: value for name, value in state.items() if not name.startswith("best_")}, "best_of": torch.ones(3)}
    with pytest.raises(InputError, match=r"checkpoint: its best_epoch is missing, .* Start the run anew"):
        built(**SMALL).load_state(older)
    with pytest.raises(InputError, match=r"its best is float32 of shape \(\d+,\), not float32 of shape \(\d+,\)"):
        built(**SMALL | {"d_ff": 33}).load_state(state)


@pytest.mark.cuda
def test_cuda_equals_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    settings = TransformerSettings(**SMALL | {"label_smoothing": 0.1, "lr": 1e-3})
    rows = [trained(Translation(settings, device))[-1][0] for device in (CPU, torch.device("cuda"))]
    for name in ("train_loss", "val_loss", "test_loss", "lr", "step"):
        assert rows[1][name] == pytest.approx(rows[0][name], rel=1e-3), name
