"""Networks with the shortcuts of DeePMD-kit, and their derivatives in closed form.

A layer is ``shortcut(x) + idt * tanh(x W + b)``: the shortcut is ``x`` where the width stays, ``(x, x)`` where it
doubles, and nothing otherwise; ``idt`` is a trained time step of layers with a shortcut, or 1. Derivatives by the
input are computed beside the values, so that training on forces takes one backward pass instead of a double one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

_TIME_STEP = (0.1, 0.001)  # mean and standard deviation of first time steps


@dataclass(frozen=True)
class Layer:
    """Parameters of a hidden layer, in float64.

    Attributes:
        weight: ``[n_in, n_out]``.
        bias: ``[n_out]``.
        time_step: ``[n_out]``.
        n_copies: of the input, side by side, that are the layer's shortcut; 0 for none.
    """

    weight: np.ndarray
    bias: np.ndarray
    time_step: np.ndarray
    n_copies: int


class ResidualNetwork(nn.Module):
    """Hidden layers, and a linear output of one number where it is asked for.

    Args:
        n_inputs: width of the input.
        widths: width of each hidden layer.
        has_time_step: whether layers with a shortcut have trained time steps.
        has_output: whether the layers are followed by ``x w + b``.
    """

    def __init__(self, n_inputs: int, widths: tuple[int, ...], *, has_time_step: bool, has_output: bool) -> None:
        super().__init__()
        sizes = list(zip((n_inputs, *widths[:-1]), widths, strict=True))
        self.weights = nn.ParameterList(torch.zeros(n, m, dtype=torch.float64) for n, m in sizes)
        self.biases = nn.ParameterList(torch.zeros(m, dtype=torch.float64) for m in widths)
        stepped = [k for k, (n, m) in enumerate(sizes) if has_time_step and m in (n, 2 * n)]
        self.time_steps = nn.ParameterDict({str(k): torch.ones(widths[k], dtype=torch.float64) for k in stepped})
        if has_output:
            self.output_weight = nn.Parameter(torch.zeros(widths[-1], 1, dtype=torch.float64))
            self.output_bias = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.has_output = has_output

    def draw(self, generator: torch.Generator) -> None:
        """Draw first parameters as DeePMD-kit does: normal, with the variance 1 / (inputs + outputs) for weights."""

        def fill(tensor: Tensor, mean: float, deviation: float) -> None:
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(mean + deviation * noise)

        with torch.no_grad():
            for weight, bias in zip(self.weights, self.biases, strict=True):
                fill(weight, 0.0, sum(weight.shape) ** -0.5)
                fill(bias, 0.0, 1.0)
            for time_step in self.time_steps.values():
                fill(time_step, *_TIME_STEP)
            if self.has_output:
                fill(self.output_weight, 0.0, sum(self.output_weight.shape) ** -0.5)
                self.output_bias.zero_()

    def layers(self) -> list[Layer]:
        """Copies of the hidden layers' parameters."""
        found = []
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            n_in, n_out = weight.shape
            step = self.time_step(k)
            parameters = (weight, bias, torch.ones(n_out) if step is None else step)
            arrays = [x.detach().double().cpu().numpy().copy() for x in parameters]
            found.append(Layer(arrays[0], arrays[1], arrays[2], n_copies(n_in, n_out)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """``[n, n_inputs]`` -> ``[n, last width]``, or ``[n]`` with an output."""
        for k, weight in enumerate(self.weights):
            x = _with_shortcut(self._scaled(torch.tanh(torch.addmm(self.biases[k], x, weight)), k), x)
        return x @ self.output_weight[:, 0] + self.output_bias if self.has_output else x

    def values_and_slopes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values and derivatives, both ``[n, last width]``, of a network of one input, ``[n, 1]``."""
        slope = torch.ones_like(x)
        for k, weight in enumerate(self.weights):
            bent = torch.tanh(torch.addmm(self.biases[k], x, weight))
            steep = slope @ weight if k else weight  # one row, which broadcasts
            x, slope = (
                _with_shortcut(self._scaled(bent, k), x),
                _with_shortcut(self._scaled((1.0 - bent * bent) * steep, k), slope),
            )
        return x, slope

    def output_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs ``[n]`` and their derivatives by the input, ``[n, n_inputs]``."""
        hidden = []
        for k, weight in enumerate(self.weights):
            bent = torch.tanh(torch.addmm(self.biases[k], x, weight))
            hidden.append(bent)
            x = _with_shortcut(self._scaled(bent, k), x)
        output = x @ self.output_weight[:, 0] + self.output_bias
        slope = self.output_weight[:, 0].expand(len(x), -1)
        for k in reversed(range(len(hidden))):
            weight = self.weights[k]
            inner = self._scaled(slope * (1.0 - hidden[k] * hidden[k]), k) @ weight.T
            n_in, n_out = weight.shape
            if n_out == n_in:
                inner = inner + slope
            elif n_out == 2 * n_in:
                inner = inner + slope[:, :n_in] + slope[:, n_in:]
            slope = inner
        return output, slope

    def hidden_and_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Last hidden layer ``[n, last width]`` and its derivatives by the input, ``[n, last width, n_inputs]``."""
        n_inputs = x.shape[1]
        jacobian: Tensor | None = None
        for k, weight in enumerate(self.weights):
            bent = torch.tanh(torch.addmm(self.biases[k], x, weight))
            steep = self._scaled(1.0 - bent * bent, k)
            inner = weight.T if jacobian is None else weight.T @ jacobian
            before = torch.eye(n_inputs, dtype=x.dtype, device=x.device) if jacobian is None else jacobian
            n_in, n_out = weight.shape
            jacobian = steep[:, :, None] * inner
            if n_out in (n_in, 2 * n_in):
                jacobian = jacobian + torch.cat([before] * (n_out // n_in), -2)
            x = _with_shortcut(self._scaled(bent, k), x)
        assert jacobian is not None
        return x, jacobian

    def time_step(self, k: int) -> Tensor | None:
        """The trained time step of a layer, ``[n_out]``; ``None`` for 1."""
        found: Tensor | None = self.time_steps.get(str(k))
        return found

    def _scaled(self, x: Tensor, k: int) -> Tensor:
        step = self.time_step(k)
        return x if step is None else x * step


def n_copies(n_in: int, n_out: int) -> int:
    """Copies of the input, side by side, that are the shortcut of a layer; 0 for none."""
    return n_out // n_in if n_out in (n_in, 2 * n_in) else 0


def _with_shortcut(bent: Tensor, x: Tensor) -> Tensor:
    n_in, n_out = x.shape[-1], bent.shape[-1]
    if n_out == n_in:
        return bent + x
    if n_out == 2 * n_in:
        return (bent.unflatten(-1, (2, n_in)) + x.unsqueeze(-2)).flatten(-2)
    return bent
