"""Small random models, made by transformers as a user's are."""

import contextlib
import os
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers
from amalgam_export.errors import ExportError
from amalgam_export.quiet import quiet

torch.set_num_threads(1)
SIZES = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=40)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "##s", "the", "end"]


def configs() -> dict[str, transformers.PretrainedConfig]:
    t = transformers
    return {
        "bert": t.BertConfig(**SIZES),
        "roberta": t.RobertaConfig(**SIZES),
        "distilbert": t.DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=40),
        "albert": t.AlbertConfig(embedding_size=8, **SIZES),
        "electra": t.ElectraConfig(embedding_size=8, **SIZES),
        "mpnet": t.MPNetConfig(**SIZES),
        "deberta-v2": t.DebertaV2Config(relative_attention=True, pos_att_type=["p2c", "c2p"], **SIZES),
        "modernbert": t.ModernBertConfig(pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, **SIZES),
        "t5": t.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2),
        "vit": t.ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4),
    }


def save_tiny(folder: Path, config: transformers.PretrainedConfig, kind: type = transformers.AutoModel, **options: object) -> Path:
    """A model with weights far enough from 0 that a mistake shows."""
    torch.manual_seed(0)
    with quiet():
        model = kind.from_config(config) if kind is transformers.AutoModel else kind(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        model.save_pretrained(folder, **options)
    return folder


def tokens(count: int, length: int, kept: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count * length + kept)
    ids, mask = torch.randint(3, 40, (count, length), generator=generator), torch.ones(count, length, dtype=torch.long)
    mask[-1, kept:] = 0
    return ids, mask


class ExportCase(unittest.TestCase):
    """Has a folder of its own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    @contextlib.contextmanager
    def refuses(self, *parts: str) -> Iterator[None]:
        with self.assertRaises(ExportError) as caught:
            yield
        for part in parts:
            self.assertIn(part, str(caught.exception))

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}
