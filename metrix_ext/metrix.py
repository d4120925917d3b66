"""Metrix: the error of Eq. (10), E = mean over anchors of l(a) + w l~(a), around any loss of Table 1."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from . import backend
from .batch.batch import Batch, at_least_float32, counted
from .distributed.sources import SourcesOfRanks
from .heads import PoolingHead
from .losses import LossParts, TableLoss
from .mixing.arguments import (
    MIXES,
    Encoder,
    check_names,
    draw,
    encoder_of,
    hard_negatives_of,
    lam_of,
    margins_of,
    seed_of,
    source_of,
    strengths_of,
)
from .mixing.balance import GradientBalance
from .mixing.embeddings import mix_embeddings, mix_projections
from .mixing.encoded import mix_encoded
from .mixing.features import mix_features
from .mixing.fused_heads import check_embedding_size, is_fused
from .mixing.lambdas import Lambda, fixed_lambda, sample_lambda
from .terms.beta import check_alpha
from .terms.checks import check_choice, check_flag, check_number, check_whole
from .terms.formula import AnchorSums
from .terms.pair_sets import PAIR_SETS, check_pairs, with_anchor


class Metrix(nn.Module):
    """Adds the mixed loss of Eq. (9) to a loss.

    Args:
        loss: any loss of metrix_ext.losses.
        mix: what is mixed (Eq. 4): "input", "feature", "embed", or several, one of which is drawn at each call.
        pairs: the set of pairs M(a), or several, one of which is drawn at each call: "pos-neg", "anc-neg", "pos-pos",
            "neg-neg", "anc-pos".
        alpha: lambda ~ Beta(alpha, alpha); at least 0.05.
        strength: w of Eq. (10), one number or one per set of pairs; "balanced" sets it as training goes on, so that the
            gradient of the mixed term at the embeddings has gradient_share of the norm of the clean one's. What is
            measured for that (``balance``) is in the state dict. With mixed features or images only what reaches
            the embeddings as anchors is seen.
        lam: "pair" draws one lambda per unordered pair of the batch, "batch" one per call; a number or a matrix
            [n, n] by (first, second) is taken as it is.
        renormalize: whether mixed embeddings ("embed") are l2-normalised again. Mixed features and images always are.
        hard_negatives: keep only that many negatives of highest similarity per anchor; "all", or one value per mix in
            a mapping. None is 3 for "input" and all for the others.
        mixed_margins: (m_plus, m_minus) let the margin of a mix follow its label y, as y m_plus + (1 - y) m_minus, in
            place of the loss's own. y is lambda for "pos-neg" and "anc-neg", 1 for "pos-pos" and "anc-pos", 0 for
            "neg-neg". What a margin is to a loss stands there; NCA, ProxyNCA and ProxyNCA++ have none. None is the
            loss's own margin for every mix.
        workspace: bytes for pooled mixes, their gradients and projections; what fits is kept for backward and not
            formed again. None is 128 MiB on a CPU and a twelfth of its memory on a GPU; few mixes take what they need.
        mixed_loss: the loss whose formula l~ has, as ``MultiSimilarityLoss(4, 4, 0.5)``; None is ``loss`` itself, the
            paper's choice. It compares what ``loss`` does, and proxies are those of ``loss``.
        gradient_share: of strength="balanced".

    Raises:
        TypeError, ValueError: an argument is not as above, or the loss's proxies cannot be mixed so.
    """

    def __init__(
        self,
        loss: TableLoss,
        mix: str | Sequence[str] = "feature",
        pairs: str | Sequence[str] = ("pos-neg", "anc-neg"),
        alpha: float = 2.0,
        strength: float | str | Mapping[str, float] | None = None,
        lam: str | float | Tensor = "pair",
        renormalize: bool = False,
        hard_negatives: int | str | Mapping[str, int | str] | None = None,
        workspace: int | None = None,
        mixed_margins: tuple[float, float] | None = None,
        mixed_loss: TableLoss | None = None,
        gradient_share: float = 0.5,
    ) -> None:
        super().__init__()
        if not isinstance(loss, TableLoss):
            raise TypeError(f"loss: got {type(loss).__name__}, expected a loss of metrix_ext.losses")
        check_alpha(alpha)
        self.loss = loss
        self.mix = check_names("mix", mix, MIXES)
        self.pairs = check_names("pairs", pairs, PAIR_SETS)
        self.alpha = float(alpha)
        share = check_number("gradient_share", gradient_share, above=0)
        self.balance = None
        if isinstance(strength, str):
            check_choice("strength", strength, ("balanced",))
            strength = None
            self.balance = GradientBalance(share, strengths_of(None, self.pairs))
        self.strength = strengths_of(strength, self.pairs)
        self.mixed_margins = margins_of(mixed_margins)
        of_mixes = loss if mixed_loss is None else _same_comparison(mixed_loss, loss)
        # All that is kept of it: as a submodule it would have proxies, parameters that nothing uses.
        self._mixed_formula = of_mixes.formula.with_margins(self.mixed_margins)
        self._combine_mixed = of_mixes.combine
        self.lam = lam_of(lam)
        self.renormalize = check_flag("renormalize", renormalize)
        self.workspace = None if workspace is None else check_whole("workspace", workspace)
        self.hard_negatives = hard_negatives_of(hard_negatives)
        for mix_name in self.mix:
            for pairs_name in self.pairs:
                self._check_possible(mix_name, pairs_name)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None = None,
        source: Tensor | Mapping[str, Tensor] | None = None,
        encode: Encoder | Mapping[str, Encoder] | None = None,
        seed: int | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
        ref_self: Tensor | None = None,
    ) -> Tensor:
        """E of Eq. (10).

        Args:
            embeddings: [n, d] of the clean batch.
            labels: [n] integers.
            indices_tuple: a miner's pairs, as of the loss; the mixed loss then takes its positives and negatives too.
            source: what is mixed: the last feature map [n, c, h, w] ("feature") or the images [n, 3, H, W] ("input").
                With several mixes a mapping from mix to tensor. Not for "embed".
            encode: maps mixed sources to embeddings: the head or the model; a mapping with several mixes. A
                PoolingHead with average pooling is mixed exactly without mixing features; with a max it is mixed in
                chunks; anything else is called on n mixes at a time, under checkpointing.
            seed: of lambda, instead of one drawn from torch's default generator of the device.
            ref_emb, ref_labels, ref_self: as of the loss: anchors are the embeddings, while positives and negatives,
                clean and mixed, are these references. "embed" has all sets of pairs; its "anc-neg" and "anc-pos" mix
                an anchor with a reference. "feature" and "input" have the sets without the anchor, "pos-neg",
                "pos-pos" and "neg-neg", with a source [r, ...] of the references. lambda of a pair knows a reference
                by its row and an anchor by that of its copy, or else by r plus its own row.

        Returns:
            A scalar. Which mix and which pairs are drawn comes from torch's default CPU generator.

        Raises:
            TypeError, ValueError: an argument is missing or not as above.
        """
        batch = self._batch(self.mix, self.pairs, embeddings, labels, indices_tuple, ref_emb, ref_labels, ref_self)
        return self._combined(embeddings, *self._sums(batch, source, encode, seed))

    def parts(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None = None,
        source: Tensor | Mapping[str, Tensor] | None = None,
        encode: Encoder | Mapping[str, Encoder] | None = None,
        seed: int | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
        ref_self: Tensor | None = None,
    ) -> LossParts:
        """What ``forward`` returns, with its clean and its mixed part from the same sums over the pairs.

        ``loss`` is ``clean + strength * mixed``; a set of pairs of strength 0 is not mixed. Arguments as of
        ``forward``.
        """
        batch = self._batch(self.mix, self.pairs, embeddings, labels, indices_tuple, ref_emb, ref_labels, ref_self)
        clean, mixed, pairs = self._sums(batch, source, encode, seed)
        return LossParts(
            loss=self._combined(embeddings, clean, mixed, pairs),
            clean=self.loss.combine(clean.detach()),
            mixed=None if mixed is None else self._combine_mixed(mixed.detach()),
        )

    def mixed_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        pairs: str = "pos-neg",
        lam: float | Tensor | None = None,
        source: Tensor | Mapping[str, Tensor] | None = None,
        encode: Encoder | Mapping[str, Encoder] | None = None,
        seed: int | None = None,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
        ref_self: Tensor | None = None,
    ) -> Tensor:
        """The mixed term alone: l~ of Eq. (9), averaged over anchors, without its strength.

        Args:
            pairs: the set of pairs M(a).
            lam: a number or a matrix by (first, second) to use instead of what the criterion has: [n, n], or [m, n] by
                (anchor, example) for sets with the anchor, where the m anchors are the proxies of a proxy anchor loss;
                n is the number of proxies where those are positives and negatives, and of references with ref_emb.
            embeddings, labels, source, encode, seed, indices_tuple, ref_emb, ref_labels, ref_self: as of ``forward``.
        """
        check_pairs(pairs)
        mix = draw(self.mix)
        self._check_possible(mix, pairs)
        batch = self._batch((mix,), (pairs,), embeddings, labels, indices_tuple, ref_emb, ref_labels, ref_self)
        return self._combine_mixed(self._mixed_sums(batch, mix, pairs, lam, source, encode, seed))

    def _batch(
        self,
        mixes: tuple[str, ...],
        sets: tuple[str, ...],
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None,
        ref_emb: Tensor | None,
        ref_labels: Tensor | None,
        ref_self: Tensor | None,
    ) -> Batch:
        """The batch of the loss. Refuses references that one of these mixes and sets of pairs cannot mix."""
        batch = self.loss.batch(embeddings, labels, indices_tuple, ref_emb, ref_labels, ref_self)
        if ref_emb is not None and not batch.anchors_are_examples:
            for mix, pairs in itertools.product(mixes, sets):
                if mix != "embed" and with_anchor(pairs):
                    raise ValueError(
                        f"ref_emb: {pairs!r} mixes an anchor with a reference, but source is of the references alone: "
                        f"only mix='embed' can do that; with mix={mix!r} pass pairs='pos-neg', 'pos-pos' or 'neg-neg'"
                    )
        return batch

    def _sums(
        self,
        batch: Batch,
        source: Tensor | Mapping[str, Tensor] | None,
        encode: Encoder | Mapping[str, Encoder] | None,
        seed: int | None,
    ) -> tuple[AnchorSums, AnchorSums | None, str]:
        """The clean sums of every anchor, the mixed ones if there are any, and the set of pairs."""
        mix, pairs = draw(self.mix), draw(self.pairs)
        if self.strength[pairs] == 0.0:
            return self.loss.clean_sums(batch), None, pairs
        rho, clean_rho = self._mixed_formula.rho, self.loss.formula.rho
        one_kind = rho[0].exponential == clean_rho[0].exponential
        if mix == "embed" and self.hard_negatives[mix] is None and one_kind:  # the same similarities serve both
            lambdas = self._lambda(batch, pairs, None, seed)
            sums = mix_embeddings(batch, rho, pairs, lambdas, self.renormalize, clean_rho)
            return counted(batch, "clean", *sums[2:]), counted(batch, pairs, *sums[:2]), pairs
        clean = self.loss.clean_sums(batch)
        return clean, self._mixed_sums(batch, mix, pairs, None, source, encode, seed), pairs

    def _combined(
        self,
        embeddings: Tensor,
        clean: AnchorSums,
        mixed: AnchorSums | None,
        pairs: str,
    ) -> Tensor:
        """Eq. (10)."""
        if mixed is None:
            return self.loss.combine(clean)
        if self.balance is None and self._combine_mixed == self.loss.combine:  # in one kernel
            return self.loss.combine(clean, mixed, self.strength[pairs])
        of_clean, of_mixed = self.loss.combine(clean), self._combine_mixed(mixed)
        if self.balance is None:
            return of_clean + self.strength[pairs] * of_mixed
        return of_clean + self.balance(pairs, embeddings, of_clean, of_mixed) * of_mixed

    def _mixed_sums(
        self,
        batch: Batch,
        mix: str,
        pairs: str,
        lam: float | Tensor | None,
        source: Tensor | Mapping[str, Tensor] | None,
        encode: Encoder | Mapping[str, Encoder] | None,
        seed: int | None,
    ) -> AnchorSums:
        k = self.hard_negatives[mix]
        if k is not None:
            batch = batch.keep_hard_negatives(k)
        rho = self._mixed_formula.rho
        lambdas = self._lambda(batch, pairs, lam, seed)
        if mix == "embed":
            sums, nonzero = mix_embeddings(batch, rho, pairs, lambdas, self.renormalize)
        elif isinstance(source, SourcesOfRanks):
            normalize = self.loss.normalize
            sums, nonzero = source.sums(batch, rho, mix, pairs, lambdas, encode, normalize, self.workspace)
        else:
            device = batch.order.device
            of = "embeddings" if batch.anchors_are_examples or self.loss.anchors == "proxies" else "ref_emb"
            x = source_of(mix, source, len(batch.order), device, of)
            encoder = encoder_of(mix, encode, device)
            sums, nonzero = self._sums_of_sources(batch, pairs, lambdas, x, encoder)
        return counted(batch, pairs, sums, nonzero)

    def _sums_of_sources(
        self, batch: Batch, pairs: str, lambdas: Lambda, x: Tensor, encoder: Encoder
    ) -> tuple[Tensor, ...]:
        """By the fastest way that gives what the encoder does."""
        rho = self._mixed_formula.rho
        head = encoder if isinstance(encoder, PoolingHead) and is_fused(encoder, x) else None
        if head is None or (not head.commutes_with_mixing and backend.choose(x.device) == "reference"):
            return mix_encoded(batch, rho, pairs, lambdas, x, encoder, self.loss.normalize)
        check_embedding_size(head, batch.anchors.shape[1])
        if not head.commutes_with_mixing:
            return mix_features(batch, rho, pairs, lambdas, x, head, self.workspace)
        projected = at_least_float32(head.project(x)).to(batch.anchors.dtype)
        return mix_projections(batch, rho, pairs, lambdas, projected.index_select(0, batch.order))

    def _lambda(self, batch: Batch, pairs: str, lam: float | Tensor | None, seed: int | Tensor | None) -> Lambda:
        given = self.lam if lam is None else lam_of(lam)
        if not isinstance(given, str):
            return fixed_lambda(batch, pairs, given)
        return sample_lambda(batch, pairs, given, self.alpha, seed_of(seed, batch.order.device))

    def _check_possible(self, mix: str, pairs: str) -> None:
        name = type(self.loss).__name__
        if mix != "embed" and self.loss.candidates == "proxies":
            raise ValueError(f"mix: {name} has proxies as positives and negatives, which only mix='embed' can mix")
        if mix != "embed" and self.loss.anchors == "proxies" and with_anchor(pairs):
            raise ValueError(
                f"pairs: {pairs!r} mixes an anchor, which is a proxy in {name}, with an embedding: only mix='embed' "
                f"can do that; with mix={mix!r} pass pairs='pos-neg', 'pos-pos' or 'neg-neg'"
            )

    def extra_repr(self) -> str:
        told = f"mix={self.mix}, pairs={self.pairs}, alpha={self.alpha}, strength={self.strength}"
        return told if self.mixed_margins is None else f"{told}, mixed_margins={self.mixed_margins}"


def _same_comparison(given: Any, loss: TableLoss) -> TableLoss:
    """mixed_loss, which has to compare what the loss does: the same anchors, with the same positives and negatives."""
    if not isinstance(given, TableLoss):
        raise TypeError(f"mixed_loss: got {type(given).__name__}, expected a loss of metrix_ext.losses")
    got, expected = (
        f"{'normalised ' if of.normalize else ''}{of.anchors} with {of.candidates}" for of in (given, loss)
    )
    if got != expected:
        raise ValueError(
            f"mixed_loss: got {type(given).__name__}, which compares {got}, expected one that compares {expected} as "
            f"{type(loss).__name__} does"
        )
    return given
