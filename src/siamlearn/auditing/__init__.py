"""What to look for before anyone believes a number: leaks, copies, wrong labels, empty tests.

A check is a function from the parts of an experiment (`parts`) to its findings (`findings`); `run`
asks them all. Nothing here looks at how good a result is.
"""

from siamlearn.auditing.findings import Audit, Finding, Severity
from siamlearn.auditing.run import audit

__all__ = ["Audit", "Finding", "Severity", "audit"]
