"""Sentence encoders of random weights, made on the spot."""

from importlib.util import find_spec

import pytest
import torch

WIDTH = 16
FILLING, UNKNOWN = "[PAD]", "[UNK]"
WORDS = [FILLING, UNKNOWN, "say", "please", "pay", "my", "bill", "book", "a", "flight", "red", "cat", *map(str, range(12))]
needs_encoders = pytest.mark.skipif(
    find_spec("sentence_transformers") is None, reason="sentence-transformers is an extra: make extras"
)


def write_encoder(folder, seed=0, static=False):
    """A transformer of two layers whose outputs are averaged, or a table of words' vectors; returns the folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding, Transformer
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Whitespace()
    torch.manual_seed(seed)
    if static:
        SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=WIDTH)], device="cpu").save(str(folder))
        return folder
    size = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    raw = folder.with_name(f"{folder.name}-raw")
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **size)).save_pretrained(raw)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=FILLING, unk_token=UNKNOWN, model_max_length=64)
    fast.save_pretrained(raw)
    SentenceTransformer(modules=[Transformer(str(raw)), Pooling(WIDTH)], device="cpu").save(str(folder))
    return folder
