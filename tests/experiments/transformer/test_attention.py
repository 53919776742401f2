"""Attention and its gradient, written out, against torch's own and by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mlpx.experiments.transformer.attention import (
    MASK_WIDTH,
    Layout,
    MultiHeadAttention,
    _fused_attention,
    _plain_attention,
    attention,
)
from mlpx.experiments.transformer.attention import attention_weights as weights_of
from mlpx.training import devices


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bias(*shape: int, seed: int) -> Tensor:
    """Zero or -inf, but never -inf for all keys."""
    found = torch.zeros(shape, dtype=torch.float64)
    found[random(*shape, seed=seed) > 0.3] = -math.inf
    found[..., 0] = 0
    return found


def multi_head(d_model: int, num_heads: int) -> MultiHeadAttention:
    torch.manual_seed(1)
    module = MultiHeadAttention(d_model, num_heads).double()
    for linear in (module.query, module.key_value, module.out):
        linear.products = torch.float64
    return module


@pytest.mark.parametrize("bias_shape", [(3, 2, 4, 5), (3, 1, 1, 5), (4, 5), (1, 1, 1, 1)])
def test_attention_equals_torchs_own(bias_shape: tuple[int, ...]) -> None:
    q, k, v = random(3, 2, 4, 6, seed=1), random(3, 2, 5, 6, seed=2), random(3, 2, 5, 6, seed=3)
    mask = bias(*bias_shape, seed=4)
    expected = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(attention(q, k, v, mask), expected, rtol=1e-12, atol=1e-12)


def test_attention_of_a_hand_worked_example() -> None:
    # K = 4: q·k / √4 is ln 3 for the first key, 0 for the second, so e to it is 3 and 1, and the shares 3/4 and 1/4.
    q = torch.tensor([1.0, 1, 1, 1]).view(1, 1, 1, 4)
    k = torch.tensor([[math.log(3) / 2] * 4, [1, -1, 1, -1]]).view(1, 1, 2, 4)
    v = torch.tensor([[4.0, 0, 8, 1], [8, 4, 0, 1]]).view(1, 1, 2, 4)
    torch.testing.assert_close(weights_of(q, k, torch.zeros(1, 2)).flatten(), torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(attention(q, k, v, torch.zeros(1, 2)).flatten(), torch.tensor([5.0, 1, 6, 1]))
    second_alone = attention(q, k, v, torch.tensor([[-math.inf, 0]]))
    torch.testing.assert_close(second_alone.flatten(), torch.tensor([8.0, 4, 0, 1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_scores_do_not_overflow(dtype: torch.dtype) -> None:
    q = torch.tensor([100.0, -100]).view(1, 1, 2, 1).to(dtype)
    k = torch.tensor([100.0, 0, -100]).view(1, 1, 3, 1).to(dtype)  # scores of ±10⁴
    v = torch.tensor([1.0, 2, 3]).view(1, 1, 3, 1).to(dtype)
    assert attention(q, k, v, torch.zeros(2, 3)).flatten().tolist() == [1, 3]
    first_forbidden = torch.tensor([[-math.inf, 0, 0], [0, 0, -math.inf]])
    assert attention(q, k, v, first_forbidden).flatten().tolist() == [2, 2]


QUERIES, KEYS = [(2, 3), (1, 2), (3, 1)], [(2, 2), (1, 4), (3, 3)]


def layout(num_heads: int) -> Layout:
    return Layout(QUERIES, KEYS, [bias(2, 1, 1, 2, seed=1), bias(1, num_heads, 2, 4, seed=2), bias(1, 3, seed=3)])


@pytest.mark.parametrize("num_heads", [1, 2])
def test_gradients_equal_differences_for_several_rectangles(num_heads: int) -> None:
    module = multi_head(4, num_heads)
    names = [name for name, _ in module.named_parameters()]

    def forward(x: Tensor, memory: Tensor, *parameters: Tensor) -> Tensor:
        arguments = (x, memory, layout(num_heads))
        found = torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), arguments)
        assert isinstance(found, Tensor)
        return found

    x, memory = random(11, 4, seed=1).requires_grad_(), random(17, 4, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(forward, (x, memory, *module.parameters()))
    open_bias = torch.zeros(1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda y: module(y, y, Layout(QUERIES, QUERIES, [open_bias] * 3)), (x,))


@pytest.mark.parametrize("num_heads", [1, 2, 4])
@pytest.mark.parametrize("is_self", [True, False])
def test_the_fused_kernel_of_a_gpu_and_the_plain_products_of_a_cpu_are_one_algorithm(
    num_heads: int, *, is_self: bool
) -> None:
    projections = [random(11, 8, seed=1).requires_grad_(), random(17, 16, seed=2).requires_grad_()]
    where = layout(num_heads)
    if is_self:
        projections = [random(11, 24, seed=1).requires_grad_()]
        biases = [bias(2, 1, 1, 3, seed=1), bias(1, num_heads, 2, 2, seed=2), bias(1, 1, seed=3)]
        where = Layout(QUERIES, QUERIES, biases)
    plain, fused = (attend(num_heads, where, projections) for attend in (_plain_attention, _fused_attention))
    torch.testing.assert_close(plain, fused, rtol=1e-12, atol=1e-12)
    by_output = random(11, 8, seed=3)
    gradients = [torch.autograd.grad(output, projections, by_output) for output in (plain, fused)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_biases_for_a_gpu_have_the_products_type_and_aligned_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    before = layout(2)
    assert before.for_products(torch.bfloat16) == before
    monkeypatch.setattr(devices, "is_accelerator", lambda device: True)
    aligned = before.for_products(torch.bfloat16)
    for bias_before, bias_after in zip(before.biases, aligned.biases, strict=True):
        assert bias_after.dtype == torch.bfloat16
        assert torch.equal(bias_after.double(), bias_before)
        *outer, inner = bias_after.stride()
        assert inner == 1
        assert all(stride % MASK_WIDTH == 0 for stride in outer)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_what_a_cpu_finds() -> None:
    module = multi_head(8, 2).float()
    for linear in (module.query, module.key_value, module.out):
        linear.products = torch.float32
    arguments = [random(11, 8, seed=1).float(), random(17, 8, seed=2).float()]
    biases = [mask.float() for mask in layout(2).biases]
    found = []
    for device in ("cpu", "cuda"):
        module.zero_grad()
        x, memory = (argument.to(device).requires_grad_() for argument in arguments)
        output = module.to(device)(x, memory, Layout(QUERIES, KEYS, [mask.to(device) for mask in biases]))
        output.square().sum().backward()
        tensors = [output, x.grad, memory.grad, *(parameter.grad for parameter in module.parameters())]
        found.append([tensor.detach().cpu() for tensor in tensors if tensor is not None])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_a_rectangle_is_read_as_if_it_were_alone() -> None:
    module = multi_head(8, 2)
    x, memory = random(11, 8, seed=1), random(17, 8, seed=2)
    together = module(x, memory, layout(2)).split([6, 2, 3])
    parts = zip(x.split([6, 2, 3]), memory.split([4, 4, 9]), *layout(2), strict=True)
    for found, (x_part, memory_part, queries, keys, mask) in zip(together, parts, strict=True):
        alone = module(x_part, memory_part, Layout([queries], [keys], [mask]))
        torch.testing.assert_close(found, alone, rtol=1e-12, atol=1e-12)


def test_finding_in_kept_keys_and_values_equals_forward() -> None:
    module = multi_head(8, 2)
    x, memory, mask = random(3, 4, 8, seed=1), random(3, 5, 8, seed=2), bias(3, 1, 1, 5, seed=3)
    expected = module(x.flatten(0, 1), memory.flatten(0, 1), Layout([(3, 4)], [(3, 5)], [mask])).view(3, 4, 8)
    with torch.no_grad():
        kept = module.keys_values(memory)
        assert kept.shape == (2, 3, 2, 5, 4)
        torch.testing.assert_close(module.attend(x, kept, mask), expected, rtol=1e-12, atol=1e-12)


def test_weights_are_the_shares_of_what_forward_finds() -> None:
    module = multi_head(8, 2)
    x, memory, mask = random(12, 8, seed=1), random(15, 8, seed=2), bias(3, 1, 4, 5, seed=3)
    one = Layout([(3, 4)], [(3, 5)], [mask])
    with torch.no_grad():
        weights = module.weights(x, memory, one)
        assert weights.shape == (3, 2, 4, 5)
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 4, dtype=torch.float64))
        assert not weights.masked_select(mask == -math.inf).any()
        _, values = module.keys_values(memory.view(3, 5, 8))
        found = module.out((weights @ values).transpose(1, 2).reshape(12, 8))
        torch.testing.assert_close(found, module(x, memory, one), rtol=1e-12, atol=1e-12)
