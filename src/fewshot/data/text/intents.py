"""Intents: what people ask an assistant or a bank for."""

from collections.abc import Sequence
from pathlib import Path

from fewshot.data.files.places import Place
from fewshot.data.files.rows import read_rows
from fewshot.data.source import SPLITS
from fewshot.data.text.sentences import Sentence, TextSource, found_in, read_json
from fewshot.errors import UserError


class Clinc150(TextSource):
    """CLINC150 (Larson et al. 2019): 150 intents of 150 sentences each, 15 in each of 10 domains.

    Its own parts hold the same intents, so that they are joined. The 1,200 sentences out of scope are a source of their own.

    Args:
        data_dir: holds ``data_full.json`` and ``domains.json``, directly or in ``clinc150/``.
        in_scope: the intents; else the sentences of none of them, as one class, ``oos``.
        rows: length, buckets and ngrams (`TextSource`).
    """

    group = "domain"

    def __init__(self, data_dir: str, length: int, buckets: int, ngrams: Sequence[int], in_scope: bool = True) -> None:
        super().__init__(length, buckets, ngrams)
        self._data_dir, self._in_scope = data_dir, in_scope
        self.name = "clinc150" if in_scope else "clinc150-oos"

    def files(self, part: str) -> list[Path]:
        return [found_in(self._data_dir, "clinc150", name) for name in ("data_full.json", "domains.json")]

    def listed(self) -> list[Sentence]:
        sentences, domains = (read_json(path) for path in self.files("all"))
        try:
            of_intent = {intent.replace(" ", "_"): domain for domain, intents in domains.items() for intent in intents}
            parts = [f"{'' if self._in_scope else 'oos_'}{part}" for part in SPLITS]
            of_intent |= {} if self._in_scope else {"oos": "oos"}
            found = [Sentence(text, label, of_intent[label]) for part in parts for text, label in sentences[part]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{self.files('all')[0]} is not as published ({error!r}); replace it and domains.json") from error
        if wrong := [sentence for sentence in found if type(sentence.text) is not str]:
            raise UserError(f"{self.files('all')[0]}: {wrong[0].text!r} of {wrong[0].label} is no text; replace the file")
        return found


class Banking77(TextSource):
    """BANKING77 (Casanueva et al. 2020): 77 intents of a bank's customers, 75 to 227 sentences each.

    Args:
        data_dir: holds ``train.csv`` and ``test.csv`` in ``banking77/``, or directly.
        rows: length, buckets and ngrams (`TextSource`).
    """

    name = "banking77"
    group = "domain"

    def __init__(self, data_dir: str, length: int, buckets: int, ngrams: Sequence[int]) -> None:
        super().__init__(length, buckets, ngrams)
        self._data_dir = data_dir

    def files(self, part: str) -> list[Path]:
        return [found_in(self._data_dir, "banking77", f"{name}.csv") for name in ("train", "test")]

    def listed(self) -> list[Sentence]:
        rows = [row for path in self.files("all") for _, row in read_rows(Place(path))]
        if not rows or not {"text", "category"} <= rows[0].keys():
            raise UserError(f"{self.files('all')[0]} lacks the columns text and category; replace it")
        return [Sentence(row["text"], row["category"], "banking") for row in rows]
