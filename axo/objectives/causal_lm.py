"""Next-token prediction: the sum of the token losses at trained positions of a batch."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import nn

from axo.errors import TrainingError
from axo.objectives import linear_ce
from axo.objectives.inputs import attention_kwargs
from axo.objectives.logits import IDENTITY, LogitTransform
from axo.types import IGNORE_INDEX, Batch

PROBE_TOKENS = 8
MIN_TOLERANCE = 1e-5
"""Share of the largest logit that may differ where the dtype is finer: sums run in another order."""


class CausalLM(nn.Module):
    """Owns `model`, a transformers causal language model or a PeftModel around one, and is what an engine wraps.

    chunked: hidden states -> head -> `transform`, piece by piece at trained positions only; else the model's own
    logits of all positions. `num_chunks` fixes the number of pieces (always recomputed in the backward pass); unset,
    it follows from sizes (linear_ce.num_chunks).
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        chunked: bool,
        num_chunks: int | None,
        attn_implementation: str,
        transform: LogitTransform = IDENTITY,
    ) -> None:
        super().__init__()
        self.model = model
        self.chunked = chunked
        self.num_chunks = num_chunks
        self.attn_implementation = attn_implementation
        self.transform = transform
        self.vocab_size: int = self._causal_lm().config.get_text_config(decoder=True).vocab_size

    def forward(self, batch: Batch, *, score: bool = False) -> torch.Tensor:
        """The sum of token losses in nats, each times its weight, fp32 scalar; exactly zero, with zero gradients,
        without trained tokens. Of a batch that names data sets (batch.sets): the sum of each of them, (S,).

        score: [loss sum, weights of trained tokens, weights of correct ones], (3,) float64 or (3, S), without gradient.
        The chunked path never holds more than a piece of logits; the plain path holds those of the batch, as its model
        returns them."""
        if score:
            with torch.no_grad():
                return self._scores(batch)
        if self.chunked:
            hidden, targets, weights = _trained(self._hidden(batch), batch)
            chunks, recompute = self._cut(batch, rows=len(targets))
            return linear_ce.linear_cross_entropy_sum(
                self._head(),
                hidden,
                targets,
                chunks=chunks,
                weights=weights,
                transform=self.transform,
                recompute=recompute,
            )
        return linear_ce.weighted_loss(*_trained(self._logits(batch), batch))

    def count(self, batch: Batch) -> float:
        """What the loss sum of the batch is divided by: its trained tokens, each counted as its weight says."""
        return float(self.num_trained(batch) if batch.weights is None else batch.weights.sum(dtype=torch.float64))

    def num_trained(self, batch: Batch) -> int:
        """Trained tokens of the batch."""
        return int((batch.targets != IGNORE_INDEX).sum())

    def loss_chunks(self, num_trained: int) -> int:
        """Pieces that so many trained tokens are cut into: what Batch.loss_chunks says to all ranks."""
        return self._num_chunks(num_trained, device_type=self.device.type) if self.chunked else 1

    def both_logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, V) of trained positions: from hidden states, head and transform, and from the model's own forward."""
        hidden, *_ = _trained(self._hidden(batch), batch)
        own, *_ = _trained(self._logits(batch), batch)
        return self.transform(self._head()(hidden)), own

    def own_logits(self, batch: Batch) -> torch.Tensor:
        """(B, T, V) of all positions, as the model's own forward gives them."""
        return self._logits(batch)

    @property
    def device(self) -> torch.device:
        """Where the model computes: where its buffers are, as an engine may hold parameters elsewhere."""
        return next(chain(self.model.buffers(), self.model.parameters())).device

    def _scores(self, batch: Batch) -> torch.Tensor:
        if self.chunked:
            hidden, targets, weights = _trained(self._hidden(batch), batch)
            chunks, _ = self._cut(batch, rows=len(targets))
            return linear_ce.linear_scores(
                self._head(), hidden, targets, chunks=chunks, weights=weights, transform=self.transform
            )
        shares = _shares(batch)
        weights = [None] * len(batch.targets) if shares is None else shares.unbind(-2)
        # Row by row: the fp32 copy of a row is the only one.
        rows = zip(self._logits(batch), batch.targets, weights, strict=True)
        return torch.stack([linear_ce.scores(*row) for row in rows]).sum(0)

    def _cut(self, batch: Batch, *, rows: int) -> tuple[int, bool]:
        """Number of pieces, and whether they are recomputed."""
        device_type = batch.targets.device.type
        chunks = batch.loss_chunks or self._num_chunks(rows, device_type=device_type)
        if self.num_chunks is not None:
            return chunks, chunks > 1
        return chunks, not linear_ce.keeps_probabilities(chunks, vocab_size=self.vocab_size, device_type=device_type)

    def _num_chunks(self, rows: int, *, device_type: str) -> int:
        if self.num_chunks is not None:
            return self.num_chunks
        return linear_ce.num_chunks(rows, vocab_size=self.vocab_size, device_type=device_type)

    def _hidden(self, batch: Batch) -> torch.Tensor:
        """(B, T, D): what the model's own forward gives to its head."""
        inputs = attention_kwargs(batch, attn_implementation=self.attn_implementation)
        return self._causal_lm().base_model(**inputs).last_hidden_state

    def _logits(self, batch: Batch) -> torch.Tensor:
        """(B, T, V) of the model's own forward."""
        return self.model(**attention_kwargs(batch, attn_implementation=self.attn_implementation)).logits

    def _causal_lm(self) -> Any:
        """The transformers model, with adapters inside of it where there are any."""
        unwrap = getattr(self.model, "get_base_model", None)
        return self.model if unwrap is None else unwrap()

    def _head(self) -> nn.Module:
        return self._causal_lm().get_output_embeddings()


