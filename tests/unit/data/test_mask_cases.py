"""What is trained of a conversation, case by case: a row and a recipe's words, and the trained text worked out by hand.

Tokens are words here, so that every edge can be seen: "Two plus two" is the tokens `Two`, ` plus`, ` two`.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from axo.data.preparation import make_preparation
from axo.data.render import Renderer
from axo.data.rows import Row
from axo.data.tokenize import Tokenizing
from axo.errors import DataError
from axo.recipe.data import DataSection
from axo.recipe.tokenizer import TokenizerSection
from axo.types import IGNORE_INDEX
from tests.unit.data.families import template

WORDS = (
    "Two", " plus", " two", " is", " four", " five", ".", " Hm", "Hm", "Hi", "Ho", " there", "Yes", "No", "\n", "user",
    "assistant", "system", "tool", "Be", " kind", "<think>", "</think>", "add", "(", ")",
)  # fmt: skip
SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<end_of_utterance>")


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are these words, with the space in front of them, and single characters else."""
    characters = {chr(code) for code in range(32, 127)}
    vocabulary = {word: at for at, word in enumerate([*SPECIAL, *dict.fromkeys([*WORDS, *sorted(characters)])])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    known = "|".join(word.replace("(", "[(]").replace(")", "[)]").replace(".", "[.]") for word in WORDS)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(f"{known}|."), behavior="isolated")
    backend.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="<|im_end|>")


def prepared(row: dict[str, Any], tokenizer: Any, *, data: Any = None, section: Any = None, **entry: Any) -> Any:
    """The row's text, its sample, the trained tokens in runs, and the renderer with what it counted."""
    entry = {"path": "x", "type": "chat_template", "chat_template": "chatml", **entry}
    recipe = DataSection.model_validate({"datasets": [entry], **(data or {})})
    preparation = make_preparation(
        recipe.datasets[0], data=recipe, section=TokenizerSection(**(section or {})), tokenizer=tokenizer
    )
    assert preparation.template is not None
    renderer = Renderer(
        preparation.template,
        tokenizer=tokenizer,
        mask=preparation.mask,
        template_kwargs=preparation.template_kwargs,
    )
    rendered = renderer.render(preparation.format.read(Row(row, "x.jsonl", 1)))  # type: ignore[arg-type]
    sample = Tokenizing(tokenizer).tokenize([rendered]).samples[0]
    runs, before = [], False
    for token, label in zip(sample.ids.tolist(), sample.labels.tolist(), strict=True):
        trained = label != IGNORE_INDEX
        if trained and not before:
            runs.append("")
        if trained:
            runs[-1] += tokenizer.convert_ids_to_tokens(token)
        before = trained
    return SimpleNamespace(text=rendered.text, sample=sample, trained=runs, renderer=renderer)


def trained(row: dict[str, Any], tokenizer: Any, **keys: Any) -> list[str]:
    return prepared(row, tokenizer, **keys).trained


def talk(*turns: dict[str, Any], **columns: Any) -> dict[str, Any]:
    return {"messages": list(turns), **columns}


def user(content: Any, **keys: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **keys}


def bot(content: Any, **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **keys}


E = "<|im_end|>"
TALK = talk({"role": "system", "content": "Be kind"}, user("Hi"), bot("Ho"), user("Yes"), bot("No"))


def weights(found: Any) -> list[float]:
    """The different weights of trained tokens, in their order."""
    given = found.sample.weights
    assert given is not None
    kept = [round(float(weight), 3) for weight in given if weight > 0]
    return [weight for at, weight in enumerate(kept) if at == 0 or kept[at - 1] != weight]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [f"Ho{E}", f"No{E}"]),
        ({"roles_to_train": ["user"]}, [f"Hi{E}", f"Yes{E}"]),
        ({"roles_to_train": ["gpt", "human"]}, [f"Hi{E}", f"Ho{E}", f"Yes{E}", f"No{E}"]),
        ({"data": {"train_on_inputs": True}}, [f"Be kind{E}", f"Hi{E}", f"Ho{E}", f"Yes{E}", f"No{E}"]),
        ({"train_on_eos": "all"}, [E, E, f"Ho{E}", E, f"No{E}"]),
        ({"train_on_eos": "last"}, ["Ho", f"No{E}"]),
        ({"train_on_eos": "none"}, ["Ho", "No"]),
        # Only the last answer, with everything that the template writes behind its prompt.
        ({"roles_to_train": []}, [f"No{E}\n"]),
    ],
)  # fmt: skip
def test_roles_and_ends(words: Any, keys: dict[str, Any], expected: list[str]) -> None:
    assert trained(TALK, words, **keys) == expected


