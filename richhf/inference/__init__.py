"""From a trained model to something a person sees: report pages and the pictures in them."""

from richhf.inference.gallery import GalleryExample
from richhf.inference.report import write_report

__all__ = ["GalleryExample", "write_report"]
