"""Where tokens of work on paper stand and look, as ONNX operators.

Shape letters in this file: B rows, T tokens in a row, V tokens in the vocabulary.

The rule has one home, `columns_grid` in the file that travels with a model. torch.fx follows it once and lists what it
does with whole tensors; here each of these operations gets its counterpart in ONNX. One that has none is refused.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import numpy as np
import torch
from onnx import TensorProto
from torch import fx

from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.places_simple_llm import columns_grid, symbols_of

if TYPE_CHECKING:
    from web.onnx_graph import Graph

# Of two numbers or truth values each; those of the second kind take or give truth values alone.
_NUMBERS = {operator.add: "Add", operator.sub: "Sub", operator.mul: "Mul", operator.mod: "Mod"}
_COMPARISONS = {operator.gt: "Greater", operator.ge: "GreaterOrEqual", operator.lt: "Less", operator.eq: "Equal"}
_TRUTHS = {operator.and_: "And", operator.or_: "Or"}


def add_grid(graph: Graph, model: SimpleLLMForCausalLM) -> tuple[str, str]:
    """Append what lays `input_ids` out; return kinds, (B, T), and what each token sees, (B, 1, T, T).

    Padding sees itself: a row of the softmax must have something to add up to 1.

    Raises:
        NotImplementedError: the rule does something that is not written here.
    """
    vocabulary = torch.arange(model.config.vocab_size)[None]  # (1, V)
    graph.weight_of_integers("symbols", symbols_of(model.config, vocabulary)[0])  # what each token of the vocabulary is
    symbols = graph.add("Gather", "symbols", "input_ids")

    def laid_out(symbols):
        grid = columns_grid(symbols)
        return grid.kinds, grid.looks, grid.addresses

    [outputs] = [node for node in fx.symbolic_trace(laid_out).graph.nodes if node.op == "output"]
    followed = _Followed(graph, symbols)
    kinds, looks, addresses = (followed.number(node) for node in outputs.args[0])  # (B, T), (B, T, 5), (B, T)
    looks = graph.add("Unsqueeze", looks, graph.constant([3]))  # (B, T, 5, 1)
    stands = graph.add("Equal", looks, graph.add("Unsqueeze", addresses, graph.constant([1, 2])))  # (B, T, 5, T)
    is_before = graph.sees_before()  # (T, T)
    sees = graph.add("And", followed.any(stands, 2), is_before)  # (B, T, T)
    is_blind = graph.add("Not", followed.any(sees, 2))  # (B, T)
    itself = graph.add("And", is_before, graph.add("Transpose", is_before, perm=[1, 0]))  # (T, T)
    itself = graph.add("And", graph.add("Unsqueeze", is_blind, graph.constant([2])), itself)  # (B, T, T)
    return kinds, graph.add("Unsqueeze", graph.add("Or", sees, itself), graph.constant([1]))


class _Followed:
    """What torch.fx listed, appended to a graph; of that only what is asked for.

    Attributes:
        names: of what is appended, by the node that it stands for.
        truths: those of them that are truth values.
    """

    def __init__(self, graph: Graph, symbols: str) -> None:
        self.graph, self.symbols = graph, symbols
        self.names: dict[fx.Node, str] = {}
        self.truths: set[str] = set()

    def value(self, node: fx.Node | int | bool) -> str:
        """Append what a node stands for, once; a number stands for itself."""
        if not isinstance(node, fx.Node):
            return self.graph.constant(int(node))
        if node not in self.names:
            self.names[node] = self._append(node)
        return self.names[node]

    def number(self, node: fx.Node | int) -> str:
        """The same where truth values count as 0 and 1."""
        name = self.value(node)
        return self.graph.add("Cast", name, to=TensorProto.INT64) if name in self.truths else name

    def any(self, truths: str, axis: int) -> str:
        """Whether one is true along an axis."""
        numbers = self.graph.add("Cast", truths, to=TensorProto.INT64)
        most = self.graph.add("ReduceMax", numbers, self.graph.constant([axis]), keepdims=0)
        return self._truth("Greater", most, self.graph.constant(0))

    def _truth(self, operator_: str, *inputs: str) -> str:
        name = self.graph.add(operator_, *inputs)
        self.truths.add(name)
        return name

    def _append(self, node: fx.Node) -> str:
        if node.op == "placeholder":
            return self.symbols
        if node.target in _NUMBERS:
            return self.graph.add(_NUMBERS[node.target], *map(self.number, node.args))
        if node.target in _COMPARISONS:
            return self._truth(_COMPARISONS[node.target], *map(self.number, node.args))
        if node.target in _TRUTHS:
            return self._truth(_TRUTHS[node.target], *map(self.value, node.args))
        if node.target not in _OTHERS:
            raise NotImplementedError(f"no ONNX operator is written for {node.target}")
        return _OTHERS[node.target](self, *node.args, **node.kwargs)

    def _invert(self, truth: fx.Node) -> str:
        return self._truth("Not", self.value(truth))

    def _floor_divide(self, dividend: fx.Node, divisor: int) -> str:
        """ONNX divides towards 0; without the rest, which has the divisor's sign, that is the same."""
        name, by = self.number(dividend), self.number(divisor)
        return self.graph.add("Div", self.graph.add("Sub", name, self.graph.add("Mod", name, by)), by)

    def _where(self, condition: fx.Node, *choices: fx.Node | int) -> str:
        return self.graph.add("Where", self.value(condition), *map(self.number, choices))

    def _stack(self, parts: list[fx.Node], dim: int) -> str:
        apart = [self.graph.add("Unsqueeze", self.value(part), self.graph.constant([dim])) for part in parts]
        name = self.graph.add("Concat", *apart, axis=dim)
        if self.value(parts[0]) in self.truths:
            self.truths.add(name)
        return name

    def _sum_so_far(self, node: fx.Node, dim: int) -> str:
        return self.graph.add("CumSum", self.number(node), self.graph.constant(dim))

    def _get(self, node: fx.Node, name: str) -> str:
        """`cummax(1).values`: of each token the largest of those up to it."""
        if (node.target, node.args[1:], name) != ("cummax", (1,), "values"):
            raise NotImplementedError(f"no ONNX operator is written for {node.target} and .{name}")
        before = self.graph.add("Unsqueeze", self.number(node.args[0]), self.graph.constant([1]))  # (B, 1, T)
        lowest = self.graph.constant(int(np.iinfo(np.int64).min))
        so_far = self.graph.add("Where", self.graph.sees_before(), before, lowest)  # (B, T, T)
        return self.graph.add("ReduceMax", so_far, self.graph.constant([2]), keepdims=0)

    def _at_least(self, node: fx.Node, min: int) -> str:
        return self.graph.add("Max", self.number(node), self.graph.constant(min))

    def _nothing_yet(self, node: fx.Node, *shape: fx.Node) -> str:
        """Zeros, of which there is one: what was counted before the first token."""
        return self.graph.constant(0)


_OTHERS = {
    operator.invert: _Followed._invert,
    operator.floordiv: _Followed._floor_divide,
    torch.where: _Followed._where,
    torch.stack: _Followed._stack,
    getattr: _Followed._get,
    "cumsum": _Followed._sum_so_far,
    "clamp": _Followed._at_least,
    "long": _Followed.number,
    "new_zeros": _Followed._nothing_yet,
}
