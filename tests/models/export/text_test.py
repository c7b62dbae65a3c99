"""`text`: TSV files become token files."""

from pathlib import Path

import transformers
from amalgam_export.errors import ExportError
from amalgam_export.quiet import quiet
from amalgam_export.source import find_source, find_tokenizer
from amalgam_export.text import LanguageTokenizer, Tokenizer, convert_text
from amalgam_export.tokenizer import LEAST, train_tokenizer
from safetensors.numpy import load_file
from tiny import WORDS, ExportCase, configs


class Text(ExportCase):
    def setUp(self) -> None:
        super().setUp()
        model = self.folder / "model"
        configs()["bert"].save_pretrained(model)
        (model / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        transformers.BertTokenizerFast(str(model / "vocab.txt")).save_pretrained(model)
        self.tokenizer = Tokenizer(find_source(str(model)), 5)
        self.tsv = self.folder / "task"
        self.tsv.mkdir()
        (self.tsv / "classes.txt").write_text("negative\npositive\n")
        for split in ("train", "val", "test"):
            (self.tsv / f"{split}.tsv").write_text("label\ttext\n1\tgood films\n0\ta bad film, the end\n")

    def convert(self, output: str = "out", classes: int | None = None) -> Path:
        self.written = convert_text(self.tsv, self.folder / output, self.tokenizer, classes)
        return self.folder / output

    def test_writes_tokens_masks_and_labels(self) -> None:
        arrays = load_file(self.convert() / "train.safetensors")
        at = {word: i for i, word in enumerate(WORDS)}
        ids = [["[CLS]", "good", "film", "##s", "[SEP]"], ["[CLS]", "a", "bad", "film", "[SEP]"]]
        self.assertEqual(arrays["input.input_ids"].tolist(), [[at[word] for word in text] for text in ids])
        self.assertEqual(arrays["input.attention_mask"].tolist(), [[1] * 5] * 2)
        self.assertEqual(arrays["target"].tolist(), [1, 0])
        self.assertEqual({str(array.dtype) for array in arrays.values()}, {"int64"})
        self.assertEqual([(file.texts, file.cut) for file in self.written], [(2, 1)] * 3)

    def test_pads_short_texts(self) -> None:
        (self.tsv / "test.tsv").write_text("label\ttext\n1\tgood\n")
        arrays = load_file(self.convert() / "test.safetensors")
        self.assertEqual(arrays["input.input_ids"].tolist(), [[2, 6, 3, 0, 0]])
        self.assertEqual(arrays["input.attention_mask"].tolist(), [[1, 1, 1, 0, 0]])

    def test_writes_the_same_bytes_each_time(self) -> None:
        one, two = self.convert("one"), self.convert("two")
        for file in one.iterdir():
            self.assertEqual(file.read_bytes(), (two / file.name).read_bytes())

    def test_reads_windows_files_other_columns_and_line_breaks_of_unicode(self) -> None:
        (self.tsv / "train.tsv").write_bytes("\ufefftext\tid\tlabel\r\ngood\u2028film\x85\t7\t1\r\n".encode())
        arrays = load_file(self.convert() / "train.safetensors")
        self.assertEqual((arrays["input.input_ids"][0, :3].tolist(), arrays["target"].tolist()), ([2, 6, 8], [1]))

    def test_needs_no_val_file(self) -> None:
        (self.tsv / "val.tsv").unlink()
        self.assertEqual({path.name for path in self.convert().iterdir()}, {"train.safetensors", "test.safetensors"})

    def test_takes_the_number_of_classes_where_no_file_names_them(self) -> None:
        with self.refuses("classes.txt", "names 2 classes", "--classes says 3"):
            self.convert(classes=3)
        (self.tsv / "classes.txt").unlink()
        with self.refuses("classes.txt", "--classes"):
            self.convert()
        self.convert(classes=2)

    def test_refuses_hostile_files_and_writes_none(self) -> None:
        cases = {b"": ("it is empty",), b"label\ttext\n": ("no text",), b"label,text\n1,good\n": ("line 1", "no column 'label'"),
                 b"label\tsentence\n": ("line 1", "no column 'text'", "label, sentence"),
                 b"label\ttext\n1\tgood\n1\n": ("line 3", "1 columns"), b"label\ttext\n1\tgood\tfilm\n": ("line 2", "3 columns", "tab"),
                 b"label\ttext\n1\tgood\n2\tbad\n": ("line 3", "label '2'", "0 to 1"), b"label\ttext\n-1\tgood\n": ("line 2", "label '-1'"),
                 b"label\ttext\npositive\tgood\n": ("line 2", "label 'positive'"), b"label\ttext\n\xc2\xb2\tgood\n": ("line 2", "label"),
                 b"label\ttext\n1\t \n": ("line 2", "empty"), b"label\ttext\n1\tgood\n\n": ("line 3", "1 columns"),
                 b"label\ttext\n1\tgood\n1\t\xff\n": ("line 3", "not UTF-8")}
        for data, parts in cases.items():
            (self.tsv / "test.tsv").write_bytes(data)
            with self.subTest(data), self.refuses("test.tsv", *parts):
                self.convert()
        self.assertEqual(list((self.folder / "out").glob("*")), [])
        (self.tsv / "test.tsv").unlink()
        with self.refuses("test.tsv", "No such file"):
            self.convert()

    def test_refuses_a_length_that_the_model_does_not_take(self) -> None:
        for length in (2, 41):
            with self.refuses(f"--length {length}", "3 to 40"):
                Tokenizer(find_source(str(self.folder / "model")), length)

    def test_refuses_a_folder_without_a_tokenizer(self) -> None:
        configs()["bert"].save_pretrained(self.folder / "bare")
        with self.assertRaises(ExportError):
            Tokenizer(find_source(str(self.folder / "bare")), 5)

    def test_makes_each_token_the_target_of_the_one_before_it(self) -> None:
        self.tokenizer = LanguageTokenizer(find_source(str(self.folder / "model")), 5)
        (self.tsv / "classes.txt").unlink()
        (self.tsv / "test.tsv").write_text("text\ngood\na bad film the end\n")
        arrays = load_file(self.convert() / "test.safetensors")
        self.assertEqual(set(arrays), {"input.input_ids", "target"})
        self.assertEqual(arrays["input.input_ids"].tolist(), [[2, 6, 0, 0, 0], [2, 5, 7, 8, 10]])
        self.assertEqual(arrays["target"].tolist(), [[6, 3, -100, -100, -100], [5, 7, 8, 10, 11]])  # 11, "end": cut off before [SEP]
        self.assertEqual([file.cut for file in self.written], [1, 1, 1])

    def test_a_language_model_needs_no_labels_but_texts(self) -> None:
        self.tokenizer = LanguageTokenizer(find_source(str(self.folder / "model")), 5)
        (self.tsv / "test.tsv").write_text("label\tsentence\n")
        with self.refuses("test.tsv", "no column 'text'", "expected is 'text'"):
            self.convert()


class Vocabulary(ExportCase):
    def setUp(self) -> None:
        super().setUp()
        self.tsv = self.folder / "task"
        self.tsv.mkdir()
        (self.tsv / "train.tsv").write_text("text\n" + "a good film\n" * 9 + "good luck\n", encoding="utf-8")

    def train(self, vocabulary: int = LEAST + 20, output: str = "tokenizer") -> Path:
        self.count = train_tokenizer([self.tsv], self.folder / output, vocabulary)
        return self.folder / output

    def test_has_the_words_that_are_frequent_and_every_byte(self) -> None:
        folder = self.train()
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.assertEqual((tokenizer.pad_token_id, len(tokenizer)), (0, self.count))
        self.assertEqual(tokenizer.tokenize("a good film"), ["a", "Ġgood", "Ġfilm"])
        for text in ("a good film", "naïve 例 \u2028"):
            self.assertEqual(tokenizer.decode(tokenizer(text)["input_ids"]), f"<s>{text}</s>")

    def test_reads_only_training_texts_and_writes_the_same_bytes_each_time(self) -> None:
        one = self.train(output="one")
        for split in ("val", "test"):
            (self.tsv / f"{split}.tsv").write_text("text\n" + "terrible plots\n" * 20)
        two = self.train(output="two")
        self.assertEqual(sorted(file.name for file in one.iterdir()), sorted(file.name for file in two.iterdir()))
        for file in one.iterdir():
            self.assertEqual(file.read_bytes(), (two / file.name).read_bytes())

    def test_makes_token_files_without_a_model(self) -> None:
        (self.tsv / "test.tsv").write_text("text\ngood\n")
        tokenizer = LanguageTokenizer(find_tokenizer(str(self.train())), 4)
        convert_text(self.tsv, self.folder / "out", tokenizer, None)
        target = load_file(self.folder / "out/test.safetensors")["target"]
        self.assertEqual(target[0, -1], -100)
        self.assertEqual(int((target == 2).sum()), 1)  # the end

    def test_refuses_a_vocabulary_without_room_for_every_byte(self) -> None:
        with self.refuses(f"--vocabulary {LEAST - 1}", f"{LEAST} at least"):
            self.train(LEAST - 1)
        self.assertEqual(self.files(), {"task"})
