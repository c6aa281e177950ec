"""Readers of tables that other people wrote."""

from richhf.data.readers.text_table import TABLES, Row, TextTable, read_text_table

__all__ = ["TABLES", "Row", "TextTable", "read_text_table"]
