"""Compiles every loss, in a process of its own: that of the tests checks types as it goes.

What came out is left in a file: of each loss the values and gradients, compiled and not, and the
names of what was captured; or, where it could not be compiled, why.
"""

import shutil
import sys
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_compiler

from known import LOSSES
from known.others import OTHERS, another
from known.trials import a_batch, a_module, with_gradient

TO_MACHINE_CODE = ("contrastive", "info_nce") if shutil.which("g++") else ()


class Compiled(NamedTuple):
    """A loss, compiled.

    Attributes:
        found: the value and the gradients.
        expected: the same, not compiled.
        forward, backward: the operations that were captured.
        error: why it could not be.
    """

    found: list[Tensor] = ()
    expected: list[Tensor] = ()
    forward: list[str] = ()
    backward: list[str] = ()
    error: str = ""


def compiled(module: nn.Module, *, to_machine_code: bool = False) -> Compiled:
    """Compile in one graph, forward and backward, and run it."""
    names: dict[str, list[str]] = {"forward": [], "backward": []}

    def remember(
        kind: str, graph: torch.fx.GraphModule, inputs: list[Tensor]
    ) -> torch.fx.GraphModule:
        names[kind] += [str(node.target) for node in graph.graph.nodes if node.op[:4] == "call"]
        return graph

    backend = aot_autograd(
        fw_compiler=make_boxed_compiler(partial(remember, "forward")),
        bw_compiler=make_boxed_compiler(partial(remember, "backward")),
    )
    torch._dynamo.reset()
    # What a loss remembers of a batch, it shall not remember twice.
    plain, (embeddings, labels) = deepcopy(module), a_batch(8)
    ends = [embeddings, *module.parameters()]
    how = {"backend": "inductor" if to_machine_code else backend}
    try:
        cost = torch.compile(module, fullgraph=True, dynamic=False, **how)(embeddings, labels)
        found = with_gradient(cost, *ends)
    except Exception as error:
        return Compiled(error=str(error))
    expected = with_gradient(plain(embeddings, labels), embeddings, *plain.parameters())
    return Compiled(list(found), list(expected), **names)


if __name__ == "__main__":
    torch.set_num_threads(1)
    said = {loss.name: tuple(compiled(a_module(loss))) for loss in LOSSES}
    said |= {name: tuple(compiled(another(name).double())) for name in OTHERS}
    for loss in LOSSES:
        if loss.name in TO_MACHINE_CODE:
            made = compiled(a_module(loss), to_machine_code=True)
            said[f"{loss.name} to machine code"] = tuple(made)
    torch.save(said, sys.argv[1])
