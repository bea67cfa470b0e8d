"""What the backward of a long video keeps: four policies of gradient checkpointing, and what each would take."""

from ssmvid.memory.budget import Plan, Row, plan
from ssmvid.memory.cells import POLICIES, Cells, Costs
from ssmvid.memory.costs import measure_costs
from ssmvid.memory.forward import run
from ssmvid.memory.saved import SavedBytes
from ssmvid.memory.switch import Memory

__all__ = ["POLICIES", "Cells", "Costs", "Memory", "Plan", "Row", "SavedBytes", "measure_costs", "plan", "run"]
