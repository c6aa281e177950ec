"""Preparation: RichHF-18K's labels joined with images and prompts, from whatever form they are in."""

from richhf.data.prepare.prepare import is_complete, prepare
from richhf.data.prepare.problems import BadInput, Kind, Problem
from richhf.data.prepare.report import format_report
from richhf.data.prepare.sources import SOURCES

__all__ = [
    "SOURCES",
    "BadInput",
    "Kind",
    "Problem",
    "format_report",
    "is_complete",
    "prepare",
]
