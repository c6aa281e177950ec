"""What the README shows first, with the package alone: `make installed` runs it in an environment of its own.

python -I tests/installed.py README.md      # in an empty folder
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import richhf
import richhf.data as richhf_data


def main() -> None:
    """Runs the README's first Python lines and its `richhf predict` as they stand, and what makes and reads
    record files; fails where they do.
    """
    readme = Path(sys.argv[1]).read_text(encoding="utf-8")
    assert "site-packages" in Path(richhf.__file__).parts, richhf.__file__
    richhf.example()[0].save("image.png")
    (lines,) = re.search(r"```python\n(.*?)```", readme, re.DOTALL).groups()
    names = {}
    exec(lines, names)
    print(lines, names["feedback"], sep="\n")
    assert names["predictor"](*richhf.example())[0].misaligned_words == ("snow",)
    assert names["feedback"].heatmaps["implausibility"].shape == (64, 64)
    (command,) = re.search(r"^(richhf predict .*?) +#", readme, re.MULTILINE).groups()
    program, *arguments = shlex.split(command)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([Path(sys.executable).parent / program, *arguments], check=True, env=environment)
    assert Path("feedback/index.html").is_file()
    for line in (
        "richhf synthesize set --train 3 --dev 1 --test 1 --size 32 --workers 1",
        "richhf inspect set --out sheet.png",
        "richhf predict --folder set --out records",
    ):
        program, *arguments = shlex.split(line)
        subprocess.run([Path(sys.executable).parent / program, *arguments], check=True, env=environment)
    assert len(list(richhf_data.read_records(sorted(Path("set").glob("*.tfrecord"))))) == 5
    assert Path("sheet.png").is_file()
    heavy = {"tensorflow", "seqio", "gin", "orbax", "optax", "torch"} & set(sys.modules)
    assert not heavy, heavy


if __name__ == "__main__":
    main()
