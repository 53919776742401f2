"""Translating lines by what a run learned."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlpx.cli import streams, train
from mlpx.errors import UsageError
from mlpx.experiments.tasks import MAX_WORDS
from mlpx.experiments.translator import Translator, length_penalty_of
from mlpx.files import write_file
from mlpx.runs import reading
from mlpx.settings.transformer import TransformerSettings
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
    """Print a line for each of ``text``, or of standard input where there is none, in order.

    ``attention`` is where to draw the attention of the first line that is not blank.

    Raises:
        InputError: the run cannot be read.
        UsageError: the run is of another experiment, or there is no line whose attention could be drawn.
    """
    train.collect_garbage()
    settings = reading.settings_of(run)
    if not isinstance(settings, TransformerSettings):
        raise UsageError("translate", f"{run.name} is a run of {settings.experiment}", "Give a run of transformer.")
    beam = settings.beam if beam is None else beam
    translator = Translator(settings, devices.choose(device), run)
    length_penalty = length_penalty_of(settings, run) if length_penalty is None else length_penalty
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
    """The lines of standard input, as soon as they are there: one at a time from a terminal, many from a file."""
    rest = b""
    while data := os.read(sys.stdin.fileno(), READ_AT_ONCE) if sys.stdin else b"":  # none where it is closed
        *lines, rest = (rest + data).split(b"\n")
        if lines:
            yield [_decoded(line) for line in lines]
    if rest:
        yield [_decoded(rest)]


def _decoded(line: bytes) -> str:
    return line.decode(errors="replace").removesuffix("\r")
