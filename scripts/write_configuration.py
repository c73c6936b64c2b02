"""Write docs/configuration.md from `voxthread.config`; `--check` only says whether it is up to date."""

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from voxthread import config

PAGE = Path("docs/configuration.md")
_HEAD = """\
# Configuration

<!-- Written by scripts/write_configuration.py from src/voxthread/config.py; change it there. -->

Settings are read once, at start, from the first place that names them:

1. the command line (`voxthread serve --help`),
2. environment variables, `VOXTHREAD_` and the path in capitals with `__` between section and setting,
3. the TOML file given by `--config FILE`,
4. the defaults below.

A value out of range, or a setting that its section does not have, stops the start with a line that names it.
Secrets belong in the environment, not in the file.

```toml
log_level = "warning"

[http]
port = 9000

[llm]
base_url = "http://127.0.0.1:11434/v1"
model = "llama3.2"
```

The same two settings as environment variables: `VOXTHREAD_HTTP__PORT=9000`, `VOXTHREAD_LLM__MODEL=llama3.2`.
"""


def page() -> str:
    tree = config.Config
    sections = {
        name: field.annotation
        for name, field in tree.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    parts = [_HEAD, "\n## Top level\n\n", *_table(tree, "", skip=set(sections))]
    for name, section in sections.items():
        if section.model_fields:
            parts += [f"\n## `[{name}]`\n\n", *_table(section, f"{name}__", skip=set())]
    return "".join(parts)


def _table(section: type[BaseModel], prefix: str, skip: set[str]) -> Iterator[str]:
    source = _field_sources(section)
    yield "| setting | type | default | environment | meaning |\n|---|---|---|---|---|\n"
    for name, field in section.model_fields.items():
        if name not in skip:
            kind, meaning = source[name]
            variable = f"VOXTHREAD_{prefix}{name}".upper()
            cells = (f"`{name}`", f"`{kind}`", _default(field), f"`{variable}`", meaning)
            escaped = (cell.replace("|", r"\|") for cell in cells)
            yield f"| {' | '.join(escaped)} |\n"


def _default(field: FieldInfo) -> str:
    match field.default:
        case None:
            return "-"
        case Path() as path if path.is_relative_to(Path.home()):
            return f"`~/{path.relative_to(Path.home())}`"
        case tuple() as items:
            return f"`{list(items)}`".replace("'", '"')
        case value:
            return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _field_sources(section: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Annotation and docstring of each field as they stand in the source."""
    (definition,) = ast.parse(dedent(inspect.getsource(section))).body
    assert isinstance(definition, ast.ClassDef)
    sources: dict[str, tuple[str, str]] = {}
    for statement, following in zip(definition.body, [*definition.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            meaning = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                meaning = " ".join(str(following.value.value).split())
            sources[statement.target.id] = (ast.unparse(statement.annotation), meaning)
    return sources


def main(arguments: list[str]) -> int:
    text = page()
    if "--check" not in arguments:
        PAGE.write_text(text)
        return 0
    if PAGE.exists() and PAGE.read_text() == text:
        return 0
    print(f"{PAGE} is out of date: run `make docs`")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
