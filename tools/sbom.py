#!/usr/bin/env python3
"""sbom.py CARGO_CYCLONEDX OUTPUT

Writes a CycloneDX file with the packages of Cargo.lock that the shipped binary is built from. cargo-cyclonedx also lists
packages that only the tests need. They are removed: `cargo tree` knows which packages are built. Packages that run only
during the build (of build scripts and macros) have the scope "excluded".
"""

import json
import subprocess
import sys
from pathlib import Path

MEMBERS = [Path("."), Path("simulator")]
NAME = "leadgate-sbom"


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def packages(edges):
    """The name and version of each package that leadgate depends on by these edges, and of leadgate itself."""
    tree = run("cargo", "tree", "--locked", "--package=leadgate", f"--edges={edges}", "--prefix=none", "--format={p}")
    return {(name, version.removeprefix("v")) for name, version in (line.split()[:2] for line in tree.splitlines())}


def package(component):
    return component["name"], component["version"]


def main(cargo_cyclonedx, output):
    shipped = packages("normal,no-proc-macro")
    built = packages("normal,build")
    try:
        run(cargo_cyclonedx, "cyclonedx", "-q", "--format=json", "--spec-version=1.5", f"--override-filename={NAME}")
        sbom = json.loads(Path(f"{NAME}.json").read_text(encoding="utf-8"))
    finally:
        # One file for each member of the workspace, beside its Cargo.toml.
        for member in MEMBERS:
            (member / f"{NAME}.json").unlink(missing_ok=True)

    root = sbom["metadata"]["component"]
    components = [part for part in sbom["components"] if package(part) in built]
    missing = built - {package(part) for part in [root, *components]}
    if missing:
        sys.exit(f"packages that cargo-cyclonedx does not list: {sorted(missing)}")
    for part in components:
        part["scope"] = "required" if package(part) in shipped else "excluded"
    refs = {root["bom-ref"], *(part["bom-ref"] for part in components)}
    sbom["components"] = components
    sbom["dependencies"] = [
        {**entry, "dependsOn": [ref for ref in entry.get("dependsOn", []) if ref in refs]}
        for entry in sbom["dependencies"]
        if entry["ref"] in refs
    ]
    # The folder of the build is not part of the names of the packages.
    text = json.dumps(sbom, indent=2).replace(f"path+{Path.cwd().as_uri()}", "path+file://")

    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text + "\n", encoding="utf-8")
    in_binary = sum(part["scope"] == "required" for part in components)
    print(f"{output}: {in_binary} packages in the binary, {len(components) - in_binary} used only by the build")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
