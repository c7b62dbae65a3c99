"""make_scan_models.py FOLDER: models, scripted, traced, and the first two also traced without gradients."""

import sys

import torch
from torch import nn

class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)
    def forward(self, x):
        return self.head(self.encoder(x).mean(1))

class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
            nn.Conv2d(4, 4, 3, groups=4, padding='same'), nn.ReLU(inplace=True))
        self.position = nn.Parameter(torch.randn(1, 4, 6, 6))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(4, 3))
    def forward(self, x):
        h = self.features(x) + self.position
        return self.head(self.norm(h.flatten(2).transpose(1, 2)).mean(1))

class Memory(nn.Module):
    """Two inputs: attention over a memory, then a stack of encoder layers."""
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)
    def forward(self, x, memory):
        return self.head(self.encoder(self.attention(x, memory, memory)[0]).mean(1))

class Language(nn.Module):
    """Packed query, key and value; positions without an example; the output's weight is the embedding's."""
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.positions = nn.Embedding(7, 8)
        self.norm = nn.LayerNorm(8)
        self.packed = nn.Linear(8, 24)
        self.projection = nn.Linear(8, 8)
        self.output = nn.Linear(8, 11, bias=False)
        self.output.weight = self.words.weight
    def forward(self, tokens):
        h = self.words(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        q, k, v = self.packed(self.norm(h)).chunk(3, -1)
        h = h + self.projection(torch.softmax(q @ k.transpose(1, 2), -1) @ v)
        return self.output(h)

class Vision(nn.Module):
    """A class token, a position embedding, layer scale."""
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(2, 8, 3, stride=3)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 5, 8))
        self.norm = nn.LayerNorm(8)
        self.mixing = nn.Linear(5, 5)
        self.gamma = nn.Parameter(torch.randn(8))
        self.head = nn.Linear(8, 3)
    def forward(self, x):
        h = self.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat((self.token.expand(h.shape[0], -1, -1), h), dim=1) + self.positions
        h = h + self.gamma * self.mixing(self.norm(h).transpose(1, 2)).tanh().transpose(1, 2)
        return self.head(h[:, 0])

class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(2, 4, batch_first=True)
        self.up = nn.ConvTranspose1d(4, 4, 2)
        self.head = nn.Linear(4, 3)
    def forward(self, x):
        return self.head(self.up(self.rnn(x)[0].transpose(1, 2)).mean(2))

torch.set_num_threads(1)
torch.manual_seed(0)
tokens = torch.randint(0, 11, (2, 5))
for name, model, inputs in [
        ('memory', Memory(), (torch.randn(2, 5, 8).double(), torch.randn(2, 3, 8).double())),
        ('language', Language(), (tokens,)), ('vision', Vision(), (torch.randn(2, 2, 6, 6).double(),)),
        ('recurrent', Recurrent(), (torch.randn(2, 5, 2).double(),))]:
    model = model.double().eval()
    torch.jit.script(model).save(f'{sys.argv[1]}/{name}.scripted.pt')
    torch.jit.trace(model, inputs, check_trace=False).save(f'{sys.argv[1]}/{name}.traced.pt')
for name, model, shape in [('transformer', Transformer(), (2, 5, 8)), ('convolutional', Convolutional(), (2, 2, 6, 6))]:
    model = model.double().eval()
    torch.jit.script(model).save(f'{sys.argv[1]}/{name}.scripted.pt')
    inputs = torch.randn(shape, dtype=torch.float64)
    torch.jit.trace(model, inputs, check_trace=False).save(f'{sys.argv[1]}/{name}.traced.pt')
    with torch.no_grad():
        torch.jit.trace(model, inputs, check_trace=False).save(f'{sys.argv[1]}/{name}.traced_without_gradients.pt')
