"""An image to try a model on, with its prompt."""

from PIL import Image

from richhf.inference.load import SHIPPED


def example() -> tuple[Image.Image, str]:
    """An image that comes with the package, and its prompt, which it misses in part.

    It is of the synthetic set, which `synthetic-tiny` knows, but none of the images that it was trained on.
    `predictor(*example())` gives feedback on it.

    Returns:
      The image, RGB, 64 x 64 pixels; and its prompt.
    """
    folder = SHIPPED["synthetic-tiny"]
    with Image.open(folder / "example.png") as image:
        return image.convert("RGB"), (folder / "example.txt").read_text(encoding="utf-8").strip()
