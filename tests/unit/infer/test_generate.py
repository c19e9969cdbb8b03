"""Generation against transformers' own, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from axo.errors import AxoError, CheckpointError
from axo.infer.generate import GenerationSettings, chat_replies, chat_reply, complete, load_for_inference

PROMPTS = ["What is", "The quick brown fox jumps over", "7", "On 21 June 2004 the answer of the assistant was 12"]


@pytest.fixture(scope="module")
def model(tiny_llama_dir: Path) -> Any:
    return load_for_inference(tiny_llama_dir)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama_dir: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama_dir)


def greedy_by_hand(model: Any, ids: list[int], *, number: int, stop: set[int]) -> list[int]:
    """The plainest decoding there is: whole sequence in, best token out."""
    new: list[int] = []
    while len(new) < number and not (new and new[-1] in stop):
        with torch.no_grad():
            new.append(int(model(input_ids=torch.tensor([ids + new]), use_cache=False).logits[0, -1].argmax()))
    return new


def test_greedy_answers_of_a_padded_batch_are_those_of_a_plain_loop_over_single_prompts(
    model: Any, tokenizer: Any
) -> None:
    answers = complete(model, tokenizer=tokenizer, prompts=PROMPTS, settings=GenerationSettings(max_new_tokens=12))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = tokenizer(prompt)["input_ids"]
        expected = greedy_by_hand(model, ids, number=12, stop={tokenizer.eos_token_id})
        assert answer == tokenizer.decode(expected, skip_special_tokens=True)


@pytest.mark.parametrize("num_beams", [2, 4])
def test_beam_search_of_a_padded_batch_is_that_of_transformers_row_by_row(
    model: Any, tokenizer: Any, num_beams: int
) -> None:
    settings = GenerationSettings(max_new_tokens=8, num_beams=num_beams)
    answers = complete(model, tokenizer=tokenizer, prompts=PROMPTS, settings=settings)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        inputs = tokenizer(prompt, return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=8, num_beams=num_beams, do_sample=False)
        assert answer == tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_beam_search_with_a_beam_for_every_token_finds_the_most_probable_pair(model: Any, tokenizer: Any) -> None:
    ids = tokenizer(PROMPTS[1])["input_ids"]
    every = torch.arange(len(tokenizer))
    with torch.no_grad():
        first = model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        longer = torch.cat([torch.tensor([ids]).expand(len(every), -1), every[:, None]], dim=1)
        second = model(input_ids=longer).logits[:, -1].log_softmax(-1)
    first[tokenizer.eos_token_id] = -torch.inf
    best = int((first[:, None] + second).argmax())
    settings = GenerationSettings(max_new_tokens=2, num_beams=len(tokenizer))
    (answer,) = complete(model, tokenizer=tokenizer, prompts=[PROMPTS[1]], settings=settings)
    assert answer == tokenizer.decode([best // len(tokenizer), best % len(tokenizer)], skip_special_tokens=True)


def test_sampling_gives_the_same_text_for_the_same_seed_and_another_for_another(model: Any, tokenizer: Any) -> None:
    def sample(seed: int) -> list[str]:
        settings = GenerationSettings(max_new_tokens=16, do_sample=True, temperature=1.5, top_p=0.95, seed=seed)
        return complete(model, tokenizer=tokenizer, prompts=PROMPTS, settings=settings)

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_sampling_among_one_token_is_greedy(model: Any, tokenizer: Any) -> None:
    greedy = complete(model, tokenizer=tokenizer, prompts=PROMPTS, settings=GenerationSettings(max_new_tokens=8))
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}):
        settings = GenerationSettings(max_new_tokens=8, do_sample=True, **narrow)
        assert complete(model, tokenizer=tokenizer, prompts=PROMPTS, settings=settings) == greedy


def test_sampling_draws_from_the_whole_vocabulary_unless_told_otherwise(model: Any, tokenizer: Any) -> None:
    """transformers alone would cut to the 50 best tokens without being asked."""
    prompt, number = PROMPTS[0], 400
    settings = GenerationSettings(max_new_tokens=1, do_sample=True, temperature=50.0)
    drawn = complete(model, tokenizer=tokenizer, prompts=[prompt] * number, settings=settings)
    assert len(set(drawn)) > 100


def test_generation_leaves_the_random_numbers_outside_alone(model: Any, tokenizer: Any) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    settings = GenerationSettings(max_new_tokens=4, do_sample=True)
    complete(model, tokenizer=tokenizer, prompts=PROMPTS[:1], settings=settings)
    assert torch.equal(torch.rand(4), expected)


def test_a_model_s_own_generation_config_changes_nothing(tiny_llama_dir: Path, tokenizer: Any) -> None:
    model = load_for_inference(tiny_llama_dir)
    settings = GenerationSettings(max_new_tokens=8)
    expected = complete(model, tokenizer=tokenizer, prompts=PROMPTS, settings=settings)
    model.generation_config.update(do_sample=True, temperature=9.0, top_k=3, repetition_penalty=2.0)
    assert complete(model, tokenizer=tokenizer, prompts=PROMPTS, settings=settings) == expected


def test_repetition_penalty_divides_the_logits_of_tokens_that_are_there(model: Any, tokenizer: Any) -> None:
    ids = tokenizer(PROMPTS[3])["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    for token in set(ids):
        logits[token] = logits[token] / 30 if logits[token] > 0 else logits[token] * 30
    settings = GenerationSettings(max_new_tokens=1, repetition_penalty=30.0)
    (answer,) = complete(model, tokenizer=tokenizer, prompts=[PROMPTS[3]], settings=settings)
    assert answer == tokenizer.decode([int(logits.argmax())])


def test_an_answer_ends_at_a_stop_token(model: Any, tokenizer: Any) -> None:
    prompt = PROMPTS[0]
    ids = tokenizer(prompt)["input_ids"]
    free = greedy_by_hand(model, ids, number=12, stop=set())
    place = next(index for index in range(2, 12) if free[index] not in free[:index])
    stop_token = tokenizer.decode([free[place]])
    assert tokenizer.encode(stop_token) == [free[place]]
    settings = GenerationSettings(max_new_tokens=12)
    (answer,) = complete(model, tokenizer=tokenizer, prompts=[prompt], settings=settings, stop_tokens=[stop_token])
    assert answer == tokenizer.decode(free[: place + 1], skip_special_tokens=True)


def test_an_answer_ends_at_the_end_of_sequence_token_and_does_not_show_it(tiny_llama_dir: Path, tokenizer: Any) -> None:
    model = load_for_inference(tiny_llama_dir)
    with torch.no_grad():
        # Whatever is read, the best next token is the end of the sequence.
        model.lm_head.weight.zero_()
        model.model.norm.weight.zero_()
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
        model.lm_head.bias[tokenizer.eos_token_id] = 1.0
    settings = GenerationSettings(max_new_tokens=5)
    assert complete(model, tokenizer=tokenizer, prompts=PROMPTS, settings=settings) == [""] * len(PROMPTS)


def test_a_chat_reply_continues_the_template_s_generation_prompt(model: Any, tokenizer: Any) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the date?"},
    ]
    reply = chat_reply(model, tokenizer=tokenizer, messages=messages, settings=GenerationSettings(max_new_tokens=10))
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is the date?<|im_end|>\n"
    ids = tokenizer(text + "<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    expected = greedy_by_hand(model, ids, number=10, stop={tokenizer.eos_token_id})
    assert reply == tokenizer.decode(expected, skip_special_tokens=True)


def test_chat_replies_of_a_batch_are_those_of_single_conversations(model: Any, tokenizer: Any) -> None:
    conversations = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    settings = GenerationSettings(max_new_tokens=10)
    together = chat_replies(model, tokenizer=tokenizer, conversations=conversations, settings=settings)
    alone = [chat_reply(model, tokenizer=tokenizer, messages=one, settings=settings) for one in conversations]
    assert together == alone


def test_template_variables_reach_the_template(model: Any, tiny_llama_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    tokenizer.chat_template = "{{ word }}{{ raise_exception('no word') if not word }}"
    settings = GenerationSettings(max_new_tokens=6)
    reply = chat_reply(
        model,
        tokenizer=tokenizer,
        messages=[{"role": "user", "content": "x"}],
        settings=settings,
        template_kwargs={"word": PROMPTS[0]},
    )
    assert [reply] == complete(model, tokenizer=tokenizer, prompts=PROMPTS[:1], settings=settings)
    with pytest.raises(AxoError, match="no word"):
        chat_reply(
            model,
            tokenizer=tokenizer,
            messages=[{"role": "user", "content": "x"}],
            settings=settings,
            template_kwargs={"word": ""},
        )


def test_an_empty_prompt_is_refused_with_its_number(model: Any, tokenizer: Any) -> None:
    with pytest.raises(AxoError, match="prompt 2 of 2 is empty"):
        complete(model, tokenizer=tokenizer, prompts=["a", ""], settings=GenerationSettings())


def test_an_empty_conversation_and_a_missing_template_are_refused(model: Any, tiny_llama_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    with pytest.raises(AxoError, match="conversation is empty"):
        chat_reply(model, tokenizer=tokenizer, messages=[], settings=GenerationSettings())
    tokenizer.chat_template = None
    with pytest.raises(AxoError, match="no chat template"):
        chat_reply(
            model,
            tokenizer=tokenizer,
            messages=[{"role": "user", "content": "x"}],
            settings=GenerationSettings(),
        )


def test_a_prompt_beyond_the_model_s_positions_is_refused_with_both_numbers(model: Any, tokenizer: Any) -> None:
    limit = model.config.max_position_embeddings
    with pytest.raises(AxoError, match=r"1,024 tokens.*1,024 positions"):
        complete(model, tokenizer=tokenizer, prompts=["7" * limit], settings=GenerationSettings())


def test_an_answer_stays_within_the_model_s_positions(model: Any, tokenizer: Any) -> None:
    prompt = "7" * (model.config.max_position_embeddings - 3)
    settings = GenerationSettings(max_new_tokens=50)
    (answer,) = complete(model, tokenizer=tokenizer, prompts=[prompt], settings=settings)
    ids = tokenizer(prompt)["input_ids"]
    expected = greedy_by_hand(model, ids, number=3, stop={tokenizer.eos_token_id})
    assert answer == tokenizer.decode(expected, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", 0.0),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("num_beams", 0),
        ("repetition_penalty", 0.0),
        ("seed", -1),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(AxoError, match=name):
        GenerationSettings(**{name: value})


def test_an_adapter_is_loaded_over_its_base(tiny_llama_dir: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32)
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(tmp_path)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = adapted.eval()(input_ids=ids).logits
        plain = load_for_inference(tiny_llama_dir)(input_ids=ids).logits
        loaded = load_for_inference(tiny_llama_dir, adapter_path=tmp_path)
        found = loaded(input_ids=ids).logits
    assert isinstance(loaded, PeftModel)
    assert torch.equal(found, expected)
    assert not torch.allclose(plain, expected)


def test_weights_are_loaded_in_the_dtype_asked_for(tiny_llama_dir: Path) -> None:
    model = load_for_inference(tiny_llama_dir, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_a_folder_without_a_model_is_refused_by_name(tiny_llama_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=tmp_path.name):
        load_for_inference(tmp_path)
    with pytest.raises(CheckpointError, match="adapter of .*" + tmp_path.name):
        load_for_inference(tiny_llama_dir, adapter_path=tmp_path)
