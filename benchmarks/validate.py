"""`axo validate` of a recipe of sixty keys: the whole process, against one that only imports pydantic and PyYAML."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from measure import Target, heavy_modules, parser, report, whole_process

BOUND_SECONDS = 0.35
RECIPE = """\
base_model: meta-llama/Llama-3.1-8B
model_type: LlamaForCausalLM
tokenizer_type: AutoTokenizer
trust_remote_code: false
load_in_8bit: false
load_in_4bit: false
strict: false
chat_template: llama3
datasets:
  - path: chats.jsonl
    type: chat_template
    field_messages: conversations
    message_property_mappings:
      role: from
      content: value
    roles_to_train: [assistant]
    train_on_eos: turn
  - path: alpaca.jsonl
    type: alpaca
shuffle_merged_datasets: true
dataset_prepared_path: last_run_prepared
val_set_size: 0.02
output_dir: ./outputs/lora
adapter: lora
lora_model_dir:
sequence_len: 4096
sample_packing: true
eval_sample_packing: false
pad_to_sequence_len: true
excess_length_strategy: drop
min_sample_len: 4
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
lora_modules_to_save: [embed_tokens, lm_head]
peft_use_rslora: true
wandb_project: chats
wandb_entity:
wandb_watch:
wandb_name: first
wandb_log_model:
gradient_accumulation_steps: 4
micro_batch_size: 2
eval_batch_size: 2
num_epochs: 4
optimizer: adamw_torch_fused
adam_beta1: 0.9
adam_beta2: 0.95
adam_epsilon: 1e-8
max_grad_norm: 1.0
lr_scheduler: cosine
cosine_min_lr_ratio: 0.1
learning_rate: 2e-4
train_on_inputs: false
group_by_length: false
bf16: auto
tf32: false
gradient_checkpointing: true
gradient_checkpointing_kwargs:
  use_reentrant: true
resume_from_checkpoint:
logging_steps: 1
flash_attention: true
warmup_ratio: 0.1
evals_per_epoch: 4
saves_per_epoch: 1
save_total_limit: 3
weight_decay: 0.0
seed: 7
special_tokens:
  pad_token: <|end_of_text|>
"""


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=20)
    arguments = options.parse_args()
    with TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(RECIPE, encoding="utf-8")
        commands = {
            "validate": [str(Path(sys.executable).with_name("axo")), "validate", str(recipe)],
            "imports": [sys.executable, "-c", "import pydantic, yaml"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.runs):  # interleaved, so that both see the same load
            for name, command in commands.items():
                seconds[name].append(whole_process(command))
        heavy = heavy_modules(["validate", str(recipe)])
    return report(
        "validate",
        figures={
            "keys": sum(":" in line for line in RECIPE.splitlines()),
            "axo validate, median (s)": median(seconds["validate"]),
            "axo validate, fastest (s)": min(seconds["validate"]),
            "import pydantic, yaml, median (s)": median(seconds["imports"]),
            "ratio": median(seconds["validate"]) / median(seconds["imports"]),
        },
        targets=[
            Target("axo validate", median(seconds["validate"]), BOUND_SECONDS, "s"),
            Target(f"heavy libraries loaded {sorted(heavy)}", len(heavy), 0, "libraries"),
        ],
        as_json=arguments.json,
    )


if __name__ == "__main__":
    sys.exit(main())