def test_ends_of_turns_and_of_sequences_may_differ(words: Any) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        "{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    )
    words = _with_eos(words, "</s>")
    keys: dict[str, Any] = {
        "chat_template": None, "chat_template_jinja": template, "section": {"eot_tokens": [E]},
    }  # fmt: skip
    row = talk(user("Hi"), bot("Ho"), user("Yes"), bot("No"))
    # The line end between the two ends is the template's: nothing waits for it.
    assert trained(row, words, **keys) == [f"Ho{E}", "</s>", f"No{E}", "</s>"]
    assert trained(row, words, train_on_eos="last", train_on_eot="turn", **keys) == [f"Ho{E}", f"No{E}", "</s>"]
    assert trained(row, words, train_on_eot="none", **keys) == ["Ho", "</s>", "No", "</s>"]
    assert trained(row, words, train_on_eos="none", train_on_eot="all", **keys) == [E, f"Ho{E}", E, f"No{E}"]


def test_a_message_says_itself_whether_it_is_trained(words: Any) -> None:
    row = talk(user("Hi", train=True), bot("Ho", train=False), user("Yes"), bot("No", train=None))
    assert trained(row, words, message_field_training="train") == [f"Hi{E}", f"No{E}"]
    # Whatever else the recipe says of roles.
    assert trained(row, words, message_field_training="train", roles_to_train=["user"]) == [f"Hi{E}", f"Yes{E}"]


def test_a_number_is_a_weight_in_the_loss(words: Any) -> None:
    found = prepared(
        talk(user("Hi"), bot("Ho", train=0.3), user("Yes"), bot("No")), words, message_field_training="train"
    )
    assert found.trained == [f"Ho{E}", f"No{E}"]
    assert weights(found) == [0.3, 1.0]


def test_openais_weight_key_is_read_without_being_named(words: Any) -> None:
    assert trained(talk(user("Hi"), bot("Ho", weight=0), user("Yes"), bot("No", weight=1)), words) == [f"No{E}"]
    assert weights(prepared(talk(user("Hi"), bot("Ho", weight=0.5), user("Yes"), bot("No")), words)) == [0.5, 1.0]


def detail(begin: int, end: int, train: Any = True) -> dict[str, Any]:
    return {"begin_offset": begin, "end_offset": end, "train": train}


#          0123456789...            Two[0-2]  plus[3-7]  two[8-11]  is[12-14]  four[15-19]
SUM = "Two plus two is four"


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        # The end belongs to the part, and the turn's own end is trained with it.
        ([detail(0, 2)], ["Two", E]),
        ([detail(15, 19)], [f" four{E}"]),
        ([detail(0, 19)], [f"{SUM}{E}"]),
        # A token is trained only if it lies wholly inside. Axolotl first widens a part to whole tokens at an edge that
        # cuts one, and so trains ` plus` here.
        ([detail(0, 5)], ["Two", E]),
        ([detail(1, 11)], [" plus two", E]),
        # Parts that touch are one, so that a token across their border is inside.
        ([detail(0, 4), detail(5, 11)], ["Two plus two", E]),
        ([detail(0, 2), detail(3, 11, False), detail(12, 14)], ["Two", " is", E]),
        # The turn is still an assistant's, so its end is trained; a flag of the message would leave out that too.
        ([detail(0, 19, False)], [E]),
        ([], [f"{SUM}{E}"]),
    ],
)
def test_parts_of_a_message_by_their_characters(words: Any, details: list[Any], expected: list[str]) -> None:
    row = talk(user("Hi"), bot(SUM, parts=details))
    assert trained(row, words, message_field_training_detail="parts") == expected


def test_a_message_flag_goes_before_its_parts(words: Any) -> None:
    keys = {"message_field_training_detail": "parts", "message_field_training": "train"}
    assert trained(talk(user("Hi"), bot(SUM, parts=[detail(0, 2)], train=False)), words, **keys) == []
    found = prepared(talk(user("Hi"), bot(SUM, parts=[detail(0, 2), detail(3, 7, 0.5)], train=0.5)), words, **keys)
    assert found.trained == ["Two plus", E]
    assert weights(found) == [0.5, 0.25, 0.5]


def test_parts_of_a_user_may_be_trained(words: Any) -> None:
    row = talk(user(SUM, parts=[detail(15, 19)]), bot("Ho"))
    assert trained(row, words, message_field_training_detail="parts") == [f" four{E}", f"Ho{E}"]


def part(text: str, **keys: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **keys}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([part("Two plus two"), part(" is four")], [f"Two plus two is four{E}"]),
        ([part("Two plus two", train=False), part(" is four")], [f" is four{E}"]),
        ([part("Two plus two", weight=0), part(" is four", weight=1)], [f" is four{E}"]),
        ([part("Two plus two", train=False), part(" is four", train=False)], [E]),
        # The space goes with the word behind it: put it into that word's part, or neither part has the token.
        ([part("Two plus ", train=False), part("two is four", train=True)], [f" is four{E}"]),
        ([{"value": "Two plus two", "train": True}, {"content": " is four", "train": False}], ["Two plus two", E]),
    ],
)
def test_a_content_in_parts(words: Any, parts: list[Any], expected: list[str]) -> None:
    assert trained(talk(user("Hi"), bot(parts)), words) == expected


