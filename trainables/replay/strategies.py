"""Selection strategies: rules that order task A's training pool for replay.

A strategy sees the training pool, and what its columns hold of task B's. The first R of its order are
replayed, so a larger mix replays a superset of a smaller one. A new strategy is one function and one line of
STRATEGIES.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainables.cache.code_identity import digest_function
from trainables.ledger.digests import digest_json
from trainables.ledger.schema import AA
from trainables.replay.pool import (
    COLUMNS,
    Array,
    Floats,
    Indices,
    Pool,
    dense_ranks,
    unit_rows,
)

LENGTH_BINS = 20  # of a length-matched control: each a twentieth of the pool
LOSS_BINS = 50  # of coverage_by_loss, as in the paper
HARDEST_LEFT_OUT = 0.1  # by coverage_by_loss, until nothing else is left


@dataclass(frozen=True)
class Strategy:
    """How to order a pool, which of its columns that takes, and the random stream it draws from.

    `source`: where the rule was published. `of`: the strategy whose order this one is derived from.
    """

    order: Callable[[Pool, np.random.Generator], Indices]
    needs: str | tuple[str, ...] | None = None
    stream: str = "selection"
    source: str = ""
    of: "Strategy | None" = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the pool that it takes."""
        if self.needs is None:
            return ()
        return (self.needs,) if isinstance(self.needs, str) else self.needs

    @property
    def computed(self) -> tuple[str, ...]:
        """Those of its columns that are computed for it, once Phase A has ended."""
        return tuple(name for name in self.columns if COLUMNS[name].origin == "computed")

    @property
    def digest(self) -> str:
        """What the strategy is known by: its function's own source, and what that is given."""
        known = {"needs": self.needs, "stream": self.stream}
        if self.of is not None:
            return digest_json(known | {"order": digest_function(order_by_length_of), "of": self.of.digest})
        return digest_json(known | {"order": digest_function(self.order)})


def order_randomly(pool: Pool, generator: np.random.Generator) -> Indices:
    """A uniformly random order."""
    return generator.permutation(pool.size)


def order_by_difficulty_descending(pool: Pool, generator: np.random.Generator) -> Indices:
    """Hardest first."""
    return _order_by(pool.ranks["difficulty descending"], generator)


def order_by_difficulty_ascending(pool: Pool, generator: np.random.Generator) -> Indices:
    """Easiest first."""
    return _order_by(pool.ranks["difficulty ascending"], generator)


def order_by_loss_descending(pool: Pool, generator: np.random.Generator) -> Indices:
    """Worst learnt in Phase A first."""
    return _order_by(pool.ranks["losses descending"], generator)


def order_by_loss_ascending(pool: Pool, generator: np.random.Generator) -> Indices:
    """Best learnt in Phase A first."""
    return _order_by(pool.ranks["losses ascending"], generator)


def order_by_loss_middle(pool: Pool, generator: np.random.Generator) -> Indices:
    """Nearest to the median loss first: neither what is learnt nor what cannot be (after Goldilocks, Hacohen
    and Tuytelaars 2024, arXiv:2406.09935, which keeps what is learnt neither early nor late).
    """
    losses = pool.column("losses")
    return _order_by(dense_ranks(np.abs(losses - np.nanmedian(losses))), generator)


def order_by_strata(pool: Pool, generator: np.random.Generator) -> Indices:
    """Every level and type in the share that it has of the pool, at random within each (proportional
    stratified sampling, Cochran 1977, ch. 5).
    """
    return _order_by(dense_ranks(_shares_before(pool.column("strata"), generator)), generator)


def order_by_loss_coverage(pool: Pool, generator: np.random.Generator) -> Indices:
    """Evenly from fifty equal ranges of the loss, at random within each; the hardest tenth comes last (CCS,
    Zheng et al. 2023, arXiv:2210.15809, with the loss in the place of the area under the margin).
    """
    losses = pool.column("losses")
    hardest = losses > np.nanquantile(losses, 1 - HARDEST_LEFT_OUT)
    kept = losses[~hardest]
    edges = np.linspace(np.nanmin(kept), np.nanmax(kept), LOSS_BINS + 1)[1:-1]
    turns = _turns(np.where(hardest, LOSS_BINS, np.digitize(losses, edges)), generator)
    return _order_by(dense_ranks(turns + np.where(hardest, float(pool.size), 0.0)), generator)


