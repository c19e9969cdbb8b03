"""The block `fsdp_config`: how Fully Sharded Data Parallel splits a model."""

from __future__ import annotations

from typing import Literal

from axo.recipe.section import Section


class FSDPConfig(Section):
    fsdp_version: int | None = None
    """."""
    activation_checkpointing: bool | None = None
    """."""
    offload_params: bool | None = None
    """."""
    sync_module_states: bool | None = None
    """."""
    cpu_ram_efficient_loading: bool | None = None
    """."""
    cpu_offload_pin_memory: bool | None = None
    """."""
    use_orig_params: bool | None = None
    """."""
    state_dict_type: Literal["FULL_STATE_DICT", "LOCAL_STATE_DICT", "SHARDED_STATE_DICT"] | None = None
    """."""
    final_state_dict_type: Literal["FULL_STATE_DICT", "LOCAL_STATE_DICT", "SHARDED_STATE_DICT"] | None = None
    """."""
    auto_wrap_policy: Literal["TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP"] | None = None
    """."""
    transformer_layer_cls_to_wrap: str | None = None
    """."""
    min_num_params: int | None = None
    """."""
    reshard_after_forward: bool | None = None
    """."""
    mixed_precision_policy: str | None = None
    """."""
