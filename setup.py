"""Finds the packages, three of whose folders lie at the top of the repository, and makes the README fit to be read
elsewhere; all else is in setup.cfg."""

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

# Where the project is at home. A package index shows the README without the files that it links to.
HOME = "https://pgsaga.example"
URLS = {
    "Documentation": f"{HOME}/docs/",
    "Source": f"{HOME}/source/",
    "Changelog": f"{HOME}/source/CHANGELOG.md",
}


def absolute(link: re.Match[str]) -> str:
    """A link of the README: a page of the documentation as it was built, any other file where the source is."""
    path, anchor = link["path"], link["anchor"] or ""
    if path.startswith("docs/") and path.endswith(".md"):
        return f"]({URLS['Documentation']}{path[5:-3]}.html{anchor})"
    return f"]({URLS['Source']}{path}{anchor})"


README = Path("README.md")
LINK = re.compile(r"\]\((?!\w+:|#)(?P<path>[^)#]+)(?P<anchor>#[^)]*)?\)")
FOLDERS = {"saga": "saga", "saga.migrations": "migrations", "saga.examples": "examples"}
DATA = "examples/shop/cdnow_sample.txt"
present = {package: folder for package, folder in FOLDERS.items() if Path(folder).is_dir()}

setup(
    long_description=LINK.sub(absolute, README.read_text(encoding="utf-8")) if README.is_file() else "",
    project_urls=URLS,
    package_dir=present,
    py_modules=["pgsaga"],
    # What only the demo reads lies beside the packages, not among them; see saga.examples.shop.purchases.
    data_files=[("share/pgsaga", [DATA])] if Path(DATA).is_file() else [],
    packages=[
        name
        for package, folder in present.items()
        for name in (
            package,
            *(f"{package}.{inner}" for inner in find_namespace_packages(folder, exclude=["*__pycache__*"])),
        )
    ],
)
