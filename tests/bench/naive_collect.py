"""naive_collect.py FOLDER OUTPUT: collects the same statistics of the models in FOLDER in the plain way.

Batch size 1, hooks in Python on every linear layer for XᵀX and GᵀG, the squares of `.grad` after each example's backward
pass. The models are eager twins with the parameters of the TorchScript files that `collect_bench --write` made, and give the
same outputs. Writes JSON: "<kinds>/<model>" -> milliseconds for one pass over the examples, the median of three.
"""

import json
import pathlib
import statistics
import sys
import time
import warnings

import torch
from safetensors.torch import load_file


class Attention(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        for name in ("query", "key", "value", "output"):
            setattr(self, name, torch.nn.Linear(width, width))

    def forward(self, x):
        shape = [x.size(0), x.size(1), self.heads, x.size(2) // self.heads]
        query, key, value = (layer(x).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        weight = torch.softmax(query * shape[3] ** -0.5 @ key.transpose(2, 3), 3)
        return self.output((weight @ value).transpose(1, 2).reshape(x.shape))


class Feed(torch.nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.up, self.down = torch.nn.Linear(width, hidden), torch.nn.Linear(hidden, width)

    def forward(self, x):
        return self.down(torch.nn.functional.gelu(self.up(x)))


class Block(torch.nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.attention_norm, self.mlp_norm = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.attention, self.mlp = Attention(width, heads), Feed(width, hidden)

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class EncoderBody(torch.nn.Module):
    def __init__(self, parameters, patch=4, heads=12):
        super().__init__()
        self.patch = patch
        width, inputs = parameters["body.embedding.weight"].shape
        depth = 1 + max(int(name.split(".")[2]) for name in parameters if name.startswith("body.blocks."))
        hidden = parameters["body.blocks.0.mlp.up.weight"].shape[0]
        self.embedding = torch.nn.Linear(inputs, width)
        self.position = torch.nn.Parameter(torch.empty_like(parameters["body.position"]))
        self.blocks = torch.nn.Sequential(*(Block(width, heads, hidden) for _ in range(depth)))
        self.norm = torch.nn.LayerNorm(width)

    def forward(self, x):
        count, channels, height, width = x.shape
        side = self.patch
        patches = x.reshape(count, channels, height // side, side, width // side, side).permute(0, 2, 4, 1, 3, 5)
        tokens = self.embedding(patches.reshape(count, -1, channels * side * side)) + self.position
        return self.norm(self.blocks(tokens)).mean(1)


class MlpBody(torch.nn.Module):
    def __init__(self, parameters):
        super().__init__()
        names = sorted(name for name in parameters if name.startswith("body.layers.") and name.endswith(".weight"))
        self.layers = torch.nn.ModuleList(torch.nn.Linear(*reversed(parameters[name].shape)) for name in names)

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


class Twin(torch.nn.Module):
    def __init__(self, script):
        super().__init__()
        parameters = dict(script.named_parameters())
        self.body = EncoderBody(parameters) if "body.position" in parameters else MlpBody(parameters)
        self.head = torch.nn.Linear(*reversed(parameters["head.weight"].shape))
        self.load_state_dict(script.state_dict())

    def forward(self, x):
        return self.head(self.body(x))


def collect(model, inputs, target, kinds):
    """The sums, as anyone would write them down first."""
    sums, handles = {}, []

    def add(name, value):
        sums[name] = sums[name] + value if name in sums else value.clone()

    for name, layer in model.named_modules():
        if not isinstance(layer, torch.nn.Linear):
            continue

        def see_input(_, arguments, name=name):
            x = arguments[0].detach().flatten(0, -2)
            add(name + "/input_gram", x.T @ x)

        def see_gradient(_, __, gradients, name=name):
            g = gradients[0].flatten(0, -2)
            add(name + "/output_gram", g.T @ g)

        if kinds in ("input_gram", "kronecker", "all"):
            handles.append(layer.register_forward_pre_hook(see_input))
        if kinds in ("kronecker", "all"):
            handles.append(layer.register_full_backward_hook(see_gradient))
    squares = kinds in ("squared_gradient", "all")
    for n in range(len(inputs)):
        if kinds == "input_gram":
            with torch.no_grad():
                model(inputs[n : n + 1])
            continue
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs[n : n + 1]), target[n : n + 1], reduction="sum").backward()
        if squares:
            for name, parameter in model.named_parameters():
                add(name + "/squared_gradient", parameter.grad**2)
    for handle in handles:
        handle.remove()
    return sums


def main(folder, output):
    warnings.filterwarnings("ignore", message="Full backward hook is firing")  # the first layer's input is data
    torch.set_num_threads(2)
    result = {}
    for path in sorted(folder.glob("*.pt")):
        script = torch.jit.load(path).eval()
        model = Twin(script).eval()
        data = load_file(path.with_suffix(".safetensors"))
        inputs, target = data["input.0"], data["target"]
        with torch.no_grad():
            torch.testing.assert_close(model(inputs[:4]), script(inputs[:4]), rtol=1e-4, atol=1e-5)
        for kinds in ("input_gram", "kronecker", "squared_gradient", "all"):
            collect(model, inputs[:2], target[:2], kinds)
            seconds = []
            for _ in range(3):
                begin = time.perf_counter()
                collect(model, inputs, target, kinds)
                seconds.append(time.perf_counter() - begin)
            result[f"{kinds}/{path.stem}"] = 1000 * statistics.median(seconds)
    output.write_text(json.dumps(result, indent=2) + "\n")


main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
