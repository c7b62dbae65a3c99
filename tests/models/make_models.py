"""make_models.py FOLDER: models as users export them, with an input and the output that each gives."""

import pathlib
import sys

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


model = Tied().eval()
tokens = torch.randint(0, 11, (3, 5))
torch.jit.script(model).save(str(folder / "scripted.pt"))
torch.jit.trace(model, tokens).save(str(folder / "traced.pt"))
torch.jit.freeze(torch.jit.script(model)).save(str(folder / "frozen.pt"))
torch.save(model.state_dict(), folder / "state_dict.pt")
save_file({"input": tokens.numpy(), "output": model(tokens).detach().numpy()}, str(folder / "expected.safetensors"))
