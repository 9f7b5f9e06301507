"""Fingerprints of code: which of our modules a stage can load, and what each of them says.

A stage depends on its fingerprint rather than on a list of files, so it runs again when code that it can load does
something else, and only then. Modules are read, never imported. What cannot be followed by reading alone is an error
rather than a guess: code that is loaded by a computed name, or files that are found from a module's place.

Two things that look like that are followed, in the form given here:

    METHODS: Registry[Method] = Registry("pipeline.saliency.methods", ...)   # the caller says which members are opened
    pd.read_csv(package_file(__file__, "published/accuracy.csv"))            # a file or a folder, by its bytes
"""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.core.code_hash import code_hash
from pipeline.core.errors import UserError

REGISTRY = "pipeline.core.registry"
"""The one module that may load others by a computed name: only members of the folders that registries are made of."""
PACKAGES, METADATA = "pipeline.core.packages", "importlib.metadata"
"""The one module that may import the list of installed packages, by a name of its own: through ``importlib`` itself,
which a plain import of it brings along, everything could be loaded."""
LAUNCHER = "warm"
"""The one package of ours that is not followed: it chooses the process that a stage runs in, not what it computes."""

LOADERS = {"builtins", "imp", "importlib", "pkgutil", "runpy", "zipimport"}
LOADING = {"__builtins__", "__import__", "__loader__", "__spec__", "compile", "eval", "exec"}
PLACES = {"__file__", "__path__"}
"""Modules and names by which code is loaded, and files are found, without an import statement that says which."""
PACKAGE_FILE = 'package_file(__file__, "path")'


@dataclass
class Module:
    """What a module says.

    Attributes:
        file: its path, relative to the root.
        hash: of its code.
        imports: the modules of ours that it can import, with their packages.
        registries: the package of each registry that it makes, and where in the file.
        data: hash of each file that it reads from beside the code, by path.
    """

    file: str
    hash: str
    imports: list[str] = field(default_factory=list)
    registries: list[tuple[str, str]] = field(default_factory=list)
    data: dict[str, str] = field(default_factory=dict)


