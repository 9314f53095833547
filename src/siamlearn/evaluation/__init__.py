"""How well embeddings tell people apart, and how sure that is.

`run` asks for all of it, `measuring` measures one system, `reports` holds what came out, and
`tables` and `frames` show it. `folds` is for published lists of pairs.
"""

from siamlearn.evaluation.fold_reports import FoldReport
from siamlearn.evaluation.folds import evaluate_folds, fold_differences
from siamlearn.evaluation.frames import frame
from siamlearn.evaluation.reports import AtPoint, Difference, Report
from siamlearn.evaluation.run import differences, evaluate

__all__ = [
    "AtPoint",
    "Difference",
    "FoldReport",
    "Report",
    "differences",
    "evaluate",
    "evaluate_folds",
    "fold_differences",
    "frame",
]