def check_head(objective: CausalLM, *, autocast_dtype: torch.dtype | None = None) -> None:
    """Compare the chunked path with the model's own logits on a few tokens; raises TrainingError where they differ.

    Runs in evaluation mode without gradients and draws no random number, so that training stays as it was. Two
    roundings in the model's dtype are allowed, of the largest logit."""
    modes = [(module, module.training) for module in objective.modules()]
    objective.eval()
    device = objective.device
    try:
        with torch.no_grad(), torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
            chunked, own = objective.both_logits(_probe_batch(objective.vocab_size, device))
    finally:
        for module, mode in modes:
            module.training = mode
    _refuse_difference(chunked, own)


def _refuse_difference(chunked: torch.Tensor, own: torch.Tensor) -> None:
    hint = "set `chunked_cross_entropy: false` to train on the model's own logits"
    if chunked.shape != own.shape:
        raise TrainingError(f"head and model give logits of shapes {_shape(chunked)} and {_shape(own)}", hint)
    difference = (chunked.float() - own.float()).abs().max().item()
    largest = own.float().abs().max().item()
    allowed = largest * max(2 * torch.finfo(own.dtype).eps, MIN_TOLERANCE)
    if not difference <= allowed:
        raise TrainingError(
            f"the logits of the chunked cross-entropy are not the model's own: they differ by {difference:.3g}, "
            f"at most {allowed:.3g} was expected (largest logit {largest:.3g})",
            hint,
        )


def _probe_batch(vocab_size: int, device: torch.device) -> Batch:
    """One row of different tokens, spread over the vocabulary, all trained."""
    ids = (torch.arange(1, PROBE_TOKENS + 1) * vocab_size // (PROBE_TOKENS + 1))[None]
    batch = Batch(
        input_ids=ids,
        targets=ids,
        position_ids=torch.arange(PROBE_TOKENS)[None],
        cu_seqlens=torch.tensor([0, PROBE_TOKENS], dtype=torch.int32),
    )
    return batch.to(device)


def _trained(values: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """(B, T, X) -> what stands at trained positions, (N, X), with their targets, (N,), and weights, (N,) or (S, N)."""
    rows, targets = values.flatten(0, 1), batch.targets.flatten()
    shares = _shares(batch)
    weights = None if shares is None else shares.flatten(-2)
    where = (targets != IGNORE_INDEX).nonzero().squeeze(1)
    if len(where) == len(targets):
        return rows, targets, weights
    kept = None if weights is None else weights.index_select(-1, where)
    return rows.index_select(0, where), targets.index_select(0, where), kept


def _shares(batch: Batch) -> torch.Tensor | None:
    """How much each token counts in each sum: batch.weights, (B, T); where the batch names data sets (S, B, T), 0 in
    the sums of the others. The gradient of all sums together is then that of one sum."""
    if batch.sets is None:
        return batch.weights
    numbers = torch.arange(batch.num_sets, device=batch.sets.device)
    own = (batch.sets == numbers[:, None, None]).float()
    return own * (batch.targets != IGNORE_INDEX if batch.weights is None else batch.weights)


def _shape(tensor: torch.Tensor) -> str:
    return " x ".join(str(size) for size in tensor.shape)
