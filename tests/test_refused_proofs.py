"""What is refused before and after pairs are counted, and which arithmetic may count them."""

import contextlib
import dataclasses
import itertools
import math

import pytest
import torch

from simple_llm.arithmetic.operands import Operands
from simple_llm.config.settings import TrainConfig
from simple_llm.data.sampling import Sampler
from simple_llm.errors import GateError, UsageError
from simple_llm.model.decoding import Decoder
from simple_llm.model.folder import LoadedModel
from simple_llm.proof import all_pairs, rounding
from tests.oracle import PerfectAdder
from tests.tiny_models import make_data_config, make_tokenizer, make_vocabulary, tiny_model


@pytest.mark.parametrize(
    ("moved", "margin", "bfloat16_decided", "is_refused"),
    [
        *[(0.4, 0.1, True, False), (0.5, 0.1, True, True), (0.9, 2.0, True, False), (1.0, 2.0, True, True)],
        *[(0.5, 0.1, False, False), (0.6, 0.1, False, True), (1.4, 2.0, False, False), (math.nan, 2.0, False, True)],
    ],
)
def test_a_proof_that_rounding_could_upset_is_none(moved, margin, bfloat16_decided, is_refused):
    with pytest.raises(GateError, match="bfloat16 moves") if is_refused else contextlib.nullcontext():
        rounding.refuse_large_rounding(moved, margin, bfloat16_decided)


@pytest.mark.parametrize(("moved", "num_readers"), [(0.4, 2), (0.6, 1)])
def test_bfloat16_decides_nothing_where_it_moves_logits_as_far_as_it_has_to_be_sure(monkeypatch, moved, num_readers):
    monkeypatch.setattr(rounding, "rounding", lambda *arguments: {"bfloat16": moved})
    data = make_data_config()
    loaded = LoadedModel(None, make_tokenizer(data), data, TrainConfig(), "", {})
    decoder = Decoder(PerfectAdder(make_vocabulary()), PerfectAdder(make_vocabulary()))
    assert rounding.trusted_readers(loaded, decoder, Sampler(Operands(0, 9, 10))) == decoder.readers[-num_readers:]


@pytest.mark.parametrize(
    ("reversed_", "base", "maximum", "message"),
    [(False, 10, 99, "numbers.reversed = true"), (True, 10, 4 * 10**18, "64 bits"), (True, 3, 2**62 - 1, "64 bits")],
)
def test_what_cannot_be_counted_is_refused(reversed_, base, maximum, message):
    vocabulary = dataclasses.replace(make_vocabulary(base), reversed=reversed_)
    with pytest.raises(UsageError, match=message):
        all_pairs.refuse_what_cannot_be_counted(vocabulary, Sampler(Operands(maximum - 3, maximum, base)))


def test_what_takes_hours_is_refused_with_the_estimate(monkeypatch):
    decoder, vocabulary = Decoder(PerfectAdder(make_vocabulary())), make_vocabulary()
    monkeypatch.setattr(all_pairs, "row_margins", lambda *arguments: None)
    clock = itertools.count()
    monkeypatch.setattr(all_pairs.time, "monotonic", lambda: next(clock) * 1.0)  # a second for 4,096 pairs
    all_pairs.refuse_hours(decoder, vocabulary, [Sampler(Operands(0, 999, 10))])
    with pytest.raises(UsageError, match=r"100,000,000 pairs take up to about 7 hours .* or give --yes"):
        all_pairs.refuse_hours(decoder, vocabulary, [Sampler(Operands(0, 9999, 10))])


def test_what_bfloat16_cannot_say_moves_no_logit(monkeypatch):
    def logits_of(reader, problems, vocabulary):
        value = {torch.float64: [1.0, 2.0], torch.float32: [1.0, 2.5], torch.bfloat16: [math.nan, 2.25]}[reader.dtype]
        yield torch.tensor([[value]], dtype=reader.dtype), torch.zeros(1, 1, dtype=torch.long)

    monkeypatch.setattr(rounding, "row_logits", logits_of)
    assert rounding.rounding(tiny_model(), None, None) == {"float32": 0.5, "bfloat16": 0.25}
