"""Secrets are found by shape and by the name of their key, and never shown; what only resembles one passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from axo.errors import RecipeError
from axo.recipe.describe import found
from axo.recipe.override import parse_overrides
from axo.recipe.read import read_recipe
from axo.recipe.secrets import secrets_in

MINIMAL = "base_model: some/model\nlearning_rate: 2e-5\ndatasets:\n  - path: some/data\n    type: alpaca\n"
HEX = "0123456789abcdef"
HUB = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567"
"""34 letters and digits, as the hub's tokens have."""
RANDOM = "aB3dE6gH9jK2"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("key", "text", "instead"),
    [
        ("wandb_name", HUB, "WANDB_API_KEY"),
        ("base_model", HUB, "HF_TOKEN"),
        ("hub_model_id", f"https://user:{HUB}@huggingface.co/me/model", "HF_TOKEN"),
        ("wandb_project", "sk-proj-" + "aB3" * 8, "WANDB_API_KEY"),
        ("run", f"sk-proj-{RANDOM}-{RANDOM}{RANDOM}_{RANDOM}", "OPENAI_API_KEY"),
        ("run", f"sk-svcacct-{RANDOM}{RANDOM}", "OPENAI_API_KEY"),
        ("run", f"me/sk-{RANDOM * 4}", "OPENAI_API_KEY"),
        ("run", f"sk-{HEX * 2}", "OPENAI_API_KEY"),
        ("run", f"sk-or-v1-{HEX * 4}", "OPENAI_API_KEY"),
        ("wandb_run_id", HUB, "WANDB_API_KEY"),
        ("output_dir", f"./out/{HUB}", "HF_TOKEN"),
        ("run", "api_org_" + "AbCdEfGhIj" * 4, "HF_TOKEN"),
        ("default_system_message", "key sk-" + "aB3" * 16, "OPENAI_API_KEY"),
        ("run", "sk-ant-api03-" + "aB3-" * 8, "ANTHROPIC_API_KEY"),
        ("run", "ghp_" + "aB3" * 12, "GITHUB_TOKEN"),
        ("run", "github_pat_" + "aB3" * 12, "GITHUB_TOKEN"),
        ("run", "glpat-" + "aB3-" * 5, "GITLAB_TOKEN"),
        ("run", "xoxb-1234567890-abcdefghij", "SLACK_TOKEN"),
        ("run", "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY"),
        ("run", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "environment variable"),
        ("wandb_entity", HEX * 2 + HEX[:8], "WANDB_API_KEY"),
        ("comet_api_key", HEX * 4, "COMET_API_KEY"),
        ("comet_api_key", "short", "COMET_API_KEY"),
        ("swanlab_api_key", "short", "SWANLAB_API_KEY"),
        ("swanlab_lark_secret", "short", "SWANLAB_LARK_SECRET"),
        ("swanlab_lark_webhook_url", "https://feishu.cn/bot/v2/hook/0123-abcd-4567", "SWANLAB_LARK_WEBHOOK_URL"),
        ("mlflow_tracking_uri", "https://me:pass@mlflow.example.org", "MLFLOW_TRACKING_PASSWORD"),
        ("mlflow_tracking_password", "hunter2", "MLFLOW_TRACKING_PASSWORD"),
        ("hf_token", "anything", "HF_TOKEN"),
        ("aws_secret_access_key", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "AWS_ACCESS_KEY_ID"),
        ("password", "hunter2", "environment variable"),
        ("processor_kwargs", PEM, "the key's file"),
        ("kd_online_server_base_url", f"https://host/x?token={HEX}", "without it"),
    ],
)  # fmt: skip
def test_a_secret_is_refused_with_what_to_use_instead(key: str, text: str, instead: str) -> None:
    (finding,) = secrets_in({key: text})
    assert finding.key == key
    assert instead in (finding.hint or "")
    assert text not in str(finding)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("revision_of_model", HEX * 2 + HEX[:8]),
        ("revision", HEX * 4),
        ("tokenizer_config", "hf_tokenizer"),
        ("base_model", "org/sk-hynix-large-instruct-model"),
        ("base_model", "hf-internal-testing/tiny-random-LlamaForCausalLM"),
        ("path", "https://example.org/a:b/data@v2.json"),
        ("path", "s3://bucket/key=value/data"),
        ("chat_template_jinja", "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"),
        ("template_thinking_key", "reasoning_content"),
        ("pad_token", "<|end_of_text|>"),
        ("mask_token_str", "<mask>"),
        ("comet_api_key", "$COMET_API_KEY"),
        ("password", "${PASSWORD}"),
        ("mlflow_tracking_uri", "https://me:$PASSWORD@mlflow.example.org"),
        ("mlflow_tracking_uri", "http://127.0.0.1:5000"),
        ("wandb_run_id", "3f2a91bc"),
        ("wandb_name", "sk-learn-baseline"),
        ("base_model", "org/hf_mistralsevenbinstruct"),
        ("base_model", "org/hf_mistralsevenbinstructversiontwofinetunedonchat"),
        ("output_dir", "./out/sk-lora-8B-Instruct-run12345"),
        ("output_dir", "./out/sk-ant-colony-8B-Instruct-run12345"),
        ("output_dir", "./out/sk-Llama3Instruct8BFinetuned"),
        ("output_dir", "./out/sk-proj-Llama-3-8B-Instruct-lora-r16-alpha32-2025-01-31"),
        ("wandb_run_id", HEX * 2 + HEX[:8]),
        ("comet_experiment_key", HEX * 2 + HEX[:8]),
        ("hub_revision", HEX * 2 + HEX[:8]),
        ("wandb_name", "eyJ"),
        ("default_system_message", "You never give a password, token or API key away."),
        ("api_key", ""),
    ],
)
def test_what_only_resembles_a_secret_passes(key: str, text: str) -> None:
    assert secrets_in({key: text}) == []


