"""What an import brings, seen from a fresh process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
METHOD = ROOT / "behaviorlm"

METHOD_NEVER_IMPORTS = {"ray", "deepspeed", "boto3", "botocore", "behaviorlm_ray", "behaviorlm_lab", "jobs"}


def test_platform_folder_does_not_shadow_the_standard_library() -> None:
    """With platform/__init__.py every Ray worker dies, for the working directory is on its path."""
    assert not (ROOT / "platform" / "__init__.py").exists()
    script = "import platform; print(platform.__file__); print(platform.python_version())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert Path(printed[0]).name == "platform.py"
    assert not Path(printed[0]).is_relative_to(ROOT / "platform")


def test_every_method_module_imports_without_ray_deepspeed_and_boto3() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(METHOD.rglob("*.py"))]
    modules = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    script = f"""
import gc, importlib, importlib.machinery, sys

gc.disable()  # what is imported stays
find = importlib.machinery.PathFinder.find_spec

def find_present(name, path=None, target=None):
    return None if name.partition(".")[0] in {sorted(METHOD_NEVER_IMPORTS)!r} else find(name, path, target)

importlib.machinery.PathFinder.find_spec = staticmethod(find_present)
for module in {modules!r}:
    importlib.import_module(module)
for name in {sorted(METHOD_NEVER_IMPORTS)!r}:
    assert name not in sys.modules, name
print("imported", len({modules!r}))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-1] == str(len(modules))
