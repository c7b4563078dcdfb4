"""Operators' templates: a small part of Jinja2 in a sandbox, bounded in work and output; pure.

What there is: output, `if`, `for` over what is given, `set`, comparisons, and the filters below. What is not: calls,
macros, includes, arithmetic, and values of users printed as they are. Invariants:

- A value is printed only if a filter or a renderer quoted it, or if it is one plain word, which means nothing else.
- Each turn of a loop costs what its body has of nodes, each filter what it reads and writes; who is over budget is told
  so. A deadline would need a thread that cannot be stopped.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, nodes
from jinja2.environment import Template as Compiled
from jinja2.sandbox import ImmutableSandboxedEnvironment

from common.errors import Failure, Invalid
from control_plane.machines.answers import quoting
from control_plane.machines.answers.failures import Problem, TemplateInvalid
from control_plane.machines.answers.quoting import Quoted

LONGEST_TEMPLATE = 65_536
LONGEST_DOCUMENT = 1 << 20
# The built-in documents take under 2,000; this is half a second of one core.
_MOST_WORK = 300_000
_CHARACTERS_A_STEP = 64
_DEEPEST = 40
_FILE = "<template>"
# No leading hyphen: it would be an option. No colon at the end: it would be a key of YAML.
_PLAIN = re.compile(r"(?![-])[A-Za-z0-9._:/@+,=-]*(?<!:)")

_ALLOWED: tuple[type[nodes.Node], ...] = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.If,
    nodes.CondExpr,
    nodes.For,
    nodes.Assign,
    nodes.Filter,
    nodes.Test,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.List,
    nodes.Tuple,
)
_TESTS = ("defined", "undefined", "none", "true", "false", "string", "number", "sequence", "mapping", "in")


class ValueUnquoted(Invalid):
    code = "template_value_unquoted"


class BudgetSpent(Invalid):
    code = "template_budget_spent"


class _Budget:
    def __init__(self) -> None:
        self._left = _MOST_WORK

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise BudgetSpent("the template does too much", action="loop over less, or nest fewer loops")


def render_template(name: str, text: str, values: Mapping[str, Any]) -> str:
    """Raises TemplateInvalid with the line of what is wrong."""
    if len(text) > LONGEST_TEMPLATE:
        raise TemplateInvalid(name, [Problem("line 1", f"a template has at most {LONGEST_TEMPLATE} characters")])
    environment = _environment()
    try:
        tree = environment.parse(text)
        if problems := list(_refused(tree)):
            raise TemplateInvalid(name, problems)
        _meter(tree, environment)
        code = environment.compile(tree, name=_FILE, filename=_FILE)
        return _collected(Compiled.from_code(environment, code, {}).generate(**values))
    except TemplateSyntaxError as error:
        raise TemplateInvalid(name, [Problem(f"line {error.lineno}", error.message or "not understood")]) from error
    except (TemplateError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise TemplateInvalid(name, [Problem(_line(error.__traceback__), _message(error))]) from error
    except (RecursionError, MemoryError, SyntaxError) as error:
        raise TemplateInvalid(name, [Problem("line 1", "nested too deep")]) from error
    except TemplateInvalid:
        raise
    except Failure as failure:
        raise TemplateInvalid(name, [Problem(_line(failure.__traceback__), str(failure))]) from failure


def _environment() -> ImmutableSandboxedEnvironment:
    budget = _Budget()
    made = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        finalize=_printed,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        optimized=False,
        cache_size=0,
    )
    made.globals.clear()
    made.filters = {name: _counted(budget, one) for name, one in _FILTERS.items()}
    made.filters[_EACH] = lambda value, cost: _each(budget, value, cost)
    made.tests = {name: made.tests[name] for name in (*_TESTS, "eq", "ne")}
    return made


_EACH = "each turn"  # no name that a template can write


def _each(budget: _Budget, value: Any, cost: int) -> Iterator[Any]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError("only lists can be looped over")
    for one in list(value):
        budget.spend(cost)
        yield one


def _refused(tree: nodes.Template) -> Iterator[Problem]:
    waiting: list[tuple[nodes.Node, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        if not isinstance(node, _ALLOWED):
            yield Problem(f"line {node.lineno}", f"there is no {type(node).__name__.lower()} in these templates")
        elif isinstance(node, nodes.Assign) and not isinstance(node.target, nodes.Name):
            yield Problem(f"line {node.lineno}", "only one name can be set at a time")
        elif not isinstance(node, (nodes.Operand, nodes.For)) and _has_list(node):
            yield Problem(f"line {node.lineno}", "lists are written after `in` alone")
        elif depth > _DEEPEST:
            yield Problem(f"line {node.lineno}", "nested too deep")
        else:
            waiting += [(child, depth + 1) for child in node.iter_child_nodes()]


def _has_list(node: nodes.Node) -> bool:
    """Lists that are kept could be put into each other until no time is enough to compare or to write them."""
    return any(isinstance(child, (nodes.List, nodes.Tuple)) for child in node.iter_child_nodes())


def _meter(tree: nodes.Template, environment: Environment) -> None:
    for loop in list(tree.find_all(nodes.For)):
        cost = sum(1 for _ in loop.find_all(nodes.Node))
        metered = nodes.Filter(loop.iter, _EACH, [nodes.Const(cost)], [], None, None)
        loop.iter = metered.set_lineno(loop.lineno).set_environment(environment)


def _collected(chunks: Iterable[str]) -> str:
    made: list[str] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > LONGEST_DOCUMENT:
            raise BudgetSpent(f"the document would have more than {LONGEST_DOCUMENT} characters")
        made.append(chunk)
    return "".join(made)


def _printed(value: Any) -> str:
    if isinstance(value, Undefined):
        return str(value)  # raises, and says which name
    if isinstance(value, Quoted):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, str) and _PLAIN.fullmatch(value)):
        return str(value)
    if isinstance(value, str):
        raise ValueUnquoted(
            "this value is not one plain word", action="add a filter: kickstart, shell, preseed, json, yaml or base64"
        )
    raise ValueUnquoted("this is no text", action="add the filter json or yaml, or loop over it")


def _line(trace: TracebackType | None) -> str:
    """The last line of the template that was at work."""
    found = 1
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILE:
            found = trace.tb_lineno
        trace = trace.tb_next
    return f"line {found}"


def _message(error: Exception) -> str:
    return str(error)[:300] or type(error).__name__


def _counted(budget: _Budget, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(value: Any, *arguments: Any) -> Any:
        _weigh(budget, value)
        made = function(value, *arguments)
        if isinstance(made, str) and len(made) > LONGEST_DOCUMENT:
            raise BudgetSpent(f"a value would have more than {LONGEST_DOCUMENT} characters")
        return made

    return run


def _weigh(budget: _Budget, value: Any) -> None:
    """What reading all of a value costs."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        budget.spend(1 + (len(one) // _CHARACTERS_A_STEP if isinstance(one, str) else 0))
        if isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple)):
            waiting += one


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is needed here, not {type(value).__name__.lower()}")
    return value


