"""The command lines of README and docs, for the tests that let programs read them and for those that run them."""

import re


def sections(path):
    """Returns heading -> commands, of shell blocks and then of the text; "" is what stands above the first."""
    parts = re.split(r"^##+ (.*)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {heading: _commands(text) for heading, text in zip(["", *parts[1::2]], parts[::2], strict=True)}
    return {heading: lines for heading, lines in found.items() if lines}


def _commands(text):
    """Returns them without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines += [code for code in re.findall(r"`([^`]+)`", outside) if re.match(r"((xargs )?dvc|python -m|make) ", code)]
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]
