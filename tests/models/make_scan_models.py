"""make_scan_models.py FOLDER: two models, scripted, traced, and traced without gradients."""

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

torch.set_num_threads(1)
torch.manual_seed(0)
for name, model, shape in [('transformer', Transformer(), (2, 5, 8)), ('convolutional', Convolutional(), (2, 2, 6, 6))]:
    model = model.double().eval()
    torch.jit.script(model).save(f'{sys.argv[1]}/{name}.scripted.pt')
    inputs = torch.randn(shape, dtype=torch.float64)
    torch.jit.trace(model, inputs, check_trace=False).save(f'{sys.argv[1]}/{name}.traced.pt')
    with torch.no_grad():
        torch.jit.trace(model, inputs, check_trace=False).save(f'{sys.argv[1]}/{name}.traced_without_gradients.pt')
