"""The operations there are; a model may know some of them. New ones come last: problems hold their index."""

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.division import DIVISION
from simple_llm.arithmetic.multiplication import MULTIPLICATION
from simple_llm.arithmetic.subtraction import SUBTRACTION

OPERATIONS = (ADDITION, SUBTRACTION, MULTIPLICATION, DIVISION)
BY_NAME = {operation.name: operation for operation in OPERATIONS}
