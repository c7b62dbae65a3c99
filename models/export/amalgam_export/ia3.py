"""(IA)³: vectors that scale keys, values and the hidden activations of feed-forward networks, as parameters of the base.

Liu et al. 2022, Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning. A vector is called as PEFT
calls it, `ia3_l` of the linear module that it belongs to: of keys and values it scales the output, of a feed-forward network's second
layer the input.
"""

import torch

from .errors import ExportError

VECTOR = "ia3_l"
# How the encoders of transformers call these modules, as ends of names.
OUTPUTS = {"keys": ("attention.self.key", "attention.attention.key", "attention.attn.k", "attention.k_lin"),
           "values": ("attention.self.value", "attention.attention.value", "attention.attn.v", "attention.v_lin")}
INPUTS = {"feed-forward networks": ("output.dense", "ffn.lin2")}
NOT_INPUTS = ("attention.output.dense",)


class ScaledOutput(torch.nn.Module):
    """y = l ⊙ (W x + b)"""

    def __init__(self, linear: torch.nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.ia3_l = torch.nn.Parameter(torch.ones(linear.out_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight, self.bias) * self.ia3_l


class ScaledInput(torch.nn.Module):
    """y = W (l ⊙ x) + b"""

    def __init__(self, linear: torch.nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.ia3_l = torch.nn.Parameter(torch.ones(linear.in_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x * self.ia3_l, self.weight, self.bias)


def is_vector(name: str) -> bool:
    return name.split(".")[-1] == VECTOR


def scaled_by(name: str) -> str:
    """Which side of its module a vector scales."""
    return "input" if _ends(name.removesuffix(f".{VECTOR}"), INPUTS["feed-forward networks"]) else "output"


def insert_vectors(model: torch.nn.Module) -> None:
    """Puts vectors of ones into the model: what it computes stays. @throws ExportError where the modules are not known"""
    found = {part: _modules(model, ends) for part, ends in (OUTPUTS | INPUTS).items()}
    counts = {part: len(modules) for part, modules in found.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise ExportError(f"--ia3: {type(model).__name__} has {', '.join(f'{count} {part}' for part, count in counts.items())} of known "
                          "names, and of each there must be one a layer; known are BERT's, RoBERTa's, ELECTRA's, MPNet's, DistilBERT's "
                          "and ViT's. Use `module` with a function that puts the vectors in")
    for part, modules in found.items():
        for name, module in modules.items():
            scaled = ScaledOutput(module) if part in OUTPUTS else ScaledInput(module)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, scaled)


def _modules(model: torch.nn.Module, ends: tuple[str, ...]) -> dict[str, torch.nn.Linear]:
    return {name: module for name, module in model.named_modules()
            if type(module) is torch.nn.Linear and _ends(name, ends) and not _ends(name, NOT_INPUTS)}


def _ends(name: str, ends: tuple[str, ...]) -> bool:
    return any(f".{name}".endswith(f".{end}") for end in ends)


def fold_vector(name: str, vector: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """Scales, in place, the weight and the bias of the vector's module, so that it can go."""
    scale_input = scaled_by(name) == "input"
    weight.mul_(vector.to(weight.dtype) if scale_input else vector.to(weight.dtype).unsqueeze(1))
    if bias is not None and not scale_input:
        bias.mul_(vector.to(bias.dtype))
