"""Rules beyond schemas and policies: manifests, compose.yaml, scripts and sources are consistent, and have the required values.

Run by scripts/check-deployment in the repository's root, with the folder of rendered manifests. Prints every violation.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import image
import overlays
from expected import offences


def declared():
    """Every variable that a flag of the program reads."""
    sources = [path for path in Path(".").glob("**/src/**/*.rs") if "target" not in path.parts]
    return {name for path in sources for name in re.findall(r'env = "(GODZILLA_\w+)"', path.read_text())}


def created_secrets():
    """Names of secrets and their keys, as scripts/secrets creates them."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["scripts/secrets", folder], check=True, stderr=subprocess.DEVNULL)
        return {part.name: {file.name for file in part.iterdir()} for part in Path(folder).iterdir()}


def main(folder):
    """Runs all checks."""
    secrets, variables, images = created_secrets(), declared(), set()
    for path in sorted(Path(folder).glob("*.yaml")):
        images |= overlays.check(path, secrets, variables)
    image.check_compose(images, variables)
    image.check_build()
    image.check_targets()
    print("\n".join(offences))
    return 1 if offences else 0


sys.exit(main(sys.argv[1]))
