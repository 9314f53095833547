"""Every loss, for the laws."""

from known import pairwise, proxies, ranking, softmax, triplets

LOSSES = [*pairwise.LOSSES, *triplets.LOSSES, *softmax.LOSSES, *ranking.LOSSES, *proxies.LOSSES]
