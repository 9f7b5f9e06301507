"""What stages are called with, and the answer to ``--help``, which needs none of their imports."""

import argparse
import ast
import importlib.util
import sys

MEANINGS = {
    "cell": "a key of `cells` in params.yaml",
    "dataset": "a key of `datasets` in params.yaml",
    "method": "a key of `saliency` in params.yaml",
    "name": "a file of profiles, without its ending, or default",
}
"""What the arguments of stages are."""


def parser(program: str, description: str | None, names: tuple[str, ...]) -> argparse.ArgumentParser:
    """Return the parser of a stage that is called with ``--name value`` for each of some names."""
    made = argparse.ArgumentParser(prog=program, description=description)
    for name in names:
        made.add_argument(f"--{name}", required=True, metavar="NAME", help=MEANINGS[name])
    return made


def answer_help(module: str, given: list[str]) -> None:
    """Print what a stage takes and end the process, if that is asked for.

    A stage says it in a call of ``run``, or builds a parser of its own in plain statements at its end; nothing else of
    it is run.

    Args:
        module: that Python is about to run, such as ``stages.explain``.
        given: its arguments.
    """
    if not {"-h", "--help"} & set(given):
        return
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return
    with open(found.origin, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    mains = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "run"]
    if mains and calls:
        names = [argument.value for argument in calls[0].args[1:] if isinstance(argument, ast.Constant)]
        description = f"{ast.get_docstring(tree)}\n\n{ast.get_docstring(mains[0])}"
        parser(f"python -m {module}", description, tuple(map(str, names))).print_help()
        sys.exit(0)
    own = [node for block in tree.body if isinstance(block, ast.If) for node in block.body if _builds_a_parser(node)]
    if own:
        scope: dict[str, object] = {"argparse": argparse, "__doc__": ast.get_docstring(tree)}
        exec(compile(ast.Module(own, type_ignores=[]), found.origin, "exec"), scope)
        made = scope["parser"]
        assert isinstance(made, argparse.ArgumentParser)
        made.prog = f"python -m {module}"
        made.print_help()
        sys.exit(0)


def _builds_a_parser(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Assign | ast.Expr) else None
    return isinstance(call, ast.Call) and ast.unparse(call.func) in ("argparse.ArgumentParser", "parser.add_argument")
