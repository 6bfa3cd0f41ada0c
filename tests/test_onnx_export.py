import random
from argparse import Namespace

import numpy as np
import onnxruntime
import pytest
import torch

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.operands import Operands
from simple_llm.data.problems import concatenate, from_integers
from simple_llm.data.sampling import Sampler
from simple_llm.errors import GateError
from simple_llm.evaluation.attention_maps import attention_weights
from simple_llm.model.places_simple_llm import columns_grid
from simple_llm.model.tokenizer_files import vocabulary_of
from simple_llm.model.tokens import make_examples
from tests.paper_model import ON_PAPER, paper_data, untrained_on_paper
from tests.tiny_models import make_vocabulary, tiny_model
from tokenizer import train_tokenizer
from web import onnx_export
from web.onnx_export import compare, export_model, mixed_problems
from web.onnx_graph import make_onnx

pytestmark = pytest.mark.library

KINDS = {
    "one token a step": {},
    "two tokens a step": {"tokens_per_step": 2},
    "all at once": {"tokens_per_step": "all"},
    "sinusoidal block positions": {"position_embedding": "block_sinusoidal"},
    "learned positions": {"position_embedding": "learned"},
    "sinusoidal positions": {"position_embedding": "sinusoidal"},
    "no positions": {"position_embedding": "none"},
    "a window and a period": {"attention_window": {"left": 0, "right": 1}, "position_period": 3, "n_positions": 4},
    "a wide window": {"attention_window": {"left": 2, "right": 1}},
    "GPT-2's own activation": {"activation_function": "gelu_new"},
    "base 36, three heads": {"base": 36, "n_layer": 1, "n_head": 3, "n_embd": 24},
}


@pytest.fixture(params=KINDS, ids=str)
def model(request):
    return tiny_model(**KINDS[request.param])


def vocabulary_for(model):
    return make_vocabulary(len(model.config.digit_token_ids), tokens_per_step=model.config.tokens_per_step)


def test_the_file_says_what_torch_says_to_problems_of_every_stratum(model, tmp_path):
    export_model(model, tmp_path / "model.onnx")
    problems = mixed_problems(Sampler(Operands(0, 99_999, len(model.config.digit_token_ids))), 300)
    seen = []
    compared = compare(model, tmp_path / "model.onnx", problems, vocabulary_for(model), seen.append)
    assert (compared.num_same, compared.num_problems, sum(seen)) == (300, 300, 300)
    assert compared.largest_difference < 1e-3
    assert str(compared).startswith("300 / 300 answers as torch says them")


def test_the_file_tells_where_each_token_looks(model, tmp_path):
    export_model(model, tmp_path / "model.onnx")
    rows = torch.randint(2, 3 + len(model.config.digit_token_ids), (3, 12), generator=torch.Generator().manual_seed(0))
    positions = model.position_ids(rows).clamp(max=model.config.n_positions - 1)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    feeds = {"input_ids": rows.numpy(), "position_ids": positions.numpy()}
    [logits, attentions] = session.run(["logits", "attentions"], feeds)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        expected = model(input_ids=rows, position_ids=positions, use_cache=False, output_attentions=True)
    assert np.abs(attentions - torch.stack(expected.attentions).numpy()).max() < 1e-5
    assert np.abs(logits - expected.logits.numpy()).max() < 1e-3
    assert np.allclose(attentions.sum(-1), 1, atol=1e-5)


def test_answers_that_differ_are_counted(tmp_path):
    model, other = tiny_model(seed=2), tiny_model(seed=3)
    export_model(other, tmp_path / "model.onnx")
    problems = mixed_problems(Sampler(Operands(0, 999, 10)), 100)
    assert compare(model, tmp_path / "model.onnx", problems, make_vocabulary()).num_same < 50


def test_what_the_graph_cannot_say_is_refused():
    with pytest.raises(NotImplementedError, match="'silu'"):
        make_onnx(tiny_model(activation_function="silu"))
    with pytest.raises(NotImplementedError, match="scores"):
        make_onnx(tiny_model(scale_attn_by_inverse_layer_idx=True))


def test_as_many_problems_are_drawn_as_were_asked_for():
    for maximum in (0, 1, 9, 99_999):
        assert len(mixed_problems(Sampler(Operands(0, maximum, 10)), 100)) == 100


# ---- Work on paper --------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[3, 10])
def on_paper_untrained(request):
    """A model that knows nothing of all four operations, and problems of each, some of which are long."""
    data = paper_data(request.param)
    words = train_tokenizer(iter([]), data, ON_PAPER)
    rng, problems = random.Random(0), []
    for operation in OPERATIONS:
        rows = [(rng.randrange(10 ** rng.randint(1, 4)), rng.randrange(1, 10 ** rng.randint(1, 2))) for _ in range(20)]
        rows += [(9999, 99), (0, 1)]
        problems.append(from_integers(rows, request.param, 9, operation))
    return untrained_on_paper(data), concatenate(problems), vocabulary_of(words, 1)


def test_the_file_says_what_torch_says_to_work_of_every_operation_and_sees_what_it_sees(on_paper_untrained, tmp_path):
    model, problems, vocabulary = on_paper_untrained
    export_model(model, tmp_path / "model.onnx")
    compared = compare(model, tmp_path / "model.onnx", problems, vocabulary)
    assert compared.num_same == compared.num_problems == len(problems)
    rows = make_examples(problems, vocabulary).inputs.long()  # padded on the right
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [one.name for one in session.get_inputs()] == ["input_ids"]
    [attentions] = session.run(["attentions"], {"input_ids": rows.numpy()})
    expected = attention_weights(model, rows).numpy()
    assert np.abs(attentions - expected).max() < 1e-5
    assert ((attentions > 0).sum(-1).max(), np.isfinite(attentions).all()) == (5, True)


def test_a_rule_with_an_operator_that_is_not_written_is_refused(on_paper_untrained, monkeypatch):
    model = on_paper_untrained[0]
    for change in (lambda symbols: symbols.flip(1), lambda symbols: symbols.cummin(1).values):
        monkeypatch.setattr("web.onnx_grid.columns_grid", lambda symbols, change=change: columns_grid(change(symbols)))
        with pytest.raises(NotImplementedError, match=r"no ONNX operator is written for (flip|cummin)"):
            make_onnx(model)


def test_the_script_writes_a_file_that_says_the_same_and_no_other(on_paper, tmp_path, monkeypatch, capsys):
    output = tmp_path / "model.onnx"
    arguments = Namespace(model=str(on_paper("all four")), output=output)
    monkeypatch.setattr(onnx_export, "NUM_PROBLEMS", 30)
    onnx_export.main(arguments)
    assert capsys.readouterr().out.count("30 / 30 answers as torch says them") == 4
    output.unlink()
    monkeypatch.setattr(onnx_export, "make_onnx", lambda model: make_onnx(untrained_on_paper(paper_data(3))))
    with pytest.raises(GateError, match="something else than the model"):
        onnx_export.main(arguments)
    assert not output.exists()
