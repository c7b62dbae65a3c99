"""The TorchScript base: a body, named heads, and a forward that gives one tensor a task."""

from dataclasses import dataclass

import torch

# From `features`, what the body returned, to what the heads see. [N, T, D] -> [N, D] but for "none" and "given".
POOLS = {
    "mean": ("kept = attention_mask.unsqueeze(2).to(features.dtype)",
             "features = (features * kept).sum(1) / kept.sum(1).clamp(min=1)"),
    "mean_all": ("features = features.mean(1)",),
    "cls": ("features = features[:, 0]",),
    "none": (),
}


@dataclass(frozen=True)
class Argument:
    """Of forward."""
    name: str
    type: str = "Tensor"


class _Parts(torch.nn.Module):
    def __init__(self, body: torch.nn.Module, heads: torch.nn.Module):
        super().__init__()
        self.body = body
        self.heads = heads


def forward_source(arguments: list[Argument], tasks: list[str], pool: str) -> str:
    declared = ", ".join(f"{argument.name}: {argument.type}" for argument in arguments)
    passed = ", ".join(argument.name for argument in arguments)
    logits = ", ".join(f"'{task}': self.heads.{task}.forward(features)" for task in tasks)
    lines = [f"features = self.body.forward({passed})", *POOLS[pool], f"return {{{logits}}}"]
    return f"def forward(self, {declared}) -> Dict[str, Tensor]:\n" + "".join(f"    {line}\n" for line in lines)


def make_base(body: torch.jit.ScriptModule, heads: torch.nn.Module, arguments: list[Argument], pool: str) -> torch.jit.ScriptModule:
    """The parameters are those of `body` and `heads`, not copies."""
    base = torch.jit.script(_Parts(body, heads))
    base.define(forward_source(arguments, [task for task, _ in heads.named_children()], pool))
    return base.eval()


def tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers under every name that they have, tied ones too."""
    return {name: tensor.detach() for name, tensor in module.state_dict(keep_vars=True).items()}


def aliases_of(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Names of one memory and geometry: each further one -> the first."""
    firsts: dict[tuple, str] = {}
    aliases = {}
    for name, tensor in tensors.items():
        first = firsts.setdefault((tensor.data_ptr(), tuple(tensor.shape), tensor.stride()), name)
        if first != name and tensor.numel() > 0:
            aliases[name] = first
    return aliases
