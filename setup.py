"""Finds the packages, three of whose folders lie at the top of the repository; all else is in setup.cfg."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

FOLDERS = {"saga": "saga", "saga.migrations": "migrations", "saga.examples": "examples"}
DATA = "examples/shop/cdnow_sample.txt"
present = {package: folder for package, folder in FOLDERS.items() if Path(folder).is_dir()}

setup(
    package_dir=present,
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
