"""Pick-a-Pic v1: parquet rows of two images for one caption; a uid can be in either position."""

import pathlib
from collections.abc import Sequence

from richhf.data.prepare.tables import TableSource, View

COLUMNS = ("image_0_uid", "image_1_uid", "jpg_0", "jpg_1", "caption")


class PickAPic(TableSource):
    """A folder of Pick-a-Pic's parquet files."""

    name = "pickapic"
    next_move = "; are these all of Pick-a-Pic's files, and RichHF-18K's labels?"
    repeats = True  # an image is in as many rows as it was compared in
    views = (View("image_0_uid", "jpg_0", "caption"), View("image_1_uid", "jpg_1", "caption"))

    def __init__(self, root: pathlib.Path, names: list[str], columns: Sequence[str], *, where: str):
        """Checks the columns.

        Args:
            root: the folder.
            names: its files.
            columns: of one of them.
            where: which one, for the error.

        Raises:
            ValueError: if a column is missing.
        """
        missing = [name for name in COLUMNS if name not in columns]
        if missing:
            raise ValueError(
                f"{where} is not of Pick-a-Pic: it has no column {', '.join(missing)} "
                f"(there are: {', '.join(columns)}); try --source mirror"
            )
        self.root, self.names = root, names
