"""A small causal language model in plain PyTorch, of today's decoders' parts."""

import torch
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu

STD = 0.02  # of the weights (initializer_range of transformers)


class Matrix(torch.nn.Module):
    """x Wᵀ, W [out, in]. torch.nn.Linear without its constants, which TorchScript writes in an order that changes."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(outputs, inputs) * STD)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight)


class Norm(torch.nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rms_norm(x, (x.size(-1),), self.weight, 1e-6)


def rotated(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions (Su et al. 2021) of x [N, heads, T, D]: component i and i + D/2 turn by t · 10000^(−2i/D)."""
    half = x.size(-1) // 2
    frequencies = 10000.0 ** (-torch.arange(half, dtype=torch.float32, device=x.device) / half)
    angles = torch.arange(x.size(-2), dtype=torch.float32, device=x.device).unsqueeze(1) * frequencies  # [T, D/2]
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


class Attention(torch.nn.Module):
    """Each token sees itself and those before it, so that padding on the right changes nothing to its left."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = Matrix(width, width)
        self.key = Matrix(width, width)
        self.value = Matrix(width, width)
        self.output = Matrix(width, width)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """[N, T, width] -> [N, heads, T, width / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        mixed = scaled_dot_product_attention(rotated(query), rotated(key), value, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))


class FeedForward(torch.nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate = Matrix(width, inner)
        self.up = Matrix(width, inner)
        self.down = Matrix(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(silu(self.gate(x)) * self.up(x))


class Block(torch.nn.Module):
    def __init__(self, width: int, heads: int, inner: int):
        super().__init__()
        self.attention_norm = Norm(width)
        self.attention = Attention(width, heads)
        self.feed_forward_norm = Norm(width)
        self.feed_forward = FeedForward(width, inner)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Decoder(torch.nn.Module):
    """input_ids [N, T] -> logits of the next token [N, T, vocabulary]; the output's weight is the embedding's."""

    def __init__(self, vocabulary: int, width: int, depth: int, heads: int):
        super().__init__()
        self.embedding = torch.nn.Parameter(torch.randn(vocabulary, width) * STD)
        inner = -(-8 * width // 3 // 32) * 32  # two thirds of 4 · width, as a gate adds a third matrix, up to a multiple of 32
        self.layers = torch.nn.ModuleList([Block(width, heads, inner) for _ in range(depth)])
        self.norm = Norm(width)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.embedding(input_ids, self.embedding)
        for layer in self.layers:
            x = layer(x)
        return linear(self.norm(x), self.embedding)