def _joined(value: Any, between: str = " ") -> str:
    """Quoted only if all of it is."""
    texts = [_text(one) for one in value]
    joined = _text(between).join(texts)
    return (
        Quoted(joined)
        if all(isinstance(one, Quoted) for one in texts) and _PLAIN.fullmatch(between.strip())
        else joined
    )


def _indented(value: Any, width: int = 2) -> str:
    if not 0 <= width <= 40:
        raise ValueError("indentation is 0 to 40")
    pad = " " * width
    made = "\n".join(pad + line if line else line for line in _text(value).split("\n"))
    return Quoted(made) if isinstance(value, Quoted) else made


def _default(value: Any, other: Any = "") -> Any:
    return other if isinstance(value, Undefined) else value


_FILTERS: Mapping[str, Callable[..., Any]] = {
    "kickstart": lambda value: quoting.kickstart(_text(value)),
    "shell": lambda value: quoting.shell(_text(value)),
    "preseed": lambda value: quoting.preseed(_text(value)),
    "json": quoting.as_json,
    "yaml": quoting.as_yaml,
    "base64": lambda value: Quoted(base64.b64encode(_text(value).encode()).decode()),
    "join": _joined,
    "indent": _indented,
    "default": _default,
    "lower": lambda value: _text(value).lower(),
    "upper": lambda value: _text(value).upper(),
    "length": len,
    "first": lambda value: value[0],
    "last": lambda value: value[-1],
}
