"""Writes a CycloneDX list of what a lock names and this environment has installed, by cyclonedx-py.

    python .ci/sbom.py [--lock .ci/locks/requirements.txt] [--out sbom.cdx.json]

cyclonedx-py lists the whole environment; what only checks and tests need is taken out again, and the project is entered
as what depends on the packages of its requirements file. The same environment gives the same bytes: no time, no random
number.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Writes the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", type=Path, default=ROOT / ".ci" / "locks" / "requirements.txt")
    parser.add_argument("--out", type=Path, default=ROOT / "sbom.cdx.json")
    options = parser.parse_args()
    if not options.lock.is_file():
        known = ", ".join(path.name for path in sorted((ROOT / ".ci" / "locks").glob("*.txt")))
        sys.exit(f"error: LOCK must be among {known}. Received: {options.lock.name}")
    text = options.lock.read_text(encoding="utf-8")
    bom = restricted(of_environment(), locked(text), direct(text))
    options.out.write_text(json.dumps(bom, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{options.out.name}: {len(bom['components'])} packages, CycloneDX {bom['specVersion']}")


def of_environment() -> dict[str, Any]:
    """Returns cyclonedx-py's document on this interpreter's environment."""
    # The tests hold the document against the schema; the tool would take most of its time for that.
    options = ["--output-reproducible", "--of", "JSON", "--no-validate"]
    options += ["--pyproject", str(ROOT / "pyproject.toml")]
    command = [sys.executable, "-m", "cyclonedx_py", "environment", *options, sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"error: cyclonedx-py failed: {(done.stderr.strip() or 'no output').splitlines()[-1]}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def normalized(name: str) -> str:
    """Returns a package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: str) -> set[str]:
    """Returns the names in a lock."""
    return set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))


def direct(lock: str) -> set[str]:
    """Returns the names that stand in a requirements file, as the lock remembers them."""
    entries = re.split(r"^(?=[\w.-]+==)", lock, flags=re.MULTILINE)
    return {entry.partition("==")[0] for entry in entries if re.search(r"# via .*-r requirements", entry)}


def restricted(bom: dict[str, Any], names: set[str], roots: set[str]) -> dict[str, Any]:
    """Returns the document with the named packages only, and the project as what depends on those of `roots`."""
    components = [component for component in bom["components"] if normalized(component["name"]) in names]
    kept = {component["bom-ref"] for component in components}
    project = bom["metadata"]["component"]["bom-ref"]
    on = [component["bom-ref"] for component in components if normalized(component["name"]) in roots]
    dependencies = [{"ref": project, "dependsOn": sorted(on)}]
    for entry in bom["dependencies"]:
        if entry["ref"] in kept:
            on = [reference for reference in entry.get("dependsOn", []) if reference in kept]
            dependencies.append({"ref": entry["ref"], **({"dependsOn": sorted(on)} if on else {})})
    return bom | {"components": components, "dependencies": dependencies}


if __name__ == "__main__":
    main()
