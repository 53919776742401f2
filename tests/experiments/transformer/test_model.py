"""The Transformer against torch.nn's own in float64, and what masks, positions and neighbors may do to a word."""

import math
import statistics
from collections.abc import Sequence
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from mlpx.experiments.transformer import linear
from mlpx.experiments.transformer.attention import Layout, MultiHeadAttention
from mlpx.experiments.transformer.blocks import DecoderBlock, EncoderBlock, Residual
from mlpx.experiments.transformer.dropout import Dropout
from mlpx.experiments.transformer.linear import Linear
from mlpx.experiments.transformer.model import Transformer, positions
from mlpx.experiments.transformer.vocabulary import PAD

VOCAB_SIZE = 23
THEIR_NAMES = {  # and ours
    "layers.": "",
    "self_attn": "attention",
    "multihead_attn": "cross_attention",
    "out_proj": "out",
    "linear1": "feed_forward.inner",
    "linear2": "feed_forward.outer",
    **{f"norm{i + 1}": f"residuals.{i}.norm" for i in range(3)},
    "coder.norm": "coder_norm",
}


def transformer(
    *, num_layers: int = 2, d_model: int = 8, num_heads: int = 2, d_ff: int = 12, pre_norm: bool = False
) -> Transformer:
    """In float64, with biases that are not zero and norms that are not one."""
    torch.manual_seed(1)
    model = Transformer(
        VOCAB_SIZE,
        num_layers=num_layers,
        d_model=d_model,
        num_heads=num_heads,
        d_ff=d_ff,
        pre_norm=pre_norm,
        products=torch.float64,
    ).double()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def sentences(lengths: Sequence[int], seed: int, width: int = 0) -> Tensor:
    words = torch.randint(1, VOCAB_SIZE, (len(lengths), 20), generator=torch.Generator().manual_seed(seed))
    words[torch.arange(20) >= torch.tensor(lengths)[:, None]] = PAD
    return words[:, : max(*lengths, width)]


def cotangent(tgt: Tensor, d_model: int = 8) -> Tensor:
    """Random where ``tgt`` (B, T) holds words, zero where it is padding: (B·T, D)."""
    random = torch.randn(*tgt.shape, d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return random.mul_((tgt != PAD)[..., None]).flatten(0, 1)


def gradients(output: Tensor, by_output: Tensor, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
    return torch.autograd.grad(output, parameters, by_output)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def our_names(theirs: str) -> list[str]:
    """The parameters that one of torch's is made of, one upon the other."""
    name = theirs
    for their_part, our_part in THEIR_NAMES.items():
        name = name.replace(their_part, our_part)
    return [name.replace("in_proj_", part) for part in ("query.", "key_value.")] if "in_proj_" in name else [name]


def torchs_own(model: Transformer, num_heads: int, d_ff: int, *, pre_norm: bool) -> nn.Transformer:
    """Torch's encoder and decoder with the weights of ``model``."""
    num_layers, d_model = len(model.encoder), model.embedding.embedding_dim
    encoder_norm, decoder_norm = (nn.LayerNorm(d_model) if pre_norm else None for _ in range(2))
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(d_model, num_heads, d_ff, 0.0, batch_first=True, norm_first=pre_norm),
        num_layers,
        norm=encoder_norm,
        enable_nested_tensor=False,
    )
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(d_model, num_heads, d_ff, 0.0, batch_first=True, norm_first=pre_norm),
        num_layers,
        norm=decoder_norm,
    )
    found = nn.Transformer(
        d_model, num_heads, custom_encoder=encoder, custom_decoder=decoder, batch_first=True
    ).double()
    own = dict(model.named_parameters())
    found.load_state_dict({name: torch.cat([own[n] for n in our_names(name)]) for name in found.state_dict()})
    return found


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize(
    ("num_layers", "d_model", "num_heads", "d_ff"), [(1, 4, 1, 3), (2, 8, 2, 12), (3, 12, 3, 20), (2, 16, 8, 64)]
)
def test_outputs_and_gradients_equal_those_of_torchs_transformer(
    num_layers: int, d_model: int, num_heads: int, d_ff: int, pre_norm: bool
) -> None:
    model = transformer(num_layers=num_layers, d_model=d_model, num_heads=num_heads, d_ff=d_ff, pre_norm=pre_norm)
    theirs = torchs_own(model, num_heads, d_ff, pre_norm=pre_norm)
    src, tgt = sentences([5, 7, 2, 1], seed=1), sentences([6, 3, 8, 1], seed=2)
    output = model([src], [tgt])
    padding = src == PAD
    their_output = theirs(
        model.embed([src]).view(*src.shape, d_model),
        model.embed([tgt]).view(*tgt.shape, d_model),
        tgt_mask=torch.ones(8, 8, dtype=torch.bool).triu(1),
        src_key_padding_mask=padding,
        memory_key_padding_mask=padding,
    ).flatten(0, 1)
    real = (tgt != PAD).flatten()
    assert_same(output[real], their_output[real])
    by_output = cotangent(tgt, d_model)
    names = dict(model.named_parameters())
    ours = dict(zip(names, gradients(output, by_output, list(names.values())), strict=True))
    their_names = [name for name, _ in theirs.named_parameters()]
    *found, by_embedding = gradients(their_output, by_output, [*theirs.parameters(), model.embedding.weight])
    assert_same(ours.pop("embedding.weight"), by_embedding)
    for name, gradient in zip(their_names, found, strict=True):
        assert_same(torch.cat([ours.pop(n) for n in our_names(name)]), gradient)
    assert not ours


