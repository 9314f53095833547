"""Operating points: a threshold with a name, and the rates it was seen to give.

`aims` is what a threshold is chosen for, `left_out` how it is made to hold for other people,
`resemblance` what it becomes in a larger gallery, and `evidence` what a distance means beside it.
"""

from siamlearn.operating.point import OperatingPoint

__all__ = ["OperatingPoint"]