def test_parts_of_a_users_content(words: Any) -> None:
    asked = [part("Two plus two"), part(" is four", train=True)]
    # A part without a word of its own follows its turn: a user's is not trained. Axolotl trains it here.
    assert trained(talk(user(asked), bot("Ho")), words) == [f" is four{E}", f"Ho{E}"]
    assert trained(talk(user(asked), bot("Ho")), words, roles_to_train=["user"]) == [f"Two plus two is four{E}"]


QWEN: dict[str, Any] = {"chat_template": "qwen3"}


def test_a_thought_belongs_to_the_answer(words: Any) -> None:
    row = talk(user("Hi"), bot("Ho", reasoning_content="Hm"))
    assert trained(row, words, **QWEN) == [f"<think>\nHm\n</think>\n\nHo{E}"]
    # Without one, the template's empty thought is the template's.
    assert trained(talk(user("Hi"), bot("Ho")), words, **QWEN) == [f"Ho{E}"]


def test_parts_of_a_thought(words: Any) -> None:
    thought = [part("Two plus two", train=False), part(" is four", train=True)]
    assert trained(talk(user("Hi"), bot("Ho", reasoning_content=thought)), words, **QWEN) == [" is four", E]
    both = bot([part("Hi", train=False), part(" there", train=True)], reasoning_content=thought)
    assert trained(talk(user("Hi"), both), words, **QWEN) == [" is four", f" there{E}"]


@pytest.mark.parametrize(
    ("content", "thought", "answer"),
    [
        ("<think>\nHm\n</think>\n\nHo", "Hm", "Ho"),
        ("<reasoning>Hm</reasoning> Ho", "Hm", "Ho"),
        ("<|begin_of_thought|> Hm <|end_of_thought|>\n<|begin_of_solution|> Ho <|end_of_solution|>", "Hm", "Ho"),
        ("<|begin_of_thought|>Hm<|end_of_thought|>Ho", "Hm", "Ho"),
    ],
)
def test_a_thought_in_the_content_is_given_to_the_template(words: Any, content: str, thought: str, answer: str) -> None:
    found = prepared(talk(user("Hi"), bot(content)), words, split_thinking=True, **QWEN)
    assert found.trained == [f"<think>\n{thought}\n</think>\n\n{answer}{E}"]
    plain = prepared(talk(user("Hi"), bot(content)), words)
    assert plain.text.endswith(f"assistant\n{content}{E}\n")


def test_a_thought_may_have_other_keys(words: Any) -> None:
    row = talk(user("Hi"), bot("Ho", deep="Hm"))
    assert trained(row, words, field_thinking="deep", **QWEN) == [f"<think>\nHm\n</think>\n\nHo{E}"]
    own = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.inner or '' }}|{{ m.content }}<|im_end|>\n{% endfor %}"
    keys = {
        "chat_template": None,
        "chat_template_jinja": own,
        "field_thinking": "deep",
        "template_thinking_key": "inner",
    }
    assert prepared(row, words, **keys).text.endswith(f"assistant\nHm|Ho{E}\n")


def test_a_thought_that_the_template_leaves_out_is_counted(words: Any) -> None:
    row = talk(
        user("Hi"), bot("Ho", reasoning_content="Ho"), user("Yes"), bot("No", reasoning_content="Hm"),
    )  # fmt: skip
    found = prepared(row, words, **QWEN)
    assert found.trained == [f"Ho{E}", f"<think>\nHm\n</think>\n\nNo{E}"]
    assert (found.renderer.reasoning_removed, found.renderer.fallbacks) == (1, 0)
    # chatml has no place for thoughts at all.
    assert prepared(row, words).renderer.reasoning_removed == 2
    # A thought inside the content is a part of it: the template rewrites the content, which takes further renders.
    inside = talk(user("Hi"), bot("<think>Hm</think>Ho"), user("Yes"), bot("<think>Hm</think>No"))
    found = prepared(inside, words, **QWEN)
    assert found.trained == [f"Ho{E}", f"<think>\nHm\n</think>\n\nNo{E}"]
    assert (found.renderer.reasoning_removed, found.renderer.fallbacks) == (1, 1)


