"""N-gram predictions of the next symbol, with smoothing."""

import numpy as np


class Ngrams:
    r"""Unigram and bigram of a code sequence, smoothed.

    .. math::
        p(b) = \frac{c(b) + 1}{n + V}, \qquad
        p(b \mid a) = \frac{c(ab) + m(a) \, p(b)}{c(a) + m(a)}

    with counts :math:`c`, vocabulary :math:`V` and :math:`m(a)` the number of different symbols
    seen after :math:`a`: the more followers a symbol had, the more probability is left for new
    ones.

    Args:
        codes: The training part, integers below ``size``.
        size: Number of symbols ``V``.

    References:
        Witten and Bell, *The Zero-Frequency Problem*, 1991, method C (interpolated).
    """

    def __init__(self, codes: np.ndarray, size: int) -> None:
        self.size = size
        counts = np.bincount(codes, minlength=size)
        self.unigram = (counts + 1) / (counts.sum() + size)
        # Pairs are stored sparsely, as sorted keys a * V + b: a dense table of 10,000 words would
        # need 10^8 entries.
        self.pairs, self.pair_counts = np.unique(
            codes[:-1].astype(np.int64) * size + codes[1:], return_counts=True
        )
        first = self.pairs // size
        self.after = np.bincount(first, weights=self.pair_counts, minlength=size)
        self.followers = np.bincount(first, minlength=size)
        self.best = np.full(size, int(np.argmax(self.unigram)))
        self._choose()

    def _choose(self) -> None:
        """Find the most probable follower of each symbol."""
        first, second = np.divmod(self.pairs, self.size)
        p = self.bigram(first, second)
        # Among unseen followers p(b|a) grows with p(b), so only the commonest symbol can win.
        order = np.lexsort((p, first))
        last = np.flatnonzero(np.diff(first[order], append=-1))
        winners = order[last]
        common = np.full(len(winners), np.argmax(self.unigram))
        rivals = self.bigram(first[winners], common)
        self.best[first[winners]] = np.where(rivals > p[winners], common, second[winners])

    def bigram(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return ``p(b | a)``, elementwise."""
        keys = a.astype(np.int64) * self.size + b
        at = np.minimum(np.searchsorted(self.pairs, keys), len(self.pairs) - 1)
        counts = np.where(self.pairs[at] == keys, self.pair_counts[at], 0)
        left = self.followers[a]
        total = self.after[a] + left
        backed_off = (counts + left * self.unigram[b]) / np.maximum(total, 1)
        return np.where(total > 0, backed_off, self.unigram[b])

    def score(self, a: np.ndarray, b: np.ndarray) -> dict[str, tuple[float, float]]:
        """Return bits per symbol and accuracy of guessing ``b`` after ``a``, by answer."""
        guess = int(np.argmax(self.unigram))
        return {
            "unigram": (float(-np.log2(self.unigram[b]).mean()), float((b == guess).mean())),
            "bigram": (
                float(-np.log2(self.bigram(a, b)).mean()),
                float((b == self.best[a]).mean()),
            ),
        }


def witten_bell(train: np.ndarray, codes: np.ndarray, order: int, size: int) -> np.ndarray:
    r"""Bits of each symbol by an ``order``-gram, with the rule of `Ngrams` for longer contexts.

    .. math::
        p_k(b \mid a_1 \ldots a_k) =
            \frac{c(a_1 \ldots a_k b) + m(a_1 \ldots a_k)\, p_{k-1}(b \mid a_2 \ldots a_k)}
                 {c(a_1 \ldots a_k) + m(a_1 \ldots a_k)}

    Args:
        train: Codes to count, integers below ``size``.
        codes: Codes to predict, from the second on.
        order: Length of a context plus one.
        size: Number of symbols ``V``.

    Returns:
        Bits of ``codes[1:]``.
    """
    whole = np.concatenate([train, codes]).astype(np.int64)
    trained, asked = slice(0, len(train)), slice(len(train) + 1, None)
    p = ((np.bincount(train, minlength=size) + 1) / (len(train) + size))[whole[asked]]
    context = np.zeros_like(whole)
    for _ in range(order - 1):
        # The context of a symbol is the context of its predecessor plus the predecessor. Contexts
        # are renumbered each time; products of vocabulary sizes would overflow 64 bits.
        longer = np.concatenate([[0], context[:-1] * size + whole[:-1]])
        context = np.unique(longer, return_inverse=True)[1]
        keys = context * size + whole
        # counts of the training part alone; the contexts are numbered over both
        seen, counts = np.unique(keys[trained], return_counts=True)
        total = np.bincount(context[trained], minlength=context.max() + 1)
        followers = np.bincount(seen // size, minlength=context.max() + 1)
        at = np.minimum(np.searchsorted(seen, keys[asked]), len(seen) - 1)
        count = np.where(seen[at] == keys[asked], counts[at], 0)
        left, of = followers[context[asked]], total[context[asked]]
        p = np.where(of > 0, (count + left * p) / np.maximum(of + left, 1), p)
    return -np.log2(p)
