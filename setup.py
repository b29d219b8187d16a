"""What `pyproject.toml` can't say: the app, at the top of a checkout, is a part of the package once it is installed."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

APP = "m2v_core._app"


class BuildWithApp(build_py):
    """Leaves out this file, which stands beside the app."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """What is built of a package: its name, the module, the file."""
        modules = super().find_package_modules(package, package_dir)
        return [module for module in modules if module[:2] != (APP, "setup")]


pages = [f"{APP}.{name}" for name in find_packages(include=["pages*"])]
setup(
    packages=[*find_packages(include=["m2v_core*"]), APP, *pages],
    package_dir={APP: ".", f"{APP}.pages": "pages"},
    cmdclass={"build_py": BuildWithApp},
)
