"""The experiment: the Transformer of "Attention Is All You Need", on numbers to be reversed or on pairs of sentences.

Losses are in nats a target word, padding left out, without label smoothing. The train loss is the running average over
an epoch, in which the weights change and dropout is on. Which weights are kept is chosen on the validation set alone.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from mlpx.errors import MachineError
from mlpx.experiments.transformer import model, muon, tasks
from mlpx.experiments.transformer.batches import Batch, Batches, load, num_targets
from mlpx.experiments.transformer.candidates import Candidate, MeanOfLastEpochs
from mlpx.experiments.transformer.flat import Flat
from mlpx.experiments.transformer.meter import EpochMeter
from mlpx.experiments.transformer.optimizers import Optimizer
from mlpx.experiments.transformer.protocol import EncoderDecoder
from mlpx.experiments.transformer.reverse import LENGTHS, LONGER_LENGTHS
from mlpx.experiments.transformer.scoring import Scorer, epoch_batches, hidden_states, num_words, perplexity
from mlpx.experiments.transformer.sentences import Pairs
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.experiments.transformer.smoothing import smoothed_loss
from mlpx.experiments.transformer.translate import draw_attention, length_penalty_of, load_weights
from mlpx.experiments.transformer.vocabulary import BOS, EOS
from mlpx.training.distributed import Group
from mlpx.training.experiment import Experiment, Learned, Outcome, Preparing, State, Values
from mlpx.training.randomness import generator
from mlpx.training.schedules import learning_rate
from mlpx.training.states import restore
from mlpx.training.stopping import VAL_LOSS, BestRow

SHOWN = 20  # translations in translations.txt
EASY_TO_SEE = range(8, 15)  # words of the sentence whose attention is drawn


class Translation(Experiment[TransformerSettings]):
    """An encoder-decoder on pairs of sentences, with its training, the choice of its weights, and its scores.

    A subclass with a :meth:`new_model` of its own trains another model; nothing else here depends on the Transformer.
    """

    @classmethod
    def prepare(cls, settings: TransformerSettings) -> Iterator[Preparing]:
        """See :meth:`Experiment.prepare`."""
        yield from tasks.prepare(settings)

    def __init__(self, settings: TransformerSettings, device: torch.device) -> None:
        self.settings = settings
        self._device = device
        self.task = tasks.build(settings)
        self.model = self.new_model(settings, len(self.task.vocabulary), device)
        matrices = muon.in_order(self.model.matrices()) if settings.optimizer == "muon" else []
        of_muon = {id(matrix) for matrix in matrices}
        self._flat = Flat([*(p for p in self.model.parameters() if id(p) not in of_muon), *matrices])
        self._optimizer = Optimizer(self._flat, matrices, settings.weight_decay)
        sizes = (settings.batch_tokens, settings.batch_size)
        self._batches = (1, epoch_batches(self.task.train, *sizes, settings.seed, 1))
        self._quality = f"val_{self.task.quality}"
        self._epoch = 0  # that is trained, or was trained last
        self._meter = EpochMeter(device)
        kept = {"best": self._flat.weights.detach()}
        self._best = self.best = BestRow(kept, eval_every=settings.eval_every, patience=settings.patience)
        self._best_quality = 0.0
        averages = settings.average_last > 1
        self._mean = MeanOfLastEpochs(self._flat.gradient, settings.epochs, settings.average_last) if averages else None

    @classmethod
    def new_model(cls, settings: TransformerSettings, vocab_size: int, device: torch.device) -> EncoderDecoder:
        """The untrained model."""
        return model.untrained(settings, vocab_size, device)

    @functools.cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.task, self.model, self.group)

    @property
    def title(self) -> str:
        """What pictures say that they are of."""
        return f"Transformer, task {self.settings.task}"

    @functools.cached_property
    def data_digest(self) -> str:
        """A digest of all pairs: those for training, validation and tests."""
        return self.task.digest()

    def batches(self, epoch: int) -> Batches:
        """The batches of ``epoch``, one a step, of rows of the training set."""
        if epoch != self._batches[0]:
            settings = self.settings
            sizes = (settings.batch_tokens, settings.batch_size)
            self._batches = (epoch, epoch_batches(self.task.train, *sizes, settings.seed, epoch))
        return self._batches[1]

    @property
    def num_steps(self) -> int:
        """Batches of an epoch, which are as many in each."""
        return self._batches[1].num_steps

    def training_pairs(self, epoch: int) -> Pairs:
        """The training pairs of ``epoch``; in the first ``both_ways`` epochs, half of them are reversed.

        A reversed pair is translated from its target to its source; which pairs these are differs from epoch to epoch.
        This is the bidirectional training of Ding, Wu and Tao (2021, https://arxiv.org/abs/2109.07780), who take all
        pairs in both directions. The batches of an epoch are the same either way, as they depend on the lengths of both
        sides alike.
        """
        pairs = self.task.train
        if epoch > self.settings.both_ways:
            return pairs
        is_turned = torch.rand(len(pairs.src), generator=generator(self.settings.seed, "flip", epoch)) < 0.5
        return pairs.turned(is_turned.numpy())

    def train(self, epoch: int, step: int) -> Iterator[int]:
        """Train ``epoch`` from ``step`` on, and yield the number of steps done after each."""
        pairs, batches = self.training_pairs(epoch), self.batches(epoch)
        self._epoch = epoch
        num_words_before = sum(num_targets(pairs, batches.rectangles(done)) for done in range(step))
        self._meter.begin(num_words(pairs), num_words_before)
        for number, batch in enumerate(load(pairs, batches, self._device, step, self.group), start=step):
            self._step(batch, (epoch - 1) * batches.num_steps + number + 1)
            yield number + 1
        if self._mean:
            self._mean.add(epoch, self._flat.weights.detach())

    def _step(self, batch: Batch, step: int) -> None:
        """Take a training step; ``step`` counts from 1 over all epochs. Nothing here waits for the device."""
        settings = self.settings
        loss = self._backward(batch, step)
        self._flat.gather_gradients()
        self.group.sum_(self._flat.gradient, loss)
        # From here on, all processes do the same.
        self._meter.add(loss)
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_([self._flat.weights], settings.clip_norm)
        self._optimizer.step(self._lr(step))

    def _backward(self, batch: Batch, step: int) -> Tensor:
        """Compute the gradients of this process's share of a step, and return the sum of the losses of its words."""
        settings, group = self.settings, self.group
        if not batch.src:
            return self._flat.gradient.new_zeros((), dtype=torch.float64)
        dropout = generator(settings.seed, "dropout", step * group.size + group.rank, self._device)
        hidden = hidden_states(self.model, batch, dropout)
        smoothed, plain = smoothed_loss(
            hidden, self.model.output_weight, batch.targets, settings.label_smoothing, self.model.products
        )
        (smoothed / batch.num_words).backward()
        return plain

    def _lr(self, step: int) -> float:
        """The learning rate of ``step``."""
        settings = self.settings
        num_steps = settings.epochs * self.num_steps
        return learning_rate(settings.schedule, settings.lr, step, settings.warmup_steps, num_steps)

    def evaluate(self) -> dict[str, Values]:
        """The epoch's training loss and speed, and the losses and the quality of the model as it stands.

        Raises:
            MachineError: The weights of several processes have ceased to be the same.
            Stopping: A signal came meanwhile.
        """
        sums = self.group.together(lambda: float(self._flat.weights.detach().sum(dtype=torch.float64)).hex())
        if len(set(sums)) > 1:
            why = "have drifted apart: their weights are no longer the same"
            raise MachineError("the processes", why, "Use machines with the same processors and GPUs.")
        train_loss, speed = self._meter.mean_loss(), self._meter.words_per_second()
        val_loss, quality = self._scorer.validate()
        step = self._epoch * self.num_steps
        return {
            "step": [step],
            "train_loss": [train_loss],
            "val_loss": [val_loss],
            "test_loss": [self._scorer.test_loss()],
            "val_perplexity": [perplexity(val_loss)],
            self._quality: [quality],
            "tokens_per_second": [speed],
            "lr": [self._lr(step)],
        }

    def remember(self, epoch: int, values: Mapping[str, Values]) -> None:
        """Keep the weights of ``epoch`` if they have the lowest validation loss so far."""
        (loss,), (quality,) = values[VAL_LOSS], values[self._quality]
        if self._best.offer(epoch, loss):
            self._best_quality = quality

    def state(self) -> State:
        """The weights, the optimizer's state, the running sums, and the best weights so far."""
        return {
            "flat_weights": self._flat.weights.detach(),
            **self._optimizer.state,
            **self._meter.state(),
            **self._best.state(),
            "best_quality": self._best_quality,
            **(self._mean.state() if self._mean else {}),
        }

    def load_state(self, state: State) -> None:
        """See :meth:`Experiment.load_state`."""
        restore(self.state(), state, "checkpoint", "Start the run anew.")
        self._best.take_numbers(state)
        self._best_quality = float(state["best_quality"])
        if self._mean:
            self._mean.take_numbers(state)

    def outcome(self, row: Mapping[str, float]) -> Outcome:
        """The weights that validate best, their metrics, and their translations."""
        chosen = self._choose(row)
        settings = self.settings
        tuned = settings.tune_length_penalty
        length_penalty = self._scorer.best_length_penalty(settings.beam) if tuned else settings.length_penalty
        tested, outputs = self._scorer.test(settings.beam, length_penalty)
        metrics = {
            "val_loss": chosen.loss,
            "val_perplexity": perplexity(chosen.loss),
            self._quality: chosen.quality,
            "length_penalty": length_penalty,
            **tested,
        }
        facts = {"weights": chosen.name}
        if self.task.quality == "bleu":
            facts["bleu_signature"] = self.task.bleu(outputs, self.task.tests["test"])[1]
        return Outcome(
            weights={name: p.detach().clone().cpu() for name, p in self.model.named_parameters()},
            metrics={name: [value] for name, value in metrics.items()},
            facts=facts,
            summary=f"{self._summary(tested)}; weights of {chosen.name}, the best in validation",
            files={"translations.txt": self._translations(outputs).encode(), **self.task.files},
            pictures=self._pictures(outputs),
        )

    def _choose(self, row: Mapping[str, float]) -> Candidate:
        """Put the weights of the lowest validation loss into the model: the last ones, a mean, or earlier ones.

        Quality has no say in it: BLEU on a thousand sentences varies more from epoch to epoch than the candidates do.
        """
        weights = self._flat.weights.detach().clone()
        candidates = [Candidate(f"epoch {row['epoch']:.0f}", row[VAL_LOSS], row[self._quality], weights)]
        if self._mean:
            mean = self._mean.mean()
            self._flat.copy_(mean)
            candidates.append(
                Candidate(f"the mean of the last {self._mean.count} epochs", *self._scorer.validate(), mean)
            )
        best = self._best
        if best.epoch:
            candidates.append(Candidate(f"epoch {best.epoch}", best.loss, self._best_quality, best.copies["best"]))
        chosen = min(candidates, key=lambda candidate: candidate.loss)
        self._flat.copy_(chosen.weights)
        return chosen

    def _summary(self, tested: Mapping[str, float]) -> str:
        """What the model can do, in words."""
        if self.task.quality == "bleu":
            return f"BLEU {tested['test_bleu']:.2f} on the test set"
        shares = []
        for name, kind, (shortest, longest) in (("test", "", LENGTHS), ("longer", "longer ", LONGER_LENGTHS)):
            count = len(self.task.tests[name].sources)
            share = f"{tested[f'{name}_exactness']:.1%} of {count:,} {kind}sequences"
            shares.append(f"{share} ({shortest} to {longest} numbers)")
        return f"exactly right: {shares[0]}, {shares[1]}"

    def _translations(self, outputs: Sequence[Sequence[int]]) -> str:
        """The first pairs of the test set with what the model makes of them."""
        pairs = self.task.tests["test"]
        translations = zip(pairs.sources, pairs.references, outputs, strict=True)
        return "\n".join(
            f"source:    {source}\nreference: {reference}\noutput:    {self.task.vocabulary.decode(output)}\n"
            for source, reference, output in list(translations)[:SHOWN]
        )

    def _pictures(self, outputs: Sequence[Sequence[int]]) -> dict[str, Callable[[], bytes]]:
        """The attention weights for a sentence of the test set; nothing for a model that has none."""
        sources = self.task.tests["test"].pairs.src.lists()
        easy = (i for i, src in enumerate(sources) if len(src) in EASY_TO_SEE and len(outputs[i]) in EASY_TO_SEE)
        shown = next(easy, 0)
        read, written = [*sources[shown], EOS], [BOS, *outputs[shown]]
        maps = self.model.attention_maps(read, written)
        if maps is None:
            return {}
        pieces = self.task.vocabulary.pieces
        return {"attention.png": lambda: draw_attention(maps, pieces(read), pieces(written))}

    @classmethod
    def final_metrics(
        cls, settings: TransformerSettings, device: torch.device, learned: Learned
    ) -> Mapping[str, Values]:
        """See :meth:`Experiment.final_metrics`."""
        task = tasks.reopen(settings, learned)
        trained = cls.new_model(settings, len(task.vocabulary), device)
        load_weights(trained, learned)
        tested, _ = Scorer(task, trained, Group()).test(settings.beam, length_penalty_of(settings, learned))
        return {name: [value] for name, value in tested.items()}
