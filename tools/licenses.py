#!/usr/bin/env python3
"""licenses.py ZIG OUTPUT

Writes the licenses of all that the shipped binary contains besides leadgate: the crates, with the C code inside of them, the standard
library of Rust, and the parts of zig that are linked. Texts are taken from the packages. A package without a text is listed with its
license expression. ZIG is the folder of the Python package `ziglang`.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

from sbom import packages, run

NAMES = ("licen", "copying", "notice", "copyright", "unlicense")
# Not source code: a module named `license` is not a license.
CODE = {".c", ".h", ".rs", ".py", ".js", ".json", ".go", ".cmake", ".pl", ".html", ".toml"}
RULE = "=" * 100


def read(*paths):
    """The texts of files, each one once."""
    return dict.fromkeys(path.read_text(encoding="utf-8", errors="replace").strip() for path in paths)


def licenses(folder):
    """The texts of the licenses in a folder."""
    return read(
        *(
            path
            for path in sorted(folder.rglob("*"))
            if path.name.lower().startswith(NAMES) and path.suffix.lower() not in CODE and path.is_file()
        )
    )


def crates():
    """The crates in the binary: name, license expression and texts."""
    shipped = packages("normal,no-proc-macro")
    metadata = json.loads(run("cargo", "metadata", "--locked", "--format-version=1"))
    for package in sorted(metadata["packages"], key=lambda package: (package["name"], package["version"])):
        if (package["name"], package["version"]) in shipped and package["source"]:
            folder = Path(package["manifest_path"]).parent
            yield f"{package['name']} {package['version']}", package["license"] or "see the text", licenses(folder)


def main(zig, output):
    sysroot = Path(run("rustc", "--print=sysroot").strip())
    rust = run("rustc", "--version").strip()
    rust_texts = sysroot / "share/doc/rust/licenses"
    parts = [
        *crates(),
        (
            f"standard library of {rust}",
            "MIT OR Apache-2.0",
            read(rust_texts / "MIT.txt", rust_texts / "Apache-2.0.txt"),
        ),
        ("compiler_rt of zig", "MIT", read(zig / "LICENSE")),
        ("libunwind of LLVM, in zig", "Apache-2.0 WITH LLVM-exception", read(zig / "lib/libunwind/LICENSE.TXT")),
        ("start files of glibc, in zig", "LGPL-2.1-or-later with exception", read(zig / "lib/libc/glibc/LICENSES")),
    ]
    users = defaultdict(list)
    for name, _, texts in parts:
        for text in texts:
            users[text].append(name)

    lines = ["The licenses of what the binary of leadgate contains besides leadgate itself.", ""]
    lines += [f"{name}: {expression}" for name, expression, _ in parts]
    for text, names in sorted(users.items(), key=lambda item: item[1]):
        lines += ["", RULE, *sorted(names), RULE, "", text]
    output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{output}: {len(parts)} parts, {len(users)} texts")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
