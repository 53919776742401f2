"""Translating lines by what a run learned. Imports torch, so it is imported late."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlpx.cli import streams
from mlpx.errors import UsageError
from mlpx.experiments.transformer.encoding import MAX_WORDS
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.experiments.transformer.translate import Translator, length_penalty_of
from mlpx.files import require_writable, write_file
from mlpx.runs import reading
from mlpx.runs.weights import learned_of
from mlpx.training import devices

READ_AT_ONCE = 2**16


def translate(
    run: Path,
    text: Sequence[str],
    beam: int | None,
    length_penalty: float | None,
    attention: Path | None,
    device: str,
    *,
    as_json: bool,
) -> None:
    """Print a translation for each line, in order.

    Args:
        run: The run folder.
        text: The lines; where there are none, those of standard input.
        beam: The number of hypotheses a line; ``None`` is the run's own.
        length_penalty: As in training; ``None`` is the run's own.
        attention: Where to draw the attention weights of the first line that is not blank.
        device: Where to compute, as ``--device`` takes it.
        as_json: Whether to print JSON Lines.

    Raises:
        InputError: The run cannot be read.
        MachineError: The picture cannot be written where it is to be.
        UsageError: The run is of another experiment, or there is no line whose attention could be drawn.
    """
    if attention is not None:
        require_writable(attention, "--attention")
    settings = reading.settings_of(run)
    if not isinstance(settings, TransformerSettings):
        raise UsageError("translate", f"{run.name} is a run of {settings.experiment}", "Give a run of transformer.")
    beam = settings.beam if beam is None else beam
    learned = learned_of(run)
    translator = Translator(settings, devices.choose(device), learned)
    length_penalty = length_penalty_of(settings, learned) if length_penalty is None else length_penalty
    number, drawn = 0, None
    for lines in [[" ".join(line.split("\n")) for line in text]] if text else _lines():
        for line, (output, score, cut) in zip(lines, translator.translate(lines, beam, length_penalty), strict=True):
            number += 1
            if cut:
                streams.warn(f"line {number} is too long: only its first {MAX_WORDS} words were read")
            about = {"event": "translation", "source": line, "translation": output, "score": score}
            print(json.dumps(about) if as_json else output)
            drawn = drawn or line.strip()
        sys.stdout.flush()
    if attention is not None:
        if not drawn:
            raise UsageError("--attention", "there is no line to draw", "Give a TEXT.")
        write_file(attention, translator.draw_attention(drawn, beam, length_penalty))


def _lines() -> Iterator[list[str]]:
    """The lines of standard input, as soon as they arrive: one at a time from a terminal, many from a file."""
    # A line that has not ended is kept in parts, since joining it anew with each part would take quadratic time.
    parts: list[bytes] = []
    # Python has no standard input where the caller has closed it.
    while data := os.read(sys.stdin.fileno(), READ_AT_ONCE) if sys.stdin else b"":
        first, *others = data.split(b"\n")
        parts.append(first)
        if others:
            *lines, rest = [b"".join(parts), *others]
            parts = [rest]
            yield [_decoded(line) for line in lines]
    if any(parts):
        yield [_decoded(b"".join(parts))]


def _decoded(line: bytes) -> str:
    return line.decode(errors="replace").removesuffix("\r")
