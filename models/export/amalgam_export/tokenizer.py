"""`tokenizer`: a small vocabulary of the texts themselves."""

from pathlib import Path

from .errors import ExportError
from .quiet import quiet
from .staging import staged
from .text import read_tsv

PAD, BEGIN, END = "<pad>", "<s>", "</s>"
LEAST = 3 + 256  # the special tokens and every byte, so that there is no unknown token


def train_tokenizer(folders: list[Path], output: Path, vocabulary: int) -> int:
    """Byte-level BPE of the folders' train.tsv, in the files that transformers reads. -> tokens"""
    if vocabulary < LEAST:
        raise ExportError(f"--vocabulary {vocabulary}: expected is {LEAST} at least: every byte and {PAD}, {BEGIN}, {END}")
    texts = [text for folder in folders for text in read_tsv(folder / "train.tsv", None).texts]
    try:
        with quiet():
            from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
            from transformers import PreTrainedTokenizerFast
    except ImportError as error:
        raise ExportError(f"the Python package transformers is not installed ({error}); run scripts/setup --real-models") from error
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer, trained.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[PAD, BEGIN, END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    trained.train_from_iterator(texts, trainer)
    trained.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(token, trained.token_to_id(token)) for token in (BEGIN, END)])
    with staged(output / "tokenizer.json") as stage, quiet():
        whole = PreTrainedTokenizerFast(tokenizer_object=trained, pad_token=PAD, bos_token=BEGIN, eos_token=END)
        whole.save_pretrained(stage)
    return trained.get_vocab_size()
