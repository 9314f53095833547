"""Every loss, for the laws."""

from known import margins, pairwise, proxies, ranking, softmax, triplets, tuples

LOSSES = [
    *pairwise.LOSSES,
    *triplets.LOSSES,
    *softmax.LOSSES,
    *tuples.LOSSES,
    *ranking.LOSSES,
    *proxies.LOSSES,
    *margins.LOSSES,
]
