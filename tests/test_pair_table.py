import pytest
import torch

from simple_llm.arithmetic.operands import Operands
from simple_llm.data.problems import from_integers
from simple_llm.evaluation.margins import row_margins
from simple_llm.model.engine import Engine
from simple_llm.proof.pair_table import can_be_tabled, PairTable
from tests.test_attention_window import windowed_model
from tests.tiny_models import make_vocabulary


@pytest.mark.parametrize(("left", "right"), [(0, 1), (1, 1), (0, 2), (2, 1)])
@pytest.mark.parametrize("period", [None, 2])
@pytest.mark.parametrize(("minimum", "maximum"), [(0, 129), (95, 112), (0, 0), (12_340, 12_350)])
def test_the_table_says_of_every_pair_what_its_own_row_says(left, right, period, minimum, maximum):
    reader, vocabulary = Engine(windowed_model(left, right, period), torch.float32), make_vocabulary()
    values = range(minimum, maximum + 1)
    blocks = [values[start : start + 7] for start in range(0, len(values), 7 if len(values) < 50 else 28)]
    pairs = [(x, y) for block in blocks for x in block for y in values]
    rows = row_margins(reader, from_integers(pairs, 10, 5), vocabulary)
    table = PairTable(reader, vocabulary, Operands(minimum, maximum, vocabulary.base))
    looked_up = torch.cat([table.margins(block[0], block[-1]) for block in blocks]).flatten()
    assert torch.allclose(looked_up, rows, atol=1e-4)
    assert table.num_rows < 6 * len(values) ** 2


@pytest.mark.parametrize(("left", "right", "num_layers"), [(0, 1, 2), (0, 0, 1)])
def test_no_table_where_a_token_knows_of_more_than_it_sees_or_does_not_see_what_it_adds(left, right, num_layers):
    model = windowed_model(left, right, num_layers=num_layers)
    assert not can_be_tabled(model.config)
    with pytest.raises(AssertionError, match="has no table"):
        PairTable(Engine(model, torch.float32), make_vocabulary(), Operands(0, 9, 10))
