"""Weights with which a mixer's scan is seen in what it gives."""

import torch
from torch import nn


def enliven(mixer: nn.Module, projections: str) -> nn.Module:
    """The mixer in float64, its steps of the order of one, parameters named after `projections` normal."""
    for key, parameter in mixer.double().named_parameters():
        if "dt" in key:  # or the states would hardly be seen
            torch.nn.init.uniform_(parameter, -0.5, 1)
        elif projections in key:
            torch.nn.init.normal_(parameter)
    return mixer
