"""The environment in which chat templates run: that of transformers' apply_chat_template, with limits of size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import BuiltinMethodType, MethodType
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.environment import Template
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from axo.data.jinja_filters import limited_filters
from axo.data.jinja_sizes import (
    GROWING,
    check_power,
    check_printed,
    check_product,
    checked_arguments,
    joined,
    limited,
    limited_format,
)

GENERATION_OPEN, GENERATION_CLOSE = "\uf8a2", "\uf8a3"
"""Private-use characters around what a `generation` block writes, where they are asked for."""


class _LimitedCode(CodeGenerator):
    """Sums and joined texts are looked at where no part of them stands in the template itself."""

    def visit_Add(self, node: nodes.Add, frame: Frame) -> None:  # noqa: N802
        if _few_variables(node.left, node.right):
            super().visit_Add(node, frame)
            return
        self.write("environment.limited(")
        super().visit_Add(node, frame)
        self.write(")")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        if _few_variables(*node.nodes):
            super().visit_Concat(node, frame)
            return
        escapes = frame.eval_ctx.volatile or frame.eval_ctx.autoescape
        self.write("environment.limited(" if escapes else "environment.joined((")
        if escapes:
            super().visit_Concat(node, frame)
        else:
            for value in node.nodes:
                self.visit(value, frame)
                self.write(", ")
        self.write(")" if escapes else "))")


def _few_variables(*values: nodes.Node) -> bool:
    return sum(not isinstance(value, nodes.Const) for value in values) <= 1


_METHODS = frozenset({BuiltinMethodType, MethodType})
_OF_DICT = frozenset(dir(dict))


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """transformers' environment; every operation that may make something huge is checked before it does."""

    code_generator_class = _LimitedCode
    intercepted_binops = frozenset({"*", "**", "%"})
    concat = staticmethod(joined)
    limited = staticmethod(limited)
    marks_generation = False

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.filters.update(limited_filters())
        self.globals.update(
            raise_exception=_raise_exception, strftime_now=_strftime_now, dict=_Dict(), namespace=_SafeNamespace
        )
        self._safe: dict[tuple[type, str], bool] = {}

    def write(self, template: Template, known: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
        """Template.render, of which Jinja makes the context anew each time; `known` are the template's globals."""
        context = self.context_class(self, {**known, **variables}, template.name, template.blocks, known)  # type: ignore[arg-type]
        try:
            return joined(template.root_render_func(context))
        except Exception:
            self.handle_exception()

    @staticmethod
    def joined(values: Iterable[Any]) -> str:
        """`a ~ b ~ c`."""
        return joined(map(str, values))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%":
            check_printed(left, right)
        elif operator == "*":
            check_product(left, right)
        else:
            check_power(left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        kind = type(__obj)
        if kind in _METHODS and __obj.__name__ in GROWING:
            args = checked_arguments(__obj.__self__, __obj.__name__, args, kwargs)
        if kind is not Macro and kind is not BuiltinMethodType:
            return super().call(__context, __obj, *args, **kwargs)
        # What Jinja does with these two after it has looked for marks, which they cannot bear.
        kwargs.pop("_block_vars", None)
        kwargs.pop("_loop_vars", None)
        return __obj(__context.eval_ctx, *args, **kwargs) if kind is Macro else __obj(*args, **kwargs)

    def wrap_str_format(self, value: Any) -> Any:
        if type(value) not in _METHODS or value.__name__ not in ("format", "format_map"):
            return None
        text = value.__self__
        return limited_format(self, text, of_mapping=value.__name__ != "format") if isinstance(text, str) else None

    def getattr(self, obj: Any, attribute: str) -> Any:
        # What Jinja does with a name that is no attribute; for a dict that is known beforehand.
        if type(obj) is dict and attribute not in _OF_DICT:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        # Jinja's answer depends on nothing else, and takes long.
        key = (type(obj), attr)
        if key not in self._safe:
            self._safe[key] = super().is_safe_attribute(obj, attr, value)
        return self._safe[key]


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}` around what the assistant writes."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Any) -> str:
        text = caller()
        marks = getattr(self.environment, "marks_generation", False)
        return f"{GENERATION_OPEN}{text}{GENERATION_CLOSE}" if marks else text


class _SafeNamespace(Namespace):
    """jinja2's namespace without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        values = dict(*args[1:], **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class _Dict:
    """`dict(...)` and `dict.fromkeys(...)`, and nothing else of Python's type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a template may not store {name!r} in a namespace")


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