@pytest.mark.parametrize("pre_norm", [False, True])
def test_several_rectangles_at_once_give_what_each_gives_alone(pre_norm: bool) -> None:
    model = transformer(pre_norm=pre_norm)
    src = [sentences(lengths, seed=i) for i, lengths in enumerate(([2, 1, 2], [7], [4, 5]))]
    tgt = [sentences(lengths, seed=9 + i) for i, lengths in enumerate(([1, 3, 2], [4], [9, 8]))]
    parameters = list(model.parameters())
    cotangents = [cotangent(words) for words in tgt]
    together = model(src, tgt)
    alone = [model([s], [t]) for s, t in zip(src, tgt, strict=True)]
    assert_same(together, torch.cat(alone))
    of_each = [gradients(output, by_output, parameters) for output, by_output in zip(alone, cotangents, strict=True)]
    for found, *parts in zip(gradients(together, torch.cat(cotangents), parameters), *of_each, strict=True):
        assert_same(found, torch.stack(parts).sum(0))


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_target_word_changes_what_is_at_its_place_and_after_but_nothing_before(pre_norm: bool) -> None:
    model = transformer(pre_norm=pre_norm)
    src, tgt = sentences([5, 3], seed=1), sentences([6, 6], seed=2)
    before = model([src], [tgt]).detach().view(2, 6, -1)
    for place in range(6):
        changed = tgt.clone()
        changed[:, place] = tgt[:, place] % (VOCAB_SIZE - 1) + 1
        changes = (model([src], [changed]).detach().view(2, 6, -1) - before).abs().amax(2)
        assert bool((changes[:, :place] < 1e-13).all())
        assert bool((changes[:, place:] > 1e-6).all())


@pytest.mark.parametrize("pre_norm", [False, True])
def test_each_source_word_changes_each_target_word(pre_norm: bool) -> None:
    model = transformer(pre_norm=pre_norm)
    src, tgt = sentences([5, 5], seed=1), sentences([4, 4], seed=2)
    before = model([src], [tgt]).detach()
    for place in range(5):
        changed = src.clone()
        changed[:, place] = src[:, place] % (VOCAB_SIZE - 1) + 1
        changes = (model([changed], [tgt]).detach() - before).abs().amax(1)
        assert bool((changes > 1e-6).all())


