"""A bench of tiny models with adapters, as plain transformers and peft save them; peft's own merge is the oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from axo.export.merge import MergeReport, merge_lora

VOCAB_SIZE = 96


class Bench:
    """One base, one adapter and the merged model, each in its folder."""

    def __init__(self, folder: Path) -> None:
        self.base, self.adapter, self.out = folder / "base", folder / "adapter", folder / "merged"

    def llama(self, **changes: Any) -> LlamaForCausalLM:
        settings = {
            "vocab_size": VOCAB_SIZE,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        }
        return LlamaForCausalLM(LlamaConfig(**settings | changes))

    def train(
        self,
        model: PreTrainedModel | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        max_shard_size: str = "5GB",
        add_tokens: int = 0,
        **lora: Any,
    ) -> Bench:
        """Save the base and an adapter in which every trained value is random."""
        model = model or self.llama()
        model.to(dtype).save_pretrained(self.base, max_shard_size=max_shard_size)
        model.name_or_path = str(self.base)  # peft looks there to see that the vocabulary grew
        if add_tokens:
            model.resize_token_embeddings(VOCAB_SIZE + add_tokens)
        adapted = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | lora))
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.1)
        adapted.save_pretrained(str(self.adapter))
        return self

    def merge(self, **options: Any) -> MergeReport:
        return merge_lora(base=self.base, adapter=self.adapter, out=self.out, **{"tokenizer_from": None} | options)

    def expected_logits(self, *, vocab_size: int | None = None) -> torch.Tensor:
        """Of base + adapter in plain peft, computed in float32."""
        model = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)
        if vocab_size is not None:
            model.resize_token_embeddings(vocab_size)
        return self.run(PeftModel.from_pretrained(model, str(self.adapter)), vocab_size or VOCAB_SIZE)

    def merged_logits(self, *, vocab_size: int = VOCAB_SIZE) -> torch.Tensor:
        """Of the merged model in plain transformers, computed in float32; every weight must have been found."""
        model, info = AutoModelForCausalLM.from_pretrained(self.out, dtype=torch.float32, output_loading_info=True)
        assert not any(info.values()), info
        return self.run(model, vocab_size)

    @torch.no_grad()
    def run(self, model: torch.nn.Module, vocab_size: int) -> torch.Tensor:
        """(1, tokens, vocabulary) float32 for every token of the vocabulary."""
        return model.eval()(input_ids=torch.arange(vocab_size)[None]).logits

    def merged_by_peft(self) -> dict[str, torch.Tensor]:
        """State of peft's merge_and_unload, the base in its own number format."""
        model = AutoModelForCausalLM.from_pretrained(self.base)
        return dict(PeftModel.from_pretrained(model, str(self.adapter)).merge_and_unload().state_dict())

    def tensors(self, folder: Path | None = None) -> dict[str, torch.Tensor]:
        """All tensors of a model's or adapter's folder (the merged one's), by safetensors' own reader."""
        paths = sorted((folder or self.out).glob("*.safetensors"))
        return {name: value for path in paths for name, value in load_file(path).items()}

    def json(self, name: str, folder: Path | None = None) -> dict[str, Any]:
        return json.loads(((folder or self.out) / name).read_text())

    def edit_json(self, path: Path, **changes: Any) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def edit_adapter(self, **changes: torch.Tensor | None) -> None:
        """Replace, add or (None) remove tensors of the adapter's file."""
        path = self.adapter / "adapter_model.safetensors"
        content = load_file(path) | changes
        save_file({name: value for name, value in content.items() if value is not None}, path)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    torch.manual_seed(0)
    return Bench(tmp_path)