class Code:
    """All code below a folder; each file is read once, when it is first needed."""

    def __init__(self, root: Path, registry: str = REGISTRY, launcher: str = LAUNCHER) -> None:
        """Take the folder of our top-level packages, the module that may load others, and the package left out."""
        self.root, self.registry, self.launcher = root, registry, launcher
        self._trees: dict[str, ast.Module] = {}
        self._modules: dict[str, Module] = {}

    def closure(self, module: str, opened: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Return everything of ours that a module can load, when it is imported and when it runs.

        Args:
            module: its name ("stages.explain").
            opened: for each registry that it can load, by package, the members that it opens.

        Returns:
            Hashes by name of the module and by path of the data file, sorted.

        Raises:
            UserError: something cannot be followed, does not exist or is not Python; or ``opened`` leaves out a
                registry, or names a member or a registry that is not there.
        """
        if missing := self.missing(module):
            raise UserError(module, f"found no module {missing}", expected="a module of ours")
        hashes: dict[str, str] = {}
        made: set[str] = set()
        waiting = with_packages(module)
        while waiting:
            name = waiting.pop()
            if name in hashes:
                continue
            read = self._read(name)
            hashes |= {name: read.hash} | read.data
            waiting += read.imports
            for package, where in read.registries:
                made.add(package)
                if package not in opened:
                    raise UserError(
                        where,
                        f"found the registry {package}, which {module} can load, but not what it opens there",
                        expected="a list of members, which may be empty",
                    )
                known = self.members(package)
                for member in opened[package]:
                    if member not in known:
                        raise UserError(
                            where, f"found no member {member!r} of the registry {package}", expected=", ".join(known)
                        )
                    waiting += with_packages(f"{package}.{member}")
        for package, members in opened.items():
            if members and package not in made:
                raise UserError(
                    module,
                    f"found members opened of {package}",
                    expected=f"of the registries that it can load ({', '.join(sorted(made)) or 'none'})",
                )
        return dict(sorted(hashes.items()))

    def members(self, package: str) -> list[str]:
        """Return the members of a registry, by the same rule as `pipeline.core.registry`."""
        return sorted(file.stem for file in self.root.joinpath(*package.split(".")).glob("[a-z]*.py"))

    def file(self, module: str) -> Path | None:
        """Return the file of a module, None if there is no such module."""
        place = self.root.joinpath(*module.split("."))
        files = (place / "__init__.py", place.with_name(f"{place.name}.py"))  # in Python's order
        return next((file for file in files if file.is_file()), None)

    def missing(self, module: str) -> str | None:
        """Return the first of a module's packages, or the module itself, that does not exist."""
        return next((name for name in with_packages(module) if self.file(name) is None), None)

    def is_package(self, module: str) -> bool:
        """Say whether a module is a package of ours."""
        return self.root.joinpath(*module.split("."), "__init__.py").is_file()

    def is_ours(self, module: str) -> bool:
        """Say whether a module belongs below the root, where Python looks first; it need not exist."""
        top = module.split(".")[0]
        return (self.root / f"{top}.py").is_file() or any((self.root / top).glob("*.py"))

    def binds(self, package: str, name: str) -> bool:
        """Say whether a package may have an attribute of some name, besides its modules."""
        for node in ast.walk(self.tree(package)):
            match node:
                case ast.alias(name=found, asname=None):
                    bound = found.split(".")[0]
                case ast.alias(asname=str(bound)) | ast.Name(id=bound, ctx=ast.Store()):
                    pass
                case ast.FunctionDef(name=bound) | ast.AsyncFunctionDef(name=bound) | ast.ClassDef(name=bound):
                    pass
                case _:
                    continue
            if bound in (name, "*", "__getattr__"):
                return True
        return False

    def tree(self, module: str) -> ast.Module:
        """Return the syntax tree of a module that exists."""
        if module not in self._trees:
            file = self.file(module)
            assert file is not None, module
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Python warns when it compiles the module, too
                    self._trees[module] = ast.parse(file.read_bytes())
            except (SyntaxError, ValueError) as error:
                line = getattr(error, "lineno", None) or 1
                reason = " ".join(str(getattr(error, "msg", error)).split())
                raise UserError(
                    f"{relative(file, self.root)}:{line}",
                    f"found a syntax error ({reason})",
                    expected="code that this version of Python can read",
                ) from None
        return self._trees[module]

    def _read(self, name: str) -> Module:
        if name not in self._modules:
            self._modules[name] = _Reader(self, name).module
        return self._modules[name]


class _Reader(ast.NodeVisitor):
    """Reads one module: its imports, wherever they are, and what else it can load."""

    def __init__(self, code: Code, name: str) -> None:
        file, tree = code.file(name), code.tree(name)
        assert file is not None, name
        self.code, self.name, self.folder = code, name, file.parent
        self.module = Module(relative(file, code.root), code_hash(tree))
        self.is_trusted = name == code.registry
        self.typing_only = _typing_only(tree)
        self.allowed = {
            id(part)
            for node in ast.walk(tree)
            for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None))
            if annotation is not None
            for part in ast.walk(annotation)
            if "Registry" in (getattr(part, "id", None), getattr(part, "attr", None))
        }
        """Nodes that say Registry or __file__ where they may: in annotations, and in the calls that are followed."""
        self.visit(tree)

    def error(self, node: ast.stmt | ast.expr, found: str, allowed: str) -> UserError:
        found = " ".join(found.split())  # an f-string that is quoted may have several lines
        return UserError(f"{self.module.file}:{node.lineno}", f"found {found}", expected=allowed)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if not (self.name == PACKAGES and alias.name == METADATA and alias.asname):
                self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            package = self.name if self.code.is_package(self.name) else self.name.rpartition(".")[0]
            parts = package.split(".") if package else []
            if node.level > len(parts):
                raise self.error(node, "an import from above the top-level package", "one from inside it")
            base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
        self._add(base, node)
        for alias in node.names:
            if alias.name == "Registry" and alias.asname not in (None, "Registry"):
                raise self.error(node, f"Registry imported as {alias.asname}", "Registry, so that its calls are found")
            if not self.code.is_package(base):
                continue  # a module's names are its own, or it imports them itself
            if alias.name == "*":
                raise self.error(node, f"import * from the package {base}", "the names that are needed")
            if self.code.file(f"{base}.{alias.name}") or not self.code.binds(base, alias.name):
                self._add(f"{base}.{alias.name}", node)

    def _add(self, module: str, node: ast.stmt) -> None:
        if module.split(".")[0] == self.code.launcher:
            return
        if self.code.is_ours(module):
            if missing := self.code.missing(module):
                raise self.error(node, f"an import of {missing}", "modules and names that exist")
            self.module.imports += with_packages(module)
        elif module.split(".")[0] in LOADERS:
            self._loads(node, f"an import of {module}")

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) not in self.typing_only:
            self.generic_visit(node)
            return
        for statement in node.orelse:
            self.visit(statement)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.value if isinstance(node.func, ast.Subscript) else node.func
        match called:
            case ast.Name(id="Registry") | ast.Attribute(attr="Registry"):
                self._add_registry(node)
                self.allowed.add(id(called))
            case ast.Name(id="package_file") | ast.Attribute(attr="package_file"):
                self._add_data(node)
                self.allowed.add(id(node.args[0]))
        self.generic_visit(node)

    def _add_registry(self, node: ast.Call) -> None:
        match node.args:
            case [ast.Constant(value=str(package)), *_]:
                pass
            case _:
                raise self.error(node, ast.unparse(node), 'Registry("package", ...) with the package written out')
        if self.code.missing(package) or not self.code.is_package(package):
            raise self.error(node, f"a registry of {package!r}", "a package of ours that exists")
        self.module.registries.append((package, f"{self.module.file}:{node.lineno}"))

    def _add_data(self, node: ast.Call) -> None:
        match node:
            case ast.Call(args=[ast.Name(id="__file__"), ast.Constant(value=str(path))], keywords=[]):
                pass
            case _:
                raise self.error(node, ast.unparse(node), f"{PACKAGE_FILE} with the path written out")
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise self.error(node, f"package_file of {path!r}", "a path below the module's folder")
        place = self.folder / path
        files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
        files = [file for file in files if "__pycache__" not in file.parts]
        if not files:
            raise self.error(node, f"package_file of {path!r}", "a file that exists, or a folder with files")
        for file in files:
            self.module.data[relative(file, self.code.root)] = hashlib.sha256(file.read_bytes()).hexdigest()

    def visit_Name(self, node: ast.Name) -> None:
        self._check(node.id, node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr not in LOADING or node.attr.startswith("__"):  # re.compile and model.eval are others
            self._check(node.attr, node)
        self.visit(node.value)

    def _check(self, name: str, node: ast.expr) -> None:
        if self.is_trusted or id(node) in self.allowed:
            return
        if name in LOADING:
            self._loads(node, ast.unparse(node))
        if name in PLACES:
            raise self.error(node, ast.unparse(node), f"{PACKAGE_FILE}, for files that come with the code")
        if name == "Registry":
            raise self.error(node, "Registry neither called nor in an annotation", 'Registry("package", ...)')

    def _loads(self, node: ast.stmt | ast.expr, found: str) -> None:
        if not self.is_trusted:
            only = self.code.registry.replace(".", "/")
            raise self.error(node, found, f"import statements; only {only}.py may load code by a computed name")


def _typing_only(tree: ast.Module) -> set[str]:
    """Return what a module calls the constant that is true for type checkers alone, and never sets itself."""
    names = {"typing.TYPE_CHECKING"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "typing" and not node.level:
            names |= {alias.asname or alias.name for alias in node.names if alias.name == "TYPE_CHECKING"}
    set_here = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names - set_here


def with_packages(module: str) -> list[str]:
    """Return the packages that are imported before a module, and the module."""
    parts = module.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def relative(file: Path, root: Path) -> str:
    """Return a file's path from the root, with slashes on every system."""
    return file.relative_to(root).as_posix()