def test_secrets_are_found_at_every_depth_and_numbers_are_passwords_too() -> None:
    values = {"a": [{"b": {"c": [1, HUB]}}], "password": 12345678, "count": 12345678, "api_key": True}
    assert [finding.key for finding in secrets_in(values)] == ["a.0.b.c.1", "password"]


@pytest.mark.parametrize(
    "text",
    [
        f"lora_r: {HUB}\n",
        f"tokens: {HUB}\n",
        f"wandb_mode: {HUB}\n",
        f"rl: {HUB}\n",
        f"special_tokens: {HUB}\n",
        f"chat_template: {HUB}\n",
        f"plugins: [{HUB}]\n",
        f"wandb_api_key: {HUB}\n",
        f"fsdp: {HUB}\n",
        f"unknown_key: {{deep: [{HUB}]}}\n",
        f"deepspeed: {{token: {HUB}}}\n",
        f"swanlab_api_key: [{HUB}]\n",
        f"flash_attention: {HUB}\n",
        f"max_packed_sequence_len: {HUB}\n",
        f"lora_dropout: https://me:{HUB}@example.org\n",
    ],
)
def test_no_message_of_any_kind_shows_a_secret(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL + text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert "AbCdEf" not in str(caught.value)
    assert any("looks like a secret" in finding.message for finding in caught.value.findings)
    assert {finding.line for finding in caught.value.findings} == {6}


@pytest.mark.parametrize(
    "options",
    [
        ["--wandb-name", HUB],
        [f"--wandb-name={HUB}"],
        ["--set", f"chat_template_kwargs.key={HUB}"],
        ["--lora-r", HUB],
        ["--set", HUB],
        [HUB],
        ["--comet-api-key", "hunter2"],
    ],
)
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        read_recipe(path, overrides=options)
    assert "AbCdEf" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert {finding.file for finding in caught.value.findings} == {"command line"}


def test_an_option_that_is_none_is_named_unless_it_is_a_secret() -> None:
    with pytest.raises(RecipeError, match="found the text 'second', expected an option"):
        parse_overrides(["second"])


def test_what_stands_in_a_key_for_secrets_is_not_shown_whatever_it_looks_like() -> None:
    assert found("hunter2", key="hatchery.api_key") == "a text that looks like a secret"
    assert found(12345678, key="password") == "a number"
    assert found(HEX * 2, key="lora_r") == "a text that looks like a secret"
    assert found("hunter2", key="lora_r") == "the text 'hunter2'"