def test_names_of_roles_and_keys(words: Any) -> None:
    row = {"talk": [{"who": "me", "says": "Hi"}, {"who": "bot", "says": "Ho"}]}
    keys: dict[str, Any] = {"field_messages": "talk", "roles": {"user": ["me"], "assistant": ["bot"]}}
    mapped = {"message_property_mappings": {"role": "who", "content": "says"}}
    named = {"message_field_role": "who", "message_field_content": "says"}
    for way in (mapped, named):
        assert trained(row, words, **keys, **way) == [f"Ho{E}"]
        assert trained(row, words, roles_to_train=["bot", "me"], **keys, **way) == [f"Hi{E}", f"Ho{E}"]


def test_system_messages(words: Any) -> None:
    start = "<|im_start|>system\n"
    row = talk(user("Hi"), bot("Ho"), system="Be kind", rule="Yes")
    assert prepared(row, words).text.startswith(f"{start}Be kind{E}")
    assert prepared(row, words, field_system="rule").text.startswith(f"{start}Yes{E}")
    assert start not in prepared(TALK, words, drop_system_message=True).text
    default = {"default_system_message": "No"}
    assert prepared(talk(user("Hi"), bot("Ho")), words, section=default).text.startswith(f"{start}No{E}")


CALL = {"type": "function", "function": {"name": "add", "arguments": {"x": 2}}}
TOOL = {"type": "function", "function": {"name": "add", "description": "Two", "parameters": {"type": "object"}}}


def test_a_tool_call_is_part_of_the_answer(words: Any) -> None:
    written = '<tool_call>\n{"name": "add", "arguments": {"x": 2}}\n</tool_call>'
    text = {"type": "function", "function": {"name": "add", "arguments": '{"x": 2}'}}
    for call, tools in ((CALL, [TOOL]), (text, json.dumps([TOOL]))):
        for content in ("", None):
            turns = (user("Hi"), bot(content, tool_calls=[call]), {"role": "tool", "content": "4"}, bot("Ho"))
            found = prepared(talk(*turns, tools=tools), words, chat_template="qwen_25")
            assert found.trained == [f"{written}{E}", f"Ho{E}"]
            assert '"description": "Two"' in found.text
        both = talk(user("Hi"), bot("Yes", tool_calls=[call]), tools=tools)
        assert trained(both, words, chat_template="qwen_25") == [f"Yes\n{written}{E}"]
    with pytest.raises(DataError, match="calls the tool 'add', but the chat template does not write the call"):
        prepared(talk(user("Hi"), bot("", tool_calls=[CALL])), words)


def test_last_answer_without_such_an_answer_is_refused(words: Any) -> None:
    with pytest.raises(DataError, match="the last message does not stand behind its prompt"):
        prepared(talk(user("Hi"), bot("Ho"), user("Yes")), words, roles_to_train=[])
    row = talk(user("Hi"), bot("Ho", reasoning_content="Hm"))
    assert trained(row, words, roles_to_train=[], **QWEN) == [f"<think>\nHm\n</think>\n\nHo{E}\n"]


def test_a_template_that_says_itself_what_is_generated(words: Any) -> None:
    own = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>\n{% endgeneration %}"
        "{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    )
    found = prepared(TALK, words, chat_template=None, chat_template_jinja=own)
    marked = words.apply_chat_template(
        TALK["messages"], chat_template=own, return_dict=True, return_assistant_tokens_mask=True
    )
    # transformers marks the line end behind the end of the turn too, for which nobody waits.
    ids = [token for token, mark in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if mark]
    assert "".join(words.convert_ids_to_tokens(ids)) == f"Ho{E}\nNo{E}\n"
    assert found.trained == [f"Ho{E}", f"No{E}"]


def test_keys_of_the_template(words: Any) -> None:
    own = "{{ date_string }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    section = {"chat_template_kwargs": {"date_string": "Yes", "enable_thinking": False}}
    found = prepared(talk(user("Hi"), bot("Ho")), words, chat_template=None, chat_template_jinja=own, section=section)
    assert (found.text, found.trained) == (f"YesHi{E}Ho{E}", [f"Ho{E}"])
    # enable_thinking changes the prompt, not a finished answer.
    assert trained(talk(user("Hi"), bot("Ho")), words, section=section, **QWEN) == [f"Ho{E}"]


@pytest.mark.parametrize("name", ["smolvlm", "llava"])
def test_a_template_that_wants_lists_of_parts(words: Any, name: str) -> None:
    row = talk(user("Hi"), bot("Ho"))
    found = prepared(row, words, chat_template=name, section={"eot_tokens": ["<end_of_utterance>"]})
    parts = [{**message, "content": [part(message["content"])]} for message in row["messages"]]
    assert found.text == words.apply_chat_template(parts, chat_template=template(name), tokenize=False)
    assert "".join(found.trained).startswith("Ho")


def _with_eos(tokenizer: Any, eos: str) -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, bos_token="<s>", eos_token=eos)
