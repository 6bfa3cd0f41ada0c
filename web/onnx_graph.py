"""The model's forward pass as an ONNX graph, written operator by operator.

Shape letters in this file: B rows, T tokens in a row, C channels, H heads, D channels of a head, L blocks, V tokens in
the vocabulary.

torch has an exporter; of this model it makes the same in half a minute. Written down, the graph takes a moment, has
names a reader knows, and is one graph for every kind of model. That it says what torch says is checked, not assumed.
"""

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper, TensorProto

from simple_llm.model.modeling_simple_llm import SimpleLLMConfig, SimpleLLMForCausalLM
from web.onnx_grid import add_grid

OPSET = 20  # of ONNX: the first with Gelu
IR_VERSION = 9  # the one that came with it
_GELU = {"gelu": "none", "gelu_new": "tanh"}  # transformers' names, ONNX's approximations


def make_onnx(model: SimpleLLMForCausalLM) -> onnx.ModelProto:
    """Write a model's forward pass over whole rows.

    Inputs are `input_ids` and `position_ids`, (B, T) int64; the latter are block positions or whatever the model has.
    Work on paper has the first alone: where tokens stand and look follows from them, and no row is padded on the left.
    Outputs are `logits`, (B, T, V), and `attentions`, (L, B, H, T, T): what each token, in the rows, took from each
    token before it, in the columns.

    Raises:
        NotImplementedError: the config asks for what has no place in the graph.
    """
    _refuse_what_is_not_written(model.config)
    graph, transformer = Graph(), model.transformer
    positions, sees = _places(graph, model)  # (B, T), and (B, 1, T, T) or (T, T)
    tokens = graph.weight("wte", transformer.wte.weight)
    state = graph.add(
        "Add",
        graph.add("Gather", tokens, "input_ids"),
        graph.add("Gather", graph.weight("wpe", transformer.wpe.weight), positions),
    )  # (B, T, C)
    attentions = []
    for index, block in enumerate(transformer.h):
        with_attention, shares = _attention(graph, f"h.{index}.attn", block, state, sees)
        state = _feed_forward(graph, f"h.{index}.mlp", block, with_attention, model.config)
        attentions.append(graph.add("Unsqueeze", shares, graph.constant([0])))
    graph.add("Concat", *attentions, axis=0, output="attentions")  # (L, B, H, T, T)
    state = _norm(graph, "ln_f", transformer.ln_f, state)
    graph.add("MatMul", state, graph.weight("lm_head", model.lm_head.weight.mT), output="logits")
    return graph.finish(len(transformer.h), model.config)


def _refuse_what_is_not_written(config: SimpleLLMConfig) -> None:
    if config.activation_function not in _GELU:
        raise NotImplementedError(f"no ONNX operator is written for activation_function {config.activation_function!r}")
    if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        raise NotImplementedError(
            "attention is written with scores divided by the root of a head's width, and no other"
        )


class Graph:
    """Operators and weights, in the order they were added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: str, output: str = "", **attributes) -> str:
        """Append an operator; return the name of what comes out."""
        name = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def split(self, whole: str, sizes: list[int]) -> list[str]:
        """Append a cut along the last axis; return the names of the parts."""
        names = [f"{whole}.{index}" for index in range(len(sizes))]
        self.nodes.append(helper.make_node("Split", [whole, self.constant(sizes)], names, axis=-1))
        return names

    def weight(self, name: str, values: torch.Tensor) -> str:
        array = values.detach().to("cpu", torch.float32).contiguous().numpy()
        self.weights[name] = numpy_helper.from_array(array, name)
        return name

    def weight_of_integers(self, name: str, values: torch.Tensor) -> str:
        self.weights[name] = numpy_helper.from_array(values.cpu().numpy().astype(np.int64), name)
        return name

    def sees_before(self) -> str:
        """Whether each token, in the rows, is not before the other, in the columns: (T, T)."""
        length = self.add("Squeeze", self.add("Shape", "input_ids", start=1, end=2))
        column = self.add("Range", self.constant(0), length, self.constant(1))  # (T,)
        return self.add("LessOrEqual", column, self.add("Unsqueeze", column, self.constant([1])))

    def constant(self, value: int | float | list[int]) -> str:
        """A whole number or a list of them as int64, another number as float32."""
        array = np.array(value, np.float32 if isinstance(value, float) else np.int64)
        name = f"constant {value}"
        self.weights[name] = numpy_helper.from_array(array, name)
        return name

    def finish(self, num_blocks: int, config: SimpleLLMConfig) -> onnx.ModelProto:
        """Make the file's content and have ONNX check it."""
        row = ["batch", "length"]
        names = ("input_ids",) if config.scratchpad == "columns" else ("input_ids", "position_ids")
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, row) for name in names]
        shapes = {
            "logits": [*row, config.vocab_size],
            "attentions": [num_blocks, "batch", config.n_head, "length", "length"],
        }
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        graph = helper.make_graph(self.nodes, "simple-llm", inputs, outputs, list(self.weights.values()))
        opset = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="simple-llm")
        onnx.checker.check_model(made, full_check=True)
        return made


