"""Every loss, for the laws."""

from known import pairwise, softmax, triplets

LOSSES = [*pairwise.LOSSES, *triplets.LOSSES, *softmax.LOSSES]
