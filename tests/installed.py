"""What the README shows first, with the package alone: `make installed` runs it in an environment of its own.

python -I tests/installed.py README.md      # in an empty folder
"""

import re
import subprocess
import sys
from pathlib import Path

import richhf


def main() -> None:
    """Runs the README's first Python lines and its `richhf predict` as they stand; fails where they do."""
    readme = Path(sys.argv[1]).read_text(encoding="utf-8")
    assert "site-packages" in Path(richhf.__file__).parts, richhf.__file__
    richhf.example()[0].save("image.png")
    (lines,) = re.search(r"```python\n(.*?)```", readme, re.DOTALL).groups()
    names = {}
    exec(lines, names)
    print(lines, names["feedback"], sep="\n")
    assert names["feedback"].heatmaps["implausibility"].shape == (64, 64)
    (command,) = re.search(r"^(richhf predict .*?) +#", readme, re.MULTILINE).groups()
    subprocess.run(f"{Path(sys.executable).parent}/{command}", shell=True, check=True)
    assert Path("feedback/index.html").is_file()
    heavy = {"tensorflow", "seqio", "gin", "orbax", "optax", "torch"} & set(sys.modules)
    assert not heavy, heavy


if __name__ == "__main__":
    main()
