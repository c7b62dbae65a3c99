"""make_models.py FOLDER: models as users export them, with an input and the output that each gives."""

import pathlib
import sys
from typing import NamedTuple

import torch
from safetensors.numpy import save_file

folder = pathlib.Path(sys.argv[1])
torch.set_num_threads(1)
torch.manual_seed(0)


class Tied(torch.nn.Module):
    """Reads tokens and predicts tokens with one matrix; positions are made on the input's device."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(11, 6)
        self.position = torch.nn.Embedding(5, 6)
        self.output = torch.nn.Linear(6, 11, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens):
        position = torch.arange(tokens.shape[1], device=tokens.device)
        return self.output(torch.tanh(self.embedding(tokens) + self.position(position)))


class Outputs(NamedTuple):
    hidden: torch.Tensor
    logits: torch.Tensor


@torch.jit.script
class Result:
    def __init__(self, hidden: torch.Tensor, logits: torch.Tensor):
        self.hidden = hidden
        self.logits = logits


class Returns(torch.nn.Module):
    """Gives the hidden state beside the logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def parts(self, tokens):
        logits = self.model(tokens)
        return logits.tanh(), logits


class ReturnsDict(Returns):
    def forward(self, tokens):
        hidden, logits = self.parts(tokens)
        return {"hidden": hidden, "logits": logits}


class ReturnsTuple(Returns):
    def forward(self, tokens):
        return self.parts(tokens)


class ReturnsNamedTuple(Returns):
    def forward(self, tokens):
        hidden, logits = self.parts(tokens)
        return Outputs(hidden, logits)


class ReturnsObject(Returns):
    def forward(self, tokens):
        hidden, logits = self.parts(tokens)
        return Result(hidden, logits)


class ReturnsList(Returns):
    def forward(self, tokens):
        hidden, logits = self.parts(tokens)
        return [hidden, logits]


class ReturnsOneInDict(Returns):
    def forward(self, tokens):
        return {"logits": self.model(tokens)}


class ReturnsOneInTuple(Returns):
    def forward(self, tokens):
        return (self.model(tokens),)


class Keywords(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids) * attention_mask.unsqueeze(2)


model = Tied().eval()
tokens = torch.randint(0, 11, (3, 5))
mask = torch.ones(3, 5, dtype=torch.long)
mask[1, 2:] = 0
torch.jit.script(model).save(str(folder / "scripted.pt"))
torch.jit.trace(model, tokens).save(str(folder / "traced.pt"))
torch.jit.freeze(torch.jit.script(model)).save(str(folder / "frozen.pt"))
torch.save(model.state_dict(), folder / "state_dict.pt")
for name, kind in [("dict", ReturnsDict), ("tuple", ReturnsTuple)]:
    torch.jit.script(kind(model)).save(str(folder / f"scripted_{name}.pt"))
    torch.jit.trace(kind(model), tokens, strict=False).save(str(folder / f"traced_{name}.pt"))
for name, kind in [("named_tuple", ReturnsNamedTuple), ("object", ReturnsObject), ("list", ReturnsList),
                   ("single_dict", ReturnsOneInDict), ("single_tuple", ReturnsOneInTuple)]:
    torch.jit.script(kind(model)).save(str(folder / f"{name}.pt"))
torch.jit.script(Keywords(model)).save(str(folder / "keyword_scripted.pt"))
torch.jit.trace(Keywords(model), (tokens, mask)).save(str(folder / "keyword_traced.pt"))
output = model(tokens).detach()
save_file({"input": tokens.numpy(), "output": output.numpy(), "mask": mask.numpy(),
           "masked_output": (output * mask.unsqueeze(2)).numpy()}, str(folder / "expected.safetensors"))