def order_by_learnability(pool: Pool, generator: np.random.Generator) -> Indices:
    """What Phase A lowered the loss of most first (the reducible loss of Mindermann et al. 2022,
    arXiv:2206.07137, of the base model, with Phase A's as the reference).
    """
    return _order_by(dense_ranks(pool.column("losses") - pool.column("base_losses")), generator)


def order_by_instability(pool: Pool, generator: np.random.Generator) -> Indices:
    """What Phase A forgot most on its way first: the sum of the rises of its loss from point to point
    (forgetting events, Toneva et al. 2019, arXiv:1812.05159, for a loss that has no right and wrong).
    """
    rises = np.clip(np.diff(pool.column("learning_curve"), axis=1), 0, None).sum(axis=1)
    return _order_by(dense_ranks(-rises), generator)


def order_by_forgetting(pool: Pool, generator: np.random.Generator) -> Indices:
    """What a run without replay forgets most first (collateral damage; mix-cd, Bai et al. 2024,
    arXiv:2402.08096, with each example's own rise in the place of its cluster's).
    """
    return _order_by(dense_ranks(-pool.column("forgotten")), generator)


def order_by_coverage(pool: Pool, generator: np.random.Generator) -> Indices:
    """From a random example on, always the one farthest from all chosen so far (greedy k-center, Sener and
    Savarese 2018, arXiv:1708.00489, by the cosine of centred embeddings).
    """
    order = np.empty(pool.size, np.int64)
    nearest = np.full(pool.size, -np.inf)
    chosen = int(generator.integers(pool.size))
    for place in range(pool.size):
        order[place] = chosen
        nearest = np.maximum(nearest, pool.similarity(chosen))
        nearest[chosen] = np.inf
        chosen = int(np.argmin(nearest))
    return order


def order_by_herding(pool: Pool, generator: np.random.Generator) -> Indices:
    """Always the example that brings the mean of the chosen nearest to the pool's (herding, Welling 2009; for
    replay iCaRL, Rebuffi et al. 2017, arXiv:1611.07725; here of centred embeddings, the pool one class).
    """
    order = np.empty(pool.size, np.int64)
    target, drawn = pool.directions @ pool.directions.mean(axis=0), np.zeros(pool.size)
    ties = generator.permutation(pool.size)
    for place in range(pool.size):
        gain = (place + 1) * target - drawn
        gain[order[:place]] = -np.inf
        order[place] = ties[np.argmax(gain[ties])]
        drawn += pool.similarity(int(order[place]))
    return order


def order_by_similarity_descending(pool: Pool, generator: np.random.Generator) -> Indices:
    """Most like task B first (the other way round than InsCL, Wang et al. 2024, arXiv:2403.11435), by the
    cosine of centred embeddings.
    """
    return _order_by(dense_ranks(-_towards_task_b(pool)), generator)


def order_by_similarity_ascending(pool: Pool, generator: np.random.Generator) -> Indices:
    """Least like task B first (after InsCL, Wang et al. 2024, arXiv:2403.11435, which weighs whole tasks by
    their Wasserstein distance), by the cosine of centred embeddings.
    """
    return _order_by(dense_ranks(_towards_task_b(pool)), generator)


def order_by_alignment_descending(pool: Pool, generator: np.random.Generator) -> Indices:
    """Whose gradient points most as task B's do first (after LESS, Xia et al. 2024, arXiv:2402.04333: plain
    gradients of one checkpoint, and of task B's training examples).
    """
    return _order_by(dense_ranks(-_alignment(pool)), generator)


def order_by_alignment_ascending(pool: Pool, generator: np.random.Generator) -> Indices:
    """Whose gradient task B's work against most first (LESS, Xia et al. 2024, arXiv:2402.04333, the other way
    round).
    """
    return _order_by(dense_ranks(_alignment(pool)), generator)