@pytest.mark.parametrize("pre_norm", [False, True])
def test_more_padding_changes_no_real_word_and_no_gradient(pre_norm: bool) -> None:
    model = transformer(pre_norm=pre_norm)
    parameters = list(model.parameters())
    found = []
    for more in (0, 4):
        src, tgt = sentences([5, 3, 4], seed=1, width=5 + more), sentences([2, 6, 5], seed=2, width=6 + more)
        assert tgt.shape == (3, 6 + more)
        output = model([src], [tgt])
        by_output = torch.zeros_like(output).view(3, 6 + more, -1)
        by_output[:, :6] = cotangent(sentences([2, 6, 5], seed=2)).view(3, 6, -1)
        real = output[(tgt != PAD).flatten()]
        found.append([real, *gradients(output, by_output.flatten(0, 1), parameters)])
    for less, more in zip(*found, strict=True):
        assert_same(less, more)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_sentence_is_read_as_if_it_were_alone(pre_norm: bool) -> None:
    model = transformer(pre_norm=pre_norm)
    src_lengths, tgt_lengths = [5, 7, 2], [6, 3, 8]
    src, tgt = sentences(src_lengths, seed=1), sentences(tgt_lengths, seed=2)
    together = model([src], [tgt]).view(3, 8, -1)
    for i, (s, t) in enumerate(zip(src_lengths, tgt_lengths, strict=True)):
        assert_same(together[i, :t], model([src[i : i + 1, :s]], [tgt[i : i + 1, :t]]))


def test_positions_of_hand_worked_values() -> None:
    found = positions(3, 4)
    expected = [
        [0, 1, 0, 1],
        [0.8414709848, 0.5403023059, 0.0099998333, 0.9999500004],  # of 1 and 1/100
        [0.9092974268, -0.4161468365, 0.0199986667, 0.9998000067],  # of 2 and 2/100
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)
    base = positions(4, 512)
    assert base.shape == (4, 512)
    assert float(base[3, 256]) == pytest.approx(0.0299955002, abs=1e-10)  # i = D/4: sine and cosine of 3/100
    assert float(base[3, 257]) == pytest.approx(0.9995500337, abs=1e-10)


def test_positions_go_on_beyond_the_longest_sentence_so_far() -> None:
    model = transformer()
    short, long = sentences([5], seed=1), torch.randint(1, VOCAB_SIZE, (2, 500))
    model.embed([short])
    found = model.embed([long]).view(2, 500, 8)
    expected = math.sqrt(8) * model.embedding(long) + positions(500, 8)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert torch.equal(found, transformer().embed([long]).view(2, 500, 8))
    for first in (1, 7, 499):
        assert torch.equal(transformer().embed([long[:, first:]], first=first).view(2, -1, 8), found[:, first:])


def test_embeddings_are_scaled_by_the_root_of_their_width() -> None:
    model = transformer(d_model=16)
    words = torch.tensor([[3, 3, 9]])
    found = model.embed([words]) - positions(3, 16)
    torch.testing.assert_close(found, 4 * model.embedding.weight[words[0]])


def test_logits_are_products_with_the_embeddings() -> None:
    model = transformer()
    hidden = torch.randn(3, 2, 8, dtype=torch.float64)
    weight = model.embedding.weight
    expected = torch.stack([(hidden * weight[v]).sum(-1) for v in range(VOCAB_SIZE)], dim=-1)
    torch.testing.assert_close(model.logits(hidden), expected)


def test_the_base_model_of_the_paper_has_its_63_million_parameters() -> None:
    with torch.device("meta"):
        model = Transformer(37_000, num_layers=6, d_model=512, num_heads=8, d_ff=2048)
    attention = 4 * (512 * 512 + 512)  # queries, keys, values, output
    feed_forward = (512 * 2048 + 2048) + (2048 * 512 + 512)
    norm = 2 * 512
    encoder = 6 * (attention + feed_forward + 2 * norm)
    decoder = 6 * (2 * attention + feed_forward + 3 * norm)
    assert 37_000 * 512 + encoder + decoder == 63_082_496
    assert sum(parameter.numel() for parameter in model.parameters()) == 63_082_496


