"""Writes docs/params.md, the reference of params.yaml.

It has each key's rule, default and meaning, and the stages that it reruns, as
the code has them. tests/app/test_params_docs.py fails where the page is old.

example: python -m app.params_docs
"""

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic
from ruamel.yaml import YAML

from app.spinner import spinner
from stages.library import settings
from stages.library.common import artifacts, console, plugins
from stages.library.common.model_names import JOINT

ROOT = Path(__file__).parents[1]
INTRODUCTION = """# params.yaml, key by key

This page lists every setting. Change one for a single run with `dvc exp run -S SECTION.KEY=VALUE`. Write a list as
`-S 'ridge.penalties=[1,10]'`, and add a new key with a plus, as in `-S '++extract.weights.inception_v3=PATH'`. Each
stage checks the whole file before it starts. Each heading names the stages that a change reruns; stages after them run,
too. The page is made from the code: `python -m app.params_docs`.
"""


def main() -> None:
    """Runs the program."""
    parser = console.Parser(prog="python -m app.params_docs", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "params.md", metavar="FILE", help="to write")
    arguments = parser.parse_args()
    with spinner("reading the code"):
        page = render()
    artifacts.write_bytes(arguments.out, page.encode())
    console.say(f"reference: {arguments.out}. Next: git diff {arguments.out}")


def render() -> str:
    """Returns the page as Markdown."""
    files = ((ROOT / name).read_text(encoding="utf-8") for name in ("params.yaml", "dvc.yaml"))
    defaults, pipeline = map(YAML(typ="safe", pure=True).load, files)
    reruns = stages_by_section(pipeline["stages"])
    heads = plugins.plugin_names(plugins.PLUGINS["heads"])
    modules = settings.SECTIONS | {head: f"stages.plugins.heads.{head}.head" for head in heads}
    lists = "".join(
        f"| `{name}` | a list of {', '.join(f'`{plugin}`' for plugin in plugins.plugin_names(plugins.PLUGINS[name]))} "
        f"| `{json.dumps(defaults[name])}` |\n"
        for name in settings.LISTS
    )
    rule = f"a list; each two or more of `backbones` with {JOINT} between, whose features stand side by side"
    lists += f"| `{settings.JOINED}` | {rule} | `{json.dumps(defaults[settings.JOINED])}` |\n"
    parts = [INTRODUCTION, f"## Lists\n\n| key | rule | default |\n|---|---|---|\n{lists}"]
    for section in sorted(modules, key=list(defaults).index):
        schema = pydantic.TypeAdapter(importlib.import_module(modules[section]).Params).json_schema()
        rows, given = "", defaults[section] if "properties" in schema else {section: defaults[section]}
        for key, rule in schema.get("properties", {section: schema}).items():
            default = json.dumps(given[key], ensure_ascii=False)
            rows += f"| `{key}` | {', '.join(rules(rule))} | `{default}` | {rule.get('description', '')} |\n"
        names = ", ".join(f"`{stage}`" for stage in reruns[section])
        parts.append(f"## {section} (reruns {names})\n\n| key | rule | default | meaning |\n|---|---|---|---|\n{rows}")
    return "\n".join(parts)


def stages_by_section(stages: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the stages of dvc.yaml that depend on each section; `${item.head}` stands for every head's."""
    found: dict[str, list[str]] = {}
    for stage, content in stages.items():
        sections = {name.split(".")[0] for name in content.get("params", ())}
        if "${item" in sections:
            sections.update(plugins.plugin_names(plugins.PLUGINS["heads"]))
        for section in sections:
            found.setdefault(section, []).append(stage)
    return found


def rules(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yields the rules of a JSON schema in words: its kind first, then its limits."""
    if "anyOf" in schema:
        yield " or ".join(", ".join(rules(option)) for option in schema["anyOf"])
        return
    if "enum" in schema or "const" in schema:
        yield " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
        return
    kinds = {"boolean": "`true` or `false`", "null": "`null`", "array": "list", "object": "mapping", "string": "text"}
    yield kinds.get(schema["type"], schema["type"])
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    yield from (f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema)
    if schema.get("minItems"):
        yield f"at least {schema['minItems']}"
    if "pattern" in schema:
        yield f"matches `{schema['pattern']}`"
    if "items" in schema:
        yield "each " + ", ".join(rules(schema["items"]))


if __name__ == "__main__":
    console.run(main)