def order_by_length_of(pool: Pool, generator: np.random.Generator, *, matched: Strategy) -> Indices:
    """Examples as long as those that another strategy replays, at random otherwise: each place of its order
    goes to a random example of the same twentieth of the pool by length.
    """
    order = matched.order(pool, generator)
    by_length = np.lexsort((generator.permutation(pool.size), pool.column("lengths")))
    bins = np.empty(pool.size, np.int64)
    bins[by_length] = np.arange(pool.size) * min(LENGTH_BINS, max(1, pool.size // 4)) // pool.size
    exchanged = np.empty(pool.size, np.int64)
    for each in np.unique(bins):
        places = np.flatnonzero(bins[order] == each)
        exchanged[places] = generator.permutation(np.flatnonzero(bins == each))
    return exchanged


def _order_by(ranks: Indices, generator: np.random.Generator) -> Indices:
    """Return the ascending order of `ranks`, ties broken at random: as `np.lexsort` with a permutation as the
    tie-break.
    """
    tie_break = generator.permutation(len(ranks))
    shuffled = np.empty_like(tie_break)
    shuffled[tie_break] = np.arange(len(ranks))
    return shuffled[np.argsort(ranks[shuffled], kind="stable")]


def _turns(groups: Array, generator: np.random.Generator) -> Floats:
    """Return (n,) the place of each example in its group, drawn at random: 0, 1, ..."""
    turns = np.empty(len(groups))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        turns[members] = generator.permutation(len(members))
    return turns


def _shares_before(groups: Array, generator: np.random.Generator) -> Floats:
    """Return (n,) what share of its group comes before the middle of each example, in a random order."""
    sizes = np.bincount(groups)[groups]
    return (_turns(groups, generator) + 0.5) / sizes


def _towards_task_b(pool: Pool) -> Floats:
    """Return (n,) the cosine of each example with the mean of task B's, both seen from the pool's mean."""
    embeddings = pool.column("embeddings").astype(np.float64)
    towards = pool.column("task_b_embeddings").mean(axis=0) - embeddings.mean(axis=0)
    found: Floats = pool.directions @ (towards / max(float(np.linalg.norm(towards)), 1e-12))
    return found


def _alignment(pool: Pool) -> Floats:
    """Return (n,) the cosine of each example's gradient with the mean direction of task B's."""
    own, theirs = (
        unit_rows(pool.column(name).astype(np.float64)) for name in ("gradients", "task_b_gradients")
    )
    mean = theirs.mean(axis=0)
    found: Floats = own @ (mean / max(float(np.linalg.norm(mean)), 1e-12))
    return found


# What a study compares that names no strategies.
ORIGINAL = ("random", "difficulty_hard", "difficulty_easy", "loss_descending", "loss_ascending")
STRATEGIES: dict[str, Strategy] = {
    "random": Strategy(order_randomly),
    "difficulty_hard": Strategy(order_by_difficulty_descending, needs="difficulty"),
    "difficulty_easy": Strategy(order_by_difficulty_ascending, needs="difficulty"),
    "loss_descending": Strategy(order_by_loss_descending, needs="losses"),
    "loss_ascending": Strategy(order_by_loss_ascending, needs="losses"),
    AA: Strategy(order_randomly, stream="selection_aa"),
    "stratified": Strategy(order_by_strata, needs="strata", source="Cochran 1977"),
    "loss_middle": Strategy(order_by_loss_middle, needs="losses", source="arXiv:2406.09935"),
    "coverage_by_loss": Strategy(order_by_loss_coverage, needs="losses", source="arXiv:2210.15809"),
    "learnability": Strategy(
        order_by_learnability, needs=("losses", "base_losses"), source="arXiv:2206.07137"
    ),
    "unstable": Strategy(order_by_instability, needs="learning_curve", source="arXiv:1812.05159"),
    "forgotten": Strategy(order_by_forgetting, needs="forgotten", source="arXiv:2402.08096"),
    "coverage": Strategy(order_by_coverage, needs="embeddings", source="arXiv:1708.00489"),
    "herding": Strategy(order_by_herding, needs="embeddings", source="arXiv:1611.07725"),
    "similar_to_b": Strategy(
        order_by_similarity_descending, needs=("embeddings", "task_b_embeddings"), source="arXiv:2403.11435"
    ),
    "dissimilar_to_b": Strategy(
        order_by_similarity_ascending, needs=("embeddings", "task_b_embeddings"), source="arXiv:2403.11435"
    ),
    "gradient_aligned": Strategy(
        order_by_alignment_descending, needs=("gradients", "task_b_gradients"), source="arXiv:2402.04333"
    ),
    "gradient_opposed": Strategy(
        order_by_alignment_ascending, needs=("gradients", "task_b_gradients"), source="arXiv:2402.04333"
    ),
}
