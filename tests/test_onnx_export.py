import numpy as np
import onnxruntime
import pytest
import torch

from simple_llm.arithmetic.operands import Operands
from simple_llm.data.sampling import Sampler
from tests.tiny_models import make_vocabulary, tiny_model
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