def test_initial_weights_are_those_of_glorot_and_of_the_paper() -> None:
    torch.manual_seed(3)
    model = Transformer(500, num_layers=1, d_model=64, num_heads=4, d_ff=192)
    assert float(model.embedding.weight.detach().std()) == pytest.approx(64**-0.5, rel=0.02)
    matrices = []
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            matrices += [module.query.weight, *module.key_value.weight.chunk(2), module.out.weight]
        if isinstance(module, (EncoderBlock, DecoderBlock)):
            matrices += [module.feed_forward.inner.weight, module.feed_forward.outer.weight]
        if isinstance(module, (Linear, nn.LayerNorm)):
            assert not module.bias.any()
        if isinstance(module, nn.LayerNorm):
            assert bool((module.weight == 1).all())
    assert len(matrices) == 3 * 4 + 2 * 2
    for matrix in map(Tensor.detach, matrices):
        bound = math.sqrt(6 / sum(matrix.shape))
        assert 0.98 * bound < float(matrix.abs().max()) <= bound
        assert float(matrix.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_dropout_is_applied_to_embeddings_and_to_each_sublayers_result(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model = Transformer(VOCAB_SIZE, num_layers=3, d_model=8, num_heads=2, d_ff=12, dropout=0.5)
    masked = []
    plain = Dropout._factors

    def factors(self: Dropout, like: Tensor, generator: torch.Generator | None) -> Tensor | None:
        masked.append(like.shape)
        return plain(self, like, generator)

    monkeypatch.setattr(Dropout, "_factors", factors)
    source = torch.Generator().manual_seed(0)
    src, tgt = sentences([5, 4], seed=1), sentences([3, 2], seed=2)
    noisy = model([src], [tgt], source)
    assert masked == [(10, 8)] * (1 + 2 * 3) + [(6, 8)] * (1 + 3 * 3)
    assert torch.equal(model([src], [tgt], source.manual_seed(0)), noisy)
    assert not torch.equal(model([src], [tgt]), noisy)
    assert torch.equal(model([src], [tgt]), model([src], [tgt]))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("pre_norm", [False, True])
def test_bf16_products_stay_near_fp32_and_gradients_are_fp32(
    pre_norm: bool, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dropout:
        # Rows of no sentence draw random numbers of their own; without them, both types drop the same.
        monkeypatch.setattr(linear, "ROWS", 1)
    # bf16 keeps 8 bits, so that a rounding is off by 1/2⁹ of a number at most, and a number is rounded a dozen times;
    # gradients are more often, and where a ReLU is close to zero it may go the other way, which is a matter of chance.
    errors = [errors_of_bf16(pre_norm, dropout, seed) for seed in range(1, 10)]
    for name, of_seeds, bound in zip(
        ("outputs", "logits", "gradients"), zip(*errors, strict=True), (6 / 2**9, 6 / 2**9, 0.06), strict=True
    ):
        median = statistics.median(of_seeds)
        print(f"\n{name}: median {median:.4f}, at most {max(of_seeds):.4f}")
        assert 1 / 2**11 < median < bound


def errors_of_bf16(pre_norm: bool, dropout: float, seed: int) -> list[float]:
    """The relative errors of outputs, logits and gradients of a model drawn by ``seed``."""
    found = []
    src, tgt = sentences([5, 7, 2], seed=seed), sentences([6, 3, 8], seed=seed + 100)
    by_output = cotangent(tgt, 32).float()
    for products in (torch.float32, torch.bfloat16):
        torch.manual_seed(seed)
        model = Transformer(
            VOCAB_SIZE,
            num_layers=2,
            d_model=32,
            num_heads=4,
            d_ff=64,
            dropout=dropout,
            pre_norm=pre_norm,
            products=products,
        )
        output = model([src], [tgt], torch.Generator().manual_seed(0))
        by_weights = gradients(output, by_output, list(model.parameters()))
        assert {part.dtype for part in (output, model.logits(output), *by_weights)} == {torch.float32}
        found.append((output, model.logits(output), torch.cat([part.flatten() for part in by_weights])))
    return [
        float((rounded - exact).detach().norm() / exact.detach().norm()) for exact, rounded in zip(*found, strict=True)
    ]


def weights_by_hand(module: MultiHeadAttention, x: Tensor, memory: Tensor, *, causal: bool = False) -> Tensor:
    """Of x (T, D) and memory (S, D), head by head: (H, T, S)."""
    d_model = x.shape[1]
    size = d_model // module.num_heads
    weight, bias = module.key_value.weight[:d_model], module.key_value.bias[:d_model]
    queries, keys = x @ module.query.weight.T + module.query.bias, memory @ weight.T + bias
    found = []
    for head in range(module.num_heads):
        part = slice(head * size, (head + 1) * size)
        scores = queries[:, part] @ keys[:, part].T / math.sqrt(size)
        if causal:
            later = torch.arange(len(memory)) > torch.arange(len(x))[:, None]
            scores = scores.masked_fill(later, -math.inf)
        found.append(scores.softmax(-1))
    return torch.stack(found)


def test_attention_maps_equal_weights_worked_out_by_hand() -> None:
    model = transformer(num_layers=1, pre_norm=True)
    src, tgt = [4, 9, 2, 7, 7], [1, 5, 8]
    maps = model.attention_maps(src, tgt)
    encoder, decoder = cast(EncoderBlock, model.encoder[0]), cast(DecoderBlock, model.decoder[0])
    (norm, *_), (norm_before, norm_across, _) = (
        [cast(Residual, residual).norm for residual in block.residuals] for block in (encoder, decoder)
    )
    x, y = norm(model.embed([torch.tensor([src])])), model.embed([torch.tensor([tgt])])
    before = norm_before(y)
    causal = torch.full((3, 3), -math.inf, dtype=torch.float64).triu(1)
    across = norm_across(y + decoder.attention(before, before, Layout([(1, 3)], [(1, 3)], [causal])))
    memory = model.encode([torch.tensor([src])])
    expected = (
        weights_by_hand(encoder.attention, x, x),
        weights_by_hand(decoder.attention, before, before, causal=True),
        weights_by_hand(decoder.cross_attention, across, memory),
    )
    for (found,), by_hand in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, by_hand.detach().float())


@pytest.mark.parametrize("pre_norm", [False, True])
def test_attention_maps_are_shares_of_all_blocks_and_the_decoders_are_causal(pre_norm: bool) -> None:
    model = transformer(num_layers=3, num_heads=4, pre_norm=pre_norm)
    maps = model.attention_maps([4, 9, 2, 7, 7], [1, 5, 8])
    for kind, shape in zip(maps, [(4, 5, 5), (4, 3, 3), (4, 3, 5)], strict=True):
        assert [weights.shape for weights in kind] == [shape] * 3
        for weights in kind:
            assert weights.dtype == torch.float32
            assert not weights.requires_grad
            torch.testing.assert_close(weights.sum(-1), torch.ones(shape[:2]))
        assert not torch.equal(kind[0], kind[1])
    for weights in maps.decoder:
        assert not weights.triu(1).any()
    for weights in [*maps.encoder, *maps.cross]:
        assert bool((weights > 0).all())


@pytest.mark.parametrize("words", [[3, 4], [VOCAB_SIZE]])
def test_attention_maps_leave_no_hooks_behind(words: list[int]) -> None:
    model = transformer()
    if words == [VOCAB_SIZE]:  # a word that there is not
        with pytest.raises(IndexError):
            model.attention_maps(words, [1])
    else:
        model.attention_maps(words, [1])
    assert not any(module._forward_hooks for module in model.modules())