def _places(graph: Graph, model: SimpleLLMForCausalLM) -> tuple[str, str]:
    """Which rows of the position table are read, (B, T), and what each token may look at."""
    if model.config.scratchpad != "columns":
        return _table_rows(graph, model.config), _sees(graph, model.config)
    return add_grid(graph, model)


def _table_rows(graph: Graph, config: SimpleLLMConfig) -> str:
    """Which rows of the position table are read: (B, T); see `table_rows` of the model."""
    if config.position_period is None:
        return "position_ids"
    one, zero = graph.constant(1), graph.constant(0)
    phase = graph.add("Mod", graph.add("Sub", "position_ids", one), graph.constant(config.position_period))
    is_digit = graph.add("Greater", "position_ids", zero)
    return graph.add("Where", is_digit, graph.add("Add", phase, one), zero)


def _sees(graph: Graph, config: SimpleLLMConfig) -> str:
    """Which tokens each may look at: those before it and itself, (T, T), and in a window fewer, (B, 1, T, T)."""
    is_before = graph.sees_before()
    if config.attention_window is None:
        return is_before
    left, right = config.attention_window["left"], config.attention_window["right"]
    key = graph.add("Unsqueeze", "position_ids", graph.constant([1, 2]))  # (B, 1, 1, T)
    query = graph.add("Unsqueeze", "position_ids", graph.constant([1, 3]))  # (B, 1, T, 1)
    distance = graph.add("Sub", key, query)
    is_near = graph.add(
        "And",
        graph.add("GreaterOrEqual", distance, graph.constant(-left)),
        graph.add("LessOrEqual", distance, graph.constant(right)),
    )
    is_delimiter = graph.add("Equal", key, graph.constant(0))
    return graph.add("And", graph.add("Or", is_near, is_delimiter), is_before)


def _attention(graph: Graph, name: str, block: torch.nn.Module, state: str, sees: str) -> tuple[str, str]:
    """Attention and what goes round it: (B, T, C) -> (B, T, C), and the shares, (B, H, T, T)."""
    attention = block.attn
    normed = _norm(graph, f"{name}.ln_1", block.ln_1, state)
    both = _linear(graph, f"{name}.c_attn", attention.c_attn, normed)  # (B, T, 3 C)
    width = attention.num_heads * attention.head_dim
    heads = graph.constant([0, 0, attention.num_heads, attention.head_dim])
    parts = graph.split(both, [width] * 3)
    query, key, value = (graph.add("Reshape", part, heads) for part in parts)  # (B, T, H, D)
    query, value = (graph.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, value))  # (B, H, T, D)
    scores = graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 2, 3, 1]))  # (B, H, T, T)
    scores = graph.add("Mul", scores, graph.constant(attention.head_dim**-0.5))
    shares = graph.add("Softmax", graph.add("Where", sees, scores, graph.constant(float("-inf"))), axis=-1)
    taken = graph.add("Transpose", graph.add("MatMul", shares, value), perm=[0, 2, 1, 3])  # (B, T, H, D)
    taken = graph.add("Reshape", taken, graph.constant([0, 0, width]))
    return graph.add("Add", state, _linear(graph, f"{name}.c_proj", attention.c_proj, taken)), shares


def _feed_forward(graph: Graph, name: str, block: torch.nn.Module, state: str, config: SimpleLLMConfig) -> str:
    """The part of a block that looks at each token alone: (B, T, C) -> (B, T, C)."""
    normed = _norm(graph, f"{name}.ln_2", block.ln_2, state)
    wide = _linear(graph, f"{name}.c_fc", block.mlp.c_fc, normed)  # (B, T, 4 C)
    wide = graph.add("Gelu", wide, approximate=_GELU[config.activation_function])
    return graph.add("Add", state, _linear(graph, f"{name}.c_proj", block.mlp.c_proj, wide))


def _norm(graph: Graph, name: str, module: torch.nn.Module, state: str) -> str:
    scale, bias = graph.weight(f"{name}.weight", module.weight), graph.weight(f"{name}.bias", module.bias)
    return graph.add("LayerNormalization", state, scale, bias, axis=-1, epsilon=module.eps)


def _linear(graph: Graph, name: str, module: torch.nn.Module, state: str) -> str:
    """GPT-2 keeps its matrices as (inputs, outputs), which is how MatMul wants them."""
    product = graph.add("MatMul", state, graph.weight(f"{name}.weight", module.weight))
    return graph.add("Add", product, graph.weight(f"{name}.bias", module.bias))
